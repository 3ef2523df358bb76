//! The response object: what was asked for, repeated, and what came of it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{item::Item, usage::Counts};
use crate::{
    canonical::{Finish, Raw},
    lenient,
    prices::Tier,
};

/// What the answer says of itself besides.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) created: i64,
    /// Members that repeat the request, as JSON without braces.
    echo: String,
    /// The service that was asked for.
    tier: String,
}

/// How it stands with a response.
#[derive(Debug, Default)]
pub(super) struct State<'a> {
    pub(super) status: &'static str,
    pub(super) completed_at: Option<i64>,
    pub(super) error: Option<Failed<'a>>,
    pub(super) incomplete: Option<&'static str>,
    pub(super) output: &'a [Item],
    pub(super) usage: Option<Counts>,
    /// The service that was given, once that is known.
    pub(super) tier: Option<&'static str>,
}

/// OpenAI's word for the service that an answer was given; `None` where it has none.
pub(super) fn tier(given: Tier) -> Option<&'static str> {
    match given {
        Tier::Standard | Tier::Batch | Tier::Fast | Tier::Us => Some("default"),
        Tier::Flex => Some("flex"),
        Tier::Priority => Some("priority"),
        Tier::Other => None,
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Failed<'a> {
    pub(super) code: Cow<'a, str>,
    pub(super) message: &'a str,
}

#[derive(Serialize)]
struct Incomplete {
    reason: &'static str,
}

#[derive(Serialize)]
struct Out<'a> {
    id: &'a str,
    object: &'static str,
    created_at: i64,
    status: &'static str,
    completed_at: Option<i64>,
    error: &'a Option<Failed<'a>>,
    incomplete_details: Option<Incomplete>,
    model: &'a str,
    output: &'a [Item],
    usage: &'a Option<Counts>,
    service_tier: &'a str,
}

impl Response {
    pub(super) fn new(id: String, model: &str, created: i64, request: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        struct Wanted {
            #[serde(default, deserialize_with = "lenient::read")]
            service_tier: Option<String>,
        }
        let wanted: Wanted = serde_json::from_slice(request).unwrap_or_default();
        let tier = wanted.service_tier.filter(|tier| tier != "auto").unwrap_or_else(|| "default".to_owned());
        Self { id, model: model.to_owned(), created, echo: echo(request), tier }
    }

    /// The object as JSON.
    pub(super) fn json(&self, state: &State<'_>) -> Raw {
        let out = Out {
            id: &self.id,
            object: "response",
            created_at: self.created,
            status: state.status,
            completed_at: state.completed_at,
            error: &state.error,
            incomplete_details: state.incomplete.map(|reason| Incomplete { reason }),
            model: &self.model,
            output: state.output,
            usage: &state.usage,
            service_tier: state.tier.unwrap_or(&self.tier),
        };
        // Serializing into memory can't fail, and what it gives is an object.
        let mut json = serde_json::to_string(&out).unwrap_or_default();
        json.pop();
        json.push(',');
        json.push_str(&self.echo);
        json.push('}');
        RawValue::from_string(json).unwrap_or_default()
    }
}

/// The object of a response that has not begun, as JSON.
#[must_use]
pub fn queued(id: &str, model: &str, created: i64, request: &[u8]) -> Box<RawValue> {
    let state = State { status: "queued", ..State::default() };
    Response::new(id.to_owned(), model, created, request).json(&state)
}

/// What a finish is here: `None` when the response is complete, else why it isn't.
pub(super) fn incomplete(finish: &Finish, refused: bool) -> Option<&'static str> {
    match finish {
        Finish::MaxTokens | Finish::ContextWindow => Some("max_output_tokens"),
        // The model's own refusal is an answer; one without a word was held back.
        Finish::Refusal if !refused => Some("content_filter"),
        _ => None,
    }
}

macro_rules! echoed {
    ($($name:ident = $default:literal),+ $(,)?) => {
        #[derive(Deserialize, Default)]
        struct Asked<'a> {
            $(#[serde(borrow, default)] $name: Option<&'a RawValue>,)+
        }

        impl Asked<'_> {
            fn each(&self, mut say: impl FnMut(&str, Option<&RawValue>, &str)) {
                $(say(stringify!($name), self.$name, $default);)+
            }
        }
    };
}

// With what they are when the request doesn't say.
echoed!(
    background = "false",
    frequency_penalty = "0",
    instructions = "null",
    max_output_tokens = "null",
    max_tool_calls = "null",
    metadata = "{}",
    parallel_tool_calls = "true",
    presence_penalty = "0",
    previous_response_id = "null",
    prompt = "",
    prompt_cache_key = "null",
    prompt_cache_retention = "",
    reasoning = r#"{"effort":null,"summary":null}"#,
    safety_identifier = "null",
    store = "true",
    temperature = "1.0",
    text = r#"{"format":{"type":"text"}}"#,
    tool_choice = r#""auto""#,
    tools = "[]",
    top_logprobs = "0",
    top_p = "1.0",
    truncation = r#""disabled""#,
    user = "null",
);

