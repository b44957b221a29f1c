//! The Unix socket: who listens on it, which connections it has, and how they end.

use super::backend::Backend;
use super::connection;
use super::roles::{Access, Peer};
use super::routes;
use super::wire::ErrorBody;
use rustix::fs::{Gid, Mode};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Most connections at once, if the process may have twice as many files. Each costs a file and, while it is read,
/// up to [`HEADER_LIMIT_BYTES`]; those beyond it are told so and closed, because a clear answer is better than a
/// silent queue.
pub const MAX_CONNECTIONS: usize = 4_096;
/// Longest request head, and the most that is read at once.
pub const HEADER_LIMIT_BYTES: usize = 64 << 10;
/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last one is a zero.
const PATH_LIMIT_BYTES: usize = 107;
/// Connections that the kernel queues while we accept.
const BACKLOG: i32 = 1_024;
/// How long to wait when the process is out of files: by then some connection has ended.
const OUT_OF_FILES_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection that is one too many may take to read that.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The socket's path, at most 107 bytes. Missing folders are made.
    pub path: PathBuf,
    /// Its permission bits, usually 0o660.
    pub mode: u32,
    /// Its group, by name or number; the process's own when left out.
    pub group: Option<String>,
}

/// Why nobody listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The path does not fit into a socket's address.
    #[error("the socket's path {} is {} bytes long; accepted: up to {PATH_LIMIT_BYTES}", .0.display(), .0.as_os_str().len())]
    PathTooLong(PathBuf),
    /// Another daemon answers there.
    #[error("another daemon listens on {}: stop it first, or choose another `daemon.socket`", .0.display())]
    Live(PathBuf),
    /// Something else than a socket stands there.
    #[error("{} is there and is no socket: move it away, or choose another `daemon.socket`", .0.display())]
    NoSocket(PathBuf),
    /// There is no such group.
    #[error("group `{0}` of the socket is not in /etc/group")]
    UnknownGroup(String),
    /// The inherited file is not a listening Unix socket.
    #[error(
        "the inherited file 3 is no listening Unix stream socket: one `ListenStream=` of the unit must name a path"
    )]
    NotInheritable,
    /// The system refused.
    #[error("{what} {}: {source}", path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    inner: UnixListener,
    socket: Socket,
}

/// The socket's file, which outlives the listening: it is removed last, when the state is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    path: PathBuf,
    /// `None` for an inherited socket, which belongs to who made it.
    identity: Option<Identity>,
}

/// Which file this is: device, inode, and when it was made, because a number is given to the next file as soon
/// as it is free (seconds and nanoseconds; nothing writes into a socket's file, so this time stays).
type Identity = (u64, u64, i64, i64);

impl Socket {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, unless it was inherited or another daemon has put its own there. Called when our own
    /// listener is gone: as long as anybody answers, the file stays.
    pub fn remove(&self) {
        let Some(identity) = self.identity else { return };
        let ours = identity_of(&self.path) == Some(identity);
        // Two sockets made within one tick of the kernel's clock can look the same; the answer tells them apart.
        if ours && matches!(answers(&self.path), Ok(false)) {
            // Nothing is lost if it stays: the next daemon replaces a stale socket.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity_of(path: &Path) -> Option<Identity> {
    std::fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino(), m.mtime(), m.mtime_nsec()))
}

