//! Which objects of its entity a task of a type reads, learned from what tasks read: fixed names
//! (`volumes:{entity}/manifest`) and numbered parts (`volumes:{entity}/c0007`).
//!
//! A numbered part is foretold as *last number + step*, the step learned for each type and for the type that
//! read the last number: a verification reads again what the copy before it read, the next creation goes on
//! from there. Where such a number lies outside every number ever seen, what was read instead is remembered
//! (numbers that start again at their end).

use crate::flow::{Map, ObjectName, TypeId};
use std::sync::Arc;

/// Patterns of names kept; further ones are not learned. Patterns come from configuration and habit, not
/// from data, so there are few.
const PATTERNS_MAX: usize = 4096;
/// Places of one type kept; the least read one is replaced.
const SLOTS_MAX: usize = 32;
/// Different steps, and different numbers at which counting starts again, that are kept for each place.
const STEPS_MAX: usize = 8;
/// Patterns whose last number is kept for one entity.
pub const LAST_MAX: usize = 16;
/// A step or a place less likely than this is not foretold.
const P_MIN: f64 = 0.1;
/// Counts are halved above this.
const COUNT_KEPT: f64 = 255.0;

const ENTITY: char = '\u{1}';
const NUMBER: char = '\u{2}';

/// Index of a pattern of names.
pub type PatternId = u32;

/// A name with the entity and its last number taken out.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// The name, the entity replaced by U+0001 and the number by U+0002.
    pub text: Arc<str>,
    /// Digits to which numbers are padded with zeros.
    pub width: u8,
    /// Least and greatest number seen in any entity.
    pub seen: (u64, u64),
    /// A number outside `seen`, the number read in its place, how often.
    pub restarts: Vec<(u64, u64, u32)>,
}

/// One place in a type's inputs: the n-th object of a pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Which pattern.
    pub pattern: PatternId,
    /// The how-manieth object of that pattern in one task, from 0.
    pub nth: u8,
    /// In how many tasks it was read.
    pub reads: f64,
    /// By the type that read the last number: steps with their counts.
    pub steps: Vec<(TypeId, Vec<(i64, f64)>)>,
}

/// What tasks of one type read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Tasks seen.
    pub tasks: f64,
    /// Where they read.
    pub slots: Vec<Slot>,
}

/// The latest number that an entity's tasks read in one pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Which pattern.
    pub pattern: PatternId,
    /// Which number.
    pub number: u64,
    /// The type of the task that read it.
    pub reader: TypeId,
}

/// Part of an entity that a task may read: a pattern and, if the pattern has one, its number.
pub type Part = (PatternId, Option<u64>);

/// What all types read.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    patterns: Vec<Pattern>,
    by_text: Map<Arc<str>, PatternId>,
    types: Map<TypeId, Inputs>,
}

impl Parts {
    /// A task of this type about this entity reads these objects; names without the entity are passed over.
    /// `last` is the entity's own state and is brought up to date.
    pub fn learn(&mut self, entity: &str, task_type: TypeId, objects: &[ObjectName], last: &mut Vec<Last>) {
        let mut nths: Vec<(PatternId, u8)> = Vec::new();
        let inputs = self.types.entry(task_type).or_default();
        inputs.tasks += 1.0;
        if inputs.tasks > COUNT_KEPT {
            inputs.tasks *= 0.5;
            for slot in &mut inputs.slots {
                slot.reads *= 0.5;
            }
        }
        for object in objects {
            let Some((text, number)) = abstracted(object.as_str(), entity) else { continue };
            let Some(pattern) = self.pattern(&text) else { continue };
            let nth = match nths.iter_mut().find(|(p, _)| *p == pattern) {
                Some((_, n)) => {
                    *n = n.saturating_add(1);
                    *n
                }
                None => {
                    nths.push((pattern, 0));
                    0
                }
            };
            self.slot(task_type, pattern, nth).reads += 1.0;
            if let Some((number, width)) = number {
                if let Some(before) = last.iter().find(|l| l.pattern == pattern).copied() {
                    self.learn_step(task_type, nth, before, number);
                }
                self.saw(pattern, number, width);
                remember(last, Last { pattern, number, reader: task_type });
            }
        }
    }

    /// Moves `last` on to what a task reads, without learning from it.
    pub fn advance(&self, entity: &str, task_type: TypeId, objects: &[ObjectName], last: &mut Vec<Last>) {
        for object in objects {
            let Some((text, Some((number, _)))) = abstracted(object.as_str(), entity) else { continue };
            if let Some(&pattern) = self.by_text.get(&*text) {
                remember(last, Last { pattern, number, reader: task_type });
            }
        }
    }

