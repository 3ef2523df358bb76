//! A chat body, written from what is meant. Members that Mistral does not know would be refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::messages::{Wire, Writer};
use crate::{
    canonical::{Format, Function, Losses, Reasoning, Request, Tool, ToolChoice},
    dialect::Target,
};

/// Name of a schema whose client gave it none.
const SCHEMA_NAME: &str = "answer";
/// Members of Mistral that stand for nothing canonical: a client that knows them gets them through.
const OWN: [&str; 4] = ["guardrails", "prediction", "prompt_mode", "safe_prompt"];

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Wire<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    random_seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<WireFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(flatten)]
    extensions: BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Serialize)]
struct WireTool<'a> {
    r#type: &'static str,
    function: ToolFunction<'a>,
}

#[derive(Serialize)]
struct ToolFunction<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    /// Wanted, if only empty.
    parameters: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Word(&'static str),
    Named { r#type: &'static str, function: Name<'a> },
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireFormat<'a> {
    JsonObject,
    JsonSchema { json_schema: Schema<'a> },
}

#[derive(Serialize)]
struct Schema<'a> {
    name: &'a str,
    schema: &'a RawValue,
    strict: bool,
}

/// How a model is told to reason.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thinks {
    /// Always, by a prompt that Mistral adds.
    Natively,
    /// Or not.
    Switched,
    ByLevel,
    Not,
}

impl Thinks {
    /// <https://docs.mistral.ai/capabilities/reasoning>
    fn of(model: &str) -> Self {
        let begins = |names: &[&str]| names.iter().any(|name| model.starts_with(name));
        if begins(&["magistral"]) {
            Self::Natively
        } else if begins(&["mistral-large-4"]) {
            Self::ByLevel
        } else if begins(&[
            "mistral-small-latest",
            "mistral-small-26",
            "mistral-medium-latest",
            "mistral-medium-3-5",
            "mistral-medium-3.5",
            "mistral-medium-26",
        ]) {
            Self::Switched
        } else {
            Self::Not
        }
    }
}

/// The body for a provider. Usage comes unasked.
pub(super) fn encode_request(request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
    let thinks = Thinks::of(target.model);
    let mut body = Body {
        model: target.model,
        messages: Writer::new(thinks != Thinks::Not, losses).conversation(&request.messages),
        stream: request.stream,
        max_tokens: request.max_output,
        stop: &request.stop,
        temperature: request.sampling.temperature,
        top_p: request.sampling.top_p,
        frequency_penalty: request.sampling.frequency_penalty,
        presence_penalty: request.sampling.presence_penalty,
        random_seed: request.sampling.seed.map(i64::unsigned_abs),
        n: request.choices.filter(|n| *n > 1),
        tools: Vec::new(),
        tool_choice: None,
        parallel_tool_calls: None,
        response_format: request.format.as_ref().map(format),
        prompt_mode: None,
        reasoning_effort: None,
        extensions: BTreeMap::new(),
    };
    for (name, raw) in &request.extras {
        if OWN.contains(&name.as_str()) || name.starts_with("x_") {
            body.extensions.insert(name, raw);
        } else {
            losses.dropped(name);
        }
    }
    if let Some(metadata) = &request.metadata {
        body.extensions.insert("metadata", metadata);
    }
    tools(request, &mut body, losses);
    if let Some(reasoning) = &request.reasoning {
        reason(reasoning, thinks, &mut body, losses);
    }
    if request.sampling.seed.is_some_and(i64::is_negative) {
        losses.altered("seed");
    }
    for (name, given) in [
        ("top_k", request.sampling.top_k.is_some()),
        ("logprobs", request.logprobs.is_some()),
        ("user", request.user.is_some()),
    ] {
        if given {
            losses.dropped(name);
        }
    }
    // Serializing into memory can't fail.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

fn reason(reasoning: &Reasoning, thinks: Thinks, body: &mut Body<'_>, losses: &mut Losses) {
    let off = reasoning.enabled == Some(false);
    let level = match (reasoning.effort.as_deref(), reasoning.budget) {
        (Some("minimal" | "low"), _) | (None, Some(0..2_048)) => "low",
        (Some("medium"), _) | (None, Some(2_048..12_288)) => "medium",
        _ => "high",
    };
    match thinks {
        Thinks::Natively if off => losses.dropped("reasoning_effort"),
        Thinks::Natively => {
            if reasoning.effort.is_some() || reasoning.budget.is_some() {
                losses.altered("reasoning_effort");
            }
            if !body.extensions.contains_key("prompt_mode") {
                body.prompt_mode = Some("reasoning");
            }
        }
        Thinks::Switched | Thinks::ByLevel if off => body.reasoning_effort = Some("none"),
        Thinks::Switched | Thinks::ByLevel => {
            let said = if thinks == Thinks::Switched { "high" } else { level };
            if reasoning.effort.as_deref().is_none_or(|effort| effort != said) {
                losses.altered("reasoning_effort");
            }
            body.reasoning_effort = Some(said);
        }
        Thinks::Not if off => {}
        Thinks::Not => losses.dropped("reasoning_effort"),
    }
}

fn format(format: &Format) -> WireFormat<'_> {
    match format {
        Format::Json => WireFormat::JsonObject,
        Format::Schema { name, schema, strict, .. } => {
            let name = name.as_deref().unwrap_or(SCHEMA_NAME);
            WireFormat::JsonSchema { json_schema: Schema { name, schema, strict: strict.unwrap_or(true) } }
        }
    }
}

fn tools<'a>(request: &'a Request, body: &mut Body<'a>, losses: &mut Losses) {
    for tool in &request.tools {
        match tool {
            Tool::Function(function) => body.tools.extend(wire_tool(function)),
            Tool::Foreign { kind, .. } => losses.dropped(&format!("tools.{kind}")),
        }
    }
    if body.tools.is_empty() {
        return;
    }
    body.tool_choice = request.tool_choice.as_ref().map(|choice| match choice {
        ToolChoice::Auto => Choice::Word("auto"),
        ToolChoice::None => Choice::Word("none"),
        ToolChoice::Required => Choice::Word("any"),
        ToolChoice::Named(name) => Choice::Named { r#type: "function", function: Name { name } },
    });
    body.parallel_tool_calls = request.parallel_tools;
}

fn wire_tool(function: &Function) -> Option<WireTool<'_>> {
    let none = || serde_json::from_str::<&RawValue>(r#"{"type":"object","properties":{}}"#).ok();
    let function = ToolFunction {
        name: &function.name,
        description: function.description.as_deref(),
        parameters: function.schema.as_deref().or_else(none)?,
        strict: function.strict.filter(|strict| *strict),
    };
    Some(WireTool { r#type: "function", function })
}
