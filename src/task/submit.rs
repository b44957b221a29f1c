//! A submit, checked against its type: the task that comes of it.

use super::place::Places;
use super::spec::{Catalogue, TaskType};
use super::template::{Field, Scope};
use super::{BadObjectName, parse_object};
use crate::flow::{ObjectName, Place, TaskId, TypeId};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most objects that one task may read, and that it may write.
pub const OBJECTS_LIMIT: usize = 4_096;
/// Most tasks that one task may wait for.
pub const AFTER_LIMIT: usize = 256;
/// Longest key, bytes.
pub const KEY_LIMIT_BYTES: usize = 255;
/// Most bytes of a payload.
pub const PAYLOAD_LIMIT_BYTES: usize = 64 << 10;

/// Priority classes, 0 to 9; the higher class goes first.
pub type Priority = u8;

/// Highest priority.
pub const PRIORITY_LIMIT: Priority = 9;

/// What somebody asks for. It is kept on record for recurring tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Submit {
    /// Name of the type.
    pub task_type: String,
    /// What it is about.
    pub entity: Option<String>,
    /// Values of `{arg.NAME}`.
    pub args: BTreeMap<String, String>,
    /// Objects to read besides those of the type's template.
    pub inputs: Vec<String>,
    /// Its class; the type's when `None`.
    pub priority: Option<Priority>,
    /// Makes the submit idempotent: the same type and key give the same task.
    pub key: Option<String>,
    /// Tasks that must be done before it.
    pub after: Vec<TaskId>,
    /// No attempt starts before this.
    pub not_before: Option<Time>,
    /// A task that has not started by then fails.
    pub deadline: Option<Time>,
    /// The group that it belongs to.
    pub group: Option<String>,
    /// Which recurring task it is an occurrence of.
    pub recurring: Option<String>,
    /// Its inputs are asked for anew at their sources, whatever their consistency says.
    pub fresh: bool,
    /// Passed to the worker as it is.
    pub payload: Option<String>,
}

/// A task: what was asked for, with its objects worked out. It does not change any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its number.
    pub id: TaskId,
    /// Its type.
    pub task_type: TypeId,
    /// What it is about.
    pub entity: Option<Arc<str>>,
    /// Values of `{arg.NAME}`.
    pub args: BTreeMap<String, String>,
    /// What it reads.
    pub inputs: Vec<ObjectName>,
    /// What it publishes: name inside `out/`, and the object.
    pub outputs: Vec<(String, ObjectName)>,
    /// What it changes at its source.
    pub writes: Vec<ObjectName>,
    /// Cell and shard of its first input.
    pub place: Option<Place>,
    /// Its class.
    pub priority: Priority,
    /// Its key.
    pub key: Option<Arc<str>>,
    /// What must be done before it.
    pub after: Vec<TaskId>,
    /// No attempt starts before this.
    pub not_before: Option<Time>,
    /// A task that has not started by then fails.
    pub deadline: Option<Time>,
    /// The group that it belongs to.
    pub group: Option<Arc<str>>,
    /// Which recurring task it is an occurrence of.
    pub recurring: Option<Arc<str>>,
    /// Whether its inputs are asked for anew.
    pub fresh: bool,
    /// Passed to the worker as it is.
    pub payload: Option<String>,
    /// When it was submitted.
    pub submitted: Time,
}

