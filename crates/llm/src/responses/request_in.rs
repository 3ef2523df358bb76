//! A Responses body, as what it means.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use weir_error::{Code, Error};

use super::{
    ENCRYPTED, LOGPROBS,
    content::{self, kind},
    custom::CustomTools,
};
use crate::{
    canonical::{
        Content, Format, Function, Losses, Message, Opaque, Part, Reasoning, Request, Role, Sampling,
        ServiceTier, Tool, ToolChoice, ToolResult, ToolUse, Vendor,
    },
    members::{Members, string, wrong},
};

/// Between the parts of a summary.
pub(super) const PARAGRAPH: &str = "\n\n";
/// Members that whoever keeps responses has answered, or that the answer repeats, or that say the default.
const ELSEWHERE: [&str; 10] = [
    "model",
    "stream_options",
    "store",
    "background",
    "previous_response_id",
    "conversation",
    "metadata",
    // Hints: nothing depends on them.
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
];
/// What `include` may name without a loss: it is shown anyway, or belongs to tools that are named themselves.
const INCLUDED: [&str; 6] = [
    ENCRYPTED,
    LOGPROBS,
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
];

/// Reads a whole body. What nobody but OpenAI means is named as lost; members nobody knows stay in `extras`.
///
/// # Errors
/// A member that is not of its type, by its path.
pub(super) fn decode_request(body: &[u8], losses: &mut Losses) -> Result<Request, Error> {
    let mut from = Members::of_body(body)?;
    let mut request = Request { stream: from.take("stream")?.unwrap_or(false), ..Request::default() };
    from.ignore(&ELSEWHERE);
    if let Some(text) = from.take::<String>("instructions")?.filter(|text| !text.is_empty()) {
        request.messages.push(Message { role: Role::System, parts: vec![Part::text(text)] });
    }
    input(&mut from, &mut request.messages, losses)?;
    for (at, raw) in from.take::<Vec<&RawValue>>("tools")?.unwrap_or_default().into_iter().enumerate() {
        request.tools.push(tool(raw, &format!("tools[{at}]"), losses)?);
    }
    if let Some(raw) = from.raw("tool_choice") {
        request.tool_choice = tool_choice(raw, &mut request.tools, losses)?;
    }
    request.parallel_tools = from.take("parallel_tool_calls")?;
    request.max_output = from.take("max_output_tokens")?;
    request.sampling = Sampling {
        temperature: from.take("temperature")?,
        top_p: from.take("top_p")?,
        frequency_penalty: from.take("frequency_penalty")?.filter(|v| *v != 0.0),
        presence_penalty: from.take("presence_penalty")?.filter(|v| *v != 0.0),
        ..Sampling::default()
    };
    text(&mut from, &mut request, losses)?;
    reasoning(&mut from, &mut request)?;
    logprobs(&mut from, &mut request, losses)?;
    let older = from.take::<String>("user")?;
    request.user = from.take("safety_identifier")?.or(older);
    if let Some(word) = from.take::<Cow<'_, str>>("service_tier")? {
        request.service_tier = ServiceTier::of_openai(&word);
        if request.service_tier.is_none() {
            losses.dropped("service_tier");
        }
    }
    let default = |name: &str, value: &str| matches!((name, value), ("truncation", "\"disabled\""));
    let rest = from.rest().filter(|(name, raw)| !default(name, raw.get()));
    request.extras = rest.map(|(name, raw)| (name, raw.to_owned())).collect();
    Ok(request)
}

/// A text, or items: those of one turn of the model are one message.
fn input(from: &mut Members<'_>, messages: &mut Vec<Message>, losses: &mut Losses) -> Result<(), Error> {
    let Some(raw) = from.raw("input") else { return Ok(()) };
    if let Some(text) = string(raw) {
        messages.push(Message { role: Role::User, parts: vec![Part::text(text)] });
        return Ok(());
    }
    let items: Vec<&RawValue> =
        serde_json::from_str(raw.get()).map_err(|_| wrong("input", "a string or an array of items"))?;
    for (at, raw) in items.into_iter().enumerate() {
        let message = item(raw, &format!("input[{at}]"), losses)?;
        match messages.last_mut() {
            Some(last) if last.role == Role::Assistant && message.role == Role::Assistant => {
                last.parts.extend(message.parts);
            }
            _ => messages.push(message),
        }
    }
    Ok(())
}

