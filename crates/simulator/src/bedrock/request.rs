//! A body, checked as Converse checks it.

use std::borrow::Cow;

use serde_json::Value;

use super::{invalid, wire::Messages};
use crate::{
    anthropic::{is_redacted, is_signed},
    cache::{End, FIVE_MINUTES_MS, HOUR_MS},
    dialect::Parsed,
    error::ApiError,
    native::{Members, is_base64, list, prompt_tokens, wish},
    request::{Choice, Conversation, Format, Request, Thinking, Thoughts, Tool},
    seed::hash,
};

const KNOWN: &[&str] = &[
    "additionalModelRequestFields",
    "additionalModelResponseFieldPaths",
    "guardrailConfig",
    "inferenceConfig",
    "messages",
    "outputConfig",
    "performanceConfig",
    "promptVariables",
    "requestMetadata",
    "serviceTier",
    "system",
    "toolConfig",
    "x_sim",
];
/// Parameters of Claude's own that may be given besides.
const CLAUDES: [&str; 6] =
    ["thinking", "top_k", "tool_choice", "output_config", "anthropic_beta", "anthropic_version"];
const LEAST_BUDGET: u64 = 1_024;
const LEAST_CACHED: u64 = 1_024;
const MOST_MARKS: usize = 4;
const IMAGES: [&str; 4] = ["png", "jpeg", "gif", "webp"];
const DOCUMENTS: [&str; 9] = ["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"];

pub(super) fn parse(body: &[u8], model: &str, stream: bool) -> Result<Parsed<'static>, ApiError> {
    let Ok(Value::Object(from)) = serde_json::from_slice(body) else {
        return Err(invalid("Unexpected character in the request's JSON"));
    };
    if let Some(unknown) = from.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(invalid(format!("#: extraneous key [{unknown}] is not permitted")));
    }
    let claude = model.contains("claude");
    let inference = &from.get("inferenceConfig").cloned().unwrap_or_default();
    let more =
        from.get("additionalModelRequestFields").and_then(Value::as_object).cloned().unwrap_or_default();
    if claude && let Some(unknown) = more.keys().find(|name| !CLAUDES.contains(&name.as_str())) {
        return Err(invalid(format!(
            "The model returned the following errors: {unknown}: Extra inputs are not permitted"
        )));
    }
    let tools = tools(&from)?;
    let (tool_choice, parallel_tool_calls) = tool_choice(&from, &more, &tools)?;
    let max_tokens = inference["maxTokens"].as_u64();
    let thinking = thinking(&more, claude, max_tokens, &tool_choice)?;
    // Who decides himself how much to think does not insist on it.
    let manual = more.get("thinking").is_some_and(|thinking| thinking["type"] == "enabled");
    let thinks = matches!(thinking, Thinking::On { .. }) && claude && manual;
    let mut reader =
        Reader { talk: Conversation::default(), tools: from.contains_key("toolConfig"), thinks, claude };
    for block in list(&from, "system") {
        if let Some(text) = block["text"].as_str() {
            reader.talk.instructed(spoken(text)?.to_owned());
        }
    }
    reader.messages(list(&from, "messages"))?;
    let stops = inference["stopSequences"].as_array().cloned().unwrap_or_default();
    let paths = list(&from, "additionalModelResponseFieldPaths");
    let tells_stop = paths.iter().any(|path| path == "/stop_sequence");
    let request = Request {
        conversation: reader.talk,
        stream,
        include_usage: true,
        max_tokens,
        n: 1,
        stops: stops.iter().filter_map(Value::as_str).map(|stop| Cow::Owned(stop.to_owned())).collect(),
        tools,
        tool_choice,
        parallel_tool_calls,
        format: format(&from)?,
        logprobs: None,
        seed: None,
        service_tier: "default",
        wish: wish(&from)?,
        thinking,
        thoughts: Thoughts::Whole,
        marks: Some((ends(&from, model)?, LEAST_CACHED)),
        model: Cow::Owned(model.to_owned()),
        legacy_max_tokens: false,
    };
    let media = ["bytes", "signature", "redactedContent"];
    let prompt_tokens = prompt_tokens(&from, &["messages", "system", "toolConfig"], &media);
    Ok(Parsed { request, prompt_tokens, form: Box::new(Messages::new(claude, tells_stop)) })
}

