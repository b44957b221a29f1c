//! Time series: for each key, rings of points at several resolutions.
//!
//! Every ring is fed every value, so each is complete by itself: 1 s for ten minutes, 10 s for six hours,
//! 1 min for seven days by default. New points are kept as they are; each 64 are then packed into a block
//! (see [`super::block`]), which is also what is written to disk. Nothing is allocated for time that has not
//! passed, memory is bounded by count of series and by bytes, and what is dropped is told.

use super::block::{BLOCK, Point, Sum};
use super::key::Key;
use super::layout::{Error, Layout};
use super::stored::BlockId;
use super::track::{OPEN_POINT, Track};
use crate::flow::Map;
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Most points of one answer.
pub const MAX_POINTS: u64 = 2_880;
/// Under this share of the bytes allowed, shortened rings grow again.
const ROOM: f64 = 0.8;

/// A series over a stretch of time, in points of equal width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Answer {
    /// When the first point begins, microseconds since the epoch.
    #[schema(value_type = u64)]
    pub start: Time,
    /// Width of a point, microseconds: at least what was asked for.
    #[schema(value_type = u64)]
    pub step: Span,
    /// None where nothing was recorded.
    pub points: Vec<Option<Point>>,
}

/// How much is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeriesStats {
    /// Series.
    pub series: usize,
    /// Values that found no room for their series.
    pub refused: u64,
    /// Bytes of all points, overhead included.
    pub bytes: usize,
    /// Most bytes.
    pub max_bytes: usize,
    /// How far back each resolution reaches now, microseconds: less than configured when bytes ran out.
    #[schema(value_type = Vec<u64>)]
    pub keep: Vec<Span>,
}

/// All series.
#[derive(Debug)]
pub struct Series {
    pub(super) layout: Layout,
    /// By ring: how far back it reaches now.
    keep: Vec<Span>,
    pub(super) tracks: Map<Key, Vec<Track>>,
    pub(super) bytes: usize,
    refused: u64,
    pub(super) newest: Time,
    /// Blocks that changed, and blocks that are gone, since they were last asked for.
    pub(super) changed: Vec<BlockId>,
    pub(super) expired: Vec<BlockId>,
}

/// What a series costs besides its points.
const SERIES_OVERHEAD: usize = size_of::<Key>() + size_of::<Vec<Track>>() + 32;

impl Series {
    /// None yet.
    ///
    /// # Errors
    /// What [`Layout::check`] says.
    pub fn new(layout: Layout) -> Result<Series, Error> {
        layout.check()?;
        Ok(Series {
            keep: layout.rings.iter().map(|r| r.keep).collect(),
            layout,
            tracks: Map::default(),
            bytes: 0,
            refused: 0,
            newest: Time::ZERO,
            changed: Vec::new(),
            expired: Vec::new(),
        })
    }

    /// Records a value. What is not finite was not measured; what is older than the newest point counts
    /// there.
    pub fn push(&mut self, key: Key, now: Time, value: f64) {
        let point = Point::of(value);
        if !point.mean.is_finite() {
            return;
        }
        if !self.tracks.contains_key(&key) && !self.insert_tracks(key) {
            return;
        }
        self.newest = self.newest.max(now);
        let tracks = self.tracks.get_mut(&key).expect("it was just inserted");
        for ((track, ring), keep) in tracks.iter_mut().zip(&self.layout.rings).zip(&self.keep) {
            let bucket = now.as_us() / ring.step.as_us();
            let (number, offset) = (bucket / BLOCK, (bucket % BLOCK) as u8);
            let before = track.bytes;
            if number > track.number {
                if track.seal(ring.step) && ring.stored {
                    self.changed.push(BlockId { key, step: ring.step, number: track.number });
                }
                track.begin(number);
                track.trim(ring, self.newest - *keep, |number| {
                    self.expired.push(BlockId { key, step: ring.step, number });
                });
            }
            track.add(number, offset, point);
            self.bytes = self.bytes + track.bytes - before;
        }
    }

