//! One heat drives everybody: a cell is heated, and work, staging and forecasts move away from it.
//!
//! The cores are those of the daemon, set up from a configuration as the daemon does it; only actors and clocks
//! are left out.

use super::setup::{dispatch_settings, monitor_settings, staging, worker_spec};
use crate::config::{Config, Surroundings};
use crate::dispatch::{Action, Dispatch};
use crate::flow::{CacheId, CellId, Expected, Heat, ObjectName, Place, SourceId, TypeId, WorkerId};
use crate::monitor::{Monitor, Transfer};
use crate::predict::{Predict, Subject};
use crate::prefetch::agenda::{self, Agenda, Derived};
use crate::task::Submit;
use crate::time::{Span, Time};
use std::sync::Arc;

const CONFIG: &str = r#"
[cell.left]
net_per_s = "1MiB"
io_per_s = "1MiB"
[cell.right]
net_per_s = "1MiB"
io_per_s = "1MiB"
[source.left-volumes]
kind = "file"
path = "/left"
cell = "left"
[source.right-volumes]
kind = "file"
path = "/right"
cell = "right"
[cache.ssd]
dir = "/ssd"
[worker.at-left]
slots = 8
near = ["left"]
[worker.at-right]
slots = 8
near = ["right"]
[type.copy]
argv = ["/bin/true"]
inputs = ["left-volumes:{entity}"]
"#;
const LEFT: CellId = CellId(0);

fn config() -> Config {
    Config::parse(CONFIG, None, &Surroundings::from_env(|_| None, 2)).unwrap()
}

fn at(s: u64) -> Time {
    Time::from_us(1_000_000_000 + s * 1_000_000)
}

/// After a minute in which the left cell gave all it has, or nothing.
fn heat(config: &Config, busy: bool) -> Heat {
    let mut monitor = Monitor::new(monitor_settings(config)).unwrap();
    for s in 0..60 {
        if busy {
            monitor.transfer(&Transfer {
                source: SourceId(0),
                place: Place { cell: LEFT, shard: 0 },
                bytes: 1 << 20,
                started: at(s),
                ended: at(s + 1),
                first_byte: None,
                failed: false,
            });
        }
        monitor.round(at(s + 1), Span::from_ms(1));
    }
    monitor.heat(at(60))
}

/// Who gets the next few tasks.
fn placed(config: &Config, heat: Heat) -> Vec<WorkerId> {
    let workers = config.workers.iter().enumerate().map(|(i, w)| worker_spec(i, w)).collect();
    let (catalogue, places) = (Arc::new(config.catalogue()), Arc::new(config.places()));
    let mut dispatch = Dispatch::new(dispatch_settings(&config.dispatch), catalogue, places, workers, 1);
    dispatch.heated(heat);
    let submit =
        |i: usize| Submit { task_type: "copy".into(), entity: Some(format!("vol-{i}")), ..Submit::default() };
    let (_, step) = dispatch.submit(at(61), (0..4).map(submit).collect());
    let to = |action: &Action| match action {
        Action::Assign { worker, .. } => Some(*worker),
        _ => None,
    };
    step.actions.iter().filter_map(to).collect()
}

/// Which of two expected objects, one in each cell, are staged.
fn staged(config: &Config, heat: Heat) -> Vec<String> {
    let settings = agenda::Settings { control_share: 0.0, ..staging(&config.staging) };
    let mut agenda = Agenda::new(settings, Arc::new(config.places()), Arc::new(config.catalogue()));
    agenda.heated(heat);
    let derived = |object: &str| Derived {
        object: ObjectName::new(object),
        worker: WorkerId(1),
        cache: CacheId(0),
        expected: Expected { entity: "vol-1".into(), task_type: TypeId(0), p: 0.9, due: at(70), depth: 1 },
    };
    let both = vec![derived("left-volumes:vol-1"), derived("right-volumes:vol-1")];
    agenda.foreseen(&"vol-1".into(), both, at(61));
    let mut actions = Vec::new();
    agenda.attend(at(61), &mut actions);
    let stage = |action: &agenda::Action| match action {
        agenda::Action::Stage { key, .. } => Some(key.object.to_string()),
        _ => None,
    };
    actions.iter().filter_map(stage).collect()
}

#[test]
fn a_hot_cell_is_felt_by_the_workers_that_live_on_it() {
    let heat = heat(&config(), true);
    assert!(heat.cells[0][3] > 0.95 && heat.cells[1][3] == 0.0, "{heat:?}");
    assert!(
        heat.workers[0][2] > 0.95 && heat.workers[0][3] > 0.95 && heat.workers[1] == [0.0; 4],
        "{heat:?}"
    );
}

#[test]
fn work_moves_away_from_a_hot_cell() {
    let config = config();
    let (left, right) = (WorkerId(0), WorkerId(1));
    assert_eq!(placed(&config, heat(&config, false)), [left; 4], "near to its data while the cell is cool");
    assert_eq!(placed(&config, heat(&config, true)), [right; 4]);
}

#[test]
fn staging_from_a_hot_cell_stops_and_from_others_goes_on() {
    let config = config();
    let mut cool = staged(&config, heat(&config, false));
    cool.sort();
    assert_eq!(cool, ["left-volumes:vol-1", "right-volumes:vol-1"]);
    assert_eq!(staged(&config, heat(&config, true)), ["right-volumes:vol-1"]);
}

#[test]
fn the_forecast_of_a_worker_at_a_hot_cell_says_so() {
    let config = config();
    let workers = Arc::new(config.workers.iter().map(|w| Arc::from(w.name.as_str())).collect());
    let settings = crate::predict::Settings {
        types: Default::default(),
        exponents: crate::predict::product::Exponents::Fixed,
        smoothing: 0.02,
        lookahead: Default::default(),
    };
    let mut predict = Predict::new(settings, Arc::new(config.catalogue()), workers).unwrap();
    predict.heated(heat(&config, true));
    let mut felt = |w: u16| {
        let forecast = predict.forecast(Subject::Worker(WorkerId(w)), at(61));
        forecast.types.iter().map(|t| t.heat).fold(0.0, f64::max)
    };
    assert!(felt(0) > 0.4, "{}", felt(0));
    assert_eq!(felt(1), 0.0);
}
