//! A task type: what is declared once about all tasks of one kind.

use super::template::{Template, is_arg_name};
use crate::flow::{Map, TypeId};
use crate::time::Span;
use regex::Regex;
use std::collections::BTreeMap;

/// Longest value of an entity or an argument, bytes: it becomes part of paths (`NAME_MAX` is 255).
pub const VALUE_LIMIT_BYTES: usize = 255;

/// A type of task, checked.
#[derive(Clone, Debug)]
pub struct TaskType {
    /// Its name: letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// The command, never through a shell. Empty for types that only outside workers run.
    pub argv: Vec<Template>,
    /// Additional environment.
    pub env: BTreeMap<String, Template>,
    /// Objects it reads.
    pub inputs: Vec<Template>,
    /// Files it leaves in `out/` that become objects.
    pub outputs: Vec<Output>,
    /// Objects it changes at their source.
    pub writes: Vec<Template>,
    /// What entities must look like.
    pub entity_pattern: ValuePattern,
    /// Which arguments a submit may carry, and what they must look like.
    pub args: BTreeMap<String, ValuePattern>,
    /// How long an attempt may run.
    pub time_limit: Span,
    /// How long after SIGTERM the group gets SIGKILL.
    pub kill_grace: Span,
    /// How many attempts it gets, at least 1.
    pub attempts: u32,
    /// How long a failed attempt waits for the next.
    pub backoff: Backoff,
    /// Exit codes that are worth another attempt; empty means all but 0.
    pub retry_exit_codes: Vec<i32>,
    /// How many may run at once on the host; `None` is no limit.
    pub concurrency: Option<u32>,
    /// For whom and how long a submit's key answers.
    pub keys: Keys,
    /// How many may start in a time; `None` is no limit.
    pub rate: Option<Rate>,
    /// Priority of submits that name none.
    pub priority: u8,
    /// How inputs are put before the task.
    pub input_mode: InputMode,
    /// Memory assumed until it was measured, bytes.
    pub memory_bytes: u64,
}

/// For whom and how long a submit's key answers with the task that has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Whether it answers for submits of all types that say so too, and not of its own only.
    pub host_wide: bool,
    /// How long after the task's end; `None` is until retention removes the task, zero until it ends. After a
    /// restart it may be longer, never shorter: it counts from the start.
    pub lifetime: Option<Span>,
}

/// A limit of starts: `starts` for each `per`, so many at once after a quiet time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// How many, at least 1.
    pub starts: u32,
    /// In which time, above 0.
    pub per: Span,
}

/// A declared output: a file in `out/` and the object that it becomes.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its name inside `out/`.
    pub file: Template,
    /// The object that it is published as.
    pub object: Template,
}

/// Waits before another attempt: `first × factor^(n−1)`, at most `limit`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Span,
    /// Growth from one wait to the next, at least 1.
    pub factor: f64,
    /// Longest wait.
    pub limit: Span,
}

impl Backoff {
    /// The wait after failure number `n`, counted from 1.
    pub fn after(&self, n: u32) -> Span {
        let growth = self.factor.powi(n.saturating_sub(1).min(1_000) as i32);
        self.first.times(growth).min(self.limit)
    }
}

/// How an input gets from the cache to the task's `in/` folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputMode {
    /// A link where a task cannot write through it, else a reflink, else a copy.
    Auto,
    /// A hard link to the cached file.
    Link,
    /// A copy-on-write clone.
    Reflink,
    /// A copy.
    Copy,
}

/// A pattern that a whole value must match. It never begins with `-`, so no value turns into an option.
#[derive(Clone, Debug)]
pub struct ValuePattern {
    regex: Regex,
    source: String,
}

impl ValuePattern {
    /// The pattern of values that declare none.
    pub const DEFAULT: &'static str = "[A-Za-z0-9][A-Za-z0-9._/-]*";

