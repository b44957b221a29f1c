//! The look ahead as bytes: flat, versioned, checksummed.
//!
//! `magic+version, types by name, chain, gaps, parts, rhythm, entities, CRC32C`, little-endian. Types stand by
//! name in a table at the head and by index below, so that a snapshot outlives a configuration in which types
//! have moved; what speaks of a type that is gone is left out. Tasks that have not ended are not written.

use super::chain::{Chain, Context, Counts, ORDER, Past};
use super::parts::{Inputs, Last, Parts, Pattern, Slot};
use super::{Entity, GAPS_WATCHED, Lookahead, OWN_MAX, Own, Settings};
use crate::flow::{Map, TypeId};
use crate::predict::arrival::{Arrivals, Gaps};
use crate::time::{Span, Time};
use std::collections::VecDeque;

/// First bytes, the last of them the version.
const MAGIC: [u8; 8] = *b"fslook\0\x01";
/// Stands for "no type".
const NONE: u16 = u16::MAX;

/// Why bytes are no snapshot of the look ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSnapshot {
    /// Another version, or something else altogether.
    #[error("not a snapshot of this version")]
    Version,
    /// Bytes have changed.
    #[error("checksum does not match")]
    Checksum,
    /// The checksum is right and the contents make no sense.
    #[error("contents are not well formed")]
    Malformed,
}

impl Lookahead {
    /// All that was learned, as bytes; `name` names a type.
    pub fn to_bytes<'a>(&self, name: impl Fn(TypeId) -> &'a str) -> Vec<u8> {
        let mut body = Writer { out: Vec::new(), types: Vec::new(), index: Map::default() };
        body.lookahead(self);
        let mut head = Writer { out: MAGIC.to_vec(), types: Vec::new(), index: Map::default() };
        head.len(body.types.len());
        for t in &body.types {
            head.text(name(*t));
        }
        let mut out = head.out;
        out.extend_from_slice(&body.out);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// What [`Lookahead::to_bytes`] wrote; `find` gives a name's type, or `None` if it is gone.
    ///
    /// # Errors
    /// If the bytes are of another version, damaged, or not well formed.
    pub fn from_bytes(
        settings: Settings,
        bytes: &[u8],
        find: impl Fn(&str) -> Option<TypeId>,
    ) -> Result<Lookahead, BadSnapshot> {
        if !bytes.starts_with(&MAGIC) {
            return Err(BadSnapshot::Version);
        }
        let (checked, crc) = bytes.split_last_chunk::<4>().ok_or(BadSnapshot::Version)?;
        if crc32c::crc32c(checked) != u32::from_le_bytes(*crc) {
            return Err(BadSnapshot::Checksum);
        }
        let mut r = Reader { rest: &checked[MAGIC.len()..], types: Vec::new() };
        r.lookahead(settings, find).filter(|_| r.rest.is_empty()).ok_or(BadSnapshot::Malformed)
    }
}

struct Writer {
    out: Vec<u8>,
    types: Vec<TypeId>,
    index: Map<TypeId, u16>,
}

impl Writer {
    fn lookahead(&mut self, l: &Lookahead) {
        let contexts = l.chain.contexts();
        self.len(contexts.len());
        for ((order, past), counts) in contexts {
            self.out.push(*order);
            self.past(past);
            self.counts(counts);
        }
        let (all, types) = l.arrivals.evidence();
        self.gaps(all);
        self.list(&types, |w, (t, gaps)| {
            w.task_type(Some(*t));
            w.gaps(*gaps);
        });
        self.parts(&l.parts);
        self.len(l.gaps_us.len());
        l.gaps_us.iter().for_each(|g| self.u64(*g));
        let mut rhythm: Vec<_> = l.rhythm.iter().collect();
        rhythm.sort_by_key(|(t, _)| **t);
        self.list(&rhythm, |w, (t, (last, gaps))| {
            w.task_type(Some(**t));
            w.u64(last.as_us());
            w.gaps(*gaps);
        });
        let mut entities: Vec<_> = l.entities.iter().filter(|(_, e)| !e.is_new()).collect();
        entities.sort_by_key(|(name, _)| (*name).clone());
        self.list(&entities, |w, (name, e)| w.entity(name, e));
    }

