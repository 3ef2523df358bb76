//! A chat completions body, written from what is meant.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{
    canonical::{
        Content, Format, Function, Losses, Media, Message, Part, Reasoning, Request, Role, ServiceTier,
        Source, Tool, ToolChoice, ToolResult, ToolUse,
    },
    dialect::{Target, extensions},
};

const MAX_STOPS: usize = 4;
/// Name of a schema whose client gave it none.
const SCHEMA_NAME: &str = "answer";

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
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(flatten)]
    extensions: BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Wire<'a> {
    System {
        content: Text<'a>,
    },
    User {
        content: Text<'a>,
    },
    Assistant {
        content: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        refusal: Option<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: String,
    },
}

/// A string where that is all there is, as every provider understands it.
#[derive(Serialize)]
#[serde(untagged)]
enum Text<'a> {
    Plain(Cow<'a, str>),
    Parts(Vec<WirePart<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WirePart<'a> {
    Text { text: Cow<'a, str> },
    ImageUrl { image_url: ImageUrl<'a> },
    InputAudio { input_audio: Audio<'a> },
    File { file: File<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct Audio<'a> {
    data: &'a str,
    format: &'a str,
}

#[derive(Serialize)]
struct File<'a> {
    filename: &'a str,
    file_data: String,
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    r#type: &'static str,
    function: CallFunction<'a>,
}

#[derive(Serialize)]
struct CallFunction<'a> {
    name: &'a str,
    arguments: &'a str,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// The body for a provider, which is asked for usage in any case.
pub(crate) fn encode_request(request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
    let reasons = reasons(target.model);
    let mut body = Body {
        model: target.model,
        stream: request.stream,
        stream_options: request.stream.then_some(StreamOptions { include_usage: true }),
        stop: request.stop.get(..MAX_STOPS).unwrap_or(&request.stop),
        temperature: request.sampling.temperature,
        top_p: request.sampling.top_p,
        frequency_penalty: request.sampling.frequency_penalty,
        presence_penalty: request.sampling.presence_penalty,
        seed: request.sampling.seed,
        response_format: request.format.as_ref().map(|f| format(f, losses)),
        reasoning_effort: request.reasoning.as_ref().and_then(|r| effort(r, reasons, losses)),
        user: request.user.as_deref(),
        service_tier: request.service_tier.map(|tier| match tier {
            ServiceTier::Auto => "auto",
            ServiceTier::Standard => "default",
        }),
        extensions: extensions(&request.extras, losses),
        ..Body::default()
    };
    // Only OpenAI's reasoning models refuse the older name, and only they all know the newer.
    if reasons {
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
    tools(request, &mut body, losses);
    for message in &request.messages {
        write_message(message, &mut body.messages, losses);
    }
    // Serializing into memory can't fail.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

/// OpenAI's models that reason: o1, o3 …, gpt-5 and later.
fn reasons(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let digit = |text: &str| text.bytes().next().filter(u8::is_ascii_digit).map(|b| b - b'0');
    name.strip_prefix('o').and_then(digit).is_some()
        || name.strip_prefix("gpt-").and_then(digit).is_some_and(|n| n >= 5)
}

fn effort(reasoning: &Reasoning, reasons: bool, losses: &mut Losses) -> Option<&'static str> {
    if reasoning.enabled == Some(false) {
        return None;
    }
    if !reasons {
        if reasoning.enabled == Some(true) {
            losses.dropped("thinking");
        }
        if reasoning.effort.is_some() {
            losses.dropped("output_config.effort");
        }
        return None;
    }
    if let Some(effort) = &reasoning.effort {
        return match effort.as_str() {
            "minimal" => Some("minimal"),
            "low" => Some("low"),
            "high" => Some("high"),
            "xhigh" => Some("xhigh"),
            "max" => {
                losses.altered("output_config.effort");
                Some("xhigh")
            }
            _ => Some("medium"),
        };
    }
    let budget = reasoning.budget?;
    losses.altered("thinking.budget_tokens");
    Some(match budget {
        0..2_048 => "low",
        2_048..12_288 => "medium",
        _ => "high",
    })
}

fn format<'a>(format: &'a Format, losses: &mut Losses) -> WireFormat<'a> {
    match format {
        Format::Json => WireFormat::JsonObject,
        Format::Schema { name, schema, strict } => {
            let fits = serde_json::from_str(schema.get()).is_ok_and(|schema| strict_schema(&schema));
            if strict.is_none() && !fits {
                losses.altered("output_config.format");
            }
            let name = name.as_deref().unwrap_or(SCHEMA_NAME);
            WireFormat::JsonSchema { json_schema: Schema { name, schema, strict: strict.or(Some(fits)) } }
        }
    }
}

/// Whether OpenAI takes a schema as strict: every object is closed, and requires all it has.
/// <https://platform.openai.com/docs/guides/structured-outputs#supported-schemas>
fn strict_schema(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            let properties = members.get("properties").and_then(Value::as_object);
            let required = members.get("required").and_then(Value::as_array);
            let closed = properties.is_none_or(|properties| {
                members.get("additionalProperties") == Some(&Value::Bool(false))
                    && required.is_some_and(|required| {
                        properties.keys().all(|name| required.iter().any(|r| r == name.as_str()))
                    })
            });
            closed && members.values().all(strict_schema)
        }
        Value::Array(items) => items.iter().all(strict_schema),
        _ => true,
    }
}

fn tools<'a>(request: &'a Request, body: &mut Body<'a>, losses: &mut Losses) {
    for tool in &request.tools {
        match tool {
            Tool::Function(function) => body.tools.push(wire_tool(function)),
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
        ToolChoice::Named(name) => Choice::Named { r#type: "function", function: Name { name } },
    });
    body.parallel_tool_calls = request.parallel_tools;
}

fn wire_tool(function: &Function) -> WireTool<'_> {
    WireTool {
        r#type: "function",
        function: ToolFunction {
            name: &function.name,
            description: function.description.as_deref(),
            parameters: function.schema.as_deref(),
            strict: function.strict,
        },
    }
}

