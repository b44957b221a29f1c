//! Carries out one transfer: from a source into an unfinished file of a pool.
//!
//! It resumes by itself as long as each request brings something, keeps the pace that its [`Lane`] allows, and
//! checks what arrives: length, version, and SHA-256 where one is declared. It decides nothing else: `flights`
//! says when, and whether to try again. The unfinished file is either returned with [`Landed`], or named in
//! [`Failed::partial`] to be gone on with, or removed.

mod pace;
mod sink;

pub use pace::Lane;
pub use sink::{Leftover, NOTED_BYTES, discard, leftovers};

use crate::flow::ObjectName;
use crate::prefetch::flights::Class;
use crate::prefetch::source::{Error, Meta, Reading, Source};
use crate::time::{Clock, Span, Time};
use futures_util::StreamExt;
use sink::Sink;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Requests of one transfer at most: a server that sends a few bytes and hangs up is not worth more.
const LEGS_LIMIT: u32 = 16;
/// Progress is told after so many bytes …
const STEP_BYTES: u64 = 1 << 20;
/// … or so much time.
const STEP: Span = Span::from_ms(100);

/// What is to be fetched.
#[derive(Clone, Debug)]
pub struct Order {
    /// The object; its source must be the one that is passed along.
    pub object: ObjectName,
    /// The unfinished file: in the pool's `tmp/`, not used by another transfer.
    pub temp: PathBuf,
    /// Of which version `temp` holds the beginning, if an earlier try left one.
    pub resume: Option<Meta>,
    /// Which version it must be, if that matters. After [`Error::Changed`] this version is no more.
    pub expect: Option<Meta>,
    /// The declared SHA-256, if any.
    pub sha256: Option<[u8; 32]>,
    /// The room that was set aside; a longer object is refused before its body is fetched.
    pub max_bytes: u64,
    /// Parallel ranges at most, where version and length are known and the source serves ranges.
    pub connections: u16,
}

/// A whole object in an unfinished file, checked but not synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    /// The file.
    pub temp: PathBuf,
    /// Its length and version.
    pub meta: Meta,
    /// Its XXH3-128 (seed 0).
    pub checksum: u128,
    /// From the first request to the first byte.
    pub ttfb: Span,
    /// Bytes that came over the network in this transfer: less than the length after a resume.
    pub fetched_bytes: u64,
    /// Requests that it took.
    pub legs: u32,
}

/// A transfer that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub error: Error,
    /// What `temp` still holds, if that can be gone on with. Else `temp` is gone.
    pub partial: Option<Partial>,
    /// Bytes that came over the network in vain or for a later try.
    pub fetched_bytes: u64,
}

/// The good beginning of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// How much.
    pub bytes: u64,
    /// Of which version: to be passed as [`Order::resume`].
    pub meta: Meta,
}

/// Steers a running transfer from outside. Clones steer the same one.
#[derive(Clone, Debug)]
pub struct Handle {
    class: Arc<watch::Sender<Class>>,
    stop: CancellationToken,
}

impl Handle {
    /// For a transfer that begins under `class`.
    pub fn new(class: Class) -> Handle {
        Handle { class: Arc::new(watch::Sender::new(class)), stop: CancellationToken::new() }
    }
    /// Paces it as `class` from now on.
    pub fn set_class(&self, class: Class) {
        self.class.send_replace(class);
    }
    /// What it is paced as now.
    pub fn class(&self) -> Class {
        *self.class.borrow()
    }
    /// Ends it with [`Error::Stopped`], what it has kept.
    pub fn stop(&self) {
        self.stop.cancel();
    }
    /// As what it is to be paced, now and later.
    pub fn classes(&self) -> watch::Receiver<Class> {
        self.class.subscribe()
    }
    /// Whether it is to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }
    /// Waits until it is to end.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

/// Runs one transfer to its end. `progress` is told bytes there and length, in steps of a megabyte or 100 ms. To
/// end it early use [`Handle::stop`]; a dropped future leaves its unfinished file behind.
///
/// # Errors
/// [`Failed`] with one of [`Source::read`]'s errors, or with [`Error::Truncated`], [`Error::TooLong`],
/// [`Error::Corrupt`], [`Error::DiskFull`], [`Error::Disk`], [`Error::Stopped`].
pub async fn run(
    order: Order,
    source: &Source,
    lane: &Lane,
    handle: &Handle,
    clock: Clock,
    progress: impl Fn(u64, u64),
) -> Result<Landed, Failed> {
    let resumed = match &order.resume {
        Some(meta) => Sink::resume(&order.object, &order.temp, order.sha256.is_some(), meta.bytes).await,
        None => Ok(Sink::new(&order.object, &order.temp, order.sha256.is_some())),
    };
    let sink = resumed.map_err(|error| Failed { error, partial: None, fetched_bytes: 0 })?;
    let pin = if sink.bytes() > 0 { order.resume.clone() } else { order.expect.clone() };
    let connections = order.connections;
    let mut flight = InFlight {
        told: (0, clock.now()),
        order,
        source,
        lane,
        handle,
        clock,
        progress,
        sink,
        pin,
        connections,
        ttfb: None,
        fetched_bytes: 0,
        legs: 0,
    };
    match flight.all_legs().await {
        Ok(meta) => flight.land(meta).await,
        Err(error) => Err(flight.fail(error).await),
    }
}

struct InFlight<'a, P> {
    order: Order,
    source: &'a Source,
    lane: &'a Lane,
    handle: &'a Handle,
    clock: Clock,
    progress: P,
    sink: Sink,
    /// The version that the next request asks for: known in advance, or told by the first answer.
    pin: Option<Meta>,
    connections: u16,
    ttfb: Option<Span>,
    fetched_bytes: u64,
    legs: u32,
    /// Bytes and time of the last report.
    told: (u64, Time),
}

