//! What Weir needs to know of a Responses body, from one pass that builds no tree.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;
use weir_error::{Code, Error};

use crate::{
    edits::{place, present},
    thinking::asks_to_think,
};

use super::{ENCRYPTED, LOGPROBS};

const MAX_MODEL: usize = 256;
/// Each costs work before anybody else can refuse it.
const MAX_TOOLS: usize = 1_024;

/// What Weir reads of a Responses body. The rest belongs to the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponsesView {
    pub model: String,
    pub stream: bool,
    /// The client may come back to it.
    pub store: bool,
    /// The client doesn't wait for it.
    pub background: bool,
    pub previous_response_id: Option<String>,
    pub include: Vec<String>,
    pub max_output: Option<u64>,
    /// It asks the model to think.
    pub thinks: bool,
    /// Bytes of the input and the instructions, as they stand in the body.
    pub input_bytes: usize,
    /// It has instructions besides its input.
    pub(super) instructed: bool,
    /// It asks for reasoning.
    pub(super) reasoning: bool,
    pub(super) model_at: Range<usize>,
    pub(super) input_at: Option<Range<usize>>,
    pub(super) store_at: Option<Range<usize>>,
    pub(super) background_at: Option<Range<usize>>,
    pub(super) previous_at: Option<Range<usize>>,
    pub(super) include_at: Option<Range<usize>>,
}

macro_rules! fields {
    ($($name:ident),+ $(,)?) => {
        /// The members that are read; `null` is kept apart from absence, for its place in the body.
        #[derive(Deserialize)]
        struct Fields<'a> {
            $(#[serde(borrow, default, deserialize_with = "present")] $name: Option<&'a RawValue>,)+
        }
    };
}

fields!(
    model,
    input,
    prompt,
    instructions,
    stream,
    store,
    background,
    previous_response_id,
    include,
    max_output_tokens,
    reasoning,
    temperature,
    top_p,
    tools,
);

impl ResponsesView {
    /// # Errors
    /// `InvalidJson`; `MissingParameter`, `InvalidType` or `InvalidArgument` with the field as OpenAI names it.
    pub fn scan(body: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(body).map_err(|e| {
            Error::new(Code::InvalidJson, format!("The body is not UTF-8 at byte {}.", e.valid_up_to()))
        })?;
        // serde would take an array for the fields in their order.
        if text.trim_start().starts_with('[') {
            return Err(Error::new(Code::InvalidType, "The body is not a request: expected an object."));
        }
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|e| not_json(&e))?;
        let model = fields.model.filter(|raw| !is_null(raw)).ok_or_else(|| missing("model"))?;
        let model_at = place(body, model);
        let model: String = read(Some(model), "model", "a string")?.unwrap_or_default();
        if model.is_empty() || model.len() > MAX_MODEL {
            return Err(Error::invalid("model", format!("'model' must have 1 to {MAX_MODEL} characters.")));
        }
        let input = fields.input.filter(|raw| !is_null(raw));
        if input.is_some_and(|input| !input.get().starts_with(['"', '['])) {
            return Err(wrong("input", "a string or an array of items"));
        }
        if let Some(items) = input.filter(|input| input.get().starts_with('[')) {
            let items: Vec<&RawValue> =
                serde_json::from_str(items.get()).map_err(|_| wrong("input", "an array of items"))?;
            if let Some(at) = items.iter().position(|item| !item.get().starts_with('{')) {
                return Err(wrong(&format!("input[{at}]"), "an object"));
            }
        }
        let previous_response_id = read(fields.previous_response_id, "previous_response_id", "a string")?;
        // A prompt kept at the provider may need no more.
        let prompted = fields.prompt.is_some_and(|prompt| prompt.get().starts_with('{'));
        if input.is_none() && previous_response_id.is_none() && !prompted {
            return Err(missing("input"));
        }
        check_numbers(&fields)?;
        let at = |raw: Option<&RawValue>| raw.map(|raw| place(body, raw));
        Ok(Self {
            model,
            stream: read(fields.stream, "stream", "a boolean")?.unwrap_or(false),
            store: read(fields.store, "store", "a boolean")?.unwrap_or(true),
            background: read(fields.background, "background", "a boolean")?.unwrap_or(false),
            previous_response_id,
            include: read(fields.include, "include", "an array of strings")?.unwrap_or_default(),
            max_output: read(fields.max_output_tokens, "max_output_tokens", "an integer of at least 1")?,
            input_bytes: [input, fields.instructions].into_iter().flatten().map(|raw| raw.get().len()).sum(),
            instructed: fields.instructions.is_some_and(|raw| raw.get().len() > 2 && !is_null(raw)),
            reasoning: fields.reasoning.is_some_and(|raw| raw.get().len() > 4),
            thinks: fields.reasoning.is_some_and(asks_to_think),
            model_at,
            input_at: at(input),
            store_at: at(fields.store),
            background_at: at(fields.background),
            previous_at: at(fields.previous_response_id),
            include_at: at(fields.include),
        })
    }

    /// The client wants reasoning with the state that goes back.
    #[must_use]
    pub fn shows_encrypted(&self) -> bool {
        self.include.iter().any(|name| name == ENCRYPTED)
    }

    /// The client wants log probabilities.
    #[must_use]
    pub fn shows_logprobs(&self) -> bool {
        self.include.iter().any(|name| name == LOGPROBS)
    }
}