fn spoken(text: &str) -> Result<&str, ApiError> {
    if text.trim().is_empty() {
        return Err(invalid(
            "The text field in the ContentBlock object is blank. Add text to the text field, and try again.",
        ));
    }
    Ok(text)
}

fn tools(from: &Members) -> Result<Vec<Tool>, ApiError> {
    let Some(config) = from.get("toolConfig") else { return Ok(Vec::new()) };
    let declared = config["tools"].as_array().filter(|tools| !tools.is_empty());
    let declared =
        declared.ok_or_else(|| invalid("The value at toolConfig.tools has length 0, less than 1"))?;
    let mut tools = Vec::with_capacity(declared.len());
    for tool in declared.iter().filter(|tool| tool.get("cachePoint").is_none()) {
        let spec = &tool["toolSpec"];
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
        let name = spec["name"].as_str().filter(|n| (1..=64).contains(&n.len()) && n.bytes().all(fits));
        let name =
            name.ok_or_else(|| invalid("toolSpec.name failed to satisfy constraint: [a-zA-Z0-9_-]+"))?;
        if spec.get("description").is_some_and(|d| d.as_str().is_none_or(str::is_empty)) {
            return Err(invalid("toolSpec.description has length 0, less than 1"));
        }
        let schema = &spec["inputSchema"]["json"];
        if schema["type"] != "object" {
            return Err(invalid(
                "The value at toolConfig.tools.toolSpec.inputSchema.json.type must be one of the following: object.",
            ));
        }
        tools.push(Tool::function(name, schema.clone()));
    }
    Ok(tools)
}

fn tool_choice(from: &Members, more: &Members, tools: &[Tool]) -> Result<(Choice, bool), ApiError> {
    let named = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        if tools.iter().any(|tool| tool.name == name) {
            Ok(Choice::Named(name.to_owned()))
        } else {
            Err(invalid(format!("The tool choice {name} is not among the tools")))
        }
    };
    if let Some(own) = more.get("tool_choice") {
        let choice = match own["type"].as_str() {
            Some("auto") => Choice::Auto,
            Some("none") => Choice::None,
            Some("any") => Choice::Required,
            Some("tool") => named(&own["name"])?,
            _ => return Err(invalid("tool_choice: Input tag does not match any of the expected tags")),
        };
        return Ok((choice, own["disable_parallel_tool_use"] != true));
    }
    let choice = match from.get("toolConfig").and_then(|config| config.get("toolChoice")) {
        None => Choice::Auto,
        Some(choice) if choice.get("auto").is_some() => Choice::Auto,
        Some(choice) if choice.get("any").is_some() => Choice::Required,
        Some(choice) => named(&choice["tool"]["name"])?,
    };
    Ok((choice, true))
}

fn thinking(more: &Members, claude: bool, max: Option<u64>, choice: &Choice) -> Result<Thinking, ApiError> {
    let on = |effort, budget| Ok(Thinking::On { effort, budget });
    if !claude {
        let asked = more.contains_key("reasoning_effort") || more.contains_key("reasoningConfig");
        return if asked { on(1, None) } else { Ok(Thinking::Usual) };
    }
    let Some(thinking) = more.get("thinking") else { return Ok(Thinking::Off) };
    if matches!(choice, Choice::Required | Choice::Named(_)) && thinking["type"] == "enabled" {
        return Err(invalid("Thinking may not be enabled when tool_choice forces tool use."));
    }
    match thinking["type"].as_str() {
        Some("disabled" | "between_tools") => Ok(Thinking::Off),
        Some("adaptive") => on(1, None),
        Some("enabled") => {
            let budget = thinking["budget_tokens"].as_u64().unwrap_or_default();
            if budget < LEAST_BUDGET {
                return Err(invalid(
                    "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
                ));
            }
            if max.is_none_or(|max| max <= budget) {
                return Err(invalid("`max_tokens` must be greater than `thinking.budget_tokens`."));
            }
            on(1, Some(budget))
        }
        _ => Err(invalid("thinking: Input tag does not match any of the expected tags")),
    }
}

