//! `{entity} {input.0} {arg.NAME}`: parsed once, when the configuration is read, and expanded safely.
//!
//! A template never reaches a shell. What it is filled with was matched against a pattern before
//! (`spec::ValuePattern`), so no value can turn into an option or leave a folder.

use std::collections::BTreeMap;
use std::fmt;

/// One thing that a template can stand for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// `{entity}`: what the task is about.
    Entity,
    /// `{cell}`: name of the cell of the task's first input.
    Cell,
    /// `{shard}`: shard of the task's first input.
    Shard,
    /// `{input.N}`: path of input number N, counted from 0.
    Input(usize),
    /// `{inputs}`: all input paths; alone in an argument it becomes one argument for each.
    Inputs,
    /// `{arg.NAME}`: an argument of the submit.
    Arg(String),
    /// `{workdir}`: the task's own folder.
    Workdir,
    /// `{task}`: the task's number.
    Task,
}

/// Which fields a template may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// In `argv` and `env`: all of them.
    Command,
    /// In `inputs`, `outputs` and `writes`: what is known before the task runs, `{entity}` and `{arg.NAME}`.
    Object,
}

/// A text with fields in braces; `{{` and `}}` stand for braces themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// A brace without its partner.
    #[error("unmatched `{brace}` at byte {at} of `{template}`; write `{brace}{brace}` for the brace itself")]
    Unmatched {
        /// The brace.
        brace: char,
        /// Where it stands.
        at: usize,
        /// The whole text.
        template: String,
    },
    /// A field that does not exist, or not here.
    #[error("unknown field `{{{field}}}` in `{template}`; accepted here: {accepted}")]
    UnknownField {
        /// What stood in the braces.
        field: String,
        /// The whole text.
        template: String,
        /// The fields that may be used here.
        accepted: &'static str,
    },
}

impl Fields {
    /// The accepted fields, as error messages list them.
    pub fn names(self) -> &'static str {
        match self {
            Fields::Command => {
                "{entity}, {cell}, {shard}, {input.N}, {inputs}, {arg.NAME}, {workdir}, {task}"
            }
            Fields::Object => "{entity}, {arg.NAME}",
        }
    }

    fn parse(self, name: &str) -> Option<Field> {
        let field = match name {
            "entity" => Field::Entity,
            "cell" => Field::Cell,
            "shard" => Field::Shard,
            "inputs" => Field::Inputs,
            "workdir" => Field::Workdir,
            "task" => Field::Task,
            _ => match name.split_once('.') {
                Some(("input", n)) => Field::Input(n.parse().ok()?),
                Some(("arg", n)) if is_arg_name(n) => Field::Arg(n.to_owned()),
                _ => return None,
            },
        };
        let here = self == Fields::Command || matches!(field, Field::Entity | Field::Arg(_));
        here.then_some(field)
    }
}

/// Names of arguments: letters, digits, `_` and `-`, beginning with a letter, at most 64.
pub(super) fn is_arg_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// What the fields stand for in one task.
#[derive(Clone, Debug, Default)]
pub struct Scope<'a> {
    /// `{entity}`.
    pub entity: Option<&'a str>,
    /// `{cell}`.
    pub cell: &'a str,
    /// `{shard}`.
    pub shard: u16,
    /// `{input.N}`, `{inputs}`: paths as the child sees them.
    pub inputs: &'a [String],
    /// `{arg.NAME}`.
    pub args: Option<&'a BTreeMap<String, String>>,
    /// `{workdir}`.
    pub workdir: &'a str,
    /// `{task}`.
    pub task: u64,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// An unmatched brace, or a field that does not exist among `fields`.
    pub fn parse(text: &str, fields: Fields) -> Result<Template, BadTemplate> {
        let unmatched = |brace, at| BadTemplate::Unmatched { brace, at, template: text.to_owned() };
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let here = text.len() - rest.len() + at;
            plain.push_str(&rest[..at]);
            let brace = if rest[at..].starts_with('{') { '{' } else { '}' };
            let after = &rest[at + 1..];
            if let Some(after) = after.strip_prefix(brace) {
                plain.push(brace);
                rest = after;
                continue;
            }
            if brace == '}' {
                return Err(unmatched('}', here));
            }
            let end = after.find('}').ok_or_else(|| unmatched('{', here))?;
            let field = fields.parse(&after[..end]).ok_or_else(|| BadTemplate::UnknownField {
                field: after[..end].to_owned(),
                template: text.to_owned(),
                accepted: fields.names(),
            })?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Field(field));
            rest = &after[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Template { source: text.to_owned(), parts })
    }

    /// The text it was read from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The fields it uses.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.parts.iter().filter_map(|p| match p {
            Part::Field(f) => Some(f),
            Part::Text(_) => None,
        })
    }

    /// Whether `{entity}` is all that it needs: then it can be filled for a task nobody has submitted.
    pub fn derivable(&self) -> bool {
        self.fields().all(|f| *f == Field::Entity)
    }

    /// Fills it in.
    ///
    /// # Errors
    /// The field for which `scope` has no value.
    pub fn expand(&self, scope: &Scope<'_>) -> Result<String, Field> {
        let mut out = String::with_capacity(self.source.len() + 16);
        for part in &self.parts {
            match part {
                Part::Text(t) => out.push_str(t),
                Part::Field(f) => push_field(&mut out, f, scope)?,
            }
        }
        Ok(out)
    }

    /// Fills in one argument of a command, which `{inputs}` alone turns into several.
    ///
    /// # Errors
    /// The field for which `scope` has no value.
    pub fn expand_argument(&self, scope: &Scope<'_>, argv: &mut Vec<String>) -> Result<(), Field> {
        if self.parts == [Part::Field(Field::Inputs)] {
            argv.extend_from_slice(scope.inputs);
        } else {
            argv.push(self.expand(scope)?);
        }
        Ok(())
    }
}

