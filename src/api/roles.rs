//! Who may do what.
//!
//! The socket's mode and group decide who can connect at all; the kernel says who did (`SO_PEERCRED`). The
//! daemon's own user and root administer it; everybody else who gets in may submit.

use super::error::Error;
use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What somebody may do. Each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Read,
    /// Submit and change tasks, stage objects.
    Submit,
    /// Pause, drain, evict, pin.
    Admin,
}

impl Role {
    /// Its name, as messages give it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Submit => "submit",
            Role::Admin => "admin",
        }
    }
}

/// Which role whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The user who administers the daemon; root does, too.
    pub owner_uid: u32,
    /// Everybody else whom the socket's mode lets in.
    pub others: Role,
}

impl Access {
    /// This process's user administers, others submit.
    pub fn here() -> Access {
        Access { owner_uid: rustix::process::geteuid().as_raw(), others: Role::Submit }
    }

    /// The role of a user.
    pub fn of(&self, uid: u32) -> Role {
        if uid == 0 || uid == self.owner_uid { Role::Admin } else { self.others }
    }
}

/// Who calls: put into each request by the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// What this user may do.
    pub role: Role,
}

/// Paths that change what belongs to all.
const ADMIN: [&str; 6] =
    ["/v1/cache/pin", "/v1/cache/unpin", "/v1/cache/evict", "/v1/pause", "/v1/resume", "/v1/drain"];
/// The same for paths that everybody may look at.
const ADMIN_CHANGES: [&str; 1] = ["/v1/groups/{name}"];

/// The role that a route needs. `path` is the route as it was declared, not as it was asked for.
pub fn needed(method: &Method, path: &str) -> Role {
    let looks = method == Method::GET || method == Method::HEAD;
    if ADMIN.contains(&path) || (!looks && ADMIN_CHANGES.contains(&path)) {
        Role::Admin
    } else if looks {
        Role::Read
    } else {
        Role::Submit
    }
}

/// Refuses requests of callers whose role is too low. Without a [`Peer`] nobody is trusted to do more than look.
pub(super) async fn guard(path: MatchedPath, request: Request, next: Next) -> Response {
    let needed = needed(request.method(), path.as_str());
    let peer = request.extensions().get::<Peer>().copied();
    let peer = peer.unwrap_or(Peer { uid: u32::MAX, role: Role::Read });
    if peer.role < needed {
        let error = Error::Forbidden { needed: needed.name(), has: peer.role.name(), uid: peer.uid };
        return error.into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_and_root_administer_and_others_submit() {
        let access = Access { owner_uid: 7, others: Role::Submit };
        assert_eq!([0, 7, 8].map(|uid| access.of(uid)), [Role::Admin, Role::Admin, Role::Submit]);
    }

    #[test]
    fn looking_needs_less_than_changing() {
        assert_eq!(needed(&Method::GET, "/v1/tasks"), Role::Read);
        assert_eq!(needed(&Method::POST, "/v1/tasks"), Role::Submit);
        assert_eq!(needed(&Method::PATCH, "/v1/tasks/{id}"), Role::Submit);
        assert_eq!(needed(&Method::POST, "/v1/cache/stage"), Role::Submit);
        assert_eq!(needed(&Method::POST, "/v1/cache/evict"), Role::Admin);
        assert_eq!(needed(&Method::POST, "/v1/drain"), Role::Admin);
        assert!(Role::Read < Role::Submit && Role::Submit < Role::Admin);
    }
}
