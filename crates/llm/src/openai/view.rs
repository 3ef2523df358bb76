//! What Weir needs to know of a chat body, from one checked pass that builds no tree.

use std::{fmt, ops::Range};

use serde::{
    Deserialize, Deserializer as _,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use weir_error::{Code, Error};

use crate::{
    edits::{place, present},
    thinking::asks_to_think,
};

const MAX_MODEL: usize = 256;
const MAX_N: u64 = 128;
/// Bounds of our own: providers have theirs.
const MAX_TOOLS: usize = 1_024;
const MAX_STOPS: usize = 1_024;
const MAX_TOP_LOGPROBS: u64 = 20;
const ROLES: [&str; 6] = ["developer", "system", "user", "assistant", "tool", "function"];

/// What Weir reads of a chat body. The rest belongs to the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatView {
    pub model: String,
    pub stream: bool,
    /// The client asked for the usage chunk.
    pub include_usage: bool,
    /// `max_completion_tokens`, or the older `max_tokens`.
    pub max_output: Option<u64>,
    /// Answers asked for.
    pub n: u64,
    /// It asks the model to think.
    pub thinks: bool,
    /// Bytes of the messages, as they stand in the body.
    pub messages_bytes: usize,
    pub(super) model_at: Range<usize>,
    pub(super) stream_options_at: Option<Range<usize>>,
}

macro_rules! fields {
    ($($name:ident),+ $(,)?) => {
        /// The members that are checked; `null` is kept apart from absence, for its place in the body.
        #[derive(Deserialize)]
        struct Fields<'a> {
            $(#[serde(borrow, default, deserialize_with = "present")] $name: Option<&'a RawValue>,)+
        }
    };
}

fields!(
    model,
    messages,
    input,
    stream,
    stream_options,
    max_tokens,
    max_completion_tokens,
    n,
    temperature,
    top_p,
    presence_penalty,
    frequency_penalty,
    stop,
    seed,
    tools,
    logprobs,
    top_logprobs,
    user,
    parallel_tool_calls,
    response_format,
    metadata,
    logit_bias,
    reasoning_effort,
    reasoning,
    thinking,
);

impl ChatView {
    /// # Errors
    /// `InvalidJson` with the place; `MissingParameter`, `InvalidType` or `InvalidArgument` with the field as
    /// OpenAI names it (`messages[0].role`).
    pub fn scan(body: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(body).map_err(|e| {
            Error::new(Code::InvalidJson, format!("The body is not UTF-8 at byte {}.", e.valid_up_to()))
        })?;
        // serde would take an array for the fields in their order.
        if text.trim_start().starts_with('[') {
            return Err(Error::new(Code::InvalidType, "The body is not a chat request: expected an object."));
        }
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|e| not_json(text, &e))?;
        let model = required(fields.model, "model")?;
        let model_at = place(body, model);
        let model = string(model, "model")?;
        if model.is_empty() || model.len() > MAX_MODEL {
            return Err(Error::invalid("model", format!("'model' must have 1 to {MAX_MODEL} characters.")));
        }
        if fields.messages.is_none() && fields.input.is_some() {
            let text =
                "Missing required parameter: 'messages'. A body with 'input' is asked at /v1/responses.";
            return Err(Error::new(Code::MissingParameter, text).with_param("messages"));
        }
        let messages = required(fields.messages, "messages")?;
        check_messages(messages)?;
        let stream = optional(fields.stream, "stream", boolean)?.unwrap_or(false);
        let include_usage = match fields.stream_options.filter(|raw| !is_null(raw)) {
            Some(_) if !stream => {
                let text = "'stream_options' is only allowed when 'stream' is true.";
                return Err(Error::invalid("stream_options", text));
            }
            Some(options) => include_usage(options)?,
            None => false,
        };
        let max_tokens = optional(fields.max_tokens, "max_tokens", |r, p| whole(r, p, 1, u64::MAX))?;
        let max_completion =
            optional(fields.max_completion_tokens, "max_completion_tokens", |r, p| whole(r, p, 1, u64::MAX))?;
        check_others(&fields)?;
        Ok(Self {
            model,
            stream,
            include_usage,
            max_output: max_completion.or(max_tokens),
            n: optional(fields.n, "n", |r, p| whole(r, p, 1, MAX_N))?.unwrap_or(1),
            thinks: [fields.reasoning_effort, fields.reasoning, fields.thinking]
                .into_iter()
                .flatten()
                .any(asks_to_think),
            messages_bytes: messages.get().len(),
            model_at,
            stream_options_at: fields.stream_options.map(|raw| place(body, raw)),
        })
    }
}

