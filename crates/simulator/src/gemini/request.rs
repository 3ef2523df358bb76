//! A `generateContent` body, checked as Google checks it: names it doesn't know are errors.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{contents::Reader, invalid, schema, schema::snake, wire::Form};
use crate::{
    dialect::Parsed,
    error::ApiError,
    faults::Faults,
    request::{Choice, Format, Request, Thinking, Thoughts, Tool},
    tokens::count_text,
};

const BODY: &[&str] = &[
    "model",
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "safetySettings",
    "generationConfig",
    "cachedContent",
    "labels",
    "serviceTier",
    "store",
    "x_sim",
];
const CONFIG: &[&str] = &[
    "temperature",
    "topP",
    "topK",
    "candidateCount",
    "maxOutputTokens",
    "stopSequences",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "seed",
    "responseModalities",
    "speechConfig",
    "thinkingConfig",
    "mediaResolution",
    "enableEnhancedCivicAnswers",
    "imageConfig",
    "audioTimestamp",
    "routingConfig",
    "modelSelectionConfig",
];
const FUNCTION: &[&str] = &[
    "name",
    "description",
    "parameters",
    "parametersJsonSchema",
    "response",
    "responseJsonSchema",
    "behavior",
];
const MOST_CANDIDATES: u64 = 8;
const MOST_STOPS: usize = 5;

/// A member, in either of the two ways to write its name.
pub(super) fn get<'a>(of: &'a Value, name: &str) -> Option<&'a Value> {
    of.get(name).or_else(|| of.get(snake(name))).filter(|value| !value.is_null())
}

/// Refuses members that are none of these.
pub(super) fn known(members: &Map<String, Value>, at: &str, names: &[&str]) -> Result<(), ApiError> {
    let is = |name: &String| names.iter().any(|known| known == name || snake(known) == *name);
    let Some(unknown) = members.keys().find(|name| !is(name)) else { return Ok(()) };
    let place = if at.is_empty() { String::new() } else { format!(" at '{at}'") };
    let message =
        format!("Invalid JSON payload received. Unknown name \"{unknown}\"{place}: Cannot find field.");
    Err(invalid(at, message))
}

fn read(body: &[u8]) -> Result<Value, ApiError> {
    match serde_json::from_slice(body) {
        Ok(body @ Value::Object(_)) => Ok(body),
        Ok(_) => Err(invalid("", "Invalid JSON payload received. Expected an object.")),
        Err(error) => Err(invalid("", format!("Invalid JSON payload received. {error}"))),
    }
}

fn reader(body: &Value) -> Result<Reader, ApiError> {
    if let Value::Object(members) = body {
        known(members, "", BODY)?;
    }
    if get(body, "cachedContent").is_some() {
        let message = "CachedContent not found (or permission denied)";
        return Err(ApiError::new(http::StatusCode::FORBIDDEN, "", message));
    }
    let mut reader = Reader::default();
    if let Some(system) = get(body, "systemInstruction") {
        reader.system(system)?;
    }
    let none = "* GenerateContentRequest.contents: contents is not specified\n";
    reader.contents(get(body, "contents").ok_or_else(|| invalid("contents", none))?)?;
    reader.tokens += get(body, "tools").map_or(0, |tools| count_text(&tools.to_string()));
    reader.tokens = reader.tokens.max(1);
    Ok(reader)
}

/// Tokens of a `countTokens` body.
pub(super) fn count(body: &[u8]) -> Result<u64, ApiError> {
    let body = read(body)?;
    Ok(reader(get(&body, "generateContentRequest").unwrap_or(&body))?.tokens)
}

