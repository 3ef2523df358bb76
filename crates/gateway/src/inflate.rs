//! Compressed request bodies, as proxies and some clients send large ones. They are decoded as they are read, so no more
//! is held than a plain body may have, nor is more read; what grows out of all proportion is refused before that.

use std::{
    convert::Infallible,
    fmt,
    future::ready,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited};
use tower::{ServiceExt as _, service_fn};
use tower_http::decompression::RequestDecompression;
use weir_error::{Code, Error};

use crate::asked::Asked;

/// For `accept-encoding` of a refusal: <https://www.rfc-editor.org/rfc/rfc9110#section-15.5.16>.
pub(crate) const TAKEN: HeaderValue = HeaderValue::from_static("gzip, zstd");
/// JSON of the most repetitive kind, and Base64 of empty pictures, stay below.
const MAX_RATIO: usize = 200;
/// Up to here a body may be as dense as it likes.
const FREE: usize = 1024 * 1024;

/// The body as it was before it was compressed; of that no more than `limit` bytes are read.
///
/// # Errors
/// `UnsupportedMediaType` for an encoding that is not taken.
pub(crate) async fn decoded(asked: &Asked, body: Body, limit: usize) -> Result<Body, Error> {
    let mut encodings = asked.headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(encoding) = encodings.next() else { return Ok(body) };
    let name = encoding.to_str().unwrap_or_default().trim().to_ascii_lowercase();
    // The same by an older name: <https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.3>.
    let name = if name == "x-gzip" { "gzip".to_owned() } else { name };
    if name.is_empty() || name == "identity" {
        return Ok(body);
    }
    if encodings.next().is_some() || !matches!(name.as_str(), "gzip" | "zstd") {
        let text = "the body's Content-Encoding is not taken here: send it as it is, or as gzip or zstd";
        return Err(Error::new(Code::UnsupportedMediaType, text).with_param("Content-Encoding"));
    }
    // Boxed: few bodies come this way, and the future of every request would hold it.
    Box::pin(inflated(name, body, limit)).await
}

async fn inflated(name: String, body: Body, limit: usize) -> Result<Body, Error> {
    let read = Arc::new(AtomicUsize::new(0));
    let value = HeaderValue::from_str(&name).map_err(Error::internal)?;
    let count = read.clone();
    let counted = Limited::new(body, limit).map_frame(move |frame| {
        count.fetch_add(frame.data_ref().map_or(0, Bytes::len), Ordering::Relaxed);
        frame
    });
    let mut request = Request::new(Body::new(counted));
    request.headers_mut().insert(header::CONTENT_ENCODING, value);
    let give =
        service_fn(|request: Request<_>| ready(Ok::<_, Infallible>(Response::new(request.into_body()))));
    let response = match RequestDecompression::new(give).oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if response.status() != StatusCode::OK {
        return Err(Error::internal("an encoding that is taken was refused"));
    }
    let inner = Body::new(response.into_body());
    Ok(Body::new(Bounded { inner, name, read, given: 0 }))
}

/// It grows by more than texts do.
#[derive(Debug)]
pub(crate) struct TooDense;

impl fmt::Display for TooDense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the compressed body is more than {MAX_RATIO} times as large when it is decoded")
    }
}

impl std::error::Error for TooDense {}

/// It is not what its header says.
#[derive(Debug)]
pub(crate) struct Garbled(String);

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the body cannot be decoded as {}, as its Content-Encoding says", self.0)
    }
}

impl std::error::Error for Garbled {}

/// What was decoded, within its bound.
struct Bounded {
    inner: Body,
    name: String,
    read: Arc<AtomicUsize>,
    given: usize,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) if is_garbled(&error) => {
                return Poll::Ready(Some(Err(axum::Error::new(Garbled(self.name.clone())))));
            }
            end => return Poll::Ready(end),
        };
        self.given += frame.data_ref().map_or(0, Bytes::len);
        let bound = self.read.load(Ordering::Relaxed).saturating_mul(MAX_RATIO).max(FREE);
        if self.given > bound {
            return Poll::Ready(Some(Err(axum::Error::new(TooDense))));
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

/// The decoder's own errors are of these kinds; a connection's are not.
fn is_garbled(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
            let own = io.get_ref().is_none_or(|inner| !inner.is::<axum::Error>());
            return own && matches!(io.kind(), InvalidData | InvalidInput | Other | UnexpectedEof);
        }
        cause = error.source();
    }
    false
}