fn push_field(out: &mut String, field: &Field, scope: &Scope<'_>) -> Result<(), Field> {
    let missing = || field.clone();
    match field {
        Field::Entity => out.push_str(scope.entity.ok_or_else(missing)?),
        Field::Cell => out.push_str(scope.cell),
        Field::Shard => out.push_str(&scope.shard.to_string()),
        Field::Input(n) => out.push_str(scope.inputs.get(*n).ok_or_else(missing)?),
        Field::Inputs => out.push_str(&scope.inputs.join(" ")),
        Field::Arg(name) => {
            out.push_str(scope.args.and_then(|a| a.get(name)).ok_or_else(missing)?);
        }
        Field::Workdir => out.push_str(scope.workdir),
        Field::Task => out.push_str(&scope.task.to_string()),
    }
    Ok(())
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Entity => f.write_str("{entity}"),
            Field::Cell => f.write_str("{cell}"),
            Field::Shard => f.write_str("{shard}"),
            Field::Input(n) => write!(f, "{{input.{n}}}"),
            Field::Inputs => f.write_str("{inputs}"),
            Field::Arg(name) => write!(f, "{{arg.{name}}}"),
            Field::Workdir => f.write_str("{workdir}"),
            Field::Task => f.write_str("{task}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Template {
        Template::parse(text, Fields::Command).expect("a good template")
    }

    #[test]
    fn fills_every_field() {
        let args = BTreeMap::from([("level".to_owned(), "3".to_owned())]);
        let inputs = ["in/00-a".to_owned(), "in/01-b".to_owned()];
        let scope = Scope {
            entity: Some("vol-7"),
            cell: "nas",
            shard: 2,
            inputs: &inputs,
            args: Some(&args),
            workdir: "/w/1",
            task: 9,
        };
        let t = command("{{{entity}}}:{cell}/{shard} {input.1} {arg.level} {workdir} {task} {inputs}");
        assert_eq!(t.expand(&scope).unwrap(), "{vol-7}:nas/2 in/01-b 3 /w/1 9 in/00-a in/01-b");
        let mut argv = vec![];
        command("{inputs}").expand_argument(&scope, &mut argv).unwrap();
        command("-{input.0}").expand_argument(&scope, &mut argv).unwrap();
        assert_eq!(argv, ["in/00-a", "in/01-b", "-in/00-a"]);
    }

    #[test]
    fn names_the_field_that_has_no_value() {
        let scope = Scope::default();
        assert_eq!(command("{entity}").expand(&scope), Err(Field::Entity));
        assert_eq!(command("{input.3}").expand(&scope), Err(Field::Input(3)));
        assert_eq!(command("{arg.x}").expand(&scope), Err(Field::Arg("x".into())));
    }

    #[test]
    fn refuses_what_is_no_template() {
        for (text, fields, part) in [
            ("a{b", Fields::Command, "unmatched `{` at byte 1"),
            ("a}b", Fields::Command, "unmatched `}` at byte 1"),
            ("{volume}", Fields::Command, "unknown field `{volume}`"),
            ("{input.x}", Fields::Command, "unknown field `{input.x}`"),
            ("{arg.-x}", Fields::Command, "unknown field `{arg.-x}`"),
            ("s:{workdir}", Fields::Object, "accepted here: {entity}, {arg.NAME}"),
        ] {
            let error = Template::parse(text, fields).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn knows_what_can_be_derived_without_a_submit() {
        let object = |t| Template::parse(t, Fields::Object).unwrap();
        assert!(object("volumes:{entity}/data.img").derivable());
        assert!(object("images:base.img").derivable());
        assert!(!object("volumes:{entity}/{arg.part}").derivable());
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_keeps_plain_text(text in ".{0,64}") {
            if let Ok(t) = Template::parse(&text, Fields::Command)
                && t.fields().next().is_none()
            {
                let out = t.expand(&Scope::default()).unwrap();
                proptest::prop_assert_eq!(out, text.replace("{{", "{").replace("}}", "}"));
            }
        }
    }
}
