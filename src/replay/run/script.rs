//! A trace as a script: what is submitted when, how long it takes, how large its objects are.

use crate::flow::{CellId, Map, ObjectName};
use crate::replay::trace::Trace;
use crate::task::{Backoff, Catalogue, InputMode, Places, SourcePlace, Submit, Task, TaskType, ValuePattern};
use crate::task::{OBJECTS_LIMIT, parse_object};
use crate::time::{Span, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The trace begins so long after the house: actors have told each other who they are by then.
pub const PROLOGUE: Span = Span::from_ms(100);
/// The name of the one source that all objects of a trace come from.
pub const SOURCE: &str = "trace";

/// What a trace asks for.
pub struct Script {
    /// What is submitted at which time; rows of the same time come in one request.
    pub submits: Vec<(Time, Vec<Submit>)>,
    /// How many there are.
    pub tasks: usize,
    /// How many of them have no duration in the trace, and take no time here.
    pub timeless: usize,
    /// Bytes of all objects, each once, by first-seen size.
    pub footprint_bytes: u64,
    /// The trace's types.
    pub catalogue: Arc<Catalogue>,
    /// The one source.
    pub places: Arc<Places>,
    /// Workers of one slot each.
    pub workers: u32,
    durations: Vec<Span>,
    bytes: Map<ObjectName, u64>,
}

impl Script {
    /// From a trace, for so many workers.
    pub fn new(trace: &Trace, workers: u32) -> Script {
        let places = Places::new(
            vec![SourcePlace { name: SOURCE.into(), cell: CellId(0), shard_by: None, shards: 1 }],
            vec!["cell".into()],
        );
        let objects: Vec<ObjectName> = trace.objects.iter().enumerate().map(|(i, n)| object(i, n)).collect();
        let pattern = ValuePattern::new(".*").expect("a constant expression");
        let mut bytes = Map::default();
        let mut submits: Vec<(Time, Vec<Submit>)> = Vec::new();
        let mut durations = Vec::with_capacity(trace.rows.len());
        for (i, row) in trace.rows.iter().enumerate() {
            durations.push(row.duration.unwrap_or(Span::ZERO));
            let mut inputs: Vec<String> = Vec::new();
            for read in trace.reads_of(row) {
                let name = &objects[read.object as usize];
                bytes.entry(name.clone()).or_insert(read.bytes);
                if inputs.len() < OBJECTS_LIMIT && !inputs.iter().any(|o| o == name.as_str()) {
                    inputs.push(name.as_str().to_owned());
                }
            }
            let submit = Submit {
                task_type: trace.types[usize::from(row.task_type)].clone(),
                entity: row.entity.map(|e| entity(e, &trace.entities[e as usize], &pattern)),
                inputs,
                // The way back from a task to its row.
                payload: Some(i.to_string()),
                ..Submit::default()
            };
            let at = row.time + PROLOGUE;
            match submits.last_mut().filter(|(t, _)| *t == at) {
                Some((_, together)) => together.push(submit),
                None => submits.push((at, vec![submit])),
            }
        }
        Script {
            submits,
            tasks: trace.rows.len(),
            timeless: trace.rows.iter().filter(|r| r.duration.is_none()).count(),
            footprint_bytes: bytes.values().sum(),
            catalogue: Arc::new(Catalogue::new(trace.types.iter().map(|n| task_type(n, &pattern)).collect())),
            places: Arc::new(places),
            workers,
            durations,
            bytes,
        }
    }

    /// How long a task takes once its data is there.
    pub fn duration(&self, task: &Task) -> Span {
        let row = task.payload.as_ref().and_then(|p| p.parse::<usize>().ok());
        row.and_then(|r| self.durations.get(r)).copied().unwrap_or(Span::ZERO)
    }

    /// An object's size.
    pub fn bytes_of(&self, object: &ObjectName) -> u64 {
        self.bytes.get(object).copied().unwrap_or(0)
    }
}

/// An object's name; one that no source could have is replaced by its number.
fn object(i: usize, name: &str) -> ObjectName {
    parse_object(&format!("{SOURCE}:{name}"))
        .unwrap_or_else(|_| ObjectName::new(format!("{SOURCE}:object-{i}")))
}

/// An entity's name; one that no submit may carry is replaced by its number.
fn entity(i: u32, name: &str, pattern: &ValuePattern) -> String {
    if pattern.check(name).is_ok() { name.to_owned() } else { format!("entity-{i}") }
}

fn task_type(name: &str, pattern: &ValuePattern) -> TaskType {
    TaskType {
        name: name.to_owned(),
        argv: vec![],
        env: BTreeMap::new(),
        inputs: vec![],
        outputs: vec![],
        writes: vec![],
        entity_pattern: pattern.clone(),
        args: BTreeMap::new(),
        time_limit: Span::MAX,
        kill_grace: Span::from_secs(5),
        attempts: 1,
        backoff: Backoff { first: Span::from_secs(1), factor: 2.0, limit: Span::from_secs(60) },
        retry_exit_codes: vec![],
        concurrency: None,
        rate: None,
        keys: crate::task::Keys::default(),
        priority: 5,
        input_mode: InputMode::Auto,
        memory_bytes: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn rows_of_one_time_are_one_request_and_odd_names_get_a_number() {
        let text = "time_s,task_type,entity,duration_s,objects\n\
                    1,copy,-v,2,a:10;a:10;../x:5\n1,copy,w,,a:99\n2,verify,w,1,\n";
        let trace = Trace::parse(text.as_bytes(), Path::new("t.csv")).unwrap();
        let s = Script::new(&trace, 2);
        assert_eq!(s.submits.len(), 2);
        let first = &s.submits[0].1[0];
        assert_eq!(first.entity.as_deref(), Some("entity-0"));
        assert_eq!(first.inputs, ["trace:a", "trace:object-1"]);
        assert_eq!((s.tasks, s.timeless, s.footprint_bytes), (3, 1, 15), "first-seen sizes count");
    }
}
