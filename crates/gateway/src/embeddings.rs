//! `POST /v1/embeddings`, as OpenAI has it: <https://developers.openai.com/api/reference/resources/embeddings>. The
//! orchestrator is asked for vectors; how they are written is the client's choice alone.

use std::collections::{BTreeMap, HashMap};

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde::{Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;
use weir_access::RateState;
use weir_error::{Error, require_scope};
use weir_llm::{embeddings, tokens};
use weir_proto::chat::{
    Dialect, EmbedInput, EmbedRequest, EmbedResponse, Head, TokenIds, chat_client::ChatClient,
    embed_input::Input,
};
use weir_types::scope;

use crate::{House, asked::Asked, chat, edge::Answer, reply};

const MAX_INPUTS: usize = 2_048;
const WARNINGS: &str = "x-weir-warnings";
/// No vector is longer.
const MAX_DIMENSIONS: u32 = 65_536;
/// Vectors that are larger together are written on a blocking thread.
const WRITE_INLINE: usize = 128 * 1024;

/// How a client wants its vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Float,
    Base64,
}

pub(crate) async fn create(house: &House, asked: &Asked, body: Body) -> Answer {
    let (embedded, format, rate) = vectors(house, asked, body, read).await?;
    let mut response = answer(embedded, format).await?;
    reply::rate_headers(response.headers_mut(), &rate);
    Ok(response)
}

/// The vectors that a body asks for in its dialect, what else it says, and where the tenant stands.
///
/// # Errors
/// The caller may not; what is wrong with the body; those of the orchestrator.
pub(crate) async fn vectors<T>(
    house: &House,
    asked: &Asked,
    body: Body,
    read: impl FnOnce(&[u8]) -> Result<(EmbedRequest, T), Error>,
) -> Result<(EmbedResponse, T, RateState), Error> {
    asked.check_json_head(house.config.max_body.as_usize())?;
    let strict = asked.strict()?;
    let grant = house.tenant_grant(asked).await?;
    let ctx = asked.context(&grant, house.config.chat_timeout);
    require_scope(&ctx, scope::CHAT_WRITE)?;
    let (body, _upload) = house.read_body(&grant, body).await?;
    let _slot = house.access.enter()?;
    let (mut request, wanted) = read(&body)?;
    request.strict = strict;
    drop(body);
    let prompt = estimate(&request);
    let mut permit = house.admit(asked, &grant, prompt)?;
    permit.used(prompt);
    let mut client = ChatClient::new(house.orchestrator.clone())
        .max_decoding_message_size(house.config.max_answer.as_usize());
    let embedded = match client.embed(weir_rpc::request(&ctx, request)).await {
        Ok(embedded) => embedded.into_inner(),
        Err(status) => {
            let error = Error::from(status);
            permit.failed(error.code());
            return Err(error);
        }
    };
    permit.settle(embedded.usage.as_ref().map_or(prompt, |usage| usage.input_tokens));
    Ok((embedded, wanted, permit.headers()))
}

fn read(body: &[u8]) -> Result<(EmbedRequest, Format), Error> {
    let wrong =
        |e| Error::invalid("body", "We could not parse the JSON body of your request.").with_source(e);
    let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).map_err(wrong)?;
    let model = required(&mut members, "model", "a string")?;
    let inputs = inputs(&required::<Box<RawValue>>(&mut members, "input", "a string or an array")?)?;
    let format = match optional::<String>(&mut members, "encoding_format", "a string")?.as_deref() {
        None | Some("float") => Format::Float,
        Some("base64") => Format::Base64,
        Some(_) => return Err(Error::invalid("encoding_format", "Expected `float` or `base64`.")),
    };
    let dimensions = optional::<u32>(&mut members, "dimensions", "an integer")?;
    if dimensions.is_some_and(|d| !(1..=MAX_DIMENSIONS).contains(&d)) {
        let text = format!("Expected an integer from 1 to {MAX_DIMENSIONS}.");
        return Err(Error::invalid("dimensions", text));
    }
    // Names alone decide whether requests may share a call: they are in order here.
    let extra = if members.is_empty() {
        Vec::new()
    } else {
        serde_json::to_vec(&members).map_err(Error::internal)?
    };
    let dialect = Dialect::OpenaiChat.into();
    let request =
        EmbedRequest { model, inputs, dimensions, extra: extra.into(), dialect, ..EmbedRequest::default() };
    Ok((request, format))
}

