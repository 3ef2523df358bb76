//! Errors in OpenAI's shape.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use serde::Serialize;

/// An error as OpenAI's clients read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) kind: &'static str,
    pub(crate) param: Option<String>,
    pub(crate) code: Option<&'static str>,
    /// Seconds.
    pub(crate) retry_after: Option<u64>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), kind, param: None, code: None, retry_after: None }
    }

    /// 400 about a field; `code` may be empty.
    pub(crate) fn invalid(param: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            code: Some(code).filter(|code| !code.is_empty()),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
        }
    }

    pub(crate) fn missing(param: &str) -> Self {
        Self::invalid(param, "missing_required_parameter", format!("Missing required parameter: '{param}'."))
    }

    pub(crate) fn unreadable() -> Self {
        let message = "We could not parse the JSON body of your request. (HINT: This likely means you aren't using \
                       your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not \
                       valid JSON.)";
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(crate) fn unknown_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        Self {
            code: Some("model_not_found"),
            ..Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
        }
    }

    pub(crate) fn unauthorized(presented: Option<&str>) -> Self {
        let message = match presented {
            None => {
                "You didn't provide an API key. You need to provide your API key in an Authorization header \
                     using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
                    .to_owned()
            }
            // As the real one does, the ends of the key only.
            Some(key) => format!("Incorrect API key provided: {}.", masked(key)),
        };
        Self {
            code: Some("invalid_api_key"),
            ..Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message)
        }
    }

    /// The error that goes with a fault's status.
    pub(crate) fn fault(status: u16, retry_after: Option<u64>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (kind, code, message) = match status.as_u16() {
            401 => {
                ("invalid_request_error", Some("invalid_api_key"), "Incorrect API key provided: sim-****.")
            }
            402 => ("insufficient_quota", Some("insufficient_quota"), "You exceeded your current quota."),
            403 => {
                ("invalid_request_error", Some("unsupported_country_region_territory"), "Not supported here.")
            }
            404 => ("invalid_request_error", Some("model_not_found"), "The model does not exist."),
            429 => ("requests", Some("rate_limit_exceeded"), "Rate limit reached. Please try again later."),
            400..=499 => ("invalid_request_error", None, "The request was refused, as asked by a fault."),
            529 => ("server_error", None, "Overloaded"),
            503 => ("server_error", None, "The engine is currently overloaded, please try again later."),
            _ => (
                "server_error",
                None,
                "The server had an error while processing your request. Sorry about that!",
            ),
        };
        Self { code, retry_after, ..Self::new(status, kind, message) }
    }

    /// `{"error":{…}}`
    pub(crate) fn json(&self) -> Vec<u8> {
        let error =
            Inner { message: &self.message, kind: self.kind, param: self.param.as_deref(), code: self.code };
        serde_json::to_vec(&Envelope { error }).unwrap_or_default()
    }
}

fn masked(key: &str) -> String {
    let chars: Vec<char> = key.chars().collect();
    if chars.len() < 12 {
        return "*".repeat(chars.len());
    }
    let (head, tail) = (&chars[..4], &chars[chars.len() - 4..]);
    head.iter().chain(&['*'; 8]).chain(tail).collect()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

pub(crate) async fn unknown_url(method: Method, uri: Uri) -> ApiError {
    let message = format!("Unknown request URL: {method} {}. Please check the URL for typos.", uri.path());
    ApiError {
        code: Some("unknown_url"),
        ..ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }
}

pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("Not allowed to {method} on {}.", uri.path());
    ApiError {
        code: Some("method_not_supported"),
        ..ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_all_four_fields_and_hides_the_key() {
        let json: serde_json::Value =
            serde_json::from_slice(&ApiError::unauthorized(Some("sk-1234567890abcdef")).json()).unwrap();
        assert_eq!(json["error"]["message"], "Incorrect API key provided: sk-1********cdef.");
        assert_eq!(json["error"]["code"], "invalid_api_key");
        assert!(json["error"].as_object().unwrap().contains_key("param"));
        assert_eq!(masked("short"), "*****");
    }
}
