//! A Messages body, written from what is meant.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::answer::object;
use crate::{
    canonical::{
        Content, Format, Function, Losses, Media, Message, Part, Raw, Request, Role, ServiceTier, Source,
        Tool, ToolChoice, ToolUse, Vendor,
    },
    dialect::{Target, extensions},
    ids,
    schema::{self, Flavor},
};

/// What Anthropic's smallest model answers at most: for models nobody told the limit of.
const DEFAULT_MAX_TOKENS: u64 = 4_096;
/// Anthropic takes no less: <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>.
const MIN_BUDGET: u64 = 1_024;
/// <https://platform.claude.com/docs/en/build-with-claude/prompt-caching>.
const MAX_MARKS: usize = 4;
/// How `json_object` is asked for, which Anthropic has no field for.
pub(crate) const JSON_ONLY: &str =
    "Answer with a single JSON object and nothing else: no text around it, no code fence.";

#[derive(Serialize, Default)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Wire<'a>>,
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
struct Wire<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

type Cache<'a> = Option<&'a Raw>;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Cache<'a>,
    },
    Image {
        source: WireSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Cache<'a>,
    },
    Document {
        source: WireSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Cache<'a>,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: Cow<'a, RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Cache<'a>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Cache<'a>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireSource<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
    Text { media_type: &'static str, data: &'a str },
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
#[serde(tag = "type", rename_all = "snake_case")]
enum Thinking {
    Adaptive,
    Enabled { budget_tokens: u64 },
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
        service_tier: request.service_tier.map(|tier| match tier {
            ServiceTier::Auto => "auto",
            ServiceTier::Standard => "standard_only",
        }),
        extensions: extensions(&request.extras, losses),
        ..Body::default()
    };
    write_messages(&request.messages, &mut body, losses);
    tools(request, &mut body, losses);
    reasoning(request, target, &mut body, losses);
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
    if body.thinking.is_some() || target.fixed_sampling {
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

fn tools<'a>(request: &'a Request, body: &mut Body<'a>, losses: &mut Losses) {
    for tool in &request.tools {
        match tool {
            Tool::Function(function) => body.tools.push(wire_tool(function, losses)),
            Tool::Foreign { kind, .. } => losses.dropped(&format!("tools.{kind}")),
        }
    }
    if body.tools.is_empty() {
        return;
    }
    let single = request.parallel_tools == Some(false);
    let choice = |r#type, name| Choice { r#type, name, disable_parallel_tool_use: single };
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
fn wire_tool<'a>(function: &'a Function, losses: &mut Losses) -> WireTool<'a> {
    let mut strict = function.strict.filter(|strict| *strict);
    let mut input_schema = match &function.schema {
        Some(schema) => Cow::Borrowed(&**schema),
        None => object(r#"{"type":"object","properties":{}}"#),
    };
    if strict.is_some() {
        let compiled = schema::compile(&input_schema, Flavor::Anthropic);
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

/// Levels become what the model takes: a level, or a budget. Left out, and named, where Anthropic would refuse it.
fn reasoning(request: &Request, target: &Target<'_>, body: &mut Body<'_>, losses: &mut Losses) {
    let Some(reasoning) = request.reasoning.as_ref().filter(|r| r.enabled != Some(false)) else { return };
    let forced = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    if forced || (!body.tools.is_empty() && calls_without_thoughts(&request.messages)) {
        return losses.dropped("reasoning_effort");
    }
    let effort = reasoning.effort.as_deref();
    if target.adaptive_thinking {
        body.thinking = Some(Thinking::Adaptive);
        let effort = effort.map(|effort| match effort {
            "minimal" | "low" => "low",
            "high" => "high",
            "xhigh" => "xhigh",
            "max" => "max",
            _ => "medium",
        });
        body.output_config = effort.map(|effort| OutputConfig { effort: Some(effort), format: None });
        return;
    }
    let budget = reasoning.budget.unwrap_or(match effort {
        Some("minimal" | "low") => MIN_BUDGET,
        Some("high") => 16_384,
        Some("xhigh" | "max") => 32_768,
        _ => 4_096,
    });
    if request.max_output.is_none() && target.max_output.is_none() {
        body.max_tokens += budget;
    }
    let budget = budget.min(body.max_tokens.saturating_sub(1));
    if budget < MIN_BUDGET {
        return losses.dropped("reasoning_effort");
    }
    if reasoning.budget != Some(budget) {
        losses.altered("reasoning_effort");
    }
    body.thinking = Some(Thinking::Enabled { budget_tokens: budget });
}

/// Whether the turn that goes on made calls whose thoughts the client lost: Anthropic wants them back when it thinks.
pub(crate) fn calls_without_thoughts(messages: &[Message]) -> bool {
    let Some([.., Message { role: Role::Assistant, parts }]) =
        messages.iter().rposition(|m| m.role == Role::Assistant).and_then(|at| messages.get(..=at))
    else {
        return false;
    };
    let called = parts.iter().any(|p| matches!(p.content, Content::ToolUse(_)));
    let thought = parts
        .iter()
        .any(|p| matches!(p.content, Content::Thinking(_) | Content::RedactedThinking) && own(p).is_some());
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

/// Roles take turns, and instructions stand apart from them.
fn write_messages<'a>(messages: &'a [Message], body: &mut Body<'a>, losses: &mut Losses) {
    for message in messages {
        let role = match message.role {
            Role::System => {
                if !body.messages.is_empty() {
                    losses.altered("messages.role.system");
                }
                body.system.extend(blocks(&message.parts, losses));
                continue;
            }
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let content = blocks(&message.parts, losses);
        if content.is_empty() {
            continue;
        }
        match body.messages.last_mut().filter(|last| last.role == role) {
            Some(last) => last.content.extend(content),
            None => body.messages.push(Wire { role, content }),
        }
    }
    for message in &mut body.messages {
        // Results answer the calls before them, so they come first.
        message.content.sort_by_key(|block| !matches!(block, Block::ToolResult { .. }));
    }
    if let Some(Wire { role: "assistant", content }) = body.messages.last_mut()
        && let Some(Block::Text { text, .. }) = content.last_mut()
    {
        // The beginning of an answer may not end with a space.
        *text = text.trim_end().to_owned().into();
    }
    if body.messages.is_empty() && !body.system.is_empty() {
        losses.altered("messages.role.system");
        body.messages.push(Wire { role: "user", content: std::mem::take(&mut body.system) });
    }
}

fn blocks<'a>(parts: &'a [Part], losses: &mut Losses) -> Vec<Block<'a>> {
    parts.iter().filter_map(|part| block(part, losses)).collect()
}

fn block<'a>(part: &'a Part, losses: &mut Losses) -> Option<Block<'a>> {
    let cache_control = part.cache.as_ref();
    let thought = matches!(part.content, Content::Thinking(_) | Content::RedactedThinking);
    if !thought && part.opaque.is_some() {
        // Another vendor's: here only thoughts have state.
        losses.dropped("thinking");
    }
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => {
            // Anthropic refuses empty ones.
            (!text.is_empty()).then(|| Block::Text { text: text.into(), cache_control })
        }
        Content::Image(Media { source, detail, .. }) => {
            if detail.as_deref().is_some_and(|d| d != "auto") {
                losses.dropped("messages.content.image_url.detail");
            }
            source_of(source, losses).map(|source| Block::Image { source, cache_control })
        }
        Content::File(Media { source, name, .. }) => {
            let title = name.as_deref();
            source_of(source, losses).map(|source| Block::Document { source, title, cache_control })
        }
        Content::ToolUse(ToolUse { id, name, arguments }) => {
            let input = object(arguments);
            if matches!(input, Cow::Owned(_)) && !arguments.trim().is_empty() {
                losses.altered("messages.tool_calls.function.arguments");
            }
            Some(Block::ToolUse { id: ids::plain(id), name, input, cache_control })
        }
        Content::ToolResult(result) => Some(Block::ToolResult {
            tool_use_id: ids::plain(&result.id),
            content: blocks(&result.parts, losses),
            is_error: result.is_error,
            cache_control,
        }),
        Content::Thinking(_) | Content::RedactedThinking => {
            let Some(state) = own(part) else {
                // Without its signature, or with another vendor's, it would be refused.
                if part.opaque.is_some() {
                    losses.dropped("thinking");
                }
                return None;
            };
            Some(match &part.content {
                Content::Thinking(thinking) => Block::Thinking { thinking, signature: state },
                _ => Block::RedactedThinking { data: state },
            })
        }
        Content::Audio(_) | Content::Foreign { .. } => {
            losses.dropped(&format!("messages.content.{}", part.content.kind()));
            None
        }
    }
}

/// Anthropic's own state of a part.
fn own(part: &Part) -> Option<&str> {
    let opaque = part.opaque.as_ref().filter(|o| o.vendor == Vendor::Anthropic)?;
    Some(opaque.data.as_str()).filter(|data| !super::state::worthless(data))
}

fn source_of<'a>(source: &'a Source, losses: &mut Losses) -> Option<WireSource<'a>> {
    match source {
        Source::Url(url) => Some(WireSource::Url { url }),
        Source::Data { media_type, data } => Some(WireSource::Base64 { media_type, data }),
        Source::Text(data) => Some(WireSource::Text { media_type: "text/plain", data }),
        Source::Id(_) => {
            losses.dropped("messages.content.file.file_id");
            None
        }
    }
}
