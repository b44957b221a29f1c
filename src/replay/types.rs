//! How good forecasts of task types are, measured on traces.
//!
//! Every task is predicted *before* it is learned. What is known of the entity is frozen at the end of its
//! previous task: nothing of the time, the worker or the state of the task that is predicted, except the
//! worker with [`Options::known_worker`]. Counts and weights are live up to that task. With
//! [`Options::per_worker`] the next task *of the worker* is predicted instead, and its entity with it, from
//! what was known when the worker's previous task ended; other entities' states are live.
//!
//! The easiest cheat would be to give a type that was never seen a probability that does not say which one:
//! with an open alphabet, all of it is divided among the types of the trace that are yet to come, as with a
//! closed one.

use super::baseline::{Baseline, Follow, Histories};
use super::trace::{self, Trace};
use crate::predict::calibration::Calibration;
use crate::predict::types::{self, Distribution, Engine, Event, Joint, Settings, Subject};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// What to measure.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A simple model instead of the engine.
    pub baseline: Option<Baseline>,
    /// Condition on the worker that will do the task.
    pub known_worker: bool,
    /// Predict the next task of each worker. Traces with fewer than two workers are left out.
    pub per_worker: bool,
    /// Do not tell the engine which types there are.
    pub open_alphabet: bool,
    /// The engine's settings; [`Settings::workers`] is switched on where the measurement needs it.
    pub settings: Settings,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A trace could not be read.
    #[error(transparent)]
    Trace(#[from] trace::Error),
    /// The engine refused its settings.
    #[error("settings of the prediction engine: {0}")]
    Settings(#[from] types::Error),
    /// Two options contradict each other.
    #[error("{0}")]
    Options(&'static str),
    /// No trace was left.
    #[error("nothing to measure: {0}")]
    Nothing(&'static str),
}

/// One trace's figures, or the mean of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// The trace's name; `mean` for the mean.
    pub trace: String,
    /// Tasks that were predicted.
    pub events: f64,
    /// Different types among them.
    pub types: f64,
    /// Share of tasks whose type was the likeliest.
    pub top1: f64,
    /// Share of tasks whose type was among the three likeliest.
    pub top3: f64,
    /// Mean of −log2 of the probability that the type had.
    pub log_loss_bits: f64,
    /// Expected calibration error of the likeliest type's probability, ten bins.
    pub ece: f64,
    /// Share of tasks whose type had a probability of .05 or more.
    pub recall_p05: f64,
    /// Mean number of types with a probability of .05 or more.
    pub set_size_p05: f64,
    /// Median time of one forecast, µs.
    pub predict_us_p50: f64,
    /// 99th percentile of it.
    pub predict_us_p99: f64,
    /// Mean time of one lesson, µs, without the forecast it is about.
    pub learn_us_mean: f64,
    /// Memory of the model at the end, names and histories included.
    pub model_bytes: f64,
    /// Mean of −log2 of the probability that entity and type had together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joint_log_loss_bits: Option<f64>,
    /// Share of tasks whose entity and type were the likeliest pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joint_recall_1: Option<f64>,
    /// … among the four likeliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joint_recall_4: Option<f64>,
    /// … among the eight likeliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joint_recall_8: Option<f64>,
}

/// All figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// One object for each trace.
    pub traces: Vec<Figures>,
    /// Their mean, each trace counting the same.
    pub mean: Figures,
    /// Traces that were left out, because they lack what the measurement needs.
    pub left_out: Vec<String>,
}

/// Measures each trace with a fresh model.
///
/// # Errors
/// When a trace cannot be read, options contradict each other, or no trace has what is needed.
pub fn measure(paths: &[PathBuf], options: &Options) -> Result<Report, Error> {
    let (mut traces, mut left_out) = (Vec::new(), Vec::new());
    for path in paths {
        let trace = Trace::read(path)?;
        match measure_trace(&trace, options)? {
            Some(figures) => traces.push(figures),
            None => left_out.push(trace.name),
        }
    }
    if traces.is_empty() {
        return Err(Error::Nothing("no trace has tasks, and two workers where workers are asked for"));
    }
    let mean = mean(&traces);
    Ok(Report { traces, mean, left_out })
}

/// Measures one trace; nothing if it lacks what the measurement needs.
///
/// # Errors
/// When the options contradict each other or the engine refuses its settings.
pub fn measure_trace(trace: &Trace, options: &Options) -> Result<Option<Figures>, Error> {
    if options.per_worker && options.known_worker {
        return Err(Error::Options("per-worker forecasts always know the worker: leave one of the two out"));
    }
    let workers_needed = if options.per_worker { 2 } else { usize::from(options.known_worker) };
    if trace.rows.is_empty() || trace.workers.len() < workers_needed {
        return Ok(None);
    }
    let mut forecaster: Box<dyn Forecaster + '_> = match options.baseline {
        Some(baseline) => Box::new(Simple {
            model: baseline.model(trace.types.len()),
            histories: Histories::default(),
            p: vec![0.0; trace.types.len()],
            per_worker: options.per_worker,
        }),
        None => Box::new(Full::new(trace, options)?),
    };
    let mut tally = Tally::default();
    for row in trace.rows.iter().filter(|r| !options.per_worker || r.worker.is_some()) {
        let ((), predict) = timed(|| forecaster.predict(row));
        let said = forecaster.said(row);
        let ((), learn) = timed(|| forecaster.learn(row));
        tally.add(&said, predict, learn);
    }
    Ok(Some(tally.figures(trace, forecaster.bytes())))
}