    fn entity(&mut self, name: &str, e: &Entity) {
        self.text(name);
        self.past(&e.past);
        self.u64(e.submitted.as_us());
        self.list(&e.own, |w, own| {
            w.task_type(own.after);
            w.counts(&own.next);
            w.gaps(own.gaps);
        });
        self.list(&e.last, |w, last| {
            w.u32(last.pattern);
            w.u64(last.number);
            w.task_type(Some(last.reader));
        });
    }

    fn parts(&mut self, parts: &Parts) {
        let (patterns, types) = parts.contents();
        self.list(patterns, |w, p| {
            w.text(&p.text);
            w.out.push(p.width);
            w.u64(p.seen.0);
            w.u64(p.seen.1);
            w.list(&p.restarts, |w, (outside, number, n)| {
                w.u64(*outside);
                w.u64(*number);
                w.u32(*n);
            });
        });
        self.list(&types, |w, (t, inputs)| {
            w.task_type(Some(*t));
            w.f64(inputs.tasks);
            w.list(&inputs.slots, |w, slot| {
                w.u32(slot.pattern);
                w.out.push(slot.nth);
                w.f64(slot.reads);
                w.list(&slot.steps, |w, (reader, steps)| {
                    w.task_type(Some(*reader));
                    w.list(steps, |w, (step, n)| {
                        w.u64(*step as u64);
                        w.f64(*n);
                    });
                });
            });
        });
    }

    fn list<T>(&mut self, items: &[T], each: impl Fn(&mut Writer, &T)) {
        self.len(items.len());
        items.iter().for_each(|item| each(self, item));
    }
    fn past(&mut self, past: &Past) {
        past.iter().for_each(|t| self.task_type(*t));
    }
    fn counts(&mut self, counts: &Counts) {
        self.list(&counts.types, |w, (t, n)| {
            w.task_type(Some(*t));
            w.u32(*n);
        });
    }
    fn gaps(&mut self, gaps: Gaps) {
        self.f64(gaps.n);
        self.f64(gaps.sum_s);
    }
    fn task_type(&mut self, t: Option<TypeId>) {
        let index = t.map_or(NONE, |t| {
            *self.index.entry(t).or_insert_with(|| {
                self.types.push(t);
                (self.types.len() - 1) as u16
            })
        });
        self.out.extend_from_slice(&index.to_le_bytes());
    }
    fn text(&mut self, text: &str) {
        self.len(text.len());
        self.out.extend_from_slice(text.as_bytes());
    }
    fn len(&mut self, n: usize) {
        self.u32(u32::try_from(n).expect("every table is bounded far below 2^32"));
    }
    fn u32(&mut self, n: u32) {
        self.out.extend_from_slice(&n.to_le_bytes());
    }
    fn u64(&mut self, n: u64) {
        self.out.extend_from_slice(&n.to_le_bytes());
    }
    fn f64(&mut self, x: f64) {
        self.u64(x.to_bits());
    }
}

/// Reads what [`Writer`] wrote; every step is `None` where the bytes end or make no sense.
struct Reader<'a> {
    rest: &'a [u8],
    /// By index in the file: the type, or `None` if it is gone.
    types: Vec<Option<TypeId>>,
}

/// A type that may be gone: `Some(None)` is "none", `None` is "gone".
type Found = Option<Option<TypeId>>;