fn format(from: &Members) -> Result<Format, ApiError> {
    let Some(format) = from.get("outputConfig").map(|config| &config["textFormat"]) else {
        return Ok(Format::Text);
    };
    let schema = format["structure"]["jsonSchema"]["schema"]
        .as_str()
        .and_then(|s| serde_json::from_str::<Value>(s).ok());
    match schema.filter(|schema| format["type"] == "json_schema" && schema.is_object()) {
        Some(schema) => Ok(Format::Schema(schema)),
        None => Err(invalid(
            "outputConfig.textFormat.structure.jsonSchema.schema: expected a JSON schema as text",
        )),
    }
}

/// Where blocks end, in the order that the cache knows: tools, system, messages. A point marks the block before it.
fn ends(from: &Members, model: &str) -> Result<Vec<End>, ApiError> {
    let tools =
        from.get("toolConfig").and_then(|config| config["tools"].as_array()).cloned().unwrap_or_default();
    let said =
        list(from, "messages").iter().flat_map(|m| m["content"].as_array().cloned().unwrap_or_default());
    let blocks: Vec<Value> =
        tools.into_iter().chain(list(from, "system").iter().cloned()).chain(said).collect();
    let mut ends: Vec<End> = Vec::with_capacity(blocks.len());
    let (mut digest, mut bytes, mut marks) = (hash(0, model.as_bytes()), 0, 0);
    for block in &blocks {
        if let Some(point) = block.get("cachePoint") {
            if point["type"] != "default" {
                return Err(invalid("cachePoint.type must be default"));
            }
            marks += 1;
            let ttl = if point["ttl"] == "1h" { HOUR_MS } else { FIVE_MINUTES_MS };
            if let Some(end) = ends.last_mut() {
                end.ttl_ms = Some(ttl);
            }
            continue;
        }
        let text = block["text"].as_str().map_or_else(|| block.to_string(), str::to_owned);
        (digest, bytes) = (hash(digest, text.as_bytes()), bytes + text.len());
        ends.push(End { digest, bytes, ttl_ms: None });
    }
    if marks > MOST_MARKS {
        return Err(invalid(format!(
            "A maximum of {MOST_MARKS} blocks with cache_control may be provided. Found {marks}."
        )));
    }
    Ok(ends)
}

struct Reader {
    talk: Conversation,
    /// Tools are declared.
    tools: bool,
    /// The turn that goes on must begin with thoughts.
    thinks: bool,
    claude: bool,
}

impl Reader {
    fn messages(&mut self, messages: &[Value]) -> Result<(), ApiError> {
        let mut last = "assistant";
        let mut waiting: Vec<String> = Vec::new();
        let mut thoughtless = false;
        for message in messages {
            let role = message["role"].as_str().unwrap_or_default();
            if role == last || !matches!(role, "user" | "assistant") {
                return Err(invalid(if role == "assistant" && self.talk.ends.is_empty() {
                    "A conversation must start with a user message. Try again with a conversation that starts with a user message."
                } else {
                    "A conversation must alternate between user and assistant roles. Make sure the conversation alternates between user and assistant roles and try again."
                }));
            }
            let content = message["content"].as_array().filter(|content| !content.is_empty());
            let content = content.ok_or_else(|| invalid("The content field in the Message object is empty. Add a ContentBlock object to the content field and try again."))?;
            if role == "user" {
                self.user(content, &mut waiting)?;
                thoughtless &= !content.iter().any(|block| block.get("text").is_some());
            } else {
                thoughtless = self.assistant(content, &mut waiting)?;
            }
            last = role;
        }
        if messages.is_empty() {
            return Err(invalid("The value at messages has length 0, less than 1"));
        }
        if !waiting.is_empty() {
            return Err(unanswered(&waiting));
        }
        if thoughtless && self.thinks {
            return Err(invalid(
                "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`.",
            ));
        }
        Ok(())
    }

