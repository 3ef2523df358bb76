//! A `generateContent` body, written from what is meant.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    media_out,
    part::{self, NOT_GEMINIS, Out, Response},
    think::{self, Version},
};
use crate::{
    anthropic::{JSON_ONLY, object},
    canonical::{
        Content, Format, Function, Losses, Media, Message, Part, Raw, Request, Role, Source, Tool,
        ToolChoice, ToolResult, ToolUse,
    },
    dialect::{Target, extensions},
    schema::{self, Flavor, Room},
};

const MAX_STOPS: usize = 5;

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<System<'a>>,
    contents: Vec<Wire<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tools<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation_config: Option<GenerationConfig<'a>>,
    #[serde(flatten)]
    extensions: BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Serialize)]
struct System<'a> {
    parts: Vec<Out<'a>>,
}

#[derive(Serialize)]
struct Wire<'a> {
    role: &'static str,
    parts: Vec<Out<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    /// As older models take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<Raw>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    function_calling_config: Calling<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Calling<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'a str; 1]>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    /// As older models take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_schema: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<think::Config>,
}

/// The body for a provider: its path says the model, and whether to stream.
pub(super) fn encode_request(request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
    let mut body = Body { extensions: extensions(&request.extras, losses), ..Body::default() };
    let mut config = generation_config(request, target, losses);
    Writer::new(target.model, &request.messages).write(&request.messages, &mut body, losses);
    sign_calls(&mut body.contents, target.model, losses);
    tools(request, Version::of(target.model), &mut body, losses);
    if let Some(wish) = format(request, Version::of(target.model), &mut config, losses) {
        let system = body.system_instruction.get_or_insert_with(|| System { parts: Vec::new() });
        system.parts.push(Out::text(wish));
    }
    if Version::of(target.model) == Version::GEMMA {
        body.instruct_as_user(losses);
    }
    body.generation_config = config.says_something().then_some(config);
    if request.user.is_some() {
        losses.dropped("user");
    }
    // Serializing into memory can't fail.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

fn generation_config<'a>(
    request: &'a Request,
    target: &Target<'_>,
    losses: &mut Losses,
) -> GenerationConfig<'a> {
    let sampling = &request.sampling;
    if request.stop.len() > MAX_STOPS {
        losses.altered("stop");
    }
    GenerationConfig {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        candidate_count: request.choices.filter(|n| *n > 1),
        max_output_tokens: request.max_output,
        stop_sequences: request.stop.get(..MAX_STOPS).unwrap_or(&request.stop),
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        seed: sampling.seed.map(|seed| narrow(seed, losses)),
        response_logprobs: request.logprobs.map(|_| true),
        logprobs: request.logprobs.filter(|n| *n > 0),
        thinking_config: request.reasoning.as_ref().and_then(|r| think::write(r, target.model, losses)),
        ..GenerationConfig::default()
    }
}

impl Body<'_> {
    /// For models that refuse instructions: the user begins with them.
    fn instruct_as_user(&mut self, losses: &mut Losses) {
        let Some(System { mut parts }) = self.system_instruction.take() else { return };
        losses.altered("messages.role.system");
        match self.contents.first_mut().filter(|first| first.role == "user") {
            Some(first) => {
                // Results of tools come first in their turn.
                let at = first.parts.iter().take_while(|part| part.function_response.is_some()).count();
                first.parts.splice(at..at, parts.drain(..));
            }
            None => self.contents.insert(0, Wire { role: "user", parts }),
        }
    }
}

impl GenerationConfig<'_> {
    fn says_something(&self) -> bool {
        serde_json::to_string(self).is_ok_and(|json| json != "{}")
    }
}

/// What is wished for in words, where it can't be asked for.
fn format(
    request: &Request,
    version: Version,
    config: &mut GenerationConfig<'_>,
    losses: &mut Losses,
) -> Option<Cow<'static, str>> {
    let format = request.format.as_ref()?;
    let functions = request.tools.iter().any(|tool| matches!(tool, Tool::Function(_)));
    // Before the third generation it is calls or JSON; Gemma does neither.
    let able = version >= Version::THREE || (version != Version::GEMMA && !functions);
    match format {
        Format::Json if able => config.response_mime_type = Some("application/json"),
        Format::Json => {
            losses.emulated("response_format");
            return Some(JSON_ONLY.into());
        }
        Format::Schema { schema, .. } => {
            let compiled = schema::compile(schema, version.flavor());
            if !able || !compiled.supported {
                losses.emulated("response_format");
                return Some(schema::instruction(schema).into());
            }
            if compiled.altered {
                losses.altered("response_format");
            }
            config.response_mime_type = Some("application/json");
            (config.response_schema, config.response_json_schema) = version.either(compiled.schema);
        }
    }
    None
}

