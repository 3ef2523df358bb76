//! `POST …/models/{model}:embedContent` and `:batchEmbedContents`: <https://ai.google.dev/api/embeddings>.

use axum::body::Body;
use http::StatusCode;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use weir_error::{Code, Error};
use weir_llm::embeddings::floats;
use weir_proto::chat::{Dialect, EmbedInput, EmbedRequest, embed_input::Input};

use super::generate::named;
use crate::{House, asked::Asked, chat, edge::Answer, embeddings, reply};

/// As Google has it.
const MOST: usize = 100;

#[derive(Deserialize)]
struct Batch {
    #[serde(default)]
    requests: Vec<Request>,
}

#[derive(Deserialize)]
struct Request {
    content: Content,
    /// What else is asked, for providers that may know it.
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// A name in either case of it.
const EITHER: [(&str, &str); 4] = [
    ("output_dimensionality", DIMENSIONS),
    ("task_type", "taskType"),
    ("auto_truncate", "autoTruncate"),
    ("embed_content_config", CONFIG),
];
const DIMENSIONS: &str = "outputDimensionality";
const CONFIG: &str = "embedContentConfig";

impl Request {
    /// In one form, wherever it stood. The model is said by the path.
    fn more(&mut self) -> Map<String, Value> {
        let mut more = std::mem::take(&mut self.more);
        more.remove("model");
        let one_case = |more: &mut Map<String, Value>| {
            for (snake, camel) in EITHER {
                if let Some(value) = more.remove(snake) {
                    more.insert(camel.to_owned(), value);
                }
            }
        };
        one_case(&mut more);
        if let Some(Value::Object(mut config)) = more.remove(CONFIG) {
            one_case(&mut config);
            more.extend(config);
        }
        more.retain(|_, value| !value.is_null());
        more
    }
}

#[derive(Deserialize)]
struct Content {
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
}

#[derive(Serialize)]
struct One<'a> {
    embedding: Vector<'a>,
}

#[derive(Serialize)]
struct All<'a> {
    embeddings: Vec<Vector<'a>>,
}

#[derive(Serialize)]
struct Vector<'a> {
    values: Values<'a>,
}

struct Values<'a>(&'a [u8]);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(floats(self.0))
    }
}

pub(crate) async fn embed(house: &House, asked: &Asked, body: Body, id: &str, batch: bool) -> Answer {
    let read = |body: &[u8]| Ok((asked_for(named(id), body, batch)?, ()));
    let (embedded, (), rate) = embeddings::vectors(house, asked, body, read).await?;
    let (head, cost) = (embeddings::head(&embedded), embedded.cost_nano_usd);
    let mut vectors = embedded.vectors.iter().map(|v| Vector { values: Values(v) });
    let mut response = match (batch, vectors.len()) {
        (true, _) => reply::json(StatusCode::OK, &All { embeddings: vectors.collect() })?,
        (false, _) => {
            let none = || Error::new(Code::UpstreamFailed, "the model provider sent no vector");
            reply::json(StatusCode::OK, &One { embedding: vectors.next().ok_or_else(none)? })?
        }
    };
    chat::served(&head, cost, response.headers_mut());
    reply::rate_headers(response.headers_mut(), &rate);
    Ok(response)
}

fn asked_for(model: String, body: &[u8], batch: bool) -> Result<EmbedRequest, Error> {
    let wrong = |e: serde_json::Error| {
        let code = if e.is_data() { Code::InvalidType } else { Code::InvalidJson };
        Error::new(code, format!("Invalid JSON payload received. {}", reply::plainly(&e)))
    };
    let mut requests = if batch {
        serde_json::from_slice::<Batch>(body).map_err(wrong)?.requests
    } else {
        vec![serde_json::from_slice::<Request>(body).map_err(wrong)?]
    };
    if !(1..=MOST).contains(&requests.len()) {
        let text = format!("at least one and at most {MOST} requests can be in one batch");
        return Err(Error::invalid("requests", text));
    }
    let mut all = requests.iter_mut().map(Request::more);
    let mut more = all.next().unwrap_or_default();
    if all.any(|other| other != more) {
        let text = "all requests of a batch must ask for the same but for their contents";
        return Err(Error::invalid("requests", text));
    }
    let mut inputs = Vec::with_capacity(requests.len());
    for request in requests {
        let text: Option<Vec<String>> = request.content.parts.into_iter().map(|part| part.text).collect();
        let text = text.map(|texts| texts.join("\n")).filter(|text| !text.is_empty());
        let text =
            text.ok_or_else(|| Error::invalid("content", "only texts that are not empty can be embedded"))?;
        inputs.push(EmbedInput { input: Some(Input::Text(text)) });
    }
    let length = more.remove(DIMENSIONS).map(serde_json::from_value::<u32>).transpose();
    let dimensions = length.map_err(|e| Error::invalid(DIMENSIONS, "expected an integer").with_source(e))?;
    let extra =
        if more.is_empty() { Vec::new() } else { serde_json::to_vec(&more).map_err(Error::internal)? };
    let dialect = Dialect::Gemini.into();
    Ok(EmbedRequest { model, inputs, dimensions, extra: extra.into(), dialect, ..EmbedRequest::default() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &serde_json::Value, batch: bool) -> Result<EmbedRequest, Error> {
        asked_for("m".to_owned(), body.to_string().as_bytes(), batch)
    }

    #[test]
    fn contents_become_inputs() {
        let one = json!({"model": "models/m", "content": {"parts": [{"text": "a"}, {"text": "b"}]}, "outputDimensionality": 8});
        let request = read(&one, false).unwrap();
        assert_eq!(
            (request.inputs[0].input.clone(), request.dimensions),
            (Some(Input::Text("a\nb".to_owned())), Some(8))
        );
        assert!(request.extra.is_empty());
        let more = json!({"content": {"parts": [{"text": "a"}]}, "task_type": "CLUSTERING", "titel": "t",
            "embedContentConfig": {"outputDimensionality": 16, "autoTruncate": true}});
        let request = read(&json!({"requests": [more, more]}), true).unwrap();
        let extra: serde_json::Value = serde_json::from_slice(&request.extra).unwrap();
        assert_eq!(extra, json!({"taskType": "CLUSTERING", "titel": "t", "autoTruncate": true}));
        assert_eq!(request.dimensions, Some(16));
        assert_eq!(read(&json!({"requests": [one, one]}), true).unwrap().inputs.len(), 2);
        for (body, batch) in [
            (json!({"content": {"parts": [{"inlineData": {}}]}}), false),
            (json!({"content": {"parts": []}}), false),
            (json!({}), false),
            (json!(null), false),
            (json!({"requests": 7}), true),
            (json!({"requests": []}), true),
            (json!({"requests": [one, {"content": {"parts": [{"text": "a"}]}}]}), true),
        ] {
            let said = read(&body, batch).unwrap_err().to_string();
            assert!(!said.contains("struct"), "{body}: {said}");
        }
    }
}