impl Listener {
    /// Makes the socket and listens. A stale socket is replaced, a live one is not. Needs a tokio runtime.
    ///
    /// # Errors
    /// What stands in the way, and what to do about it.
    pub fn bind(place: &Place) -> Result<Listener, ListenError> {
        let path = &place.path;
        let failed = |what| move |e: rustix::io::Errno| system(what, path, e.into());
        if path.as_os_str().len() > PATH_LIMIT_BYTES {
            return Err(ListenError::PathTooLong(path.clone()));
        }
        let gid = place.group.as_deref().map(gid_of).transpose()?;
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder);
            made.map_err(|e| system("make the socket's folder", folder, e))?;
        }
        clear_stale(path)?;
        let address = rustix::net::SocketAddrUnix::new(path).map_err(failed("name the socket"))?;
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        let stream = rustix::net::SocketType::STREAM;
        let fd = rustix::net::socket_with(rustix::net::AddressFamily::UNIX, stream, flags, None)
            .map_err(failed("make a socket for"))?;
        rustix::net::bind(&fd, &address).map_err(failed("bind the socket"))?;
        // Nobody can connect before `listen`, so the mode is never wider than it should be.
        let socket = Socket { path: path.clone(), identity: identity_of(path) };
        let open = || {
            rustix::fs::chmod(path, Mode::from_raw_mode(place.mode)).map_err(failed("set the mode of"))?;
            if let Some(gid) = gid {
                rustix::fs::chown(path, None, Some(gid)).map_err(failed("set the group of"))?;
            }
            rustix::net::listen(&fd, BACKLOG).map_err(failed("listen on"))
        };
        if let Err(e) = open() {
            socket.remove();
            return Err(e);
        }
        Listener::from_fd(fd, socket)
    }

    /// The socket that systemd passed on (`LISTEN_FDS`), if it did. It is never unlinked. Needs a tokio
    /// runtime; call it once, before other threads open files.
    ///
    /// # Errors
    /// When what was passed on is not a listening Unix socket.
    pub fn inherited() -> Result<Option<Listener>, ListenError> {
        let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
        if number("LISTEN_PID") != Some(std::process::id()) || number("LISTEN_FDS").unwrap_or(0) == 0 {
            return Ok(None);
        }
        const FIRST: i32 = 3;
        // SAFETY: the variables name this process, so whoever started it opened file 3 for it, and the caller
        // promises to call once: nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(FIRST) };
        Listener::from_inherited(fd).map(Some)
    }

    /// A socket that somebody else made and listens on.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_inherited(fd: OwnedFd) -> Result<Listener, ListenError> {
        let listens = rustix::net::sockopt::socket_acceptconn(&fd) == Ok(true)
            && rustix::net::sockopt::socket_type(&fd) == Ok(rustix::net::SocketType::STREAM);
        let address = rustix::net::getsockname(&fd).ok();
        let unix = address.and_then(|a| rustix::net::SocketAddrUnix::try_from(a).ok());
        let Some(address) = unix.filter(|_| listens) else { return Err(ListenError::NotInheritable) };
        let path = address.path().map(|p| PathBuf::from(std::ffi::OsStr::from_bytes(p.to_bytes())));
        let path = path.unwrap_or_default();
        let cloexec = rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC);
        cloexec.map_err(|e| system("take over", &path, e.into()))?;
        rustix::io::ioctl_fionbio(&fd, true).map_err(|e| system("take over", &path, e.into()))?;
        Listener::from_fd(fd, Socket { path, identity: None })
    }

    fn from_fd(fd: OwnedFd, socket: Socket) -> Result<Listener, ListenError> {
        let inner = UnixListener::from_std(std::os::unix::net::UnixListener::from(fd));
        let inner = inner.map_err(|e| system("listen on", &socket.path, e))?;
        Ok(Listener { inner, socket })
    }

    /// The socket's file, to be removed when all else is done.
    pub fn socket(&self) -> Socket {
        self.socket.clone()
    }
}

fn system(what: &'static str, path: &Path, source: io::Error) -> ListenError {
    ListenError::System { what, path: path.to_owned(), source }
}

/// Removes a socket on which nobody listens.
fn clear_stale(path: &Path) -> Result<(), ListenError> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(system("look at", path, e)),
    };
    if !found.file_type().is_socket() {
        return Err(ListenError::NoSocket(path.to_owned()));
    }
    if answers(path)? {
        return Err(ListenError::Live(path.to_owned()));
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(system("remove the stale socket", path, e)),
        _ => Ok(()),
    }
}

/// Whether somebody listens on a socket.
fn answers(path: &Path) -> Result<bool, ListenError> {
    let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
    let stream = rustix::net::SocketType::STREAM;
    let fd = rustix::net::socket_with(rustix::net::AddressFamily::UNIX, stream, flags, None)
        .map_err(|e| system("make a socket to test", path, e.into()))?;
    let address = rustix::net::SocketAddrUnix::new(path);
    let address = address.map_err(|e| system("name the socket", path, e.into()))?;
    match rustix::net::connect(fd.as_fd(), &address) {
        // A full queue (EAGAIN) is a daemon that is busy, not one that is gone.
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Ok(true),
        Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => Ok(false),
        Err(e) => Err(system("test whether a daemon listens on", path, e.into())),
    }
}

