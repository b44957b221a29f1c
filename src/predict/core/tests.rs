//! The core of prediction: the product by hand, and that what is on disk gives the same state.

use super::*;
use crate::flow::{Ending, Token, Usage};
use crate::task::sample_type;
use crate::time::Span;

const COPY: TypeId = TypeId(0);
const VERIFY: TypeId = TypeId(1);
const FAST: WorkerId = WorkerId(0);

fn predictor(exponents: Exponents) -> Predict {
    let settings = Settings {
        types: types::Settings { table_bits: 10, regression_bits: 8, ..types::Settings::default() },
        exponents,
        smoothing: 0.02,
        lookahead: lookahead::Settings::default(),
    };
    let catalogue = Arc::new(Catalogue::new(vec![sample_type("copy"), sample_type("verify")]));
    Predict::new(settings, catalogue, Arc::new(vec!["fast".into(), "slow".into()])).unwrap()
}

fn standing(task_type: TypeId, affinity: f64, demand: PerResource) -> Standing {
    Standing {
        task_type,
        speed: 1.0,
        affinity,
        effective_count: 9.0,
        expected: Span::from_secs(1),
        memory_bytes: 0,
        demand,
    }
}

/// A worker that is hot where `verify` needs it, and rather good at `copy`.
fn measured(p: &mut Predict) {
    let types = vec![standing(COPY, 0.6, [0.1, 0.1, 0.6, 0.2]), standing(VERIFY, 0.4, [0.8, 0.2, 0.0, 0.0])];
    p.stand(Standings { worker: FAST, types });
    p.heated(Heat { workers: vec![[0.5, 0.2, 0.1, 0.0]], ..Heat::default() });
}

fn outcome(i: u64) -> Outcome {
    let at = Time::from_us(i * 1_000_000);
    Outcome {
        task: crate::flow::TaskId(i),
        token: Token { epoch: 1, attempt: 1 },
        worker: if i.is_multiple_of(3) { WorkerId(1) } else { FAST },
        task_type: if i % 5 < 3 { COPY } else { VERIFY },
        entity: Some(format!("v{}", i % 7).into()),
        submitted: at,
        started: at,
        ended: at,
        ending: Ending::Done,
        usage: Usage::default(),
        data_wait: Span::ZERO,
        inputs: vec![],
        factors: crate::flow::Factors::default(),
    }
}

fn p(predict: &mut Predict, t: TypeId) -> f64 {
    let forecast = predict.forecast(Subject::Worker(FAST), Time::ZERO);
    forecast.types.iter().find(|f| f.task_type == t).unwrap().p
}

#[test]
fn fixed_exponents_give_the_specification_by_hand() {
    let mut predict = predictor(Exponents::Fixed);
    measured(&mut predict);
    // Nothing is known of the past: one half each. h = Σ d·u: copy .1·.5 + .1·.2 + .6·.1 = .13, verify
    // .8·.5 + .2·.2 = .44. a·(1 − h)·P: copy .6·.87·.5 = .261, verify .4·.56·.5 = .112.
    assert!((p(&mut predict, COPY) - 0.261 / 0.373).abs() < 1e-6);
    assert!((p(&mut predict, VERIFY) - 0.112 / 0.373).abs() < 1e-6);
    (1..200).for_each(|i| predict.learn(i, &outcome(i)));
    predict.snapshot();
    predict.kept(199);
    assert_eq!(predict.explain(Subject::Host).exponents, [1.0; 3], "they stay");
    let forecast = predict.forecast(Subject::Worker(FAST), Time::ZERO);
    let weight = |f: &TypeForecast| f.affinity * (1.0 - f.heat) * f.history;
    let all: f64 = forecast.types.iter().map(weight).sum();
    for f in &forecast.types {
        assert!((f.p - weight(f) / all).abs() < 1e-12, "{f:?}");
    }
}

#[test]
fn what_the_record_cannot_tell_counts_once_it_is_on_disk() {
    let mut predict = predictor(Exponents::Learned);
    measured(&mut predict);
    let exponents = |p: &mut Predict| p.explain(Subject::Host).exponents;
    (1..100).for_each(|i| predict.learn(i, &outcome(i)));
    assert_eq!(exponents(&mut predict), [1.0; 3]);
    predict.snapshot();
    (100..150).for_each(|i| predict.learn(i, &outcome(i)));
    let second = predict.snapshot();
    assert_eq!(exponents(&mut predict), [1.0; 3], "handed over is not yet on disk");
    predict.kept(99);
    let first = exponents(&mut predict);
    assert_ne!(first, [1.0; 3]);
    predict.kept(149);
    assert_ne!(exponents(&mut predict), first);
    let mut back = predictor(Exponents::Learned);
    back.restore(&second).unwrap();
    assert_eq!(exponents(&mut back), exponents(&mut predict));
}

#[test]
fn snapshot_and_outcomes_since_give_the_state_of_before_the_crash() {
    let mut live = predictor(Exponents::Learned);
    measured(&mut live);
    let mut on_disk = Vec::new();
    for i in 1..400 {
        live.learn(i, &outcome(i));
        if i % 90 == 0 {
            on_disk = live.snapshot();
            live.kept(i);
        }
        // Forecasts in between change nothing.
        let entity = format!("v{}", i % 9);
        for subject in [Subject::Worker(FAST), Subject::Entity(&entity), Subject::Host] {
            live.forecast(subject, Time::ZERO);
        }
    }
    // Heat and standings after the restart are others.
    let mut back = predictor(Exponents::Learned);
    back.restore(&on_disk).unwrap();
    (1..400).for_each(|i| back.learn(i, &outcome(i)));
    assert_eq!(back.engine.to_bytes(), live.engine.to_bytes());
    let ahead = |p: &Predict| p.lookahead.to_bytes(|t| p.catalogue.name(t));
    assert_eq!(ahead(&back), ahead(&live));
    assert_eq!((back.seq, back.log_loss_bits, &back.product), (live.seq, live.log_loss_bits, &live.product));
}

#[test]
fn a_changed_byte_anywhere_is_found_and_nothing_changes() {
    let mut predict = predictor(Exponents::Learned);
    (1..50).for_each(|i| predict.learn(i, &outcome(i)));
    let good = predict.snapshot();
    let mut back = predictor(Exponents::Learned);
    for at in (0..good.len()).step_by(good.len() / 60) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        assert!(back.restore(&bad).is_err(), "byte {at}");
        assert!(back.restore(&good[..at]).is_err(), "cut at {at}");
    }
    assert_eq!(back.seq(), 0);
    back.restore(&good).unwrap();
    assert_eq!(back.seq(), 49);
}
