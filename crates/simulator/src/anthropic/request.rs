//! A Messages body, checked as Anthropic checks it: members it doesn't know are refused.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Version, blocks::Reader, count::prompt_tokens};
use crate::{
    cache::{End, FIVE_MINUTES_MS, HOUR_MS},
    error::ApiError,
    faults::Faults,
    models::is_adaptive,
    request::{Choice, Format, Request, Thinking, Thoughts, Tool},
    seed::hash,
    strict,
};

const KNOWN: &[&str] = &[
    "model",
    "max_tokens",
    "messages",
    "system",
    "stream",
    "stop_sequences",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "output_format",
    "metadata",
    "service_tier",
    "cache_control",
    "container",
    "context_management",
    "mcp_servers",
    "inference_geo",
    "speed",
    "thread",
    "x_sim",
];
/// <https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai>
const VERTEX_VERSION: &str = "vertex-2023-10-16";
/// The code of the refusal after which clients send the whole conversation.
pub(super) const THREADS: &str = "thread_unsupported_request";
const SAMPLING: [&str; 3] = ["temperature", "top_p", "top_k"];
const MOST_CACHE_MARKS: usize = 4;
const LEAST_BUDGET: u64 = 1_024;
/// They refuse to be told that they must call a tool:
/// <https://platform.claude.com/docs/en/models/opus-5-5/whats-new-opus-5-5>.
pub(crate) const UNFORCED: [&str; 3] = ["claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-1"];
const EFFORTS: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];

pub(super) fn invalid(at: &str, what: &str) -> ApiError {
    ApiError::invalid(at, "", format!("{at}: {what}"))
}

/// A body that was read.
pub(super) struct Read<'a> {
    pub(super) request: Request<'a>,
    pub(super) prompt_tokens: u64,
    /// Thoughts are to be signed and not shown.
    pub(super) omitted: bool,
}

pub(super) fn parse(body: &[u8], version: Version) -> Result<Read<'static>, ApiError> {
    read(&members(body)?, version, true)
}

pub(super) fn parse_for_count(body: &[u8], version: Version) -> Result<Read<'static>, ApiError> {
    read(&members(body)?, version, false)
}

/// A body as Vertex takes it: it has the version, and the path the model.
pub(super) fn parse_on_vertex(body: &[u8], model: &str) -> Result<Read<'static>, ApiError> {
    let mut from = members(body)?;
    if from.contains_key("model") {
        return Err(invalid("model", "Extra inputs are not permitted"));
    }
    match from.remove("anthropic_version") {
        Some(Value::String(version)) if version == VERTEX_VERSION => {}
        Some(_) => return Err(invalid("anthropic_version", "Input should be 'vertex-2023-10-16'")),
        None => return Err(invalid("anthropic_version", "Field required")),
    }
    from.insert("model".to_owned(), model.into());
    read(&from, Version::V2023, true)
}

fn members(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(from)) => Ok(from),
        _ => Err(ApiError::invalid("", "", "The request body is not valid JSON")),
    }
}