impl Version {
    /// Models before 2.5 know no JSON Schema, but a part of `OpenAPI`.
    fn flavor(self) -> Flavor {
        if self < Self::TWO_FIVE { Flavor::GeminiOpenApi } else { Flavor::Gemini }
    }

    /// A schema in the one or the other member for it.
    fn either(self, schema: Raw) -> (Option<Raw>, Option<Raw>) {
        if self < Self::TWO_FIVE { (Some(schema), None) } else { (None, Some(schema)) }
    }
}

/// Google's seeds have 32 bits.
fn narrow(seed: i64, losses: &mut Losses) -> i32 {
    i32::try_from(seed).unwrap_or_else(|_| {
        losses.altered("seed");
        #[expect(clippy::cast_possible_truncation, reason = "any number that is the same each time will do")]
        let low = seed as i32;
        low
    })
}

fn tools<'a>(request: &'a Request, version: Version, body: &mut Body<'a>, losses: &mut Losses) {
    let mut declared = Vec::new();
    for tool in &request.tools {
        match tool {
            Tool::Function(function) => declared.push(function),
            Tool::Foreign { kind, .. } => losses.dropped(&format!("tools.{kind}")),
        }
    }
    if declared.is_empty() {
        return;
    }
    if request.parallel_tools == Some(false) {
        losses.dropped("parallel_tool_calls");
    }
    let strict = declared.iter().any(|function| function.strict == Some(true));
    let calling = |mode| Calling { mode, allowed_function_names: None };
    let calling = match &request.tool_choice {
        Some(ToolChoice::None) => Some(calling("NONE")),
        Some(ToolChoice::Required) => Some(calling("ANY")),
        Some(ToolChoice::Named(name)) => {
            Some(Calling { mode: "ANY", allowed_function_names: Some([name.as_str()]) })
        }
        // Calls, should there be any, fit their schemas.
        Some(ToolChoice::Auto) | None if strict => Some(calling("VALIDATED")),
        Some(ToolChoice::Auto) => Some(calling("AUTO")),
        None => None,
    };
    body.tool_config = calling.map(|function_calling_config| ToolConfig { function_calling_config });
    let mut room = Room::default();
    let declare = |function| declaration(function, version, &mut room, losses);
    let function_declarations = declared.into_iter().map(declare).collect();
    body.tools.push(Tools { function_declarations });
}

fn declaration<'a>(
    function: &'a Function,
    version: Version,
    room: &mut Room,
    losses: &mut Losses,
) -> Declaration<'a> {
    let compiled = function.schema.as_ref().map(|schema| room.compile(schema, version.flavor()));
    if compiled.as_ref().is_some_and(|compiled| compiled.altered) {
        losses.altered("tools.parameters");
    }
    let (parameters, parameters_json_schema) =
        compiled.map_or((None, None), |compiled| version.either(compiled.schema));
    Declaration {
        name: &function.name,
        description: function.description.as_deref(),
        parameters,
        parameters_json_schema,
    }
}

/// Gemini 3 wants a signature on the first call of each step of the turn that goes on.
fn sign_calls(contents: &mut [Wire<'_>], model: &str, losses: &mut Losses) {
    if Version::of(model) < Version::THREE {
        return;
    }
    let asks = |c: &Wire<'_>| c.role == "user" && c.parts.iter().all(|p| p.function_response.is_none());
    let turn = contents.iter().rposition(asks).map_or(0, |at| at + 1);
    for content in contents.iter_mut().skip(turn).filter(|c| c.role == "model") {
        let first = content.parts.iter_mut().find(|part| part.function_call.is_some());
        if let Some(call) = first.filter(|call| call.thought_signature.is_none()) {
            losses.altered("thought_signature");
            call.thought_signature = Some(NOT_GEMINIS.into());
        }
    }
}

/// Writes messages: results are told by their functions' names.
struct Writer<'a> {
    names: HashMap<&'a str, &'a str>,
    /// Results may hold more than text.
    media_in_results: bool,
}

impl<'a> Writer<'a> {
    fn new(model: &str, messages: &'a [Message]) -> Self {
        let calls = messages.iter().flat_map(|m| &m.parts).filter_map(|part| match &part.content {
            Content::ToolUse(ToolUse { id, name, .. }) => Some((id.as_str(), name.as_str())),
            _ => None,
        });
        Self { names: calls.collect(), media_in_results: Version::of(model) >= Version::THREE }
    }

