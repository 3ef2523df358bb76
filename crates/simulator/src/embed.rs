//! Vectors of texts, and OpenAI's endpoint for them.
//!
//! A vector is the sum of its words', so texts that share words are near each other, and the same text is the same
//! vector in every process. All have length 1.

use axum::{body::Bytes, extract::State, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, Uri};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    Simulator,
    chat::{self, Posted, Reply, authorize},
    dialect::{Asked, Dialect, JSON},
    error::ApiError,
    faults::Faults,
    ledger::Call,
    models::Model,
    openai::OpenAi,
    responses::check::{Members, invalid_value, wrong_type},
    seed::{Rng, hash},
    tokens::count_text,
    wire::Plain,
};

/// As OpenAI has it.
const MOST_INPUTS: usize = 2_048;
const MOST_TOKENS: u64 = 8_192;
const MOST_TOKENS_TOGETHER: u64 = 300_000;
const LONGEST_VECTOR: u64 = 8_192;

/// What is to be embedded.
#[derive(Debug)]
pub(crate) struct Input {
    /// The words, or what stands for them.
    words: Vec<u64>,
    pub(crate) tokens: u64,
}

impl Input {
    pub(crate) fn text(text: &str) -> Self {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let mut words: Vec<u64> = words.map(|word| hash(1, word.to_lowercase().as_bytes())).collect();
        // So that texts which differ in marks alone differ, if only a little.
        words.push(hash(2, text.as_bytes()));
        Self { words, tokens: count_text(text) }
    }

    fn tokens(ids: &[u64]) -> Self {
        Self { words: ids.iter().map(|id| hash(3, &id.to_le_bytes())).collect(), tokens: ids.len() as u64 }
    }

    /// Of length 1.
    pub(crate) fn vector(&self, dimensions: usize) -> Vec<f32> {
        let mut vector = vec![0.0_f64; dimensions];
        for word in &self.words {
            let mut rng = Rng::new(*word);
            for value in &mut vector {
                *value += rng.unit() - 0.5;
            }
        }
        let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        #[expect(clippy::cast_possible_truncation, reason = "single precision is what is sent")]
        vector.into_iter().map(|value| (value / length) as f32).collect()
    }
}

pub(crate) async fn embeddings(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    let read = |body: &[u8]| {
        authorize(&sim, &headers)?;
        parse(body)
    };
    let asked = body
        .map_err(|rejected| ApiError::new(rejected.status(), "invalid_request_error", rejected.body_text()));
    let asked = asked.and_then(|body: Bytes| {
        sim.0.recorder.note(&headers, &uri, &body);
        read(&body)
    });
    let write = |asked: &Asking, tokens: u64| {
        let dimensions = asked.dimensions;
        let data = asked.inputs.iter().enumerate().map(|(index, input)| {
            let vector = input.vector(dimensions);
            let embedding = if asked.base64 { encoded(&vector) } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        });
        let data: Vec<_> = data.collect();
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        json!({"object": "list", "data": data, "model": asked.model, "usage": usage})
    };
    serve(&sim, &OpenAi, &Asked { headers: &headers, uri: &uri, body: &[] }, asked, write).await
}

/// A call for vectors, in whichever dialect.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) model: String,
    pub(crate) inputs: Vec<Input>,
    /// As asked for; 0: the model's.
    pub(crate) dimensions: usize,
    pub(crate) base64: bool,
    pub(crate) wish: Option<Faults>,
}

/// Answers a call for vectors: faults and the ledger are as for other calls.
pub(crate) async fn serve(
    sim: &Simulator,
    dialect: &dyn Dialect,
    asked: &Asked<'_>,
    asking: Result<Asking, ApiError>,
    write: impl Fn(&Asking, u64) -> Value,
) -> Response {
    let began = Instant::now();
    let number = sim.next_call();
    let id = asked
        .headers
        .get("x-client-request-id")
        .map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    let mut call = sim.0.ledger.begin(id.unwrap_or_default());
    let reply = match asking {
        Ok(asking) => reply(sim, dialect, asked, asking, number, &mut call, write).await,
        Err(error) => Err(error),
    };
    chat::finish(sim, dialect, call, number, began, reply)
}