fn check_others(fields: &Fields<'_>) -> Result<(), Error> {
    optional(fields.temperature, "temperature", |r, p| number(r, p, 0.0, 2.0))?;
    optional(fields.top_p, "top_p", |r, p| number(r, p, 0.0, 1.0))?;
    optional(fields.presence_penalty, "presence_penalty", |r, p| number(r, p, -2.0, 2.0))?;
    optional(fields.frequency_penalty, "frequency_penalty", |r, p| number(r, p, -2.0, 2.0))?;
    optional(fields.seed, "seed", integer)?;
    optional(fields.stop, "stop", stop)?;
    optional(fields.tools, "tools", |r, p| array(r, p, MAX_TOOLS))?;
    optional(fields.logprobs, "logprobs", boolean)?;
    optional(fields.top_logprobs, "top_logprobs", |r, p| whole(r, p, 0, MAX_TOP_LOGPROBS))?;
    optional(fields.user, "user", |r, p| string(r, p).map(drop))?;
    optional(fields.parallel_tool_calls, "parallel_tool_calls", boolean)?;
    optional(fields.response_format, "response_format", object)?;
    optional(fields.metadata, "metadata", object)?;
    optional(fields.logit_bias, "logit_bias", object)?;
    Ok(())
}

fn not_json(text: &str, error: &serde_json::Error) -> Error {
    if error.is_data() {
        let what = if text.trim_start().starts_with('{') {
            error.to_string()
        } else {
            "expected an object".to_owned()
        };
        return Error::new(Code::InvalidType, format!("The body is not a chat request: {what}."));
    }
    let (line, column) = (error.line(), error.column());
    Error::new(Code::InvalidJson, format!("The body is not valid JSON at line {line}, column {column}."))
}

fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

fn required<'a>(raw: Option<&'a RawValue>, param: &str) -> Result<&'a RawValue, Error> {
    raw.filter(|raw| !is_null(raw)).ok_or_else(|| {
        Error::new(Code::MissingParameter, format!("Missing required parameter: '{param}'."))
            .with_param(param)
    })
}

fn optional<'a, T>(
    raw: Option<&'a RawValue>,
    param: &str,
    read: impl FnOnce(&'a RawValue, &str) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    raw.filter(|raw| !is_null(raw)).map(|raw| read(raw, param)).transpose()
}

/// What a JSON value is, for people.
fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ if raw.get().contains(['.', 'e', 'E']) => "a decimal",
        _ => "an integer",
    }
}

fn wrong_type(raw: &RawValue, param: &str, expected: &str) -> Error {
    let text = format!("Invalid type for '{param}': expected {expected}, but got {} instead.", kind(raw));
    Error::new(Code::InvalidType, text).with_param(param)
}

fn string(raw: &RawValue, param: &str) -> Result<String, Error> {
    serde_json::from_str(raw.get()).map_err(|_| wrong_type(raw, param, "a string"))
}

fn boolean(raw: &RawValue, param: &str) -> Result<bool, Error> {
    serde_json::from_str(raw.get()).map_err(|_| wrong_type(raw, param, "a boolean"))
}

fn integer(raw: &RawValue, param: &str) -> Result<i64, Error> {
    serde_json::from_str(raw.get()).map_err(|_| wrong_type(raw, param, "an integer"))
}

fn object(raw: &RawValue, param: &str) -> Result<(), Error> {
    if raw.get().starts_with('{') { Ok(()) } else { Err(wrong_type(raw, param, "an object")) }
}

fn whole(raw: &RawValue, param: &str, min: u64, max: u64) -> Result<u64, Error> {
    let out_of_range = || {
        let bound = if max == u64::MAX { format!("at least {min}") } else { format!("from {min} to {max}") };
        Error::invalid(param, format!("Invalid '{param}': {} is out of range, expected {bound}.", raw.get()))
    };
    match serde_json::from_str::<u64>(raw.get()) {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        Ok(_) => Err(out_of_range()),
        Err(_) if kind(raw) == "an integer" => Err(out_of_range()),
        Err(_) => Err(wrong_type(raw, param, "an integer")),
    }
}

fn number(raw: &RawValue, param: &str, min: f64, max: f64) -> Result<(), Error> {
    let value: f64 = serde_json::from_str(raw.get()).map_err(|_| wrong_type(raw, param, "a number"))?;
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let text = format!("Invalid '{param}': {} is out of range, expected from {min} to {max}.", raw.get());
    Err(Error::invalid(param, text))
}