/// Why a submit was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such type.
    #[error("unknown task type `{name}`; known: {known}")]
    UnknownType {
        /// The name asked for.
        name: String,
        /// The types there are.
        known: String,
    },
    /// An entity or argument that is not accepted.
    #[error("{what} `{value}` {why}")]
    BadValue {
        /// `entity`, or which argument.
        what: String,
        /// The value.
        value: String,
        /// What is wrong with it, completing the sentence.
        why: String,
    },
    /// An argument that the type does not declare.
    #[error("task type `{task_type}` has no argument `{name}`; accepted: {accepted}")]
    UnknownArgument {
        /// The type.
        task_type: String,
        /// The argument.
        name: String,
        /// Its arguments.
        accepted: String,
    },
    /// A template needs a value that the submit does not give.
    #[error("task type `{task_type}` needs {field}, and the submit does not give it")]
    MissingField {
        /// The type.
        task_type: String,
        /// The field.
        field: String,
    },
    /// An object's name is not one.
    #[error(transparent)]
    BadObject(#[from] BadObjectName),
    /// An object of a source that is not configured.
    #[error("object `{object}` is of an unknown source; known: {known}")]
    UnknownSource {
        /// The object.
        object: String,
        /// The sources there are.
        known: String,
    },
    /// Too many, or too long.
    #[error("{what} is {found}; accepted: up to {limit}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// How much is accepted.
        limit: usize,
    },
}

impl Submit {
    /// Works out what the submit means.
    ///
    /// # Errors
    /// [`Refused`] names the value and what is accepted.
    pub fn resolve(
        self,
        id: TaskId,
        now: Time,
        catalogue: &Catalogue,
        places: &Places,
    ) -> Result<Task, Refused> {
        let task_type = catalogue.find(&self.task_type).ok_or_else(|| Refused::UnknownType {
            name: cut(&self.task_type),
            known: list(catalogue.iter().map(|(_, t)| t.name.as_str())),
        })?;
        let spec = catalogue.get(task_type);
        self.check(spec)?;
        let objects = Objects { spec, submit: &self, places };
        let mut inputs = objects.expand(spec.inputs.iter())?;
        for name in &self.inputs {
            inputs.push(objects.known(parse_object(name)?)?);
        }
        limit("number of inputs", inputs.len(), OBJECTS_LIMIT)?;
        let writes = objects.expand(spec.writes.iter())?;
        let outputs = objects.outputs()?;
        let place = inputs.first().or(writes.first()).and_then(|o| places.of(o));
        Ok(Task {
            id,
            task_type,
            entity: self.entity.map(Arc::from),
            args: self.args,
            inputs,
            outputs,
            writes,
            place,
            priority: self.priority.unwrap_or(spec.priority),
            key: self.key.map(Arc::from),
            after: self.after,
            not_before: self.not_before,
            deadline: self.deadline,
            group: self.group.map(Arc::from),
            recurring: self.recurring.map(Arc::from),
            fresh: self.fresh,
            payload: self.payload,
            submitted: now,
        })
    }

    fn check(&self, spec: &TaskType) -> Result<(), Refused> {
        let bad = |what: String, value: &str, why| Refused::BadValue { what, value: cut(value), why };
        if let Some(entity) = &self.entity {
            spec.entity_pattern.check(entity).map_err(|why| bad("entity".into(), entity, why))?;
        }
        for (name, value) in &self.args {
            let pattern = spec.args.get(name).ok_or_else(|| Refused::UnknownArgument {
                task_type: spec.name.clone(),
                name: cut(name),
                accepted: list(spec.args.keys().map(String::as_str)),
            })?;
            pattern.check(value).map_err(|why| bad(format!("argument {name}"), value, why))?;
        }
        if let Some(p) = self.priority.filter(|p| *p > PRIORITY_LIMIT) {
            return Err(Refused::TooMuch { what: "priority", found: p.into(), limit: PRIORITY_LIMIT.into() });
        }
        if let Some(group) = self.group.as_ref().filter(|g| !super::is_name(g)) {
            let why = "is no name; accepted: letters, digits, `_`, `-` and `.`, beginning with a letter or digit, at most 64";
            return Err(bad("group".into(), group, why.into()));
        }
        if let (Some(start), Some(end)) = (self.not_before, self.deadline)
            && end < start
        {
            let why = "comes before the delay is over, so the task could never start".to_owned();
            return Err(Refused::BadValue {
                what: "the deadline".into(),
                value: end.as_s().to_string(),
                why,
            });
        }
        limit("number of tasks in `after`", self.after.len(), AFTER_LIMIT)?;
        limit("length of the key", self.key.as_ref().map_or(0, String::len), KEY_LIMIT_BYTES)?;
        limit("length of the payload", self.payload.as_ref().map_or(0, String::len), PAYLOAD_LIMIT_BYTES)
    }
}

