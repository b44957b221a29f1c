//! How lists are written: a JSON array, or one object a line for those who ask for NDJSON.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The media type of one JSON object a line.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// Whether a header (`accept`, `content-type`) names NDJSON.
pub(super) fn is_ndjson(header: Option<&HeaderValue>) -> bool {
    let names = |text: &str| text.split(',').any(|part| media_type(part).eq_ignore_ascii_case(NDJSON));
    header.and_then(|h| h.to_str().ok()).is_some_and(names)
}

fn media_type(part: &str) -> &str {
    part.split(';').next().unwrap_or("").trim()
}

/// A list, as the caller wants it.
pub(super) fn list<T: Serialize>(headers: &HeaderMap, items: &[T]) -> Response {
    if is_ndjson(headers.get(header::ACCEPT)) { lines(items) } else { Json(items).into_response() }
}

/// A list, one object a line.
pub(super) fn lines<T: Serialize>(items: &[T]) -> Response {
    let mut text = Vec::new();
    for item in items {
        line(&mut text, item);
    }
    ([(header::CONTENT_TYPE, NDJSON)], text).into_response()
}

/// One object and a line feed.
pub(super) fn line<T: Serialize>(text: &mut Vec<u8>, item: &T) {
    serde_json::to_writer(&mut *text, item).expect("wire types are plain data, and a vector takes all bytes");
    text.push(b'\n');
}