fn item(raw: &RawValue, path: &str, losses: &mut Losses) -> Result<Message, Error> {
    let mut from = Members::of(raw, path)?;
    let kind: Option<String> = from.take("type")?;
    let says = |role: Role, part: Part| Message { role, parts: vec![part] };
    // What items have when they come from an answer.
    from.ignore(&["status", "phase", "caller", "created_by"]);
    let id: Option<String> = from.take("id")?;
    let kind = kind.unwrap_or_else(|| if from.has("role") { "message" } else { "item_reference" }.to_owned());
    let message = match kind.as_str() {
        "message" => {
            let role = match from.need::<Cow<'_, str>>("role")?.as_ref() {
                "system" | "developer" => Role::System,
                "assistant" => Role::Assistant,
                "user" => Role::User,
                _ => {
                    let text = "Expected 'user', 'assistant', 'system' or 'developer'.";
                    return Err(Error::invalid(from.at("role"), text));
                }
            };
            Message { role, parts: content::parts(&mut from, "content", losses)? }
        }
        "function_call" => {
            let opaque = content::extra(&mut from)?;
            let arguments = from.take::<String>("arguments")?.unwrap_or_default();
            let call = ToolUse { id: from.need("call_id")?, name: from.need("name")?, arguments };
            says(Role::Assistant, Part::from(Content::ToolUse(call)).with_opaque(opaque))
        }
        "custom_tool_call" => {
            let opaque = content::extra(&mut from)?;
            let input = from.take::<String>("input")?.unwrap_or_default();
            let arguments = CustomTools::arguments(&input);
            let call = ToolUse { id: from.need("call_id")?, name: from.need("name")?, arguments };
            says(Role::Assistant, Part::from(Content::ToolUse(call)).with_opaque(opaque))
        }
        "function_call_output" | "custom_tool_call_output" => {
            let result = ToolResult {
                id: from.need("call_id")?,
                parts: content::parts(&mut from, "output", losses)?,
                is_error: false,
            };
            says(Role::User, Content::ToolResult(result).into())
        }
        "reasoning" => says(Role::Assistant, thought(&mut from, id)?),
        "item_reference" => {
            let text = format!("Item with id '{}' not found.", id.unwrap_or_default());
            return Err(Error::new(Code::InvalidArgument, text).with_param(path));
        }
        // What hosted tools did, and what was done for them.
        other => {
            let role = if other.ends_with("_output") { Role::User } else { Role::Assistant };
            let value = raw.to_owned();
            return Ok(says(role, Content::Foreign { kind: other.to_owned(), value }.into()));
        }
    };
    for (name, _) in from.rest() {
        losses.dropped(&format!("input.{name}"));
    }
    Ok(message)
}

/// Without text there is a thought nobody may read; with an empty one, a thought without words.
fn thought(from: &mut Members<'_>, id: Option<String>) -> Result<Part, Error> {
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        text: String,
    }
    let summary = from.take::<Vec<Said>>("summary")?.unwrap_or_default();
    let content = from.take::<Vec<Said>>("content")?.unwrap_or_default();
    let encrypted = from.take::<String>("encrypted_content")?.filter(|text| !text.is_empty());
    let opaque = encrypted.map(|text| {
        let mut opaque = Opaque::open(&text, Vendor::OpenAi);
        if opaque.vendor == Vendor::OpenAi {
            opaque.id = id;
        }
        opaque
    });
    let said = if summary.is_empty() { content } else { summary };
    let content = if said.is_empty() && opaque.is_some() {
        Content::RedactedThinking
    } else {
        let texts: Vec<String> = said.into_iter().map(|said| said.text).collect();
        Content::Thinking(texts.join(PARAGRAPH))
    };
    Ok(Part::from(content).with_opaque(opaque))
}

fn tool(raw: &RawValue, path: &str, losses: &mut Losses) -> Result<Tool, Error> {
    let mut from = Members::of(raw, path)?;
    let kind = from.need::<String>("type")?;
    let function = match kind.as_str() {
        "function" => Function {
            name: from.need("name")?,
            description: from.take("description")?,
            schema: from.raw("parameters").map(ToOwned::to_owned),
            strict: from.take("strict")?,
            cache: from.raw("cache_control").map(ToOwned::to_owned),
            custom: None,
        },
        "custom" => {
            let (name, description) = (from.need("name")?, from.take("description")?);
            CustomTools::function(name, description, from.raw("format"))
        }
        _ => return Ok(Tool::Foreign { kind, value: raw.to_owned() }),
    };
    for (name, _) in from.rest() {
        losses.dropped(&format!("tools.{name}"));
    }
    Ok(Tool::Function(function))
}