/// What a forecast said about the task that came.
struct Said {
    /// Probability of its type.
    p: f64,
    /// How many types were likelier, or as likely and listed before.
    rank: usize,
    /// Probability of the likeliest type.
    top: f64,
    /// Types with .05 or more, and whether the one that came was among them.
    set: usize,
    in_set: bool,
    /// Of entity and type together.
    joint: Option<SaidJoint>,
}

struct SaidJoint {
    p: f64,
    rank: usize,
}

/// A model under measurement. `predict` and `learn` are timed.
trait Forecaster {
    fn predict(&mut self, row: &trace::Row);
    fn said(&mut self, row: &trace::Row) -> Said;
    fn learn(&mut self, row: &trace::Row);
    fn bytes(&self) -> usize;
}

/// Least probability of a type that counts as expected.
const EXPECTED_P: f64 = 0.05;
/// Pairs asked for.
const PAIRS: usize = 8;

/// The engine.
struct Full<'a> {
    trace: &'a Trace,
    options: &'a Options,
    engine: Engine,
    distribution: Distribution,
    joint: Vec<Joint>,
    /// Types met so far.
    met: Vec<bool>,
}

impl<'a> Full<'a> {
    fn new(trace: &'a Trace, options: &'a Options) -> Result<Full<'a>, Error> {
        let workers = options.known_worker || options.per_worker;
        let settings = Settings { workers, ..options.settings.clone() };
        let engine = if options.open_alphabet {
            Engine::new(&settings)?
        } else {
            Engine::with_alphabet(&settings, &trace.types)?
        };
        Ok(Full {
            trace,
            options,
            engine,
            distribution: Distribution::default(),
            joint: Vec::with_capacity(PAIRS),
            met: vec![false; trace.types.len()],
        })
    }

    fn entity(&self, row: &trace::Row) -> Option<&'a str> {
        row.entity.map(|e| self.trace.entities[e as usize].as_str())
    }
    fn worker(&self, row: &trace::Row) -> Option<&'a str> {
        row.worker.map(|w| self.trace.workers[w as usize].as_str())
    }
    fn type_name(&self, row: &trace::Row) -> &'a str {
        &self.trace.types[row.task_type as usize]
    }
    fn subject(&self, row: &trace::Row) -> Subject<'a> {
        match self.worker(row) {
            Some(w) if self.options.per_worker => Subject::Worker(w),
            Some(w) if self.options.known_worker => Subject::EntityAt(self.entity(row), w),
            _ => Subject::Entity(self.entity(row)),
        }
    }

    /// A type never met shares what is said of all such with the others that are yet to come.
    fn share(&self, row: &trace::Row) -> f64 {
        if self.met[row.task_type as usize] || !self.options.open_alphabet {
            return 1.0;
        }
        1.0 / self.met.iter().filter(|m| !**m).count() as f64
    }

    fn said_joint(&mut self, row: &trace::Row, share: f64) -> SaidJoint {
        let (subject, entity, name) = (self.subject(row), self.entity(row), self.type_name(row));
        let p = f64::from(self.engine.joint_p(subject, entity, name)) * share;
        let this = |j: &Joint| {
            self.engine.entity_name(j.entity) == Some(entity.unwrap_or(""))
                && self.engine.type_name(j.task_type) == name
        };
        SaidJoint { p, rank: self.joint.iter().position(this).unwrap_or(usize::MAX) }
    }
}

