//! A Responses body, as what it means.

use std::{borrow::Cow, collections::HashSet};

use serde::Deserialize;
use serde_json::value::RawValue;
use weir_error::{Code, Error};

use super::{
    ENCRYPTED, LOGPROBS,
    content::{self, kind},
    splice::speaker,
    tools::{self, ADDED, ToolNames},
};
use crate::{
    canonical::{
        Content, Custom, Format, Function, Losses, Message, Opaque, Part, Reasoning, Request, Role, Sampling,
        ServiceTier, Tool, ToolChoice, ToolResult, ToolUse, Vendor,
    },
    members::{Members, string, wrong},
};

/// Between the parts of a summary.
pub(super) const PARAGRAPH: &str = "\n\n";
/// Members that whoever keeps responses has answered, or that the answer repeats, or that say the default.
const ELSEWHERE: [&str; 9] = [
    "model",
    "stream_options",
    "store",
    "background",
    "previous_response_id",
    "conversation",
    "metadata",
    // Hints: nothing depends on them.
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
    if from.raw("prompt").is_some() {
        let text = "Prompt templates are kept at OpenAI: this model can't be asked by one. Send `input`.";
        return Err(Error::invalid("prompt", text));
    }
    let names = ToolNames::of(from.peek("tools"), from.peek("input"));
    let added = input(&mut from, &mut request.messages, &names, losses)?;
    for (at, raw) in from.take::<Vec<&RawValue>>("tools")?.unwrap_or_default().into_iter().enumerate() {
        tool(raw, &format!("tools[{at}]"), &names, &mut request.tools, losses)?;
    }
    add(added, &names, &mut request.tools, losses)?;
    if let Some(raw) = from.raw("tool_choice") {
        request.tool_choice = tool_choice(raw, &names, &mut request.tools, losses)?;
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
    request.cache_key = from.take("prompt_cache_key")?;
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

/// Tools, and where they stand.
type Added<'a> = Vec<(String, Vec<&'a RawValue>)>;

/// A text, or items: those of one turn are one message. Gives the tools that it brings.
fn input<'a>(
    from: &mut Members<'a>,
    messages: &mut Vec<Message>,
    names: &ToolNames,
    losses: &mut Losses,
) -> Result<Added<'a>, Error> {
    let mut added = Added::new();
    let Some(raw) = from.raw("input") else { return Ok(added) };
    if let Some(text) = string(raw) {
        messages.push(Message { role: Role::User, parts: vec![Part::text(text)] });
        return Ok(added);
    }
    let items: Vec<&RawValue> =
        serde_json::from_str(raw.get()).map_err(|_| wrong("input", "a string or an array of items"))?;
    let (mut before, first) = (None, messages.len());
    for (at, raw) in items.into_iter().enumerate() {
        let path = format!("input[{at}]");
        let kind = kind(raw);
        if kind == ADDED {
            added.push((path.clone() + ".tools", Members::of(raw, &path)?.need("tools")?));
            continue;
        }
        let turn = Turn::of(raw, &kind);
        let message = item(raw, &path, names, losses)?;
        match messages.last_mut() {
            Some(last) if before.is_some_and(|before| turn.goes_on(before)) => {
                last.parts.extend(message.parts);
            }
            _ => messages.push(message),
        }
        before = Some(turn);
    }
    messages.iter_mut().skip(first).for_each(results_first);
    Ok(added)
}

/// Whose turn an item belongs to, as far as turns are one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    System,
    User,
    /// What a tool gave: the user's.
    Result,
    Assistant,
}

impl Turn {
    pub(super) fn of(item: &RawValue, kind: &str) -> Self {
        match speaker(item, kind) {
            Role::System => Self::System,
            Role::Assistant => Self::Assistant,
            Role::User if kind.ends_with("_output") => Self::Result,
            Role::User => Self::User,
        }
    }

    /// Results of calls are one message, with what the user says to them.
    pub(super) fn goes_on(self, before: Self) -> bool {
        match self {
            Self::Assistant => before == Self::Assistant,
            Self::Result => matches!(before, Self::Result | Self::User),
            Self::User => before == Self::Result,
            Self::System => false,
        }
    }
}

/// Every provider wants the results of a turn's calls before all else.
fn results_first(message: &mut Message) {
    let result = |part: &Part| matches!(part.content, Content::ToolResult(_));
    if message.role == Role::User && message.parts.iter().any(result) {
        message.parts.sort_by_key(|part| !result(part));
    }
}

/// Tools that the input brings, but for those that are there.
fn add(added: Added<'_>, names: &ToolNames, to: &mut Vec<Tool>, losses: &mut Losses) -> Result<(), Error> {
    if added.is_empty() {
        return Ok(());
    }
    let mut more = Vec::new();
    for (path, tools) in added {
        for (at, raw) in tools.into_iter().enumerate() {
            tool(raw, &format!("{path}[{at}]"), names, &mut more, losses)?;
        }
    }
    let name = |tool: &Tool| match tool {
        Tool::Function(function) => Some(function.name.clone()),
        Tool::Foreign { .. } => None,
    };
    let mut there: HashSet<String> = to.iter().filter_map(name).collect();
    to.extend(more.into_iter().filter(|tool| name(tool).is_none_or(|name| there.insert(name))));
    Ok(())
}

