//! Walks the parsed text key by key, and notes every problem with the place where it stands.
//!
//! A derived deserialiser stops at the first error and forgets where a value stood once it has it. This walk
//! goes on with the default, so that one run shows all that is wrong, and it remembers the place of every
//! value for the checks that come after. The keys that a section asks for are its known keys: there is no
//! second list that could drift.

use super::error::{Problem, Severity};
use super::nearest::nearest;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

type Name<'a> = Spanned<DeString<'a>>;

/// Problems beyond are dropped: nobody reads so many, and the time and memory they take stay bounded.
const PROBLEMS_LIMIT: usize = 1_000;

/// What is noted on the way.
#[derive(Debug, Default)]
pub(super) struct Notes {
    problems: RefCell<Vec<Problem>>,
    spans: RefCell<BTreeMap<String, Range<usize>>>,
    /// What no message may show.
    secrets: RefCell<Vec<Range<usize>>>,
    /// Every key that was asked for, without the names: `worker.*.slots`. For the test that all are documented.
    #[cfg(test)]
    known: RefCell<std::collections::BTreeSet<String>>,
}

/// What [`Notes`] hands over at the end.
pub(super) struct Noted {
    pub problems: Vec<Problem>,
    /// The place of every value, by its full key.
    pub spans: BTreeMap<String, Range<usize>>,
    /// The places of what no message may show.
    pub secrets: Vec<Range<usize>>,
}

impl Notes {
    /// What was noted so far; nothing is left of it here.
    pub fn take(&self) -> Noted {
        Noted { problems: self.problems.take(), spans: self.spans.take(), secrets: self.secrets.take() }
    }

    #[cfg(test)]
    pub fn known(&self) -> std::collections::BTreeSet<String> {
        self.known.borrow().clone()
    }

    /// Notes a problem with what stands at a full key, wherever that is.
    pub fn about(&self, severity: Severity, key: &Key, what: &str, label: impl Into<String>) {
        let span = self.spans.borrow().get(&key.path).cloned();
        self.push(severity, key, what, label.into(), span, None);
    }

    fn push(
        &self,
        severity: Severity,
        key: &Key,
        what: &str,
        label: String,
        span: Option<Range<usize>>,
        help: Option<String>,
    ) {
        let title = format!("{} {what}", key.subject());
        self.add(Problem {
            severity,
            key: key.path.clone(),
            title,
            found: String::new(),
            label,
            help,
            line: None,
            span,
        });
    }

    fn add(&self, problem: Problem) {
        if !self.is_full() {
            self.problems.borrow_mut().push(problem);
        }
    }

    fn is_full(&self) -> bool {
        self.problems.borrow().len() >= PROBLEMS_LIMIT
    }

    /// The name that was probably meant. Not sought any more when nobody would read it.
    fn nearest<'n>(&self, name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
        if self.is_full() { None } else { nearest(name, known) }
    }
}

/// Where a value stands: `worker.fast.slots`, in words "slots of worker `fast`".
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// The section and the name inside it, for sections that hold named tables.
    owner: Option<(&'static str, String)>,
    /// What follows it.
    local: String,
    /// The whole.
    path: String,
}

impl Key {
    /// A section, or the whole file for an empty name.
    pub fn section(name: &str) -> Key {
        Key { owner: None, local: name.to_owned(), path: name.to_owned() }
    }

    /// The table `name` of a section, as in `[worker.fast]`.
    pub fn named(section: &'static str, name: &str) -> Key {
        let shown = if is_bare(name) { name.to_owned() } else { format!("{name:?}") };
        Key {
            owner: Some((section, name.to_owned())),
            local: String::new(),
            path: format!("{section}.{shown}"),
        }
    }

    /// A key inside it.
    pub fn join(&self, key: &str) -> Key {
        let join = |a: &str| if a.is_empty() { key.to_owned() } else { format!("{a}.{key}") };
        Key { owner: self.owner.clone(), local: join(&self.local), path: join(&self.path) }
    }

    fn item(&self, i: usize) -> Key {
        let item = |a: &str| format!("{a}[{i}]");
        Key { owner: self.owner.clone(), local: item(&self.local), path: item(&self.path) }
    }

    /// The whole: `worker.fast.slots`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// As a message names it.
    pub fn subject(&self) -> String {
        match &self.owner {
            Some((section, name)) if self.local.is_empty() => format!("{section} `{name}`"),
            Some((section, name)) => format!("{} of {section} `{name}`", self.local),
            None => format!("`{}`", self.path),
        }
    }

