//! `[record]`: the durable record of tasks, and how long what is finished is kept.

use super::kind::{BytesIn, IntegerIn, OneOf, SpanIn};
use super::reader::Section;
use crate::time::Span;

/// How the record is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When a submit is acknowledged. Default [`Durability::Sync`].
    pub durability: Durability,
    /// How long finished tasks stay listed, 0 s to 10 years (3,650 d). Default 30 d.
    pub keep_finished: Span,
    /// Most bytes of finished tasks, 1 MiB to 1 TiB. Default 1 GiB. The oldest go first.
    pub keep_finished_bytes: u64,
    /// Most finished tasks, 0 to 10⁹. Default 1,000,000. The oldest go first.
    pub keep_finished_count: u64,
    /// How long logs of finished tasks are kept, 0 s to 10 years. Default 7 d.
    pub keep_logs: Span,
    /// Most bytes of logs, 1 MiB to 16 TiB. Default 1 GiB. The oldest go first.
    pub keep_logs_bytes: u64,
    /// Most bytes of one attempt's log, 1 KiB to 1 GiB; the middle is dropped. Default 1 MiB.
    pub log_cap_bytes: u64,
    /// How long the work folder of a done task is kept, 0 s to 10 years. Default 0 s.
    pub keep_work: Span,
    /// The same for a task that failed, where somebody may want to look. Default 1 d.
    pub keep_failed_work: Span,
    /// Most bytes of work folders that are kept, 0 to 16 TiB. Default 4 GiB. The oldest go first.
    pub keep_work_bytes: u64,
}

/// When a submit is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk.
    Sync,
    /// At once; synced every second. A power cut loses up to that second.
    Interval,
}

const DURABILITIES: &[(&str, Durability)] = &[("sync", Durability::Sync), ("interval", Durability::Interval)];

const TEN_YEARS: Span = days(3_650);

const fn days(n: u64) -> Span {
    Span::from_secs(n * 86_400)
}

pub(super) fn read(mut s: Section<'_>) -> Record {
    let age = || SpanIn(Span::ZERO, TEN_YEARS);
    let record = Record {
        durability: s.read("durability", OneOf(DURABILITIES)).unwrap_or(Durability::Sync),
        keep_finished: s.read("keep_finished", age()).unwrap_or(days(30)),
        keep_finished_bytes: s.read("keep_finished_bytes", BytesIn(1 << 20, 1 << 40)).unwrap_or(1 << 30),
        keep_finished_count: s
            .read("keep_finished_count", IntegerIn(0u64, 1_000_000_000, "tasks"))
            .unwrap_or(1_000_000),
        keep_logs: s.read("keep_logs", age()).unwrap_or(days(7)),
        keep_logs_bytes: s.read("keep_logs_bytes", BytesIn(1 << 20, 16 << 40)).unwrap_or(1 << 30),
        log_cap_bytes: s.read("log_cap", BytesIn(1 << 10, 1 << 30)).unwrap_or(1 << 20),
        keep_work: s.read("keep_work", age()).unwrap_or(Span::ZERO),
        keep_failed_work: s.read("keep_failed_work", age()).unwrap_or(days(1)),
        keep_work_bytes: s.read("keep_work_bytes", BytesIn(0, 16 << 40)).unwrap_or(4 << 30),
    };
    s.finish();
    record
}