pub(crate) fn parse<'a>(body: &[u8], model: &str, stream: bool, sse: bool) -> Result<Parsed<'a>, ApiError> {
    let body = read(body)?;
    let reader = reader(&body)?;
    if model.starts_with("gemma-3") && get(&body, "systemInstruction").is_some() {
        return Err(invalid("", format!("Developer instruction is not enabled for models/{model}")));
    }
    // Those that sign everything want everything back.
    let strict = model.starts_with("gemini-3") || model.starts_with("sim-think");
    if let Some(unsigned) = reader.unsigned.filter(|_| strict) {
        return Err(unsigned);
    }
    let none = Value::Null;
    let config = get(&body, "generationConfig").unwrap_or(&none);
    if let Value::Object(members) = config {
        known(members, "generation_config", CONFIG)?;
    }
    sampling(config)?;
    let (tools, tool_choice) = tools(&body)?;
    let format = format(config)?;
    if format != Format::Text && !tools.is_empty() && model.starts_with("gemini-2") {
        let message = "Function calling with a response mime type: 'application/json' is unsupported";
        return Err(invalid("", message));
    }
    let (thinking, shown) = thinking(config, model)?;
    let enumerated = get(config, "responseMimeType").is_some_and(|mime| mime == "text/x.enum");
    let number = |name: &str| get(config, name).and_then(Value::as_u64);
    let logprobs = match get(config, "responseLogprobs").and_then(Value::as_bool) {
        Some(true) => Some(usize::try_from(number("logprobs").unwrap_or(0).min(20)).unwrap_or(0)),
        _ => None,
    };
    let request = Request {
        model: Cow::Owned(model.to_owned()),
        conversation: reader.conversation,
        stream,
        include_usage: true,
        max_tokens: number("maxOutputTokens"),
        n: number("candidateCount").unwrap_or(1),
        stops: stops(config)?,
        tools,
        tool_choice,
        parallel_tool_calls: true,
        format,
        logprobs,
        seed: get(config, "seed").and_then(Value::as_i64),
        service_tier: "default",
        wish: wish(&body)?,
        thinking,
        thoughts: if shown { Thoughts::Summary } else { Thoughts::Hidden },
        marks: None,
        legacy_max_tokens: false,
    };
    // Older models leave it to the order of the calls which is which.
    let ids = !model.starts_with("gemini-2");
    let form = Form::new(sse, logprobs, ids, enumerated);
    Ok(Parsed { request, prompt_tokens: reader.tokens, form: Box::new(form) })
}

fn sampling(config: &Value) -> Result<(), ApiError> {
    let within = |name: &str, least: f64, most: f64| {
        let Some(value) = get(config, name) else { return Ok(()) };
        let at = format!("generation_config.{}", snake(name));
        match value.as_f64() {
            Some(number) if (least..=most).contains(&number) => Ok(()),
            Some(_) => Err(invalid(
                &at,
                format!("* GenerateContentRequest.{at}: {name} must be in the range [{least}, {most}].\n"),
            )),
            None => Err(invalid(&at, format!("Invalid value at '{at}' (TYPE_FLOAT), {value}"))),
        }
    };
    within("temperature", 0.0, 2.0)?;
    within("topP", 0.0, 1.0)?;
    within("topK", 1.0, 1_000.0)?;
    within("maxOutputTokens", 1.0, 2_147_483_647.0)?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    within("candidateCount", 1.0, MOST_CANDIDATES as f64)
}

fn stops(config: &Value) -> Result<Vec<Cow<'static, str>>, ApiError> {
    let stops = get(config, "stopSequences").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if stops.len() > MOST_STOPS {
        let at = "generation_config.stop_sequences";
        return Err(invalid(
            at,
            format!("* GenerateContentRequest.{at}: at most {MOST_STOPS} are allowed.\n"),
        ));
    }
    Ok(stops.iter().filter_map(Value::as_str).map(|stop| Cow::Owned(stop.to_owned())).collect())
}

/// How to think, and whether to show it.
fn thinking(config: &Value, model: &str) -> Result<(Thinking, bool), ApiError> {
    let Some(thinking) = get(config, "thinkingConfig") else { return Ok((Thinking::Usual, false)) };
    let at = "generation_config.thinking_config";
    if let Value::Object(members) = thinking {
        known(members, at, &["includeThoughts", "thinkingBudget", "thinkingLevel"])?;
    }
    let shown = get(thinking, "includeThoughts").and_then(Value::as_bool).unwrap_or(false);
    let budget = get(thinking, "thinkingBudget").map(|budget| budget.as_i64().unwrap_or(-1));
    let level = get(thinking, "thinkingLevel").and_then(Value::as_str).map(str::to_ascii_lowercase);
    let thinking = match (budget, level.as_deref()) {
        (Some(_), Some(_)) => {
            return Err(invalid("", "You can only set only one of thinking budget and thinking level."));
        }
        (Some(0), None) if model.contains("-pro") => {
            return Err(invalid("", "Budget 0 is invalid. This model only works in thinking mode."));
        }
        (Some(0), None) => Thinking::Off,
        (Some(budget), None) => Thinking::On { effort: 1, budget: u64::try_from(budget).ok() },
        (None, Some("minimal" | "low" | "medium")) => Thinking::On { effort: 1, budget: None },
        (None, Some("high")) => Thinking::On { effort: 2, budget: None },
        (None, Some("xhigh")) => Thinking::On { effort: 3, budget: None },
        (None, Some(other)) => {
            let kind = "type.googleapis.com/google.ai.generativelanguage.v1beta.ThinkingConfig.ThinkingLevel";
            let at = format!("{at}.thinking_level");
            return Err(invalid(&at, format!("Invalid value at '{at}' ({kind}), \"{other}\"")));
        }
        (None, None) if shown => Thinking::On { effort: 1, budget: None },
        (None, None) => Thinking::Usual,
    };
    Ok((thinking, shown))
}