    #[cfg(test)]
    fn without_name(&self) -> String {
        match &self.owner {
            Some((section, _)) => format!("{section}.*.{}", self.local),
            None => self.path.clone(),
        }
    }
}

fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// One table on its way to a plain struct. [`Section::finish`] must end it.
pub(super) struct Section<'a> {
    key: Key,
    /// `None` where the file has no such table: every key is then absent.
    table: Option<&'a DeTable<'a>>,
    asked: Vec<&'static str>,
    notes: &'a Notes,
}

impl<'a> Section<'a> {
    pub fn root(table: &'a DeTable<'a>, notes: &'a Notes) -> Section<'a> {
        Section { key: Key::section(""), table: Some(table), asked: Vec::new(), notes }
    }

    /// The value at a key, if the file has one.
    pub fn value(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.push(key);
        #[cfg(test)]
        self.notes.known.borrow_mut().insert(self.key.join(key).without_name());
        let node = self.table?.get(key)?;
        let value = Value { key: self.key.join(key), node, notes: self.notes };
        self.notes.spans.borrow_mut().insert(value.key.path.clone(), node.span());
        Some(value)
    }

    /// The value at a key, checked. `None` where there is none, or where it is wrong, which was noted then.
    pub fn read<K: Kind>(&mut self, key: &'static str, kind: K) -> Option<K::Out> {
        kind.read(&self.value(key)?)
    }

    /// The same for a key that must be there.
    pub fn require<K: Kind>(&mut self, key: &'static str, kind: K) -> Option<K::Out> {
        let Some(value) = self.value(key) else {
            self.missing(key, &kind.accepted());
            return None;
        };
        kind.read(&value)
    }

    /// Notes that a key is missing which must be there.
    pub fn missing(&self, key: &str, accepted: &str) {
        self.wrong(&format!("lacks `{key}`"), format!("accepted: {accepted}"));
    }

    /// Notes a problem with the whole table.
    pub fn wrong(&self, what: &str, label: impl Into<String>) {
        self.notes.about(Severity::Error, &self.key, what, label);
    }

    /// Notes a problem with what stands at a key.
    pub fn wrong_at(&self, key: &str, what: &str, label: impl Into<String>) {
        self.notes.about(Severity::Error, &self.key.join(key), what, label);
    }

    /// A table inside this one.
    pub fn table(&mut self, key: &'static str) -> Section<'a> {
        let value = self.value(key);
        let table = value.as_ref().and_then(|v| v.table("a table"));
        Section { key: self.key.join(key), table, asked: Vec::new(), notes: self.notes }
    }

    /// The named tables of a section (`[worker.fast]`, `[worker.slow]`) in the order of the file.
    pub fn named(&mut self, section: &'static str) -> Vec<(String, Section<'a>)> {
        let Some(table) = self.value(section).and_then(|v| v.table("tables, one for each name")) else {
            return Vec::new();
        };
        let mut tables: Vec<_> = table.iter().collect();
        tables.sort_by_key(|(name, _)| name.span().start);
        let open = |(name, node): (&'a Name<'a>, &'a Spanned<DeValue<'a>>)| {
            let key = Key::named(section, name.get_ref());
            let value = Value { key: key.clone(), node, notes: self.notes };
            // What is no table was noted, and is read on as an empty one: it keeps its name for others.
            let table = value.table("a table");
            self.notes.spans.borrow_mut().insert(key.path.clone(), name.span());
            (name.get_ref().to_string(), Section { key, table, asked: Vec::new(), notes: self.notes })
        };
        tables.into_iter().map(open).collect()
    }

    /// All keys and values of a table whose keys are free, in the order of the file.
    pub fn entries(&mut self) -> Vec<(&'a str, Value<'a>)> {
        let mut entries: Vec<_> = self.table.iter().flat_map(|t| t.iter()).collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let entry = |(name, node): (&'a Name<'a>, &'a Spanned<DeValue<'a>>)| {
            let name: &'a str = name.get_ref();
            let key = self.key.join(name);
            self.notes.spans.borrow_mut().insert(key.path.clone(), node.span());
            let value = Value { key, node, notes: self.notes };
            if is_secret(name) {
                value.hide();
            }
            (name, value)
        };
        entries.into_iter().map(entry).collect()
    }

    /// Notes every key that nobody asked for, with the known one that is nearest.
    pub fn finish(self) {
        let mut known = self.asked;
        known.sort_unstable();
        known.dedup();
        for (name, node) in self.table.iter().flat_map(|t| t.iter()) {
            let text: &str = name.get_ref();
            if known.contains(&text) {
                continue;
            }
            if is_secret(text) {
                self.notes.secrets.borrow_mut().push(node.span());
            }
            let place =
                if self.key.path.is_empty() { String::new() } else { format!(" in {}", self.key.subject()) };
            let shown = super::error::one_line(text);
            let title = format!("unknown key `{shown}`{place}");
            let label = format!("accepted: {}", known.join(", "));
            let meant = self.notes.nearest(text, known.iter().copied());
            let help = meant.map(|k| format!("did you mean `{k}`?"));
            self.notes.add(Problem {
                severity: Severity::Error,
                key: self.key.join(text).path,
                title,
                found: String::new(),
                label,
                help,
                line: None,
                span: Some(name.span()),
            });
        }
    }
}

/// Whether a key's name says that its value should not be shown.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "secret", "token", "credential", "access_key", "private_key"]
        .iter()
        .any(|w| name.contains(w))
}

/// A kind of value.
pub(super) trait Kind {
    /// What it becomes.
    type Out;
    /// What is accepted, as a message says it.
    fn accepted(&self) -> String;
    /// The value; what is wrong with it is noted.
    fn read(&self, value: &Value<'_>) -> Option<Self::Out>;
}

/// One value and where it stands.
pub(super) struct Value<'a> {
    key: Key,
    node: &'a Spanned<DeValue<'a>>,
    notes: &'a Notes,
}

impl<'a> Value<'a> {
    pub fn node(&self) -> &'a DeValue<'a> {
        self.node.get_ref()
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&'a str> {
        match self.node() {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The items of an array; anything else is noted.
    pub fn items(&self, accepted: &str) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(array) = self.node() else {
            self.mistyped(accepted);
            return None;
        };
        let item = |(i, node): (usize, &'a Spanned<DeValue<'a>>)| {
            let key = self.key.item(i);
            self.notes.spans.borrow_mut().insert(key.path.clone(), node.span());
            Value { key, node, notes: self.notes }
        };
        Some(array.iter().enumerate().map(item).collect())
    }

    /// As a table to be read key by key; anything else is noted.
    pub fn section(&self, accepted: &str) -> Option<Section<'a>> {
        let table = Some(self.table(accepted)?);
        Some(Section { key: self.key.clone(), table, asked: Vec::new(), notes: self.notes })
    }