async fn reply(
    sim: &Simulator,
    dialect: &dyn Dialect,
    asked: &Asked<'_>,
    mut asking: Asking,
    number: u64,
    call: &mut Call,
    write: impl Fn(&Asking, u64) -> Value,
) -> Result<Reply, ApiError> {
    let model = sim.0.catalogue.get(&asking.model).filter(|model| dialect.speaks(model));
    let model = model.ok_or_else(|| dialect.unknown_model(&asking.model))?;
    asking.dimensions = dimensions(model, asking.dimensions)?;
    let tokens = asking.inputs.iter().map(|input| input.tokens).sum();
    call.asked(model.id.clone(), false);
    call.prompt(tokens);
    let wish = match asking.wish.take() {
        Some(wish) => Some(wish),
        None => chat::wish_of(asked.headers, None)?,
    };
    let faults = chat::faults(sim, number, wish);
    chat::begin(&faults).await;
    if faults.refuse == Some(true) {
        return Ok(Reply::Refuse);
    }
    if let Some(status) = faults.error_status() {
        return Err(ApiError::fault(status, faults.retry_after));
    }
    let bytes = write(&asking, tokens).to_string().into_bytes();
    Ok(chat::whole(&faults, JSON, Plain { bytes, cut_at: None, cut_tokens: 0 }, 0))
}

fn dimensions(model: &Model, wanted: usize) -> Result<usize, ApiError> {
    let Some((most, fixed)) = model.embeds else {
        let message = format!("The model `{}` does not support embeddings.", model.id);
        return Err(ApiError::invalid("model", "unsupported_model", message));
    };
    match wanted {
        0 => Ok(most),
        _ if fixed => {
            let message = "This model does not support specifying dimensions.";
            Err(ApiError::invalid("dimensions", "", message))
        }
        wanted if wanted > most => {
            let message =
                format!("Invalid value for 'dimensions' = {wanted}. Must be less than or equal to {most}.");
            Err(ApiError::invalid("dimensions", "", message))
        }
        wanted => Ok(wanted),
    }
}

fn encoded(vector: &[f32]) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes).into()
}

fn parse(body: &[u8]) -> Result<Asking, ApiError> {
    let Ok(Value::Object(from)) = serde_json::from_slice::<Value>(body) else {
        return Err(ApiError::unreadable());
    };
    let members = Members(&from);
    let model = members.text("model")?.ok_or_else(|| ApiError::missing("model"))?.to_owned();
    let base64 = match members.text("encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(invalid_value("encoding_format", other, &["float", "base64"])),
    };
    let dimensions = members.integer("dimensions", 1, LONGEST_VECTOR)?.unwrap_or(0);
    let inputs = inputs(&from)?;
    let invalid =
        |error: String| ApiError::invalid("x_sim", "invalid_value", format!("Invalid 'x_sim': {error}"));
    let wish =
        members.get("x_sim").map(|wish| Faults::wish(&wish.to_string()).map_err(invalid)).transpose()?;
    Ok(Asking { model, inputs, dimensions: usize::try_from(dimensions).unwrap_or(0), base64, wish })
}

fn inputs(from: &Map<String, Value>) -> Result<Vec<Input>, ApiError> {
    let refused = |message: &str| ApiError::invalid("input", "", message);
    let input = from.get("input").ok_or_else(|| ApiError::missing("input"))?;
    let inputs = match input {
        Value::String(text) => vec![Input::text(text)],
        Value::Array(items) if items.first().is_some_and(Value::is_number) => vec![ids(input)?],
        Value::Array(items) if items.is_empty() => {
            return Err(refused("Invalid 'input': input cannot be an empty array."));
        }
        Value::Array(items) if items.len() > MOST_INPUTS => {
            let text = format!(
                "Invalid 'input': array too long. Expected an array with maximum length {MOST_INPUTS}, but got an array with length {} instead.",
                items.len()
            );
            return Err(ApiError::invalid("input", "array_above_max_length", text));
        }
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(Input::text(text)),
                Value::Array(_) => ids(item),
                other => Err(wrong_type("input", "an array of strings or of arrays of integers", other)),
            })
            .collect::<Result<_, _>>()?,
        other => return Err(wrong_type("input", "one of a string or array", other)),
    };
    if inputs.iter().any(|input| input.tokens == 0) {
        return Err(refused("Invalid 'input': input cannot be an empty string."));
    }
    if let Some(long) = inputs.iter().find(|input| input.tokens > MOST_TOKENS) {
        let text = format!(
            "This model's maximum context length is {MOST_TOKENS} tokens, however you requested {0} tokens ({0} in \
             your prompt; 0 for the completion). Please reduce your prompt; or completion length.",
            long.tokens
        );
        return Err(refused(&text));
    }
    let together: u64 = inputs.iter().map(|input| input.tokens).sum();
    if together > MOST_TOKENS_TOGETHER {
        let text =
            format!("Invalid 'input': maximum request size is {MOST_TOKENS_TOGETHER} tokens per request.");
        return Err(ApiError::invalid("input", "max_tokens_per_request", text));
    }
    Ok(inputs)
}