fn read(from: &Map<String, Value>, version: Version, answered: bool) -> Result<Read<'static>, ApiError> {
    if from.get("thread").is_some_and(|thread| !thread.is_null()) {
        let message = "thread: this server holds no conversations";
        return Err(ApiError::invalid("thread", THREADS, message));
    }
    if let Some(unknown) = from.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(invalid(unknown, "Extra inputs are not permitted"));
    }
    if let Some(gone) = SAMPLING.iter().find(|name| version == Version::V2026 && from.contains_key(**name)) {
        return Err(invalid(gone, "Extra inputs are not permitted"));
    }
    let text = |name: &str| from.get(name).and_then(Value::as_str);
    let gone = SAMPLING
        .iter()
        .find(|name| from.contains_key(**name) && is_adaptive(text("model").unwrap_or_default()));
    if let Some(gone) = gone {
        return Err(ApiError::invalid(*gone, "", format!("`{gone}` is deprecated for this model.")));
    }
    let model = text("model").ok_or_else(|| invalid("model", "Field required"))?.to_owned();
    let max_tokens = match from.get("max_tokens").map(Value::as_u64) {
        Some(Some(n)) if n > 0 => Some(n),
        None if !answered => None,
        None => return Err(invalid("max_tokens", "Field required")),
        _ => return Err(invalid("max_tokens", "Input should be greater than or equal to 1")),
    };
    check_cache_marks(from)?;
    let tools = tools(from)?;
    let (tool_choice, parallel_tool_calls) = tool_choice(from, &tools)?;
    let thinking = thinking(from, max_tokens, &tool_choice)?;
    let thinks = matches!(thinking, Thinking::On { .. });
    // Who decides himself how much to think does not insist on it.
    let manual = from.get("thinking").is_some_and(|thinking| thinking["type"] == "enabled");
    let mut reader = Reader::new(thinks && manual && !tools.is_empty());
    if let Some(system) = from.get("system") {
        reader.system(system)?;
    }
    let messages = from.get("messages").and_then(Value::as_array);
    let messages = messages.ok_or_else(|| invalid("messages", "Field required"))?;
    if messages.is_empty() {
        return Err(invalid("messages", "at least one message is required"));
    }
    for (at, message) in messages.iter().enumerate() {
        reader.message(message, &format!("messages.{at}"))?;
    }
    let prompt_tokens = prompt_tokens(from);
    let display = from.get("thinking").and_then(|thinking| thinking.get("display")).and_then(Value::as_str);
    let omitted = match display {
        None => is_adaptive(&model),
        Some("summarized") => false,
        Some("omitted") => true,
        Some(_) => return Err(invalid("thinking.display", "Input should be 'summarized' or 'omitted'")),
    };
    let request = Request {
        conversation: reader.finish()?,
        stream: from.get("stream").and_then(Value::as_bool).unwrap_or(false),
        include_usage: true,
        max_tokens,
        n: 1,
        stops: stops(from)?,
        tools,
        tool_choice,
        parallel_tool_calls,
        format: format(from)?,
        logprobs: None,
        seed: None,
        service_tier: "standard",
        wish: wish(from)?,
        thinking,
        thoughts: Thoughts::Whole,
        marks: Some((ends(from, messages), least_cached(&model))),
        model: Cow::Owned(model),
        legacy_max_tokens: false,
    };
    Ok(Read { request, prompt_tokens, omitted })
}

