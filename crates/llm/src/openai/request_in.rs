//! A chat completions body, as what it means.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use serde_json::value::RawValue;
use weir_error::Error;

use super::{content, state, tools_in};
use crate::{
    canonical::{
        Content, Custom, Format, Losses, Message, Part, Raw, Reasoning, Request, Role, Sampling, ServiceTier,
        ToolResult, ToolUse,
    },
    members::{Members, string, wrong},
};

const SEARCH: &str = "web_search_options";

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
    let mut older = OlderCalls::default();
    for (at, raw) in from.need::<Vec<&RawValue>>("messages")?.into_iter().enumerate() {
        request.messages.push(message(raw, &format!("messages[{at}]"), &mut older, losses)?);
    }
    tools_in::tools(&mut from, &mut request, losses)?;
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
    // As `reasoning_content`.
    request.thoughts = Some(true);
    let older = from.take::<String>("user")?;
    request.user = from.take("safety_identifier")?.or(older);
    if let Some(word) = from.take::<Cow<'_, str>>("service_tier")? {
        request.service_tier = ServiceTier::of_openai(&word);
        if request.service_tier.is_none() {
            losses.dropped("service_tier");
        }
    }
    request.verbosity = from.take::<String>("verbosity")?.filter(|word| word != "medium");
    request.metadata = from.raw("metadata").filter(|raw| raw.get() != "{}").map(ToOwned::to_owned);
    request.cache_key = from.take("prompt_cache_key")?;
    // Hints: nothing depends on them.
    from.ignore(&["prompt_cache_retention", "prompt_cache_options"]);
    request.choices = from.take("n")?.filter(|n| *n > 1);
    let top = from.take("top_logprobs")?.unwrap_or(0);
    request.logprobs = from.take("logprobs")?.filter(|asked| *asked).map(|_: bool| top);
    request.extras = extras(from);
    Ok(request)
}

/// What is left, but for what only says the default.
fn extras(mut from: Members<'_>) -> BTreeMap<String, Raw> {
    let default = |name: &str, value: &str| matches!((name, value), ("modalities", "[\"text\"]"));
    // Empty options, too, ask for a search.
    let search = from.raw(SEARCH).map(|options| (SEARCH.to_owned(), options));
    from.rest()
        .filter(|(name, raw)| !default(name, raw.get()))
        .chain(search)
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
                description: schema.take("description")?,
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

/// Calls and their results as they were before there were tools: without ids.
#[derive(Default)]
struct OlderCalls {
    made: usize,
    /// Ids of the last calls, by what was called.
    last: HashMap<String, String>,
}

impl OlderCalls {
    fn call(&mut self, name: &str) -> String {
        let id = format!("call_function_{}", self.made);
        self.made += 1;
        self.last.insert(name.to_owned(), id.clone());
        id
    }

    fn result(&mut self, from: &mut Members<'_>) -> Result<String, Error> {
        let name: String = from.need("name")?;
        let unknown =
            || Error::invalid(from.at("name"), "No call of this function stands before its result.");
        self.last.remove(&name).ok_or_else(unknown)
    }
}

fn message(
    raw: &RawValue,
    path: &str,
    older: &mut OlderCalls,
    losses: &mut Losses,
) -> Result<Message, Error> {
    let mut from = Members::of(raw, path)?;
    let role: Cow<'_, str> = from.need("role")?;
    let (role, parts) = match role.as_ref() {
        "system" | "developer" => (Role::System, said(&mut from, losses)?),
        "user" => (Role::User, said(&mut from, losses)?),
        "assistant" => (Role::Assistant, assistant(&mut from, older, losses)?),
        _ => {
            let id = if role == "function" { older.result(&mut from)? } else { from.need("tool_call_id")? };
            let result = ToolResult { id, parts: said(&mut from, losses)?, is_error: false };
            (Role::User, vec![Content::ToolResult(result).into()])
        }
    };
    for (name, _) in from.rest() {
        losses.dropped(&format!("messages.{name}"));
    }
    Ok(Message { role, parts })
}

/// Without what nobody here knows, the model would be asked something else.
fn said(from: &mut Members<'_>, losses: &mut Losses) -> Result<Vec<Part>, Error> {
    let at = from.at("content");
    let parts = content::parts(from, "content", losses)?;
    match parts.iter().enumerate().find_map(|(i, part)| Some((i, foreign(part)?))) {
        Some((i, kind)) => Err(unsupported(&format!("{at}[{i}].type"), kind)),
        None => Ok(parts),
    }
}

fn foreign(part: &Part) -> Option<&str> {
    match &part.content {
        Content::Foreign { kind, .. } => Some(kind),
        _ => None,
    }
}

fn unsupported(param: &str, kind: &str) -> Error {
    let shown: String = kind.chars().take(40).collect();
    Error::invalid(param, format!("'{shown}' can't be sent to this model."))
}

/// Thoughts first, then what was said, then the calls: the order in which every vendor has them.
fn assistant(
    from: &mut Members<'_>,
    older: &mut OlderCalls,
    losses: &mut Losses,
) -> Result<Vec<Part>, Error> {
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
        let opaque = state::extra(&mut call).or_else(|| thoughts.of_call(&id));
        let (name, arguments) = if let Some(mut function) = call.object("function")? {
            (function.need("name")?, function.take::<String>("arguments")?.unwrap_or_default())
        } else if let Some(mut custom) = call.object("custom")? {
            let input = custom.take::<Cow<'_, str>>("input")?.unwrap_or_default();
            (custom.need("name")?, Custom::arguments(&input))
        } else {
            // Its result would be of nothing.
            return Err(unsupported(&call.at("type"), &call.need::<String>("type")?));
        };
        parts.push(Part::from(Content::ToolUse(ToolUse { id, name, arguments })).with_opaque(opaque));
    }
    if let Some(mut call) = from.object("function_call")? {
        let name: String = call.need("name")?;
        let arguments = call.take::<String>("arguments")?.unwrap_or_default();
        parts.push(Content::ToolUse(ToolUse { id: older.call(&name), name, arguments }).into());
    }
    content::without_empty(&mut parts);
    // Made by us or by OpenAI for people to read.
    from.raw("annotations");
    Ok(parts)
}
