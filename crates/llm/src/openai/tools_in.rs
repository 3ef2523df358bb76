//! What a chat body says of tools. Some clients write them as other dialects have them.

use std::{borrow::Cow, collections::HashSet};

use serde_json::value::RawValue;
use weir_error::Error;

use crate::{
    canonical::{Custom, Function, Grammar, Losses, Raw, Request, Tool, ToolChoice},
    members::{Members, string},
};

/// Reads `tools` and the older `functions`, and which of them is to be called.
///
/// # Errors
/// A member that is not of its type, by its path.
pub(super) fn tools(from: &mut Members<'_>, request: &mut Request, losses: &mut Losses) -> Result<(), Error> {
    for (at, raw) in from.take::<Vec<&RawValue>>("tools")?.unwrap_or_default().into_iter().enumerate() {
        request.tools.push(tool(raw, &format!("tools[{at}]"), losses)?);
    }
    let older = from.take::<Vec<&RawValue>>("functions")?.unwrap_or_default();
    // Answers to them have one call.
    let single = (!older.is_empty()).then_some(false);
    for (at, raw) in older.into_iter().enumerate() {
        let function = Members::of(raw, &format!("functions[{at}]"))?;
        request.tools.push(Tool::Function(whole(function, "parameters", None, losses)?));
    }
    if let Some(raw) = from.raw("function_call") {
        request.tool_choice = match string(raw) {
            Some(word) => Some(mode(&word, "function_call")?),
            None => Some(ToolChoice::Named(Members::of(raw, "function_call")?.need("name")?)),
        };
    }
    if let Some(raw) = from.raw("tool_choice") {
        request.tool_choice = tool_choice(raw, &mut request.tools, losses)?;
    }
    request.parallel_tools = from.take("parallel_tool_calls")?.or(single);
    Ok(())
}

fn tool(raw: &RawValue, path: &str, losses: &mut Losses) -> Result<Tool, Error> {
    let mut from = Members::of(raw, path)?;
    // As Anthropic has it, whose only tools without a schema are its own.
    let anthropic = from.has("input_schema");
    let kind: String = match from.take("type")? {
        Some(kind) => kind,
        None if anthropic => "custom".to_owned(),
        None => from.need("type")?,
    };
    let cache = from.raw("cache_control").map(ToOwned::to_owned);
    let function = match kind.as_str() {
        "custom" | "function" if anthropic => whole(from, "input_schema", cache, losses)?,
        "function" => {
            // As Responses has it, it stands in no object of its own.
            let inner = from.object("function")?;
            let inner = match inner {
                Some(inner) => {
                    from.rest().for_each(|(name, _)| losses.dropped(&format!("tools.{name}")));
                    inner
                }
                None => from,
            };
            whole(inner, "parameters", cache, losses)?
        }
        "custom" => {
            let mut from = from.object("custom")?.unwrap_or(from);
            let (name, description) = (from.need("name")?, from.take("description")?);
            let grammar = from.object("format")?.map(grammar).transpose()?.flatten();
            from.rest().for_each(|(name, _)| losses.dropped(&format!("tools.{name}")));
            Function { cache, ..Custom { grammar }.function(name, description) }
        }
        _ => return Ok(Tool::Foreign { kind, value: raw.to_owned() }),
    };
    Ok(Tool::Function(function))
}

/// All of a function.
fn whole(
    mut from: Members<'_>,
    schema: &str,
    cache: Option<Raw>,
    losses: &mut Losses,
) -> Result<Function, Error> {
    let function = Function {
        name: from.need("name")?,
        description: from.take("description")?,
        schema: from.raw(schema).map(ToOwned::to_owned),
        strict: from.take("strict")?,
        cache: cache.or_else(|| from.raw("cache_control").map(ToOwned::to_owned)),
        custom: None,
    };
    from.rest().for_each(|(name, _)| losses.dropped(&format!("tools.{name}")));
    Ok(function)
}

/// `{"type":"grammar","grammar":{"syntax","definition"}}`, or flat, as Responses has it.
fn grammar(mut from: Members<'_>) -> Result<Option<Grammar>, Error> {
    if from.need::<Cow<'_, str>>("type")? != "grammar" {
        return Ok(None);
    }
    let mut from = from.object("grammar")?.unwrap_or(from);
    Ok(Some(Grammar { syntax: from.need("syntax")?, definition: from.need("definition")? }))
}

fn mode(word: &str, param: &str) -> Result<ToolChoice, Error> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        // The second as Anthropic has it.
        "required" | "any" => Ok(ToolChoice::Required),
        _ => Err(Error::invalid(param, "Expected 'none', 'auto' or 'required'.")),
    }
}

fn tool_choice(
    raw: &RawValue,
    tools: &mut Vec<Tool>,
    losses: &mut Losses,
) -> Result<Option<ToolChoice>, Error> {
    if let Some(word) = string(raw) {
        return mode(&word, "tool_choice").map(Some);
    }
    let mut from = Members::of(raw, "tool_choice")?;
    let kind = from.take::<String>("type")?.unwrap_or_else(|| "function".to_owned());
    match kind.as_str() {
        "function" | "custom" | "tool" => {
            let mut named = from.object(&kind)?.unwrap_or(from);
            Ok(Some(ToolChoice::Named(named.need("name")?)))
        }
        "allowed_tools" => {
            let mut allowed = from.object("allowed_tools")?.unwrap_or(from);
            let choice = mode(&allowed.need::<Cow<'_, str>>("mode")?, "tool_choice.allowed_tools.mode")?;
            allow(tools, &allowed.need::<Vec<&RawValue>>("tools")?, losses)?;
            Ok(Some(choice))
        }
        "auto" | "none" | "any" => mode(&kind, "tool_choice").map(Some),
        _ => {
            losses.dropped("tool_choice");
            Ok(None)
        }
    }
}

/// Tools that may not be called are not told of.
fn allow(tools: &mut Vec<Tool>, allowed: &[&RawValue], losses: &mut Losses) -> Result<(), Error> {
    let (mut names, mut kinds) = (HashSet::new(), HashSet::new());
    for raw in allowed {
        let mut from = Members::of(raw, "tool_choice.allowed_tools.tools")?;
        let kind: String = from.need("type")?;
        if matches!(kind.as_str(), "function" | "custom") {
            let mut named = from.object(&kind)?.unwrap_or(from);
            names.insert(named.need::<String>("name")?);
        } else {
            kinds.insert(kind);
        }
    }
    let before = tools.len();
    tools.retain(|tool| match tool {
        Tool::Function(function) => names.contains(&function.name),
        Tool::Foreign { kind, .. } => kinds.contains(kind),
    });
    if tools.len() < before {
        losses.emulated("tool_choice.allowed_tools");
    }
    Ok(())
}
