//! A chat completions body, as what it means.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::value::RawValue;
use weir_error::Error;

use super::{content, state};
use crate::{
    canonical::{
        Content, Format, Function, Losses, Message, Part, Raw, Reasoning, Request, Role, Sampling,
        ServiceTier, Tool, ToolChoice, ToolResult, ToolUse,
    },
    members::{Members, string, wrong},
};

/// Reads a whole body. What nobody but OpenAI means is named as lost; members nobody knows stay in `extras`.
///
/// # Errors
/// A member that is not of its type, by its path.
pub fn decode_request(body: &[u8], losses: &mut Losses) -> Result<Request, Error> {
    let mut from = Members::of_body(body)?;
    let mut request = Request { stream: from.take("stream")?.unwrap_or(false), ..Request::default() };
    // Said elsewhere: the model by the route, the usage chunk by the envelope.
    for elsewhere in ["model", "stream_options"] {
        from.raw(elsewhere);
    }
    for (at, raw) in from.need::<Vec<&RawValue>>("messages")?.into_iter().enumerate() {
        request.messages.push(message(raw, &format!("messages[{at}]"), losses)?);
    }
    for (at, raw) in from.take::<Vec<&RawValue>>("tools")?.unwrap_or_default().into_iter().enumerate() {
        request.tools.push(tool(raw, &format!("tools[{at}]"), losses)?);
    }
    if let Some(raw) = from.raw("tool_choice") {
        request.tool_choice = tool_choice(raw, losses)?;
    }
    request.parallel_tools = from.take("parallel_tool_calls")?;
    let older = from.take("max_tokens")?;
    request.max_output = from.take("max_completion_tokens")?.or(older);
    request.stop = stops(&mut from)?;
    request.sampling = sampling(&mut from)?;
    request.format = format(&mut from, losses)?;
    request.reasoning = from.take::<String>("reasoning_effort")?.map(|effort| Reasoning {
        enabled: Some(effort != "none"),
        effort: Some(effort).filter(|e| e != "none"),
        budget: None,
    });
    let older = from.take::<String>("user")?;
    request.user = from.take("safety_identifier")?.or(older);
    request.service_tier = match from.take::<Cow<'_, str>>("service_tier")?.as_deref() {
        Some("auto") => Some(ServiceTier::Auto),
        Some("default") => Some(ServiceTier::Standard),
        Some(_) => {
            losses.dropped("service_tier");
            None
        }
        None => None,
    };
    request.choices = from.take("n")?.filter(|n| *n > 1);
    let top = from.take("top_logprobs")?.unwrap_or(0);
    request.logprobs = from.take("logprobs")?.filter(|asked| *asked).map(|_: bool| top);
    request.extras = extras(from);
    Ok(request)
}

/// What is left, but for what only says the default.
fn extras(from: Members<'_>) -> BTreeMap<String, Raw> {
    let default = |name: &str, value: &str| {
        matches!((name, value), ("verbosity", "\"medium\"") | ("modalities", "[\"text\"]"))
    };
    from.rest()
        .filter(|(name, raw)| !default(name, raw.get()))
        .map(|(name, raw)| (name, raw.to_owned()))
        .collect()
}

fn stops(from: &mut Members<'_>) -> Result<Vec<String>, Error> {
    let at = from.at("stop");
    let Some(raw) = from.raw("stop") else { return Ok(Vec::new()) };
    match string(raw) {
        Some(one) => Ok(vec![one]),
        None => serde_json::from_str(raw.get()).map_err(|_| wrong(&at, "a string or an array of strings")),
    }
}

fn sampling(from: &mut Members<'_>) -> Result<Sampling, Error> {
    Ok(Sampling {
        temperature: from.take("temperature")?,
        top_p: from.take("top_p")?,
        // Not OpenAI's own, but many who speak its dialect know it.
        top_k: from.take("top_k")?,
        frequency_penalty: from.take("frequency_penalty")?.filter(|v| *v != 0.0),
        presence_penalty: from.take("presence_penalty")?.filter(|v| *v != 0.0),
        seed: from.take("seed")?,
    })
}

fn format(from: &mut Members<'_>, losses: &mut Losses) -> Result<Option<Format>, Error> {
    let Some(mut format) = from.object("response_format")? else { return Ok(None) };
    match format.need::<Cow<'_, str>>("type")?.as_ref() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Format::Json)),
        "json_schema" => {
            let at = format.at("json_schema");
            let mut schema = format.object("json_schema")?.ok_or_else(|| wrong(&at, "an object"))?;
            let meant = Format::Schema {
                name: schema.take("name")?,
                schema: schema.need::<&RawValue>("schema")?.to_owned(),
                strict: schema.take("strict")?,
            };
            for (name, _) in schema.rest() {
                losses.dropped(&format!("response_format.json_schema.{name}"));
            }
            Ok(Some(meant))
        }
        _ => {
            losses.dropped("response_format");
            Ok(None)
        }
    }
}

