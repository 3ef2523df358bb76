//! A Responses body, checked as OpenAI checks it: members it doesn't know are refused.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{
    check::{Members, invalid_value, wrong_type},
    items::Reader,
    wire::Form,
};
use crate::{
    error::ApiError,
    faults::Faults,
    request::{Choice, Format, Request, Thinking, Thoughts, Tool, fields::identifier},
    strict,
    tokens::count_text,
};

const KNOWN: &[&str] = &[
    "access_programs",
    "background",
    "context_management",
    "conversation",
    "frequency_penalty",
    "image",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
    "x_sim",
];
const INCLUDABLE: &[&str] = &[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
];
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
const SUMMARIES: &[&str] = &["auto", "concise", "detailed"];
const TIERS: &[&str] = &["auto", "default", "flex", "scale", "priority"];
const LEAST_OUTPUT: u64 = 16;
const PRIMING: u64 = 3;

/// The request, its tokens, and how it is answered.
pub(super) fn parse(body: &[u8]) -> Result<(Request<'static>, u64, Form), ApiError> {
    let Ok(Value::Object(from)) = serde_json::from_slice::<Value>(body) else {
        return Err(ApiError::unreadable());
    };
    if let Some(unknown) = from.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(ApiError::invalid(
            unknown,
            "unknown_parameter",
            format!("Unknown parameter: '{unknown}'."),
        ));
    }
    let members = Members(&from);
    let model = members.text("model")?.ok_or_else(|| ApiError::missing("model"))?.to_owned();
    stateless(&members)?;
    for name in ["user", "safety_identifier"] {
        if let Some(value) = members.text(name)? {
            identifier(value, name)?;
        }
    }
    let mut reader = Reader::default();
    if let Some(instructions) = members.text("instructions")? {
        reader.instructions(instructions);
    }
    reader.input(members.get("input").ok_or_else(|| ApiError::missing("input"))?)?;
    let (tools, tool_choice) = tools(&members)?;
    let declared = members.array("tools")?;
    let tool_tokens = if declared.is_empty() { 0 } else { count_text(&from["tools"].to_string()) };
    let prompt_tokens = reader.tokens + tool_tokens + PRIMING;
    let include = include(&members)?;
    let (thinking, summary) = reasoning(&members)?;
    let top = members.integer("top_logprobs", 0, 20)?.map(|top| usize::try_from(top).unwrap_or(0));
    let logprobs = include.contains(&"message.output_text.logprobs").then(|| top.unwrap_or(0)).or(top);
    let stream_options = members.object("stream_options")?;
    let obfuscated = match &stream_options {
        Some(options) => options.boolean("include_obfuscation")?.unwrap_or(true),
        None => true,
    };
    let encrypted = include.contains(&"reasoning.encrypted_content");
    let form = Form::new(echo(&members)?, logprobs, encrypted, obfuscated);
    let request = Request {
        conversation: reader.conversation,
        stream: members.boolean("stream")?.unwrap_or(false),
        include_usage: true,
        max_tokens: members.integer("max_output_tokens", LEAST_OUTPUT, u64::MAX)?,
        n: 1,
        stops: Vec::new(),
        tools,
        tool_choice,
        parallel_tool_calls: members.boolean("parallel_tool_calls")?.unwrap_or(true),
        format: format(&members)?,
        logprobs,
        seed: None,
        service_tier: "default",
        wish: wish(&members)?,
        thinking,
        thoughts: if summary { Thoughts::Summary } else { Thoughts::Hidden },
        model: Cow::Owned(model),
        marks: None,
        legacy_max_tokens: false,
    };
    Ok((request, prompt_tokens, form))
}

/// Refuses what needs something stored.
fn stateless(members: &Members<'_>) -> Result<(), ApiError> {
    if let Some(id) = members.text("previous_response_id")? {
        let message = format!("Previous response with id '{id}' not found.");
        return Err(ApiError::invalid("previous_response_id", "previous_response_not_found", message));
    }
    if members.boolean("background")?.unwrap_or(false) {
        let message = "Background mode is not supported: the simulator stores no responses.";
        return Err(ApiError::invalid("background", "unsupported_parameter", message));
    }
    for name in ["conversation", "prompt"] {
        if members.get(name).is_some() {
            let message = format!("Unsupported parameter: '{name}': the simulator stores nothing.");
            return Err(ApiError::invalid(name, "unsupported_parameter", message));
        }
    }
    Ok(())
}

