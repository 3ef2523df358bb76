//! Vectors by `InvokeModel`: Titan's and Cohere's own bodies, checked by schemas as there.
//!
//! After <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html> and
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html>.

use axum::response::Response;
use http::{HeaderMap, Uri};
use serde_json::{Map, Value, json};

use super::{Converse, auth, invalid};
use crate::{
    Simulator,
    chat::Posted,
    dialect::Asked,
    embed::{self, Asking, Input},
    error::ApiError,
    faults::Faults,
};

const TITAN_TOKENS: u64 = 8_192;
const COHERE_TEXTS: usize = 96;
const PURPOSES: [&str; 4] = ["search_document", "search_query", "classification", "clustering"];

pub(super) async fn serve(
    sim: &Simulator,
    model: String,
    headers: &HeaderMap,
    uri: &Uri,
    body: Posted,
) -> Response {
    let asking = body.map_err(|rejected| ApiError::new(rejected.status(), "", rejected.body_text()));
    let asking = asking.and_then(|body| {
        sim.0.recorder.note(headers, uri, &body);
        auth::authorize(sim, &Asked { headers, uri, body: &body })?;
        parse(&body, &model)
    });
    let titan = model.starts_with("amazon.titan");
    let write = |asking: &Asking, tokens: u64| {
        let mut vectors: Vec<_> = asking.inputs.iter().map(|input| input.vector(asking.dimensions)).collect();
        if titan {
            let vector = vectors.pop().unwrap_or_default();
            return json!({"embedding": vector, "inputTextTokenCount": tokens, "embeddingsByType": {"float": vector}});
        }
        json!({"id": "00000000-0000-4000-8000-000000000000", "embeddings": vectors,
            "response_type": "embeddings_floats"})
    };
    let dialect = Converse { model: model.clone(), stream: false, invoked: true };
    let asked = Asked { headers, uri, body: &[] };
    embed::serve(sim, &dialect, &asked, asking, write).await
}

fn malformed(what: &str) -> ApiError {
    invalid(format!("Malformed input request: {what}, please reformat your input and try again."))
}

fn parse(body: &[u8], model: &str) -> Result<Asking, ApiError> {
    let Ok(Value::Object(mut body)) = serde_json::from_slice::<Value>(body) else {
        return Err(malformed("#: expected type: JSONObject"));
    };
    let wish = body.remove("x_sim");
    let wish = wish.map(|wish| Faults::wish(&wish.to_string()).map_err(invalid)).transpose()?;
    let (known, lengths): (&[&str], &[u64]) = match model {
        "amazon.titan-embed-text-v2:0" => {
            (&["inputText", "dimensions", "normalize", "embeddingTypes"], &[256, 512, 1_024])
        }
        "cohere.embed-v4:0" => (
            &["texts", "input_type", "truncate", "max_tokens", "embedding_types", "output_dimension"],
            &[256, 512, 1_024, 1_536],
        ),
        cohere if cohere.starts_with("cohere.") => {
            (&["texts", "input_type", "truncate", "embedding_types"], &[])
        }
        _ => (&["inputText"], &[]),
    };
    if let Some(other) = body.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(malformed(&format!("#: extraneous key [{other}] is not permitted")));
    }
    let length = body.get("dimensions").or_else(|| body.get("output_dimension")).map(Value::as_u64);
    let length = match length {
        None => 0,
        Some(Some(length)) if lengths.contains(&length) => length,
        Some(_) => return Err(malformed(&format!("#/dimensions: not a valid enum value of {lengths:?}"))),
    };
    let inputs = if model.starts_with("cohere.") { texts(&body)? } else { text(&body)? };
    let dimensions = usize::try_from(length).unwrap_or(0);
    Ok(Asking { model: model.to_owned(), inputs, dimensions, base64: false, wish })
}

fn text(body: &Map<String, Value>) -> Result<Vec<Input>, ApiError> {
    let text = body.get("inputText").and_then(Value::as_str);
    let text = text.ok_or_else(|| malformed("#: required key [inputText] not found"))?;
    if text.is_empty() {
        return Err(malformed("expected minLength: 1, actual: 0"));
    }
    let input = Input::text(text);
    if input.tokens > TITAN_TOKENS {
        let text = format!(
            "400 Bad Request: Too many input tokens. Max input tokens: {TITAN_TOKENS}, request input token count: {} ",
            input.tokens
        );
        return Err(invalid(text));
    }
    Ok(vec![input])
}

fn texts(body: &Map<String, Value>) -> Result<Vec<Input>, ApiError> {
    let purpose = body.get("input_type").and_then(Value::as_str);
    if purpose.is_none_or(|purpose| !PURPOSES.contains(&purpose)) {
        return Err(malformed("#: required key [input_type] not found"));
    }
    let texts: Option<Vec<_>> =
        body.get("texts").and_then(Value::as_array).and_then(|all| all.iter().map(Value::as_str).collect());
    let texts = texts.ok_or_else(|| malformed("#: required key [texts] not found"))?;
    if texts.is_empty() || texts.len() > COHERE_TEXTS {
        return Err(malformed(&format!(
            "#/texts: expected maximum item count: {COHERE_TEXTS}, found: {}",
            texts.len()
        )));
    }
    if texts.iter().any(|text| text.is_empty()) {
        return Err(malformed("#/texts: expected minLength: 1, actual: 0"));
    }
    Ok(texts.into_iter().map(Input::text).collect())
}
