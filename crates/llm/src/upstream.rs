//! The client for one provider's origin: pooled connections, and a time limit on every wait.
//!
//! Each silence has a limit of its own, and so has the whole: see [`UpstreamConfig`]. What ends at one says so by its error.
//!
//! HTTP/1.1 with keep-alive: one shared HTTP/2 connection would queue beyond the provider's stream limit, and a
//! silently dropped one would hold every request to that provider.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error as ClientError, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Instant, timeout, timeout_at};
use tower::Service;
use weir_types::Deadline;

use crate::{
    auth::{Auth, AuthError},
    framing::Framing,
};

const POOL_IDLE: Duration = Duration::from_secs(60);
const POOL_MAX_IDLE: usize = 1_024;
/// A peer that vanished is noticed by the kernel.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Most of what is left until a deadline that is kept for telling whoever waits.
const TELLING: Duration = Duration::from_secs(1);
/// Answers of `get` are lists, not media.
const MAX_LIST: usize = 16 * 1024 * 1024;

/// How to reach a provider.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// `http://host:port/v1`: paths are appended to it.
    pub base_url: Uri,
    /// Shown with every call.
    pub auth: Auth,
    /// Sent with every call that has none of the same name.
    pub headers: HeaderMap,
    /// TLS included.
    pub connect_timeout: Duration,
    /// From the request to the first byte of the answer's body.
    pub first_byte_timeout: Duration,
    /// Between two pieces of an answer.
    pub idle_timeout: Duration,
    /// Instead of these two, where it is longer, for a model that thinks; instead of the first one, for an answer that
    /// comes once it is whole.
    pub thinking_timeout: Duration,
    /// From the request to the answer's end, however it flows.
    pub total_timeout: Duration,
    /// Longest answer that is taken in one piece, in bytes.
    pub max_answer: usize,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            base_url: Uri::from_static("http://127.0.0.1"),
            auth: Auth::None,
            headers: HeaderMap::new(),
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(120),
            thinking_timeout: Duration::from_secs(600),
            total_timeout: Duration::from_secs(14_400),
            max_answer: 64 * 1024 * 1024,
        }
    }
}

/// What is known of an answer before it comes, as far as waiting for it goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wait {
    /// Its model may think, and is silent meanwhile.
    pub thinks: bool,
    /// It is no stream: nothing of it comes before all of it is made.
    pub whole: bool,
    /// When nobody waits for it any more.
    pub deadline: Option<Deadline>,
}