fn marks(value: &Value) -> usize {
    match value {
        Value::Object(members) => {
            usize::from(members.get("cache_control").is_some_and(Value::is_object))
                + members.values().map(marks).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(marks).sum(),
        _ => 0,
    }
}

fn check_cache_marks(from: &Map<String, Value>) -> Result<(), ApiError> {
    let marks: usize = from.values().map(marks).sum();
    if marks <= MOST_CACHE_MARKS {
        return check_ttls(from);
    }
    let text =
        format!("A maximum of {MOST_CACHE_MARKS} blocks with cache_control may be provided. Found {marks}.");
    Err(ApiError::invalid("cache_control", "", text))
}

/// What is cached for longer stands before the rest.
fn check_ttls(from: &Map<String, Value>) -> Result<(), ApiError> {
    let messages = from.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut short = false;
    for ttl in ends(from, messages).iter().filter_map(|end| end.ttl_ms) {
        if short && ttl == HOUR_MS {
            let text = "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. Note that \
                        blocks are processed in the following order: `tools`, `system`, `messages`.";
            return Err(invalid("cache_control.ttl", text));
        }
        short |= ttl == FIVE_MINUTES_MS;
    }
    Ok(())
}

/// Tokens there must be at least for the cache: <https://platform.claude.com/docs/en/build-with-claude/prompt-caching>.
fn least_cached(model: &str) -> u64 {
    match model {
        "claude-opus-4-5" | "claude-haiku-4-5" => 4_096,
        "claude-3-5-haiku-latest" => 2_048,
        _ => 1_024,
    }
}

/// Where the blocks of a prompt end, in the order that the cache knows: tools, system, messages.
fn ends(from: &Map<String, Value>, messages: &[Value]) -> Vec<End> {
    let list = |value: Option<&Value>| match value {
        Some(Value::Array(blocks)) => blocks.clone(),
        Some(text @ Value::String(_)) => vec![text.clone()],
        _ => Vec::new(),
    };
    let mut blocks = list(from.get("tools"));
    blocks.extend(list(from.get("system")));
    for message in messages {
        blocks.extend(list(message.get("content")));
    }
    let model = from.get("model").and_then(Value::as_str).unwrap_or_default();
    let (mut digest, mut bytes) = (hash(0, model.as_bytes()), 0);
    let mut ends = Vec::with_capacity(blocks.len());
    for mut block in blocks {
        let mark = block.as_object_mut().and_then(|block| block.remove("cache_control"));
        let ttl_ms = mark
            .filter(Value::is_object)
            .map(|mark| if mark["ttl"] == "1h" { HOUR_MS } else { FIVE_MINUTES_MS });
        let text = match &block {
            // However it is written.
            Value::String(text) => text.clone(),
            _ if block["type"] == "text" => block["text"].as_str().unwrap_or_default().to_owned(),
            _ => block.to_string(),
        };
        (digest, bytes) = (hash(digest, text.as_bytes()), bytes + text.len());
        ends.push(End { digest, bytes, ttl_ms });
    }
    if from.get("cache_control").is_some_and(Value::is_object)
        && let Some(last) = ends.last_mut()
    {
        let hour = from["cache_control"]["ttl"] == "1h";
        last.ttl_ms = Some(if hour { HOUR_MS } else { FIVE_MINUTES_MS });
    }
    ends
}

fn tools(from: &Map<String, Value>) -> Result<Vec<Tool>, ApiError> {
    let declared = from.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut tools: Vec<Tool> = Vec::with_capacity(declared.len());
    for (at, tool) in declared.iter().enumerate() {
        let kind = tool.get("type").and_then(Value::as_str).unwrap_or("custom");
        if kind != "custom" {
            continue;
        }
        let missing = |field: &str| invalid(&format!("tools.{at}.custom.{field}"), "Field required");
        let name = tool.get("name").and_then(Value::as_str).ok_or_else(|| missing("name"))?;
        let schema =
            tool.get("input_schema").filter(|s| s.is_object()).ok_or_else(|| missing("input_schema"))?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
        if name.is_empty() || name.len() > 128 || !name.bytes().all(fits) {
            let text = "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'";
            return Err(invalid(&format!("tools.{at}.custom.name"), text));
        }
        if schema["type"] != "object" {
            return Err(invalid(&format!("tools.{at}.custom.input_schema.type"), "Field required"));
        }
        if tool.get("strict") == Some(&Value::Bool(true)) {
            strict::anthropic(schema).map_err(|why| invalid(&format!("tools.{at}.custom"), &why))?;
        }
        if tools.iter().any(|known| known.name == name) {
            return Err(invalid("tools", "Tool names must be unique."));
        }
        tools.push(Tool::function(name, schema.clone()));
    }
    Ok(tools)
}

fn tool_choice(from: &Map<String, Value>, tools: &[Tool]) -> Result<(Choice, bool), ApiError> {
    let Some(choice) = from.get("tool_choice") else { return Ok((Choice::Auto, true)) };
    let single = choice.get("disable_parallel_tool_use").and_then(Value::as_bool).unwrap_or(false);
    if from.get("tools").is_none() {
        return Err(invalid("tool_choice", "tool_choice may only be specified while providing tools"));
    }
    let name = choice.get("name").and_then(Value::as_str).unwrap_or_default();
    let model = from.get("model").and_then(Value::as_str).unwrap_or_default();
    let forced = matches!(choice.get("type").and_then(Value::as_str), Some("any" | "tool"));
    if forced && UNFORCED.iter().any(|family| model.starts_with(family)) {
        let text = "tool_choice: type \"tool\" and \"any\" are not supported for this model.";
        return Err(ApiError::invalid("tool_choice", "", text));
    }
    let choice = match choice.get("type").and_then(Value::as_str) {
        Some("auto") => Choice::Auto,
        Some("none") => Choice::None,
        Some("any") => Choice::Required,
        Some("tool") if tools.iter().any(|tool| tool.name == name) => Choice::Named(name.to_owned()),
        Some("tool") => {
            return Err(invalid("tool_choice", &format!("Tool '{name}' not found in provided tools")));
        }
        _ => return Err(invalid("tool_choice.type", "Field required")),
    };
    Ok((choice, !single))
}

/// The budget, when it is to think.
fn thinking(
    from: &Map<String, Value>,
    max_tokens: Option<u64>,
    choice: &Choice,
) -> Result<Thinking, ApiError> {
    let Some(thinking) = from.get("thinking") else { return Ok(Thinking::Off) };
    let model = from.get("model").and_then(Value::as_str).unwrap_or_default();
    let budget = match thinking.get("type").and_then(Value::as_str) {
        Some("enabled") if is_adaptive(model) => {
            let text = "\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \
                        \"output_config.effort\" to control thinking behavior.";
            return Err(ApiError::invalid("thinking", "", text));
        }
        Some("enabled") => {
            let budget = thinking.get("budget_tokens").and_then(Value::as_u64);
            budget.ok_or_else(|| invalid("thinking.enabled.budget_tokens", "Field required"))?
        }
        Some("adaptive") => LEAST_BUDGET,
        Some(off @ ("disabled" | "between_tools")) => return thinks_not(from, model, off),
        _ => return Err(invalid("thinking.type", "Input tag is not one of the expected tags")),
    };
    if budget < LEAST_BUDGET {
        let text = "Input should be greater than or equal to 1024";
        return Err(invalid("thinking.enabled.budget_tokens", text));
    }
    if max_tokens.is_some_and(|max| max <= budget && max < u64::MAX) && from["thinking"]["type"] == "enabled"
    {
        return Err(invalid("max_tokens", "`max_tokens` must be greater than `thinking.budget_tokens`"));
    }
    if matches!(choice, Choice::Required | Choice::Named(_)) && from["thinking"]["type"] == "enabled" {
        return Err(invalid("tool_choice", "Thinking may not be enabled when tool_choice forces tool use."));
    }
    let temperature = from.get("temperature").and_then(Value::as_f64);
    if temperature.is_some_and(|t| (t - 1.0).abs() > f64::EPSILON) {
        return Err(invalid("temperature", "`temperature` may only be set to 1 when thinking is enabled"));
    }
    Ok(Thinking::On { effort: 1, budget: Some(budget) })
}

/// How each model is told not to think, if it can be.
fn thinks_not(from: &Map<String, Value>, model: &str, off: &str) -> Result<Thinking, ApiError> {
    let way = match model {
        _ if model.starts_with("claude-opus-5-5") => None,
        _ if model.starts_with("claude-sonnet-5-5") => Some("between_tools"),
        _ => Some("disabled"),
    };
    if way != Some(off) {
        let text = format!(
            "\"thinking.type.{off}\" is not supported for this model. Use \"thinking.type.{}\" and \
             \"output_config.effort\" to control thinking behavior.",
            way.unwrap_or("adaptive")
        );
        return Err(ApiError::invalid("thinking", "", text));
    }
    let effort = from.get("output_config").and_then(|config| config.get("effort")).and_then(Value::as_str);
    if effort.is_some_and(|effort| matches!(effort, "xhigh" | "max")) {
        return Err(invalid("output_config.effort", "not supported when thinking is off"));
    }
    Ok(Thinking::Off)
}

fn stops(from: &Map<String, Value>) -> Result<Vec<Cow<'static, str>>, ApiError> {
    let temperature = from.get("temperature").and_then(Value::as_f64);
    if temperature.is_some_and(|t| !(0.0..=1.0).contains(&t)) {
        return Err(invalid("temperature", "range: 0..1"));
    }
    let stops = from.get("stop_sequences").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut found = Vec::with_capacity(stops.len());
    for stop in stops.iter().filter_map(Value::as_str) {
        if stop.trim().is_empty() {
            return Err(invalid("stop_sequences", "each stop sequence must contain non-whitespace"));
        }
        found.push(Cow::Owned(stop.to_owned()));
    }
    Ok(found)
}

