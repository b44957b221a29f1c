//! What a value may be: its unit and range, in one place for the check and for the message.

pub(super) use super::reader::Kind;
use super::reader::Value;
use super::unit::{self, BadQuantity};
use crate::time::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Component, PathBuf};
use toml::de::DeValue;

/// A length of time within bounds, both included.
pub(super) struct SpanIn(pub Span, pub Span);

impl Kind for SpanIn {
    type Out = Span;
    fn accepted(&self) -> String {
        format!("{} to {}", unit::show_span(self.0), unit::show_span(self.1))
    }
    fn read(&self, value: &Value<'_>) -> Option<Span> {
        let units = "units: us, ms, s, min, h, d";
        let Some(text) = value.text() else {
            let DeValue::Integer(n) = value.node() else {
                value.mistyped(&format!("{}, in quotes with its unit", self.accepted()));
                return None;
            };
            let label = format!("accepted: {}; {units}", self.accepted());
            value.wrong_so("has no unit", label, Some(format!("for seconds write \"{n}s\"")));
            return None;
        };
        let read = unit::span(text);
        bounded(value, read, self.0, self.1, "length of time", &format!("{}; {units}", self.accepted()))
    }
}

/// A size in bytes within bounds, both included.
pub(super) struct BytesIn(pub u64, pub u64);

impl Kind for BytesIn {
    type Out = u64;
    fn accepted(&self) -> String {
        format!("{} to {}", unit::show_bytes(self.0), unit::show_bytes(self.1))
    }
    fn read(&self, value: &Value<'_>) -> Option<u64> {
        let read = match value.text() {
            Some(text) => unit::bytes(text),
            None => whole_bytes(value, &self.accepted())?,
        };
        let accepted = format!("{}; units: B, KiB, MiB, GiB, TiB, PiB", self.accepted());
        bounded(value, read, self.0, self.1, "size", &accepted)
    }
}

/// Bytes per second within bounds, both included.
pub(super) struct RateIn(pub u64, pub u64);

impl Kind for RateIn {
    type Out = u64;
    fn accepted(&self) -> String {
        format!("{} to {} per second", unit::show_bytes(self.0), unit::show_bytes(self.1))
    }
    fn read(&self, value: &Value<'_>) -> Option<u64> {
        let read = match value.text() {
            Some(text) => unit::bytes_per_s(text),
            None => whole_bytes(value, &self.accepted())?,
        };
        let accepted = format!("{}; units: B, KiB, MiB, GiB, TiB, PiB", self.accepted());
        bounded(value, read, self.0, self.1, "rate", &accepted)
    }
}

fn whole_bytes(value: &Value<'_>, accepted: &str) -> Option<Result<u64, BadQuantity>> {
    let Some(n) = integer(value) else {
        value.mistyped(&format!("{accepted}, in quotes with its unit, or a whole number of bytes"));
        return None;
    };
    Some(u64::try_from(n).map_err(|_| if n < 0 { BadQuantity::NoNumber } else { BadQuantity::TooLarge }))
}

fn bounded<T: PartialOrd>(
    value: &Value<'_>,
    read: Result<T, BadQuantity>,
    low: T,
    high: T,
    what: &str,
    accepted: &str,
) -> Option<T> {
    let label = format!("accepted: {accepted}");
    match read {
        Ok(x) if x >= low && x <= high => return Some(x),
        Ok(_) | Err(BadQuantity::TooLarge) => value.wrong("is out of range", label),
        Err(why @ BadQuantity::NoNumber) => value.wrong(&format!("is no {what}"), format!("{why}; {label}")),
        Err(why) => value.wrong(&why.to_string(), label),
    }
    None
}

