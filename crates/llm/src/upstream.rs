//! The client for one provider's origin: pooled connections, and a time limit on every wait.
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
use tokio::time::timeout;
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
    /// From the request to the answer's head.
    pub first_byte_timeout: Duration,
    /// Between two pieces of an answer.
    pub idle_timeout: Duration,
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
            first_byte_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(600),
            max_answer: 64 * 1024 * 1024,
        }
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
    #[error("the provider closed the connection before its answer")]
    Refused(#[source] ClientError),
    #[error("the provider did not answer in time")]
    FirstByteTimeout,
    #[error("the provider fell silent in the middle of its answer")]
    IdleTimeout,
    #[error("the provider's answer broke off")]
    Cut(#[source] hyper::Error),
    #[error("the provider's answer is longer than {limit} bytes")]
    TooLarge { limit: usize },
}

impl UpstreamError {
    /// Whether the provider may have received the request.
    #[must_use]
    pub fn reached(&self) -> bool {
        !matches!(self, Self::Config(_) | Self::Auth(_) | Self::Connect(_))
    }

    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::FirstByteTimeout | Self::IdleTimeout)
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

    /// `POST base + path`, until the answer's head is there.
    ///
    /// # Errors
    /// Any but `Cut`, `IdleTimeout` and `TooLarge`: an answer with an error status is an answer.
    pub async fn send(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        deadline: Option<Deadline>,
    ) -> Result<Answer, UpstreamError> {
        self.exchange(Method::POST, path, headers, body, deadline).await
    }

    /// `GET base + path`, whole.
    ///
    /// # Errors
    /// Any.
    pub async fn get(&self, path: &str) -> Result<Whole, UpstreamError> {
        let answer = self.exchange(Method::GET, path, HeaderMap::new(), Bytes::new(), None).await?;
        let mut body = answer.body;
        body.max = body.max.min(MAX_LIST);
        Ok(Whole { status: answer.status, body: body.collect().await? })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        deadline: Option<Deadline>,
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
        config.auth.apply(&mut parts, &body).await.map_err(UpstreamError::Auth)?;
        let request = Request::from_parts(parts, sent);
        let wait =
            deadline.map_or(config.first_byte_timeout, |d| d.remaining().min(config.first_byte_timeout));
        let response = match timeout(wait, inner.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => return Err(UpstreamError::Connect(error)),
            Ok(Err(error)) => return Err(UpstreamError::Refused(error)),
            Err(_) => return Err(UpstreamError::FirstByteTimeout),
        };
        let (parts, incoming) = response.into_parts();
        let body = AnswerBody { unread: None, incoming, idle: config.idle_timeout, max: config.max_answer };
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

/// The rest of an answer.
#[derive(Debug)]
pub struct AnswerBody {
    incoming: Incoming,
    /// Read before its time.
    unread: Option<Bytes>,
    idle: Duration,
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

    /// The next piece; `None` at the end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        if let Some(unread) = self.unread.take() {
            return Some(Ok(unread));
        }
        loop {
            match timeout(self.idle, self.incoming.frame()).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => {}
                },
                Ok(Some(Err(error))) => return Some(Err(UpstreamError::Cut(error))),
                Ok(None) => return None,
                Err(_) => return Some(Err(UpstreamError::IdleTimeout)),
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