    fn table(&self, accepted: &str) -> Option<&'a DeTable<'a>> {
        match self.node() {
            DeValue::Table(table) => Some(table),
            _ => {
                self.mistyped(accepted);
                None
            }
        }
    }

    /// Notes that the value is of the wrong type.
    pub fn mistyped(&self, accepted: &str) {
        let article = if matches!(self.node(), DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
        self.wrong(&format!("is {article} {}", self.node().type_str()), format!("accepted: {accepted}"));
    }

    /// Notes what is wrong with the value, completing "slots of worker `fast` …".
    pub fn wrong(&self, what: &str, label: impl Into<String>) {
        self.notes.push(Severity::Error, &self.key, what, label.into(), Some(self.node.span()), None);
    }

    /// The same, with advice.
    pub fn wrong_so(&self, what: &str, label: impl Into<String>, help: Option<String>) {
        self.notes.push(Severity::Error, &self.key, what, label.into(), Some(self.node.span()), help);
    }

    /// What somebody meant who wrote `name`, as advice.
    pub fn meant<'n>(&self, name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<String> {
        self.notes.nearest(name, known).map(|k| format!("did you mean `{k}`?"))
    }

    /// Keeps the value out of every message.
    pub fn hide(&self) {
        self.notes.secrets.borrow_mut().push(self.node.span());
    }

    /// The same as `wrong_so`, about a part of the text, where the file shows the text as it is.
    pub fn wrong_inside(
        &self,
        what: &str,
        label: impl Into<String>,
        part: Range<usize>,
        help: Option<String>,
    ) {
        let whole = self.node.span();
        // One quote on each side and not one byte more: no escapes, no triple quotes.
        let plain = self.text().is_some_and(|t| t.len() + 2 == whole.len() && part.end <= t.len());
        let from = whole.start + 1;
        let span = if plain { from + part.start..from + part.end } else { whole };
        self.notes.push(Severity::Error, &self.key, what, label.into(), Some(span), help);
    }
}