fn include<'a>(members: &Members<'a>) -> Result<Vec<&'a str>, ApiError> {
    let mut include = Vec::new();
    for (at, wanted) in members.array("include")?.iter().enumerate() {
        let param = format!("include[{at}]");
        let wanted = wanted.as_str().ok_or_else(|| wrong_type(&param, "a string", wanted))?;
        if !INCLUDABLE.contains(&wanted) {
            return Err(invalid_value(&param, wanted, INCLUDABLE));
        }
        include.push(wanted);
    }
    Ok(include)
}

/// How to think, and whether to sum it up.
fn reasoning(members: &Members<'_>) -> Result<(Thinking, bool), ApiError> {
    let Some(reasoning) = members.object("reasoning")? else { return Ok((Thinking::Usual, false)) };
    let thinking = match reasoning.text("effort")? {
        None => Thinking::Usual,
        Some(effort) => {
            Thinking::at(effort).ok_or_else(|| invalid_value("reasoning.effort", effort, EFFORTS))?
        }
    };
    let summary = match reasoning.text("summary")? {
        Some(summary) => Some(summary),
        None => reasoning.text("generate_summary")?,
    };
    match summary {
        Some(summary) if !SUMMARIES.contains(&summary) => {
            Err(invalid_value("reasoning.summary", summary, SUMMARIES))
        }
        summary => Ok((thinking, summary.is_some())),
    }
}

fn tools(members: &Members<'_>) -> Result<(Vec<Tool>, Choice), ApiError> {
    let mut tools = Vec::new();
    for (at, tool) in members.array("tools")?.iter().enumerate() {
        let missing = |name: &str| ApiError::missing(&format!("tools[{at}].{name}"));
        match tool.get("type").and_then(Value::as_str) {
            Some("function" | "custom") => {}
            Some(_) => continue,
            None => return Err(missing("type")),
        }
        let name = tool.get("name").and_then(Value::as_str).ok_or_else(|| missing("name"))?;
        if tool["type"] == "custom" {
            tools.push(Tool::custom(name));
            continue;
        }
        let parameters = tool.get("parameters").cloned().unwrap_or_default();
        if !parameters.is_null() && !parameters.is_object() {
            return Err(wrong_type(&format!("tools[{at}].parameters"), "an object", &parameters));
        }
        if tool.get("strict") == Some(&json!(true)) {
            let param = format!("tools[{at}].parameters");
            strict::openai(&parameters, &format!("function '{name}'"))
                .map_err(|why| ApiError::invalid(param, "invalid_function_parameters", why))?;
        }
        tools.push(Tool::function(name, parameters));
    }
    let choice = choice(members, &mut tools)?;
    Ok((tools, choice))
}

fn choice(members: &Members<'_>, tools: &mut Vec<Tool>) -> Result<Choice, ApiError> {
    let mode = |mode: &str, param: &str| match mode {
        "none" => Ok(Choice::None),
        "auto" => Ok(Choice::Auto),
        "required" => Ok(Choice::Required),
        other => Err(invalid_value(param, other, &["none", "auto", "required"])),
    };
    let choice = match members.get("tool_choice") {
        None => return Ok(Choice::Auto),
        Some(Value::String(word)) => return mode(word, "tool_choice"),
        Some(choice) => choice,
    };
    match choice["type"].as_str() {
        Some("function" | "custom") => {
            let name = choice["name"].as_str().ok_or_else(|| ApiError::missing("tool_choice.name"))?;
            if tools.iter().any(|tool| tool.name == name) {
                return Ok(Choice::Named(name.to_owned()));
            }
            let message = format!("Tool choice 'function' not found in 'tools' parameter: '{name}'.");
            Err(ApiError::invalid("tool_choice", "", message))
        }
        Some("allowed_tools") => {
            let allowed = choice["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
            tools.retain(|tool| allowed.iter().any(|allowed| allowed["name"] == tool.name));
            mode(choice["mode"].as_str().unwrap_or("auto"), "tool_choice.mode")
        }
        Some(_) => Ok(Choice::Auto),
        None => Err(ApiError::missing("tool_choice.type")),
    }
}

fn format(members: &Members<'_>) -> Result<Format, ApiError> {
    let Some(format) = members.object("text")?.map(|text| text.object("format")).transpose()?.flatten()
    else {
        return Ok(Format::Text);
    };
    match format.text("type")? {
        Some("text") => Ok(Format::Text),
        Some("json_object") => {
            let said = members.get("input").map(Value::to_string).unwrap_or_default();
            if said.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"json")) {
                return Ok(Format::Json);
            }
            let message = "Response input messages must contain the word 'json' in some form to use 'text.format' of \
                           type 'json_object'.";
            Err(ApiError::invalid("input", "", message))
        }
        Some("json_schema") => {
            let name = format.text("name")?.ok_or_else(|| ApiError::missing("text.format.name"))?;
            let schema = format.get("schema").ok_or_else(|| ApiError::missing("text.format.schema"))?;
            if !schema.is_object() {
                return Err(wrong_type("text.format.schema", "an object", schema));
            }
            if format.boolean("strict")? == Some(true) {
                strict::openai(schema, &format!("response_format '{name}'"))
                    .map_err(|why| ApiError::invalid("text.format.schema", "invalid_json_schema", why))?;
            }
            Ok(Format::Schema(schema.clone()))
        }
        Some(other) => Err(invalid_value("text.format.type", other, &["json_object", "json_schema", "text"])),
        None => Err(ApiError::missing("text.format.type")),
    }
}

