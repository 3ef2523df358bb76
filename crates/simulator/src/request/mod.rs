//! A chat body, checked as OpenAI checks it.

pub(crate) mod fields;
mod messages;
mod tools;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use crate::{cache::End, error::ApiError, faults::Faults, strict};
use fields::{Raw, boolean, decimal, integer, items, object, text, wrong_type, wrong_value};
pub(crate) use messages::Conversation;
pub(crate) use tools::{Choice, Tool, mentioned};

const MOST_CHOICES: i64 = 128;
const MOST_STOPS: usize = 4;

/// What form the content has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    Text,
    Json,
    Schema(Value),
}

/// A checked chat request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) model: Cow<'a, str>,
    pub(crate) conversation: Conversation,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) n: u64,
    pub(crate) stops: Vec<Cow<'a, str>>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) tool_choice: Choice,
    pub(crate) parallel_tool_calls: bool,
    pub(crate) format: Format,
    /// How many alternatives a token has; none: no logprobs at all.
    pub(crate) logprobs: Option<usize>,
    pub(crate) seed: Option<i64>,
    pub(crate) service_tier: &'static str,
    /// The field `x_sim`.
    pub(crate) wish: Option<Faults>,
    pub(crate) thinking: Thinking,
    pub(crate) thoughts: Thoughts,
    /// Blocks of a prompt that says what to cache, and the least there is to cache; else the cache is implicit.
    pub(crate) marks: Option<(Vec<End>, u64)>,
    pub(crate) legacy_max_tokens: bool,
}

/// Whether and how much to think before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Thinking {
    /// As the model does by itself.
    #[default]
    Usual,
    Off,
    On {
        /// 1 is usual.
        effort: u64,
        /// At most so many tokens.
        budget: Option<u64>,
    },
}

/// How much of the thoughts is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Thoughts {
    #[default]
    Hidden,
    Summary,
    Whole,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    model: Raw<'a>,
    #[serde(borrow, default)]
    messages: Raw<'a>,
    #[serde(borrow, default)]
    stream: Raw<'a>,
    #[serde(borrow, default)]
    stream_options: Raw<'a>,
    #[serde(borrow, default)]
    max_tokens: Raw<'a>,
    #[serde(borrow, default)]
    max_completion_tokens: Raw<'a>,
    #[serde(borrow, default)]
    n: Raw<'a>,
    #[serde(borrow, default)]
    stop: Raw<'a>,
    #[serde(borrow, default)]
    tools: Raw<'a>,
    #[serde(borrow, default)]
    tool_choice: Raw<'a>,
    #[serde(borrow, default)]
    parallel_tool_calls: Raw<'a>,
    #[serde(borrow, default)]
    response_format: Raw<'a>,
    #[serde(borrow, default)]
    logprobs: Raw<'a>,
    #[serde(borrow, default)]
    top_logprobs: Raw<'a>,
    #[serde(borrow, default)]
    seed: Raw<'a>,
    #[serde(borrow, default)]
    service_tier: Raw<'a>,
    #[serde(borrow, default)]
    temperature: Raw<'a>,
    #[serde(borrow, default)]
    top_p: Raw<'a>,
    #[serde(borrow, default)]
    presence_penalty: Raw<'a>,
    #[serde(borrow, default)]
    frequency_penalty: Raw<'a>,
    #[serde(borrow, default)]
    logit_bias: Raw<'a>,
    #[serde(borrow, default)]
    x_sim: Raw<'a>,
    #[serde(borrow, default)]
    reasoning_effort: Raw<'a>,
    #[serde(borrow, default)]
    user: Raw<'a>,
    #[serde(borrow, default)]
    safety_identifier: Raw<'a>,
}

