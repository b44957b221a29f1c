//! Publishing a task's outputs: uploaded to their source, adopted into the cache, then the task counts as done.

use super::actor::Peers;
use crate::message::{Adopt, Discard, NotReady, Publish};
use std::sync::Arc;

/// Publishes all outputs of one attempt. An output that the cache has no room for is published all the same.
pub(super) async fn publish(peers: Arc<Peers>, msg: Publish) -> Result<(), NotReady> {
    for made in msg.outputs {
        let failed = |error: String| NotReady { object: made.object.clone(), error, released: true };
        let source =
            peers.places.source(&made.object).ok_or_else(|| failed("its source is not configured".into()))?;
        let source = &peers.sources[usize::from(source.0)];
        let meta = source.publish(made.object.path(), &made.path).await.map_err(|e| failed(e.to_string()))?;
        for pool in &peers.caches {
            let _ = pool.discard.send(Discard(vec![made.object.clone()])).await;
        }
        if made.shared {
            continue; // It has other names: whoever holds them could change it in the pool.
        }
        let pool = &peers.caches[usize::from(msg.cache.0)];
        let etag = meta.etag.as_deref().map(str::to_owned);
        let adopt = Adopt { from: made.path.clone(), object: made.object.clone(), bytes: made.bytes, etag };
        if let Ok(Err(why)) = pool.adopt.send(adopt).await {
            tracing::debug!(object = %made.object, %why, "an output was published, but not kept in the cache");
        }
    }
    Ok(())
}
