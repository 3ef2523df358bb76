//! What is told of a request once it is over: its access line and its span. For an answer of known length that is when
//! its head is ready, for a stream when its last byte left or the client did.

use std::{
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame, SizeHint};
use weir_access::Grant;
use weir_telemetry::{Access, Method, Span, access};
use weir_types::{Principal, RequestId, TenantId, UserId};

const SERVICE: &str = "gateway";
/// The client went away before the answer: the status nginx made common for it.
pub(crate) const CLIENT_CLOSED: u16 = 499;

/// Who asks, once that is known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Who {
    tenant: Option<TenantId>,
    user: Option<UserId>,
}

impl Who {
    pub(crate) fn of(grant: &Grant) -> Self {
        let user = match grant.principal() {
            Principal::Key { user, .. } => *user,
            Principal::Platform | Principal::Service(_) => None,
        };
        Self { tenant: grant.tenant(), user }
    }
}

/// One request; told when dropped.
pub(crate) struct Entry {
    pub(crate) method: Method,
    pub(crate) route: &'static str,
    pub(crate) status: u16,
    pub(crate) started: Instant,
    pub(crate) request_id: RequestId,
    pub(crate) who: Who,
    /// Of a request that is one, when it succeeds.
    pub(crate) business_event: Option<&'static str>,
    pub(crate) span: Span,
    cut: bool,
}

impl Entry {
    pub(crate) fn new(route: &'static str, method: Method, request_id: RequestId, span: Span) -> Self {
        Self {
            method,
            route,
            status: CLIENT_CLOSED,
            started: Instant::now(),
            request_id,
            who: Who::default(),
            business_event: None,
            span,
            cut: false,
        }
    }

    /// The answer's head is ready; the rest is told now, or when its stream ends.
    pub(crate) fn answered(mut self, response: Response<Body>, who: &OnceLock<Who>) -> Response<Body> {
        self.status = response.status().as_u16();
        self.who = who.get().copied().unwrap_or_default();
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        response.map(|body| Body::new(Told { inner: body, entry: Some(self) }))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        access(&Access {
            service: SERVICE,
            method: self.method.as_str(),
            route: self.route,
            status: self.status,
            latency: self.started.elapsed(),
            request_id: self.request_id.as_str(),
            tenant: self.who.tenant,
            user: self.who.user,
            trace: self.span.context(),
            cut: self.cut,
            business_event: self.business_event.filter(|_| self.status < 400 && !self.cut),
        });
        let span = &mut self.span;
        if !span.is_recorded() {
            return;
        }
        span.set("http.request.method", self.method.as_str());
        span.set("http.route", self.route);
        span.set("http.response.status_code", i64::from(self.status));
        span.set("weir.request.id", self.request_id.to_string());
        if let Some(tenant) = self.who.tenant {
            span.set("weir.tenant.id", tenant.to_string());
        }
        if self.status >= 500 {
            span.fail("");
        } else if self.cut {
            span.fail("the stream did not come to its end");
        }
    }
}

/// A stream whose request is told of when it ends.
struct Told {
    inner: Body,
    entry: Option<Entry>,
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        // With the last byte, not with the poll after it that may never come.
        if !matches!(frame, Some(Err(_))) && (frame.is_none() || self.inner.is_end_stream()) {
            drop(self.entry.take());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.cut = true;
        }
    }
}
