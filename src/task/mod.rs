//! What a task is: its type, the templates that derive its objects, its life cycle.
//!
//! This room decides nothing about *when* or *where*; it says what a submit means. A submit is checked
//! against its type here, at the boundary, so that no core has to fail later.

mod life;
mod object;
mod place;
mod recurring;
mod spec;
mod submit;
mod template;

pub use life::{IllegalMove, Life, State, WaitingFor};
pub use object::{BadObjectName, parse_object};
pub use place::{Places, SourcePlace};
pub use recurring::{BadSchedule, CatchUp, Overlap, Recurring};
pub use spec::{
    Backoff, Catalogue, InputMode, Keys, Output, Rate, TaskType, ValuePattern, is_argument_name, is_name,
};
#[cfg(test)]
pub(crate) use submit::tests::{sample_places, sample_type};
pub use submit::{OBJECTS_LIMIT, PRIORITY_LIMIT, Priority, Recorded, Refused, Submit, Task, derived_inputs};
pub use template::{BadTemplate, Field, Fields, Scope, Template};
