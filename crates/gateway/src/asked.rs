//! One request as the endpoints see it.

use std::{net::IpAddr, sync::OnceLock, time::Duration};

use axum::body::Body;
use http::{
    HeaderMap, HeaderName, Method, Uri,
    header::{AsHeaderName, CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body_util::{BodyExt as _, LengthLimitError};
use hyper::upgrade::OnUpgrade;
use weir_access::{Grant, RateState};
use weir_error::{Code, Error};
use weir_types::{Deadline, RequestContext, RequestId, TraceContext};

use bytes::{Bytes, BytesMut};

use crate::{
    House,
    entry::Who,
    inflate::{Garbled, TooDense},
    uploads::Upload,
};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const STRICT: HeaderName = HeaderName::from_static("x-weir-strict");
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");

/// Without the body, which whoever wants it takes apart.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// Set when the client wants another protocol on this connection.
    pub(crate) upgrade: Option<OnUpgrade>,
    /// As the socket has it, or a trusted proxy.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) request_id: RequestId,
    /// The caller's, then the place of our own span in it.
    pub(crate) trace: Option<TraceContext>,
    /// Known once a key was checked.
    pub(crate) who: OnceLock<Who>,
    /// Where the tenant stood when a call that is no model call was admitted or refused.
    pub(crate) rate: OnceLock<RateState>,
}

impl Asked {
    pub(crate) fn new(request: http::Request<Body>) -> (Self, Body) {
        let (mut parts, body) = request.into_parts();
        let text = |name| parts.headers.get(name).and_then(|v| v.to_str().ok());
        let asked = Self {
            request_id: text(REQUEST_ID).and_then(RequestId::parse).unwrap_or_default(),
            trace: text(TRACEPARENT).and_then(TraceContext::parse),
            who: OnceLock::new(),
            rate: OnceLock::new(),
            peer: weir_runtime::client_ip(&parts.extensions),
            upgrade: parts.extensions.remove::<OnUpgrade>(),
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
        };
        (asked, body)
    }

    /// A header's text, if it has one.
    pub(crate) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// Whether its client would rather be refused than have it translated with losses.
    ///
    /// # Errors
    /// `InvalidArgument` for a word that says neither: who asks for strictness must not go without it unawares.
    pub(crate) fn strict(&self) -> Result<bool, Error> {
        let Some(value) = self.headers.get(STRICT) else { return Ok(false) };
        match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(Error::invalid(STRICT.as_str(), format!("{STRICT} must be true or false"))),
        }
    }

    /// Whether it comes from an SDK of Anthropic's: each names the version it was made for.
    pub(crate) fn is_anthropic(&self) -> bool {
        self.headers.contains_key(ANTHROPIC_VERSION)
    }

    /// The context for calls on this request's behalf.
    pub(crate) fn context(&self, grant: &Grant, timeout: Duration) -> RequestContext {
        let mut ctx = grant.context(self.request_id.clone());
        ctx.trace = self.trace;
        ctx.deadline = Some(Deadline::after(timeout));
        ctx
    }

    /// What can be said against a JSON body before it is read. A request without any content type is taken at its
    /// word: only browsers' simple requests could abuse that, and no credential of ours travels by itself.
    ///
    /// # Errors
    /// `UnsupportedMediaType`, `PayloadTooLarge`.
    pub(crate) fn check_json_head(&self, limit: usize) -> Result<(), Error> {
        if let Some(value) = self.headers.get(CONTENT_TYPE) {
            let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
            if !essence.eq_ignore_ascii_case("application/json") {
                return Err(Error::new(
                    Code::UnsupportedMediaType,
                    "the content type must be application/json",
                )
                .with_param("Content-Type"));
            }
        }
        let length = self.header(CONTENT_LENGTH).and_then(|v| v.parse::<u64>().ok());
        if length.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
            return Err(too_large(limit));
        }
        Ok(())
    }
}

