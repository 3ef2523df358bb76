//! A chat body, written from what is meant.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    anthropic::object,
    canonical::{
        Content, Format, Function, Losses, Media, Message, Part, Raw, Reasoning, Request, Role, Source, Tool,
        ToolChoice, ToolResult, ToolUse,
    },
    dialect::Target,
    schema::{self, Flavor},
};

/// Members of Ollama that stand for nothing canonical: a client that knows them gets them through.
const OWN: [&str; 4] = ["keep_alive", "shift", "think", "truncate"];
const OPTIONS: &str = "options";

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Wire<'a>>,
    /// Always said: left out, it is true.
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<WireFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<Think>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u64>,
    #[serde(flatten)]
    extensions: BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Serialize, Default)]
struct Wire<'a> {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    function: CallFunction<'a>,
}

#[derive(Serialize)]
struct CallFunction<'a> {
    index: usize,
    name: &'a str,
    arguments: Cow<'a, RawValue>,
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
    parameters: Cow<'a, RawValue>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireFormat {
    Word(&'static str),
    Schema(Raw),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Think {
    Whether(bool),
    Level(&'static str),
}

/// The body for a provider.
pub(super) fn encode_request(request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
    let mut body = Body {
        model: target.model,
        messages: Vec::with_capacity(request.messages.len()),
        stream: request.stream,
        tools: tools(request, losses),
        format: None,
        think: request.reasoning.as_ref().and_then(|r| think(r, target.model, losses)),
        options: BTreeMap::new(),
        logprobs: request.logprobs.map(|_| true),
        top_logprobs: request.logprobs.filter(|top| *top > 0),
        extensions: BTreeMap::new(),
    };
    passed_on(request, &mut body, losses);
    options(request, &mut body);
    format(request, &mut body, losses);
    let mut names = HashMap::new();
    for message in &request.messages {
        write_message(message, &mut body.messages, &mut names, losses);
    }
    for (name, given) in [
        ("n", request.choices.is_some_and(|n| n > 1)),
        ("user", request.user.is_some()),
        ("parallel_tool_calls", request.parallel_tools == Some(false) && !body.tools.is_empty()),
    ] {
        if given {
            losses.dropped(name);
        }
    }
    // Serializing into memory can't fail.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

/// Members that the client knows from Ollama itself, and extensions.
fn passed_on<'a>(request: &'a Request, body: &mut Body<'a>, losses: &mut Losses) {
    for (name, raw) in &request.extras {
        if name == OPTIONS {
            let own = serde_json::from_str::<BTreeMap<String, &'a RawValue>>(raw.get()).unwrap_or_default();
            body.options = own.into_iter().map(|(name, raw)| (name, Cow::Borrowed(raw))).collect();
        } else if OWN.contains(&name.as_str()) || name.starts_with("x_") {
            if name == "think" {
                body.think = None;
            }
            body.extensions.insert(name, raw);
        } else {
            losses.dropped(name);
        }
    }
    // Left out they are true: the oldest of a long prompt, or of a long answer, would go without a word.
    for name in ["truncate", "shift"] {
        if let Ok(no) = serde_json::from_str::<&RawValue>("false") {
            body.extensions.entry(name).or_insert(no);
        }
    }
}

fn options(request: &Request, body: &mut Body<'_>) {
    let sampling = &request.sampling;
    let mut put = |name: &str, value: Option<serde_json::Value>| {
        if let Some(raw) = value.and_then(|value| to_raw_value(&value).ok()) {
            body.options.insert(name.to_owned(), Cow::Owned(raw));
        }
    };
    put("num_predict", request.max_output.map(Into::into));
    put("temperature", sampling.temperature.map(Into::into));
    put("top_p", sampling.top_p.map(Into::into));
    put("top_k", sampling.top_k.map(Into::into));
    put("seed", sampling.seed.map(Into::into));
    put("frequency_penalty", sampling.frequency_penalty.map(Into::into));
    put("presence_penalty", sampling.presence_penalty.map(Into::into));
    put("stop", (!request.stop.is_empty()).then(|| request.stop.clone().into()));
}

/// What llama.cpp's grammars don't know is left out, and checked when the answer is there.
fn format(request: &Request, body: &mut Body<'_>, losses: &mut Losses) {
    match &request.format {
        None => {}
        Some(Format::Json) => body.format = Some(WireFormat::Word("json")),
        Some(Format::Schema { schema, .. }) => {
            let compiled = schema::compile(schema, Flavor::Ollama);
            if compiled.supported {
                if compiled.altered {
                    losses.altered("response_format");
                }
                body.format = Some(WireFormat::Schema(compiled.schema));
                return;
            }
            losses.emulated("response_format");
            let content = schema::instruction(schema);
            body.messages.push(Wire { role: "system", content, ..Wire::default() });
        }
    }
}

/// Models think or don't; gpt-oss thinks more or less, and always.
fn think(reasoning: &Reasoning, model: &str, losses: &mut Losses) -> Option<Think> {
    let levels = model.contains("gpt-oss");
    if reasoning.enabled == Some(false) {
        return if levels { Some(Think::Level("low")) } else { Some(Think::Whether(false)) };
    }
    let level = match (reasoning.effort.as_deref(), reasoning.budget) {
        (Some("minimal" | "low"), _) | (None, Some(0..2_048)) => "low",
        (Some("high" | "xhigh" | "max"), _) | (None, Some(12_288..)) => "high",
        _ => "medium",
    };
    if levels {
        if reasoning.effort.as_deref().is_none_or(|effort| effort != level) {
            losses.altered("reasoning_effort");
        }
        return Some(Think::Level(level));
    }
    losses.altered("reasoning_effort");
    Some(Think::Whether(true))
}

fn tools<'a>(request: &'a Request, losses: &mut Losses) -> Vec<WireTool<'a>> {
    let mut tools = Vec::with_capacity(request.tools.len());
    for tool in &request.tools {
        match tool {
            Tool::Function(function) => tools.push(wire_tool(function)),
            Tool::Foreign { kind, .. } => losses.dropped(&format!("tools.{kind}")),
        }
    }
    match &request.tool_choice {
        // What isn't declared isn't called.
        Some(ToolChoice::None) => tools.clear(),
        Some(ToolChoice::Named(name)) if !tools.is_empty() => {
            losses.altered("tool_choice");
            tools.retain(|tool| tool.function.name == name);
        }
        Some(ToolChoice::Required) if !tools.is_empty() => losses.dropped("tool_choice"),
        _ => {}
    }
    tools
}

