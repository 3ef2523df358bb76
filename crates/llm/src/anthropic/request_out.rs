//! A Messages body, written from what is meant.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    answer::object,
    blocks::{Block, Cache, Wire, own, write_messages},
    think::{self, Claude, Thinking, must_call},
};
use crate::{
    canonical::{
        Content, Format, Function, Losses, Message, Part, Request, Role, ServiceTier, Tool, ToolChoice,
    },
    dialect::{Target, extensions},
    schema::{self, Flavor, Room},
};

/// What Anthropic's smallest model answers at most: for models nobody told the limit of.
const DEFAULT_MAX_TOKENS: u64 = 4_096;
/// <https://platform.claude.com/docs/en/build-with-claude/prompt-caching>.
const MAX_MARKS: usize = 4;
/// How `json_object` is asked for, which Anthropic has no field for.
pub(crate) const JSON_ONLY: &str =
    "Answer with a single JSON object and nothing else: no text around it, no code fence.";

#[derive(Serialize, Default)]
pub(super) struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) system: Vec<Block<'a>>,
    pub(super) messages: Vec<Wire<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip)]
    thinks: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(flatten)]
    extensions: BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Serialize)]
struct WireTool<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Cache<'a>,
}

#[derive(Serialize)]
struct Choice<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_parallel_tool_use: bool,
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<OutputFormat<'a>>,
}

#[derive(Serialize)]
struct OutputFormat<'a> {
    r#type: &'static str,
    schema: Cow<'a, RawValue>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

/// The body for a provider.
pub(super) fn encode_request(request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
    let mut body = Body {
        model: target.model,
        max_tokens: max_tokens(request, target, losses),
        stream: request.stream,
        stop_sequences: stops(&request.stop, losses),
        metadata: request.user.as_deref().map(|user_id| Metadata { user_id }),
        service_tier: request.service_tier.and_then(|tier| match tier {
            ServiceTier::Auto => Some("auto"),
            ServiceTier::Standard => Some("standard_only"),
            ServiceTier::Flex | ServiceTier::Priority | ServiceTier::Scale => None,
        }),
        extensions: extensions(&request.extras, losses),
        ..Body::default()
    };
    write_messages(&request.messages, &mut body, losses);
    let claude = Claude::of(target);
    tools(request, claude, &mut body, losses);
    reasoning(request, target, claude, &mut body, losses);
    format(request, &mut body, losses);
    sampling(request, target, &mut body, losses);
    if request.choices.is_some() {
        losses.altered("n");
    }
    if request.logprobs.is_some() {
        losses.dropped("logprobs");
    }
    few_marks(&mut body, losses);
    // Serializing into memory can't fail.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

/// Anthropic takes four marks of what to cache: the last ones reach farthest.
fn few_marks<'a>(body: &mut Body<'a>, losses: &mut Losses) {
    fn mark<'b, 'a>(block: &'b mut Block<'a>, marks: &mut Vec<&'b mut Cache<'a>>) {
        match block {
            Block::ToolResult { content, cache_control, .. } => {
                content.iter_mut().for_each(|inner| mark(inner, marks));
                marks.push(cache_control);
            }
            Block::Text { cache_control, .. }
            | Block::Image { cache_control, .. }
            | Block::Document { cache_control, .. }
            | Block::ToolUse { cache_control, .. } => marks.push(cache_control),
            Block::Thinking { .. } | Block::RedactedThinking { .. } => {}
        }
    }
    let mut marks: Vec<&mut Cache<'a>> = body.tools.iter_mut().map(|tool| &mut tool.cache_control).collect();
    body.system.iter_mut().for_each(|block| mark(block, &mut marks));
    let blocks = body.messages.iter_mut().flat_map(|message| &mut message.content);
    blocks.for_each(|block| mark(block, &mut marks));
    let mut marks: Vec<_> = marks.into_iter().filter(|mark| mark.is_some()).collect();
    let many = marks.len().saturating_sub(MAX_MARKS);
    if many > 0 {
        losses.altered("cache_control");
        marks.iter_mut().take(many).for_each(|mark| **mark = None);
    }
}

fn max_tokens(request: &Request, target: &Target<'_>, losses: &mut Losses) -> u64 {
    match (request.max_output, target.max_output) {
        (Some(asked), _) => asked,
        // No bound means all the model can.
        (None, Some(most)) => most,
        (None, None) => {
            losses.altered("max_tokens");
            DEFAULT_MAX_TOKENS
        }
    }
}

/// Anthropic refuses those of white space only.
fn stops<'a>(stops: &'a [String], losses: &mut Losses) -> Vec<&'a str> {
    let kept: Vec<&str> = stops.iter().map(String::as_str).filter(|s| !s.trim().is_empty()).collect();
    if kept.len() < stops.len() {
        losses.altered("stop");
    }
    kept
}