type Members = BTreeMap<String, Box<RawValue>>;

fn required<T: DeserializeOwned>(members: &mut Members, name: &str, kind: &str) -> Result<T, Error> {
    optional(members, name, kind)?
        .ok_or_else(|| Error::invalid(name, format!("you must provide a {name} parameter")))
}

fn optional<T: DeserializeOwned>(members: &mut Members, name: &str, kind: &str) -> Result<Option<T>, Error> {
    let Some(raw) = members.remove(name).filter(|raw| raw.get() != "null") else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|e| {
        Error::invalid(name, format!("Invalid type for '{name}': expected {kind}.")).with_source(e)
    })
}

/// A text, texts, tokens, or lists of tokens.
fn inputs(raw: &RawValue) -> Result<Vec<EmbedInput>, Error> {
    let text = |text: String| EmbedInput { input: Some(Input::Text(text)) };
    let tokens = |ids: Vec<u32>| EmbedInput { input: Some(Input::Tokens(TokenIds { ids })) };
    let json = raw.get();
    let read: Option<Vec<EmbedInput>> = if json.starts_with('"') {
        serde_json::from_str(json).ok().map(|one| vec![text(one)])
    } else {
        // Which of the three a list is, its first character tells.
        match json.get(1..).map(str::trim_start).and_then(|inner| inner.chars().next()) {
            Some('"') => {
                serde_json::from_str::<Vec<String>>(json).ok().map(|all| all.into_iter().map(text).collect())
            }
            Some('[') => serde_json::from_str::<Vec<Vec<u32>>>(json)
                .ok()
                .map(|all| all.into_iter().map(tokens).collect()),
            _ => serde_json::from_str(json).ok().map(|one: Vec<u32>| vec![tokens(one)]),
        }
    };
    let wrong = || {
        Error::invalid(
            "input",
            "'$.input' is invalid: expected a string, strings, tokens or lists of tokens.",
        )
    };
    let inputs = read.ok_or_else(wrong)?;
    let empty = |input: &EmbedInput| match &input.input {
        Some(Input::Text(text)) => text.is_empty(),
        Some(Input::Tokens(tokens)) => tokens.ids.is_empty(),
        None => true,
    };
    if inputs.is_empty() || inputs.iter().any(empty) {
        return Err(Error::invalid("input", "'$.input' is invalid: an input cannot be empty."));
    }
    if inputs.len() > MAX_INPUTS {
        return Err(Error::invalid("input", format!("'$.input' is invalid: at most {MAX_INPUTS} inputs.")));
    }
    Ok(inputs)
}

fn estimate(request: &EmbedRequest) -> u64 {
    let one = |input: &EmbedInput| match &input.input {
        Some(Input::Text(text)) => tokens::estimate(text.len()),
        Some(Input::Tokens(tokens)) => tokens.ids.len() as u64,
        None => 0,
    };
    request.inputs.iter().map(one).sum()
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<One<'a>>,
    model: &'a str,
    usage: Used,
}

#[derive(Serialize)]
struct One<'a> {
    object: &'static str,
    index: usize,
    embedding: Vector<'a>,
}

#[derive(Serialize)]
struct Used {
    prompt_tokens: u64,
    total_tokens: u64,
}

struct Vector<'a>(&'a Bytes, Format);

impl Serialize for Vector<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.1 {
            Format::Float => to.collect_seq(embeddings::floats(self.0)),
            Format::Base64 => to.serialize_str(&embeddings::base64(self.0)),
        }
    }
}

/// Who served them, and what was left out.
pub(crate) fn head(embedded: &EmbedResponse) -> Head {
    let EmbedResponse { provider, model, warnings, .. } = embedded;
    let warned = Some((WARNINGS.to_owned(), warnings.clone())).filter(|_| !warnings.is_empty());
    let headers = warned.into_iter().collect::<HashMap<_, _>>();
    Head { provider: provider.clone(), model: model.clone(), headers, ..Head::default() }
}

async fn answer(embedded: EmbedResponse, format: Format) -> Result<Response<Body>, Error> {
    let (head, cost) = (head(&embedded), embedded.cost_nano_usd);
    let body = if embedded.vectors.iter().map(Bytes::len).sum::<usize>() <= WRITE_INLINE {
        write(&embedded, format)
    } else {
        tokio::task::spawn_blocking(move || write(&embedded, format)).await.map_err(Error::internal)?
    };
    let body = body.map_err(Error::internal)?;
    let mut response = reply::bytes(StatusCode::OK, reply::JSON, body.into());
    chat::served(&head, cost, response.headers_mut());
    Ok(response)
}