    fn user(&mut self, content: &[Value], waiting: &mut Vec<String>) -> Result<(), ApiError> {
        let (mut said, mut spoke, mut documents) = (String::new(), false, false);
        for block in content {
            if let Some(text) = block["text"].as_str() {
                said.push_str(spoken(text)?);
                said.push(' ');
                spoke = true;
            } else if let Some(result) = block.get("toolResult") {
                self.declared()?;
                let id = result["toolUseId"].as_str().unwrap_or_default();
                let Some(found) = waiting.iter().position(|waiting| waiting == id) else {
                    return Err(invalid(
                        "The number of toolResult blocks exceeds the number of toolUse blocks of previous turn.",
                    ));
                };
                waiting.swap_remove(found);
                self.talk.resulted(result_text(result)?);
            } else if let Some(image) = block.get("image") {
                media(image, &IMAGES)?;
                spoke = true;
            } else if let Some(document) = block.get("document") {
                document_name(document)?;
                media(document, &DOCUMENTS)?;
                documents = true;
            } else if block.get("cachePoint").is_none() && block.get("guardContent").is_none() {
                return Err(invalid(
                    "ContentBlock object at messages.content must set one of the following keys: text, image, toolUse, toolResult, document, video.",
                ));
            }
        }
        if documents && said.is_empty() {
            return Err(invalid("A text block must be included when using documents."));
        }
        if !waiting.is_empty() {
            return Err(unanswered(waiting));
        }
        if spoke {
            self.talk.asked(said);
        }
        Ok(())
    }

    /// Whether it calls tools and has no thoughts.
    fn assistant(&mut self, content: &[Value], waiting: &mut Vec<String>) -> Result<bool, ApiError> {
        let (mut said, mut thought) = (String::new(), false);
        for block in content {
            if let Some(text) = block["text"].as_str() {
                said.push_str(spoken(text)?);
            } else if let Some(call) = block.get("toolUse") {
                self.declared()?;
                let id = call["toolUseId"].as_str().unwrap_or_default();
                let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
                if !(1..=64).contains(&id.len()) || !id.bytes().all(fits) || !call["input"].is_object() {
                    return Err(invalid(
                        "toolUse failed to satisfy constraint: toolUseId [a-zA-Z0-9_-]+ of at most 64, input an object",
                    ));
                }
                waiting.push(id.to_owned());
            } else if let Some(reasoning) = block.get("reasoningContent") {
                if !self.claude {
                    return Err(invalid("This model doesn't support the reasoningContent field."));
                }
                thought = true;
                let text = &reasoning["reasoningText"];
                let whole = match reasoning["redactedContent"].as_str() {
                    Some(data) => is_redacted(data),
                    None => is_signed(
                        text["text"].as_str().unwrap_or_default(),
                        text["signature"].as_str().unwrap_or_default(),
                    ),
                };
                if !whole {
                    return Err(invalid(
                        "The model returned the following errors: messages.1.content.0: Invalid `signature` in `thinking` block",
                    ));
                }
            } else if block.get("cachePoint").is_none() {
                return Err(invalid("ContentBlock object at messages.content is not one of an assistant's."));
            }
        }
        self.talk.spoke(&said);
        Ok(!waiting.is_empty() && !thought)
    }

    fn declared(&self) -> Result<(), ApiError> {
        if self.tools {
            return Ok(());
        }
        Err(invalid("The toolConfig field must be defined when using toolUse and toolResult content blocks."))
    }
}

fn unanswered(waiting: &[String]) -> ApiError {
    invalid(format!(
        "Expected toolResult blocks at messages.2.content for the following Ids: {}",
        waiting.join(", ")
    ))
}

fn result_text(result: &Value) -> Result<String, ApiError> {
    let mut said = String::new();
    for block in result["content"].as_array().map(Vec::as_slice).unwrap_or_default() {
        match (block["text"].as_str(), block.get("json")) {
            (Some(text), _) => {
                said.push_str(spoken(text)?);
                said.push(' ');
            }
            (None, Some(json)) => said.push_str(&json.to_string()),
            (None, None) => {}
        }
    }
    Ok(said)
}

fn media(block: &Value, formats: &[&str]) -> Result<(), ApiError> {
    if !block["format"].as_str().is_some_and(|format| formats.contains(&format)) {
        return Err(invalid(format!("The format must be one of {}", formats.join(", "))));
    }
    match block["source"]["bytes"].as_str() {
        Some(bytes) if is_base64(bytes) => Ok(()),
        None if block["source"].get("s3Location").is_some() => Ok(()),
        _ => Err(invalid("The bytes of the source are not base64")),
    }
}

fn document_name(document: &Value) -> Result<(), ApiError> {
    let name = document["name"].as_str().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || " -()[]".contains(c);
    if name.is_empty() || !name.chars().all(fits) || name.contains("  ") {
        return Err(invalid(
            "The document file name can only contain alphanumeric characters, whitespace characters, hyphens, parentheses, and square brackets. The name can't contain more than one consecutive whitespace character.",
        ));
    }
    Ok(())
}
