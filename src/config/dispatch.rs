//! `[dispatch]`: which task goes to which worker, when.

use super::kind::{BytesIn, IntegerIn, NumberIn, OneOf, SpanIn};
use super::reader::Section;
use crate::time::Span;

/// How tasks are placed.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// What decides between workers. Default [`Policy::Affinity`].
    pub policy: Policy,
    /// After waiting for so long a task counts double, 1 s to 1 d. Default 1 min.
    pub ageing: Span,
    /// Most unfinished tasks; a submit beyond is refused, 1 to 10⁸. Default 2,000,000.
    pub max_queued: u64,
    /// Tasks for each slot that the plan looks ahead, 1 to 64. Default 4.
    pub plan_depth: u32,
    /// Longest wait of a ready task for a clearly better worker, 0 s to 1 h. 0 s never waits. Default 10 s.
    pub late_binding: Span,
    /// Share of placements that measure a worker about which little is known, 0 to 0.5. Default 0.02.
    pub exploration: f64,
    /// Most running tasks that read from one cell, 1 to 100,000. Default no limit.
    pub per_cell: Option<u32>,
    /// Most running tasks that read from one shard of a cell, 1 to 100,000. Default no limit.
    pub per_shard: Option<u32>,
    /// Memory that running tasks may be expected to need together, 1 MiB to 1 PiB. Default no limit: what
    /// workers say in `memory_max` counts.
    pub memory_bytes: Option<u64>,
    /// Seed of the policy `random` and of exploration. Default 1.
    pub seed: u64,
}

/// What decides between workers. The last three are the baselines that prove the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Affinity × (1 − heat) × locality, with ageing.
    Affinity,
    /// The coolest worker.
    Heat,
    /// Any free worker.
    Random,
    /// The oldest task, the first free worker.
    Fifo,
}

const POLICIES: &[(&str, Policy)] = &[
    ("affinity", Policy::Affinity),
    ("heat", Policy::Heat),
    ("random", Policy::Random),
    ("fifo", Policy::Fifo),
];

pub(super) fn read(mut s: Section<'_>) -> Dispatch {
    let tasks = || IntegerIn(1u32, 100_000, "tasks");
    let dispatch = Dispatch {
        policy: s.read("policy", OneOf(POLICIES)).unwrap_or(Policy::Affinity),
        ageing: s
            .read("ageing", SpanIn(Span::from_secs(1), Span::from_secs(86_400)))
            .unwrap_or(Span::from_secs(60)),
        max_queued: s.read("max_queued", IntegerIn(1u64, 100_000_000, "tasks")).unwrap_or(2_000_000),
        plan_depth: s.read("plan_depth", IntegerIn(1u32, 64, "tasks for each slot")).unwrap_or(4),
        late_binding: s
            .read("late_binding", SpanIn(Span::ZERO, Span::from_secs(3_600)))
            .unwrap_or(Span::from_secs(10)),
        exploration: s.read("exploration", NumberIn::up_to(0.5)).unwrap_or(0.02),
        per_cell: s.read("per_cell", tasks()),
        per_shard: s.read("per_shard", tasks()),
        memory_bytes: s.read("memory", BytesIn(1 << 20, 1 << 50)),
        seed: s.read("seed", IntegerIn(0u64, i64::MAX as u64, "")).unwrap_or(1),
    };
    s.finish();
    dispatch
}
