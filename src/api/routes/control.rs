//! The daemon itself: pause, resume, drain, health.

use super::super::error::Error;
use super::super::wire::Health;
use super::Ask;
use axum::Json;
use axum::extract::State;

/// Start nothing more, until `resume`. What runs goes on; tasks are still accepted.
#[utoipa::path(post, path = "/v1/pause", tag = "daemon", responses((status = 200, body = Health)))]
pub(super) async fn pause(State(ask): State<Ask>) -> Result<Json<Health>, Error> {
    ask.backend.pause(true).await?;
    ask.backend.health().await.map(Json)
}

/// Start tasks again.
#[utoipa::path(post, path = "/v1/resume", tag = "daemon", responses((status = 200, body = Health)))]
pub(super) async fn resume(State(ask): State<Ask>) -> Result<Json<Health>, Error> {
    ask.backend.pause(false).await?;
    ask.backend.health().await.map(Json)
}

/// Take and start nothing more, and stop the daemon when what runs has ended.
#[utoipa::path(post, path = "/v1/drain", tag = "daemon", responses((status = 200, body = Health)))]
pub(super) async fn drain(State(ask): State<Ask>) -> Result<Json<Health>, Error> {
    // Asked first: an idle daemon may be gone before it could answer.
    let health = ask.backend.health().await?;
    ask.backend.drain().await?;
    Ok(Json(Health { status: "draining".to_owned(), ..health }))
}

/// How the daemon is.
#[utoipa::path(get, path = "/v1/health", tag = "daemon", responses((status = 200, body = Health)))]
pub(super) async fn health(State(ask): State<Ask>) -> Result<Json<Health>, Error> {
    ask.backend.health().await.map(Json)
}