impl House {
    /// Reads a body of the grant's tenant; stops at the first byte too many. What it takes of the memory for bodies
    /// is given back when the second is dropped.
    ///
    /// # Errors
    /// `PayloadTooLarge`, `RequestTimeout`, `InvalidArgument` when it broke off; `RateLimited` and `Overloaded` when
    /// too much is under way already.
    pub(crate) async fn read_body(&self, grant: &Grant, body: Body) -> Result<(Bytes, Upload), Error> {
        self.read_body_within(grant, body, self.config.max_body.as_usize()).await
    }

    /// The same with a bound of its own.
    ///
    /// # Errors
    /// As [`House::read_body`].
    pub(crate) async fn read_body_within(
        &self,
        grant: &Grant,
        body: Body,
        limit: usize,
    ) -> Result<(Bytes, Upload), Error> {
        let mut upload = self.uploads.begin(grant.tenant())?;
        let body = within(self.config.body_timeout, read(body, limit, &mut upload)).await?;
        upload.arrived();
        Ok((body, upload))
    }
}

async fn within<T>(timeout: Duration, reading: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(timeout, reading).await {
        Ok(read) => read,
        Err(elapsed) => Err(late().with_source(elapsed)),
    }
}

async fn read(mut body: Body, limit: usize, upload: &mut Upload) -> Result<Bytes, Error> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| broken(error, limit))?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        upload.grow(first.len() + rest.len() + data.len())?;
        // Most bodies are one piece, which is then not copied.
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(first.len() + data.len());
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn too_large(limit: usize) -> Error {
    Error::new(Code::PayloadTooLarge, format!("the body is larger than {limit} bytes"))
}

fn late() -> Error {
    Error::new(Code::RequestTimeout, "the body did not arrive in time")
}

fn broken(error: axum::Error, limit: usize) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if error.is::<weir_runtime::BodyIdle>() {
            return late();
        }
        if error.is::<LengthLimitError>() {
            return too_large(limit);
        }
        if let Some(dense) = error.downcast_ref::<TooDense>() {
            return Error::new(Code::PayloadTooLarge, dense.to_string()).with_param("Content-Encoding");
        }
        if let Some(garbled) = error.downcast_ref::<Garbled>() {
            return Error::new(Code::InvalidArgument, garbled.to_string()).with_param("Content-Encoding");
        }
        cause = error.source();
    }
    Error::new(Code::InvalidArgument, "the body broke off").with_source(error)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::uploads::Uploads;

    async fn read(body: Body, limit: usize) -> Result<Bytes, Error> {
        super::read(body, limit, &mut Uploads::new(1, 0).begin(None)?).await
    }

    fn chunked(chunks: &[&'static str]) -> Body {
        let chunks: Vec<_> =
            chunks.iter().map(|c| Ok::<_, std::io::Error>(Bytes::from_static(c.as_bytes()))).collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_the_limit_and_no_further() {
        assert_eq!(read(chunked(&["ab", "cd", "e"]), 5).await.unwrap(), "abcde");
        assert_eq!(read(chunked(&[]), 5).await.unwrap(), "");
        assert_eq!(read(chunked(&["", "ab"]), 5).await.unwrap(), "ab");
        let endless =
            Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(b"abc"))));
        assert_eq!(read(endless, 5).await.unwrap_err().code(), Code::PayloadTooLarge);
    }

    #[tokio::test]
    async fn a_body_that_stops_says_why() {
        let idle = weir_runtime::BodyIdle(Duration::from_secs(1));
        let silent = Body::from_stream(stream::iter([Err::<Bytes, _>(idle)]));
        assert_eq!(read(silent, 5).await.unwrap_err().code(), Code::RequestTimeout);
        let broken = Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other("reset"))]));
        assert_eq!(read(broken, 5).await.unwrap_err().code(), Code::InvalidArgument);
        let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let late = within(Duration::from_millis(1), read(silent, 5)).await.unwrap_err();
        assert_eq!(late.code(), Code::RequestTimeout);
    }
}