fn format(config: &Value) -> Result<Format, ApiError> {
    let at = "generation_config.response_schema";
    let schema = match (get(config, "responseSchema"), get(config, "responseJsonSchema")) {
        (Some(_), Some(_)) => {
            return Err(invalid("", "response_schema and response_json_schema are mutually exclusive."));
        }
        (Some(schema), None) => Some(schema::json_schema(schema, at, 0)?),
        (None, Some(schema @ Value::Object(_))) => Some(schema.clone()),
        (None, Some(other)) => {
            return Err(invalid(
                at,
                format!("Invalid value at 'generation_config.response_json_schema', {other}"),
            ));
        }
        (None, None) => None,
    };
    match (get(config, "responseMimeType").and_then(Value::as_str), schema) {
        (Some("application/json" | "text/x.enum"), Some(schema)) => Ok(Format::Schema(schema)),
        (Some("application/json"), None) => Ok(Format::Json),
        (None | Some("text/plain"), None) => Ok(Format::Text),
        (None | Some("text/plain"), Some(_)) => {
            let text = "response_mime_type must be 'application/json' or 'text/x.enum' when a response schema is set.";
            Err(invalid(at, format!("* GenerateContentRequest.{at}: {text}\n")))
        }
        (Some(other), _) => {
            let at = "generation_config.response_mime_type";
            let allowed = "allowed mimetypes are `text/plain`, `application/json`, `application/xml`, `application/yaml` and `text/x.enum`.";
            Err(invalid(at, format!("* GenerateContentRequest.{at}: {allowed} Got {other}\n")))
        }
    }
}

fn tools(body: &Value) -> Result<(Vec<Tool>, Choice), ApiError> {
    let mut tools: Vec<Tool> = Vec::new();
    let declared = get(body, "tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (at, tool) in declared.iter().enumerate() {
        let functions = get(tool, "functionDeclarations").and_then(Value::as_array);
        for (i, function) in functions.into_iter().flatten().enumerate() {
            let at = format!("tools[{at}].function_declarations[{i}]");
            if let Value::Object(members) = function {
                known(members, &at, FUNCTION)?;
            }
            let name = function["name"].as_str().unwrap_or_default();
            check_name(name, &at)?;
            if tools.iter().any(|tool| tool.name == name) {
                return Err(invalid("", format!("Duplicate function declaration found: {name}")));
            }
            tools.push(Tool::function(name, schema::parameters(function, &at)?));
        }
    }
    let choice = choice(body, &mut tools)?;
    Ok((tools, choice))
}

fn check_name(name: &str, at: &str) -> Result<(), ApiError> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if first && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-:".contains(&b)) {
        return Ok(());
    }
    let text = "Invalid function name. Must start with a letter or an underscore. Must be alphanumeric (a-z, A-Z, 0-9), \
                underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 64.";
    Err(invalid(&format!("{at}.name"), format!("* GenerateContentRequest.{at}.name: {text}\n")))
}

fn choice(body: &Value, tools: &mut Vec<Tool>) -> Result<Choice, ApiError> {
    let none = Value::Null;
    let config =
        get(body, "toolConfig").and_then(|config| get(config, "functionCallingConfig")).unwrap_or(&none);
    let allowed: Vec<_> = get(config, "allowedFunctionNames")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mode = get(config, "mode").and_then(Value::as_str).map(str::to_ascii_uppercase);
    let choice = match mode.as_deref() {
        None | Some("AUTO" | "VALIDATED" | "MODE_UNSPECIFIED") => Choice::Auto,
        Some("ANY") => Choice::Required,
        Some("NONE") => Choice::None,
        Some(other) => {
            let at = "tool_config.function_calling_config.mode";
            return Err(invalid(at, format!("Invalid value at '{at}', \"{other}\"")));
        }
    };
    if allowed.is_empty() {
        return Ok(choice);
    }
    if !matches!(mode.as_deref(), Some("ANY" | "VALIDATED")) {
        let message =
            "Allowed function names should be set only when the calling mode is 'ANY' or 'VALIDATED'.";
        return Err(invalid("", message));
    }
    if let Some(unknown) = allowed.iter().find(|name| tools.iter().all(|tool| tool.name != **name)) {
        return Err(invalid("", format!("Allowed function name '{unknown}' is not declared.")));
    }
    tools.retain(|tool| allowed.contains(&tool.name.as_str()));
    Ok(choice)
}

fn wish(body: &Value) -> Result<Option<Faults>, ApiError> {
    let Some(wish) = body.get("x_sim") else { return Ok(None) };
    Faults::wish(&wish.to_string()).map(Some).map_err(|error| invalid("x_sim", error))
}