fn format(from: &Map<String, Value>) -> Result<Format, ApiError> {
    let config = from.get("output_config");
    if let Some(effort) = config.and_then(|config| config.get("effort")).and_then(Value::as_str)
        && !EFFORTS.contains(&effort)
    {
        let text = "Input should be 'low', 'medium', 'high', 'xhigh' or 'max'";
        return Err(invalid("output_config.effort", text));
    }
    let there = |format: &&Value| !format.is_null();
    let (format, at) = match (
        config.and_then(|config| config.get("format")).filter(there),
        from.get("output_format").filter(there),
    ) {
        (Some(format), _) => (format, "output_config.format"),
        (None, Some(format)) => (format, "output_format"),
        (None, None) => return Ok(Format::Text),
    };
    if format.get("type").and_then(Value::as_str) != Some("json_schema") {
        return Err(invalid(&format!("{at}.type"), "Input should be 'json_schema'"));
    }
    let at = format!("{at}.schema");
    let schema =
        format.get("schema").filter(|s| s.is_object()).ok_or_else(|| invalid(&at, "Field required"))?;
    strict::anthropic(schema).map_err(|why| invalid(&at, &why))?;
    Ok(Format::Schema(schema.clone()))
}

fn wish(from: &Map<String, Value>) -> Result<Option<Faults>, ApiError> {
    let Some(wish) = from.get("x_sim") else { return Ok(None) };
    Faults::wish(&wish.to_string()).map(Some).map_err(|error| invalid("x_sim", &error))
}