impl<P: Fn(u64, u64)> InFlight<'_, P> {
    /// Request after request, until all is there or one brings nothing.
    async fn all_legs(&mut self) -> Result<Meta, Error> {
        loop {
            let before = self.sink.bytes();
            self.legs += 1;
            match self.leg().await {
                Ok(meta) => return Ok(meta),
                Err(Error::NoRanges { .. }) if self.legs == 1 => self.start_over().await,
                Err(e) => {
                    let goes_on = e.keeps_partial() && !matches!(e, Error::Stopped { .. });
                    let resumable = self.pin.as_ref().is_some_and(Meta::is_resumable);
                    let brought = self.sink.bytes() > before;
                    if !(goes_on && resumable && brought && self.legs < LEGS_LIMIT) {
                        return Err(e);
                    }
                }
            }
        }
    }

    /// The server serves whole objects only.
    async fn start_over(&mut self) {
        let fresh = Sink::new(&self.order.object, &self.order.temp, self.order.sha256.is_some());
        std::mem::replace(&mut self.sink, fresh).discard().await;
        self.connections = 1;
        self.pin = self.order.expect.clone();
    }

    /// One request, and its body as far as it goes.
    async fn leg(&mut self) -> Result<Meta, Error> {
        let stopped = Error::Stopped { object: self.order.object.clone() };
        let (path, from) = (self.order.object.path(), self.sink.bytes());
        let read = self.source.read(path, from, self.pin.as_ref(), self.connections);
        let Reading { meta, ttfb, mut body, .. } = tokio::select! {
            biased;
            () = self.handle.stop.cancelled() => return Err(stopped),
            reading = read => reading?,
        };
        self.ttfb.get_or_insert(ttfb);
        if meta.bytes > self.order.max_bytes {
            let (object, bytes) = (self.order.object.clone(), meta.bytes);
            return Err(Error::TooLong { object, bytes, limit_bytes: self.order.max_bytes });
        }
        self.pin = Some(meta.clone());
        self.sink.announce(&meta).await?;
        loop {
            let piece = tokio::select! {
                biased;
                () = self.handle.stop.cancelled() => return Err(stopped),
                piece = body.next() => piece,
            };
            let got_bytes = self.sink.bytes();
            let truncated = |reason| Error::Truncated {
                object: self.order.object.clone(),
                expected_bytes: meta.bytes,
                got_bytes,
                reason,
            };
            match piece {
                None if got_bytes == meta.bytes => return Ok(meta),
                None => return Err(truncated("the body ended early".into())),
                Some(Err(Error::Unreachable { reason, .. })) => return Err(truncated(reason)),
                Some(Err(e)) => return Err(e),
                Some(Ok(piece)) => self.take(piece, &meta, &stopped).await?,
            }
        }
    }

    async fn take(&mut self, piece: bytes::Bytes, meta: &Meta, stopped: &Error) -> Result<(), Error> {
        let after = self.sink.bytes() + piece.len() as u64;
        if after > meta.bytes {
            let (object, limit_bytes) = (self.order.object.clone(), meta.bytes);
            return Err(Error::TooLong { object, bytes: after, limit_bytes });
        }
        let bytes = piece.len() as u64;
        self.fetched_bytes += bytes;
        // What is here is here: it is kept first, and paid for then.
        self.sink.push(piece).await?;
        tokio::select! {
            biased;
            () = self.handle.stop.cancelled() => return Err(stopped.clone()),
            () = self.lane.pass(&self.handle.class, bytes) => {}
        }
        let now = self.clock.now();
        let (told_bytes, told_at) = self.told;
        if after - told_bytes.min(after) >= STEP_BYTES || now.since(told_at) >= STEP {
            self.told = (after, now);
            (self.progress)(after, meta.bytes);
        }
        Ok(())
    }

    async fn land(self, meta: Meta) -> Result<Landed, Failed> {
        let fetched_bytes = self.fetched_bytes;
        let failed = |error| Failed { error, partial: None, fetched_bytes };
        let Order { object, temp, sha256, .. } = self.order;
        let sums = match self.sink.finish().await {
            Ok(sums) => sums,
            Err(error) => {
                Sink::new(&object, &temp, false).discard().await;
                return Err(failed(error));
            }
        };
        if sha256.is_some() && sums.sha256 != sha256 {
            Sink::new(&object, &temp, false).discard().await;
            let hex = |sum: Option<[u8; 32]>| -> String {
                sum.iter().flatten().map(|byte| format!("{byte:02x}")).collect()
            };
            return Err(failed(Error::Corrupt { object, declared: hex(sha256), found: hex(sums.sha256) }));
        }
        if meta.bytes >= NOTED_BYTES {
            sink::forget_note(&temp);
        }
        let ttfb = self.ttfb.unwrap_or(Span::ZERO);
        Ok(Landed { temp, meta, checksum: sums.xxh3, ttfb, fetched_bytes, legs: self.legs })
    }

    async fn fail(mut self, error: Error) -> Failed {
        let fetched_bytes = self.fetched_bytes;
        let meta = self.pin.take().filter(|m| m.is_resumable() && error.keeps_partial());
        if let Some(meta) = meta
            && self.sink.bytes() > 0
            && self.sink.settle().await.is_ok()
        {
            let partial = Some(Partial { bytes: self.sink.bytes(), meta });
            return Failed { error, partial, fetched_bytes };
        }
        self.sink.discard().await;
        Failed { error, partial: None, fetched_bytes }
    }
}

#[cfg(test)]
mod tests;