fn item(raw: &RawValue, path: &str, names: &ToolNames, losses: &mut Losses) -> Result<Message, Error> {
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
            let call = ToolUse { id: from.need("call_id")?, name: called(&mut from, names)?, arguments };
            says(Role::Assistant, Part::from(Content::ToolUse(call)).with_opaque(opaque))
        }
        "custom_tool_call" => {
            let opaque = content::extra(&mut from)?;
            let input = from.take::<String>("input")?.unwrap_or_default();
            let arguments = Custom::arguments(&input);
            let call = ToolUse { id: from.need("call_id")?, name: called(&mut from, names)?, arguments };
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

/// The name of a tool, as it is told.
fn called(from: &mut Members<'_>, names: &ToolNames) -> Result<String, Error> {
    let namespace = from.take::<Cow<'_, str>>("namespace")?;
    let name = from.need::<Cow<'_, str>>("name")?;
    Ok(names.flat(namespace.as_deref(), &name).into_owned())
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

fn tool(
    raw: &RawValue,
    path: &str,
    names: &ToolNames,
    to: &mut Vec<Tool>,
    losses: &mut Losses,
) -> Result<(), Error> {
    let mut from = Members::of(raw, path)?;
    let kind = from.need::<String>("type")?;
    if kind != "namespace" {
        to.push(plain_tool(raw, from, kind, None, names, losses)?);
        return Ok(());
    }
    losses.emulated("tools.namespace");
    let namespace: Cow<'_, str> = from.need("name")?;
    let path = from.at("tools");
    for (at, raw) in from.need::<Vec<&RawValue>>("tools")?.into_iter().enumerate() {
        let mut member = Members::of(raw, &format!("{path}[{at}]"))?;
        let kind = member.need::<String>("type")?;
        to.push(plain_tool(raw, member, kind, Some(&namespace), names, losses)?);
    }
    Ok(())
}

fn plain_tool(
    raw: &RawValue,
    mut from: Members<'_>,
    kind: String,
    namespace: Option<&str>,
    names: &ToolNames,
    losses: &mut Losses,
) -> Result<Tool, Error> {
    if !matches!(kind.as_str(), "function" | "custom") {
        return Ok(Tool::Foreign { kind, value: raw.to_owned() });
    }
    let name = from.need::<Cow<'_, str>>("name")?;
    let name = names.flat(namespace, &name).into_owned();
    let description = from.take("description")?;
    let function = if kind == "custom" {
        tools::custom(name, description, from.raw("format"))
    } else {
        Function {
            name,
            description,
            schema: from.raw("parameters").map(ToOwned::to_owned),
            strict: from.take("strict")?,
            cache: from.raw("cache_control").map(ToOwned::to_owned),
            custom: None,
        }
    };
    for (name, _) in from.rest() {
        losses.dropped(&format!("tools.{name}"));
    }
    Ok(Tool::Function(function))
}

fn tool_choice(
    raw: &RawValue,
    names: &ToolNames,
    tools: &mut Vec<Tool>,
    losses: &mut Losses,
) -> Result<Option<ToolChoice>, Error> {
    if let Some(word) = string(raw) {
        return mode(&word).map(Some);
    }
    let mut from = Members::of(raw, "tool_choice")?;
    match from.need::<Cow<'_, str>>("type")?.as_ref() {
        "function" | "custom" => Ok(Some(ToolChoice::Named(called(&mut from, names)?))),
        "allowed_tools" => {
            let choice = mode(from.need::<Cow<'_, str>>("mode")?.as_ref())?;
            let allowed: Vec<&RawValue> = from.need("tools")?;
            allow(tools, &allowed, names, losses);
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
fn allow(tools: &mut Vec<Tool>, allowed: &[&RawValue], names: &ToolNames, losses: &mut Losses) {
    #[derive(Deserialize)]
    struct Allowed<'a> {
        #[serde(borrow, rename = "type", default)]
        kind: Cow<'a, str>,
        #[serde(borrow, default)]
        namespace: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        name: Cow<'a, str>,
    }
    let (mut functions, mut namespaces, mut kinds) = (HashSet::new(), HashSet::new(), HashSet::new());
    for allowed in allowed.iter().filter_map(|raw| serde_json::from_str::<Allowed<'_>>(raw.get()).ok()) {
        match allowed.kind.as_ref() {
            "function" | "custom" => {
                functions.insert(names.flat(allowed.namespace.as_deref(), &allowed.name).into_owned());
            }
            "namespace" => {
                namespaces.insert(allowed.name.into_owned());
            }
            kind => {
                kinds.insert(kind.to_owned());
            }
        }
    }
    let before = tools.len();
    tools.retain(|tool| match tool {
        Tool::Function(function) => {
            let in_one = || names.namespace(&function.name).is_some_and(|name| namespaces.contains(name));
            functions.contains(&function.name) || (!namespaces.is_empty() && in_one())
        }
        Tool::Foreign { kind, .. } => kinds.contains(kind),
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
    request.verbosity = text.take::<String>("verbosity")?.filter(|word| word != "medium");
    for (name, _) in text.rest() {
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
