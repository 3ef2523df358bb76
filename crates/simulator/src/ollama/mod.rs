//! Ollama's own API: `/api/chat`, `/api/tags`, `/api/embed`.
//!
//! After <https://docs.ollama.com/api> and the types of the `ollama` client.

mod request;
#[cfg(test)]
mod tests;
mod wire;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde_json::json;

use crate::{
    Simulator,
    chat::{Posted, authorize, serve},
    dialect::{Asked, Dialect, Parsed, Told},
    embed::{self, Asking},
    error::ApiError,
    models::Model,
};

/// `POST /api/chat`
pub(crate) async fn chat(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    serve(&sim, &Ollama { embeds: false }, &headers, &uri, body).await
}

/// `POST /api/embed`
pub(crate) async fn embed(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    let asking = body.map_err(|rejected| ApiError::new(rejected.status(), "", rejected.body_text()));
    let asking = asking.and_then(|body| {
        sim.0.recorder.note(&headers, &uri, &body);
        authorize(&sim, &headers)?;
        request::embeddings(&sim, &body)
    });
    let write = |asking: &Asking, tokens: u64| {
        let vectors: Vec<_> = asking.inputs.iter().map(|input| input.vector(asking.dimensions)).collect();
        json!({"model": asking.model, "embeddings": vectors, "total_duration": 14_143_917, "load_duration": 1_019_500,
            "prompt_eval_count": tokens})
    };
    let asked = Asked { headers: &headers, uri: &uri, body: &[] };
    embed::serve(&sim, &Ollama { embeds: true }, &asked, asking, write).await
}

/// `GET /api/tags`
pub(crate) async fn tags(State(sim): State<Simulator>, headers: HeaderMap) -> Response {
    if let Err(error) = authorize(&sim, &headers) {
        return error_response(&error);
    }
    let card = |model: &Model| {
        json!({"name": &*model.id, "model": &*model.id, "modified_at": "2025-01-01T00:00:00.123456789Z",
            "size": 2_019_393_189_u64, "digest": "a80c4f17acd5", "details": {"format": "gguf", "family": "llama",
            "families": ["llama"], "parameter_size": "3.2B", "quantization_level": "Q4_K_M"}})
    };
    let models: Vec<_> = sim.0.catalogue.all().filter(|m| m.speaks_ollama()).map(card).collect();
    Json(json!({"models": models})).into_response()
}

#[derive(Debug)]
struct Ollama {
    /// Asked for vectors.
    embeds: bool,
}

impl Dialect for Ollama {
    fn parse<'a>(&self, sim: &Simulator, asked: &Asked<'a>) -> Result<Parsed<'a>, ApiError> {
        request::parse(sim, asked.body)
    }

    fn speaks(&self, model: &Model) -> bool {
        model.speaks_ollama() && model.embeds.is_some() == self.embeds
    }

    fn unknown_model(&self, model: &str) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "", format!("model '{model}' not found"))
    }

    fn too_long(&self, _: u64, _: u64) -> ApiError {
        ApiError::invalid("", "", "the input length exceeds the context length")
    }

    fn error(&self, error: &ApiError, _: &str) -> Response {
        error_response(error)
    }

    fn describe(&self, _: &Told<'_>, _: &mut HeaderMap) {}
}

fn error_response(error: &ApiError) -> Response {
    let mut response = Response::new(json!({"error": error.message}).to_string().into());
    *response.status_mut() = error.status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
