//! A service's `Routes` with the layers that every call passes, in process or from the network.

use std::{any::Any, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures_util::{FutureExt as _, future};
use http::{HeaderMap, Request, Response};
use tokio::{sync::Semaphore, time::Instant};
use tonic::{Status, body::Body, service::Routes};
use tower::Service as _;
use tracing::Instrument as _;
use weir_error::{Code, Error};
use weir_telemetry::{Span, SpanKind};
use weir_types::RequestContext;

use crate::body::Guarded;

/// Calls a service works on at once; the newest beyond it are refused.
const MAX_CONCURRENT: usize = 16_384;

#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) name: &'static str,
    routes: Routes,
    permits: Arc<Semaphore>,
}

impl Room {
    pub(crate) fn new(name: &'static str, routes: Routes) -> Self {
        Self { name, routes: routes.prepare(), permits: Arc::new(Semaphore::new(MAX_CONCURRENT)) }
    }

    /// Answers with a status instead of failing, whatever happens inside.
    pub(crate) fn call(
        &self,
        mut request: Request<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + 'static>> {
        let path = request.uri().path().to_owned();
        let Some(ctx) = request.extensions_mut().get_mut::<RequestContext>() else {
            return Box::pin(future::ready(
                Status::unauthenticated("a call without a request context").into_http(),
            ));
        };
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let full = Error::new(Code::Overloaded, "too many calls at once")
                .with_retry_after(std::time::Duration::from_secs(1));
            return Box::pin(future::ready(Status::from(full).into_http()));
        };
        let deadline = ctx.deadline.map(|d| Instant::from_std(d.0));
        let trace = self.trace(ctx, &path);
        let span = tracing::info_span!(
            "rpc",
            service = self.name,
            op = path,
            request_id = ctx.request_id.as_str(),
            tenant = ctx.tenant.map(tracing::field::display),
            trace_id = ctx.trace.map(|t| t.trace_id),
            span_id = ctx.trace.map(|t| t.span_id),
        );
        let mut routes = self.routes.clone();
        let work = AssertUnwindSafe(async move { routes.call(request).await }.instrument(span.clone()))
            .catch_unwind();
        Box::pin(async move {
            let finished = match deadline {
                Some(at) => tokio::time::timeout_at(at, work).await,
                None => Ok(work.await),
            };
            match finished {
                Ok(Ok(Ok(response))) => {
                    let mut trace = trace;
                    if trace.is_recorded() {
                        note_status(&mut trace, response.headers());
                    }
                    response.map(|inner| {
                        let deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at)));
                        Body::new(Guarded { inner, deadline, span, trace, _permit: permit, ended: false })
                    })
                }
                Ok(Ok(Err(never))) => match never {},
                Ok(Err(panic)) => failed(trace, panicked(&*panic)),
                Err(_) => failed(trace, deadline_passed()),
            }
        })
    }

    /// A span of this service for the call, which what it calls in turn is below.
    fn trace(&self, ctx: &mut RequestContext, path: &str) -> Span {
        let mut span = Span::start(self.name, SpanKind::Server, "rpc", ctx.trace);
        ctx.trace = span.context();
        if span.is_recorded() {
            let path = path.trim_start_matches('/');
            let (service, method) = path.split_once('/').unwrap_or((path, ""));
            span.rename(path.to_owned());
            span.set("rpc.system.name", "grpc");
            span.set("rpc.service", service.to_owned());
            span.set("rpc.method", method.to_owned());
            span.set("weir.request.id", ctx.request_id.to_string());
            if let Some(tenant) = ctx.tenant {
                span.set("weir.tenant.id", tenant.to_string());
            }
        }
        span
    }
}

/// What is known of the outcome with the head: an error that came at once.
fn note_status(trace: &mut Span, headers: &HeaderMap) {
    let code = headers.get("grpc-status").and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<i64>().ok());
    note_code(trace, code.unwrap_or(0));
}

pub(crate) fn note_code(trace: &mut Span, code: i64) {
    trace.set("rpc.grpc.status_code", code);
    if code != 0 {
        trace.fail(tonic::Code::from_i32(i32::try_from(code).unwrap_or(2)).description());
    }
}

fn failed(mut trace: Span, status: Status) -> Response<Body> {
    note_code(&mut trace, i64::from(status.code() as i32));
    status.into_http()
}

pub(crate) fn deadline_passed() -> Status {
    Error::new(Code::DeadlineExceeded, "the request took longer than its deadline allows").into()
}

/// The panic's own text goes to the log only.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Status {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("of unknown kind");
    tracing::error!(panic.text = text, "a call panicked");
    Error::new(Code::Internal, "internal error").into()
}