    /// Calls `each` with every part that a task of this type may read and its probability, likeliest number
    /// first, and moves `last` on to the likeliest numbers.
    pub fn foretell(&self, task_type: TypeId, last: &mut Vec<Last>, mut each: impl FnMut(Part, f64)) {
        let Some(inputs) = self.types.get(&task_type) else { return };
        for slot in &inputs.slots {
            let p_read = (slot.reads + 0.5) / (inputs.tasks + 1.0);
            if !self.patterns[slot.pattern as usize].text.contains(NUMBER) {
                if p_read > P_MIN {
                    each((slot.pattern, None), p_read.min(1.0));
                }
                continue;
            }
            let Some(before) = last.iter().find(|l| l.pattern == slot.pattern).copied() else { continue };
            let numbers = self.numbers(slot, before);
            for (_, number, p_step) in &numbers {
                if p_step * p_read > P_MIN {
                    each((slot.pattern, Some(*number)), (p_step * p_read).min(1.0));
                }
            }
            let counted = slot.nth == 0 || p_read >= 0.5;
            if let Some((_, number, _)) = numbers.first().filter(|n| counted && n.2 * p_read > P_MIN) {
                remember(last, Last { pattern: slot.pattern, number: *number, reader: task_type });
            }
        }
    }

    /// The object's name.
    pub fn name(&self, entity: &str, part: Part) -> ObjectName {
        let pattern = &self.patterns[part.0 as usize];
        let number =
            part.1.map_or(String::new(), |n| format!("{n:0width$}", width = usize::from(pattern.width)));
        ObjectName::new(pattern.text.replace(ENTITY, entity).replace(NUMBER, &number))
    }

    /// Numbers that may follow `before` at this place: step, number, probability; likeliest first.
    fn numbers(&self, slot: &Slot, before: Last) -> Vec<(i64, u64, f64)> {
        let Some((_, steps)) = slot.steps.iter().find(|(reader, _)| *reader == before.reader) else {
            return Vec::new();
        };
        let total: f64 = steps.iter().map(|(_, n)| n).sum::<f64>() + 0.5;
        let mut numbers: Vec<_> = steps
            .iter()
            .filter_map(|(step, n)| {
                let straight = before.number.checked_add_signed(*step)?;
                Some((*step, self.patterns[slot.pattern as usize].restart(straight), n / total))
            })
            .collect();
        numbers.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
        numbers
    }

    fn learn_step(&mut self, task_type: TypeId, nth: u8, before: Last, number: u64) {
        let slot = self.slot(task_type, before.pattern, nth).clone();
        let foretold = self.numbers(&slot, before);
        let step = match foretold.iter().find(|(_, n, _)| *n == number) {
            Some((step, ..)) => *step,
            None => {
                let straight =
                    foretold.first().and_then(|(step, ..)| before.number.checked_add_signed(*step));
                let pattern = &mut self.patterns[before.pattern as usize];
                if let Some(outside) = straight.filter(|n| !(pattern.seen.0..=pattern.seen.1).contains(n)) {
                    return pattern.learn_restart(outside, number);
                }
                let Ok(step) = i64::try_from(i128::from(number) - i128::from(before.number)) else { return };
                step
            }
        };
        let slot = self.slot(task_type, before.pattern, nth);
        let at = slot.steps.iter().position(|(reader, _)| *reader == before.reader).unwrap_or_else(|| {
            slot.steps.push((before.reader, Vec::new()));
            slot.steps.len() - 1
        });
        count(&mut slot.steps[at].1, step);
    }

    /// The number exists: nothing is read in its place.
    fn saw(&mut self, pattern: PatternId, number: u64, width: u8) {
        let pattern = &mut self.patterns[pattern as usize];
        pattern.width = pattern.width.max(width);
        pattern.seen = (pattern.seen.0.min(number), pattern.seen.1.max(number));
        pattern.restarts.retain(|(outside, ..)| *outside != number);
    }

    fn pattern(&mut self, text: &str) -> Option<PatternId> {
        if let Some(id) = self.by_text.get(text) {
            return Some(*id);
        }
        (self.patterns.len() < PATTERNS_MAX).then(|| {
            let text: Arc<str> = text.into();
            let id = self.patterns.len() as PatternId;
            self.by_text.insert(text.clone(), id);
            self.patterns.push(Pattern { text, width: 1, seen: (u64::MAX, 0), restarts: Vec::new() });
            id
        })
    }

