//! A Responses body, written from what is meant.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{ENCRYPTED, LOGPROBS};
use crate::{
    canonical::{
        Content, Custom, Format, Function, Grammar, Losses, Media, Message, Part, Request, Role, ServiceTier,
        Source, Tool, ToolChoice, ToolResult, ToolUse, Vendor,
    },
    dialect::{Target, extensions},
    ids,
    openai::{self, effort, reasons, sampling},
    schema::{self, Flavor, Room},
};

/// OpenAI refuses smaller bounds.
const MIN_OUTPUT: u64 = 16;

#[derive(Serialize, Default)]
struct Body<'a> {
    model: &'a str,
    input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    /// Nobody comes back to it there.
    store: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    include: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Reasoning>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(flatten)]
    extensions: BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item<'a> {
    Message {
        role: &'static str,
        content: Vec<Piece<'a>>,
    },
    FunctionCall {
        call_id: &'a str,
        name: &'a str,
        arguments: Cow<'a, str>,
    },
    FunctionCallOutput {
        call_id: &'a str,
        output: Output<'a>,
    },
    CustomToolCall {
        call_id: &'a str,
        name: &'a str,
        input: Cow<'a, str>,
    },
    CustomToolCallOutput {
        call_id: &'a str,
        output: Output<'a>,
    },
    Reasoning {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        summary: Vec<Summary<'a>>,
        encrypted_content: &'a str,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Output<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<Piece<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Summary<'a> {
    SummaryText { text: &'a str },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    InputText {
        text: Cow<'a, str>,
    },
    OutputText {
        text: &'a str,
        annotations: [(); 0],
    },
    Refusal {
        refusal: &'a str,
    },
    InputImage {
        image_url: Cow<'a, str>,
        detail: &'a str,
    },
    InputFile {
        #[serde(skip_serializing_if = "Option::is_none")]
        filename: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_data: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_url: Option<&'a str>,
    },
    InputAudio {
        input_audio: Audio<'a>,
    },
}

#[derive(Serialize)]
struct Audio<'a> {
    data: &'a str,
    format: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireTool<'a> {
    Function {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        parameters: Option<&'a RawValue>,
        /// Left out it would mean yes.
        strict: bool,
    },
    Custom {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        format: Option<WireGrammar<'a>>,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireGrammar<'a> {
    Grammar { syntax: &'a str, definition: &'a str },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Word(&'static str),
    Named { r#type: &'static str, name: &'a str },
}

#[derive(Serialize)]
struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<WireFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireFormat<'a> {
    JsonObject,
    JsonSchema {
        name: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        schema: Cow<'a, RawValue>,
        strict: bool,
    },
}

#[derive(Serialize)]
struct Reasoning {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'static str>,
}

/// The body for a provider.
pub(super) fn encode_request(request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
    let reasons = reasons(target.model);
    let (sampling, logprobs) = sampling(request, target, losses);
    let mut body = Body {
        model: target.model,
        stream: request.stream,
        max_output_tokens: max_output(request, losses),
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_logprobs: logprobs,
        reasoning: reasoning(request, target.model, losses),
        user: request.user.as_deref().map(|user| ids::user(user, losses)),
        service_tier: request.service_tier.map(ServiceTier::openai),
        prompt_cache_key: request.cache_key.as_deref(),
        metadata: request.metadata.as_deref(),
        extensions: extensions(&request.extras, losses),
        ..Body::default()
    };
    if reasons {
        body.include.push(ENCRYPTED);
    }
    if logprobs.is_some() {
        body.include.push(LOGPROBS);
    }
    lost(request, losses);
    tools(request, &mut body, losses);
    let format = format(request, &mut body, losses);
    let verbosity = request.verbosity.as_deref();
    body.text = (format.is_some() || verbosity.is_some()).then_some(Text { format, verbosity });
    let mut custom =
        Customs { tools: request.custom_tools().map(|t| t.name.as_str()).collect(), ..Customs::default() };
    for message in &request.messages {
        write_message(message, &mut custom, &mut body.input, losses);
    }
    // Serializing into memory can't fail.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

fn max_output(request: &Request, losses: &mut Losses) -> Option<u64> {
    let asked = request.max_output?;
    if asked < MIN_OUTPUT {
        losses.altered("max_tokens");
    }
    Some(asked.max(MIN_OUTPUT))
}

/// What chat completions have, and this has not.
fn lost(request: &Request, losses: &mut Losses) {
    let sampling = &request.sampling;
    for (name, given) in [
        ("stop", !request.stop.is_empty()),
        ("n", request.choices.is_some_and(|n| n > 1)),
        ("top_k", sampling.top_k.is_some()),
        ("frequency_penalty", sampling.frequency_penalty.is_some()),
        ("presence_penalty", sampling.presence_penalty.is_some()),
        ("seed", sampling.seed.is_some()),
    ] {
        if given {
            losses.dropped(name);
        }
    }
}

/// A summary is all that is ever told of the thoughts.
fn reasoning(request: &Request, model: &str, losses: &mut Losses) -> Option<Reasoning> {
    let asked = request.reasoning.as_ref()?;
    let effort = effort(asked, model, losses);
    let summary = (reasons(model) && asked.enabled == Some(true)).then_some("auto");
    (effort.is_some() || summary.is_some()).then_some(Reasoning { effort, summary })
}

/// As OpenAI takes it: strict where that is possible, and in words where a schema is none of an object.
fn format<'a>(request: &'a Request, body: &mut Body<'a>, losses: &mut Losses) -> Option<WireFormat<'a>> {
    let (name, description, original, strict) = match &request.format {
        None => return None,
        Some(Format::Json) => return Some(WireFormat::JsonObject),
        Some(Format::Schema { name, description, schema, strict }) => (name, description, schema, strict),
    };
    let (name, description) = (openai::schema_name(name.as_deref()), description.as_deref());
    let text = |schema, strict| Some(WireFormat::JsonSchema { name, description, schema, strict });
    if *strict == Some(false) {
        return text(Cow::Borrowed(&**original), false);
    }
    let compiled = schema::compile(original, Flavor::OpenAi);
    if compiled.supported {
        if compiled.altered {
            losses.altered("response_format");
        }
        text(Cow::Owned(compiled.schema), true)
    } else if openai::is_object(original) {
        losses.altered("response_format");
        text(Cow::Borrowed(&**original), false)
    } else {
        losses.emulated("response_format");
        let content = vec![Piece::InputText { text: schema::instruction(original).into() }];
        body.input.push(Item::Message { role: "system", content });
        None
    }
}

fn tools<'a>(request: &'a Request, body: &mut Body<'a>, losses: &mut Losses) {
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
    body.tool_choice = request.tool_choice.as_ref().map(|choice| match choice {
        ToolChoice::Auto => Choice::Word("auto"),
        ToolChoice::None => Choice::Word("none"),
        ToolChoice::Required => Choice::Word("required"),
        ToolChoice::Named(name) if request.custom_tools().any(|tool| tool.name == *name) => {
            Choice::Named { r#type: "custom", name }
        }
        ToolChoice::Named(name) => Choice::Named { r#type: "function", name },
    });
    body.parallel_tool_calls = request.parallel_tools;
}

fn wire_tool<'a>(function: &'a Function, room: &mut Room, losses: &mut Losses) -> WireTool<'a> {
    let (name, description) = (function.name.as_str(), function.description.as_deref());
    if let Some(custom) = &function.custom {
        let grammar =
            |Grammar { syntax, definition }: &'a Grammar| WireGrammar::Grammar { syntax, definition };
        return WireTool::Custom { name, description, format: custom.grammar.as_ref().map(grammar) };
    }
    let mut strict = function.strict == Some(true);
    if let Some(schema) = function.schema.as_deref().filter(|_| strict) {
        let compiled = room.compile(schema, Flavor::OpenAi);
        if compiled.altered || !compiled.supported {
            losses.altered("tools");
            strict = false;
        }
    }
    WireTool::Function { name, description, parameters: function.schema.as_deref(), strict }
}

/// Custom tools, and calls of them.
#[derive(Default)]
struct Customs<'a> {
    tools: HashSet<&'a str>,
    calls: HashSet<&'a str>,
}

/// Calls, their results and thoughts are items of their own, between those that say something.
fn write_message<'a>(
    message: &'a Message,
    custom: &mut Customs<'a>,
    out: &mut Vec<Item<'a>>,
    losses: &mut Losses,
) {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let mut said = Vec::new();
    let mut written = false;
    for part in &message.parts {
        match item(part, custom, losses) {
            Some(item) => {
                flush(role, &mut said, out);
                out.push(item);
                written = true;
            }
            None => said.extend(piece(part, message.role, losses)),
        }
    }
    if said.is_empty() && !written && message.role == Role::User {
        said.push(Piece::InputText { text: "".into() });
    }
    flush(role, &mut said, out);
}

fn flush<'a>(role: &'static str, said: &mut Vec<Piece<'a>>, out: &mut Vec<Item<'a>>) {
    if !said.is_empty() {
        out.push(Item::Message { role, content: std::mem::take(said) });
    }
}

