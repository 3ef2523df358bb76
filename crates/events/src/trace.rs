//! Spans of events on their way: sent by one service, handled by another, below the request they tell of.

use async_nats::HeaderMap;
use weir_telemetry::{Span, SpanKind};
use weir_types::TraceContext;

use crate::Outcome;

const TRACEPARENT: &str = "traceparent";

/// Services by the names that sources (`weir/control`) and durable consumers (`billing-usage`) begin with.
const SERVICES: [&str; 8] =
    ["gateway", "realtime", "router", "orchestrator", "analytics", "billing", "ingestion", "control"];

fn service(name: &str) -> &'static str {
    let name = name.strip_prefix("weir/").unwrap_or(name);
    SERVICES.into_iter().find(|service| name.starts_with(service)).unwrap_or("weir")
}

/// The sending of an event, until it is acknowledged.
pub(crate) fn publishing(source: &str, subject: &str, id: uuid::Uuid, parent: Option<TraceContext>) -> Span {
    let mut span = Span::start(service(source), SpanKind::Producer, "publish", parent);
    if span.is_recorded() {
        describe(&mut span, "send", subject, id);
    }
    span
}

/// What the one who handles it is to continue.
pub(crate) fn put(headers: &mut HeaderMap, span: &Span) {
    if let Some(context) = span.context() {
        headers.insert(TRACEPARENT, context.to_string());
    }
}

/// What [`put`] wrote.
pub(crate) fn get(headers: Option<&HeaderMap>) -> Option<TraceContext> {
    TraceContext::parse(headers?.get(TRACEPARENT)?.as_str())
}

/// The handling of a message, until its outcome is settled.
pub(crate) fn handling(
    consumer: &'static str,
    subject: &str,
    id: uuid::Uuid,
    headers: Option<&HeaderMap>,
) -> Span {
    let parent = get(headers);
    let mut span = Span::start(service(consumer), SpanKind::Consumer, "process", parent);
    if span.is_recorded() {
        describe(&mut span, "process", subject, id);
        span.set("messaging.consumer.group.name", consumer);
    }
    span
}

/// What became of it.
pub(crate) fn note(span: &mut Span, outcome: &Outcome) {
    match outcome {
        Outcome::Ack => {}
        Outcome::Retry(why) => span.fail(why.clone()),
        Outcome::DeadLetter(_) => span.fail("became a dead letter"),
    }
}

/// <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>. The name has no tenant in it, so that
/// there are few.
fn describe(span: &mut Span, operation: &'static str, subject: &str, id: uuid::Uuid) {
    let (name, tenant) = destination(subject);
    span.rename(format!("{operation} {name}"));
    span.set("messaging.system", "nats");
    span.set("messaging.operation.type", operation);
    span.set("messaging.destination.name", name);
    span.set("messaging.message.id", id.to_string());
    if let Some(tenant) = tenant {
        span.set("weir.tenant.id", tenant.to_owned());
    }
}

/// `weir.usage.<tenant>.request_finished` is `usage.request_finished`; `$KV.weir_keys.<key>` is `kv.weir_keys`.
fn destination(subject: &str) -> (String, Option<&str>) {
    let mut parts = subject.splitn(4, '.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("$KV"), Some(bucket), ..) => (format!("kv.{bucket}"), None),
        (_, Some(family), tenant, Some(kind)) => (format!("{family}.{kind}"), tenant),
        _ => ("event".to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_the_beginning_of_a_name() {
        assert_eq!(
            (service("weir/control"), service("billing-usage"), service("x")),
            ("control", "billing", "weir")
        );
    }

    #[test]
    fn names_have_no_tenant_and_no_key_in_them() {
        for (subject, name) in [
            ("weir.usage.t.request_finished", "usage.request_finished"),
            ("$KV.weir_keys.some.key", "kv.weir_keys"),
            ("odd", "event"),
        ] {
            assert_eq!(destination(subject).0, name);
        }
    }

    #[test]
    fn the_place_survives_the_headers() {
        let at = TraceContext { trace_id: 7, span_id: 9, flags: 1 };
        let mut headers = HeaderMap::new();
        put(&mut headers, &Span::none(Some(at)));
        assert_eq!(get(Some(&headers)), Some(at));
        put(&mut headers, &Span::none(None));
        assert_eq!(get(None), None);
    }
}
