//! `POST …/models/{model}:embedContent` and `:batchEmbedContents`: <https://ai.google.dev/api/embeddings>.

use std::collections::BTreeMap;

use axum::body::Body;
use http::StatusCode;
use serde::{Deserialize, Serialize, Serializer};
use weir_error::{Code, Error};
use weir_llm::embeddings::floats;
use weir_proto::chat::{EmbedInput, EmbedRequest, embed_input::Input};

use super::generate::named;
use crate::{House, asked::Asked, edge::Answer, embeddings, reply};

/// As Google has it.
const MOST: usize = 100;

#[derive(Deserialize)]
struct Batch {
    #[serde(default)]
    requests: Vec<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    content: Content,
    #[serde(default, alias = "output_dimensionality")]
    output_dimensionality: Option<u32>,
    /// What a provider of the same dialect may know.
    #[serde(default, alias = "task_type")]
    task_type: Option<String>,
    #[serde(default)]
    title: Option<String>,
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
    let mut vectors = embedded.vectors.iter().map(|v| Vector { values: Values(v) });
    let mut response = match (batch, vectors.len()) {
        (true, _) => reply::json(StatusCode::OK, &All { embeddings: vectors.collect() })?,
        (false, _) => {
            let none = || Error::new(Code::UpstreamFailed, "the model provider sent no vector");
            reply::json(StatusCode::OK, &One { embedding: vectors.next().ok_or_else(none)? })?
        }
    };
    reply::rate_headers(response.headers_mut(), &rate);
    Ok(response)
}

fn asked_for(model: String, body: &[u8], batch: bool) -> Result<EmbedRequest, Error> {
    let wrong = |e: serde_json::Error| {
        let code = if e.is_data() { Code::InvalidType } else { Code::InvalidJson };
        Error::new(code, format!("Invalid JSON payload received. {e}"))
    };
    let requests = if batch {
        serde_json::from_slice::<Batch>(body).map_err(wrong)?.requests
    } else {
        vec![serde_json::from_slice::<Request>(body).map_err(wrong)?]
    };
    if !(1..=MOST).contains(&requests.len()) {
        let text = format!("at least one and at most {MOST} requests can be in one batch");
        return Err(Error::invalid("requests", text));
    }
    let same = |one: &Request| (one.output_dimensionality, one.task_type.clone(), one.title.clone());
    let all = requests.first().map(same).unwrap_or_default();
    if requests.iter().any(|one| same(one) != all) {
        let text = "all requests of a batch must have the same outputDimensionality, taskType and title";
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
    let (dimensions, task_type, title) = all;
    let extra = [("taskType", task_type), ("title", title)];
    let extra: BTreeMap<_, _> = extra.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let extra =
        if extra.is_empty() { Vec::new() } else { serde_json::to_vec(&extra).map_err(Error::internal)? };
    Ok(EmbedRequest { model, inputs, dimensions, extra: extra.into() })
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
        assert_eq!(read(&json!({"requests": [one, one]}), true).unwrap().inputs.len(), 2);
        for (body, batch) in [
            (json!({"content": {"parts": [{"inlineData": {}}]}}), false),
            (json!({"content": {"parts": []}}), false),
            (json!({}), false),
            (json!({"requests": []}), true),
            (json!({"requests": [one, {"content": {"parts": [{"text": "a"}]}}]}), true),
        ] {
            assert!(read(&body, batch).is_err(), "{body}");
        }
    }
}
