//! A Messages body, as what it means.

use std::borrow::Cow;

use serde_json::value::RawValue;
use weir_error::Error;

use super::state;
use crate::{
    canonical::{
        Content, Format, Function, Losses, Media, Message, Opaque, Part, Reasoning, Request, Role, Sampling,
        ServiceTier, Source, Tool, ToolChoice, ToolResult, ToolUse, Vendor,
    },
    members::{Members, wrong},
};

/// A conversation that the provider holds between turns.
pub(super) const THREAD: &str = "thread";

/// Blocks within blocks: a result holds a document, which holds texts. As deep goes nobody who means well.
const MAX_DEPTH: usize = 8;

/// Reads a whole body. What nobody but Anthropic means is named as lost; members nobody knows stay in `extras`.
///
/// # Errors
/// A member that is not of its type, by its path.
pub(super) fn decode_request(body: &[u8], losses: &mut Losses) -> Result<Request, Error> {
    let mut from = Members::of_body(body)?;
    let mut request = Request { stream: from.take("stream")?.unwrap_or(false), ..Request::default() };
    from.raw("model");
    let system = parts(&mut from, "system", 0, losses)?;
    if !system.is_empty() {
        request.messages.push(Message { role: Role::System, parts: system });
    }
    for (at, raw) in from.need::<Vec<&RawValue>>("messages")?.into_iter().enumerate() {
        request.messages.push(message(raw, &format!("messages.{at}"), losses)?);
    }
    for (at, raw) in from.take::<Vec<&RawValue>>("tools")?.unwrap_or_default().into_iter().enumerate() {
        request.tools.push(tool(raw, &format!("tools.{at}"), losses)?);
    }
    if let Some(mut choice) = from.object("tool_choice")? {
        request.parallel_tools = choice.take::<bool>("disable_parallel_tool_use")?.map(|disabled| !disabled);
        request.tool_choice = match choice.need::<Cow<'_, str>>("type")?.as_ref() {
            "auto" => Some(ToolChoice::Auto),
            "none" => Some(ToolChoice::None),
            "any" => Some(ToolChoice::Required),
            "tool" => Some(ToolChoice::Named(choice.need("name")?)),
            _ => return Err(Error::invalid("tool_choice.type", "tool_choice.type: unknown")),
        };
    }
    request.max_output = from.take("max_tokens")?;
    request.stop = from.take("stop_sequences")?.unwrap_or_default();
    request.sampling = Sampling {
        temperature: from.take("temperature")?,
        top_p: from.take("top_p")?,
        top_k: from.take("top_k")?,
        ..Sampling::default()
    };
    reasoning_and_format(&mut from, &mut request, losses)?;
    if from.object(THREAD)?.is_some() {
        // Dropped, the next turn would come without what was said before.
        return Err(Error::invalid(THREAD, "thread: the model's provider holds no conversations"));
    }
    if let Some(mut metadata) = from.object("metadata")? {
        request.user = metadata.take("user_id")?;
        lost(metadata, "metadata", losses);
    }
    if let Some(cache) = from.raw("cache_control") {
        // It stands for a mark on the last block.
        let last = request.messages.last_mut().and_then(|message| message.parts.last_mut());
        if let Some(part) = last {
            part.cache.get_or_insert_with(|| cache.to_owned());
        }
    }
    request.service_tier = from.take::<Cow<'_, str>>("service_tier")?.map(|tier| match tier.as_ref() {
        "standard_only" => ServiceTier::Standard,
        _ => ServiceTier::Auto,
    });
    request.extras = from.rest().map(|(name, raw)| (name, raw.to_owned())).collect();
    Ok(request)
}

/// What nobody read of an object.
fn lost(from: Members<'_>, name: &str, losses: &mut Losses) {
    from.rest().for_each(|(member, _)| losses.dropped(&format!("{name}.{member}")));
}

fn reasoning_and_format(
    from: &mut Members<'_>,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<(), Error> {
    let mut reasoning = Reasoning::default();
    if let Some(mut thinking) = from.object("thinking")? {
        let kind: Cow<'_, str> = thinking.need("type")?;
        reasoning.enabled = Some(matches!(kind.as_ref(), "enabled" | "adaptive"));
        reasoning.budget = thinking.take("budget_tokens")?;
        request.thoughts = thinking.take::<Cow<'_, str>>("display")?.map(|display| display != "omitted");
        if request.thoughts == Some(false) {
            // Others show them all the same.
            losses.dropped("thinking.display");
        }
        lost(thinking, "thinking", losses);
    }
    if let Some(mut config) = from.object("output_config")? {
        reasoning.effort = config.take("effort")?;
        if let Some(mut format) = config.object("format")? {
            let schema = format.need::<&RawValue>("schema")?.to_owned();
            request.format = Some(Format::Schema { name: None, description: None, schema, strict: None });
        }
        lost(config, "output_config", losses);
    }
    request.reasoning = Some(reasoning).filter(|r| *r != Reasoning::default());
    Ok(())
}

fn message(raw: &RawValue, path: &str, losses: &mut Losses) -> Result<Message, Error> {
    let mut from = Members::of(raw, path)?;
    let role = match from.need::<Cow<'_, str>>("role")?.as_ref() {
        "system" => Role::System,
        "assistant" => Role::Assistant,
        _ => Role::User,
    };
    let mut parts = parts(&mut from, "content", 0, losses)?;
    state::attach(&mut parts);
    Ok(Message { role, parts })
}