/// The members of a request that its answer repeats. An empty default is left out.
fn echo(request: &[u8]) -> String {
    let asked: Asked<'_> = serde_json::from_slice(request).unwrap_or_default();
    let mut out = String::new();
    asked.each(|name, given, default| {
        let value = match (name, given) {
            (_, None) if default.is_empty() => return,
            (_, None) => default.to_owned(),
            ("tools", Some(raw)) => tools(raw),
            ("text", Some(raw)) => with_members(raw, &[("format", r#"{"type":"text"}"#)]),
            ("reasoning", Some(raw)) => with_members(raw, &[("effort", "null"), ("summary", "null")]),
            (_, Some(raw)) => raw.get().to_owned(),
        };
        if !out.is_empty() {
            out.push(',');
        }
        out.push('"');
        out.push_str(name);
        out.push_str("\":");
        out.push_str(&value);
    });
    // An event's data is one line; line ends in JSON are space.
    out.replace(['\n', '\r'], " ")
}

/// Functions with all that clients' types ask for.
fn tools(raw: &RawValue) -> String {
    let Ok(tools) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else { return "[]".to_owned() };
    let whole = tools.into_iter().map(|tool| {
        if super::content::kind(tool) != "function" {
            return tool.get().to_owned();
        }
        with_members(tool, &[("description", "null"), ("parameters", "null"), ("strict", "null")])
    });
    format!("[{}]", whole.collect::<Vec<_>>().join(","))
}

/// An object with these members, should it lack them. What is no object stays as it is.
fn with_members(raw: &RawValue, members: &[(&str, &str)]) -> String {
    type Members<'a> = std::collections::BTreeMap<String, &'a RawValue>;
    let text = raw.get();
    let Ok(known) = serde_json::from_str::<Members<'_>>(text) else { return text.to_owned() };
    let lacking = members.iter().filter(|(name, _)| !known.contains_key(*name));
    let lacking: Vec<String> = lacking.map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
    let Some(inner) = text.strip_suffix('}').filter(|_| !lacking.is_empty()) else { return text.to_owned() };
    let comma = if known.is_empty() { "" } else { "," };
    format!("{inner}{comma}{}}}", lacking.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(request: &Value) -> Value {
        let response = Response::new("resp_1".into(), "m", 7, request.to_string().as_bytes());
        let state = State { status: "in_progress", ..State::default() };
        serde_json::from_str(response.json(&state).get()).unwrap()
    }

    #[test]
    fn what_was_asked_for_is_repeated_and_what_was_not_has_its_default() {
        let plain = object(&json!({"model": "x", "input": "hi"}));
        for (name, value) in [
            ("completed_at", json!(null)),
            ("tools", json!([])),
            ("tool_choice", json!("auto")),
            ("truncation", json!("disabled")),
            ("parallel_tool_calls", json!(true)),
            ("text", json!({"format": {"type": "text"}})),
            ("metadata", json!({})),
            ("store", json!(true)),
            ("error", json!(null)),
            ("usage", json!(null)),
            ("output", json!([])),
        ] {
            assert_eq!(plain.get(name), Some(&value), "{name}");
        }
        assert!(plain.get("prompt").is_none() && plain.get("input").is_none());
        let full = object(&json!({"model": "x", "input": "hi", "temperature": 0.25, "metadata": {"a": "b"},
            "tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}],
            "reasoning": {"effort": "low"}, "text": {"verbosity": "low"}, "service_tier": "auto", "user": null}));
        assert_eq!((&full["temperature"], &full["metadata"]), (&json!(0.25), &json!({"a": "b"})));
        assert_eq!(
            full["tools"],
            json!([{"type": "function", "name": "f", "parameters": {}, "description": null, "strict": null},
                {"type": "web_search"}])
        );
        assert_eq!(full["reasoning"], json!({"effort": "low", "summary": null}));
        assert_eq!(full["text"], json!({"verbosity": "low", "format": {"type": "text"}}));
        assert_eq!((&full["service_tier"], &full["user"]), (&json!("default"), &json!(null)));
        // What was asked for, until it is known what was given.
        let request = json!({"service_tier": "priority"});
        assert_eq!(object(&request)["service_tier"], "priority");
        let response = Response::new("resp_1".into(), "m", 7, request.to_string().as_bytes());
        let state = State { status: "completed", tier: tier(Tier::Standard), ..State::default() };
        let given: Value = serde_json::from_str(response.json(&state).get()).unwrap();
        assert_eq!(given["service_tier"], "default");
    }

    #[test]
    fn nothing_known_of_the_request_is_the_same_as_nothing_asked() {
        for request in ["", "[]", "{\"tools\":3,\"text\":\"x\"}"] {
            let response = Response::new("resp_1".into(), "m", 7, request.as_bytes());
            let json = response.json(&State { status: "completed", ..State::default() });
            let object: Value = serde_json::from_str(json.get()).unwrap();
            assert_eq!(object["tools"], json!([]), "{request}");
        }
    }
}