impl Reader<'_> {
    fn lookahead(&mut self, settings: Settings, find: impl Fn(&str) -> Option<TypeId>) -> Option<Lookahead> {
        for _ in 0..self.len()? {
            let name = self.text()?;
            self.types.push(find(&name));
        }
        let mut l = Lookahead::new(settings);
        let contexts = self.list(|r| Some((r.u8()?, r.past()?, r.counts()?)))?;
        if contexts.iter().any(|c| usize::from(c.0) > ORDER) {
            return None;
        }
        let known = contexts.into_iter().filter_map(|(order, past, counts)| Some(((order, past?), counts)));
        l.chain = Chain::from_contexts(known.collect::<Vec<(Context, Counts)>>());
        let all = self.gaps()?;
        let types = self.list(|r| Some((r.known()?, r.gaps()?)))?;
        l.arrivals = Arrivals::from_evidence(all, types.into_iter().filter_map(|(t, g)| Some((t?, g))));
        l.parts = self.parts()?;
        let gaps_us = self.list(Reader::u64)?;
        for gap in gaps_us.into_iter().take(GAPS_WATCHED) {
            l.watch(Span::from_us(gap));
        }
        let rhythm = self.list(|r| Some((r.known()?, Time::from_us(r.u64()?), r.gaps()?)))?;
        l.rhythm = rhythm.into_iter().filter_map(|(t, at, gaps)| Some((t?, (at, gaps)))).collect();
        let entities = self.list(Reader::entity)?;
        for (name, e) in entities.into_iter().filter_map(|(name, e)| Some((name, e?))) {
            if let Some(last) = e.past[0] {
                l.arrivals.opened(last, e.submitted);
            }
            l.entities.insert(name.as_str().into(), e);
        }
        l.forget_the_silent("");
        Some(l)
    }

    fn entity(&mut self) -> Option<(String, Option<Entity>)> {
        let name = self.text()?;
        let past = self.past()?;
        let submitted = Time::from_us(self.u64()?);
        let own = self.list(|r| Some((r.known()?, r.counts()?, r.gaps()?)))?;
        let last = self.list(|r| Some((r.u32()?, r.u64()?, r.known()?)))?;
        let own = own.into_iter().filter_map(|(t, next, gaps)| Some(Own { after: Some(t?), next, gaps }));
        let last = last
            .into_iter()
            .filter_map(|(pattern, number, t)| Some(Last { pattern, number, reader: t? }))
            .take(super::parts::LAST_MAX);
        let e = past.filter(|p| p[0].is_some()).map(|past| Entity {
            past,
            submitted,
            own: own.take(OWN_MAX).collect(),
            last: last.collect(),
            pending: VecDeque::new(),
        });
        Some((name, e))
    }

    fn parts(&mut self) -> Option<Parts> {
        let patterns = self.list(|r| {
            let text = r.text()?.into();
            let (width, seen) = (r.u8()?, (r.u64()?, r.u64()?));
            let restarts = r.list(|r| Some((r.u64()?, r.u64()?, r.u32()?)))?;
            Some(Pattern { text, width, seen, restarts })
        })?;
        let types = self.list(|r| {
            let (t, tasks) = (r.known()?, r.f64()?);
            let slots = r.list(|r| {
                let (pattern, nth, reads) = (r.u32()?, r.u8()?, r.f64()?);
                let steps = r.list(|r| Some((r.known()?, r.list(|r| Some((r.u64()? as i64, r.f64()?)))?)))?;
                let steps = steps.into_iter().filter_map(|(t, s)| Some((t?, s))).collect();
                Some(Slot { pattern, nth, reads, steps })
            })?;
            Some((t, Inputs { tasks, slots }))
        })?;
        Parts::from_contents(patterns, types.into_iter().filter_map(|(t, i)| Some((t?, i))).collect())
    }

    fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let n = self.len()?;
        // No item is empty: a length that the rest cannot hold is refused before memory is taken for it.
        if n > self.rest.len() {
            return None;
        }
        (0..n).map(|_| each(self)).collect()
    }
    /// A past, or `None` inside if one of its types is gone.
    fn past(&mut self) -> Option<Option<Past>> {
        let mut past = [None; ORDER];
        let mut whole = true;
        for t in &mut past {
            match self.task_type()? {
                Some(found) => *t = found,
                None => whole = false,
            }
        }
        Some(whole.then_some(past))
    }
    fn counts(&mut self) -> Option<Counts> {
        let types = self.list(|r| Some((r.known()?, r.u32()?)))?;
        let types: Vec<_> = types.into_iter().filter_map(|(t, n)| Some((t?, n.min(1 << 16)))).collect();
        let total = types.iter().map(|(_, n)| n).sum();
        Some(Counts { types, total })
    }
    fn gaps(&mut self) -> Option<Gaps> {
        Some(Gaps { n: self.f64()?, sum_s: self.f64()? })
    }
    /// A type that must be one: `None` inside if it is gone.
    fn known(&mut self) -> Option<Option<TypeId>> {
        Some(self.task_type()?.flatten())
    }
    fn task_type(&mut self) -> Option<Found> {
        match self.u16()? {
            NONE => Some(Some(None)),
            i => Some(self.types.get(usize::from(i))?.map(Some)),
        }
    }
    fn text(&mut self) -> Option<String> {
        let n = self.len()?;
        let (text, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        String::from_utf8(text.to_vec()).ok()
    }
    fn len(&mut self) -> Option<usize> {
        usize::try_from(self.u32()?).ok()
    }
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|b| b[0])
    }
    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
    /// A finite number.
    fn f64(&mut self) -> Option<f64> {
        self.u64().map(f64::from_bits).filter(|x| x.is_finite())
    }
}
