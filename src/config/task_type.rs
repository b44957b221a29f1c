//! `[type.NAME]`: a task type, checked as far as that can be done before anybody submits.

use super::kind::{BytesIn, IntegerIn, Kind, ListOf, NumberIn, OneOf, SpanIn};
use super::reader::{Section, Value};
use super::source::{Source, reason};
use crate::task::{
    Backoff, BadTemplate, Field, Fields, InputMode, Keys, Output, PRIORITY_LIMIT, Rate, Scope, TaskType,
    Template, ValuePattern, is_argument_name, parse_object,
};
use crate::time::Span;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Most words of a command, and most objects that one template list names.
const WORDS_LIMIT: usize = 1_024;
/// Most variables and arguments of one type.
const NAMES_LIMIT: usize = 256;

/// The sources by name.
pub(super) type Sources<'s> = BTreeMap<&'s str, &'s Source>;

/// Compiled once and shared by its clones: a compiled expression takes kilobytes, and most types have this one.
static DEFAULT_PATTERN: LazyLock<ValuePattern> = LazyLock::new(ValuePattern::default);

const MODES: &[(&str, InputMode)] = &[
    ("auto", InputMode::Auto),
    ("link", InputMode::Link),
    ("reflink", InputMode::Reflink),
    ("copy", InputMode::Copy),
];

pub(super) fn read(name: String, mut s: Section<'_>, sources: &Sources) -> TaskType {
    let args = args(&mut s);
    let entity_pattern = s.read("entity", Pattern).unwrap_or_else(|| DEFAULT_PATTERN.clone());
    let command = || TemplateOf { fields: Fields::Command, args: &args };
    let argv = s.value("argv").and_then(|v| argv(&v, command())).unwrap_or_default();
    let env = env(&mut s, &command());
    let object = || ObjectOf { args: &args, sources, writable: false };
    let inputs = s.read("inputs", ListOf(object(), WORDS_LIMIT)).unwrap_or_default();
    let writes = s.read("writes", ListOf(object(), WORDS_LIMIT)).unwrap_or_default();
    let outputs = outputs(&mut s, &args, sources);
    let task_type = TaskType {
        name,
        argv,
        env,
        inputs,
        outputs,
        writes,
        entity_pattern,
        time_limit: s
            .read("time_limit", SpanIn(Span::from_ms(100), Span::from_secs(30 * 86_400)))
            .unwrap_or(Span::from_secs(3_600)),
        kill_grace: s
            .read("kill_grace", SpanIn(Span::ZERO, Span::from_secs(600)))
            .unwrap_or(Span::from_secs(10)),
        attempts: s.read("attempts", IntegerIn(1u32, 1_000, "attempts")).unwrap_or(3),
        backoff: s.value("backoff").and_then(|v| backoff(&v)).unwrap_or(Backoff {
            first: Span::from_secs(1),
            factor: 2.0,
            limit: Span::from_secs(5 * 60),
        }),
        retry_exit_codes: s
            .read("retry_exit_codes", ListOf(IntegerIn(1i32, 255, ""), 255))
            .unwrap_or_default(),
        concurrency: s.read("concurrency", IntegerIn(1u32, 100_000, "tasks at once")),
        keys: s.value("key").and_then(|v| keys(&v)).unwrap_or_default(),
        rate: s.value("rate").and_then(|v| rate(&v)),
        priority: s.read("priority", IntegerIn(0u8, PRIORITY_LIMIT, "")).unwrap_or(5),
        input_mode: s.read("input_mode", OneOf(MODES)).unwrap_or(InputMode::Auto),
        memory_bytes: s.read("memory", BytesIn(0, 1 << 50)).unwrap_or(64 << 20),
        args,
    };
    s.finish();
    task_type
}