impl<'a> Request<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, ApiError> {
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(ApiError::unreadable());
        }
        let body: Body<'a> = serde_json::from_slice(bytes).map_err(|_| ApiError::unreadable())?;
        let model = text(body.model.ok_or_else(|| ApiError::missing("model"))?, "model")?;
        let messages = body.messages.ok_or_else(|| ApiError::missing("messages"))?;
        let conversation = Conversation::read(messages)?;
        let stream = boolean(body.stream, "stream")?.unwrap_or(false);
        check_sampling(&body)?;
        for (name, raw) in [("user", body.user), ("safety_identifier", body.safety_identifier)] {
            if let Some(raw) = raw {
                fields::identifier(&text(raw, name)?, name)?;
            }
        }
        let mut tools = tools::tools(body.tools)?;
        let tool_choice = tools::choice(body.tool_choice, &mut tools, body.tools.is_some())?;
        Ok(Self {
            conversation,
            stream,
            include_usage: include_usage(body.stream_options, stream)?,
            max_tokens: max_tokens(&body)?,
            n: integer(body.n, "n", 1, MOST_CHOICES)?.map_or(1, i64::unsigned_abs),
            stops: stops(body.stop)?,
            tools,
            tool_choice,
            parallel_tool_calls: boolean(body.parallel_tool_calls, "parallel_tool_calls")?.unwrap_or(true),
            format: format(body.response_format, messages.get())?,
            logprobs: logprobs(body.logprobs, body.top_logprobs)?,
            seed: integer(body.seed, "seed", i64::MIN, i64::MAX)?,
            service_tier: service_tier(body.service_tier)?,
            wish: wish(body.x_sim)?,
            thinking: effort(body.reasoning_effort)?,
            thoughts: if model.starts_with("sim-think") { Thoughts::Summary } else { Thoughts::Hidden },
            model,
            marks: None,
            legacy_max_tokens: body.max_tokens.is_some(),
        })
    }

    /// What models that reason don't take.
    pub(crate) fn check_reasoning(&self) -> Result<(), ApiError> {
        if !self.legacy_max_tokens {
            return Ok(());
        }
        let message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
                       'max_completion_tokens' instead.";
        Err(ApiError::invalid("max_tokens", "unsupported_parameter", message))
    }
}

fn check_sampling(body: &Body<'_>) -> Result<(), ApiError> {
    decimal(body.temperature, "temperature", 0.0, 2.0)?;
    decimal(body.top_p, "top_p", 0.0, 1.0)?;
    decimal(body.presence_penalty, "presence_penalty", -2.0, 2.0)?;
    decimal(body.frequency_penalty, "frequency_penalty", -2.0, 2.0)?;
    match body.logit_bias {
        Some(raw) if !raw.get().starts_with('{') => Err(wrong_type("logit_bias", "an object", raw)),
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
struct StreamOptions<'a> {
    #[serde(borrow, default)]
    include_usage: Raw<'a>,
}

fn include_usage(raw: Raw<'_>, stream: bool) -> Result<bool, ApiError> {
    let Some(raw) = raw else { return Ok(false) };
    if !stream {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(ApiError::invalid("stream_options", "", message));
    }
    if !raw.get().starts_with('{') {
        return Err(wrong_type("stream_options", "an object", raw));
    }
    let options: StreamOptions<'_> =
        serde_json::from_str(raw.get()).map_err(|_| wrong_type("stream_options", "an object", raw))?;
    Ok(boolean(options.include_usage, "stream_options.include_usage")?.unwrap_or(false))
}

fn max_tokens(body: &Body<'_>) -> Result<Option<u64>, ApiError> {
    let old = integer(body.max_tokens, "max_tokens", 1, i64::MAX)?;
    let new = integer(body.max_completion_tokens, "max_completion_tokens", 1, i64::MAX)?;
    if old.is_some() && new.is_some() {
        let message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
        return Err(ApiError::invalid("max_tokens", "invalid_parameter_combination", message));
    }
    Ok(new.or(old).map(i64::unsigned_abs))
}

fn stops<'a>(raw: Raw<'a>) -> Result<Vec<Cow<'a, str>>, ApiError> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    if raw.get().starts_with('"') {
        return Ok(vec![text(raw, "stop")?]);
    }
    let stops: Vec<&'a serde_json::value::RawValue> =
        items(raw, "stop").map_err(|_| wrong_type("stop", "one of a string or array of strings", raw))?;
    if stops.len() > MOST_STOPS {
        let message = format!("Invalid 'stop': array too long. Expected at most {MOST_STOPS} items.");
        return Err(ApiError::invalid("stop", "array_above_max_length", message));
    }
    stops.into_iter().enumerate().map(|(at, stop)| text(stop, &format!("stop[{at}]"))).collect()
}