impl From<Option<Deadline>> for Wait {
    fn from(deadline: Option<Deadline>) -> Self {
        Self { deadline, ..Self::default() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("the address or key of the provider can't be used")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("could not get credentials for the provider")]
    Auth(#[source] AuthError),
    #[error("could not connect to the provider")]
    Connect(#[source] ClientError),
    #[error("could not connect to the provider in time")]
    ConnectTimeout(#[source] ClientError),
    #[error("the provider closed the connection before its answer")]
    Refused(#[source] ClientError),
    #[error("the provider did not answer in time")]
    FirstByteTimeout,
    #[error("the provider fell silent in the middle of its answer")]
    IdleTimeout,
    #[error("the provider's answer took longer than it may")]
    TotalTimeout,
    #[error("the provider's answer broke off")]
    Cut(#[source] hyper::Error),
    #[error("the provider's answer is longer than {limit} bytes")]
    TooLarge { limit: usize },
}

impl UpstreamError {
    /// Whether the provider may have received the request.
    #[must_use]
    pub fn reached(&self) -> bool {
        !matches!(self, Self::Config(_) | Self::Auth(_) | Self::Connect(_) | Self::ConnectTimeout(_))
    }

    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout(_) | Self::FirstByteTimeout | Self::IdleTimeout | Self::TotalTimeout
        )
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Upstream(Arc<Inner>);

struct Inner {
    client: Client<Within<HttpsConnector<HttpConnector>>, Full<Bytes>>,
    base: String,
    config: UpstreamConfig,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("base", &self.0.base).finish_non_exhaustive()
    }
}

/// An answer whose body is still coming. Dropping it closes the exchange.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: AnswerBody,
}

impl Answer {
    /// Whether it is a stream, framed as this provider's are.
    #[must_use]
    pub fn is_stream(&self, framing: Framing) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        framing.matches(kind)
    }

    #[must_use]
    pub fn is_event_stream(&self) -> bool {
        self.is_stream(Framing::Sse)
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Whole {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Upstream {
    /// # Errors
    /// TLS can't be set up.
    pub fn new(config: UpstreamConfig) -> Result<Self, UpstreamError> {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        http.set_keepalive(Some(TCP_KEEP_ALIVE));
        let provider = rustls::crypto::ring::default_provider();
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(provider)
            .map_err(|e| UpstreamError::Config(e.into()))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let connector = Within { inner: https, limit: config.connect_timeout };
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_MAX_IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let base = config.base_url.to_string().trim_end_matches('/').to_owned();
        Ok(Self(Arc::new(Inner { client, base, config })))
    }

    /// `POST base + path`, until the answer has begun: with its head where a model may think after it, else with the
    /// first of its body.
    ///
    /// # Errors
    /// Any but `IdleTimeout`, `TotalTimeout` and `TooLarge`: an answer with an error status is an answer.
    pub async fn send(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        wait: impl Into<Wait>,
    ) -> Result<Answer, UpstreamError> {
        self.exchange(Method::POST, path, headers, body, wait.into()).await
    }

    /// `GET base + path`, whole.
    ///
    /// # Errors
    /// Any.
    pub async fn get(&self, path: &str) -> Result<Whole, UpstreamError> {
        let answer =
            self.exchange(Method::GET, path, HeaderMap::new(), Bytes::new(), Wait::default()).await?;
        let mut body = answer.body;
        body.max = body.max.min(MAX_LIST);
        Ok(Whole { status: answer.status, body: body.collect().await? })
    }

    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        wait: Wait,
    ) -> Result<Answer, UpstreamError> {
        let inner = &*self.0;
        let uri: Uri = format!("{}{path}", inner.base)
            .parse()
            .map_err(|e: http::uri::InvalidUri| UpstreamError::Config(e.into()))?;
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let config = &inner.config;
        for (name, value) in &config.headers {
            request.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
        let (mut parts, sent) = request.into_parts();
        let limits = Limits::of(config, wait);
        let applied = timeout_at(limits.first_byte, config.auth.apply(&mut parts, &body)).await;
        applied.unwrap_or(Err(AuthError::Late)).map_err(UpstreamError::Auth)?;
        let request = Request::from_parts(parts, sent);
        let response = match timeout_at(limits.first_byte, inner.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() && ran_out(&error) => {
                return Err(UpstreamError::ConnectTimeout(error));
            }
            Ok(Err(error)) if error.is_connect() => return Err(UpstreamError::Connect(error)),
            Ok(Err(error)) => return Err(UpstreamError::Refused(error)),
            Err(_) => return Err(UpstreamError::FirstByteTimeout),
        };
        let (parts, incoming) = response.into_parts();
        let Limits { idle, end, .. } = limits;
        let mut body = AnswerBody { unread: None, incoming, idle, end, max: config.max_answer };
        if !wait.thinks && parts.status.is_success() {
            body.begin(limits.first_byte).await?;
        }
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

/// Until when, or how long, one answer is waited for.
struct Limits {
    first_byte: Instant,
    idle: Duration,
    end: Instant,
}

impl Limits {
    fn of(config: &UpstreamConfig, Wait { thinks, whole, deadline }: Wait) -> Self {
        let now = Instant::now();
        let long = |usual: Duration, long: bool| {
            if long { usual.max(config.thinking_timeout) } else { usual }
        };
        // Whoever gave us until then stops listening then: what is to be told is told before.
        let left = deadline.map(|deadline| deadline.remaining());
        let left = left.map_or(config.total_timeout, |left| {
            config.total_timeout.min(left.saturating_sub(TELLING.min(left / 10)))
        });
        let end = now + left;
        let first_byte = now + long(config.first_byte_timeout, thinks || whole);
        Self { first_byte: first_byte.min(end), idle: long(config.idle_timeout, thinks), end }
    }
}

/// Whether it was the time that ended it.
fn ran_out(error: &ClientError) -> bool {
    let first = error as &(dyn std::error::Error + 'static);
    let mut causes = std::iter::successors(Some(first), |error| error.source());
    causes.any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    })
}

/// The rest of an answer.
#[derive(Debug)]
pub struct AnswerBody {
    incoming: Incoming,
    /// Read before its time.
    unread: Option<Bytes>,
    idle: Duration,
    /// When the whole of it has to be there.
    end: Instant,
    max: usize,
}

impl AnswerBody {
    /// The whole of it, which stays unread.
    ///
    /// # Errors
    /// As [`AnswerBody::collect`].
    pub async fn peek(&mut self) -> Result<Bytes, UpstreamError> {
        let whole = self.gather().await?;
        self.unread = Some(whole.clone());
        Ok(whole)
    }

    /// Waits for the first piece, which stays unread.
    async fn begin(&mut self, by: Instant) -> Result<(), UpstreamError> {
        self.unread = match timeout_at(by, self.piece()).await {
            Ok(first) => first.transpose()?,
            Err(_) => return Err(UpstreamError::FirstByteTimeout),
        };
        Ok(())
    }

    /// The next piece; `None` at the end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        if let Some(unread) = self.unread.take() {
            return Some(Ok(unread));
        }
        let silent = Instant::now() + self.idle;
        match timeout_at(silent.min(self.end), self.piece()).await {
            Ok(piece) => piece,
            Err(_) if silent < self.end => Some(Err(UpstreamError::IdleTimeout)),
            Err(_) => Some(Err(UpstreamError::TotalTimeout)),
        }
    }

    async fn piece(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        loop {
            match self.incoming.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => {}
                },
                Some(Err(error)) => return Some(Err(UpstreamError::Cut(error))),
                None => return None,
            }
        }
    }

    /// The whole of it. One piece is not copied.
    ///
    /// # Errors
    /// It broke off, fell silent, or is too long.
    pub async fn collect(mut self) -> Result<Bytes, UpstreamError> {
        self.gather().await
    }

    async fn gather(&mut self) -> Result<Bytes, UpstreamError> {
        let mut first = Bytes::new();
        let mut more: Option<BytesMut> = None;
        while let Some(piece) = self.chunk().await {
            let piece = piece?;
            let so_far = more.as_ref().map_or(first.len(), BytesMut::len);
            if so_far + piece.len() > self.max {
                return Err(UpstreamError::TooLarge { limit: self.max });
            }
            match &mut more {
                Some(all) => all.extend_from_slice(&piece),
                None if first.is_empty() => first = piece,
                None => {
                    let mut all = BytesMut::with_capacity((first.len() + piece.len()) * 2);
                    all.extend_from_slice(&first);
                    all.extend_from_slice(&piece);
                    more = Some(all);
                }
            }
        }
        Ok(more.map_or(first, BytesMut::freeze))
    }
}

/// A connector with a time limit over all of connecting: name, TCP, TLS.
#[derive(Clone)]
struct Within<C> {
    inner: C,
    limit: Duration,
}

impl<C> Service<Uri> for Within<C>
where
    C: Service<Uri>,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = timeout(self.limit, self.inner.call(uri));
        Box::pin(async move {
            match connecting.await {
                Ok(connected) => connected.map_err(Into::into),
                Err(elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, elapsed).into()),
            }
        })
    }
}
