//! Mistral's chat completions, under `/mistral/v1`: it refuses what it does not know.
//!
//! After <https://docs.mistral.ai/api/endpoint/chat> and the types of the `mistralai` client.

mod request;
#[cfg(test)]
mod tests;
mod wire;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use serde_json::{Value, json};

use crate::{
    Simulator,
    chat::{Posted, authorize, serve},
    dialect::{Asked, Dialect, Parsed, Told},
    embed::{self, Asking, Input},
    error::ApiError,
    models::Model,
};

/// `POST /mistral/v1/chat/completions`
pub(crate) async fn chat(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    serve(&sim, &Mistral { embeds: false }, &headers, &uri, body).await
}

/// `POST /mistral/v1/embeddings`
pub(crate) async fn embeddings(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    let asking = body.map_err(|rejected| ApiError::new(rejected.status(), "", rejected.body_text()));
    let asking = asking.and_then(|body| {
        sim.0.recorder.note(&headers, &uri, &body);
        authorize(&sim, &headers)?;
        request::embeddings(&body)
    });
    let write = |asking: &Asking, tokens: u64| {
        let vector = |(index, input): (usize, &Input)| json!({"object": "embedding", "index": index, "embedding": input.vector(asking.dimensions)});
        let data: Vec<_> = asking.inputs.iter().enumerate().map(vector).collect();
        let usage = json!({"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens});
        json!({"id": "simulated", "object": "list", "data": data, "model": asking.model, "usage": usage})
    };
    let asked = Asked { headers: &headers, uri: &uri, body: &[] };
    embed::serve(&sim, &Mistral { embeds: true }, &asked, asking, write).await
}

/// `GET /mistral/v1/models`
pub(crate) async fn models(State(sim): State<Simulator>, headers: HeaderMap) -> Response {
    if let Err(error) = authorize(&sim, &headers) {
        return error_response(&error);
    }
    let card = |model: &Model| {
        json!({"id": &*model.id, "object": "model", "created": 1_735_689_600, "owned_by": "mistralai",
            "capabilities": {"completion_chat": true, "function_calling": true, "vision": true},
            "max_context_length": model.context, "type": "base"})
    };
    let data: Vec<_> = sim.0.catalogue.all().filter(|m| m.speaks_mistral()).map(card).collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

#[derive(Debug)]
struct Mistral {
    /// Asked for vectors.
    embeds: bool,
}

impl Dialect for Mistral {
    fn parse<'a>(&self, _: &Simulator, asked: &Asked<'a>) -> Result<Parsed<'a>, ApiError> {
        request::parse(asked.body)
    }

    fn speaks(&self, model: &Model) -> bool {
        model.speaks_mistral() && model.embeds.is_some() == self.embeds
    }

    fn unknown_model(&self, model: &str) -> ApiError {
        ApiError::invalid("", "1500", format!("Invalid model: {model}"))
    }

    fn too_long(&self, limit: u64, tokens: u64) -> ApiError {
        let text = format!(
            "Prompt contains {tokens} tokens, too large for model with {limit} maximum context length"
        );
        ApiError::invalid("", "3051", text)
    }

    fn error(&self, error: &ApiError, _: &str) -> Response {
        error_response(error)
    }

    fn describe(&self, told: &Told<'_>, headers: &mut HeaderMap) {
        let id = HeaderValue::try_from(told.request_id);
        headers.extend(id.ok().map(|id| (HeaderName::from_static("mistral-correlation-id"), id)));
    }
}

/// Wrong types and unknown members are told by FastAPI, in its own shape.
fn unprocessable(kind: &'static str, loc: &str, message: &str) -> ApiError {
    let mut error = ApiError::invalid(loc, kind, message);
    error.status = StatusCode::UNPROCESSABLE_ENTITY;
    error
}

fn error_json(error: &ApiError) -> Value {
    let status = error.status.as_u16();
    match status {
        401 => json!({"detail": "Unauthorized"}),
        422 => {
            let place = error.param.as_deref().unwrap_or_default();
            let steps = place.split('.').filter(|step| !step.is_empty());
            let step = |step: &str| step.parse::<u64>().map_or_else(|_| json!(step), |at| json!(at));
            let loc: Vec<_> = std::iter::once(json!("body")).chain(steps.map(step)).collect();
            json!({"detail": [{"type": error.code, "loc": loc, "msg": error.message, "input": null}]})
        }
        _ => {
            let kind = match status {
                429 => "rate_limited",
                400..=499 => "invalid_request_error",
                _ => "internal_server_error",
            };
            json!({"object": "error", "message": error.message, "type": kind, "param": null,
                "code": error.code, "raw_status_code": status})
        }
    }
}

fn error_response(error: &ApiError) -> Response {
    let mut response = Response::new(error_json(error).to_string().into());
    *response.status_mut() = error.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = error.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
