//! A `generateContent` body, as what it means: <https://ai.google.dev/api/generate-content>.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use serde_json::value::RawValue;
use weir_error::Error;

use super::{
    part::{self, Piece, Read},
    schema::json_schema,
    think,
};
use crate::{
    canonical::{
        Content, Format, Function, Losses, Message, Part, Raw, Request, Role, Sampling, ServiceTier, Tool,
        ToolChoice, ToolResult, ToolUse,
    },
    members::{Members, string, wrong},
    schema,
};

/// Whether it is streamed, and of whom it asks, is said by its path.
///
/// # Errors
/// A member that is not of its type, by its path.
pub(super) fn decode_request(body: &[u8], losses: &mut Losses) -> Result<Request, Error> {
    let mut from = Members::of_body(body)?.camel();
    from.raw("model");
    if from.raw("cachedContent").is_some() {
        // Its instructions and documents are with Google: an answer without them would be to another question.
        let text = "`cachedContent` is known to Gemini's own models alone: send its contents along.";
        return Err(Error::invalid("cachedContent", text));
    }
    let mut request = Request::default();
    let mut calls = Calls::default();
    if let Some(system) = from.object("systemInstruction")? {
        let parts = parts(&mut system.camel(), Role::System, &mut calls, losses)?;
        request.messages.push(Message { role: Role::System, parts });
    }
    for (at, raw) in from.need::<Vec<&RawValue>>("contents")?.into_iter().enumerate() {
        content(raw, &format!("contents[{at}]"), &mut request.messages, &mut calls, losses)?;
    }
    for (at, raw) in from.take::<Vec<&RawValue>>("tools")?.unwrap_or_default().into_iter().enumerate() {
        tools(raw, &format!("tools[{at}]"), &mut request.tools, losses)?;
    }
    if let Some(config) = from.object("toolConfig")? {
        tool_config(config.camel(), &mut request, losses)?;
    }
    if let Some(config) = from.object("generationConfig")? {
        generation_config(config.camel(), &mut request, losses)?;
    }
    request.service_tier = match from.take::<String>("serviceTier")?.as_deref() {
        Some("standard") => Some(ServiceTier::Standard),
        Some("unspecified") | None => None,
        Some(_) => {
            losses.dropped("serviceTier");
            None
        }
    };
    request.extras.extend(from.rest().map(|(name, raw)| (name, raw.to_owned())));
    Ok(request)
}

/// Calls are told by their ids, by their names, or by their order: Google's ids are a recent addition.
#[derive(Default)]
struct Calls {
    made: usize,
    /// Ids of the last turn's.
    ids: Vec<String>,
    /// Those of them that have no result yet, by their places.
    open: BTreeSet<usize>,
    by_id: HashMap<String, VecDeque<usize>>,
    by_name: HashMap<String, VecDeque<usize>>,
}

impl Calls {
    fn made(&mut self, id: Option<String>, name: &str, arguments: &str) -> String {
        let id = id.filter(|id| !id.is_empty()).unwrap_or_else(|| {
            // The same in each request of a conversation, another in another.
            let mut hash = crc32fast::Hasher::new();
            hash.update(name.as_bytes());
            hash.update(arguments.as_bytes());
            format!("call_{:08x}_{}", hash.finalize(), self.made)
        });
        self.made += 1;
        let at = self.ids.len();
        self.open.insert(at);
        self.by_id.entry(id.clone()).or_default().push_back(at);
        self.by_name.entry(name.to_owned()).or_default().push_back(at);
        self.ids.push(id.clone());
        id
    }

    fn answered(&mut self, id: Option<String>, name: &str) -> String {
        let id = id.filter(|id| !id.is_empty());
        let places = match &id {
            Some(id) => self.by_id.get_mut(id),
            None => self.by_name.get_mut(name),
        };
        let mut places = places.into_iter().flat_map(|places| std::iter::from_fn(move || places.pop_front()));
        let found = places.find(|at| self.open.contains(at));
        let found = found.or_else(|| self.open.first().copied().filter(|_| id.is_none()));
        let known = found.filter(|at| self.open.remove(at)).and_then(|at| self.ids.get(at)).cloned();
        id.or(known).unwrap_or_else(|| format!("call_{name}"))
    }
}

/// Contents of one role in a row are one message: clients keep a streamed answer as its chunks.
fn content(
    raw: &RawValue,
    path: &str,
    messages: &mut Vec<Message>,
    calls: &mut Calls,
    losses: &mut Losses,
) -> Result<(), Error> {
    let mut from = Members::of(raw, path)?.camel();
    let role = match from.take::<String>("role")?.as_deref() {
        Some("model") => Role::Assistant,
        None | Some("" | "user" | "function" | "tool") => Role::User,
        Some("system") => Role::System,
        Some(_) => return Err(Error::invalid(from.at("role"), "Please use a valid role: user, model.")),
    };
    let continued = messages.last().is_some_and(|last| last.role == role);
    if role == Role::Assistant && !continued {
        *calls = Calls { made: calls.made, ..Calls::default() };
    }
    let parts = parts(&mut from, role, calls, losses)?;
    match messages.last_mut().filter(|_| continued) {
        Some(last) if role == Role::Assistant => {
            parts.into_iter().for_each(|p| part::join(&mut last.parts, p));
        }
        Some(last) => last.parts.extend(parts),
        None => messages.push(Message { role, parts }),
    }
    Ok(())
}

