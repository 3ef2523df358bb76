//! A `tracing` layer that writes one line an event, with the fields of the spans around it.

use std::{borrow::Cow, fmt, fmt::Write as _};

use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    fmt::{
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::Context,
    registry::LookupSpan,
};

use super::redact::{is_secret_field, redact};

/// Fields that a span has room for without growing.
const USUAL: usize = 8;
/// Recorded as numbers, shown in hex as `traceparent` does.
const TRACE_ID: &str = "trace_id";
const SPAN_ID: &str = "span_id";

/// Where lines go. Errors are the sink's to swallow: logging must not fail a request.
pub(crate) trait Sink: Send + Sync + 'static {
    fn write(&self, line: &Line<'_>);
}

pub(crate) struct LogLayer {
    sinks: Vec<Box<dyn Sink>>,
    /// Whose process this is, when it is one service's alone.
    service: Option<&'static str>,
}

impl LogLayer {
    pub(crate) fn new(sinks: Vec<Box<dyn Sink>>, service: Option<&'static str>) -> Self {
        Self { sinks, service }
    }
}

/// One event, ready to be written.
pub(crate) struct Line<'a> {
    timestamp: String,
    level: Level,
    target: &'a str,
    service: Option<&'static str>,
    fields: Fields,
}

/// Fields in the order they came; a name stands once.
#[derive(Default)]
struct Fields(Vec<(&'static str, Held)>);

/// A field's value. Ids of every span are written out only when a line is.
#[derive(Clone)]
enum Held {
    Plain(Value),
    TraceId(u128),
    SpanId(u64),
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(value) => value.fmt(f),
            Self::TraceId(id) => write!(f, "\"{id:032x}\""),
            Self::SpanId(id) => write!(f, "\"{id:016x}\""),
        }
    }
}

impl<V: Into<Value>> From<V> for Held {
    fn from(value: V) -> Self {
        Self::Plain(value.into())
    }
}

impl Fields {
    fn set(&mut self, name: &'static str, value: impl Into<Held>) {
        let value = value.into();
        if self.0.capacity() == 0 {
            self.0.reserve(USUAL);
        }
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some(slot) => slot.1 = value,
            None => self.0.push((name, value)),
        }
    }

    fn set_text(&mut self, field: &Field, text: &str) {
        let text = match field.name() {
            // Made by us, and on the path of every request.
            "request_id" | "service" | "op" | "tenant" => Cow::Borrowed(text),
            name if is_secret_field(name) => Cow::Borrowed("***"),
            _ => redact(text),
        };
        self.set(field.name(), Value::String(text.into_owned()));
    }

    fn add_missing(&mut self, outer: &Fields) {
        for (name, value) in &outer.0 {
            if !self.0.iter().any(|(n, _)| n == name) {
                self.0.push((name, value.clone()));
            }
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        let value = if field.name() == SPAN_ID { Held::SpanId(value) } else { value.into() };
        self.set(field.name(), value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        let value = if field.name() == TRACE_ID { Held::TraceId(value) } else { value.to_string().into() };
        self.set(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set_text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut next = value.source();
        while let Some(cause) = next {
            let _ = write!(text, ": {cause}");
            next = cause.source();
        }
        self.set_text(field, &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set_text(field, &format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = ctx.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        if let Some(span) = ctx.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in ctx.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.add_missing(outer);
            }
        }
        let mut timestamp = String::with_capacity(32);
        let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
        let metadata = event.metadata();
        let line = Line {
            timestamp,
            level: *metadata.level(),
            target: metadata.target(),
            service: self.service,
            fields,
        };
        for sink in &self.sinks {
            sink.write(&line);
        }
    }
}

impl Line<'_> {
    /// One JSON object and a line feed: timestamp, level, service, target, message, then the fields.
    pub(crate) fn json(&self) -> String {
        let mut out = String::with_capacity(256);
        let _ = write!(
            out,
            "{{\"timestamp\":\"{}\",\"level\":\"{}\",\"service\":{},\"target\":{},\"message\":{}",
            self.timestamp,
            self.level,
            self.service(),
            Value::from(self.target),
            self.message().unwrap_or(&Held::from("")),
        );
        for (name, value) in self.others() {
            // A field that has the name of one of ours keeps its value under a name of its own.
            let clash = if matches!(name, "timestamp" | "level" | "target") { "field." } else { "" };
            let _ = write!(out, ",\"{clash}{}\":{value}", name.escape_default());
        }
        out.push_str("}\n");
        out
    }

    /// For people at a terminal: `12:00:00.123456Z  INFO target: message key=value`.
    pub(crate) fn pretty(&self, colour: bool) -> String {
        let mut out = String::with_capacity(160);
        let time = self.timestamp.split_once('T').map_or(&*self.timestamp, |(_, time)| time);
        let (level, dim, reset) =
            if colour { (paint(self.level), "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        let _ =
            write!(out, "{dim}{time}{reset} {level}{:>5}{reset} {dim}{}:{reset} ", self.level, self.target);
        if let Some(Held::Plain(Value::String(message))) = self.message() {
            push_plain(&mut out, message);
        }
        for (name, value) in self.others() {
            let _ = write!(out, " {dim}{name}={reset}");
            match value {
                Held::Plain(Value::String(text)) if !text.is_empty() && !text.contains([' ', '"']) => {
                    push_plain(&mut out, text);
                }
                other => {
                    let _ = write!(out, "{other}");
                }
            }
        }
        out.push('\n');
        out
    }

    fn message(&self) -> Option<&Held> {
        self.fields.0.iter().find(|(name, _)| *name == "message").map(|(_, value)| value)
    }

    /// Whose work it is, as a span around it or the process says; else whose code: `weir_router::app` is the router's.
    fn service(&self) -> Cow<'_, Held> {
        if let Some((_, service)) = self.fields.0.iter().find(|(name, _)| *name == "service") {
            return Cow::Borrowed(service);
        }
        if let Some(service) = self.service {
            return Cow::Owned(service.into());
        }
        let krate = self.target.split("::").next().unwrap_or_default();
        Cow::Owned(krate.strip_prefix("weir_").unwrap_or("weir").into())
    }

    fn others(&self) -> impl Iterator<Item = (&'static str, &Held)> {
        let fields = self.fields.0.iter().filter(|(name, _)| !matches!(*name, "message" | "service"));
        fields.map(|(name, value)| (*name, value))
    }
}

/// Control characters are shown escaped: a logged text cannot forge a line or drive a terminal.
fn push_plain(out: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
}

fn paint(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}
