//! How the caller's context enters and leaves a call.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tonic::{Request, Status};
use weir_types::{Deadline, RequestContext, RequestId, TraceContext};

use crate::identity::{Identity, Verified};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The time that is left, in the same form. The caller's channel ends a call at `grpc-timeout`, which is a little later:
/// who does the work says best what took so long, and is heard.
const TIME_LEFT: HeaderName = HeaderName::from_static("x-weir-time-left");
pub(crate) const HEARING: Duration = Duration::from_millis(250);

/// A request that carries who asks.
pub fn request<T>(ctx: &RequestContext, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(ctx.clone());
    request
}

/// Who asks, on the receiving side.
///
/// # Errors
/// `UNAUTHENTICATED` when the call came around the layers that put it there.
pub fn context<T>(request: &Request<T>) -> Result<RequestContext, Status> {
    request
        .extensions()
        .get::<RequestContext>()
        .cloned()
        .ok_or_else(|| Status::unauthenticated("a call without a request context"))
}

/// Writes the context into headers, for the network.
pub(crate) fn write_headers(
    ctx: &RequestContext,
    identity: &Identity,
    audience: &str,
    headers: &mut HeaderMap,
) {
    match identity.token(ctx, audience) {
        Ok(token) => drop(headers.insert(header::AUTHORIZATION, token)),
        // The receiver refuses the call, which is the right outcome.
        Err(error) => tracing::error!(error = %error, "could not sign an identity token"),
    }
    if let Ok(value) = HeaderValue::from_str(ctx.request_id.as_str()) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(value) = ctx.trace.and_then(|t| HeaderValue::from_str(&t.to_string()).ok()) {
        headers.insert(TRACEPARENT, value);
    }
    if let Some(left) = ctx.deadline.map(|d| d.remaining()) {
        for (name, time) in [(TIME_LEFT, left), (GRPC_TIMEOUT, left + HEARING)] {
            if let Ok(value) = HeaderValue::from_str(&grpc_timeout(time)) {
                headers.insert(name, value);
            }
        }
    }
}

/// Reads what [`write_headers`] wrote.
pub(crate) fn read_headers(verified: &Verified, headers: &HeaderMap) -> RequestContext {
    let text = |name: &HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    RequestContext {
        principal: verified.principal.clone(),
        tenant: verified.tenant,
        scopes: verified.scopes.clone(),
        request_id: text(&REQUEST_ID).and_then(RequestId::parse).unwrap_or_default(),
        trace: text(&TRACEPARENT).and_then(TraceContext::parse),
        deadline: [&TIME_LEFT, &GRPC_TIMEOUT]
            .into_iter()
            .find_map(|name| text(name).and_then(parse_grpc_timeout))
            .map(Deadline::after),
    }
}

/// The form of <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>: at most eight digits and a unit.
fn grpc_timeout(left: Duration) -> String {
    let micros = left.as_micros();
    if micros < 100_000_000 { format!("{micros}u") } else { format!("{}m", left.as_millis().min(99_999_999)) }
}

fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let split = text.len().checked_sub(1)?;
    let (digits, unit) = (text.get(..split)?, text.get(split..)?);
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3_600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_the_form_grpc_asks_for() {
        assert_eq!(grpc_timeout(Duration::from_millis(1_500)), "1500000u");
        assert_eq!(grpc_timeout(Duration::from_secs(600)), "600000m");
        assert_eq!(parse_grpc_timeout("20S"), Some(Duration::from_secs(20)));
        for bad in ["", "S", "123456789S", "1x", "-1S", "1é"] {
            assert_eq!(parse_grpc_timeout(bad), None, "{bad}");
        }
    }
}
