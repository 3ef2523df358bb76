//! The upgrade: what is refused before there is a WebSocket, and the hand-over to a session.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::{State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    response::{IntoResponse, Response},
    routing::any,
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, header};
use weir_error::{Code, Error};
use weir_rpc::{INTRODUCTION, Identity};
use weir_runtime::OnFailure;
use weir_types::{RequestId, TraceContext};

use crate::{
    Shared,
    caller::{Caller, Credential},
    session::{self, Greeting},
};

const TENANT: HeaderName = HeaderName::from_static("x-tenant-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Most connections are idle most of the time: small buffers, grown when used.
const BUFFER_BYTES: usize = 4 << 10;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    // Any method: HTTP/2 opens WebSockets with CONNECT (RFC 8441).
    let upgrade = any(upgrade);
    let paths = ["/ws/chat", "/v1/chat/ws", "/api/v1/chat/ws", "/v1/ws/chat", "/api/v1/ws/chat"];
    paths
        .into_iter()
        .fold(Router::new(), |router, path| router.route(path, upgrade.clone()))
        .with_state(shared)
}

async fn upgrade(
    State(shared): State<Arc<Shared>>,
    extensions: Extensions,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let request_id = text(&headers, &REQUEST_ID).and_then(RequestId::parse).unwrap_or_default();
    let address = client_address(&shared.identity, &headers, &extensions);
    match greet(&shared, &headers, address, &request_id).await {
        Ok(greeting) => match upgrade {
            Ok(upgrade) => hand_over(shared, upgrade, greeting),
            Err(rejection) => {
                let error = Error::new(Code::InvalidArgument, rejection.body_text()).with_param("Upgrade");
                problem(&error, &request_id)
            }
        },
        Err(error) => problem(&error, &request_id),
    }
}

/// The gateway says whom it serves, wherever it runs; anybody else is believed as far as `listen.trusted_proxies` go.
fn client_address(identity: &Identity, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
    let told = || text(headers, &FORWARDED_FOR)?.parse().ok();
    let handed_over = identity.is_introduced(headers.get(INTRODUCTION), "gateway");
    handed_over.then(told).flatten().or_else(|| weir_runtime::client_ip(extensions))
}

/// What the request's headers decide.
async fn greet(
    shared: &Shared,
    headers: &HeaderMap,
    address: Option<IpAddr>,
    request_id: &RequestId,
) -> Result<Greeting, Error> {
    if shared.shutdown.is_cancelled() {
        return Err(Error::unavailable("this instance is stopping: connect again"));
    }
    check_origin(&shared.config.allowed_origins, headers)?;
    let tenant = text(headers, &TENANT).map(str::to_owned);
    let trace = text(headers, &TRACEPARENT).and_then(TraceContext::parse);
    let trace = trace.map(|caller| weir_telemetry::admit(Some(caller)));
    let caller = match presented(headers)? {
        Some(key) => {
            let credential = Credential::new(key.to_owned(), tenant.clone(), address);
            Some(Caller::authenticate(shared, credential, request_id).await?)
        }
        None => None,
    };
    Ok(Greeting { caller, tenant, address, trace })
}

fn hand_over(shared: Arc<Shared>, upgrade: WebSocketUpgrade, greeting: Greeting) -> Response {
    let max = shared.config.max_message.as_usize();
    let slot = shared.registry.take(&shared.metrics);
    upgrade
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(max)
        .max_frame_size(max)
        .on_upgrade(move |socket| async move {
            let tasks = shared.tasks.clone();
            // Boxed: a future that is moved into another's await is kept there twice.
            let session = Box::pin(session::run(shared, socket, greeting, slot));
            tasks.spawn("realtime.session", OnFailure::Log, session);
        })
}

/// A browser sends its page's origin, other clients send none.
fn check_origin(allowed: &[String], headers: &HeaderMap) -> Result<(), Error> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    if allowed.is_empty() || allowed.iter().any(|a| a.as_bytes().eq_ignore_ascii_case(origin.as_bytes())) {
        return Ok(());
    }
    Err(Error::new(Code::PermissionDenied, "pages of this origin may not connect").with_param("Origin"))
}

/// `Authorization: Bearer …`, else `x-api-key`.
fn presented(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(text(headers, &API_KEY).map(str::trim));
    };
    match value.to_str().ok().and_then(|v| v.split_once(' ')) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(key.trim())),
        _ => Err(Error::new(Code::InvalidApiKey, "send the API key as `Authorization: Bearer KEY`")),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

fn problem(error: &Error, request_id: &RequestId) -> Response {
    let body = error.problem(request_id.as_str()).to_string();
    let mut response = (error.code().http(), body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Ok(id) = HeaderValue::from_str(request_id.as_str()) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(after) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, after.as_secs().max(1).into());
    }
    if error.code() == Code::InvalidApiKey {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn an_allow_list_of_origins_is_one() {
        let allowed = ["https://app.example".to_owned()];
        let other = headers(header::ORIGIN, "https://evil.example");
        assert!(check_origin(&[], &other).is_ok());
        assert!(check_origin(&allowed, &HeaderMap::new()).is_ok());
        assert!(check_origin(&allowed, &headers(header::ORIGIN, "https://app.example")).is_ok());
        assert_eq!(check_origin(&allowed, &other).unwrap_err().code(), Code::PermissionDenied);
        assert!(check_origin(&allowed, &headers(header::ORIGIN, "https://app.example.evil")).is_err());
    }

    #[test]
    fn a_key_is_a_bearer() {
        assert_eq!(presented(&HeaderMap::new()).unwrap(), None);
        assert_eq!(presented(&headers(header::AUTHORIZATION, "bearer k")).unwrap(), Some("k"));
        assert_eq!(presented(&headers(API_KEY, "k")).unwrap(), Some("k"));
        assert!(presented(&headers(header::AUTHORIZATION, "Basic k")).is_err());
    }
}
