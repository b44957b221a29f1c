//! How bodies are read: bounded in size and time, one by one and all together.

use super::super::error::Error;
use super::Ask;
use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Room is taken in steps of this many KiB, so that small frames do not cost one step each.
const STEP_KIB: usize = 64;

/// A body, and its share of the room for all bodies, which it holds until it is dropped.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Ask {
    /// Reads a body of at most `limit_bytes`.
    pub(super) async fn read(&self, body: Body, limit_bytes: usize) -> Result<Whole, Error> {
        let timeout = self.limits.body_timeout;
        match tokio::time::timeout(timeout, self.collect(body, limit_bytes)).await {
            Ok(read) => read,
            Err(_) => Err(Error::Slow { limit_s: timeout.as_secs() }),
        }
    }

    async fn collect(&self, mut body: Body, limit_bytes: usize) -> Result<Whole, Error> {
        let announced = body.size_hint().lower();
        if usize::try_from(announced).unwrap_or(usize::MAX) > limit_bytes {
            return Err(Error::TooLarge { limit_bytes });
        }
        let mut bytes = BytesMut::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| Error::bad("bad_body", format!("the body broke off: {e}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > limit_bytes {
                return Err(Error::TooLarge { limit_bytes });
            }
            self.grow(&mut room, bytes.len() + data.len())?;
            bytes.extend_from_slice(&data);
        }
        Ok(Whole { bytes: bytes.freeze(), _room: room })
    }

    /// Takes as much of the room as `bytes` need.
    fn grow(&self, room: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), Error> {
        let have = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(1 << 10).saturating_sub(have);
        if missing == 0 {
            return Ok(());
        }
        let step = u32::try_from(missing.max(STEP_KIB)).unwrap_or(u32::MAX);
        match Arc::clone(&self.room).try_acquire_many_owned(step) {
            Ok(more) => {
                match room {
                    Some(room) => room.merge(more),
                    None => *room = Some(more),
                }
                Ok(())
            }
            Err(_) => Err(Error::Busy {
                message: format!(
                    "the bodies of all requests together are larger than {} bytes",
                    self.limits.all_bodies_bytes
                ),
                retry_after_s: 1,
            }),
        }
    }

    /// Reads a JSON body.
    pub(super) async fn json<T: DeserializeOwned>(&self, body: Body) -> Result<T, Error> {
        let whole = self.read(body, self.limits.body_bytes).await?;
        parse(&whole.bytes, || "the body".to_owned())
    }
}

/// Reads a value; `place` says where it stands, for the message. The path to the wrong field is looked for only
/// after the reading has failed, because tracking it costs.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], place: impl Fn() -> String) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|error| explain::<T>(json, &error, &place()))
}

fn explain<'a, T: Deserialize<'a>>(json: &'a [u8], error: &serde_json::Error, place: &str) -> Error {
    if json.iter().all(u8::is_ascii_whitespace) {
        return Error::bad("bad_json", format!("{place} is empty; accepted: a JSON object"));
    }
    if !error.is_data() {
        return Error::bad("bad_json", format!("{place} is not JSON: {error}"));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let path = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(e) if e.path().iter().len() > 0 => format!("field `{}` of {place}", e.path()),
        _ => place.to_owned(),
    };
    Error::bad("bad_field", format!("{path}: {error}"))
}
