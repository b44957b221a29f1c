//! One HTTP/1.1 connection, by whatever it came in: its limits, and its end.

use super::listen::{HEADER_LIMIT_BYTES, Settings};
use super::patience::Patient;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// Answers until the client closes it, or `shutdown` has answered its last request. `mark` says in each request
/// who asks.
///
/// # Errors
/// If it ends in another way: a broken request, a client that reads or writes too slowly.
pub(super) async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    mark: impl Fn(&mut Request),
    settings: &Settings,
    shutdown: &CancellationToken,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        mark(&mut request);
        TowerToHyperService::new(router.clone()).call(request)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_buf_size(HEADER_LIMIT_BYTES);
    let served = http.serve_connection(TokioIo::new(Patient::new(stream, settings.write_timeout)), service);
    tokio::pin!(served);
    tokio::select! {
        result = served.as_mut() => result,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    }
}