fn sampling(request: &Request, target: &Target<'_>, body: &mut Body<'_>, losses: &mut Losses) {
    let sampling = &request.sampling;
    for (name, given) in [
        ("frequency_penalty", sampling.frequency_penalty.is_some()),
        ("presence_penalty", sampling.presence_penalty.is_some()),
        ("seed", sampling.seed.is_some()),
    ] {
        if given {
            losses.dropped(name);
        }
    }
    if body.thinks || target.fixed_sampling {
        // A model that thinks, or is new, takes none of these but at their defaults.
        for (name, given) in [
            ("temperature", sampling.temperature.is_some_and(|t| t != 1.0)),
            ("top_p", sampling.top_p.is_some_and(|p| p != 1.0)),
            ("top_k", sampling.top_k.is_some()),
        ] {
            if given {
                losses.dropped(name);
            }
        }
        return;
    }
    if sampling.temperature.is_some_and(|t| t > 1.0) {
        losses.altered("temperature");
    }
    body.temperature = sampling.temperature.map(|t| t.min(1.0));
    // Newer models take one of the two; all of it is what leaving it out means.
    body.top_p = sampling.top_p.filter(|p| *p < 1.0);
    body.top_k = sampling.top_k;
}

fn tools<'a>(request: &'a Request, claude: Claude, body: &mut Body<'a>, losses: &mut Losses) {
    let mut room = Room::default();
    for tool in &request.tools {
        match tool {
            Tool::Function(function) => body.tools.push(wire_tool(function, &mut room, losses)),
            Tool::Foreign { kind, .. } => losses.dropped(&format!("tools.{kind}")),
        }
    }
    if body.tools.is_empty() {
        return;
    }
    let single = request.parallel_tools == Some(false);
    let choice = |r#type, name| Choice { r#type, name, disable_parallel_tool_use: single };
    if let Some((text, only)) = must_call(request, claude) {
        losses.emulated("tool_choice");
        if body.tools.iter().any(|tool| Some(tool.name) == only) {
            body.tools.retain(|tool| Some(tool.name) == only);
        }
        body.system.push(Block::Text { text: text.into(), cache_control: None });
        body.tool_choice = single.then(|| choice("auto", None));
        return;
    }
    body.tool_choice = match &request.tool_choice {
        Some(ToolChoice::Auto) => Some(choice("auto", None)),
        Some(ToolChoice::Required) => Some(choice("any", None)),
        Some(ToolChoice::Named(name)) => Some(choice("tool", Some(name.as_str()))),
        Some(ToolChoice::None) => {
            Some(Choice { r#type: "none", name: None, disable_parallel_tool_use: false })
        }
        None => single.then(|| choice("auto", None)),
    };
}

/// What can't be held to strictly isn't.
fn wire_tool<'a>(function: &'a Function, room: &mut Room, losses: &mut Losses) -> WireTool<'a> {
    let mut strict = function.strict.filter(|strict| *strict);
    let mut input_schema = match &function.schema {
        Some(schema) => Cow::Borrowed(&**schema),
        None => object(r#"{"type":"object","properties":{}}"#),
    };
    if strict.is_some() {
        let compiled = room.compile(&input_schema, Flavor::Anthropic);
        if compiled.altered {
            losses.altered("tools");
        }
        if compiled.supported {
            input_schema = Cow::Owned(compiled.schema);
        } else {
            strict = None;
        }
    }
    WireTool {
        name: &function.name,
        description: function.description.as_deref(),
        input_schema,
        strict,
        cache_control: function.cache.as_ref(),
    }
}

fn reasoning(
    request: &Request,
    target: &Target<'_>,
    claude: Claude,
    body: &mut Body<'_>,
    losses: &mut Losses,
) {
    let most = request.max_output.or(target.max_output);
    let asked = think::asked(request, claude, (!body.tools.is_empty(), most), losses);
    body.thinks = asked.thinks();
    body.max_tokens = asked.max_tokens.unwrap_or(body.max_tokens);
    body.thinking = asked.thinking;
    let effort = asked.effort;
    body.output_config = effort.map(|effort| OutputConfig { effort: Some(effort), format: None });
}

/// Whether the turn that goes on made calls whose thoughts the client lost: Anthropic wants them back when it thinks.
pub(crate) fn calls_without_thoughts(messages: &[Message]) -> bool {
    let is_thought = |p: &Part| matches!(p.content, Content::Thinking(_) | Content::RedactedThinking);
    // A turn that holds nothing but others' thoughts is not sent at all.
    let sent = |m: &&Message| {
        m.role == Role::Assistant && m.parts.iter().any(|p| !is_thought(p) || own(p).is_some())
    };
    let Some(Message { parts, .. }) = messages.iter().rfind(sent) else { return false };
    let called = parts.iter().any(|p| matches!(p.content, Content::ToolUse(_)));
    let thought = parts.iter().any(|p| is_thought(p) && own(p).is_some());
    called && !thought
}

fn format<'a>(request: &'a Request, body: &mut Body<'a>, losses: &mut Losses) {
    match &request.format {
        None => {}
        Some(Format::Json) => {
            losses.emulated("response_format");
            body.system.push(Block::Text { text: JSON_ONLY.into(), cache_control: None });
        }
        Some(Format::Schema { schema, .. }) => {
            let compiled = schema::compile(schema, Flavor::Anthropic);
            if !compiled.supported {
                losses.emulated("response_format");
                let text = schema::instruction(schema).into();
                return body.system.push(Block::Text { text, cache_control: None });
            }
            if compiled.altered {
                losses.altered("response_format");
            }
            let format = Some(OutputFormat { r#type: "json_schema", schema: Cow::Owned(compiled.schema) });
            let effort = body.output_config.as_ref().and_then(|c| c.effort);
            body.output_config = Some(OutputConfig { effort, format });
        }
    }
}