fn args(s: &mut Section<'_>) -> BTreeMap<String, ValuePattern> {
    let mut table = s.table("args");
    let mut args = BTreeMap::new();
    let entries = table.entries();
    if entries.len() > NAMES_LIMIT {
        table.wrong(&format!("has {} entries", entries.len()), format!("accepted: up to {NAMES_LIMIT}"));
        return args;
    }
    for (name, value) in entries {
        if !is_argument_name(name) {
            let label = "accepted: letters, digits, `_` and `-`, beginning with a letter, up to 64";
            value.wrong("has a name that cannot be used as {arg.NAME}", label);
        } else if let Some(pattern) = Pattern.read(&value) {
            args.insert(name.to_owned(), pattern);
        } else {
            // Declared, though wrongly: the templates that use it are not to blame.
            args.insert(name.to_owned(), DEFAULT_PATTERN.clone());
        }
    }
    args
}

fn argv(value: &Value<'_>, word: TemplateOf<'_>) -> Option<Vec<Template>> {
    let argv = ListOf(word, WORDS_LIMIT).read(value)?;
    let accepted =
        "accepted: a program and its arguments; leave `argv` out for a type that only outside workers run";
    let Some(program) = argv.first() else {
        value.wrong("is empty", accepted);
        return None;
    };
    let first = value.items("")?.into_iter().next()?;
    if program.fields().next().is_some() {
        first.wrong(
            "takes the program from a submit",
            "accepted: a program's name or absolute path, without fields",
        );
        return None;
    }
    if !is_program(program.source()) {
        let label = "accepted: an absolute path, or a name that is looked up in the folders of PATH";
        first.wrong("is no program", label);
        return None;
    }
    Some(argv)
}

/// Whether a text can name a program: absolute, or without any `/`. The current folder of a task is its work
/// folder, where a relative path would find what the task itself has put there.
pub(super) fn is_program(text: &str) -> bool {
    !text.is_empty() && (text.starts_with('/') || !text.contains('/'))
}

fn env(s: &mut Section<'_>, kind: &TemplateOf<'_>) -> BTreeMap<String, Template> {
    let mut table = s.table("env");
    let mut env = BTreeMap::new();
    let entries = table.entries();
    if entries.len() > NAMES_LIMIT {
        table.wrong(&format!("has {} entries", entries.len()), format!("accepted: up to {NAMES_LIMIT}"));
        return env;
    }
    for (name, value) in entries {
        let head = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !head || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            value.wrong(
                "is no variable's name",
                "accepted: letters, digits and `_`, not beginning with a digit",
            );
        } else if name.starts_with("FORESTAGE_") {
            value.wrong("is set by the daemon", "accepted: names that do not begin with FORESTAGE_");
        } else if let Some(template) = kind.read(&value) {
            env.insert(name.to_owned(), template);
        }
    }
    env
}

fn outputs(s: &mut Section<'_>, args: &BTreeMap<String, ValuePattern>, sources: &Sources) -> Vec<Output> {
    let accepted = "a list of { file = \"NAME\", object = \"SOURCE:PATH\" }";
    let Some(value) = s.value("outputs") else { return Vec::new() };
    let Some(items) = value.items(accepted) else { return Vec::new() };
    if items.len() > WORDS_LIMIT {
        value.wrong(&format!("has {} items", items.len()), format!("accepted: up to {WORDS_LIMIT}"));
        return Vec::new();
    }
    let mut outputs: Vec<Output> = Vec::new();
    for item in &items {
        let Some(mut s) = item.section("{ file = \"NAME\", object = \"SOURCE:PATH\" }") else { continue };
        let file = s.require("file", FileOf { args });
        let object = s.require("object", ObjectOf { args, sources, writable: true });
        s.finish();
        let (Some(file), Some(object)) = (file, object) else { continue };
        let twice = |what: &str| item.wrong(&format!("names {what} twice"), "accepted: each one once");
        if outputs.iter().any(|o| o.file == file) {
            twice("its file");
        } else if outputs.iter().any(|o| o.object == object) {
            twice("its object");
        }
        outputs.push(Output { file, object });
    }
    outputs
}