/// A whole number within bounds, both included; the unit follows the range in messages.
pub(super) struct IntegerIn<T>(pub T, pub T, pub &'static str);

impl<T: TryFrom<i128> + Into<i128> + Copy + Display> Kind for IntegerIn<T> {
    type Out = T;
    fn accepted(&self) -> String {
        format!("{} to {} {}", self.0, self.1, self.2).trim_end().to_owned()
    }
    fn read(&self, value: &Value<'_>) -> Option<T> {
        let accepted = self.accepted();
        let DeValue::Integer(_) = value.node() else {
            value.mistyped(&format!("a whole number, {accepted}"));
            return None;
        };
        let inside = integer(value).filter(|n| (self.0.into()..=self.1.into()).contains(n));
        let read = inside.and_then(|n| T::try_from(n).ok());
        if read.is_none() {
            value.wrong("is out of range", format!("accepted: {accepted}"));
        }
        read
    }
}

fn integer(value: &Value<'_>) -> Option<i128> {
    match value.node() {
        DeValue::Integer(n) => i128::from_str_radix(n.as_str(), n.radix()).ok(),
        _ => None,
    }
}

/// A number within bounds; the upper bound is included, the lower one unless the range is `above` it.
pub(super) struct NumberIn {
    pub low: f64,
    pub high: f64,
    pub above: bool,
    pub unit: &'static str,
}

impl NumberIn {
    /// A share: both 0 and `high` included.
    pub fn up_to(high: f64) -> NumberIn {
        NumberIn { low: 0.0, high, above: false, unit: "" }
    }
    /// A smoothing factor: the weight of the newest observation.
    pub fn weight() -> NumberIn {
        NumberIn { low: 0.0, high: 1.0, above: true, unit: "" }
    }
}

impl Kind for NumberIn {
    type Out = f64;
    fn accepted(&self) -> String {
        let low = if self.above { format!("more than {}, up", self.low) } else { self.low.to_string() };
        format!("{low} to {} {}", self.high, self.unit).trim_end().to_owned()
    }
    fn read(&self, value: &Value<'_>) -> Option<f64> {
        let x = match value.node() {
            DeValue::Integer(_) => integer(value).map(|n| n as f64),
            DeValue::Float(x) => x.as_str().parse().ok(),
            _ => {
                value.mistyped(&format!("a number, {}", self.accepted()));
                return None;
            }
        };
        // Not-a-number fails both comparisons.
        let inside = |x: &f64| (*x > self.low || (!self.above && *x == self.low)) && *x <= self.high;
        let read = x.filter(inside);
        if read.is_none() {
            value.wrong("is out of range", format!("accepted: {}", self.accepted()));
        }
        read
    }
}

/// One of a few words.
pub(super) struct OneOf<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy> Kind for OneOf<T> {
    type Out = T;
    fn accepted(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        words.join(", ")
    }
    fn read(&self, value: &Value<'_>) -> Option<T> {
        let Some(text) = value.text() else {
            value.mistyped(&self.accepted());
            return None;
        };
        let known = self.0.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if known.is_none() {
            let help = value.meant(text, self.0.iter().map(|(w, _)| *w));
            value.wrong_so("is none of the known words", format!("accepted: {}", self.accepted()), help);
        }
        known
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Kind for Flag {
    type Out = bool;
    fn accepted(&self) -> String {
        "true, false".into()
    }
    fn read(&self, value: &Value<'_>) -> Option<bool> {
        let DeValue::Boolean(flag) = value.node() else {
            value.mistyped(&self.accepted());
            return None;
        };
        Some(*flag)
    }
}

/// A text of one line, from one byte up to a limit.
pub(super) struct Text(pub usize);

impl Kind for Text {
    type Out = String;
    fn accepted(&self) -> String {
        format!("a text of 1 to {} bytes without control characters", self.0)
    }
    fn read(&self, value: &Value<'_>) -> Option<String> {
        let Some(text) = value.text() else {
            value.mistyped(&self.accepted());
            return None;
        };
        let label = || format!("accepted: {}", self.accepted());
        if text.is_empty() {
            value.wrong("is empty", label());
        } else if text.len() > self.0 {
            value.wrong(&format!("is {} bytes long", text.len()), label());
        } else if text.chars().any(char::is_control) {
            value.wrong("holds a control character", label());
        } else {
            return Some(text.to_owned());
        }
        None
    }
}

/// An absolute path without `..`. (`PATH_MAX` is 4,096; object and work folder names follow it.)
pub(super) struct AbsolutePath;

impl Kind for AbsolutePath {
    type Out = PathBuf;
    fn accepted(&self) -> String {
        "an absolute path without `..`, up to 2048 bytes".into()
    }
    fn read(&self, value: &Value<'_>) -> Option<PathBuf> {
        let label = format!("accepted: {}", self.accepted());
        let Some(text) = value.text() else {
            value.mistyped(&self.accepted());
            return None;
        };
        Text(2_048).read(value)?;
        let path = PathBuf::from(text);
        if !path.is_absolute() {
            let help =
                text.starts_with('~').then(|| "`~` is the shell's word; write the whole path".to_owned());
            value.wrong_so("is not absolute", label, help);
        } else if path.components().any(|c| c == Component::ParentDir) {
            value.wrong("holds `..`", label);
        } else {
            // Built anew from its components: without `//`, `/.` and a last `/`, so that paths can be compared.
            return Some(path.components().collect());
        }
        None
    }
}

/// Names in the order of their ids, and found by name.
pub(super) struct Names {
    names: Vec<String>,
    index: BTreeMap<String, usize>,
}

impl Names {
    pub fn of<'t, T: 't>(all: &'t [T], name: impl Fn(&'t T) -> &'t String) -> Names {
        let names: Vec<String> = all.iter().map(|t| name(t).clone()).collect();
        let index = names.iter().enumerate().map(|(i, n)| (n.clone(), i)).collect();
        Names { names, index }
    }

    /// Whether there is exactly one, so that nobody has to name it.
    pub fn is_single(&self) -> bool {
        self.names.len() == 1
    }
}

/// The name of something declared elsewhere in the file; becomes its index.
pub(super) struct Known<'n> {
    /// What it is: `cell`.
    pub what: &'static str,
    /// The names there are.
    pub names: &'n Names,
}

impl Kind for Known<'_> {
    type Out = usize;
    fn accepted(&self) -> String {
        let names = &self.names.names;
        if names.is_empty() {
            return format!("none: no [{}.NAME] is declared", self.what);
        }
        let mut shown: Vec<&str> = names.iter().take(12).map(String::as_str).collect();
        if names.len() > shown.len() {
            shown.push("…");
        }
        shown.join(", ")
    }
    fn read(&self, value: &Value<'_>) -> Option<usize> {
        let Some(text) = value.text() else {
            value.mistyped(&format!("the name of a {}: {}", self.what, self.accepted()));
            return None;
        };
        let index = self.names.index.get(text).copied();
        if index.is_none() {
            let help = value.meant(text, self.names.names.iter().map(String::as_str));
            value.wrong_so(
                &format!("names an unknown {}", self.what),
                format!("accepted: {}", self.accepted()),
                help,
            );
        }
        index
    }
}