/// A string, or an array of blocks.
fn parts(from: &mut Members<'_>, name: &str, depth: usize, losses: &mut Losses) -> Result<Vec<Part>, Error> {
    if depth > MAX_DEPTH {
        let at = from.at(name);
        let text = format!("{at}: blocks are nested too deep");
        return Err(Error::invalid(at, text));
    }
    let index = |at: &str, i| format!("{at}.{i}");
    let part = |raw, path: &str| part(raw, path, depth, losses);
    from.parts(name, "a string or an array of content blocks", index, part)
}

fn part(raw: &RawValue, path: &str, depth: usize, losses: &mut Losses) -> Result<Part, Error> {
    let mut from = Members::of(raw, path)?;
    let kind: Cow<'_, str> = from.need("type")?;
    let cache = from.raw("cache_control").map(ToOwned::to_owned);
    let mut opaque: Option<String> = None;
    let content = match kind.as_ref() {
        "text" => Content::Text(from.need("text")?),
        "image" => {
            Content::Image(Media { source: source(&mut from, depth, losses)?, name: None, detail: None })
        }
        "document" => {
            let name = from.take("title")?;
            Content::File(Media { source: source(&mut from, depth, losses)?, name, detail: None })
        }
        "tool_use" => Content::ToolUse(ToolUse {
            id: from.need("id")?,
            name: from.need("name")?,
            arguments: from.raw("input").map_or("{}", RawValue::get).to_owned(),
        }),
        "tool_result" => Content::ToolResult(ToolResult {
            id: from.need("tool_use_id")?,
            parts: parts(&mut from, "content", depth + 1, losses)?,
            is_error: from.take("is_error")?.unwrap_or(false),
        }),
        "thinking" => {
            opaque = from.take("signature")?;
            Content::Thinking(from.take("thinking")?.unwrap_or_default())
        }
        "redacted_thinking" => {
            opaque = Some(from.need("data")?);
            Content::RedactedThinking
        }
        "search_result" => {
            let text = search_result(&mut from, depth, losses)?;
            from.ignore(&["citations"]);
            losses.emulated("messages.content.search_result");
            Content::Text(text)
        }
        other => return Ok(Content::Foreign { kind: other.to_owned(), value: raw.to_owned() }.into()),
    };
    for (name, _) in from.rest() {
        losses.dropped(&format!("messages.content.{name}"));
    }
    let opaque = opaque.filter(|o| !o.is_empty()).map(|o| Opaque::open(&o, Vendor::Anthropic));
    Ok(Part { cache, opaque, ..content.into() })
}

/// What was found, and where: a text to everybody but Anthropic.
fn search_result(from: &mut Members<'_>, depth: usize, losses: &mut Losses) -> Result<String, Error> {
    let title: Option<String> = from.take("title")?;
    let place: Option<String> = from.take("source")?;
    let said = texts(parts(from, "content", depth + 1, losses)?, losses);
    let all = title.into_iter().chain(place).chain([said]).filter(|text| !text.is_empty());
    Ok(all.collect::<Vec<_>>().join("\n"))
}

/// What is text of these parts.
fn texts(parts: Vec<Part>, losses: &mut Losses) -> String {
    let texts = parts.into_iter().filter_map(|part| match part.content {
        Content::Text(text) => Some(text),
        other => {
            losses.dropped(&format!("messages.content.{}", other.kind()));
            None
        }
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn source(from: &mut Members<'_>, depth: usize, losses: &mut Losses) -> Result<Source, Error> {
    let at = from.at("source");
    let mut source = from.object("source")?.ok_or_else(|| wrong(&at, "an object"))?;
    match source.need::<Cow<'_, str>>("type")?.as_ref() {
        "base64" => Ok(Source::Data { media_type: source.need("media_type")?, data: source.need("data")? }),
        "url" => Ok(Source::Url(source.need("url")?)),
        "file" => Ok(Source::Id(source.need("file_id")?)),
        "text" => Ok(Source::Text(source.need("data")?)),
        "content" => {
            let parts = parts(&mut source, "content", depth + 1, losses)?;
            Ok(Source::Text(texts(parts, losses)))
        }
        _ => Err(wrong(&source.at("type"), "'base64', 'url', 'file', 'text' or 'content'")),
    }
}

fn tool(raw: &RawValue, path: &str, losses: &mut Losses) -> Result<Tool, Error> {
    let mut from = Members::of(raw, path)?;
    let kind: Option<String> = from.take("type")?;
    if let Some(kind) = kind.filter(|kind| kind != "custom") {
        return Ok(Tool::Foreign { kind, value: raw.to_owned() });
    }
    let function = Function {
        name: from.need("name")?,
        description: from.take("description")?,
        schema: Some(from.need::<&RawValue>("input_schema")?.to_owned()),
        strict: from.take("strict")?,
        cache: from.raw("cache_control").map(ToOwned::to_owned),
        custom: None,
    };
    for (name, _) in from.rest() {
        losses.dropped(&format!("tools.{name}"));
    }
    Ok(Tool::Function(function))
}