impl Forecaster for Full<'_> {
    fn predict(&mut self, row: &trace::Row) {
        let subject = self.subject(row);
        self.engine.predict(subject, &mut self.distribution);
        if self.options.per_worker {
            self.engine.joint(subject, PAIRS, &mut self.joint);
        }
    }

    fn said(&mut self, row: &trace::Row) -> Said {
        let share = self.share(row);
        let (subject, name) = (self.subject(row), self.type_name(row));
        let p = f64::from(self.engine.p(subject, name)) * share;
        let listed = &self.distribution.types;
        let came = self.engine.type_number(name);
        let rank = listed.iter().position(|t| Some(t.0) == came).unwrap_or(usize::MAX);
        let set = listed.iter().filter(|t| f64::from(t.1) >= EXPECTED_P).count();
        let top = listed.first().map_or(0.0, |t| t.1.into());
        let joint = self.options.per_worker.then(|| self.said_joint(row, share));
        Said { p, rank, top, set, in_set: rank < set, joint }
    }

    fn learn(&mut self, row: &trace::Row) {
        let event = Event {
            time: row.time,
            task_type: self.type_name(row),
            entity: self.entity(row),
            worker: self.worker(row),
        };
        self.engine.learn(&event);
        self.met[row.task_type as usize] = true;
    }

    fn bytes(&self) -> usize {
        self.engine.bytes()
    }
}

/// A baseline.
struct Simple {
    model: Box<dyn Follow>,
    histories: Histories,
    p: Vec<f64>,
    per_worker: bool,
}

impl Simple {
    fn who(&self, row: &trace::Row) -> u32 {
        if self.per_worker { row.worker } else { row.entity }.unwrap_or(u32::MAX)
    }
}

impl Forecaster for Simple {
    fn predict(&mut self, row: &trace::Row) {
        let history = self.histories.get(self.who(row));
        self.model.predict(history, &mut self.p);
    }

    fn said(&mut self, row: &trace::Row) -> Said {
        let came = row.task_type as usize;
        let p = self.p[came];
        let before = |&(i, &q): &(usize, &f64)| q > p || (q == p && i < came);
        Said {
            p,
            rank: self.p.iter().enumerate().filter(before).count(),
            top: self.p.iter().copied().fold(0.0, f64::max),
            set: self.p.iter().filter(|q| **q >= EXPECTED_P).count(),
            in_set: p >= EXPECTED_P,
            joint: None,
        }
    }

    fn learn(&mut self, row: &trace::Row) {
        let who = self.who(row);
        self.model.learn(self.histories.get(who), row.task_type);
        self.histories.push(who, row.task_type);
    }

    fn bytes(&self) -> usize {
        self.model.bytes()
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a stopwatch around the code under measurement; it decides nothing"
)]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = std::time::Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// Sums over the tasks of a trace.
#[derive(Default)]
struct Tally {
    n: usize,
    top1: usize,
    top3: usize,
    bits: f64,
    recall: usize,
    set: usize,
    calibration: Option<Calibration>,
    predict_ns: Vec<u32>,
    learn: Duration,
    joint: usize,
    joint_bits: f64,
    joint_recall: [usize; 3],
}

/// Pairs that count, for each joint recall.
const JOINT_RANKS: [usize; 3] = [1, 4, 8];

impl Tally {
    fn add(&mut self, said: &Said, predict: Duration, learn: Duration) {
        let count = |yes: bool| usize::from(yes);
        self.n += 1;
        self.top1 += count(said.rank < 1);
        self.top3 += count(said.rank < 3);
        // A probability of zero would be a bug; it costs forty bits instead of hiding the rest.
        self.bits -= said.p.max(1e-12).log2();
        self.recall += count(said.in_set);
        self.set += said.set;
        self.calibration.get_or_insert_with(Calibration::of_all).observe(said.top, said.rank < 1);
        self.predict_ns.push(u32::try_from(predict.as_nanos()).unwrap_or(u32::MAX));
        self.learn += learn;
        if let Some(j) = &said.joint {
            self.joint += 1;
            self.joint_bits -= j.p.max(1e-12).log2();
            for (recall, limit) in self.joint_recall.iter_mut().zip(JOINT_RANKS) {
                *recall += count(j.rank < limit);
            }
        }
    }

