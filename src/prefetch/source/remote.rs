//! HTTP servers and S3 buckets, by opendal.

use super::http::{Transport, root_cause};
use super::{Credentials, Error, Kind, Meta, Secret, Settings};
use crate::flow::ObjectName;
use crate::time::{Span, Time};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use opendal::layers::{RetryEvent, RetryLayer, TimeoutLayer};
use opendal::{ErrorKind, HttpTransporter, Operator, options};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Length of one parallel range, and of one part of an upload in parts.
pub const CHUNK_BYTES: u64 = 8 << 20;

/// A parallel range, or an upload, that moves more slowly than this is given up.
pub(super) const SLOWEST_BYTES_PER_S: u64 = 32 << 10;

/// A server that opendal speaks to.
pub(super) struct Remote {
    /// Every answer is final.
    plain: Operator,
    /// The same with quick retries, which may reopen a body in its middle. So it is used only where each
    /// request names the version that it wants.
    retrying: Operator,
    quick_retries: Arc<AtomicU64>,
    /// The server has refused `HEAD` once.
    refuses_head: AtomicBool,
    put: Option<Put>,
}

/// What publishing to an HTTP server needs.
struct Put {
    transport: Transport,
    base: reqwest::Url,
    authorization: Option<reqwest::header::HeaderValue>,
}