fn message(raw: &RawValue, path: &str, losses: &mut Losses) -> Result<Message, Error> {
    let mut from = Members::of(raw, path)?;
    let role: Cow<'_, str> = from.need("role")?;
    let (role, parts) = match role.as_ref() {
        "system" | "developer" => (Role::System, content::parts(&mut from, "content", losses)?),
        "user" => (Role::User, content::parts(&mut from, "content", losses)?),
        "assistant" => (Role::Assistant, assistant(&mut from, losses)?),
        "tool" => {
            let result = ToolResult {
                id: from.need("tool_call_id")?,
                parts: content::parts(&mut from, "content", losses)?,
                is_error: false,
            };
            (Role::User, vec![Content::ToolResult(result).into()])
        }
        _ => {
            let text = "messages with role 'function' can't be sent to this model: use role 'tool'";
            return Err(Error::invalid(from.at("role"), text));
        }
    };
    for (name, _) in from.rest() {
        losses.dropped(&format!("messages.{name}"));
    }
    Ok(Message { role, parts })
}

/// Thoughts first, then what was said, then the calls: the order in which every vendor has them.
fn assistant(from: &mut Members<'_>, losses: &mut Losses) -> Result<Vec<Part>, Error> {
    let mut thoughts = state::thoughts(from)?;
    let mut parts = std::mem::take(&mut thoughts.parts);
    // Reasoning without a signature says nothing to any provider.
    for unsigned in ["reasoning_content", "reasoning"] {
        from.raw(unsigned);
    }
    parts.extend(content::parts(from, "content", losses)?);
    if let Some(refusal) = from.take("refusal")? {
        parts.push(Content::Refusal(refusal).into());
    }
    if let Some(opaque) = state::extra(from) {
        content::prove_text(&mut parts, opaque);
    }
    let at = from.at("tool_calls");
    for (i, raw) in from.take::<Vec<&RawValue>>("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
        let mut call = Members::of(raw, &format!("{at}[{i}]"))?;
        let id: String = call.need("id")?;
        let Some(mut function) = call.object("function")? else {
            losses.dropped("messages.tool_calls.custom");
            continue;
        };
        let arguments = function.take::<String>("arguments")?.unwrap_or_default();
        let opaque = state::extra(&mut call).or_else(|| thoughts.of_call(&id));
        let content = Content::ToolUse(ToolUse { id, name: function.need("name")?, arguments });
        parts.push(Part::from(content).with_opaque(opaque));
    }
    content::without_empty(&mut parts);
    // Made by us or by OpenAI for people to read.
    from.raw("annotations");
    Ok(parts)
}

fn tool(raw: &RawValue, path: &str, losses: &mut Losses) -> Result<Tool, Error> {
    let mut from = Members::of(raw, path)?;
    let kind = from.need::<String>("type")?;
    let (true, Some(mut function)) = (kind == "function", from.object("function")?) else {
        return Ok(Tool::Foreign { kind, value: raw.to_owned() });
    };
    let tool = Function {
        name: function.need("name")?,
        description: function.take("description")?,
        schema: function.raw("parameters").map(ToOwned::to_owned),
        strict: function.take("strict")?,
        cache: from.raw("cache_control").or_else(|| function.raw("cache_control")).map(ToOwned::to_owned),
    };
    for (name, _) in from.rest().chain(function.rest()) {
        losses.dropped(&format!("tools.{name}"));
    }
    Ok(Tool::Function(tool))
}

fn tool_choice(raw: &RawValue, losses: &mut Losses) -> Result<Option<ToolChoice>, Error> {
    match string(raw).as_deref() {
        Some("auto") => return Ok(Some(ToolChoice::Auto)),
        Some("none") => return Ok(Some(ToolChoice::None)),
        Some("required") => return Ok(Some(ToolChoice::Required)),
        Some(_) => return Err(Error::invalid("tool_choice", "Expected 'none', 'auto' or 'required'.")),
        None => {}
    }
    let mut from = Members::of(raw, "tool_choice")?;
    if let Some(mut function) = from.object("function")? {
        return Ok(Some(ToolChoice::Named(function.need("name")?)));
    }
    losses.dropped("tool_choice");
    Ok(None)
}
