//! OpenAI's Responses: the same answers, as items. Nothing is stored, so what asks for something stored is refused.
//!
//! After <https://platform.openai.com/docs/api-reference/responses> and the types of the `openai` client.

mod calls;
pub(crate) mod check;
mod compact;
mod items;
mod object;
mod request;
mod secret;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use compact::compact;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode, Uri};
use serde_json::json;

use crate::{
    Simulator,
    chat::{Posted, authorize, serve},
    dialect::{Asked, Dialect, Parsed, Told},
    error::ApiError,
    models::Model,
    openai,
};

pub(crate) async fn create(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    serve(&sim, &Responses, &headers, &uri, body).await
}

/// `POST /v1/responses/input_tokens`. Costs nothing, and stands in no ledger.
pub(crate) async fn input_tokens(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    authorize(&sim, &headers)?;
    let (_, input_tokens, _) = request::parse(&body)?;
    Ok(Json(json!({"object": "response.input_tokens", "input_tokens": input_tokens})).into_response())
}

/// `GET` or `DELETE /v1/responses/{id}`, and what is below it: there are none.
pub(crate) async fn stored(Path(id): Path<String>) -> ApiError {
    let id = id.split('/').next().unwrap_or_default();
    let message = format!("Response with id '{id}' not found.");
    ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
}

#[derive(Debug)]
pub(crate) struct Responses;

impl Dialect for Responses {
    fn parse<'a>(&self, _: &Simulator, asked: &Asked<'a>) -> Result<Parsed<'a>, ApiError> {
        let (request, prompt_tokens, form) = request::parse(asked.body)?;
        Ok(Parsed { request, prompt_tokens, form: Box::new(form) })
    }

    fn speaks(&self, model: &Model) -> bool {
        model.speaks_openai()
    }

    fn unknown_model(&self, model: &str) -> ApiError {
        let message = format!("The requested model '{model}' does not exist.");
        ApiError { code: Some("model_not_found"), ..ApiError::invalid("model", "", message) }
    }

    fn too_long(&self, _: u64, _: u64) -> ApiError {
        let message =
            "Your input exceeds the context window of this model. Please adjust your input and try again.";
        ApiError::invalid("input", "context_length_exceeded", message)
    }

    fn error(&self, error: &ApiError, _: &str) -> Response {
        error.clone().into_response()
    }

    fn describe(&self, told: &Told<'_>, headers: &mut HeaderMap) {
        openai::describe(told, headers);
    }
}