fn wish(members: &Members<'_>) -> Result<Option<Faults>, ApiError> {
    let invalid =
        |error: String| ApiError::invalid("x_sim", "invalid_value", format!("Invalid 'x_sim': {error}"));
    members.get("x_sim").map(|wish| Faults::wish(&wish.to_string()).map_err(invalid)).transpose()
}

/// What a response says again of its request, with what wasn't said as it is.
fn echo(members: &Members<'_>) -> Result<Map<String, Value>, ApiError> {
    let or = |name: &str, usual: Value| members.get(name).cloned().unwrap_or(usual);
    let within =
        |of: &str, name: &str| members.get(of).and_then(|of| of.get(name)).cloned().unwrap_or_default();
    if let Some(tier) = members.text("service_tier")?
        && !TIERS.contains(&tier)
    {
        return Err(invalid_value("service_tier", tier, TIERS));
    }
    let tools: Vec<Value> = members.array("tools")?.iter().map(declared).collect();
    let mut format = members.get("text").and_then(|text| text.get("format")).cloned();
    if let Some(Value::Object(format)) = &mut format
        && format.get("type").is_some_and(|kind| kind == "json_schema")
    {
        format.entry("strict").or_insert(json!(false));
        format.entry("description").or_insert(Value::Null);
    }
    let verbosity = Some(within("text", "verbosity")).filter(|v| !v.is_null()).unwrap_or(json!("medium"));
    let echo = json!({
        "background": false,
        "frequency_penalty": or("frequency_penalty", json!(0.0)),
        "instructions": or("instructions", Value::Null),
        "max_output_tokens": or("max_output_tokens", Value::Null),
        "max_tool_calls": or("max_tool_calls", Value::Null),
        "metadata": or("metadata", json!({})),
        "parallel_tool_calls": or("parallel_tool_calls", json!(true)),
        "presence_penalty": or("presence_penalty", json!(0.0)),
        "previous_response_id": null,
        "prompt_cache_key": or("prompt_cache_key", Value::Null),
        "prompt_cache_retention": or("prompt_cache_retention", Value::Null),
        "reasoning": {"effort": within("reasoning", "effort"), "summary": within("reasoning", "summary")},
        "safety_identifier": or("safety_identifier", Value::Null),
        "store": or("store", json!(true)),
        "temperature": members.decimal("temperature", 2.0)?.unwrap_or(1.0),
        "text": {"format": format.unwrap_or(json!({"type": "text"})), "verbosity": verbosity},
        "tool_choice": or("tool_choice", json!("auto")),
        "tools": tools,
        "top_logprobs": or("top_logprobs", json!(0)),
        "top_p": members.decimal("top_p", 1.0)?.unwrap_or(1.0),
        "truncation": or("truncation", json!("disabled")),
        "user": or("user", Value::Null),
    });
    match echo {
        Value::Object(echo) => Ok(echo),
        _ => Ok(Map::new()),
    }
}

/// A tool as a response shows it.
fn declared(tool: &Value) -> Value {
    let mut tool = tool.clone();
    if let Value::Object(members) = &mut tool
        && members.get("type").is_some_and(|kind| kind == "function")
    {
        members.entry("strict").or_insert(json!(true));
        members.entry("description").or_insert(Value::Null);
        members.entry("parameters").or_insert(Value::Null);
    }
    tool
}