impl Remote {
    pub(super) fn new(settings: &Settings, credentials: &Credentials) -> Result<Remote, Error> {
        let (bare, transport, put) = match &settings.kind {
            Kind::Http { url } => http_operator(settings, url, credentials)?,
            Kind::S3 { .. } => s3_operator(settings, credentials)?,
            Kind::File { .. } => unreachable!("folders are not remote"),
        };
        let context = bare.base_context().with_http_transport(HttpTransporter::new(transport));
        // Silence is the transport's business. This bounds whole operations, and a parallel range is read in one:
        // so it must allow for a slow link. It lies below the retry: one attempt is bounded, not all together.
        let answer = settings.connect_timeout + settings.idle_timeout;
        let range = Span::from_secs(CHUNK_BYTES / SLOWEST_BYTES_PER_S).max(answer);
        let bounds = TimeoutLayer::new().with_timeout(answer.to_std()).with_io_timeout(range.to_std());
        let plain = bare.with_context(context).layer(bounds);
        let quick_retries = Arc::new(AtomicU64::new(0));
        let counter = quick_retries.clone();
        let retry = RetryLayer::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(1))
            .with_max_times(usize::from(settings.retries))
            .with_jitter()
            .with_notify(move |_: RetryEvent<'_>| {
                counter.fetch_add(1, Ordering::Relaxed);
            });
        let retrying = plain.clone().layer(retry);
        Ok(Remote { plain, retrying, quick_retries, refuses_head: AtomicBool::new(false), put })
    }

    pub(super) fn quick_retries(&self) -> u64 {
        self.quick_retries.load(Ordering::Relaxed)
    }

    pub(super) async fn stat(&self, object: &ObjectName) -> Result<Meta, Error> {
        match self.head(object, options::StatOptions::default()).await? {
            Some(meta) => Ok(meta),
            None => self.stat_by_get(object).await,
        }
    }

    /// `None`: it is still the version `known`.
    pub(super) async fn stat_unless(&self, object: &ObjectName, known: &Meta) -> Result<Option<Meta>, Error> {
        let Some(etag) = known.etag.as_deref() else {
            return self.stat(object).await.map(Some);
        };
        let unless = options::StatOptions { if_none_match: Some(etag.to_owned()), ..Default::default() };
        match self.head(object, unless).await {
            Ok(Some(meta)) => Ok(Some(meta)),
            Ok(None) => self.stat_by_get(object).await.map(Some),
            // The one condition that was set is "not this version".
            Err(Error::Changed { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// `None`: the server does not answer `HEAD`.
    async fn head(&self, object: &ObjectName, how: options::StatOptions) -> Result<Option<Meta>, Error> {
        if self.refuses_head.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match self.retrying.stat_options(object.path(), how).await {
            Ok(meta) => Ok(Some(meta_of(&meta))),
            Err(e) => match translate(object, e) {
                // 405, 501, or an answer without a length; and some servers forbid HEAD but not GET.
                Error::Refused { .. } | Error::Denied { .. } => Ok(None),
                other => Err(other),
            },
        }
    }

    /// Opens the body, takes what the answer's head says, and drops it: by a range of one byte where the server
    /// knows ranges.
    async fn stat_by_get(&self, object: &ObjectName) -> Result<Meta, Error> {
        let by_range = self.open(&self.plain, object, 0..1, None, 1).await;
        let meta = match by_range {
            Ok((meta, _)) => meta,
            // No ranges, or an empty object, of which there is no first byte.
            Err(Error::NoRanges { .. } | Error::Changed { .. }) => {
                self.open(&self.plain, object, 0..u64::MAX, None, 1).await?.0
            }
            Err(e) => return Err(e),
        };
        self.refuses_head.store(true, Ordering::Relaxed);
        Ok(meta)
    }

    pub(super) async fn read(
        &self,
        object: &ObjectName,
        from: u64,
        pin: Option<&Meta>,
        ranges_at_once: u16,
    ) -> Result<(Meta, BoxStream<'static, Result<Bytes, Error>>), Error> {
        if from > 0 && pin.is_some_and(|p| from == p.bytes) {
            // Nothing is left to be read, and no server has a range for it.
            return Ok((pin.cloned().expect("pinned"), stream::empty().boxed()));
        }
        let resumable = pin.filter(|p| p.is_resumable());
        if from > 0 && resumable.is_none() {
            return Err(Error::Changed { object: object.clone() });
        }
        let parallel = match resumable {
            Some(p) if ranges_at_once > 1 && p.bytes.saturating_sub(from) > 2 * CHUNK_BYTES => ranges_at_once,
            _ => 1,
        };
        let to = match resumable {
            Some(p) if parallel > 1 => p.bytes,
            _ => u64::MAX,
        };
        let operator = if resumable.is_some() { &self.retrying } else { &self.plain };
        let (meta, body) = self.open(operator, object, from..to, resumable, parallel).await?;
        match pin {
            Some(p) if !p.is_same_version(&meta) && (p.etag.is_some() || p.modified.is_some()) => {
                Err(Error::Changed { object: object.clone() })
            }
            _ => Ok((meta, body)),
        }
    }

    /// One open body. `to` is `u64::MAX` for "to the end", whatever that is.
    async fn open(
        &self,
        operator: &Operator,
        object: &ObjectName,
        range: std::ops::Range<u64>,
        pin: Option<&Meta>,
        parallel: u16,
    ) -> Result<(Meta, BoxStream<'static, Result<Bytes, Error>>), Error> {
        let refuse = |e| translate(object, e);
        let mut how = options::ReaderOptions::default();
        match pin {
            Some(Meta { etag: Some(etag), .. }) => how.if_match = Some(etag.to_string()),
            Some(Meta { modified: Some(at), .. }) => how.if_unmodified_since = timestamp(*at),
            _ => {}
        }
        if parallel > 1 {
            how.concurrent = usize::from(parallel);
            how.chunk = Some(usize::try_from(CHUNK_BYTES).expect("8 MiB fit into a usize"));
        }
        let reader = operator.reader_options(object.path(), how).await.map_err(refuse)?;
        let range =
            if range.end == u64::MAX { (range.start..).into() } else { opendal::BytesRange::from(range) };
        let mut body = reader.into_stream(range).await.map_err(refuse)?;
        let meta = meta_of(&body.metadata().await.map_err(refuse)?);
        let object = object.clone();
        let pieces = body
            .map_err(move |e| translate(&object, e))
            .map_ok(|buffer| stream::iter(Iterator::map(buffer, Ok::<Bytes, Error>)))
            .try_flatten();
        Ok((meta, pieces.boxed()))
    }

    pub(super) async fn publish(&self, object: &ObjectName, path: &Path) -> Result<Meta, Error> {
        let disk = |e: std::io::Error| Error::from_disk(object, path, &e);
        let file = tokio::fs::File::open(path).await.map_err(disk)?;
        let bytes = file.metadata().await.map_err(disk)?.len();
        let etag = match &self.put {
            Some(put) => {
                let url = put.address(object);
                put.transport.put(object, url, put.authorization.clone(), file, bytes).await?
            }
            None => self.upload(object, file, path).await?,
        };
        let there = match etag {
            Some(etag) => return Ok(Meta { bytes, etag: Some(etag.into()), modified: None }),
            None => self.stat(object).await?,
        };
        // Without an etag in the answer, the length is all that shows whether it is ours.
        if there.bytes == bytes { Ok(there) } else { Err(Error::Changed { object: object.clone() }) }
    }

    /// S3: one `PUT` up to [`CHUNK_BYTES`], parts above; the bucket shows nothing until it is complete.
    async fn upload(
        &self,
        object: &ObjectName,
        file: tokio::fs::File,
        path: &Path,
    ) -> Result<Option<String>, Error> {
        let refuse = |e| translate(object, e);
        let chunk = usize::try_from(CHUNK_BYTES).expect("8 MiB fit into a usize");
        let how = options::WriteOptions { chunk: Some(chunk), concurrent: 2, ..Default::default() };
        let mut writer = self.retrying.writer_options(object.path(), how).await.map_err(refuse)?;
        let mut pieces = tokio_util::io::ReaderStream::with_capacity(file, 1 << 20);
        while let Some(piece) = pieces.next().await {
            let written = match piece {
                Ok(piece) => writer.write(piece).await.map_err(refuse),
                Err(e) => Err(Error::from_disk(object, path, &e)),
            };
            if let Err(e) = written {
                // Parts that stay behind cost money; the error that is reported is the first one.
                let _ = writer.abort().await;
                return Err(e);
            }
        }
        Ok(writer.close().await.map_err(refuse)?.etag().map(str::to_owned))
    }
}

impl Put {
    fn address(&self, object: &ObjectName) -> reqwest::Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("http addresses have a path")
            .pop_if_empty()
            .extend(object.path().split('/'));
        url
    }
}

fn http_operator(
    settings: &Settings,
    url: &str,
    credentials: &Credentials,
) -> Result<(Operator, Transport, Option<Put>), Error> {
    let bad = |reason: String| Error::Setting { source_name: settings.name.clone(), key: "url", reason };
    let base = reqwest::Url::parse(url).map_err(|e| bad(format!("`{url}` is no address: {e}")))?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(bad(format!("`{}` is neither http nor https", base.scheme())));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(bad("it holds a user or a password: those belong into credentials".into()));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(bad("it has a query or a fragment".into()));
    }
    let host = base.host_str().ok_or_else(|| bad("it names no host".into()))?;
    let transport = Transport::new(settings, host, false)?;
    let mut builder =
        opendal::services::Http::default().endpoint(&base.origin().ascii_serialization()).root(base.path());
    let mut request = reqwest::Client::new().get(base.clone());
    if let Some(token) = &credentials.token {
        builder = builder.token(token.reveal());
        request = request.bearer_auth(token.reveal());
    } else if let Some(user) = &credentials.username {
        let password = credentials.password.as_ref().map_or("", Secret::reveal);
        builder = builder.username(user.reveal()).password(password);
        request = request.basic_auth(user.reveal(), Some(password));
    }
    // The header is made by the client's own code, once.
    let authorization = request
        .build()
        .map_err(|_| bad("its credentials hold characters that no header can carry".into()))?
        .headers()
        .get(reqwest::header::AUTHORIZATION)
        .cloned();
    let operator = Operator::new(builder).map_err(|e| bad(e.message().to_owned()))?;
    let put = Put { transport: transport.clone(), base, authorization };
    Ok((operator, transport, Some(put)))
}

fn s3_operator(
    settings: &Settings,
    credentials: &Credentials,
) -> Result<(Operator, Transport, Option<Put>), Error> {
    let Kind::S3 { bucket, endpoint, region, prefix } = &settings.kind else {
        unreachable!("called for buckets only");
    };
    let bad = |key, reason: String| Error::Setting { source_name: settings.name.clone(), key, reason };
    let mut host = String::new();
    // Credentials come from us alone: no profile files, no metadata service that may hang.
    let mut builder = opendal::services::S3::default()
        .bucket(bucket)
        .region(region)
        .root(prefix)
        .disable_config_load()
        .disable_ec2_metadata();
    if let Some(endpoint) = endpoint {
        let url = reqwest::Url::parse(endpoint).map_err(|e| bad("endpoint", format!("`{endpoint}`: {e}")))?;
        host = url.host_str().unwrap_or_default().to_owned();
        builder = builder.endpoint(endpoint);
    }
    builder = match (&credentials.access_key_id, &credentials.secret_access_key) {
        (Some(id), Some(key)) => {
            let signed = builder.access_key_id(id.reveal()).secret_access_key(key.reveal());
            match &credentials.session_token {
                Some(token) => signed.session_token(token.reveal()),
                None => signed,
            }
        }
        (None, None) => builder.skip_signature(),
        _ => return Err(bad("credentials", "access_key_id and secret_access_key go together".into())),
    };
    let operator = Operator::new(builder).map_err(|e| bad("bucket", e.message().to_owned()))?;
    Ok((operator, Transport::new(settings, &host, true)?, None))
}

fn meta_of(m: &opendal::Metadata) -> Meta {
    let modified = m.last_modified().and_then(|t| u64::try_from(t.into_inner().as_microsecond()).ok());
    Meta { bytes: m.content_length(), etag: m.etag().map(Arc::from), modified: modified.map(Time::from_us) }
}

fn timestamp(at: Time) -> Option<opendal::raw::Timestamp> {
    // HTTP's dates have whole seconds.
    opendal::raw::Timestamp::from_second(i64::try_from(at.as_us() / 1_000_000).ok()?).ok()
}

/// Into our words. See `http::status_error` for why the kind decides and not the error's own status.
pub(super) fn translate(object: &ObjectName, e: opendal::Error) -> Error {
    let object = object.clone();
    match e.kind() {
        ErrorKind::NotFound => Error::Missing { object },
        ErrorKind::PermissionDenied => Error::Denied { object, reason: short(&e) },
        ErrorKind::ConditionNotMatch | ErrorKind::RangeNotSatisfied => Error::Changed { object },
        ErrorKind::Unsupported => Error::NoRanges { object },
        ErrorKind::Unexpected | ErrorKind::RateLimited => Error::Unreachable { object, reason: short(&e) },
        _ => Error::Refused { object, reason: short(&e) },
    }
}

/// One line: what the library says, and what lies at the bottom of it.
fn short(e: &opendal::Error) -> String {
    const LIMIT_CHARS: usize = 200;
    let said = e.message();
    let text = match std::error::Error::source(e) {
        Some(source) => format!("{said}: {}", root_cause(source)),
        None => said.to_owned(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LIMIT_CHARS).collect()
}