    /// Makes room for a series; false if there is none.
    pub(super) fn insert_tracks(&mut self, key: Key) -> bool {
        if self.tracks.len() >= self.layout.max_series {
            self.refused += 1;
            return false;
        }
        let rings = self.layout.rings.len();
        self.tracks.insert(key, vec![Track::default(); rings]);
        self.bytes += SERIES_OVERHEAD + rings * size_of::<Track>();
        true
    }

    /// Keeps all series within their bytes, and forgets those that ended: call it now and then, about once a
    /// minute. Cost: one look at each series, more only when something must go.
    pub fn tidy(&mut self) {
        (0..self.layout.rings.len()).for_each(|ring| self.trim(ring));
        self.forget_ended();
        while self.bytes > self.layout.max_bytes {
            let Some(ring) = self.largest_ring() else { break };
            let shorter = self.keep[ring].times(0.9);
            if shorter < self.layout.rings[ring].step.times(BLOCK as f64) {
                break;
            }
            self.keep[ring] = shorter;
            self.trim(ring);
        }
        if (self.bytes as f64) < ROOM * self.layout.max_bytes as f64 {
            for (keep, ring) in self.keep.iter_mut().zip(&self.layout.rings) {
                *keep = keep.times(1.02).min(ring.keep);
            }
        }
    }

    /// Drops what is older than a ring reaches, of all series.
    fn trim(&mut self, ring: usize) {
        let oldest = self.newest - self.keep[ring];
        let ring_is = &self.layout.rings[ring];
        for (key, tracks) in &mut self.tracks {
            let before = tracks[ring].bytes;
            tracks[ring].trim(ring_is, oldest, |number| {
                self.expired.push(BlockId { key: *key, step: ring_is.step, number });
            });
            self.bytes = self.bytes + tracks[ring].bytes - before;
        }
    }

    /// The ring whose packed blocks take most, if any has some.
    fn largest_ring(&self) -> Option<usize> {
        let mut bytes = vec![0; self.layout.rings.len()];
        for tracks in self.tracks.values() {
            for (sum, track) in bytes.iter_mut().zip(tracks) {
                *sum += track.bytes - track.open.capacity() * OPEN_POINT;
            }
        }
        let ring = (0..bytes.len()).max_by_key(|&r| bytes[r])?;
        (bytes[ring] > 0).then_some(ring)
    }

    /// Series that got nothing for as long as their longest rings reach, of which therefore only open blocks
    /// are left, make room for others.
    fn forget_ended(&mut self) {
        let ended = |tracks: &Vec<Track>| {
            tracks.iter().zip(&self.layout.rings).zip(&self.keep).all(|((track, ring), keep)| {
                let width = ring.step.as_us().saturating_mul(BLOCK);
                let end = Time::from_us((track.number + 1).saturating_mul(width));
                track.packed.is_empty() && end + *keep < self.newest
            })
        };
        self.tracks.retain(|key, tracks| {
            let keep = !ended(tracks);
            if !keep {
                self.bytes -= SERIES_OVERHEAD + tracks.len() * size_of::<Track>();
                self.bytes -= tracks.iter().map(|t| t.bytes).sum::<usize>();
                for (track, ring) in tracks.iter().zip(&self.layout.rings).filter(|(_, r)| r.stored) {
                    self.expired.push(BlockId { key: *key, step: ring.step, number: track.number });
                }
            }
            keep
        });
    }

    /// The series of `key` from `from` to `to`, in points of `step` or the next wider that can be had, at
    /// most [`MAX_POINTS`]. Cost: the packed blocks in that stretch of one ring are unpacked, about 1 µs each.
    pub fn query(&self, key: Key, from: Time, to: Time, step: Span) -> Answer {
        let ring = self.ring_for(from, step);
        let fine = self.layout.rings[ring].step.as_us();
        let wanted = step.as_us().max(to.since(from).as_us() / MAX_POINTS);
        let times = wanted.div_ceil(fine).max(1);
        let width = fine * times;
        let first = from.as_us() / width;
        let count = (to.as_us().div_ceil(width).saturating_sub(first)).clamp(1, MAX_POINTS);
        let mut sums = vec![Sum::default(); count as usize];
        if let Some(track) = self.tracks.get(&key).map(|t| &t[ring]) {
            let buckets = first * times..(first + count) * times;
            // Buckets rise: stepping on to the next sum is cheaper than a division for each.
            let (mut sum, mut end) = (0, (first + 1) * times);
            track.each(&buckets, |bucket, point| {
                while bucket >= end {
                    (sum, end) = (sum + 1, end + times);
                }
                sums[sum].add(point);
            });
        }
        let points = sums.iter().map(Sum::point).collect();
        Answer { start: Time::from_us(first * width), step: Span::from_us(width), points }
    }

