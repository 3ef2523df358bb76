//! Amazon Bedrock's Converse: `/model/{id}/converse` and `/model/{id}/converse-stream`; and `/model/{id}/invoke` for
//! vectors.
//!
//! After <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>. Calls are signed, or carry a
//! Bedrock API key; who shows nothing is refused, as there.

mod auth;
mod frames;
mod invoke;
mod request;
#[cfg(test)]
mod tests;
mod wire;

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use serde_json::json;

pub use auth::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};

use crate::{
    Simulator,
    chat::{Posted, serve},
    dialect::{Asked, Dialect, Parsed, Told},
    error::ApiError,
    models::Model,
};

/// `POST /model/{id}/{converse|converse-stream|invoke}`
pub(crate) async fn converse(
    State(sim): State<Simulator>,
    Path((model, operation)): Path<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    let stream = match operation.as_str() {
        "converse" => false,
        "converse-stream" => true,
        "invoke" => return invoke::serve(&sim, model, &headers, &uri, body).await,
        _ => {
            let message = format!("Unable to determine service/operation name to be authorized: {operation}");
            return error_response(&ApiError::new(StatusCode::NOT_FOUND, UNKNOWN, message));
        }
    };
    serve(&sim, &Converse { model, stream, invoked: false }, &headers, &uri, body).await
}

const UNKNOWN: &str = "UnknownOperationException";

#[derive(Debug)]
struct Converse {
    model: String,
    stream: bool,
    /// Its model is asked in a body of its maker's.
    invoked: bool,
}

impl Dialect for Converse {
    fn authorize(&self, sim: &Simulator, asked: &Asked<'_>) -> Result<(), ApiError> {
        auth::authorize(sim, asked)
    }

    fn parse<'a>(&self, _: &Simulator, asked: &Asked<'a>) -> Result<Parsed<'a>, ApiError> {
        request::parse(asked.body, &self.model, self.stream)
    }

    fn speaks(&self, model: &Model) -> bool {
        if self.invoked { model.is_invoked() } else { model.speaks_bedrock() }
    }

    fn unknown_model(&self, _: &str) -> ApiError {
        invalid("The provided model identifier is invalid.")
    }

    fn too_long(&self, _: u64, _: u64) -> ApiError {
        invalid("Input is too long for requested model.")
    }

    fn error(&self, error: &ApiError, _: &str) -> Response {
        error_response(error)
    }

    fn describe(&self, told: &Told<'_>, headers: &mut HeaderMap) {
        let id = HeaderValue::try_from(told.request_id);
        headers.extend(id.ok().map(|id| (HeaderName::from_static("x-amzn-requestid"), id)));
        if self.invoked && told.tokens.0 > 0 {
            headers.insert("x-amzn-bedrock-input-token-count", told.tokens.0.into());
        }
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::invalid("", "", message)
}

/// The exception that goes with a status.
fn exception(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 => "ModelTimeoutException",
        424 => "ModelErrorException",
        429 => "ThrottlingException",
        503 | 529 => "ServiceUnavailableException",
        400..=499 => "ValidationException",
        _ => "InternalServerException",
    }
}

fn error_response(error: &ApiError) -> Response {
    let mut response = Response::new(json!({"message": error.message}).to_string().into());
    *response.status_mut() = error.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let kind = if error.kind == UNKNOWN { UNKNOWN } else { exception(error.status) };
    headers.insert("x-amzn-errortype", HeaderValue::from_static(kind));
    if let Some(seconds) = error.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
