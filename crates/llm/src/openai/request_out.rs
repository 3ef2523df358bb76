//! A chat completions body, written from what is meant.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::messages_out::{Wire, carries, messages};
use crate::{
    canonical::{
        Format, Function, Grammar, Losses, Reasoning, Request, Sampling, ServiceTier, Tool, ToolChoice,
    },
    dialect::{Target, extensions},
    ids,
    models::{Effort, Efforts, Thinks, facts},
    schema::{self, Flavor, Room},
};

const MAX_STOPS: usize = 4;
/// Name of a schema whose client gave it none.
const SCHEMA_NAME: &str = "answer";
const MAX_NAME: usize = 64;
/// What models take of which no more is known than that they think.
const THINKING: [Effort; 4] = [Effort::Low, Effort::Medium, Effort::High, Effort::Xhigh];

#[derive(Serialize, Default)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Wire<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
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
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<WireFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(flatten)]
    extensions: BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireTool<'a> {
    Function { function: ToolFunction<'a> },
    Custom { custom: CustomTool<'a> },
}

#[derive(Serialize)]
struct CustomTool<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<WireGrammar<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireGrammar<'a> {
    Grammar { grammar: GrammarText<'a> },
}

#[derive(Serialize)]
struct GrammarText<'a> {
    syntax: &'a str,
    definition: &'a str,
}

#[derive(Serialize)]
struct ToolFunction<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Word(&'static str),
    Function { r#type: &'static str, function: Name<'a> },
    Custom { r#type: &'static str, custom: Name<'a> },
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
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    schema: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// The body for a provider, which is asked for usage in any case.
pub(crate) fn encode_request(request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
    let (sampling, logprobs) = sampling(request, target, losses);
    let mut body = Body {
        model: target.model,
        stream: request.stream,
        stream_options: request.stream.then_some(StreamOptions { include_usage: true }),
        stop: request.stop.get(..MAX_STOPS).unwrap_or(&request.stop),
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        seed: sampling.seed,
        n: request.choices,
        logprobs: logprobs.is_some(),
        top_logprobs: logprobs.filter(|top| *top > 0),
        reasoning_effort: request.reasoning.as_ref().and_then(|r| effort(r, target.model, losses)),
        user: request.user.as_deref().map(|user| ids::user(user, losses)),
        service_tier: request.service_tier.map(ServiceTier::openai),
        metadata: request.metadata.as_deref(),
        extensions: extensions(&request.extras, losses),
        ..Body::default()
    };
    // Only OpenAI's reasoning models refuse the older name, and only they all know the newer.
    if facts(target.model).is_some_and(|facts| facts.max_completion_tokens) {
        body.max_completion_tokens = request.max_output;
    } else {
        body.max_tokens = request.max_output;
    }
    if request.stop.len() > MAX_STOPS {
        losses.altered("stop_sequences");
    }
    if request.sampling.top_k.is_some() {
        losses.dropped("top_k");
    }
    // Others may refuse what they do not know.
    let own = is_openai_s(target.model);
    body.prompt_cache_key = request.cache_key.as_deref().filter(|_| own);
    body.verbosity = request.verbosity.as_deref().filter(|_| own);
    if request.verbosity.is_some() && !own {
        losses.dropped("verbosity");
    }
    tools(request, own, &mut body, losses);
    let custom = request.custom_tools().filter(|_| own).map(|tool| tool.name.as_str()).collect();
    body.messages = messages(&request.messages, &custom, carries(target.model), losses);
    format(request, &mut body, losses);
    // Serializing into memory can't fail.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

/// OpenAI's models that reason: o1, o3 …, gpt-5 and later.
pub(crate) fn reasons(model: &str) -> bool {
    facts(model).is_some_and(|facts| facts.max_completion_tokens && facts.thinks == Some(Thinks::Level))
}

/// A model of OpenAI's that reasons, asked for by the name that OpenAI has for it: it takes all that this dialect has.
pub(super) fn is_openai_s(model: &str) -> bool {
    reasons(model) && !model.contains('/')
}

/// How much to think, as far as the model takes it.
pub(crate) fn effort(reasoning: &Reasoning, model: &str, losses: &mut Losses) -> Option<&'static str> {
    let off = reasoning.enabled == Some(false);
    if !reasons(model) {
        if reasoning.enabled == Some(true) {
            losses.dropped("thinking");
        }
        if reasoning.effort.is_some() && !off {
            losses.dropped("output_config.effort");
        }
        return None;
    }
    let asked = match (&reasoning.effort, reasoning.budget) {
        _ if off => Effort::None,
        (Some(effort), _) => Effort::named(effort).unwrap_or(Effort::Medium),
        (None, Some(budget)) => {
            losses.altered("thinking.budget_tokens");
            match budget {
                0..2_048 => Effort::Low,
                2_048..12_288 => Effort::Medium,
                _ => Effort::High,
            }
        }
        (None, None) => return None,
    };
    let taken = facts(model).and_then(|facts| facts.efforts).unwrap_or_else(|| Efforts::of(&THINKING));
    let taken = taken.nearest(asked);
    match taken {
        None => losses.dropped("reasoning_effort"),
        Some(taken) if taken != asked && off => losses.altered("reasoning_effort"),
        Some(taken) if taken != asked => losses.altered("output_config.effort"),
        Some(_) => {}
    }
    taken.map(Effort::name)
}

/// What of the sampling a model takes. Those that think refuse whatever is not the default.
pub(crate) fn sampling(
    request: &Request,
    target: &Target<'_>,
    losses: &mut Losses,
) -> (Sampling, Option<u64>) {
    let asked = &request.sampling;
    if !target.fixed_sampling {
        return (asked.clone(), request.logprobs);
    }
    for (name, given) in [
        ("temperature", asked.temperature.is_some_and(|t| t != 1.0)),
        ("top_p", asked.top_p.is_some_and(|p| p != 1.0)),
        ("frequency_penalty", asked.frequency_penalty.is_some_and(|p| p != 0.0)),
        ("presence_penalty", asked.presence_penalty.is_some_and(|p| p != 0.0)),
        ("logprobs", request.logprobs.is_some()),
    ] {
        if given {
            losses.dropped(name);
        }
    }
    (Sampling { top_k: asked.top_k, seed: asked.seed, ..Sampling::default() }, None)
}

/// A schema is asked for strictly wherever that can be; what can't be said so is checked when the answer is there.
fn format<'a>(request: &'a Request, body: &mut Body<'a>, losses: &mut Losses) {
    let (name, description, original, strict) = match &request.format {
        None => return,
        Some(Format::Json) => return body.response_format = Some(WireFormat::JsonObject),
        Some(Format::Schema { name, description, schema, strict }) => (name, description, schema, strict),
    };
    let name = schema_name(name.as_deref());
    let description = description.as_deref();
    let json_schema = |schema, strict| {
        Some(WireFormat::JsonSchema { json_schema: Schema { name, description, schema, strict } })
    };
    if strict.is_some() {
        // Its client knows this dialect, and what it asks for.
        return body.response_format = json_schema(Cow::Borrowed(&**original), *strict);
    }
    let compiled = schema::compile(original, Flavor::OpenAi);
    if compiled.supported {
        if compiled.altered {
            losses.altered("response_format");
        }
        body.response_format = json_schema(Cow::Owned(compiled.schema), Some(true));
    } else if is_object(original) {
        losses.altered("response_format");
        body.response_format = json_schema(Cow::Borrowed(&**original), Some(false));
    } else {
        losses.emulated("response_format");
        body.messages.insert(0, Wire::system(schema::instruction(original)));
    }
}

/// As OpenAI takes it.
pub(crate) fn schema_name(name: Option<&str>) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match name.filter(|name| !name.is_empty()) {
        None => SCHEMA_NAME.into(),
        Some(name) if name.len() <= MAX_NAME && name.chars().all(fits) => name.into(),
        Some(name) => name.chars().take(MAX_NAME).map(|c| if fits(c) { c } else { '_' }).collect(),
    }
}

/// Whether a schema's root is an object, which OpenAI insists on.
pub(crate) fn is_object(schema: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Root<'a> {
        #[serde(borrow, rename = "type", default)]
        kind: Cow<'a, str>,
    }
    serde_json::from_str::<Root<'_>>(schema.get()).is_ok_and(|root| root.kind == "object")
}