#[derive(Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: Option<String>,
    json_schema: Option<JsonSchema>,
}

#[derive(Deserialize)]
struct JsonSchema {
    name: Option<String>,
    schema: Option<Value>,
    strict: Option<bool>,
}

fn format(raw: Raw<'_>, messages: &str) -> Result<Format, ApiError> {
    let Some(raw) = raw else { return Ok(Format::Text) };
    let format: ResponseFormat = object(raw, "response_format")?;
    match format.kind.as_deref() {
        Some("text") => Ok(Format::Text),
        Some("json_object") => {
            if messages.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"json")) {
                return Ok(Format::Json);
            }
            let message = "'messages' must contain the word 'json' in some form, to use 'response_format' of type \
                           'json_object'.";
            Err(ApiError::invalid("messages", "", message))
        }
        Some("json_schema") => {
            let missing = |field: &str| ApiError::missing(&format!("response_format.json_schema{field}"));
            let schema = format.json_schema.ok_or_else(|| missing(""))?;
            let name = schema.name.ok_or_else(|| missing(".name"))?;
            let strict = schema.strict == Some(true);
            match schema.schema {
                Some(schema @ Value::Object(_)) => {
                    let what = format!("response_format '{name}'");
                    let checked = if strict { strict::openai(&schema, &what) } else { Ok(()) };
                    checked.map_err(|why| ApiError::invalid("response_format", "", why))?;
                    Ok(Format::Schema(schema))
                }
                Some(_) => Err(ApiError::invalid(
                    "response_format.json_schema.schema",
                    "invalid_type",
                    "Invalid type for 'response_format.json_schema.schema': expected an object.",
                )),
                None => Err(missing(".schema")),
            }
        }
        Some(other) => {
            Err(wrong_value("response_format.type", other, &["json_object", "json_schema", "text"]))
        }
        None => Err(ApiError::missing("response_format.type")),
    }
}

fn logprobs(wanted: Raw<'_>, top: Raw<'_>) -> Result<Option<usize>, ApiError> {
    let wanted = boolean(wanted, "logprobs")?.unwrap_or(false);
    let top = integer(top, "top_logprobs", 0, 20)?;
    if top.is_some() && !wanted {
        let message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.";
        return Err(ApiError::invalid("top_logprobs", "", message));
    }
    Ok(wanted.then(|| usize::try_from(top.unwrap_or(0)).unwrap_or(0)))
}

fn service_tier(raw: Raw<'_>) -> Result<&'static str, ApiError> {
    let Some(raw) = raw else { return Ok("default") };
    match &*text(raw, "service_tier")? {
        "auto" | "default" => Ok("default"),
        "flex" => Ok("flex"),
        "priority" => Ok("priority"),
        other => Err(wrong_value("service_tier", other, &["auto", "default", "flex", "priority"])),
    }
}

fn wish(raw: Raw<'_>) -> Result<Option<Faults>, ApiError> {
    let invalid =
        |error: String| ApiError::invalid("x_sim", "invalid_value", format!("Invalid 'x_sim': {error}"));
    raw.map(|raw| Faults::wish(raw.get()).map_err(invalid)).transpose()
}

const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];

fn effort(raw: Raw<'_>) -> Result<Thinking, ApiError> {
    let Some(raw) = raw else { return Ok(Thinking::Usual) };
    let word = text(raw, "reasoning_effort")?;
    Thinking::at(&word).ok_or_else(|| wrong_value("reasoning_effort", &word, EFFORTS))
}

