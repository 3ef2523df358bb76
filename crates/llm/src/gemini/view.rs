//! What Weir needs to know of a `generateContent` body, from one pass that builds no tree. Model and stream are in the
//! path.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use weir_error::{Code, Error};

use crate::{edits::place, thinking::asks_to_think};

const MAX_MODEL: usize = 256;
const MAX_CANDIDATES: u64 = 128;

/// What Weir reads of a body and its path. The rest belongs to the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateView {
    /// Without `models/` before it.
    pub model: String,
    pub stream: bool,
    pub max_output: Option<u64>,
    /// Answers asked for.
    pub candidates: u64,
    /// It asks the model to think.
    pub thinks: bool,
    /// Bytes of the contents, as they stand in the body.
    pub contents_bytes: usize,
    /// The model, where the body names it again.
    model_at: Option<Range<usize>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    contents: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "generation_config")]
    generation_config: Option<&'a RawValue>,
}

struct Config<'a> {
    max_output_tokens: Option<u64>,
    candidate_count: Option<u64>,
    thinking_config: Option<&'a RawValue>,
}

impl GenerateView {
    /// # Errors
    /// `InvalidJson`; `MissingParameter`, `InvalidType` or `InvalidArgument` with the field as Google names it.
    pub fn scan(body: &[u8], model: &str, stream: bool) -> Result<Self, Error> {
        let fields: Fields<'_> = object(body)?;
        let contents = contents(fields.contents)?;
        let config = fields.generation_config.filter(|raw| raw.get() != "null").map(config).transpose()?;
        let thinks = config.as_ref().and_then(|config| config.thinking_config).is_some_and(asks_to_think);
        let (max_output, candidates) =
            config.map_or((None, None), |config| (config.max_output_tokens, config.candidate_count));
        let candidates = candidates.unwrap_or(1);
        if !(1..=MAX_CANDIDATES).contains(&candidates) {
            let text = format!("candidateCount must be between 1 and {MAX_CANDIDATES}.");
            return Err(Error::invalid("generationConfig.candidateCount", text));
        }
        Ok(Self {
            model: name(model)?,
            stream,
            max_output,
            candidates,
            thinks,
            contents_bytes: contents.get().len(),
            model_at: fields.model.filter(|raw| raw.get() != "null").map(|raw| place(body, raw)),
        })
    }

    /// `body` for a provider of the same dialect: the model's name is in the path, and only where the body has it,
    /// too, in there.
    #[must_use]
    pub fn upstream_body(&self, body: &Bytes, provider_model: &str) -> Bytes {
        let Some(at) = self.model_at.clone() else { return body.clone() };
        let named = serde_json::Value::from(resource(provider_model)).to_string();
        let mut out = BytesMut::with_capacity(body.len() + named.len());
        out.extend_from_slice(body.get(..at.start).unwrap_or_default());
        out.extend_from_slice(named.as_bytes());
        out.extend_from_slice(body.get(at.end..).unwrap_or_default());
        out.freeze()
    }
}

/// What is read of an object: an array would be taken for its members in order.
fn config(raw: &RawValue) -> Result<Config<'_>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire<'a> {
        #[serde(borrow, default, alias = "max_output_tokens")]
        max_output_tokens: Option<&'a RawValue>,
        #[serde(borrow, default, alias = "candidate_count")]
        candidate_count: Option<&'a RawValue>,
        #[serde(borrow, default, alias = "thinking_config")]
        thinking_config: Option<&'a RawValue>,
    }
    let wrong = |at: &str, param: &str| {
        Error::new(Code::InvalidType, format!("Invalid value at '{at}'.")).with_param(param.to_owned())
    };
    let number = |raw: Option<&RawValue>, at: &str, param: &str| {
        let Some(raw) = raw.map(RawValue::get) else { return Ok(None) };
        // Google takes numbers as strings, too.
        let bare = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw);
        serde_json::from_str::<Option<u64>>(bare)
            .map_err(|_| wrong(&format!("generation_config.{at}"), &format!("generationConfig.{param}")))
    };
    let wire = raw.get().starts_with('{').then(|| serde_json::from_str::<Wire<'_>>(raw.get()));
    let wire = wire.and_then(Result::ok).ok_or_else(|| wrong("generation_config", "generationConfig"))?;
    Ok(Config {
        max_output_tokens: number(wire.max_output_tokens, "max_output_tokens", "maxOutputTokens")?,
        candidate_count: number(wire.candidate_count, "candidate_count", "candidateCount")?,
        thinking_config: wire.thinking_config,
    })
}