    fn slot(&mut self, task_type: TypeId, pattern: PatternId, nth: u8) -> &mut Slot {
        let slots = &mut self.types.entry(task_type).or_default().slots;
        let at = slots.iter().position(|s| s.pattern == pattern && s.nth == nth).unwrap_or_else(|| {
            if slots.len() >= SLOTS_MAX {
                let least = (0..slots.len()).min_by(|a, b| slots[*a].reads.total_cmp(&slots[*b].reads));
                slots.remove(least.unwrap_or(0));
            }
            // Places of one pattern stand in the order in which a task reads them.
            let at = slots.partition_point(|s| (s.pattern, s.nth) < (pattern, nth));
            slots.insert(at, Slot { pattern, nth, reads: 0.0, steps: Vec::new() });
            at
        });
        &mut slots[at]
    }

    /// Everything, in a fixed order: for a snapshot.
    pub fn contents(&self) -> (&[Pattern], Vec<(TypeId, &Inputs)>) {
        let mut types: Vec<_> = self.types.iter().map(|(t, i)| (*t, i)).collect();
        types.sort_by_key(|(t, _)| *t);
        (&self.patterns, types)
    }

    /// From a snapshot. Returns `None` when a slot names a pattern that is not there.
    pub fn from_contents(patterns: Vec<Pattern>, types: Vec<(TypeId, Inputs)>) -> Option<Parts> {
        let known = |i: &Inputs| i.slots.iter().all(|s| (s.pattern as usize) < patterns.len());
        if !types.iter().all(|(_, inputs)| known(inputs)) {
            return None;
        }
        let by_text = patterns.iter().zip(0..).map(|(p, id)| (p.text.clone(), id)).collect();
        Some(Parts { patterns, by_text, types: types.into_iter().collect() })
    }
}

impl Pattern {
    /// The number that is read where counting straight on gives `straight`.
    fn restart(&self, straight: u64) -> u64 {
        let instead = self.restarts.iter().filter(|(outside, ..)| *outside == straight);
        instead.max_by_key(|(_, to, n)| (*n, u64::MAX - to)).map_or(straight, |(_, to, _)| *to)
    }

    fn learn_restart(&mut self, outside: u64, number: u64) {
        match self.restarts.iter_mut().find(|(o, to, _)| *o == outside && *to == number) {
            Some((_, _, n)) => *n = n.saturating_add(1),
            None => {
                if self.restarts.len() >= STEPS_MAX {
                    self.restarts.remove(0);
                }
                self.restarts.push((outside, number, 1));
            }
        }
    }
}

fn count(steps: &mut Vec<(i64, f64)>, step: i64) {
    if let Some((_, n)) = steps.iter_mut().find(|(s, _)| *s == step) {
        *n += 1.0;
        if *n > COUNT_KEPT {
            steps.iter_mut().for_each(|(_, n)| *n *= 0.5);
        }
        return;
    }
    if steps.len() >= STEPS_MAX {
        // The weakest loses one count for each newcomer and its place when it has none left.
        let weakest = (0..steps.len()).min_by(|a, b| steps[*a].1.total_cmp(&steps[*b].1)).unwrap_or(0);
        steps[weakest].1 -= 1.0;
        if steps[weakest].1 > 0.0 {
            return;
        }
        steps.remove(weakest);
    }
    steps.push((step, 1.0));
}

fn remember(last: &mut Vec<Last>, new: Last) {
    if let Some(at) = last.iter().position(|l| l.pattern == new.pattern) {
        last.remove(at);
    } else if last.len() >= LAST_MAX {
        last.remove(0);
    }
    last.push(new);
}