/// A list of one kind, up to a limit. One wrong item makes the whole list wrong; all wrong items are noted.
pub(super) struct ListOf<K>(pub K, pub usize);

impl<K: Kind> Kind for ListOf<K> {
    type Out = Vec<K::Out>;
    fn accepted(&self) -> String {
        format!("a list of up to {}, each: {}", self.1, self.0.accepted())
    }
    fn read(&self, value: &Value<'_>) -> Option<Self::Out> {
        let items = value.items(&self.accepted())?;
        if items.len() > self.1 {
            value.wrong(&format!("has {} items", items.len()), format!("accepted: up to {}", self.1));
            return None;
        }
        let read: Vec<Option<K::Out>> = items.iter().map(|item| self.0.read(item)).collect();
        read.into_iter().collect()
    }
}

/// A list of names without repeats.
pub(super) struct KnownSet<'n>(pub Known<'n>);

impl Kind for KnownSet<'_> {
    type Out = Vec<usize>;
    fn accepted(&self) -> String {
        format!("a list of names: {}", self.0.accepted())
    }
    fn read(&self, value: &Value<'_>) -> Option<Vec<usize>> {
        let items = value.items(&self.accepted())?;
        let mut seen = BTreeSet::new();
        let mut list = Vec::new();
        for item in &items {
            match self.0.read(item) {
                Some(index) if !seen.insert(index) => {
                    item.wrong("is there twice", "accepted: each name once")
                }
                Some(index) => list.push(index),
                None => {}
            }
        }
        (list.len() == items.len()).then_some(list)
    }
}
