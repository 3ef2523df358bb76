//! Which web origins may read answers. Keys travel in headers that scripts set themselves, so credentials (cookies)
//! are never allowed, neither with a wildcard nor without.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, x-weir-provider, x-weir-model, x-weir-warnings, x-weir-cost-usd, \
     retry-after, retry-after-ms, x-should-retry, \
     x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
     x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, \
     anthropic-ratelimit-requests-limit, anthropic-ratelimit-requests-remaining, anthropic-ratelimit-requests-reset, \
     anthropic-ratelimit-tokens-limit, anthropic-ratelimit-tokens-remaining, anthropic-ratelimit-tokens-reset",
);
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

#[derive(Debug, Clone)]
pub(crate) struct Cors {
    origins: Vec<String>,
    any: bool,
}

impl Cors {
    pub(crate) fn new(origins: &[String]) -> Self {
        Self { origins: origins.to_vec(), any: origins.iter().any(|o| o == "*") }
    }

    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(header::ORIGIN)?;
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        let known = origin.to_str().is_ok_and(|o| self.origins.iter().any(|k| k.eq_ignore_ascii_case(o)));
        known.then(|| origin.clone())
    }

    /// The answer to a preflight from an allowed origin.
    pub(crate) fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<Response<Body>> {
        let wanted = request.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        if method != Method::OPTIONS || wanted.is_empty() {
            return None;
        }
        self.allowed(request)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        // SDKs send a dozen headers of their own; which ones is no secret and no danger.
        if let Some(names) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        Some(response)
    }

    /// Marks an answer as readable for the origin that asked, if it may.
    pub(crate) fn mark(&self, origin: Option<HeaderValue>, response: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        response.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = origin {
            response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }

    /// What [`Cors::mark`] will want to know, taken before the request is consumed.
    pub(crate) fn origin(&self, request: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.is_empty() { None } else { self.allowed(request) }
    }
}