/// The immutable part of a task as the record keeps it: names instead of indices, so that it can be read
/// after the configuration changed. Fields are only ever added, with a default.
#[derive(Serialize, Deserialize)]
struct Body<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entity: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "is_empty_map")]
    args: Cow<'a, BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    inputs: Cow<'a, [ObjectName]>,
    #[serde(default, skip_serializing_if = "is_empty")]
    outputs: Cow<'a, [(String, ObjectName)]>,
    #[serde(default, skip_serializing_if = "is_empty")]
    writes: Cow<'a, [ObjectName]>,
    #[serde(default, skip_serializing_if = "is_empty")]
    after: Cow<'a, [TaskId]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recurring: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fresh: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<Cow<'a, str>>,
}

#[allow(clippy::ptr_arg, reason = "serde hands over the field as it is")]
fn is_empty<T: Clone>(list: &Cow<'_, [T]>) -> bool {
    list.is_empty()
}

#[allow(clippy::ptr_arg, reason = "serde hands over the field as it is")]
fn is_empty_map(map: &Cow<'_, BTreeMap<String, String>>) -> bool {
    map.is_empty()
}

/// What the record keeps of a task beside its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Its number.
    pub id: TaskId,
    /// Its type.
    pub task_type: TypeId,
    /// Its class.
    pub priority: Priority,
    /// Its key.
    pub key: Option<Arc<str>>,
    /// When it was submitted.
    pub submitted: Time,
}

impl Task {
    /// The body that the record keeps: JSON.
    pub fn to_body(&self) -> Vec<u8> {
        let body = Body {
            entity: self.entity.clone(),
            args: Cow::Borrowed(&self.args),
            inputs: Cow::Borrowed(&self.inputs),
            outputs: Cow::Borrowed(&self.outputs),
            writes: Cow::Borrowed(&self.writes),
            after: Cow::Borrowed(&self.after),
            not_before: self.not_before,
            deadline: self.deadline,
            group: self.group.clone(),
            recurring: self.recurring.clone(),
            fresh: self.fresh,
            payload: self.payload.as_deref().map(Cow::Borrowed),
        };
        serde_json::to_vec(&body).expect("strings, numbers and maps with text keys always become JSON")
    }

    /// From the record.
    ///
    /// # Errors
    /// If the body is not what [`Task::to_body`] writes.
    pub fn from_body(row: Recorded, body: &[u8], places: &Places) -> Result<Task, serde_json::Error> {
        let body: Body = serde_json::from_slice(body)?;
        let Body { entity, args, inputs, outputs, writes, after, .. } = body;
        let Body { not_before, deadline, group, recurring, fresh, payload, .. } = body;
        let place = inputs.first().or(writes.first()).and_then(|o| places.of(o));
        let Recorded { id, task_type, priority, key, submitted } = row;
        Ok(Task {
            id,
            task_type,
            entity,
            args: args.into_owned(),
            inputs: inputs.into_owned(),
            outputs: outputs.into_owned(),
            writes: writes.into_owned(),
            place,
            priority,
            key,
            after: after.into_owned(),
            not_before,
            deadline,
            group,
            recurring,
            fresh,
            payload: payload.map(Cow::into_owned),
            submitted,
        })
    }
}

struct Objects<'a> {
    spec: &'a TaskType,
    submit: &'a Submit,
    places: &'a Places,
}

