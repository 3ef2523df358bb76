//! A service's `Routes` with the layers that every call passes, in process or from the network.

use std::{any::Any, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures_util::{FutureExt as _, future};
use http::{Request, Response};
use tokio::{sync::Semaphore, time::Instant};
use tonic::{Status, body::Body, service::Routes};
use tower::Service as _;
use tracing::Instrument as _;
use weir_error::{Code, Error};
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
        request: Request<Body>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + 'static>> {
        let Some(ctx) = request.extensions().get::<RequestContext>() else {
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
        let span = tracing::info_span!(
            "rpc",
            rpc.service = self.name,
            rpc.method = request.uri().path(),
            request_id = %ctx.request_id,
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
                Ok(Ok(Ok(response))) => response.map(|inner| {
                    let deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at)));
                    Body::new(Guarded { inner, deadline, span, _permit: permit, ended: false })
                }),
                Ok(Ok(Err(never))) => match never {},
                Ok(Err(panic)) => panicked(&*panic).into_http(),
                Err(_) => deadline_passed().into_http(),
            }
        })
    }
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
