//! Azure OpenAI: OpenAI's chat under a deployment's name, with a version of the API, and with its filters' remarks.
//!
//! After <https://learn.microsoft.com/azure/ai-foundry/openai/reference>. The v1 API is OpenAI's at other paths.

use std::borrow::Cow;

use axum::{
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde_json::json;

use crate::{
    Simulator,
    answer::Answer,
    chat::{Posted, authorize, serve},
    dialect::{Asked, Dialect, Form, Head, Parsed, Told},
    embed,
    error::ApiError,
    models::Model,
    openai::{Completion, OpenAi, describe},
    wire::{Event, Plain},
};

/// Before the first chunk: what the filters say of the prompt.
const FILTERED: &str = r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},"violence":{"filtered":false,"severity":"safe"}}}]}

"#;

/// `POST /openai/deployments/{deployment}/chat/completions?api-version=…`
pub(crate) async fn chat(
    State(sim): State<Simulator>,
    Path(deployment): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    serve(&sim, &Azure { deployment }, &headers, &uri, body).await
}

/// `POST /openai/deployments/{deployment}/embeddings?api-version=…`: the deployment says the model.
pub(crate) async fn embeddings(
    sim: State<Simulator>,
    Path(deployment): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    let azure = Azure { deployment };
    if let Err(error) = azure.authorize(&sim, &Asked { headers: &headers, uri: &uri, body: &[] }) {
        return azure.error(&error, "");
    }
    let body = body.map(|body| match serde_json::from_slice(&body) {
        Ok(serde_json::Value::Object(mut members)) => {
            members.insert("model".to_owned(), azure.deployment.into());
            serde_json::Value::Object(members).to_string().into()
        }
        _ => body,
    });
    embed::embeddings(sim, headers, uri, body).await
}

#[derive(Debug)]
struct Azure {
    deployment: String,
}

impl Dialect for Azure {
    fn authorize(&self, sim: &Simulator, asked: &Asked<'_>) -> Result<(), ApiError> {
        if asked.query("api-version").is_none_or(str::is_empty) {
            return Err(ApiError::new(StatusCode::NOT_FOUND, "", "Resource not found"));
        }
        let shown = asked.headers.contains_key("api-key") || asked.headers.contains_key("authorization");
        let text = "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key \
                    for an active subscription and use a correct regional API endpoint for your resource.";
        match authorize(sim, asked.headers) {
            Ok(()) if shown => Ok(()),
            _ => Err(ApiError::new(StatusCode::UNAUTHORIZED, "401", text)),
        }
    }

    /// The deployment says the model, whatever the body says.
    fn parse<'a>(&self, sim: &Simulator, asked: &Asked<'a>) -> Result<Parsed<'a>, ApiError> {
        let mut parsed = OpenAi.parse(sim, asked)?;
        parsed.form = Box::new(Filtered(Completion::of(&parsed.request)));
        parsed.request.model = Cow::Owned(self.deployment.clone());
        Ok(parsed)
    }

    fn speaks(&self, model: &Model) -> bool {
        model.speaks_openai()
    }

    fn unknown_model(&self, _: &str) -> ApiError {
        let text = "The API deployment for this resource does not exist. If you created the deployment within the last 5 \
                    minutes, please wait a moment and try again.";
        let mut error = ApiError::new(StatusCode::NOT_FOUND, "", text);
        error.code = Some("DeploymentNotFound");
        error
    }

    fn error(&self, error: &ApiError, _: &str) -> Response {
        if error.kind == "401" {
            let body = json!({"error": {"code": "401", "message": error.message}});
            return (error.status, axum::Json(body)).into_response();
        }
        error.clone().into_response()
    }

    fn describe(&self, told: &Told<'_>, headers: &mut HeaderMap) {
        describe(told, headers);
        headers.insert(HeaderName::from_static("x-ms-region"), HeaderValue::from_static("Simulated"));
        let id = HeaderValue::try_from(told.request_id);
        headers.extend(id.ok().map(|id| (HeaderName::from_static("apim-request-id"), id)));
    }
}

/// OpenAI's answers, after a chunk of the filters'.
#[derive(Debug)]
struct Filtered(Completion);

impl Form for Filtered {
    fn begin(&mut self, head: Head, answer: &Answer) {
        self.0.begin(head, answer);
    }

    fn usage_event(&self) -> bool {
        self.0.usage_event()
    }

    fn plain(&self, answer: &Answer, cut_after: u64) -> Plain {
        self.0.plain(answer, cut_after)
    }

    fn write(&mut self, answer: &Answer, event: Event) -> (Bytes, u64) {
        let (bytes, tokens) = self.0.write(answer, event);
        match event {
            Event::Role { choice: 0 } => ([FILTERED.as_bytes(), &bytes].concat().into(), tokens),
            _ => (bytes, tokens),
        }
    }

    fn error_event(&mut self, answer: &Answer, error: &ApiError) -> Bytes {
        self.0.error_event(answer, error)
    }
}
