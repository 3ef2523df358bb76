//! Vectors on Vertex AI: `:predict`, and `:embedContent` for Gemini's models from the second on.
//!
//! After <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api> and the types of the
//! `google-genai` client.

use axum::response::Response;
use http::{HeaderMap, Uri};
use serde_json::{Value, json};

use super::{Gemini, error_response, invalid, request::get, unknown_model};
use crate::{
    Simulator,
    chat::Posted,
    dialect::{Asked, Dialect, Parsed, Told},
    embed::{self, Asking, Input},
    error::ApiError,
    faults::Faults,
    models::Model,
};

const MOST_TOKENS_TOGETHER: u64 = 20_000;

pub(crate) async fn serve(
    sim: &Simulator,
    model: &str,
    predict: bool,
    headers: &HeaderMap,
    uri: &Uri,
    body: Posted,
) -> Response {
    let asking = body.map_err(|rejected| ApiError::new(rejected.status(), "", rejected.body_text()));
    let asking = asking.and_then(|body| {
        sim.0.recorder.note(headers, uri, &body);
        let Ok(body) = serde_json::from_slice::<Value>(&body) else {
            return Err(invalid("", "Invalid JSON payload received."));
        };
        let most = sim.0.catalogue.get(model).map_or(0, |model| model.context);
        if predict { predicted(&body, model, most) } else { content(&body, model, most) }
    });
    let write = |asking: &Asking, tokens: u64| {
        let values = |input: &Input| input.vector(asking.dimensions);
        if predict {
            let prediction = |input: &Input| {
                let statistics = json!({"truncated": false, "token_count": input.tokens});
                json!({"embeddings": {"values": values(input), "statistics": statistics}})
            };
            let predictions: Vec<_> = asking.inputs.iter().map(prediction).collect();
            return json!({"predictions": predictions, "metadata": {"billableCharacterCount": tokens * 4}});
        }
        let details = [json!({"modality": "TEXT", "tokenCount": tokens})];
        json!({"embedding": {"values": asking.inputs.first().map(values)}, "truncated": false,
            "usageMetadata": {"promptTokenCount": tokens, "totalTokenCount": tokens, "promptTokensDetails": details}})
    };
    let dialect = Vertex(Gemini { model: model.to_owned(), stream: false, sse: false });
    embed::serve(sim, &dialect, &Asked { headers, uri, body: &[] }, asking, write).await
}

fn predicted(body: &Value, model: &str, most: u64) -> Result<Asking, ApiError> {
    let instances = body["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
    let alone = model.contains("gemini");
    let allowed = if alone { 1 } else { 250 };
    if alone && model != "gemini-embedding-001" {
        return Err(invalid("", format!("{model} is not supported in the predict API.")));
    }
    if !(1..=allowed).contains(&instances.len()) {
        let text = format!("{} instance(s) is allowed per prediction. Actual: {}", allowed, instances.len());
        return Err(invalid("", text));
    }
    let inputs: Vec<_> = instances.iter().map(|one| one["content"].as_str().unwrap_or_default()).collect();
    asking(body, &body["parameters"], &inputs, model, most)
}

fn content(body: &Value, model: &str, most: u64) -> Result<Asking, ApiError> {
    let parts = body["content"]["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text: String = parts.iter().filter_map(|part| part["text"].as_str()).collect();
    asking(body, &body["embedContentConfig"], &[&text], model, most)
}

fn asking(body: &Value, config: &Value, texts: &[&str], model: &str, most: u64) -> Result<Asking, ApiError> {
    if texts.iter().any(|text| text.is_empty()) {
        return Err(invalid("", "The text content is empty."));
    }
    let inputs: Vec<_> = texts.iter().map(|text| Input::text(text)).collect();
    // What is too long would be cut, and counted as if it weren't.
    let cuts = get(config, "autoTruncate").and_then(Value::as_bool).unwrap_or(true);
    if let Some(long) = inputs.iter().find(|input| input.tokens > most && !cuts) {
        let text = format!(
            "Unable to submit request because the input token count is {} but the model supports up to {most}.",
            long.tokens
        );
        return Err(invalid("", text));
    }
    let together: u64 = inputs.iter().map(|input| input.tokens.min(most)).sum();
    if together > MOST_TOKENS_TOGETHER {
        let text = format!(
            "Unable to submit request because the input token count is {together} but the model supports up to {MOST_TOKENS_TOGETHER}."
        );
        return Err(invalid("", text));
    }
    let length = get(config, "outputDimensionality").and_then(Value::as_u64).unwrap_or(0);
    let wish = body.get("x_sim").map(|wish| Faults::wish(&wish.to_string()).map_err(|e| invalid("x_sim", e)));
    Ok(Asking {
        model: model.to_owned(),
        inputs,
        dimensions: usize::try_from(length).unwrap_or(0),
        base64: false,
        wish: wish.transpose()?,
    })
}

/// Google's dialect, for models that Vertex AI alone has besides.
#[derive(Debug)]
struct Vertex(Gemini);

impl Dialect for Vertex {
    fn parse<'a>(&self, sim: &Simulator, asked: &Asked<'a>) -> Result<Parsed<'a>, ApiError> {
        self.0.parse(sim, asked)
    }

    fn speaks(&self, model: &Model) -> bool {
        model.is_predicted()
    }

    fn unknown_model(&self, model: &str) -> ApiError {
        unknown_model(model)
    }

    fn error(&self, error: &ApiError, _: &str) -> Response {
        error_response(error, false)
    }

    fn describe(&self, told: &Told<'_>, headers: &mut HeaderMap) {
        self.0.describe(told, headers);
    }
}
