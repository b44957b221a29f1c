//! How paths and queries are read.

use super::super::error::Error;
use super::shorten;
use axum::extract::{FromRequestParts, Path as RawPath, Query as RawQuery};
use axum::http::request::Parts;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// The query, read into `T`, whose unknown fields are refused.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let read = RawQuery::<T>::try_from_uri(&parts.uri);
        let RawQuery(value) = read.map_err(|e| {
            let text = e.body_text();
            let why = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Error::bad(
                "bad_query",
                format!("the query `{}`: {why}", shorten(parts.uri.query().unwrap_or(""))),
            )
        })?;
        Ok(Query(value))
    }
}

/// A task's number in the path.
pub(super) struct TaskId(pub(super) u64);

impl<S: Send + Sync> FromRequestParts<S> for TaskId {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let Name(text) = Name::from_request_parts(parts, state).await?;
        match text.parse() {
            Ok(id) if id > 0 => Ok(TaskId(id)),
            _ => Err(Error::bad(
                "bad_path",
                format!(
                    "`{}` is no task; accepted: the number that its submit was answered with",
                    shorten(&text)
                ),
            )),
        }
    }
}

/// A name in the path.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let read = RawPath::<String>::from_request_parts(parts, state).await;
        let RawPath(name) = read.map_err(|e| Error::bad("bad_path", e.body_text()))?;
        Ok(Name(name))
    }
}

/// A switch in a query: `1` or `true`, `0` or `false`; the name alone switches it on.
pub(super) fn switch<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    match String::deserialize(from)?.as_str() {
        "" | "1" | "true" => Ok(Some(true)),
        "0" | "false" => Ok(Some(false)),
        other => Err(D::Error::custom(format!("`{}`; accepted: 0 or 1", shorten(other)))),
    }
}

/// Refuses a value outside its range, with its name; what is not a number is outside of every range.
pub(super) fn within<T: PartialOrd + Display>(
    name: &str,
    value: Option<T>,
    range: RangeInclusive<T>,
) -> Result<(), Error> {
    match value {
        Some(v) if !range.contains(&v) => Err(Error::bad(
            "bad_query",
            format!("`{name}` is {v}; accepted: {} to {}", range.start(), range.end()),
        )),
        _ => Ok(()),
    }
}

/// Refuses a word that is none of those accepted.
pub(super) fn one_of(name: &str, value: Option<&String>, accepted: &[&str]) -> Result<(), Error> {
    match value {
        Some(v) if !accepted.contains(&v.as_str()) => Err(Error::bad(
            "bad_query",
            format!("`{name}` is `{}`; accepted: {}", shorten(v), accepted.join(", ")),
        )),
        _ => Ok(()),
    }
}
