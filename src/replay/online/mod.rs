//! One host under a stream of tasks that arrive over time: the daemon's own cores, over a fluid network and a
//! virtual clock.
//!
//! [`host`] is the loop: look ahead, agenda, flight table and cache index decide, exactly as they do in the
//! daemon; what the actors carry out between them is one call here. [`network`] shares out the line, [`workload`]
//! makes the stream. Not modelled: process starts, fsync, the daemon's own time.

pub mod host;
pub mod network;
pub mod workload;

#[cfg(test)]
mod tests {
    use super::host::{Host, Options, Report};
    use super::network::Line;
    use super::workload::{Shape, Stream};
    use crate::predict::lookahead;
    use crate::prefetch::agenda::{self, Mode};
    use crate::time::Span;

    fn run(stream: &Stream, mode: Mode) -> Report {
        let options = Options {
            staging: agenda::Settings { mode, ..agenda::Settings::default() },
            lookahead: lookahead::Settings::default(),
            capacity_bytes: stream.footprint_bytes() / 5,
            slots: 4,
            line: Line { latency: Span::from_ms(40), connection_per_s: 20e6, line_per_s: 125e6 },
        };
        Host::new(stream, &options).run()
    }

    #[test]
    fn staging_halves_latency_and_takes_most_of_the_data_wait() {
        let mut ratios = Vec::new();
        for seed in 1..=3 {
            let stream = Stream::generate(&Shape { seed, ..Shape::default() });
            let (off, on) = (run(&stream, Mode::Off), run(&stream, Mode::On));
            let (ratio, wait) = (on.mean_s() / off.mean_s(), on.wait_s() / off.wait_s());
            let bytes = on.fetched_bytes / off.fetched_bytes;
            println!("seed {seed}: latency {ratio:.3}, data wait {wait:.3}, bytes {bytes:.2} of staging off");
            assert!(wait < 0.5 && bytes < 1.7, "wait {wait}, bytes {bytes}");
            ratios.push(ratio);
        }
        ratios.sort_by(f64::total_cmp);
        assert!(ratios[1] <= 0.6, "latency on / off {ratios:?}");
    }

    #[test]
    fn observing_changes_nothing_and_foresees_most_of_what_staging_saves() {
        let stream = Stream::generate(&Shape { tasks: 300, ..Shape::default() });
        let (off, observe) = (run(&stream, Mode::Off), run(&stream, Mode::Observe));
        assert_eq!(off.latency_s, observe.latency_s);
        assert_eq!(off.fetched_bytes, observe.fetched_bytes);
        assert!(observe.ledger.hidden_s > 0.3 * off.data_wait_s.iter().sum::<f64>(), "{:?}", observe.ledger);
    }

    #[test]
    fn the_same_stream_gives_the_same_run() {
        let stream = Stream::generate(&Shape { tasks: 150, ..Shape::default() });
        let again = Stream::generate(&Shape { tasks: 150, ..Shape::default() });
        assert_eq!(run(&stream, Mode::On).latency_s, run(&again, Mode::On).latency_s);
    }
}
