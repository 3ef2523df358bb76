//! An HTTP client for tests: nothing is retried, followed or decoded, and everything has a deadline.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::time::timeout;

/// Longer than anything takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Calls one server, as one key's holder.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    headers: HeaderMap,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// # Panics
    /// The body is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// A header as text; empty when it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

impl Http {
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self::at(&format!("http://{address}"))
    }

    /// A server by its base address: `http://127.0.0.1:8000`.
    #[must_use]
    pub fn at(base: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, base: base.trim_end_matches('/').to_owned(), headers: HeaderMap::new() }
    }

    /// The same server, with a key.
    ///
    /// # Panics
    /// The key is no header value.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {key}"))
    }

    /// The same server, with one more header.
    ///
    /// # Panics
    /// The value is no header value.
    #[must_use]
    pub fn with_header(&self, name: &'static str, value: &str) -> Self {
        let mut this = self.clone();
        match value.parse() {
            Ok(value) => this.headers.insert(name, value),
            Err(error) => panic!("{name}: {error}"),
        };
        this
    }

    /// # Errors
    /// No answer, or none in time.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, None).await
    }

    /// # Errors
    /// No answer, or none in time.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, Some(body.to_string().into())).await
    }

    /// # Errors
    /// No answer, or none in time.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, None).await
    }

    /// # Errors
    /// No answer, or none in time.
    pub async fn send(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Answer> {
        let whole = async {
            let (status, headers, body) = self.open(method, path, body).await?;
            Ok(Answer {
                status,
                headers,
                body: body.collect().await.context("the answer broke off")?.to_bytes(),
            })
        };
        timeout(PATIENCE, whole).await.context("no answer in time")?
    }

    /// Starts a streamed answer.
    ///
    /// # Errors
    /// No answer, none in time, or one that is no event stream; its body is in the error then.
    pub async fn stream(&self, path: &str, body: &Value) -> Result<Events> {
        self.events(Method::POST, path, Some(body.to_string().into())).await
    }

    /// Starts a streamed answer to `GET`.
    ///
    /// # Errors
    /// As [`Http::stream`].
    pub async fn watch(&self, path: &str) -> Result<Events> {
        self.events(Method::GET, path, None).await
    }

    async fn events(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Events> {
        let begin = async {
            let (status, headers, body) = self.open(method, path, body).await?;
            let kind =
                headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
            if status != 200 || !kind.starts_with("text/event-stream") {
                let text = body.collect().await.map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned());
                bail!("{status} {kind}: {}", text.unwrap_or_default());
            }
            Ok(Events { headers, body, buffer: BytesMut::new() })
        };
        timeout(PATIENCE, begin).await.context("no answer in time")?
    }

    async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<(u16, HeaderMap, Incoming)> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
            if body.is_some() {
                headers
                    .entry(http::header::CONTENT_TYPE)
                    .or_insert(http::HeaderValue::from_static("application/json"));
            }
        }
        let response = self.client.request(request.body(Full::new(body.unwrap_or_default()))?).await?;
        let (parts, body) = response.into_parts();
        Ok((parts.status.as_u16(), parts.headers, body))
    }
}

/// Server-sent events as they come. Dropping it hangs up.
#[derive(Debug)]
pub struct Events {
    pub headers: HeaderMap,
    body: Incoming,
    buffer: BytesMut,
}

impl Events {
    /// The next event's data; `None` at the end of the body. Comments are left out.
    ///
    /// # Errors
    /// The connection broke, or nothing came in time.
    pub async fn next(&mut self) -> Result<Option<String>> {
        loop {
            // Weir ends lines with LF only, Google with both.
            let ends = |at: usize| match &self.buffer[at..] {
                [b'\n', b'\n', ..] => Some(at + 2),
                [b'\n', b'\r', b'\n', ..] => Some(at + 3),
                _ => None,
            };
            if let Some(end) = (0..self.buffer.len()).find_map(ends) {
                let event = self.buffer.split_to(end);
                let text = std::str::from_utf8(&event)?;
                let data: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("data: ")).collect();
                if data.is_empty() {
                    continue;
                }
                return Ok(Some(data.join("\n")));
            }
            match timeout(PATIENCE, self.body.frame()).await.context("no event in time")? {
                Some(frame) => {
                    if let Ok(data) = frame.context("the stream broke off")?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None => {
                    ensure!(self.buffer.is_empty(), "the stream ended within an event");
                    return Ok(None);
                }
            }
        }
    }

    /// Everything to the end.
    ///
    /// # Errors
    /// The connection broke, or something did not come in time.
    pub async fn all(mut self) -> Result<Vec<String>> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }
}

/// The text that chunks carry, put together.
#[must_use]
pub fn text_of(events: &[String]) -> String {
    let delta = |event: &String| {
        let chunk: Value = serde_json::from_str(event).ok()?;
        Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned())
    };
    events.iter().filter_map(delta).collect()
}