fn check_numbers(fields: &Fields<'_>) -> Result<(), Error> {
    for (raw, name, most) in [(fields.temperature, "temperature", 2.0), (fields.top_p, "top_p", 1.0)] {
        let Some(value) = read::<f64>(raw, name, "a number")? else { continue };
        if !(0.0..=most).contains(&value) {
            let text = format!("Invalid '{name}': {value} is out of range, expected from 0 to {most}.");
            return Err(Error::invalid(name, text));
        }
    }
    if read::<u64>(fields.max_output_tokens, "max_output_tokens", "an integer of at least 1")? == Some(0) {
        return Err(Error::invalid("max_output_tokens", "Invalid 'max_output_tokens': expected at least 1."));
    }
    let tools: Option<Vec<&RawValue>> = read(fields.tools, "tools", "an array of tools")?;
    if tools.is_some_and(|tools| tools.len() > MAX_TOOLS) {
        return Err(Error::invalid("tools", format!("Invalid 'tools': expected at most {MAX_TOOLS}.")));
    }
    Ok(())
}

fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

fn read<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    name: &str,
    expected: &str,
) -> Result<Option<T>, Error> {
    let Some(raw) = raw.filter(|raw| !is_null(raw)) else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| wrong(name, expected))
}

fn missing(name: &str) -> Error {
    Error::new(Code::MissingParameter, format!("Missing required parameter: '{name}'.")).with_param(name)
}

fn wrong(name: &str, expected: &str) -> Error {
    let text = format!("Invalid type for '{name}': expected {expected}.");
    Error::new(Code::InvalidType, text).with_param(name)
}

fn not_json(error: &serde_json::Error) -> Error {
    if error.is_data() {
        // What else is wrong is of a member, but for its being no object at all.
        let said = error.to_string();
        let said = if said.contains("struct") { "expected an object" } else { said.as_str() };
        return Error::new(Code::InvalidType, format!("The body is not a request: {said}."));
    }
    let (line, column) = (error.line(), error.column());
    Error::new(Code::InvalidJson, format!("The body is not valid JSON at line {line}, column {column}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_in_any_order() {
        let body = r#" {"input":[{"role":"user","content":"hi"}],"vendor":[1],"store":false,"background":null,
            "include":["reasoning.encrypted_content"],"previous_response_id":"resp_1","stream":true,"model":"a\/b"}"#;
        let view = ResponsesView::scan(body.as_bytes()).unwrap();
        assert_eq!(
            (view.model.as_str(), view.stream, view.store, view.background),
            ("a/b", true, false, false)
        );
        assert_eq!(view.previous_response_id.as_deref(), Some("resp_1"));
        assert!(view.shows_encrypted() && !view.shows_logprobs() && !view.reasoning);
        assert_eq!(&body[view.model_at], r#""a\/b""#);
        assert_eq!(view.input_at.map(|at| &body[at]), Some(r#"[{"role":"user","content":"hi"}]"#));
        assert_eq!(view.background_at.map(|at| &body[at]), Some("null"));
    }

    #[test]
    fn wrong_fields_are_named() {
        for (body, code, param) in [
            ("{", Code::InvalidJson, None),
            ("[]", Code::InvalidType, None),
            ("3", Code::InvalidType, None),
            (r#"{"model":"m","model":"n","input":"x"}"#, Code::InvalidType, None),
            (r#"{"input":"x"}"#, Code::MissingParameter, Some("model")),
            (r#"{"model":3,"input":"x"}"#, Code::InvalidType, Some("model")),
            (r#"{"model":"","input":"x"}"#, Code::InvalidArgument, Some("model")),
            (r#"{"model":"m"}"#, Code::MissingParameter, Some("input")),
            (r#"{"model":"m","input":{}}"#, Code::InvalidType, Some("input")),
            (r#"{"model":"m","prompt":null}"#, Code::MissingParameter, Some("input")),
            (r#"{"model":"m","input":[{},[null]]}"#, Code::InvalidType, Some("input[1]")),
            (r#"{"model":"m","input":"x","store":"yes"}"#, Code::InvalidType, Some("store")),
            (r#"{"model":"m","input":"x","include":"yes"}"#, Code::InvalidType, Some("include")),
            (
                r#"{"model":"m","input":"x","max_output_tokens":0}"#,
                Code::InvalidArgument,
                Some("max_output_tokens"),
            ),
            (r#"{"model":"m","input":"x","temperature":3}"#, Code::InvalidArgument, Some("temperature")),
            (r#"{"model":"m","input":"x","tools":{}}"#, Code::InvalidType, Some("tools")),
        ] {
            let error = ResponsesView::scan(body.as_bytes()).unwrap_err();
            assert_eq!((error.code(), error.param()), (code, param), "{body}");
        }
        let tools = |n| format!(r#"{{"model":"m","input":"x","tools":[{}]}}"#, vec!["{}"; n].join(","));
        let error = ResponsesView::scan(tools(MAX_TOOLS + 1).as_bytes()).unwrap_err();
        assert_eq!((error.code(), error.param()), (Code::InvalidArgument, Some("tools")));
        assert!(ResponsesView::scan(tools(MAX_TOOLS).as_bytes()).is_ok());
    }

    #[test]
    fn a_prompt_kept_at_the_provider_needs_no_input() {
        let body = br#"{"model":"m","prompt":{"id":"pmpt_1"}}"#;
        assert_eq!(ResponsesView::scan(body).unwrap().input_at, None);
    }
}