fn item<'a>(part: &'a Part, custom: &mut Customs<'a>, losses: &mut Losses) -> Option<Item<'a>> {
    let own = part.opaque.as_ref().filter(|o| o.vendor == Vendor::OpenAi && !o.data.is_empty());
    match &part.content {
        Content::ToolUse(ToolUse { id, name, arguments }) if custom.tools.contains(name.as_str()) => {
            custom.calls.insert(id);
            Some(Item::CustomToolCall { call_id: id, name, input: Custom::input(arguments) })
        }
        Content::ToolUse(ToolUse { id, name, arguments }) => Some(Item::FunctionCall {
            call_id: id,
            name,
            arguments: super::item::arguments_or_empty(arguments),
        }),
        Content::ToolResult(ToolResult { id, parts, is_error }) => {
            if *is_error {
                losses.dropped("messages.content.is_error");
            }
            let output = output(parts, losses);
            Some(if custom.calls.contains(id.as_str()) {
                Item::CustomToolCallOutput { call_id: id, output }
            } else {
                Item::FunctionCallOutput { call_id: id, output }
            })
        }
        Content::Thinking(text) => own.map(|state| Item::Reasoning {
            id: state.id.as_deref(),
            summary: vec![Summary::SummaryText { text }],
            encrypted_content: &state.data,
        }),
        Content::RedactedThinking => own.map(|state| Item::Reasoning {
            id: state.id.as_deref(),
            summary: Vec::new(),
            encrypted_content: &state.data,
        }),
        _ => None,
    }
}