fn parts(
    from: &mut Members<'_>,
    role: Role,
    calls: &mut Calls,
    losses: &mut Losses,
) -> Result<Vec<Part>, Error> {
    let at = from.at("parts");
    let mut parts = Vec::new();
    for (i, raw) in from.take::<Vec<&RawValue>>("parts")?.unwrap_or_default().into_iter().enumerate() {
        let Piece { read, opaque, rest } = part::read(raw, &format!("{at}[{i}]"))?;
        for name in rest {
            losses.dropped(&format!("contents.parts.{name}"));
        }
        let content = match read {
            Read::Content(content) => content,
            Read::Bare if opaque.is_some() => Content::Text(String::new()),
            Read::Bare => continue,
            Read::Call(call) => Content::ToolUse(tool_use(call, calls)?),
            Read::Response(response) => Content::ToolResult(tool_result(response, calls, losses)?),
        };
        let part = Part::from(content).with_opaque(opaque);
        if role == Role::Assistant {
            part::join(&mut parts, part);
        } else {
            parts.push(part);
        }
    }
    Ok(parts)
}

fn tool_use(mut call: Members<'_>, calls: &mut Calls) -> Result<ToolUse, Error> {
    let name = call.need::<String>("name")?;
    let arguments = call.raw("args").map_or("{}", RawValue::get).to_owned();
    let id = calls.made(call.take("id")?, &name, &arguments);
    Ok(ToolUse { id, name, arguments })
}

/// The result is what `output` says, or `error`, or the whole object.
/// <https://ai.google.dev/api/caching#FunctionResponse>
fn tool_result(mut from: Members<'_>, calls: &mut Calls, losses: &mut Losses) -> Result<ToolResult, Error> {
    let name = from.take::<String>("name")?.unwrap_or_default();
    let id = calls.answered(from.take("id")?, &name);
    let (mut text, mut is_error) = (None, false);
    if let Some(raw) = from.raw("response") {
        let members = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get()).unwrap_or_default();
        let mut only = members.iter().filter(|_| members.len() == 1);
        text = Some(match only.next().map(|(name, value)| (name.as_str(), *value)) {
            Some(("output" | "result", value)) => string(value).unwrap_or_else(|| value.get().to_owned()),
            Some(("error", value)) => {
                is_error = true;
                string(value).unwrap_or_else(|| value.get().to_owned())
            }
            _ => raw.get().to_owned(),
        });
    }
    let mut parts: Vec<Part> = text.into_iter().map(Part::text).collect();
    let at = from.at("parts");
    for (i, raw) in from.take::<Vec<&RawValue>>("parts")?.unwrap_or_default().into_iter().enumerate() {
        if let Read::Content(content) = part::read(raw, &format!("{at}[{i}]"))?.read {
            parts.push(content.into());
        }
    }
    for (name, _) in from.rest() {
        losses.dropped(&format!("contents.parts.functionResponse.{name}"));
    }
    Ok(ToolResult { id, parts, is_error })
}

/// Each member of a tool is a tool.
fn tools(raw: &RawValue, path: &str, tools: &mut Vec<Tool>, losses: &mut Losses) -> Result<(), Error> {
    let mut from = Members::of(raw, path)?.camel();
    let at = from.at("functionDeclarations");
    let declared = from.take::<Vec<&RawValue>>("functionDeclarations")?.unwrap_or_default();
    for (i, raw) in declared.into_iter().enumerate() {
        let mut function = Members::of(raw, &format!("{at}[{i}]"))?.camel();
        let older = function.raw("parameters").map(json_schema);
        tools.push(Tool::Function(Function {
            name: function.need("name")?,
            description: function.take("description")?,
            schema: function.raw("parametersJsonSchema").map(ToOwned::to_owned).or(older),
            strict: None,
            cache: None,
            custom: None,
        }));
        for (name, _) in function.rest() {
            losses.dropped(&format!("tools.functionDeclarations.{name}"));
        }
    }
    // One that is switched on may be an empty object.
    tools.extend(from.all().map(|(kind, value)| Tool::Foreign { kind, value: value.to_owned() }));
    Ok(())
}