    /// From a regular expression; it is anchored at both ends.
    ///
    /// # Errors
    /// What is wrong with the expression.
    pub fn new(source: &str) -> Result<ValuePattern, regex::Error> {
        let regex = regex::RegexBuilder::new(&format!("^(?:{source})$")).size_limit(1 << 20).build()?;
        Ok(ValuePattern { regex, source: source.to_owned() })
    }

    /// The expression it was made from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether a value is accepted, and if not, why.
    ///
    /// # Errors
    /// A text that completes "entity `x` ...".
    pub fn check(&self, value: &str) -> Result<(), String> {
        if value.len() > VALUE_LIMIT_BYTES {
            return Err(format!("is {} bytes long; accepted: up to {VALUE_LIMIT_BYTES}", value.len()));
        }
        if value.starts_with('-') {
            return Err("begins with `-`, so a command could take it for an option".into());
        }
        if value.split('/').any(|part| part == ".." || part == ".") {
            return Err("has a part `.` or `..`, so it could leave its folder".into());
        }
        if value.chars().any(char::is_control) {
            return Err("holds a control character".into());
        }
        if !self.regex.is_match(value) {
            return Err(format!("does not match the pattern `{}`", self.source));
        }
        Ok(())
    }
}

impl Default for ValuePattern {
    fn default() -> Self {
        ValuePattern::new(ValuePattern::DEFAULT).expect("the default pattern is a valid expression")
    }
}

/// All task types, by index and by name.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    types: Vec<TaskType>,
    by_name: Map<String, TypeId>,
}

impl Catalogue {
    /// Most types that a host can have: [`TypeId`] has 16 bits.
    pub const LIMIT: usize = u16::MAX as usize;

    /// In the order of [`TypeId`]. Names are unique: the configuration's tables guarantee it.
    pub fn new(types: Vec<TaskType>) -> Catalogue {
        assert!(types.len() <= Catalogue::LIMIT, "the configuration refuses more types");
        let by_name = types.iter().enumerate().map(|(i, t)| (t.name.clone(), TypeId(i as u16))).collect();
        Catalogue { types, by_name }
    }

    /// A type by its index.
    ///
    /// # Panics
    /// If the index is not this catalogue's.
    pub fn get(&self, id: TypeId) -> &TaskType {
        &self.types[usize::from(id.0)]
    }

    /// A type's index by its name.
    pub fn find(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// A type's name.
    ///
    /// # Panics
    /// If the index is not this catalogue's.
    pub fn name(&self, id: TypeId) -> &str {
        &self.get(id).name
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (TypeId, &TaskType)> {
        self.types.iter().enumerate().map(|(i, t)| (TypeId(i as u16), t))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.types.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }
}

/// Whether a text can name a task type, worker, cache, source or cell: letters, digits, `_`, `-` and `.`,
/// beginning with a letter or digit, at most 64.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// Whether a text can name an argument.
pub fn is_argument_name(name: &str) -> bool {
    is_arg_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_pattern_keeps_options_and_escapes_out() {
        let p = ValuePattern::default();
        assert_eq!(p.check("vol-7/part_1.img"), Ok(()));
        for bad in ["-rf", "a/../b", "..", "", "a b", "a\nb", "$(x)", "/etc"] {
            assert!(p.check(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(p.check(&"x".repeat(256)).unwrap_err().contains("256 bytes"));
    }

    #[test]
    fn even_a_loose_pattern_lets_no_option_through() {
        let p = ValuePattern::new(".*").unwrap();
        assert!(p.check("-x").is_err() && p.check("a/..").is_err() && p.check("x y").is_ok());
    }

    #[test]
    fn backoff_grows_to_its_limit() {
        let b = Backoff { first: Span::from_secs(1), factor: 2.0, limit: Span::from_secs(60) };
        let waits: Vec<f64> = (1..=8).map(|n| b.after(n).as_s()).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        assert_eq!(b.after(u32::MAX), Span::from_secs(60));
    }
}
