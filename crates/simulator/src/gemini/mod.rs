//! Google's Gemini: the same answers, as contents of parts.
//!
//! After <https://ai.google.dev/api/generate-content> and the types of the `google-genai` client.

mod contents;
mod embed;
mod models;
mod predict;
mod request;
mod schema;
mod secret;
#[cfg(test)]
mod tests;
mod wire;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

pub(crate) use models::{list, one};
pub(crate) use predict::serve as predict;
pub(crate) use request::parse;

use crate::{
    Simulator,
    chat::{Posted, serve},
    dialect::{Asked, Dialect, Parsed, Told},
    error::ApiError,
    models::Model,
};

/// `POST /v1beta/models/{model}:{method}`.
pub(crate) async fn call(
    State(sim): State<Simulator>,
    Path(target): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    let (model, method) = target.rsplit_once(':').unwrap_or((&target, ""));
    let asked = |body| Asked { headers: &headers, uri: &uri, body };
    let told = match method {
        "generateContent" | "streamGenerateContent" => {
            let stream = method == "streamGenerateContent";
            let sse = asked(&[]).query("alt") == Some("sse");
            let dialect = Gemini { model: model.to_owned(), stream, sse };
            return serve(&sim, &dialect, &headers, &uri, body).await;
        }
        "embedContent" | "batchEmbedContents" => {
            let batch = method == "batchEmbedContents";
            return embed::serve(&sim, model, batch, &headers, &uri, body).await;
        }
        "countTokens" => match body {
            Ok(body) => authorize(&sim, &asked(&body)).and_then(|()| count(&sim, model, &body)),
            Err(rejected) => Err(ApiError::new(rejected.status(), "", rejected.body_text())),
        },
        _ => Err(ApiError::new(StatusCode::NOT_FOUND, "", format!("{uri} was not found on this server."))),
    };
    told.map_or_else(|error| error_response(&error, false), |told| Json(told).into_response())
}

/// Costs nothing, and stands in no ledger.
fn count(sim: &Simulator, model: &str, body: &[u8]) -> Result<Value, ApiError> {
    sim.0.catalogue.get(model).filter(|m| m.speaks_gemini()).ok_or_else(|| unknown_model(model))?;
    let tokens = request::count(body)?;
    let details = [json!({"modality": "TEXT", "tokenCount": tokens})];
    Ok(json!({"totalTokens": tokens, "promptTokensDetails": details}))
}

/// 400 about a field; `at` may be empty.
pub(super) fn invalid(at: &str, message: impl Into<String>) -> ApiError {
    ApiError::invalid(at, "", message)
}

fn unknown_model(model: &str) -> ApiError {
    let message = format!(
        "models/{model} is not found for API version v1beta, or is not supported for generateContent. Call ListModels \
         to see the list of available models and their supported methods."
    );
    ApiError::new(StatusCode::NOT_FOUND, "", message)
}

/// The key of a header, of the query, or of a bearer token.
pub(crate) fn authorize(sim: &Simulator, asked: &Asked<'_>) -> Result<(), ApiError> {
    let Some(key) = &sim.0.config.api_key else { return Ok(()) };
    let header = |name: &str| asked.headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    match header("x-goog-api-key").or_else(|| asked.query("key")).or(bearer) {
        Some(presented) if presented == key.expose_secret() => Ok(()),
        Some(_) => Err(invalid("", "API key not valid. Please pass a valid API key.")),
        None => {
            let message = "Method doesn't allow unregistered callers (callers without established identity). Please \
                           use API Key or other form of API consumer identity to call this API.";
            Err(ApiError::new(StatusCode::FORBIDDEN, "", message))
        }
    }
}

/// A `google.rpc.Status`.
pub(crate) fn error_json(error: &ApiError) -> Value {
    let status = match error.status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        501 => "UNIMPLEMENTED",
        503 | 529 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        400..=498 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    };
    let mut inner = json!({"code": error.status.as_u16(), "message": error.message, "status": status});
    let mut details = Vec::new();
    if let Some(field) = error.param.as_deref().filter(|field| !field.is_empty()) {
        let violation = json!({"field": field, "description": error.message});
        details.push(
            json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}),
        );
    }
    if let Some(seconds) = error.retry_after {
        let delay = format!("{seconds}s");
        details.push(json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}));
    }
    if !details.is_empty() {
        inner["details"] = Value::Array(details);
    }
    json!({"error": inner})
}

/// `listed`: as the one item of an array, which a stream without `alt=sse` is.
pub(crate) fn error_response(error: &ApiError, listed: bool) -> Response {
    let body = error_json(error);
    let body = if listed { Value::Array(vec![body]) } else { body };
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = error.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    if let Some(seconds) = error.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// One call: its path says what others have in the body.
#[derive(Debug)]
pub(crate) struct Gemini {
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// Events, not a JSON array.
    pub(crate) sse: bool,
}

impl Dialect for Gemini {
    fn authorize(&self, sim: &Simulator, asked: &Asked<'_>) -> Result<(), ApiError> {
        authorize(sim, asked)
    }

    fn parse<'a>(&self, _: &Simulator, asked: &Asked<'a>) -> Result<Parsed<'a>, ApiError> {
        parse(asked.body, &self.model, self.stream, self.sse)
    }

    fn speaks(&self, model: &Model) -> bool {
        model.speaks_gemini()
    }

    fn unknown_model(&self, model: &str) -> ApiError {
        unknown_model(model)
    }

    fn too_long(&self, limit: u64, tokens: u64) -> ApiError {
        let message = format!(
            "The input token count ({tokens}) exceeds the maximum number of tokens allowed ({limit})."
        );
        invalid("", message)
    }

    fn error(&self, error: &ApiError, _: &str) -> Response {
        error_response(error, self.stream && !self.sse)
    }

    fn describe(&self, told: &Told<'_>, headers: &mut HeaderMap) {
        describe(told, headers);
    }
}

/// Headers of Google's every answer. It tells no limits.
pub(crate) fn describe(told: &Told<'_>, headers: &mut HeaderMap) {
    let timing = HeaderValue::try_from(format!("gfet4t7; dur={}", told.elapsed_ms));
    headers.extend(timing.ok().map(|timing| (http::HeaderName::from_static("server-timing"), timing)));
    headers.insert("vary", HeaderValue::from_static("Origin, X-Origin, Referer"));
}