fn output<'a>(parts: &'a [Part], losses: &mut Losses) -> Output<'a> {
    match parts {
        [] => Output::Text("".into()),
        [Part { content: Content::Text(text), .. }] => Output::Text(text.into()),
        _ => Output::Parts(parts.iter().filter_map(|part| piece(part, Role::User, losses)).collect()),
    }
}

fn piece<'a>(part: &'a Part, role: Role, losses: &mut Losses) -> Option<Piece<'a>> {
    match &part.content {
        Content::Text(text) if role == Role::Assistant => {
            return Some(Piece::OutputText { text, annotations: [] });
        }
        Content::Text(text) => return Some(Piece::InputText { text: text.into() }),
        Content::Refusal(refusal) => return Some(Piece::Refusal { refusal }),
        Content::Image(Media { source, detail, .. }) => {
            let detail = detail.as_deref().unwrap_or("auto");
            match source {
                Source::Url(url) => return Some(Piece::InputImage { image_url: url.into(), detail }),
                Source::Data { media_type, data } => {
                    let image_url = format!("data:{media_type};base64,{data}").into();
                    return Some(Piece::InputImage { image_url, detail });
                }
                Source::Id(_) | Source::Text(_) => {}
            }
        }
        Content::File(Media { source, name, .. }) => {
            let filename = name.as_deref();
            match source {
                Source::Data { media_type, data } => {
                    return Some(Piece::InputFile {
                        filename: Some(filename.unwrap_or("document")),
                        file_data: Some(format!("data:{media_type};base64,{data}")),
                        file_url: None,
                    });
                }
                Source::Url(url) => {
                    return Some(Piece::InputFile { filename: None, file_data: None, file_url: Some(url) });
                }
                Source::Text(text) => {
                    losses.emulated("messages.content.document");
                    return Some(Piece::InputText { text: text.into() });
                }
                Source::Id(_) => {}
            }
        }
        Content::Audio(Media { source: Source::Data { media_type, data }, .. }) => {
            let format = openai::audio_format(media_type);
            return Some(Piece::InputAudio { input_audio: Audio { data, format } });
        }
        // Another vendor's thoughts mean nothing to this one.
        Content::Thinking(_) | Content::RedactedThinking => return None,
        _ => {}
    }
    losses.dropped(&format!("messages.content.{}", part.content.kind()));
    None
}
