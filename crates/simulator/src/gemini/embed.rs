//! Gemini's vectors, one or several.

use axum::response::Response;
use http::{HeaderMap, Uri};
use serde_json::{Value, json};

use super::{Gemini, authorize, invalid, request::get};
use crate::{
    Simulator,
    chat::Posted,
    dialect::Asked,
    embed::{self, Asking, Input},
    error::ApiError,
    faults::Faults,
};

const MOST_INPUTS: usize = 100;

pub(super) async fn serve(
    sim: &Simulator,
    model: &str,
    batch: bool,
    headers: &HeaderMap,
    uri: &Uri,
    body: Posted,
) -> Response {
    let asked = Asked { headers, uri, body: &[] };
    let asking = body.map_err(|rejected| ApiError::new(rejected.status(), "", rejected.body_text()));
    let asking = asking.and_then(|body| {
        sim.0.recorder.note(headers, uri, &body);
        authorize(sim, &asked)?;
        parse(&body, model, batch)
    });
    let write = |asking: &Asking, tokens: u64| {
        let values = asking.inputs.iter().map(|input| json!({"values": input.vector(asking.dimensions)}));
        let mut values: Vec<_> = values.collect();
        let usage = json!({"promptTokenCount": tokens, "promptTokenDetails": [{"modality": "TEXT", "tokenCount": tokens}]});
        if batch {
            return json!({"embeddings": values, "usageMetadata": usage});
        }
        json!({"embedding": values.pop(), "usageMetadata": usage})
    };
    let dialect = Gemini { model: model.to_owned(), stream: false, sse: false };
    embed::serve(sim, &dialect, &asked, asking, write).await
}

fn parse(body: &[u8], model: &str, batch: bool) -> Result<Asking, ApiError> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return Err(invalid("", "Invalid JSON payload received."));
    };
    let requests = match get(&body, "requests").and_then(Value::as_array) {
        Some(requests) if batch => requests.clone(),
        _ if batch => Vec::new(),
        _ => vec![body.clone()],
    };
    if requests.is_empty() || requests.len() > MOST_INPUTS {
        let text = format!(
            "* BatchEmbedContentsRequest.requests: at least 1 and at most {MOST_INPUTS} requests can be in one batch\n"
        );
        return Err(invalid("requests", text));
    }
    let mut inputs = Vec::with_capacity(requests.len());
    for (at, request) in requests.iter().enumerate() {
        let parts = get(request, "content").and_then(|content| content["parts"].as_array());
        let texts: Vec<_> = parts.into_iter().flatten().filter_map(|part| part["text"].as_str()).collect();
        if texts.concat().is_empty() {
            let at = format!("requests[{at}].content");
            return Err(invalid(&at, format!("* EmbedContentRequest.{at}: content is empty\n")));
        }
        inputs.push(Input::text(&texts.join(" ")));
    }
    let config = |name: &str| {
        let first = requests.first()?;
        get(first, name).or_else(|| get(get(first, "embedContentConfig")?, name)).cloned()
    };
    let dimensions = config("outputDimensionality").and_then(|n| n.as_u64()).unwrap_or(0);
    let wish = body.get("x_sim").map(|wish| Faults::wish(&wish.to_string()).map_err(|e| invalid("x_sim", e)));
    Ok(Asking {
        model: model.to_owned(),
        inputs,
        dimensions: usize::try_from(dimensions).unwrap_or(0),
        base64: false,
        wish: wish.transpose()?,
    })
}