impl Objects<'_> {
    fn fill(&self, template: &super::Template) -> Result<String, Refused> {
        let scope = Scope {
            entity: self.submit.entity.as_deref(),
            args: Some(&self.submit.args),
            ..Scope::default()
        };
        template.expand(&scope).map_err(|field: Field| Refused::MissingField {
            task_type: self.spec.name.clone(),
            field: field.to_string(),
        })
    }

    fn expand<'t>(
        &self,
        templates: impl Iterator<Item = &'t super::Template>,
    ) -> Result<Vec<ObjectName>, Refused> {
        templates.map(|t| self.known(parse_object(&self.fill(t)?)?)).collect()
    }

    fn outputs(&self) -> Result<Vec<(String, ObjectName)>, Refused> {
        self.spec
            .outputs
            .iter()
            .map(|o| {
                let file = self.fill(&o.file)?;
                // The same rules as for an object's path: beneath `out/`, never outside it.
                parse_object(&format!("out:{file}"))?;
                Ok((file, self.known(parse_object(&self.fill(&o.object)?)?)?))
            })
            .collect()
    }

    fn known(&self, object: ObjectName) -> Result<ObjectName, Refused> {
        if self.places.source(&object).is_some() {
            return Ok(object);
        }
        Err(Refused::UnknownSource { object: cut(object.as_str()), known: list(self.places.source_names()) })
    }
}

/// The input objects of a task that nobody has submitted, as far as the entity alone gives them.
pub fn derived_inputs(spec: &TaskType, entity: &str, places: &Places) -> Vec<ObjectName> {
    derive(spec.inputs.iter(), spec, entity, places)
}

fn derive<'t>(
    templates: impl Iterator<Item = &'t super::Template>,
    spec: &TaskType,
    entity: &str,
    places: &Places,
) -> Vec<ObjectName> {
    if spec.entity_pattern.check(entity).is_err() {
        return Vec::new();
    }
    let scope = Scope { entity: Some(entity), ..Scope::default() };
    templates
        .filter(|t| t.derivable())
        .filter_map(|t| parse_object(&t.expand(&scope).ok()?).ok())
        .filter(|o| places.source(o).is_some())
        .collect()
}

fn limit(what: &'static str, found: usize, limit: usize) -> Result<(), Refused> {
    if found > limit { Err(Refused::TooMuch { what, found, limit }) } else { Ok(()) }
}