impl Thinking {
    /// As OpenAI names efforts.
    pub(crate) fn at(effort: &str) -> Option<Self> {
        let effort = match effort {
            "none" | "minimal" => return Some(Self::Off),
            "low" | "medium" => 1,
            "high" => 2,
            "xhigh" => 3,
            "max" => 4,
            _ => return None,
        };
        Some(Self::On { effort, budget: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(fields: &str) -> String {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi json"}}],{fields}}}"#)
    }

    #[test]
    fn a_full_request_is_read() {
        let body = with(
            r#""stream":true,"stream_options":{"include_usage":true},"max_completion_tokens":5,"n":2,"stop":["a","b\n"],
               "logprobs":true,"top_logprobs":3,"seed":-4,"service_tier":"flex","x_sim":{"status":500},"user":null,
               "invented_tomorrow":[1],"response_format":{"type":"json_object"},"temperature":1,"tools":null"#,
        );
        let request = Request::parse(body.as_bytes()).unwrap();
        assert!(request.stream && request.include_usage);
        assert_eq!((request.max_tokens, request.n, request.seed), (Some(5), 2, Some(-4)));
        assert_eq!(request.stops, ["a", "b\n"]);
        assert_eq!((request.logprobs, request.service_tier), (Some(3), "flex"));
        assert_eq!(request.format, Format::Json);
        assert_eq!(request.wish.unwrap().status, Some(500));
    }

    #[test]
    fn errors_name_the_field() {
        for (fields, param) in [
            (r#""stream":"yes""#, "stream"),
            (r#""stream_options":{}"#, "stream_options"),
            (r#""stream":true,"stream_options":{"include_usage":1}"#, "stream_options.include_usage"),
            (r#""max_tokens":0"#, "max_tokens"),
            (r#""max_tokens":1.5"#, "max_tokens"),
            (r#""max_tokens":5,"max_completion_tokens":5"#, "max_tokens"),
            (r#""n":129"#, "n"),
            (r#""stop":["a","b","c","d","e"]"#, "stop"),
            (r#""stop":[1]"#, "stop[0]"),
            (r#""stop":7"#, "stop"),
            (r#""temperature":2.5"#, "temperature"),
            (r#""temperature":"hot""#, "temperature"),
            (r#""top_p":-1"#, "top_p"),
            (r#""frequency_penalty":3"#, "frequency_penalty"),
            (r#""logit_bias":[]"#, "logit_bias"),
            (r#""logprobs":true,"top_logprobs":21"#, "top_logprobs"),
            (r#""top_logprobs":2"#, "top_logprobs"),
            (r#""response_format":{"type":"xml"}"#, "response_format.type"),
            (r#""response_format":{"type":"json_schema"}"#, "response_format.json_schema"),
            (
                r#""response_format":{"type":"json_schema","json_schema":{"name":"x"}}"#,
                "response_format.json_schema.schema",
            ),
            (r#""response_format":"json""#, "response_format"),
            (r#""service_tier":"gold""#, "service_tier"),
            (r#""user":"65_______________________________________________________________""#, "user"),
            (r#""safety_identifier":7"#, "safety_identifier"),
            (r#""tool_choice":"auto""#, "tool_choice"),
            (r#""x_sim":{"statsu":1}"#, "x_sim"),
            (r#""x_sim":{"rate":0.5}"#, "x_sim"),
        ] {
            let error = Request::parse(with(fields).as_bytes()).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{fields}");
            assert_eq!(error.kind, "invalid_request_error");
        }
    }

    #[test]
    fn what_is_no_object_is_unreadable() {
        for body in ["", "[]", "null", "{", r#"{"model":"m"}x"#] {
            assert_eq!(Request::parse(body.as_bytes()).unwrap_err().param, None, "{body}");
        }
        assert_eq!(Request::parse(b"{}").unwrap_err().param.as_deref(), Some("model"));
        assert_eq!(Request::parse(br#"{"model":"m"}"#).unwrap_err().param.as_deref(), Some("messages"));
        assert_eq!(
            Request::parse(br#"{"model":4,"messages":[]}"#).unwrap_err().param.as_deref(),
            Some("model")
        );
    }

    #[test]
    fn json_mode_wants_the_word() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"Hi"}],"response_format":{"type":"json_object"}}"#;
        assert_eq!(Request::parse(body.as_bytes()).unwrap_err().param.as_deref(), Some("messages"));
    }
}
