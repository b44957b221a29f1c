//! The only place where errors become an HTTP status and a stable code.

use super::wire::ErrorBody;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What the socket answers when it cannot do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request is not what is accepted: 400.
    #[error("{message}")]
    Bad {
        /// Stable word.
        code: &'static str,
        /// The place, the value, what is accepted.
        message: String,
    },
    /// There is no such thing: 404.
    #[error("{message}")]
    NotFound {
        /// What was asked for and does not exist.
        message: String,
    },
    /// It is not in a state that allows this: 409.
    #[error("{message}")]
    Conflict {
        /// Where it stands and what would do.
        message: String,
    },
    /// The caller's role does not allow it: 403.
    #[error("this needs role `{needed}`, and uid {uid} has role `{has}`")]
    Forbidden {
        /// Role that would do.
        needed: &'static str,
        /// Role that the caller has.
        has: &'static str,
        /// Who calls.
        uid: u32,
    },
    /// The path exists, and does not take this method: 405.
    #[error("{message}")]
    Method {
        /// The method, the path, what is accepted.
        message: String,
    },
    /// The body did not arrive in time: 408.
    #[error("the body did not arrive within {limit_s} s")]
    Slow {
        /// How long it may take, seconds.
        limit_s: u64,
    },
    /// The body is too large: 413.
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// Too much is waiting: 429 with `Retry-After`.
    #[error("{message}")]
    Busy {
        /// What is full.
        message: String,
        /// When to try again, seconds.
        retry_after_s: u32,
    },
    /// The daemon cannot do it now: 503.
    #[error("{message}")]
    Unavailable {
        /// Why.
        message: String,
    },
    /// A mistake of ours: 500.
    #[error("{message}")]
    Internal {
        /// What went wrong.
        message: String,
    },
}

impl Error {
    /// The stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Bad { code, .. } => code,
            Error::NotFound { .. } => "not_found",
            Error::Conflict { .. } => "conflict",
            Error::Forbidden { .. } => "forbidden",
            Error::Method { .. } => "method_not_allowed",
            Error::Slow { .. } => "too_slow",
            Error::TooLarge { .. } => "too_large",
            Error::Busy { .. } => "busy",
            Error::Unavailable { .. } => "unavailable",
            Error::Internal { .. } => "internal",
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Error::Bad { .. } => StatusCode::BAD_REQUEST,
            Error::NotFound { .. } => StatusCode::NOT_FOUND,
            Error::Conflict { .. } => StatusCode::CONFLICT,
            Error::Forbidden { .. } => StatusCode::FORBIDDEN,
            Error::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Error::Slow { .. } => StatusCode::REQUEST_TIMEOUT,
            Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
            Error::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Error::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The request is not what is accepted.
    pub fn bad(code: &'static str, message: impl Into<String>) -> Error {
        Error::Bad { code, message: message.into() }
    }

    /// As it goes over the wire.
    pub fn body(&self) -> ErrorBody {
        ErrorBody { code: self.code().to_owned(), message: self.to_string(), detail: None }
    }
}

/// The status that goes with a stable word: for errors that come as an [`ErrorBody`].
pub(super) fn status_of(code: &str) -> StatusCode {
    match code {
        "not_found" => StatusCode::NOT_FOUND,
        "conflict" => StatusCode::CONFLICT,
        "forbidden" => StatusCode::FORBIDDEN,
        "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        "busy" => StatusCode::TOO_MANY_REQUESTS,
        "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
        "internal" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(self.body())).into_response();
        let retry = match &self {
            Error::Busy { retry_after_s, .. } => Some(*retry_after_s),
            Error::Unavailable { .. } => Some(1),
            _ => None,
        };
        if let Some(s) = retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(s));
        }
        response
    }
}