fn array(raw: &RawValue, param: &str, max: usize) -> Result<(), Error> {
    let items: Vec<IgnoredAny> =
        serde_json::from_str(raw.get()).map_err(|_| wrong_type(raw, param, "an array"))?;
    if items.len() <= max {
        return Ok(());
    }
    Err(Error::invalid(
        param,
        format!("Invalid '{param}': {} items, at most {max} are allowed.", items.len()),
    ))
}

fn stop(raw: &RawValue, param: &str) -> Result<(), Error> {
    if raw.get().starts_with('"') {
        return Ok(());
    }
    let stops: Vec<String> = serde_json::from_str(raw.get())
        .map_err(|_| wrong_type(raw, param, "a string or an array of strings"))?;
    if stops.len() <= MAX_STOPS {
        return Ok(());
    }
    Err(Error::invalid(
        param,
        format!("Invalid '{param}': {} strings, at most {MAX_STOPS} are allowed.", stops.len()),
    ))
}

fn include_usage(options: &RawValue) -> Result<bool, Error> {
    #[derive(Deserialize)]
    struct Options<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        include_usage: Option<&'a RawValue>,
    }
    let options: Options<'_> = serde_json::from_str(options.get())
        .map_err(|_| wrong_type(options, "stream_options", "an object"))?;
    Ok(optional(options.include_usage, "stream_options.include_usage", boolean)?.unwrap_or(false))
}

/// Checks roles and contents in one walk over the messages.
fn check_messages(raw: &RawValue) -> Result<(), Error> {
    if !raw.get().starts_with('[') {
        return Err(wrong_type(raw, "messages", "an array of objects"));
    }
    let mut state = Walk { seen: 0, problem: None };
    let walked = serde_json::Deserializer::from_str(raw.get()).deserialize_seq(&mut state);
    if let Some(problem) = state.problem {
        return Err(problem);
    }
    match walked {
        Ok(()) if state.seen == 0 => {
            Err(Error::invalid("messages", "Invalid 'messages': empty array, expected at least 1 message."))
        }
        Ok(()) => Ok(()),
        Err(_) => {
            let param = format!("messages[{}]", state.seen);
            Err(Error::new(Code::InvalidType, format!("Invalid type for '{param}': expected an object."))
                .with_param(param))
        }
    }
}

struct Walk {
    seen: usize,
    problem: Option<Error>,
}

impl<'de> Visitor<'de> for &mut Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Message(self))?.is_some() {
            self.seen += 1;
        }
        Ok(())
    }
}

struct Message<'w>(&'w mut Walk);

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let at = |field: &str| format!("messages[{}].{field}", self.0.seen);
        let mut role = false;
        let problem = loop {
            // Keys with escapes don't borrow; none of ours has any.
            match map.next_key::<std::borrow::Cow<'de, str>>()?.as_deref() {
                None if role => return Ok(()),
                None => break required(None, &at("role")).map(drop),
                Some("role") => {
                    let value: &RawValue = map.next_value()?;
                    role = true;
                    if let Err(problem) = known_role(value, &at("role")) {
                        break Err(problem);
                    }
                }
                Some("content") => {
                    let value: &RawValue = map.next_value()?;
                    if !matches!(kind(value), "a string" | "an array" | "null") {
                        break Err(wrong_type(value, &at("content"), "a string or an array of parts"));
                    }
                }
                Some(_) => drop(map.next_value::<IgnoredAny>()?),
            }
        };
        self.0.problem = problem.err();
        Err(A::Error::custom("see the problem"))
    }
}