/// The pattern of a name, and its number with the digits it is padded to; `None` if the name does not hold
/// the entity as a whole word, or cannot be put together again.
fn abstracted(name: &str, entity: &str) -> Option<(String, Option<(u64, u8)>)> {
    if entity.is_empty() || name.contains([ENTITY, NUMBER]) {
        return None;
    }
    let word = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
    let at = name
        .match_indices(entity)
        .map(|(i, _)| i)
        .find(|i| word(name[..*i].chars().next_back()) && word(name[i + entity.len()..].chars().next()))?;
    let (before, rest) = (&name[..at], &name[at + entity.len()..]);
    let end = rest.rfind(|c: char| c.is_ascii_digit()).map_or(0, |i| i + 1);
    let start = rest[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |i| i + 1);
    let digits = &rest[start..end];
    match digits.parse::<u64>() {
        // 18 digits keep every number + step inside 64 bits.
        Ok(number) if digits.len() <= 18 => {
            let width = if digits.starts_with('0') { digits.len() as u8 } else { 1 };
            let text = format!("{before}{ENTITY}{}{NUMBER}{}", &rest[..start], &rest[end..]);
            Some((text, Some((number, width))))
        }
        _ => Some((format!("{before}{ENTITY}{rest}"), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: TypeId = TypeId(0);
    const COPY: TypeId = TypeId(1);

    fn objects(names: &[&str]) -> Vec<ObjectName> {
        names.iter().map(|n| ObjectName::new(*n)).collect()
    }

    fn foretold(parts: &Parts, entity: &str, t: TypeId, last: &[Last]) -> Vec<(String, f64)> {
        let mut all = Vec::new();
        parts.foretell(t, &mut last.to_vec(), |part, p| all.push((parts.name(entity, part).to_string(), p)));
        all
    }

    #[test]
    fn names_are_taken_apart_and_put_together_again() {
        let check = |name: &str, entity: &str, text: &str, number| {
            let got = abstracted(name, entity);
            assert_eq!(got, Some((text.to_string(), number)), "{name}");
        };
        check("v:vol-7/manifest.json", "vol-7", "v:\u{1}/manifest.json", None);
        check("v:vol7/c0010.img", "vol7", "v:\u{1}/c\u{2}.img", Some((10, 4)));
        check("v:vol7/c10.img", "vol7", "v:\u{1}/c\u{2}.img", Some((10, 1)));
        check("v:vol7/2024/c3", "vol7", "v:\u{1}/2024/c\u{2}", Some((3, 1)));
        assert_eq!(abstracted("v:vol70/manifest", "vol7"), None);
        assert_eq!(abstracted("v:other/manifest", "vol7"), None);
    }

    #[test]
    fn steps_depend_on_who_read_the_last_part_and_carry_over_to_other_entities() {
        let mut parts = Parts::default();
        for entity in ["a", "b"] {
            let mut last = Vec::new();
            for k in (0..10).step_by(2) {
                let name = |i: u32| format!("v:{entity}/c{i:04}");
                parts.learn(
                    entity,
                    CREATE,
                    &objects(&[&format!("v:{entity}/manifest"), &name(k)]),
                    &mut last,
                );
                parts.learn(entity, COPY, &objects(&[&name(k + 1)]), &mut last);
            }
        }
        let mut last = Vec::new();
        parts.learn("new", CREATE, &objects(&["v:new/c0100"]), &mut last);
        let copy = foretold(&parts, "new", COPY, &last);
        assert_eq!(copy[0].0, "v:new/c0101");
        assert!(copy[0].1 > 0.8, "{copy:?}");
        let create = foretold(&parts, "new", CREATE, &last);
        assert_eq!(create[0].0, "v:new/manifest");
    }

    #[test]
    fn a_number_that_starts_again_is_learned() {
        let mut parts = Parts::default();
        let mut last = Vec::new();
        let mut right = 0;
        for i in 0..60u64 {
            let name = format!("v:e/c{:02}", i % 12);
            let guess = foretold(&parts, "e", COPY, &last);
            right += u32::from(guess.iter().any(|g| g.0 == name));
            parts.learn("e", COPY, &objects(&[&name]), &mut last);
        }
        // All but the first two and the first start from the beginning.
        assert!(right >= 57, "{right} of 60");
    }

    #[test]
    fn several_parts_of_one_task_are_each_foretold() {
        let mut parts = Parts::default();
        let mut last = Vec::new();
        for k in (0..40).step_by(3) {
            let names: Vec<String> = (k..k + 3).map(|i| format!("v:e/c{i:03}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            parts.learn("e", COPY, &objects(&names), &mut last);
        }
        let next: Vec<String> = foretold(&parts, "e", COPY, &last).into_iter().map(|x| x.0).collect();
        assert_eq!(next, ["v:e/c042", "v:e/c043", "v:e/c044"]);
    }

    #[test]
    fn everything_stays_bounded_on_random_names() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut parts = Parts::default();
        let mut last = Vec::new();
        for _ in 0..20_000 {
            let name = format!("s:e/{}{}x{}", rng.alphabetic(), rng.u16(..), rng.u64(..));
            parts.learn("e", TypeId(rng.u16(..3)), &objects(&[&name, "s:e/fixed"]), &mut last);
        }
        assert!(parts.patterns.len() <= PATTERNS_MAX && last.len() <= LAST_MAX);
        for inputs in parts.types.values() {
            assert!(inputs.slots.len() <= SLOTS_MAX && inputs.tasks <= COUNT_KEPT);
        }
        assert!(foretold(&parts, "e", CREATE, &last).iter().any(|x| x.0 == "s:e/fixed"));
    }
}