fn tools<'a>(request: &'a Request, own: bool, body: &mut Body<'a>, losses: &mut Losses) {
    let mut room = Room::default();
    for tool in &request.tools {
        match tool {
            Tool::Function(Function { name, description, custom: Some(custom), .. }) if own => {
                let format = custom.grammar.as_ref().map(|Grammar { syntax, definition }| {
                    WireGrammar::Grammar { grammar: GrammarText { syntax, definition } }
                });
                let custom = CustomTool { name, description: description.as_deref(), format };
                body.tools.push(WireTool::Custom { custom });
            }
            Tool::Function(function) => body.tools.push(wire_tool(function, &mut room, losses)),
            Tool::Foreign { kind, .. } => losses.dropped(&format!("tools.{kind}")),
        }
    }
    if body.tools.is_empty() {
        return;
    }
    body.tool_choice = request.tool_choice.as_ref().map(|choice| match choice {
        ToolChoice::Auto => Choice::Word("auto"),
        ToolChoice::None => Choice::Word("none"),
        ToolChoice::Required => Choice::Word("required"),
        ToolChoice::Named(name) if own && request.custom_tools().any(|tool| tool.name == *name) => {
            Choice::Custom { r#type: "custom", custom: Name { name } }
        }
        ToolChoice::Named(name) => Choice::Function { r#type: "function", function: Name { name } },
    });
    body.parallel_tool_calls = request.parallel_tools;
}

/// What can't be held to strictly isn't.
fn wire_tool<'a>(function: &'a Function, room: &mut Room, losses: &mut Losses) -> WireTool<'a> {
    let mut strict = function.strict;
    if strict == Some(true)
        && let Some(schema) = &function.schema
    {
        let compiled = room.compile(schema, Flavor::OpenAi);
        if compiled.altered || !compiled.supported {
            losses.altered("tools");
            strict = Some(false);
        }
    }
    WireTool::Function {
        function: ToolFunction {
            name: &function.name,
            description: function.description.as_deref(),
            parameters: function.schema.as_deref(),
            strict,
        },
    }
}
