//! Compression of large answers. Event streams go out as they come: whatever gathers them would hold tokens back.

use std::{convert::Infallible, future::ready};

use axum::body::Body;
use http::{HeaderValue, Request, Response, header};
use http_body::Body as _;
use tower::{ServiceExt as _, service_fn};
use tower_http::compression::Compression;

/// The answer, compressed where its client takes that and it is worth it: from `from` bytes on, 0 never.
pub(crate) async fn compressed(
    accepted: Option<&HeaderValue>,
    from: u64,
    response: Response<Body>,
) -> Response<Body> {
    let Some(accepted) = accepted.filter(|_| from > 0) else { return response };
    // A stream has no size, and neither has what is not there yet.
    let large = response.body().size_hint().exact().is_some_and(|size| size >= from);
    if !large {
        return response;
    }
    // Boxed: few answers come this way, and the future of every request would hold it.
    Box::pin(compress(accepted.clone(), response)).await
}

async fn compress(accepted: HeaderValue, response: Response<Body>) -> Response<Body> {
    let mut request = Request::new(());
    request.headers_mut().insert(header::ACCEPT_ENCODING, accepted);
    let mut response = Some(response);
    let answer = service_fn(move |_| ready(Ok::<_, Infallible>(response.take().unwrap_or_default())));
    match Compression::new(answer).oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn encoding(accepts: &str, from: u64, body: Body) -> (Option<HeaderValue>, usize) {
        let accepts = HeaderValue::from_str(accepts).unwrap();
        let response = compressed(Some(&accepts), from, Response::new(body)).await;
        let encoding = response.headers().get(header::CONTENT_ENCODING).cloned();
        (encoding, response.into_body().collect().await.unwrap().to_bytes().len())
    }

    #[tokio::test]
    async fn large_answers_are_compressed_for_whom_takes_it() {
        let text = "many words ".repeat(1_000);
        for (accepts, name) in [("gzip", "gzip"), ("gzip;q=0.5, zstd", "zstd")] {
            let (encoding, size) = encoding(accepts, 100, Body::from(text.clone())).await;
            assert_eq!(encoding.unwrap(), name);
            assert!(size < text.len() / 10, "{size}");
        }
        for (accepts, from, size) in [("identity", 100, 500), ("gzip", 100, 99), ("gzip", 0, 500)] {
            let (encoding, sent) = encoding(accepts, from, Body::from("x".repeat(size))).await;
            assert_eq!((encoding, sent), (None, size), "{accepts} {from}");
        }
        let stream = Body::from_stream(futures_util::stream::iter([Ok::<_, Infallible>(text.clone())]));
        assert_eq!(encoding("gzip", 100, stream).await, (None, text.len()));
    }
}