fn write(embedded: &EmbedResponse, format: Format) -> serde_json::Result<Vec<u8>> {
    let one = |(index, vector)| One { object: "embedding", index, embedding: Vector(vector, format) };
    let used = embedded.usage.as_ref().map_or(0, |usage| usage.input_tokens);
    serde_json::to_vec(&List {
        object: "list",
        data: embedded.vectors.iter().enumerate().map(one).collect(),
        model: &embedded.model,
        usage: Used { prompt_tokens: used, total_tokens: used },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(body: &serde_json::Value) -> Result<(EmbedRequest, Format), Error> {
        read(body.to_string().as_bytes())
    }

    fn kinds(input: &serde_json::Value) -> Vec<String> {
        let (request, _) = asked(&json!({"model": "m", "input": input})).unwrap();
        let shown = |input: EmbedInput| match input.input.unwrap() {
            Input::Text(text) => text,
            Input::Tokens(tokens) => format!("{:?}", tokens.ids),
        };
        request.inputs.into_iter().map(shown).collect()
    }

    #[test]
    fn inputs_come_in_four_shapes() {
        assert_eq!(kinds(&json!("a")), ["a"]);
        assert_eq!(kinds(&json!(["a", "b"])), ["a", "b"]);
        assert_eq!(kinds(&json!([1, 2])), ["[1, 2]"]);
        assert_eq!(kinds(&json!([[1], [2, 3]])), ["[1]", "[2, 3]"]);
    }

    #[test]
    fn what_else_is_asked_goes_on() {
        let body =
            json!({"model": "m", "input": "a", "user": "me", "dimensions": 8, "encoding_format": "base64"});
        let (request, format) = asked(&body).unwrap();
        assert_eq!(
            (request.dimensions, format, &*request.extra),
            (Some(8), Format::Base64, &br#"{"user":"me"}"#[..])
        );
        assert_eq!(asked(&json!({"model": "m", "input": "a", "dimensions": null})).unwrap().0.extra, "");
    }

    #[test]
    fn errors_name_the_field() {
        let many = vec!["a"; MAX_INPUTS + 1];
        for (body, param) in [
            (json!({"input": "a"}), "model"),
            (json!({"model": 7, "input": "a"}), "model"),
            (json!({"model": "m"}), "input"),
            (json!({"model": "m", "input": null}), "input"),
            (json!({"model": "m", "input": ""}), "input"),
            (json!({"model": "m", "input": []}), "input"),
            (json!({"model": "m", "input": ["a", ""]}), "input"),
            (json!({"model": "m", "input": ["a", 1]}), "input"),
            (json!({"model": "m", "input": [1, -1]}), "input"),
            (json!({"model": "m", "input": [[1], []]}), "input"),
            (json!({"model": "m", "input": {"text": "a"}}), "input"),
            (json!({"model": "m", "input": many}), "input"),
            (json!({"model": "m", "input": "a", "encoding_format": "int8"}), "encoding_format"),
            (json!({"model": "m", "input": "a", "dimensions": 0}), "dimensions"),
            (json!({"model": "m", "input": "a", "dimensions": "8"}), "dimensions"),
        ] {
            assert_eq!(asked(&body).unwrap_err().param(), Some(param), "{body}");
        }
        assert!(read(b"[]").is_err());
    }

    #[test]
    fn vectors_are_written_as_asked() {
        let vector: Bytes = [0.1f32, -2.0].iter().flat_map(|f| f.to_le_bytes()).collect();
        let embedded = EmbedResponse { vectors: vec![vector], model: "m".into(), ..EmbedResponse::default() };
        let shown = |format| -> serde_json::Value {
            serde_json::from_slice(&write(&embedded, format).unwrap()).unwrap()
        };
        assert!(String::from_utf8(write(&embedded, Format::Float).unwrap()).unwrap().contains("[0.1,-2.0]"));
        assert_eq!(shown(Format::Base64)["data"][0]["embedding"], "zczMPQAAAMA=");
        assert_eq!(shown(Format::Float)["object"], "list");
    }
}