/// An array of tokens.
fn ids(value: &Value) -> Result<Input, ApiError> {
    let ids: Option<Vec<u64>> = value.as_array().into_iter().flatten().map(Value::as_u64).collect();
    Ok(Input::tokens(&ids.ok_or_else(|| wrong_type("input", "an array of integers", value))?))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;
    use crate::Config;

    fn cosine(a: &str, b: &str) -> f32 {
        let (a, b) = (Input::text(a).vector(256), Input::text(b).vector(256));
        a.iter().zip(&b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn vectors_are_of_length_one_and_near_where_words_are_shared() {
        assert!((cosine("The blue river", "The blue river") - 1.0).abs() < 1e-5);
        let near = cosine("the blue river flows", "The blue river sleeps!");
        assert!(near > 0.3 && near < 0.99, "{near}");
        assert!(cosine("the blue river", "eine rote Stadt").abs() < 0.3);
    }

    #[test]
    fn inputs_are_checked() {
        let read = |input: Value| parse(json!({"model": "m", "input": input}).to_string().as_bytes());
        assert_eq!(read(json!("a b")).unwrap().inputs.len(), 1);
        assert_eq!(read(json!([1, 2, 3])).unwrap().inputs[0].tokens, 3);
        assert_eq!(read(json!([[1, 2], [3]])).unwrap().inputs.len(), 2);
        for wrong in [
            json!([]),
            json!(""),
            json!(["a", 1]),
            json!(["a", ""]),
            json!("a ".repeat(8_193)),
            json!({}),
            json!(vec!["a"; 2_049]),
        ] {
            assert_eq!(read(wrong).unwrap_err().param.as_deref(), Some("input"));
        }
    }

    #[tokio::test]
    async fn vectors_come_as_numbers_and_as_bytes() {
        let sim = Simulator::new(Config::default());
        let router = sim.router();
        let embed = async |more: Value| {
            let mut body = json!({"model": "text-embedding-3-small", "input": ["a river", "a hill"]});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let request = Request::post("/v1/embeddings").body(Body::from(body.to_string())).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            let status = answer.status().as_u16();
            let bytes = answer.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice::<Value>(&bytes).unwrap())
        };
        let numbers = embed(json!({"dimensions": 16})).await.1;
        let vector: Vec<f64> = serde_json::from_value(numbers["data"][0]["embedding"].clone()).unwrap();
        assert_eq!(
            (vector.len(), numbers["data"][1]["index"].as_u64(), numbers["usage"]["total_tokens"].as_u64()),
            (16, Some(1), Some(4))
        );
        let bytes = embed(json!({"dimensions": 16, "encoding_format": "base64"})).await.1;
        let bytes = STANDARD.decode(bytes["data"][0]["embedding"].as_str().unwrap()).unwrap();
        let decoded = bytes.as_chunks::<4>().0.iter().map(|four| f64::from(f32::from_le_bytes(*four)));
        assert!(decoded.zip(&vector).all(|(a, b)| (a - b).abs() < 1e-6));
        assert_eq!(embed(json!({})).await.1["data"][0]["embedding"].as_array().unwrap().len(), 1_536);
        assert_eq!(embed(json!({"input": [[1, 2], [3]]})).await.1["usage"]["prompt_tokens"], 3);
        for (more, status) in [
            (json!({"model": "gpt-4o"}), 400),
            (json!({"model": "none"}), 404),
            (json!({"dimensions": 4_000}), 400),
            (json!({"model": "text-embedding-ada-002", "dimensions": 5}), 400),
            (json!({"x_sim": {"status": 503}}), 503),
        ] {
            assert_eq!(embed(more).await.0, status);
        }
        let summary = sim.ledger().summary();
        assert_eq!(
            (summary.finished.calls, summary.finished.prompt_tokens, summary.failed.calls),
            (4, 15, 5)
        );
    }
}