    /// The coarsest ring that is fine enough and reaches back to `from`; else the finest that reaches; else
    /// the last.
    fn ring_for(&self, from: Time, step: Span) -> usize {
        let rings = || self.layout.rings.iter().enumerate();
        let reaches = |i: usize| self.newest.since(from) <= self.keep[i];
        rings()
            .rfind(|(i, r)| r.step <= step && reaches(*i))
            .or_else(|| rings().find(|(i, _)| reaches(*i)))
            .map_or(self.layout.rings.len() - 1, |(i, _)| i)
    }

    /// Every key that has points.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.tracks.keys().copied()
    }

    /// How much is kept.
    pub fn stats(&self) -> SeriesStats {
        SeriesStats {
            series: self.tracks.len(),
            refused: self.refused,
            bytes: self.bytes,
            max_bytes: self.layout.max_bytes,
            keep: self.keep.clone(),
        }
    }

    /// Panics if the books are wrong.
    #[cfg(test)]
    fn assert_invariants(&self) {
        let mut bytes = 0;
        for tracks in self.tracks.values() {
            bytes += SERIES_OVERHEAD + tracks.len() * size_of::<Track>();
            for track in tracks {
                let each = super::track::PACKED_OVERHEAD;
                let packed: usize = track.packed.iter().map(|b| b.bytes.len() + each).sum();
                assert_eq!(track.bytes, packed + track.open.capacity() * OPEN_POINT, "bytes are counted");
                bytes += track.bytes;
                let numbers: Vec<u64> = track.packed.iter().map(|b| b.number).collect();
                assert!(numbers.is_sorted_by(|a, b| a < b), "blocks are in order, each once");
                assert!(track.open.is_empty() || numbers.last().is_none_or(|&n| n < track.number));
                assert!(track.open.is_sorted_by(|a, b| a.0 < b.0), "points are in order, each once");
                assert!(track.open.iter().all(|p| u64::from(p.0) < BLOCK));
            }
        }
        assert_eq!(bytes, self.bytes, "bytes are counted");
        assert!(self.tracks.len() <= self.layout.max_series);
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::{Metric, Target};
    use super::super::sample::thread_cpu;
    use super::super::track::Ring;
    use super::*;
    use crate::flow::WorkerId;
    use proptest::prelude::*;

    fn key(worker: u16) -> Key {
        Key { target: Target::Worker(WorkerId(worker)), metric: Metric::Cpu }
    }

    fn at(s: u64) -> Time {
        Time::from_us((1_795_478_400 + s) * 1_000_000)
    }

    const S: fn(u64) -> Span = Span::from_secs;

    fn ring(step: u64, keep: u64) -> Ring {
        Ring { step: S(step), keep: S(keep), stored: true }
    }

    #[test]
    fn points_hold_minimum_mean_maximum_and_count() {
        let mut series = Series::new(Layout::default()).unwrap();
        for (s, value) in [(0, 0.25), (1, 0.75), (2, 0.5), (25, 1.0)] {
            series.push(key(1), at(s), value);
        }
        series.push(key(1), at(26), f64::NAN);
        let answer = series.query(key(1), at(0), at(30), S(10));
        assert_eq!((answer.start, answer.step), (at(0), S(10)));
        assert_eq!(answer.points[0], Some(Point { min: 0.25, mean: 0.5, max: 0.75, count: 3 }));
        assert_eq!(answer.points[1], None);
        assert_eq!(answer.points[2].map(|p| p.count), Some(1));
        assert!(series.query(key(2), at(0), at(30), S(10)).points.iter().all(Option::is_none));
    }

    #[test]
    fn questions_go_to_the_coarsest_ring_that_is_fine_enough_and_reaches() {
        let mut series = Series::new(Layout::default()).unwrap();
        for s in (0..10 * 3_600).step_by(5) {
            series.push(key(1), at(s), s as f64);
        }
        let now = 10 * 3_600;
        let step = |back: u64, step: u64| series.query(key(1), at(now - back), at(now), S(step)).step;
        assert_eq!(step(300, 1), S(1));
        assert_eq!(step(300, 7), S(7));
        assert_eq!(step(300, 10), S(10));
        assert_eq!(step(3_600, 1), S(10), "seconds do not reach back an hour");
        assert_eq!(step(9 * 3_600, 1), S(60), "nor do tens of seconds reach back nine");
        assert_eq!(step(9 * 3_600, 90), S(120), "whole points only");
        series.assert_invariants();
    }

    #[test]
    fn a_day_of_a_hundred_series_is_answered_within_ten_milliseconds() {
        let layout = Layout { rings: vec![ring(60, 7 * 86_400)], ..Layout::default() };
        let mut series = Series::new(layout).unwrap();
        let mut rng = fastrand::Rng::with_seed(3);
        for minute in 0..24 * 60 {
            (0..100).for_each(|worker| series.push(key(worker), at(minute * 60), rng.f64()));
        }
        let mut quickest = Span::MAX;
        // Processor time, and the best of five: others may keep this machine busy.
        for _ in 0..5 {
            let start = thread_cpu();
            let mut seen = 0;
            for worker in 0..100 {
                let answer = series.query(key(worker), at(0), at(86_400), S(720));
                seen += answer.points.iter().flatten().map(|p| u64::from(p.count)).sum::<u64>();
            }
            quickest = quickest.min(Span::from_us(thread_cpu().as_us() - start.as_us()));
            assert_eq!(seen, 100 * 24 * 60);
        }
        assert!(quickest < Span::from_ms(10), "{quickest}");
    }

    #[test]
    fn rings_forget_what_is_older_than_they_keep() {
        let layout = Layout { rings: vec![ring(1, 128), ring(10, 6_400)], ..Layout::default() };
        let mut series = Series::new(layout).unwrap();
        for s in 0..2_000 {
            series.push(key(1), at(s), 1.0);
        }
        series.assert_invariants();
        let fine = series.query(key(1), at(2_000 - 128), at(2_000), S(1));
        assert_eq!(fine.points.iter().flatten().count(), 128);
        assert!(!series.expired().is_empty());
        let all = series.query(key(1), at(0), at(2_000), S(10));
        assert_eq!(all.points.iter().flatten().map(|p| p.count).sum::<u32>(), 2_000);
    }

    #[test]
    fn bytes_are_bounded_by_shortening_the_largest_ring() {
        let layout = Layout {
            rings: vec![ring(1, 100_000), ring(60, 100_000)],
            max_bytes: 100_000,
            ..Layout::default()
        };
        let mut series = Series::new(layout).unwrap();
        let mut rng = fastrand::Rng::with_seed(2);
        for s in 0..20_000 {
            for worker in 0..5 {
                series.push(key(worker), at(s), rng.f64());
            }
            if s % 60 == 0 {
                series.tidy();
                series.assert_invariants();
                assert!(series.stats().bytes <= 100_000);
            }
        }
        let stats = series.stats();
        assert!(stats.keep[0] < S(20_000) && stats.keep[1] == S(100_000), "{stats:?}");
        assert_eq!(series.query(key(1), at(0), at(20_000), S(60)).points.iter().flatten().count(), 334);
    }

    #[test]
    fn series_are_bounded_in_number_and_ended_ones_make_room() {
        let layout = Layout { rings: vec![ring(1, 64)], max_series: 2, ..Layout::default() };
        let mut series = Series::new(layout).unwrap();
        for worker in 0..3 {
            series.push(key(worker), at(0), 1.0);
        }
        assert_eq!((series.stats().series, series.stats().refused), (2, 1));
        series.push(key(1), at(1_000), 1.0);
        series.tidy();
        series.push(key(2), at(1_000), 1.0);
        assert_eq!(series.stats().series, 2);
        series.assert_invariants();
        assert!(series.expired().iter().any(|b| b.key == key(0)));
    }

    #[test]
    fn a_restart_goes_on_where_it_ended() {
        let mut before = Series::new(Layout::default()).unwrap();
        let mut disk: Map<BlockId, Vec<u8>> = Map::default();
        for s in 0..3_000 {
            before.push(key(1), at(s), (s % 7) as f64 / 8.0);
            if s % 500 == 0 {
                disk.extend(before.changed());
            }
        }
        disk.extend(before.changed());
        assert!(disk.values().all(|b| b.len() < 7 * 1024), "blocks fit into a small stored value");
        let mut after = Series::new(Layout::default()).unwrap();
        for (id, bytes) in &disk {
            after.restore(id.key, bytes).unwrap();
        }
        for series in [&mut before, &mut after] {
            (3_000..3_100).for_each(|s| series.push(key(1), at(s), 0.5));
            series.assert_invariants();
        }
        let ask = |series: &Series| series.query(key(1), at(0), at(3_100), S(10));
        let (before, after) = (ask(&before), ask(&after));
        assert_eq!(after.points.iter().flatten().map(|p| p.count).sum::<u32>(), 3_100);
        for (a, b) in before.points.iter().zip(&after.points) {
            let (a, b) = (a.unwrap(), b.unwrap());
            assert!(a.count == b.count && (a.mean - b.mean).abs() < 0.004 * a.mean, "{a:?} {b:?}");
        }
    }

    #[test]
    fn stored_blocks_of_another_layout_are_refused() {
        let mut old = Series::new(Layout { rings: vec![ring(7, 700)], ..Layout::default() }).unwrap();
        old.push(key(1), at(0), 1.0);
        let (_, bytes) = old.changed().pop().unwrap();
        let mut new = Series::new(Layout::default()).unwrap();
        let said = new.restore(key(1), &bytes).unwrap_err().to_string();
        assert_eq!(said, "series block has steps of 7.0 s, which is not configured");
        assert!(new.restore(key(1), b"junk").is_err());
    }

    #[test]
    fn bad_layouts_are_named() {
        let bad = |rings: Vec<Ring>| Layout { rings, ..Layout::default() }.check().unwrap_err().to_string();
        assert_eq!(bad(vec![]), "0 resolutions of series; accepted: 1 to 6");
        assert!(bad(vec![ring(10, 100), ring(10, 1_000)]).starts_with("series of 10.0 s for 17 min"));
        assert!(bad(vec![ring(10, 5)]).starts_with("series of 10.0 s for 5.0 s"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_order_of_doings_keeps_the_books(ops in proptest::collection::vec((0_u8..8, 0_u16..6, 0_u64..900, 0.0..1.0), 1..300)) {
            let layout = Layout { rings: vec![ring(1, 100), ring(5, 2_000)], max_bytes: 9_000, max_series: 4 };
            let mut series = Series::new(layout.clone()).unwrap();
            let mut disk: Map<BlockId, Vec<u8>> = Map::default();
            let (mut now, mut pushed) = (0, 0_u64);
            for (op, worker, step, value) in ops {
                match op {
                    0 => series.tidy(),
                    1 => {
                        disk.extend(series.changed());
                        series.expired().iter().for_each(|id| drop(disk.remove(id)));
                    }
                    2 => {
                        let mut next = Series::new(layout.clone()).unwrap();
                        for (id, bytes) in &disk {
                            next.restore(id.key, bytes).unwrap();
                        }
                        // The clock was set back over the restart.
                        now -= now.min(step / 9);
                        (series, pushed) = (next, 0);
                    }
                    _ => {
                        now += step / 30;
                        series.push(key(worker), at(now), value);
                        pushed += 1;
                    }
                }
                series.assert_invariants();
                let seen = series.query(key(worker), at(0), at(now + 1), S(5));
                prop_assert!(seen.points.len() as u64 <= MAX_POINTS);
                let in_bounds = |p: &Point| 0.0 <= p.min && p.min <= p.mean && p.mean <= p.max && p.max <= 1.001;
                prop_assert!(seen.points.iter().flatten().all(in_bounds));
            }
            prop_assert!(pushed <= 300);
        }
    }
}
