//! The wire types of `/v1`: what goes over the socket, as JSON.
//!
//! Rules for all of them: names instead of numbers for types, workers, caches and sources; times as seconds
//! since the Unix epoch (`_s`), spans with their unit in the name; optional fields are left out when empty;
//! unknown fields of requests are refused, so that a typing error is not taken for a default.

mod cache;
mod group;
mod moment;
mod predict;
mod task;
mod watch;
mod worker;

pub use cache::{Cache, CacheAnswer, CacheFilter, CacheOrder, CachedObject};
pub use group::{CatchUp, Group, GroupEdit, Overlap, Recurring, RecurringTask};
pub use moment::{Now, NowQuery, Played, QueueLine, Series, SeriesQuery, Transfers};
pub use predict::{
    CalibrationBin, ContextVoice, ExpectedTask, Explain, NextTask, PredictQuery, PredictedType, Prediction,
};
pub use task::{
    Edit, ErrorBody, Idle, Refusal, Retried, RetryFilter, Submit, Submitted, Task, TaskFilter, TaskUsage,
};
pub use watch::{Event, Health, HeatmapQuery, Savings, SavingsLine, Why, WhyCandidate, WhyLine};
pub use worker::{BestAt, ProfileLine, RunningTask, TypeChance, Worker};