fn tool_choice(
    raw: &RawValue,
    tools: &mut Vec<Tool>,
    losses: &mut Losses,
) -> Result<Option<ToolChoice>, Error> {
    if let Some(word) = string(raw) {
        return mode(&word).map(Some);
    }
    let mut from = Members::of(raw, "tool_choice")?;
    match from.need::<Cow<'_, str>>("type")?.as_ref() {
        "function" | "custom" => Ok(Some(ToolChoice::Named(from.need("name")?))),
        "allowed_tools" => {
            let choice = mode(from.need::<Cow<'_, str>>("mode")?.as_ref())?;
            let allowed: Vec<&RawValue> = from.need("tools")?;
            allow(tools, &allowed, losses);
            Ok(Some(choice))
        }
        other => {
            losses.dropped(&format!("tool_choice.{other}"));
            Ok(None)
        }
    }
}

fn mode(word: &str) -> Result<ToolChoice, Error> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Required),
        _ => Err(Error::invalid("tool_choice", "Expected 'none', 'auto' or 'required'.")),
    }
}

/// Tools that may not be called are not told of.
fn allow(tools: &mut Vec<Tool>, allowed: &[&RawValue], losses: &mut Losses) {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        name: String,
    }
    let names: Vec<String> = allowed
        .iter()
        .filter_map(|raw| serde_json::from_str::<Named>(raw.get()).ok())
        .map(|n| n.name)
        .collect();
    let before = tools.len();
    tools.retain(|tool| match tool {
        Tool::Function(function) => names.contains(&function.name),
        Tool::Foreign { kind: known, .. } => allowed.iter().any(|raw| kind(raw) == known.as_str()),
    });
    if tools.len() < before {
        losses.emulated("tool_choice.allowed_tools");
    }
}

fn text(from: &mut Members<'_>, request: &mut Request, losses: &mut Losses) -> Result<(), Error> {
    let Some(mut text) = from.object("text")? else { return Ok(()) };
    if let Some(mut format) = text.object("format")? {
        request.format = match format.need::<Cow<'_, str>>("type")?.as_ref() {
            "text" => None,
            "json_object" => Some(Format::Json),
            "json_schema" => Some(Format::Schema {
                name: format.take("name")?,
                description: format.take("description")?,
                schema: format.need::<&RawValue>("schema")?.to_owned(),
                strict: format.take("strict")?,
            }),
            _ => {
                losses.dropped("text.format");
                None
            }
        };
    }
    let default = |name: &str, value: &str| matches!((name, value), ("verbosity", "\"medium\""));
    for (name, _) in text.rest().filter(|(name, raw)| !default(name, raw.get())) {
        losses.dropped(&format!("text.{name}"));
    }
    Ok(())
}

/// A summary is shown by whoever has one.
fn reasoning(from: &mut Members<'_>, request: &mut Request) -> Result<(), Error> {
    let Some(mut reasoning) = from.object("reasoning")? else { return Ok(()) };
    let effort: Option<String> = reasoning.take("effort")?;
    let summary: Option<String> = match reasoning.take("summary")? {
        Some(summary) => Some(summary),
        None => reasoning.take("generate_summary")?,
    };
    request.thoughts = summary.is_some().then_some(true);
    let enabled = match &effort {
        Some(effort) => Some(effort != "none"),
        None => summary.map(|_| true),
    };
    let effort = effort.filter(|effort| effort != "none");
    let asked = Reasoning { enabled, effort, ..Reasoning::default() };
    request.reasoning = Some(asked).filter(|asked| *asked != Reasoning::default());
    Ok(())
}

fn logprobs(from: &mut Members<'_>, request: &mut Request, losses: &mut Losses) -> Result<(), Error> {
    let include = from.take::<Vec<String>>("include")?.unwrap_or_default();
    let top = from.take::<u64>("top_logprobs")?;
    if top.is_some_and(|top| top > 0) || include.iter().any(|name| name == LOGPROBS) {
        request.logprobs = Some(top.unwrap_or_default());
    }
    for unknown in include.iter().filter(|name| !INCLUDED.contains(&name.as_str())) {
        losses.dropped(&format!("include.{unknown}"));
    }
    Ok(())
}