fn gid_of(group: &str) -> Result<Gid, ListenError> {
    let unknown = || ListenError::UnknownGroup(group.to_owned());
    if let Ok(number) = group.parse::<u32>() {
        return Ok(Gid::from_raw(number));
    }
    let groups =
        std::fs::read_to_string("/etc/group").map_err(|e| system("read", Path::new("/etc/group"), e))?;
    let line = groups.lines().find(|l| l.split(':').next() == Some(group)).ok_or_else(unknown)?;
    line.split(':').nth(2).and_then(|n| n.parse().ok()).map(Gid::from_raw).ok_or_else(unknown)
}

/// What a listener allows.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most connections at once.
    pub max_connections: usize,
    /// How long a request's head may take, and a connection be idle.
    pub header_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long a client may not read what is written to it.
    pub write_timeout: Duration,
    /// How long requests may go on after the shutdown began.
    pub shutdown_deadline: Duration,
    /// Which role whom.
    pub access: Access,
}

/// Half of the files that this process may open, and no more than [`MAX_CONNECTIONS`]: the other half is for
/// everything else.
fn connections_here() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files.map_or(MAX_CONNECTIONS, |n| usize::try_from(n / 2).unwrap_or(MAX_CONNECTIONS)).min(MAX_CONNECTIONS)
}

impl Default for Settings {
    /// Half of the open files and at most [`MAX_CONNECTIONS`], 15 s, 30 s, 5 min (somebody may look at a followed log page by page), 5 s,
    /// [`Access::here`].
    fn default() -> Settings {
        Settings {
            max_connections: connections_here(),
            header_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(300),
            shutdown_deadline: Duration::from_secs(5),
            access: Access::here(),
        }
    }
}

/// Serves requests until `shutdown`, then stops to accept and returns when those under way are answered, or
/// after the deadline. The connections run on the current runtime. The socket's file stays: see [`Socket`].
pub async fn serve(
    listener: Listener,
    backend: Arc<dyn Backend>,
    settings: Settings,
    shutdown: CancellationToken,
) {
    let limits = routes::Limits { body_timeout: settings.body_timeout, ..routes::Limits::default() };
    let router = routes::router(backend, limits, shutdown.clone());
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                report(ended);
                continue;
            }
            accepted = listener.inner.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(OUT_OF_FILES_PAUSE).await;
                    continue;
                }
            },
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                connections.spawn(connection(stream, router.clone(), settings, place, shutdown.clone()));
            }
            Err(_) => refuse(stream, settings.max_connections).await,
        }
    }
    // Whoever connects from now on is refused by the kernel, at once.
    drop(listener);
    let ended = tokio::time::timeout(settings.shutdown_deadline, async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    });
    if ended.await.is_err() {
        tracing::warn!(connections = connections.len(), "requests were cut off at the shutdown's deadline");
        connections.shutdown().await;
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a request's handler panicked; its connection was closed");
    }
}

/// One connection, until its client closes it or the shutdown has answered its last request.
async fn connection(
    stream: UnixStream,
    router: axum::Router,
    settings: Settings,
    _place: OwnedSemaphorePermit,
    shutdown: CancellationToken,
) {
    // Without credentials nobody is trusted; the kernel always has them for a connected Unix socket.
    let Ok(credentials) = stream.peer_cred() else { return };
    let uid = credentials.uid();
    let peer = Peer { uid, role: settings.access.of(uid) };
    let answered = connection::answer(
        stream,
        router,
        move |request| _ = request.extensions_mut().insert(peer),
        &settings,
        &shutdown,
    );
    if let Err(error) = answered.await {
        tracing::debug!(%error, uid, "a connection ended early");
    }
}

/// Tells a connection that is one too many so, and closes it. One write into an empty buffer does not block.
async fn refuse(mut stream: UnixStream, limit: usize) {
    let message = format!("{limit} connections are open, which is the limit: try again later");
    let body = ErrorBody { code: "busy".to_owned(), message, detail: None };
    let body = serde_json::to_string(&body).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, stream.write_all(answer.as_bytes())).await;
}