/// What tokens are counted of: the contents, or a whole request.
///
/// # Errors
/// As [`GenerateView::scan`].
pub(super) fn counted(body: &[u8]) -> Result<&RawValue, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Counted<'a> {
        #[serde(borrow, default, alias = "generate_content_request")]
        generate_content_request: Option<&'a RawValue>,
    }
    let whole: &RawValue = object(body)?;
    let counted: Counted<'_> = object(body)?;
    let request = counted.generate_content_request.filter(|raw| raw.get() != "null").unwrap_or(whole);
    let fields: Fields<'_> = object(request.get().as_bytes())?;
    let contents = contents(fields.contents)?;
    let items: Vec<&RawValue> = serde_json::from_str(contents.get()).map_err(|_| not_json())?;
    if let Some(at) = items.iter().position(|item| !item.get().starts_with('{')) {
        let text = format!("Invalid value at 'contents[{at}]': expected an object.");
        return Err(Error::new(Code::InvalidType, text).with_param(format!("contents[{at}]")));
    }
    Ok(request)
}

fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    let text = std::str::from_utf8(body).map_err(|_| not_json())?;
    if text.trim_start().starts_with('[') {
        return Err(Error::new(Code::InvalidType, "Invalid JSON payload received. Expected an object."));
    }
    serde_json::from_str(text).map_err(|e| {
        let text = format!("Invalid JSON payload received, at line {} column {}.", e.line(), e.column());
        Error::new(Code::InvalidJson, text).with_source(e)
    })
}

fn not_json() -> Error {
    Error::new(Code::InvalidJson, "Invalid JSON payload received.")
}

fn contents(raw: Option<&RawValue>) -> Result<&RawValue, Error> {
    let raw = raw.filter(|raw| !matches!(raw.get(), "null" | "[]")).ok_or_else(|| {
        Error::new(Code::MissingParameter, "* GenerateContentRequest.contents: contents is not specified\n")
            .with_param("contents")
    })?;
    if raw.get().starts_with('[') {
        return Ok(raw);
    }
    Err(Error::new(Code::InvalidType, "Invalid value at 'contents': expected an array.")
        .with_param("contents"))
}

/// A model as the path names it.
fn name(path: &str) -> Result<String, Error> {
    let model = path.strip_prefix("models/").unwrap_or(path);
    if model.is_empty() || model.len() > MAX_MODEL {
        return Err(Error::invalid(
            "model",
            format!("the model's name must have 1 to {MAX_MODEL} characters"),
        ));
    }
    Ok(model.to_owned())
}

/// A model as a resource: `models/…`, or one that was tuned.
pub(super) fn resource(model: &str) -> String {
    if ["models/", "tunedModels/"].iter().any(|collection| model.starts_with(collection)) {
        model.to_owned()
    } else {
        format!("models/{model}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_in_any_order_and_passes_as_it_is() {
        let body = Bytes::from_static(
            br#"{"generation_config":{"maxOutputTokens":5,"candidate_count":2},"vendor":[1],"contents": [{"parts":[]}] }"#,
        );
        let view = GenerateView::scan(&body, "models/a/b", true).unwrap();
        assert_eq!(
            (view.model.as_str(), view.stream, view.max_output, view.candidates),
            ("a/b", true, Some(5), 2)
        );
        assert_eq!(view.upstream_body(&body, "other").as_ptr(), body.as_ptr());
        let named = Bytes::from_static(br#"{"contents":[{}],"model" : "models/a"}"#);
        let view = GenerateView::scan(&named, "a", false).unwrap();
        assert_eq!(
            view.upstream_body(&named, "gemini-3"),
            r#"{"contents":[{}],"model" : "models/gemini-3"}"#
        );
    }

    #[test]
    fn wrong_fields_are_named() {
        for (body, code, param) in [
            ("{", Code::InvalidJson, None),
            ("[]", Code::InvalidType, None),
            ("\"x\"", Code::InvalidJson, None),
            ("{}", Code::MissingParameter, Some("contents")),
            (r#"{"contents":[]}"#, Code::MissingParameter, Some("contents")),
            (r#"{"contents":{}}"#, Code::InvalidType, Some("contents")),
            (
                r#"{"contents":[{}],"generationConfig":{"maxOutputTokens":"x"}}"#,
                Code::InvalidType,
                Some("generationConfig.maxOutputTokens"),
            ),
            (
                r#"{"contents":[{}],"generation_config":{"candidate_count":[1]}}"#,
                Code::InvalidType,
                Some("generationConfig.candidateCount"),
            ),
            (r#"{"contents":[{}],"generationConfig":[5]}"#, Code::InvalidType, Some("generationConfig")),
            (
                r#"{"contents":[{}],"generationConfig":{"candidateCount":0}}"#,
                Code::InvalidArgument,
                Some("generationConfig.candidateCount"),
            ),
        ] {
            let error = GenerateView::scan(body.as_bytes(), "m", false).unwrap_err();
            assert_eq!((error.code(), error.param()), (code, param), "{body}");
        }
        assert_eq!(
            GenerateView::scan(br#"{"contents":[{}]}"#, "models/", false).unwrap_err().param(),
            Some("model")
        );
    }
}