/// A value as an error shows it: printable and not longer than a line.
fn cut(value: &str) -> String {
    value.chars().take(120).collect::<String>().escape_debug().to_string()
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.take(21).collect();
    if names.is_empty() {
        return "none".into();
    }
    if names.len() == 21 {
        names[20] = "…";
    }
    names.join(", ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::flow::CellId;
    use crate::task::{Fields, SourcePlace, Template, ValuePattern};
    use crate::time::Span;

    pub(crate) fn sample_type(name: &str) -> TaskType {
        let object = |t: &str| Template::parse(t, Fields::Object).unwrap();
        TaskType {
            name: name.into(),
            argv: vec![Template::parse("cp", Fields::Command).unwrap()],
            env: BTreeMap::new(),
            inputs: vec![object("volumes:{entity}/manifest.json"), object("volumes:{entity}/data.img")],
            outputs: vec![crate::task::Output {
                file: object("copy.img"),
                object: object("copies:{entity}/copy.img"),
            }],
            writes: vec![object("copies:{entity}/copy.img")],
            entity_pattern: ValuePattern::default(),
            args: BTreeMap::from([("level".into(), ValuePattern::new("[0-9]").unwrap())]),
            time_limit: Span::from_secs(60),
            kill_grace: Span::from_secs(5),
            attempts: 3,
            backoff: crate::task::Backoff {
                first: Span::from_secs(1),
                factor: 2.0,
                limit: Span::from_secs(60),
            },
            retry_exit_codes: vec![],
            concurrency: None,
            rate: None,
            keys: crate::task::Keys::default(),
            priority: 5,
            input_mode: crate::task::InputMode::Auto,
            memory_bytes: 64 << 20,
        }
    }

    pub(crate) fn sample_places() -> Places {
        let source =
            |name: &str| SourcePlace { name: name.into(), cell: CellId(0), shard_by: None, shards: 8 };
        Places::new(vec![source("volumes"), source("copies")], vec!["nas".into()])
    }

    fn submit(entity: &str) -> Submit {
        Submit { task_type: "snapshot-copy".into(), entity: Some(entity.into()), ..Submit::default() }
    }

    fn resolve(s: Submit) -> Result<Task, Refused> {
        s.resolve(
            TaskId(1),
            Time::ZERO,
            &Catalogue::new(vec![sample_type("snapshot-copy")]),
            &sample_places(),
        )
    }

    #[test]
    fn works_out_the_objects_of_a_task() {
        let task = resolve(Submit { inputs: vec!["volumes:extra".into()], ..submit("vol-7") }).unwrap();
        let names: Vec<_> = task.inputs.iter().map(ObjectName::as_str).collect();
        assert_eq!(names, ["volumes:vol-7/manifest.json", "volumes:vol-7/data.img", "volumes:extra"]);
        assert_eq!(task.writes[0].as_str(), "copies:vol-7/copy.img");
        assert_eq!(task.outputs[0].0, "copy.img");
        assert!(task.place.is_some());
    }

    #[test]
    fn reads_back_from_the_record_as_it_was() {
        let task = resolve(Submit {
            payload: Some("{}".into()),
            fresh: true,
            group: Some("night".into()),
            deadline: Some(Time::from_us(9)),
            ..submit("vol-7")
        })
        .unwrap();
        let Task { id, task_type, priority, key, submitted, .. } = task.clone();
        let row = Recorded { id, task_type, priority, key, submitted };
        assert_eq!(Task::from_body(row, &task.to_body(), &sample_places()).unwrap(), task);
    }

    #[test]
    fn derives_the_same_objects_before_anybody_submits() {
        let task = resolve(submit("vol-7")).unwrap();
        assert_eq!(derived_inputs(&sample_type("snapshot-copy"), "vol-7", &sample_places()), task.inputs);
        assert!(derived_inputs(&sample_type("snapshot-copy"), "../x", &sample_places()).is_empty());
    }

    #[test]
    fn refusals_name_the_value_and_what_is_accepted() {
        let arg = |n: &str, v: &str| Submit { args: BTreeMap::from([(n.into(), v.into())]), ..submit("v") };
        for (s, part) in [
            (
                Submit { task_type: "nope".into(), ..submit("v") },
                "unknown task type `nope`; known: snapshot-copy",
            ),
            (submit("-rf"), "entity `-rf` begins with `-`"),
            (submit("a/../b"), "entity `a/../b` has a part"),
            (Submit { entity: None, ..submit("") }, "needs {entity}"),
            (arg("level", "x"), "argument level `x` does not match the pattern `[0-9]`"),
            (arg("depth", "1"), "has no argument `depth`; accepted: level"),
            (
                Submit { inputs: vec!["disk:x".into()], ..submit("v") },
                "unknown source; known: volumes, copies",
            ),
            (Submit { inputs: vec!["volumes:../x".into()], ..submit("v") }, "leaves its folder"),
            (Submit { priority: Some(10), ..submit("v") }, "priority is 10; accepted: up to 9"),
            (Submit { group: Some("a b".into()), ..submit("v") }, "group `a b` is no name"),
            (
                Submit {
                    not_before: Some(Time::from_us(2_000_000)),
                    deadline: Some(Time::from_us(1_000_000)),
                    ..submit("v")
                },
                "the deadline `1` comes before the delay is over",
            ),
            (Submit { after: vec![TaskId(1); 257], ..submit("v") }, "257; accepted: up to 256"),
        ] {
            let error = resolve(s).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
