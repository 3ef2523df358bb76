//! Spans, as OpenTelemetry has them, made only for requests that are sampled.
//!
//! A span's context is handed on explicitly, in `RequestContext`, gRPC metadata and event headers: the same in one
//! process and over a network. Without a collector, or for a request that is not sampled, starting one costs an
//! atomic load, and the caller's context is passed on as it came.

mod export;
mod sample;

use std::{
    borrow::Cow,
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{SpanContext, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use weir_types::TraceContext;

use self::{export::Queue, sample::Sampler};
use crate::{InitError, TelemetryConfig};

pub(crate) use self::export::{spans_dropped, spans_exported};
pub use opentelemetry::trace::SpanKind;

/// The process's tracer, found without being handed it, as `tracing`'s subscriber is.
static TRACER: OnceLock<Tracer> = OnceLock::new();

struct Tracer {
    queue: Queue,
    sampler: Sampler,
}

/// Begins to export, when the configuration names a collector.
pub(crate) fn install(config: &TelemetryConfig) -> Result<(), InitError> {
    if !(0.0..=1.0).contains(&config.sample_ratio) {
        return Err(InitError::Ratio(config.sample_ratio));
    }
    let Some(endpoint) = config.otlp_endpoint.as_deref().filter(|e| !e.trim().is_empty()) else {
        return Ok(());
    };
    let sampler = Sampler::new(config.sample_ratio, config.asked_per_second);
    let queue = Queue::start(endpoint.trim(), config.environment.clone())?;
    TRACER.set(Tracer { queue, sampler }).map_err(|_| InitError::Twice)
}

/// Waits until the collector has what was recorded so far, or `patience` is over. Blocks: at the end of a process.
pub(crate) fn flush(patience: Duration) {
    if let Some(tracer) = TRACER.get() {
        tracer.queue.flush(patience);
    }
}

/// Where a request from outside stands: in its caller's trace, or at the root of a new one; and whether it is
/// sampled. What a caller asks for is granted within bounds.
#[must_use]
pub fn admit(inbound: Option<TraceContext>) -> TraceContext {
    let sampler = TRACER.get().map(|tracer| &tracer.sampler);
    match (inbound, sampler) {
        (Some(inbound), Some(sampler)) => sampler.asked(inbound),
        // Not traced here, and what comes after us may be: nobody counts what callers ask for, so none of it is granted.
        (Some(inbound), None) => TraceContext { flags: inbound.flags & !1, ..inbound },
        (None, sampler) => {
            let root = TraceContext { trace_id: random(), span_id: random_id(), flags: 0 };
            sampler.map_or(root, |sampler| sampler.root(root))
        }
    }
}

fn random() -> u128 {
    loop {
        let id = rand::random::<u128>();
        if id != 0 {
            return id;
        }
    }
}

fn random_id() -> u64 {
    loop {
        let id = rand::random::<u64>();
        if id != 0 {
            return id;
        }
    }
}

/// One piece of work of one service. Recorded when dropped.
#[must_use = "a span lasts until it is dropped"]
pub struct Span {
    /// `None`: nothing is recorded.
    live: Option<Box<Live>>,
    context: Option<TraceContext>,
}

struct Live {
    tracer: &'static Tracer,
    service: &'static str,
    parent: u64,
    kind: SpanKind,
    name: Cow<'static, str>,
    started: SystemTime,
    attributes: Vec<KeyValue>,
    status: Status,
}

impl Span {
    /// A span below `parent`.
    pub fn start(
        service: &'static str,
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        parent: Option<TraceContext>,
    ) -> Self {
        let Some((parent, tracer)) = sampled(parent).zip(TRACER.get()) else {
            return Self { live: None, context: parent };
        };
        Self::record(tracer, service, kind, name.into(), parent, parent.span_id)
    }

    /// The first span of a request that came from outside, whose `parent` is its caller's span, if it has one. Its
    /// place was found by [`admit`].
    pub fn root(
        service: &'static str,
        name: impl Into<Cow<'static, str>>,
        admitted: TraceContext,
        parent: Option<TraceContext>,
    ) -> Self {
        let Some((at, tracer)) = sampled(Some(admitted)).zip(TRACER.get()) else {
            return Self { live: None, context: Some(admitted) };
        };
        let parent = parent.map_or(0, |p| p.span_id);
        Self::record(tracer, service, SpanKind::Server, name.into(), at, parent)
    }

    /// None: keeps the place where a span could be.
    pub const fn none(context: Option<TraceContext>) -> Self {
        Self { live: None, context }
    }

    fn record(
        tracer: &'static Tracer,
        service: &'static str,
        kind: SpanKind,
        name: Cow<'static, str>,
        at: TraceContext,
        parent: u64,
    ) -> Self {
        let live = Live {
            tracer,
            service,
            parent,
            kind,
            name,
            started: now(),
            attributes: Vec::new(),
            status: Status::Unset,
        };
        let context = TraceContext { span_id: random_id(), ..at };
        Self { live: Some(Box::new(live)), context: Some(context) }
    }

    /// What goes with calls made within it: its own context, or the caller's when it is not recorded.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// Whether it will be seen: attributes that cost something to make are for these only.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.live.is_some()
    }

    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(live) = &mut self.live {
            live.attributes.push(KeyValue::new(name, value));
        }
    }

    /// It failed; `why` in words for an operator, without anything secret.
    pub fn fail(&mut self, why: impl Into<Cow<'static, str>>) {
        if let Some(live) = &mut self.live {
            live.status = Status::Error { description: why.into() };
        }
    }

    /// A better name than the one it was started with.
    pub fn rename(&mut self, name: impl Into<Cow<'static, str>>) {
        if let Some(live) = &mut self.live {
            live.name = name.into();
        }
    }

    /// It began earlier than it was known to be needed.
    pub fn started_at(&mut self, at: SystemTime) {
        if let Some(live) = &mut self.live {
            live.started = at;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let (Some(live), Some(context)) = (self.live.take(), self.context) {
            let (tracer, service) = (live.tracer, live.service);
            tracer.queue.push(service, live.ended(context));
        }
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Span").field("context", &self.context).field("recorded", &self.is_recorded()).finish()
    }
}

impl Live {
    fn ended(self, context: TraceContext) -> SpanData {
        SpanData {
            span_context: SpanContext::new(
                TraceId::from(context.trace_id),
                SpanId::from(context.span_id),
                TraceFlags::new(context.flags),
                false,
                TraceState::NONE,
            ),
            parent_span_id: SpanId::from(self.parent),
            parent_span_is_remote: matches!(self.kind, SpanKind::Server | SpanKind::Consumer),
            span_kind: self.kind,
            name: self.name,
            start_time: self.started,
            end_time: now(),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: self.status,
            instrumentation_scope: InstrumentationScope::builder("weir")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

fn sampled(context: Option<TraceContext>) -> Option<TraceContext> {
    context.filter(|c| c.flags & 1 == 1)
}

/// The wall clock, to date a span with.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "collectors order spans of many machines by wall-clock time")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_collector_the_callers_place_is_passed_on_and_no_wish_to_be_sampled() {
        let caller = TraceContext { trace_id: 7, span_id: 9, flags: 1 };
        assert_eq!(admit(Some(caller)), TraceContext { flags: 0, ..caller });
        let mut span = Span::start("router", SpanKind::Server, "x", Some(caller));
        span.set("a", 1);
        assert!(!span.is_recorded());
        assert_eq!(span.context(), Some(caller));
        let root = admit(None);
        assert!(root.trace_id != 0 && root.span_id != 0 && root.flags == 0, "{root:?}");
    }
}