fn backoff(value: &Value<'_>) -> Option<Backoff> {
    let mut s = value.section("{ first = \"1s\", factor = 2.0, limit = \"5min\" }")?;
    let day = Span::from_secs(86_400);
    let first = s.read("first", SpanIn(Span::ZERO, day)).unwrap_or(Span::from_secs(1));
    let factor = NumberIn { low: 1.0, high: 100.0, above: false, unit: "" };
    let factor = s.read("factor", factor).unwrap_or(2.0);
    let limit = s.read("limit", SpanIn(Span::ZERO, day)).unwrap_or(Span::from_secs(300).max(first));
    if limit < first {
        s.wrong("ends before it begins", "accepted: limit not shorter than first");
    }
    s.finish();
    Some(Backoff { first, factor, limit })
}

fn keys(value: &Value<'_>) -> Option<Keys> {
    let mut s = value.section("{ scope = \"type\", lifetime = \"1h\" }")?;
    let scopes: &[(&str, bool)] = &[("type", false), ("host", true)];
    let host_wide = s.read("scope", OneOf(scopes)).unwrap_or(false);
    let lifetime = s.read("lifetime", SpanIn(Span::ZERO, Span::from_secs(3_650 * 86_400)));
    s.finish();
    Some(Keys { host_wide, lifetime })
}

fn rate(value: &Value<'_>) -> Option<Rate> {
    let mut s = value.section("{ starts = 10, per = \"1s\" }")?;
    let starts = s.require("starts", IntegerIn(1u32, 1_000_000, "starts"));
    let day = Span::from_secs(86_400);
    let per = s.read("per", SpanIn(Span::from_ms(1), day)).unwrap_or(Span::from_secs(1));
    s.finish();
    Some(Rate { starts: starts?, per })
}

/// A pattern of whole values.
struct Pattern;

impl Kind for Pattern {
    type Out = ValuePattern;
    fn accepted(&self) -> String {
        "a regular expression that the whole value must match".into()
    }
    fn read(&self, value: &Value<'_>) -> Option<ValuePattern> {
        let Some(text) = value.text() else {
            value.mistyped(&self.accepted());
            return None;
        };
        match ValuePattern::new(text) {
            Ok(pattern) => Some(pattern),
            Err(e) => {
                let label = format!("{}; accepted: {}", reason(&e), self.accepted());
                value.wrong("is no regular expression", label);
                None
            }
        }
    }
}

/// A template whose fields exist and whose arguments are declared.
struct TemplateOf<'a> {
    fields: Fields,
    args: &'a BTreeMap<String, ValuePattern>,
}

impl Kind for TemplateOf<'_> {
    type Out = Template;
    fn accepted(&self) -> String {
        format!("a text with fields in braces: {}", self.fields.names())
    }
    fn read(&self, value: &Value<'_>) -> Option<Template> {
        let Some(text) = value.text() else {
            value.mistyped(&self.accepted());
            return None;
        };
        if text.contains('\0') {
            value.wrong("holds a zero byte", format!("accepted: {}", self.accepted()));
            return None;
        }
        let template = match Template::parse(text, self.fields) {
            Ok(template) => template,
            Err(BadTemplate::Unmatched { brace, at, .. }) => {
                let label = format!("accepted: both braces, or `{brace}{brace}` for the brace itself");
                value.wrong_inside(&format!("has an unmatched `{brace}`"), label, at..at + 1, None);
                return None;
            }
            Err(BadTemplate::UnknownField { field, accepted, .. }) => {
                let shown = format!("{{{field}}}");
                let at = text.find(&shown).unwrap_or(0);
                let what = format!("uses the unknown field `{}`", super::error::one_line(&shown));
                value.wrong_inside(&what, format!("accepted: {accepted}"), at..at + shown.len(), None);
                return None;
            }
        };
        let undeclared = template.fields().find_map(|f| match f {
            Field::Arg(name) if !self.args.contains_key(name) => Some(name.clone()),
            _ => None,
        });
        let Some(name) = undeclared else { return Some(template) };
        let known: Vec<&str> = self.args.keys().map(String::as_str).collect();
        let label = match known.as_slice() {
            [] => format!("accepted: none; declare it with args = {{ {name} = 'PATTERN' }}"),
            known => format!("accepted: {}", known.join(", ")),
        };
        let shown = format!("{{arg.{name}}}");
        let at = text.find(&shown).unwrap_or(0);
        let what = format!("uses the undeclared argument `{name}`");
        value.wrong_inside(&what, label, at..at + shown.len(), value.meant(&name, known));
        None
    }
}