    fn figures(mut self, trace: &Trace, bytes: usize) -> Figures {
        self.predict_ns.sort_unstable();
        let n = self.n as f64;
        let us = |percent: usize| f64::from(self.predict_ns[(self.n - 1) * percent / 100]) / 1e3;
        let joint = |x: f64| (self.joint > 0).then(|| x / self.joint as f64);
        let [r1, r4, r8] = self.joint_recall.map(|r| joint(r as f64));
        Figures {
            trace: trace.name.clone(),
            events: n,
            types: trace.types.len() as f64,
            top1: self.top1 as f64 / n,
            top3: self.top3 as f64 / n,
            log_loss_bits: self.bits / n,
            ece: self.calibration.as_ref().map_or(0.0, Calibration::ece),
            recall_p05: self.recall as f64 / n,
            set_size_p05: self.set as f64 / n,
            predict_us_p50: us(50),
            predict_us_p99: us(99),
            learn_us_mean: self.learn.as_secs_f64() * 1e6 / n,
            model_bytes: bytes as f64,
            joint_log_loss_bits: joint(self.joint_bits),
            joint_recall_1: r1,
            joint_recall_4: r4,
            joint_recall_8: r8,
        }
    }
}

/// The mean of each figure.
fn mean(all: &[Figures]) -> Figures {
    let n = all.len() as f64;
    let of = |get: fn(&Figures) -> f64| all.iter().map(get).sum::<f64>() / n;
    let of_some = |get: fn(&Figures) -> Option<f64>| {
        let some: Vec<f64> = all.iter().filter_map(get).collect();
        (!some.is_empty()).then(|| some.iter().sum::<f64>() / some.len() as f64)
    };
    Figures {
        trace: "mean".into(),
        events: of(|f| f.events),
        types: of(|f| f.types),
        top1: of(|f| f.top1),
        top3: of(|f| f.top3),
        log_loss_bits: of(|f| f.log_loss_bits),
        ece: of(|f| f.ece),
        recall_p05: of(|f| f.recall_p05),
        set_size_p05: of(|f| f.set_size_p05),
        predict_us_p50: of(|f| f.predict_us_p50),
        predict_us_p99: of(|f| f.predict_us_p99),
        learn_us_mean: of(|f| f.learn_us_mean),
        model_bytes: of(|f| f.model_bytes),
        joint_log_loss_bits: of_some(|f| f.joint_log_loss_bits),
        joint_recall_1: of_some(|f| f.joint_recall_1),
        joint_recall_4: of_some(|f| f.joint_recall_4),
        joint_recall_8: of_some(|f| f.joint_recall_8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;
    use std::path::Path;

    /// A seeded trace: entities follow a second-order chain over six types with noise; workers specialise.
    fn synthetic(rows: usize, seed: u64) -> Trace {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut csv = String::from("time_s,worker,task_type,entity\n");
        let mut last = [[0usize, 1]; 30];
        for i in 0..rows {
            let e = rng.usize(..30);
            let [x2, x1] = last[e];
            let t = if rng.u8(..10) < 8 { (x1 * 2 + x2 + 1) % 6 } else { rng.usize(..6) };
            last[e] = [x1, t];
            writeln!(csv, "{},w{},t{t},v{e}", i * 3, t % 4).unwrap();
        }
        Trace::parse(csv.as_bytes(), Path::new("synthetic.csv")).unwrap()
    }

    fn figures(trace: &Trace, options: &Options) -> Figures {
        measure_trace(trace, options).unwrap().unwrap()
    }

    fn quick() -> Options {
        Options { settings: Settings { table_bits: 12, ..Settings::default() }, ..Options::default() }
    }

    #[test]
    fn beats_every_baseline_on_a_chain_and_stays_above_its_entropy() {
        let trace = synthetic(6000, 1);
        let full = figures(&trace, &quick());
        // 5/6 of the mass on one type, the rest even: .8333 log2(1/.8333) + .1667 log2(5/.1667)
        let entropy = 1.037;
        assert!(full.log_loss_bits > entropy - 0.06 && full.log_loss_bits < entropy + 0.12, "{full:?}");
        assert!(full.top1 > 0.8 && full.ece < 0.03, "{full:?}");
        assert!(full.events == 6000.0 && full.types == 6.0 && full.model_bytes < 6e6);
        for (name, baseline) in Baseline::ALL {
            let simple = figures(&trace, &Options { baseline: Some(baseline), ..quick() });
            assert!(simple.log_loss_bits > full.log_loss_bits, "{name}: {simple:?}");
        }
    }

    #[test]
    fn an_open_alphabet_costs_next_to_nothing() {
        let trace = synthetic(4000, 2);
        let closed = figures(&trace, &quick());
        let open = figures(&trace, &Options { open_alphabet: true, ..quick() });
        assert!(open.log_loss_bits - closed.log_loss_bits < 0.01, "{open:?} {closed:?}");
    }

    #[test]
    fn a_known_worker_helps_where_workers_specialise() {
        let trace = synthetic(4000, 3);
        let unknown = figures(&trace, &quick());
        let known = figures(&trace, &Options { known_worker: true, ..quick() });
        assert!(known.log_loss_bits < 0.6 * unknown.log_loss_bits, "{known:?}");
    }

    #[test]
    fn per_worker_forecasts_name_entities_too() {
        let trace = synthetic(3000, 4);
        let options = Options { per_worker: true, ..quick() };
        let f = figures(&trace, &options);
        let (one, four, eight) =
            (f.joint_recall_1.unwrap(), f.joint_recall_4.unwrap(), f.joint_recall_8.unwrap());
        assert!(0.0 < one && one < four && four < eight && eight <= 1.0, "{f:?}");
        assert!(f.joint_log_loss_bits.unwrap() > f.log_loss_bits);
        let markov = figures(&trace, &Options { baseline: Some(Baseline::Markov1), ..options.clone() });
        assert!(f.log_loss_bits < markov.log_loss_bits, "{f:?} {markov:?}");
        let lonely = Trace::parse(&b"time_s,worker,task_type,entity\n0,w,a,v\n"[..], Path::new("x")).unwrap();
        assert_eq!(measure_trace(&lonely, &options).unwrap(), None);
    }

    /// What the last row's forecast says must not depend on when or where that row runs.
    #[test]
    fn nothing_of_the_task_itself_leaks_into_its_forecast() {
        let mut trace = synthetic(800, 5);
        let said = |trace: &Trace, options: &Options| {
            let mut full = Full::new(trace, options).unwrap();
            for row in &trace.rows[..799] {
                full.predict(row);
                full.learn(row);
            }
            full.predict(&trace.rows[799]);
            full.distribution.clone()
        };
        let plain = said(&trace, &quick());
        let last = &mut trace.rows[799];
        last.time = last.time + crate::time::Span::from_secs(86_400 * 3);
        last.worker = Some((last.worker.unwrap() + 1) % 4);
        last.task_type = (last.task_type + 1) % 6;
        assert_eq!(said(&trace, &quick()), plain);
        let known = Options { known_worker: true, ..quick() };
        assert_ne!(said(&trace, &known), plain, "the switch does something");
    }

    #[test]
    fn contradicting_options_and_empty_traces_are_refused() {
        let both = Options { known_worker: true, per_worker: true, ..quick() };
        assert!(measure_trace(&synthetic(10, 6), &both).unwrap_err().to_string().contains("leave one"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty.csv");
        std::fs::write(&path, "time_s,task_type,entity\n").unwrap();
        assert!(measure(&[path], &quick()).unwrap_err().to_string().starts_with("nothing to measure"));
    }

    #[test]
    fn the_mean_counts_each_trace_the_same() {
        let figures =
            |bits, joint| Figures { log_loss_bits: bits, joint_recall_1: joint, ..Figures::default() };
        let m = mean(&[figures(1.0, Some(0.5)), figures(2.0, None)]);
        assert_eq!((m.log_loss_bits, m.joint_recall_1, m.joint_recall_4), (1.5, Some(0.5), None));
        let json = serde_json::to_string(&m).unwrap();
        assert!(json.contains("\"log_loss_bits\":1.5") && !json.contains("joint_recall_4"));
    }

    /// On real traces, where there are any: the protocol's anchor, and what the engine must reach.
    #[test]
    fn reaches_its_figures_on_real_traces() {
        let Some(folder) = std::env::var_os("FORESTAGE_TRACES") else {
            println!("skipped: FORESTAGE_TRACES names no folder of traces");
            return;
        };
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
            .unwrap()
            .map(|f| f.unwrap().path())
            .filter(|p| p.to_string_lossy().ends_with(".csv.gz"))
            .collect();
        paths.sort();
        let anchor =
            measure(&paths, &Options { baseline: Some(Baseline::Kn5), ..Options::default() }).unwrap();
        let full = measure(&paths, &Options::default()).unwrap();
        println!("kn5 {:.4}, engine {:.4}", anchor.mean.log_loss_bits, full.mean.log_loss_bits);
        assert!(full.mean.log_loss_bits < 0.79 * anchor.mean.log_loss_bits);
        for f in &full.traces {
            assert!(f.ece < 0.02, "{f:?}");
        }
    }
}
