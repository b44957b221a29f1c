//! Heat over time, as data or as a picture.

use super::super::error::Error;
use super::super::wire::HeatmapQuery;
use super::Ask;
use super::query::{Query, one_of, within};
use crate::draw::{Heatmap, SvgStyle, Theme, Zone, png, svg};
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

/// Pixels of a picture for each unit of its drawing.
const PNG_SCALE: f32 = 2.0;
/// Farthest back, seconds: ten years.
const LAST_LIMIT_S: f64 = 3.2e8;
/// A day.
const ZONE_LIMIT_S: i32 = 86_400;

/// Heat of workers, cells, shards or sources over time.
#[utoipa::path(get, path = "/v1/heatmap", tag = "evidence", params(HeatmapQuery),
    responses((status = 200, content((Heatmap = "application/json"), (String = "image/svg+xml"),
        (Vec<u8> = "image/png")))))]
pub(super) async fn heatmap(
    State(ask): State<Ask>,
    Query(query): Query<HeatmapQuery>,
) -> Result<Response, Error> {
    check(&query)?;
    let format = query.format.clone().unwrap_or_default();
    let theme = if query.theme.as_deref() == Some("dark") { Theme::Dark } else { Theme::Light };
    let style = SvgStyle { theme, zone: Zone(query.zone_s.unwrap_or(0)), max_width_px: None };
    let map = ask.backend.heatmap(query).await?;
    // Drawing takes milliseconds to a second: off the threads that answer others.
    match format.as_str() {
        "svg" => {
            let text = aside(move || svg(&map, &style)).await?;
            Ok(([(header::CONTENT_TYPE, "image/svg+xml")], text).into_response())
        }
        "png" => {
            let bytes = aside(move || png(&map, &style, PNG_SCALE)).await?;
            Ok(([(header::CONTENT_TYPE, "image/png")], bytes).into_response())
        }
        _ => Ok(Json(map).into_response()),
    }
}

fn check(query: &HeatmapQuery) -> Result<(), Error> {
    one_of("by", query.by.as_ref(), &["worker", "cell", "shard", "source"])?;
    one_of("metric", query.metric.as_ref(), &["cpu", "memory", "io", "net", "latency", "heat"])?;
    one_of("format", query.format.as_ref(), &["json", "svg", "png"])?;
    one_of("theme", query.theme.as_ref(), &["light", "dark"])?;
    within("last_s", query.last_s, 1.0..=LAST_LIMIT_S)?;
    within("columns", query.columns, 1..=1_000)?;
    within("zone_s", query.zone_s, -ZONE_LIMIT_S..=ZONE_LIMIT_S)
}

async fn aside<T: Send + 'static>(
    draw: impl FnOnce() -> Result<T, crate::draw::Error> + Send + 'static,
) -> Result<T, Error> {
    let drawn = tokio::task::spawn_blocking(draw).await;
    let drawn = drawn.map_err(|e| Error::Internal { message: format!("the picture was not drawn: {e}") })?;
    drawn.map_err(|e| Error::bad("not_drawable", format!("the picture cannot be drawn: {e}")))
}