fn known_role(raw: &RawValue, param: &str) -> Result<(), Error> {
    if ROLES.iter().any(|role| raw.get().strip_prefix('"').and_then(|r| r.strip_suffix('"')) == Some(role)) {
        return Ok(());
    }
    let role = string(raw, param)?;
    if ROLES.contains(&role.as_str()) {
        return Ok(());
    }
    let shown: String = role.chars().take(40).collect();
    let text = format!(
        "Invalid value: '{shown}'. Supported values are: {}.",
        ROLES.map(|r| format!("'{r}'")).join(", ")
    );
    Err(Error::invalid(param, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> (Code, Option<String>) {
        let error = ChatView::scan(body.as_bytes()).unwrap_err();
        (error.code(), error.param().map(str::to_owned))
    }

    #[test]
    fn a_body_is_read_once_and_in_any_order() {
        let body = r#"{"messages":[{"role":"user","content":"hi"},{"content":null,"role":"assistant","x":[1]}],
            "stream":true,"vendor_thing":{"deep":[1,2,{"a":null}]},"max_tokens":5,"model":"a\/b","temperature":null,
            "stream_options":{"include_usage":true},"n":2,"tools":null,"stop":["a"]}"#;
        let view = ChatView::scan(body.as_bytes()).unwrap();
        assert_eq!((view.model.as_str(), view.stream, view.include_usage), ("a/b", true, true));
        assert_eq!((view.max_output, view.n), (Some(5), 2));
        assert_eq!(&body[view.model_at], r#""a\/b""#);
    }

    #[test]
    fn wrong_fields_are_named() {
        let hi = r#""messages":[{"role":"user","content":"hi"}]"#;
        let with = |more: &str| format!(r#"{{"model":"m",{hi},{more}}}"#);
        for (body, code, param) in [
            ("{".to_owned(), Code::InvalidJson, None),
            ("\u{feff}{}".to_owned(), Code::InvalidJson, None),
            ("[]".to_owned(), Code::InvalidType, None),
            (format!("{{{hi}}}"), Code::MissingParameter, Some("model")),
            (format!(r#"{{"model":null,{hi}}}"#), Code::MissingParameter, Some("model")),
            (format!(r#"{{"model":3,{hi}}}"#), Code::InvalidType, Some("model")),
            (format!(r#"{{"model":"",{hi}}}"#), Code::InvalidArgument, Some("model")),
            (format!(r#"{{"model":"m","model":"n",{hi}}}"#), Code::InvalidType, None),
            (r#"{"model":"m"}"#.to_owned(), Code::MissingParameter, Some("messages")),
            (r#"{"model":"m","messages":"hi"}"#.to_owned(), Code::InvalidType, Some("messages")),
            (r#"{"model":"m","messages":[]}"#.to_owned(), Code::InvalidArgument, Some("messages")),
            (
                r#"{"model":"m","messages":[{"role":"user"},"x"]}"#.to_owned(),
                Code::InvalidType,
                Some("messages[1]"),
            ),
            (r#"{"model":"m","messages":[{}]}"#.to_owned(), Code::MissingParameter, Some("messages[0].role")),
            (
                r#"{"model":"m","messages":[{"role":"x"}]}"#.to_owned(),
                Code::InvalidArgument,
                Some("messages[0].role"),
            ),
            (
                r#"{"model":"m","messages":[{"role":1}]}"#.to_owned(),
                Code::InvalidType,
                Some("messages[0].role"),
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":{}}]}"#.to_owned(),
                Code::InvalidType,
                Some("messages[0].content"),
            ),
            (with(r#""stream":"yes""#), Code::InvalidType, Some("stream")),
            (with(r#""stream_options":{}"#), Code::InvalidArgument, Some("stream_options")),
            (
                with(r#""stream":true,"stream_options":{"include_usage":1}"#),
                Code::InvalidType,
                Some("stream_options.include_usage"),
            ),
            (with(r#""max_tokens":0"#), Code::InvalidArgument, Some("max_tokens")),
            (with(r#""max_tokens":-1"#), Code::InvalidArgument, Some("max_tokens")),
            (with(r#""max_tokens":1.5"#), Code::InvalidType, Some("max_tokens")),
            (with(r#""n":129"#), Code::InvalidArgument, Some("n")),
            (with(r#""temperature":"hot""#), Code::InvalidType, Some("temperature")),
            (with(r#""temperature":2.1"#), Code::InvalidArgument, Some("temperature")),
            (
                with(&format!(r#""stop":[{}"a"]"#, r#""a","#.repeat(1_024))),
                Code::InvalidArgument,
                Some("stop"),
            ),
            (
                with(&format!(r#""tools":[{}{{}}]"#, "{},".repeat(1_024))),
                Code::InvalidArgument,
                Some("tools"),
            ),
            (with(r#""tools":{}"#), Code::InvalidType, Some("tools")),
            (with(r#""logit_bias":[]"#), Code::InvalidType, Some("logit_bias")),
        ] {
            assert_eq!(refusal(&body), (code, param.map(str::to_owned)), "{body}");
        }
    }

    #[test]
    fn more_tools_and_stops_than_openai_takes_are_others_to_take() {
        let hi = r#""messages":[{"role":"user","content":"hi"}]"#;
        let (tools, stops) = ("{},".repeat(128), r#""a","#.repeat(4));
        let body = format!(r#"{{"model":"m",{hi},"tools":[{tools}{{}}],"stop":[{stops}"a"]}}"#);
        assert!(ChatView::scan(body.as_bytes()).is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!(r#"{{"model":"m","messages":[{{"role":"user"}}],"x":{}}}"#, "[".repeat(100_000));
        assert_eq!(refusal(&deep).0, Code::InvalidJson);
        assert_eq!(ChatView::scan(b"{\"model\":\"\xff\"}").unwrap_err().code(), Code::InvalidJson);
    }
}