fn wire_tool(function: &Function) -> WireTool<'_> {
    WireTool {
        r#type: "function",
        function: ToolFunction {
            name: &function.name,
            description: function.description.as_deref(),
            parameters: match &function.schema {
                Some(schema) => Cow::Borrowed(schema),
                None => object(r#"{"type":"object","properties":{}}"#),
            },
        },
    }
}

/// `names` are those of the tools that were called, by the ids of the calls.
fn write_message<'a>(
    message: &'a Message,
    out: &mut Vec<Wire<'a>>,
    names: &mut HashMap<&'a str, &'a str>,
    losses: &mut Losses,
) {
    let mut wire = Wire {
        role: match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        },
        ..Wire::default()
    };
    let mut answered = false;
    for part in &message.parts {
        if part.opaque.is_some() {
            losses.dropped("thinking");
        }
        match &part.content {
            Content::ToolResult(result) => {
                answered = true;
                out.push(result_message(result, names, &mut wire, losses));
            }
            Content::ToolUse(ToolUse { id, name, arguments }) => {
                names.insert(id, name);
                let function =
                    CallFunction { index: wire.tool_calls.len(), name, arguments: object(arguments) };
                wire.tool_calls.push(Call { id, function });
            }
            // Another vendor's thoughts mean nothing to this one's models.
            Content::Thinking(text) if part.opaque.is_none() => wire.thinking = Some(text),
            Content::Thinking(_) | Content::RedactedThinking => {}
            _ => say(part, &mut wire, losses),
        }
    }
    if !answered || !wire.content.is_empty() || !wire.images.is_empty() {
        out.push(wire);
    }
}

fn say<'a>(part: &'a Part, wire: &mut Wire<'a>, losses: &mut Losses) {
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => {
            if !wire.content.is_empty() && wire.role != "assistant" {
                wire.content.push_str("\n\n");
            }
            wire.content.push_str(text);
        }
        Content::Image(Media { source: Source::Data { data, .. }, detail, .. }) => {
            if detail.as_deref().is_some_and(|d| d != "auto") {
                losses.dropped("messages.content.image_url.detail");
            }
            wire.images.push(data);
        }
        // Ollama fetches nothing.
        Content::Image(_) => losses.dropped("messages.content.image_url.url"),
        Content::File(Media { source: Source::Text(text), .. }) => {
            losses.emulated("messages.content.document");
            wire.content.push_str("\n\n");
            wire.content.push_str(text);
        }
        other => losses.dropped(&format!("messages.content.{}", other.kind())),
    }
}

/// A message of its own; what isn't text in it follows as the user's.
fn result_message<'a>(
    result: &'a ToolResult,
    names: &HashMap<&'a str, &'a str>,
    after: &mut Wire<'a>,
    losses: &mut Losses,
) -> Wire<'a> {
    if result.is_error {
        losses.dropped("messages.content.is_error");
    }
    let mut wire = Wire {
        role: "tool",
        tool_name: names.get(result.id.as_str()).copied(),
        tool_call_id: Some(&result.id),
        ..Wire::default()
    };
    for part in &result.parts {
        match &part.content {
            Content::Text(_) | Content::Refusal(_) => say(part, &mut wire, losses),
            _ => {
                losses.emulated("messages.content.tool_result");
                say(part, after, losses);
            }
        }
    }
    wire
}