    /// Roles take turns, and instructions stand apart from them.
    fn write(&self, messages: &'a [Message], body: &mut Body<'a>, losses: &mut Losses) {
        let mut system = Vec::new();
        for message in messages {
            let role = match message.role {
                Role::System => {
                    if !body.contents.is_empty() {
                        losses.altered("messages.role.system");
                    }
                    self.parts(&message.parts, &mut system, losses);
                    continue;
                }
                Role::User => "user",
                Role::Assistant => "model",
            };
            let mut parts = Vec::new();
            self.parts(&message.parts, &mut parts, losses);
            if parts.is_empty() {
                continue;
            }
            match body.contents.last_mut().filter(|last| last.role == role) {
                Some(last) => last.parts.extend(parts),
                None => body.contents.push(Wire { role, parts }),
            }
        }
        for content in &mut body.contents {
            // Results answer the calls before them, so they come first.
            content.parts.sort_by_key(|part| part.function_response.is_none() && content.role == "user");
        }
        if body.contents.is_empty() && !system.is_empty() {
            losses.altered("messages.role.system");
            body.contents.push(Wire { role: "user", parts: std::mem::take(&mut system) });
        }
        // Instructions are text.
        system.retain(|part| {
            let media = part.inline_data.is_some() || part.file_data.is_some();
            if media {
                losses.dropped("messages.content.image");
            }
            !media
        });
        body.system_instruction = Some(System { parts: system }).filter(|s| !s.parts.is_empty());
    }

    fn parts(&self, parts: &'a [Part], out: &mut Vec<Out<'a>>, losses: &mut Losses) {
        for part in parts {
            let signature = part::own(part).map(Cow::Borrowed);
            if signature.is_none() && part.opaque.is_some() {
                // Another vendor's state means nothing to this one.
                losses.dropped("thinking");
            }
            let written = match &part.content {
                Content::Text(text) | Content::Refusal(text) => {
                    // Google refuses those that hold nothing.
                    (!text.is_empty() || signature.is_some()).then(|| Out::text(text))
                }
                Content::Thinking(text) => signature.is_some().then(|| Out::thought(text)),
                Content::RedactedThinking => {
                    signature.is_some().then(|| Out { thought: true, ..Out::default() })
                }
                Content::ToolUse(ToolUse { id, name, arguments }) => {
                    if !arguments.trim().is_empty() && matches!(object(arguments), Cow::Owned(_)) {
                        losses.altered("messages.tool_calls.function.arguments");
                    }
                    Some(Out::call(id, name, arguments))
                }
                Content::ToolResult(result) => {
                    self.result(result, out, losses);
                    None
                }
                content => media_out::write(content, losses),
            };
            out.extend(written.map(|written| written.signed(signature)));
        }
    }

    fn result(&self, result: &'a ToolResult, out: &mut Vec<Out<'a>>, losses: &mut Losses) {
        let (mut text, mut others) = (Vec::new(), Vec::new());
        for part in &result.parts {
            match &part.content {
                Content::Text(said) => text.push(said.as_str()),
                Content::File(Media { source: Source::Text(said), .. }) => {
                    losses.emulated("messages.content.document");
                    text.push(said);
                }
                content => others.extend(media_out::write(content, losses)),
            }
        }
        // Bytes are all that stands in a result beside it.
        let within = |part: &mut Out<'_>| self.media_in_results && part.inline_data.is_some();
        let parts = others.extract_if(.., within).collect();
        let response = Response {
            id: &result.id,
            name: self.names.get(result.id.as_str()).copied().unwrap_or("unknown"),
            response: response(&text.join("\n\n"), result.is_error),
            parts,
        };
        out.push(Out { function_response: Some(response), ..Out::default() });
        if !others.is_empty() {
            losses.emulated("messages.content.tool_result");
            out.extend(others);
        }
    }
}

/// An object is the result itself; a text goes into one.
fn response(text: &str, is_error: bool) -> Cow<'static, RawValue> {
    let is_object =
        text.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(text.trim()).is_ok();
    let json = if is_object && !is_error {
        text.trim().to_owned()
    } else {
        serde_json::json!({ (if is_error { "error" } else { "output" }): text }).to_string()
    };
    Cow::Owned(RawValue::from_string(json).unwrap_or_default())
}
