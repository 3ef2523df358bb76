//! A layer that answers 500 when a handler panics, instead of dropping the connection.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use tower::{Layer, Service};

use crate::tasks::panic_text;

/// Catches panics of handlers. `respond` makes the answer; [`internal_problem`] is a fine one outside the dialects.
pub fn catch_panic(respond: fn() -> Response<Body>) -> CatchPanic {
    CatchPanic { respond }
}

/// 500 as `application/problem+json`, saying nothing about the inside.
#[must_use]
pub fn internal_problem() -> Response<Body> {
    const BODY: &str = r#"{"type":"/errors/internal_error","title":"Internal error","status":500,"detail":"internal error","code":"internal_error"}"#;
    let mut response = Response::new(Body::from(BODY));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

#[derive(Debug, Clone, Copy)]
pub struct CatchPanic {
    respond: fn() -> Response<Body>,
}

impl<S> Layer<S> for CatchPanic {
    type Service = Catching<S>;

    fn layer(&self, inner: S) -> Catching<S> {
        Catching { inner, respond: self.respond }
    }
}

#[derive(Debug, Clone)]
pub struct Catching<S> {
    inner: S,
    respond: fn() -> Response<Body>,
}

impl<S, B> Service<Request<B>> for Catching<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = CatchingFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let respond = self.respond;
        // A handler's body runs in `poll`, but a service may panic here already.
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.inner.call(request))) {
            Ok(inner) => CatchingFuture { inner: Some(inner), respond },
            Err(panic) => {
                log(&*panic);
                CatchingFuture { inner: None, respond }
            }
        }
    }
}

pin_project_lite::pin_project! {
    pub struct CatchingFuture<F> {
        // None once it panicked.
        #[pin]
        inner: Option<F>,
        respond: fn() -> Response<Body>,
    }
}

impl<F, E> Future for CatchingFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(Ok((this.respond)()));
        };
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(poll) => Poll::Ready(ready!(poll)),
            Err(panic) => {
                log(&*panic);
                this.inner.set(None);
                Poll::Ready(Ok((this.respond)()))
            }
        }
    }
}

fn log(panic: &(dyn std::any::Any + Send)) {
    tracing::error!(panic.text = panic_text(panic), "handler panicked");
}
