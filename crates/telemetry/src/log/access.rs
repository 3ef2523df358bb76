//! One line for each request answered at the edge: formatted straight into its bytes, without `tracing`, because it
//! is on the path of every request. Never bodies, keys or query strings.

use std::{fmt::Write as _, time::Duration};

use tracing_subscriber::fmt::{
    format::Writer as Text,
    time::{FormatTime, SystemTime},
};
use weir_types::{TenantId, TraceContext, UserId};

/// What an access line says.
#[derive(Debug, Clone)]
pub struct Access<'a> {
    pub service: &'static str,
    pub method: &'static str,
    /// The route's template, never the path.
    pub route: &'static str,
    pub status: u16,
    pub latency: Duration,
    pub request_id: &'a str,
    pub tenant: Option<TenantId>,
    pub user: Option<UserId>,
    pub trace: Option<TraceContext>,
    /// A stream whose end the client did not wait for, or that was cut: its bytes ended early.
    pub cut: bool,
    /// What happened to the business, when the request was such a thing: `chat_completed`.
    pub business_event: Option<&'static str>,
}

/// Writes the line, when the process has a log that shows these. Never waits.
pub fn access(entry: &Access<'_>) {
    let Some(log) = super::LOG.get() else { return };
    if log.access {
        for target in &log.targets {
            target.writer.push(if target.pretty { entry.pretty() } else { entry.json() }.as_bytes());
        }
    }
}

fn timestamp(out: &mut String) {
    let _ = SystemTime.format_time(&mut Text::new(out));
}

impl Access<'_> {
    fn json(&self) -> String {
        let mut out = String::with_capacity(512);
        out.push_str("{\"timestamp\":\"");
        timestamp(&mut out);
        // Nothing here needs escaping: routes and methods are ours, a request id is [A-Za-z0-9_-].
        let _ = write!(
            out,
            "\",\"level\":\"INFO\",\"service\":\"{}\",\"message\":\"request\",\"op\":\"{} {}\",\"method\":\"{}\",\
             \"route\":\"{}\",\"status\":{},\"latency_ms\":{}.{:03},\"request_id\":\"{}\"",
            self.service,
            self.method,
            self.route,
            self.method,
            self.route,
            self.status,
            self.latency.as_millis(),
            self.latency.as_micros() % 1_000,
            self.request_id,
        );
        if let Some(tenant) = self.tenant {
            let _ = write!(out, ",\"tenant\":\"{tenant}\"");
        }
        if let Some(user) = self.user {
            let _ = write!(out, ",\"user\":\"{user}\"");
        }
        if let Some(trace) = self.trace {
            let _ = write!(
                out,
                ",\"trace_id\":\"{:032x}\",\"span_id\":\"{:016x}\"",
                trace.trace_id, trace.span_id
            );
        }
        if self.cut {
            out.push_str(",\"cut\":true");
        }
        if let Some(event) = self.business_event {
            let _ = write!(out, ",\"business_event\":\"{event}\"");
        }
        out.push_str("}\n");
        out
    }

    fn pretty(&self) -> String {
        let mut out = String::with_capacity(160);
        timestamp(&mut out);
        if let Some(day) = out.find('T') {
            out.drain(..=day);
        }
        let ms = self.latency.as_secs_f64() * 1_000.0;
        let cut = if self.cut { " cut" } else { "" };
        let _ = writeln!(
            out,
            "  INFO {}: {} {} {}{cut} {ms:.1} ms {}",
            self.service, self.method, self.route, self.status, self.request_id
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use weir_types::RequestId;

    use super::*;

    #[test]
    fn the_line_is_json_with_the_promised_fields() {
        let tenant = TenantId::new();
        let id = RequestId::new();
        let entry = Access {
            service: "gateway",
            method: "POST",
            route: "/v1/chat/completions",
            status: 200,
            latency: Duration::from_micros(1_234_056),
            request_id: id.as_str(),
            tenant: Some(tenant),
            user: None,
            trace: Some(TraceContext { trace_id: 0xab, span_id: 0xcd, flags: 1 }),
            cut: true,
            business_event: Some("chat_completed"),
        };
        let line = entry.json();
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
        let line: Value = serde_json::from_str(&line).unwrap();
        for (name, value) in [
            ("level", Value::from("INFO")),
            ("service", "gateway".into()),
            ("op", "POST /v1/chat/completions".into()),
            ("status", 200.into()),
            ("latency_ms", 1_234.056.into()),
            ("request_id", id.as_str().into()),
            ("tenant", tenant.to_string().into()),
            ("trace_id", "000000000000000000000000000000ab".into()),
            ("span_id", "00000000000000cd".into()),
            ("cut", true.into()),
            ("business_event", "chat_completed".into()),
        ] {
            assert_eq!(line[name], value, "{name}");
        }
        assert!(line.get("user").is_none());
        assert!(entry.pretty().contains("POST /v1/chat/completions 200 cut 1234.1 ms req_"));
    }
}