/// A template filled in with something harmless: what its fixed parts make of it can be checked beforehand.
fn sample(template: &Template, args: &BTreeMap<String, ValuePattern>) -> Option<String> {
    let args: BTreeMap<String, String> = args.keys().map(|name| (name.clone(), "x".to_owned())).collect();
    template.expand(&Scope { entity: Some("x"), args: Some(&args), ..Scope::default() }).ok()
}

/// A template of an object's name. Its source is fixed and known.
struct ObjectOf<'a> {
    args: &'a BTreeMap<String, ValuePattern>,
    sources: &'a Sources<'a>,
    /// Whether forestage itself writes the object.
    writable: bool,
}

impl Kind for ObjectOf<'_> {
    type Out = Template;
    fn accepted(&self) -> String {
        format!("\"SOURCE:PATH\" with fields in braces: {}", Fields::Object.names())
    }
    fn read(&self, value: &Value<'_>) -> Option<Template> {
        let template = TemplateOf { fields: Fields::Object, args: self.args }.read(value)?;
        let label = format!("accepted: {}", self.accepted());
        let Some((name, _)) = template.source().split_once(':') else {
            value.wrong("names no source", label);
            return None;
        };
        let Some(source) = self.sources.get(name) else {
            let label = match listed(self.sources.keys().copied()) {
                None => "accepted: none: no [source.NAME] is declared".to_owned(),
                Some(known) => format!("accepted: {known}"),
            };
            let what = format!("is of the unknown source `{}`", super::error::one_line(name));
            value.wrong_inside(&what, label, 0..name.len(), value.meant(name, self.sources.keys().copied()));
            return None;
        };
        if self.writable && !source.writable {
            let writable = self.sources.values().filter(|s| s.writable).map(|s| s.name.as_str());
            let label = match listed(writable) {
                None => "accepted: none: no source has writable = true".to_owned(),
                Some(some) => format!("accepted: those with writable = true: {some}"),
            };
            let what = format!("is published to `{name}`, which is not writable");
            value.wrong_inside(&what, label, 0..name.len(), None);
            return None;
        }
        let sample = sample(&template, self.args)?;
        if let Err(e) = parse_object(&sample) {
            value.wrong("can name no object", format!("{}; {label}", e.why));
            return None;
        }
        Some(template)
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut names: Vec<&str> = names.take(13).collect();
    if names.len() > 12 {
        names[12] = "…";
    }
    (!names.is_empty()).then(|| names.join(", "))
}

/// A template of a file's name inside `out/`.
struct FileOf<'a> {
    args: &'a BTreeMap<String, ValuePattern>,
}

impl Kind for FileOf<'_> {
    type Out = Template;
    fn accepted(&self) -> String {
        "the name of a file inside out/: relative, without `..`".into()
    }
    fn read(&self, value: &Value<'_>) -> Option<Template> {
        let template = TemplateOf { fields: Fields::Object, args: self.args }.read(value)?;
        let sample = sample(&template, self.args)?;
        if let Err(e) = parse_object(&format!("out:{sample}")) {
            value.wrong("can name no file", format!("{}; accepted: {}", e.why, self.accepted()));
            return None;
        }
        Some(template)
    }
}