fn write_message<'a>(message: &'a Message, out: &mut Vec<Wire<'a>>, losses: &mut Losses) {
    match message.role {
        Role::System => out.push(Wire::System { content: Text::Plain(texts(&message.parts).into()) }),
        Role::Assistant => out.push(assistant(&message.parts, losses)),
        Role::User => user(&message.parts, out, losses),
    }
}

fn texts(parts: &[Part]) -> String {
    let texts = parts.iter().filter_map(|part| match &part.content {
        Content::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n\n")
}

fn assistant<'a>(parts: &'a [Part], losses: &mut Losses) -> Wire<'a> {
    let (mut content, mut refusal, mut tool_calls) = (None::<String>, None, Vec::new());
    for part in parts {
        match &part.content {
            Content::Text(text) => content.get_or_insert_default().push_str(text),
            Content::Refusal(text) => refusal = Some(text.as_str()),
            Content::ToolUse(ToolUse { id, name, arguments }) => {
                let function = CallFunction { name, arguments };
                tool_calls.push(Call { id, r#type: "function", function });
            }
            // Another vendor's thoughts mean nothing to this one.
            Content::Thinking(_) | Content::RedactedThinking => {}
            other => losses.dropped(&format!("messages.content.{}", other.kind())),
        }
    }
    if content.is_none() && refusal.is_none() && tool_calls.is_empty() {
        content = Some(String::new());
    }
    Wire::Assistant { content, refusal, tool_calls }
}

/// Results are messages of their own here, and hold text alone: what else is in them follows as the user's.
fn user<'a>(parts: &'a [Part], out: &mut Vec<Wire<'a>>, losses: &mut Losses) {
    let (mut said, mut answered) = (Vec::new(), false);
    for part in parts {
        match &part.content {
            Content::ToolResult(ToolResult { id, parts, is_error }) => {
                answered = true;
                if *is_error {
                    losses.dropped("messages.content.is_error");
                }
                out.push(Wire::Tool { tool_call_id: id, content: texts(parts) });
                let others = parts.iter().filter(|p| !matches!(p.content, Content::Text(_)));
                for other in others {
                    losses.emulated("messages.content.tool_result");
                    said.extend(wire_part(&other.content, losses));
                }
            }
            content => said.extend(wire_part(content, losses)),
        }
    }
    let content = match said.as_mut_slice() {
        [] if answered => return,
        [] => Text::Plain("".into()),
        [WirePart::Text { text }] => Text::Plain(std::mem::take(text)),
        _ => Text::Parts(said),
    };
    out.push(Wire::User { content });
}

fn wire_part<'a>(content: &'a Content, losses: &mut Losses) -> Option<WirePart<'a>> {
    match content {
        Content::Text(text) => return Some(WirePart::Text { text: text.into() }),
        Content::Image(Media { source, detail, .. }) => {
            let url = match source {
                Source::Url(url) => Cow::Borrowed(url.as_str()),
                Source::Data { media_type, data } => format!("data:{media_type};base64,{data}").into(),
                Source::Id(_) | Source::Text(_) => {
                    losses.dropped("messages.content.image.file_id");
                    return None;
                }
            };
            return Some(WirePart::ImageUrl { image_url: ImageUrl { url, detail: detail.as_deref() } });
        }
        Content::Audio(Media { source: Source::Data { media_type, data }, .. }) => {
            let format = media_type.strip_prefix("audio/").unwrap_or(media_type);
            return Some(WirePart::InputAudio { input_audio: Audio { data, format } });
        }
        Content::File(Media { source, name, .. }) => match source {
            Source::Data { media_type, data } => {
                let filename = name.as_deref().unwrap_or("document");
                let file_data = format!("data:{media_type};base64,{data}");
                return Some(WirePart::File { file: File { filename, file_data } });
            }
            Source::Text(text) => {
                losses.emulated("messages.content.document");
                return Some(WirePart::Text { text: text.into() });
            }
            Source::Url(_) | Source::Id(_) => {}
        },
        _ => {}
    }
    losses.dropped(&format!("messages.content.{}", content.kind()));
    None
}
