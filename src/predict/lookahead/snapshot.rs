//! The look ahead as bytes: a magic with a version, JSON, a CRC32C.

use super::chain::{Chain, Counts, Past};
use super::{Arrivals, Entity, Lookahead, Rhythm, Settings};
use crate::flow::TypeId;
use crate::predict::arrival::Gaps;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"fslook\0\x01";

/// Why a snapshot was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSnapshot {
    /// Too short, or of another version.
    #[error("it is no snapshot of this version")]
    Foreign,
    /// Its bytes have changed.
    #[error("its checksum is wrong")]
    Damaged,
    /// Its content makes no sense.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

type OneCount = (Vec<(TypeId, u32)>, u32);

#[derive(Serialize, Deserialize)]
struct Flat {
    chain: Vec<(u8, Past, OneCount)>,
    all: Gaps,
    after: Vec<(TypeId, Gaps)>,
    /// In their order of silence.
    entities: Vec<FlatEntity>,
    recent_gaps: Vec<f64>,
    next_gap: usize,
    median_gap_s: f64,
    rhythm: Vec<Rhythm>,
}

#[derive(Serialize, Deserialize)]
struct FlatEntity {
    name: Arc<str>,
    past: Past,
    since: Time,
    own: Vec<(TypeId, OneCount)>,
    gaps: Gaps,
}

fn flat(c: &Counts) -> OneCount {
    (c.types.clone(), c.total)
}

fn counts((types, total): OneCount) -> Counts {
    Counts { types, total }
}

impl Lookahead {
    /// All that was learned. Tasks submitted and not ended are left out: the queue has them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (all, after) = self.arrivals.evidence();
        let flat = Flat {
            chain: self.chain.contexts().into_iter().map(|((n, past), c)| (*n, *past, flat(c))).collect(),
            all,
            after,
            entities: self
                .order
                .iter()
                .map(|(_, name)| {
                    let e = &self.entities[name];
                    let own = e.own.iter().map(|(t, c)| (*t, flat(c))).collect();
                    FlatEntity { name: name.clone(), past: e.past, since: e.since, own, gaps: e.gaps }
                })
                .collect(),
            recent_gaps: self.recent_gaps.clone(),
            next_gap: self.next_gap,
            median_gap_s: self.median_gap_s,
            rhythm: self.rhythm.iter().map(|(t, (g, at))| Rhythm(*t, *g, *at)).collect(),
        };
        let mut out = MAGIC.to_vec();
        serde_json::to_writer(&mut out, &flat).expect("finite numbers and texts always become JSON");
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// From [`Lookahead::to_bytes`].
    ///
    /// # Errors
    /// [`BadSnapshot`].
    pub fn from_bytes(settings: Settings, bytes: &[u8]) -> Result<Lookahead, BadSnapshot> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(BadSnapshot::Foreign)?;
        let json = body.strip_prefix(&MAGIC).ok_or(BadSnapshot::Foreign)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(BadSnapshot::Damaged);
        }
        let f: Flat = serde_json::from_slice(json).map_err(|e| BadSnapshot::Unreadable(e.to_string()))?;
        let mut l = Lookahead::new(settings);
        l.chain = Chain::from_contexts(f.chain.into_iter().map(|(n, past, c)| ((n, past), counts(c))));
        l.arrivals = Arrivals::from_evidence(f.all, f.after);
        for e in f.entities {
            if let Some(last) = e.past[0] {
                l.arrivals.opened(last, e.since);
            }
            let own = e.own.into_iter().map(|(t, c)| (t, counts(c))).collect();
            let (past, since, gaps) = (e.past, e.since, e.gaps);
            let turn = l.entity(&e.name).turn;
            l.entities.insert(e.name, Entity { past, since, own, gaps, pending: vec![], turn });
        }
        (l.recent_gaps, l.next_gap, l.median_gap_s) = (f.recent_gaps, f.next_gap, f.median_gap_s);
        l.rhythm = f.rhythm.into_iter().map(|Rhythm(t, g, at)| (t, (g, at))).collect();
        Ok(l)
    }
}