fn tool_config(mut from: Members<'_>, request: &mut Request, losses: &mut Losses) -> Result<(), Error> {
    if let Some(mut calling) = from.object("functionCallingConfig")?.map(Members::camel) {
        let allowed = calling.take::<Vec<String>>("allowedFunctionNames")?.unwrap_or_default();
        let mode = calling.take::<String>("mode")?.map(|mode| mode.to_ascii_uppercase());
        request.tool_choice = match mode.as_deref() {
            Some("NONE") => Some(ToolChoice::None),
            Some("ANY") => match allowed.as_slice() {
                [only] => Some(ToolChoice::Named(only.clone())),
                _ => Some(ToolChoice::Required),
            },
            Some("AUTO") => Some(ToolChoice::Auto),
            Some("VALIDATED") => {
                strict(&mut request.tools);
                Some(ToolChoice::Auto)
            }
            Some("MODE_UNSPECIFIED") | None => None,
            Some(_) => {
                return Err(Error::invalid(calling.at("mode"), "Expected AUTO, ANY, NONE or VALIDATED."));
            }
        };
        let named = matches!(request.tool_choice, Some(ToolChoice::Named(_)));
        if !allowed.is_empty() && !named {
            // Nobody else can be told so: the others are not shown.
            let (allowed, before) = (HashSet::<String>::from_iter(allowed), request.tools.len());
            request.tools.retain(|tool| match tool {
                Tool::Function(function) => allowed.contains(&function.name),
                Tool::Foreign { .. } => true,
            });
            if request.tools.len() < before {
                losses.emulated("toolConfig.functionCallingConfig.allowedFunctionNames");
            }
        }
        for (name, _) in calling.rest() {
            losses.dropped(&format!("toolConfig.functionCallingConfig.{name}"));
        }
    }
    for (name, _) in from.rest() {
        losses.dropped(&format!("toolConfig.{name}"));
    }
    Ok(())
}

fn strict(tools: &mut [Tool]) {
    for tool in tools {
        if let Tool::Function(function) = tool {
            function.strict = Some(true);
        }
    }
}

fn generation_config(mut from: Members<'_>, request: &mut Request, losses: &mut Losses) -> Result<(), Error> {
    request.max_output = from.take("maxOutputTokens")?;
    request.stop = from.take("stopSequences")?.unwrap_or_default();
    request.choices = from.take::<u64>("candidateCount")?.filter(|n| *n > 1);
    request.sampling = Sampling {
        temperature: from.take("temperature")?,
        top_p: from.take("topP")?,
        top_k: top_k(&mut from)?,
        frequency_penalty: from.take("frequencyPenalty")?.filter(|v| *v != 0.0),
        presence_penalty: from.take("presencePenalty")?.filter(|v| *v != 0.0),
        seed: from.take("seed")?,
    };
    let top = from.take::<u64>("logprobs")?;
    if from.take::<bool>("responseLogprobs")?.unwrap_or(false) {
        request.logprobs = Some(top.unwrap_or(0));
    }
    think::read(&mut from, request)?;
    format(&mut from, request, losses)?;
    if let Some(modalities) = from.raw("responseModalities") {
        let asked = serde_json::from_str::<Vec<String>>(modalities.get())
            .map_err(|_| wrong(&from.at("responseModalities"), "an array of strings"))?;
        if asked.iter().any(|m| !m.eq_ignore_ascii_case("text")) {
            extra("responseModalities", modalities, &mut request.extras);
        }
    }
    for (name, raw) in from.rest() {
        extra(&name, raw, &mut request.extras);
    }
    Ok(())
}

fn extra(name: &str, raw: &RawValue, extras: &mut BTreeMap<String, Raw>) {
    extras.insert(format!("generationConfig.{name}"), raw.to_owned());
}

/// A float on the wire, of which only whole numbers mean anything.
fn top_k(from: &mut Members<'_>) -> Result<Option<u64>, Error> {
    let at = from.at("topK");
    let Some(top_k) = from.take::<f64>("topK")? else { return Ok(None) };
    if !(0.0..1e9).contains(&top_k) {
        return Err(wrong(&at, "a whole number"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range above")]
    Ok(Some(top_k.round() as u64))
}

fn format(from: &mut Members<'_>, request: &mut Request, losses: &mut Losses) -> Result<(), Error> {
    let kind = from.take::<String>("responseMimeType")?;
    let older = from.raw("responseSchema").map(json_schema);
    let schema = from.raw("responseJsonSchema").map(ToOwned::to_owned).or(older);
    request.format = match (kind.as_deref(), schema) {
        (Some("application/json") | None, Some(schema)) => {
            Some(Format::Schema { name: None, description: None, schema, strict: None })
        }
        (Some("application/json"), None) => Some(Format::Json),
        (Some("text/x.enum"), Some(schema)) => {
            // One of several words, as it is: as JSON it is asked for in an object, and taken out of it.
            losses.emulated("response_format");
            request.bare = true;
            Some(Format::Schema {
                name: None,
                description: None,
                schema: schema::Check::wrap(&schema),
                strict: None,
            })
        }
        (None | Some("" | "text/plain"), _) => None,
        (Some(_), _) => {
            losses.dropped("generationConfig.responseMimeType");
            None
        }
    };
    Ok(())
}
