//! A Converse body, written from what is meant.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    blocks::{Block, CachePoint, Wire, Writer, cache_point},
    model::Kind,
};
use crate::{
    anthropic::{Claude, JSON_ONLY, asked, must_call, object},
    canonical::{Content, Format, Function, Losses, Reasoning, Request, Tool, ToolChoice},
    dialect::Target,
    schema::{self, Flavor, Room},
};

/// Name of a schema whose client gave it none.
const SCHEMA_NAME: &str = "answer";
/// Members of Converse that stand for nothing canonical: a client that knows them gets them through.
const OWN: [&str; 6] = [
    "additionalModelResponseFieldPaths",
    "guardrailConfig",
    "performanceConfig",
    "promptVariables",
    "requestMetadata",
    "serviceTier",
];
const MORE: &str = "additionalModelRequestFields";

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    messages: Vec<Wire<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "Inference::is_empty")]
    inference_config: Inference<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Tools<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Output<'a>>,
    /// The model's own parameters, by its vendor's names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    additional_model_request_fields: BTreeMap<String, Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    additional_model_response_field_paths: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_metadata: Option<BTreeMap<&'static str, &'a str>>,
    #[serde(flatten)]
    extensions: BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Inference<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
}

impl Inference<'_> {
    fn is_empty(&self) -> bool {
        self.max_tokens.is_none()
            && self.temperature.is_none()
            && self.top_p.is_none()
            && self.stop_sequences.is_empty()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum WireTool<'a> {
    ToolSpec {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        input_schema: InputSchema<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
    CachePoint(CachePoint),
}

#[derive(Serialize)]
struct InputSchema<'a> {
    json: Cow<'a, RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Choice<'a> {
    Auto {},
    Any {},
    Tool { name: &'a str },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Output<'a> {
    text_format: TextFormat<'a>,
}

#[derive(Serialize)]
struct TextFormat<'a> {
    r#type: &'static str,
    structure: Structure<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Structure<'a> {
    json_schema: Schema<'a>,
}

#[derive(Serialize)]
struct Schema<'a> {
    /// JSON as text.
    schema: Cow<'a, str>,
    name: &'a str,
}

/// The body for a provider. The model stands in the path.
pub(super) fn encode_request(request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
    let kind = Kind::of(target.model);
    let mut body = Body::default();
    passed_on(request, &mut body, losses);
    (body.system, body.messages) = Writer::new(kind, losses).conversation(&request.messages);
    body.inference_config.max_tokens = request.max_output;
    stops(request, kind, &mut body, losses);
    tools(request, target, kind, &mut body, losses);
    let thinks = reasoning(request, target, kind, &mut body, losses);
    sampling(request, kind, thinks || target.fixed_sampling || kind.fixed(), &mut body, losses);
    format(request, kind, &mut body, losses);
    user(request, &mut body, losses);
    for (name, given) in [
        ("n", request.choices.is_some_and(|n| n > 1)),
        ("logprobs", request.logprobs.is_some()),
        ("seed", request.sampling.seed.is_some()),
        ("frequency_penalty", request.sampling.frequency_penalty.is_some()),
        ("presence_penalty", request.sampling.presence_penalty.is_some()),
    ] {
        if given {
            losses.dropped(name);
        }
    }
    // Serializing into memory can't fail.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

/// Members that the client knows from Bedrock itself, and extensions.
fn passed_on<'a>(request: &'a Request, body: &mut Body<'a>, losses: &mut Losses) {
    for (name, raw) in &request.extras {
        if name == MORE {
            let more = serde_json::from_str::<BTreeMap<String, &'a RawValue>>(raw.get()).unwrap_or_default();
            let more = more.into_iter().map(|(name, raw)| (name, Cow::Borrowed(raw)));
            body.additional_model_request_fields = more.collect();
        } else if OWN.contains(&name.as_str()) || name.starts_with("x_") {
            body.extensions.insert(name, raw);
        } else {
            losses.dropped(name);
        }
    }
}

impl Body<'_> {
    /// A parameter of the model, unless the client gave its own.
    fn more(&mut self, name: &str, value: impl Serialize) {
        if let Ok(raw) = to_raw_value(&value) {
            self.additional_model_request_fields.entry(name.to_owned()).or_insert(Cow::Owned(raw));
        }
    }
}

fn stops<'a>(request: &'a Request, kind: Kind, body: &mut Body<'a>, losses: &mut Losses) {
    let stops: Vec<&str> =
        request.stop.iter().map(String::as_str).filter(|stop| !stop.trim().is_empty()).collect();
    if stops.len() < request.stop.len() {
        losses.altered("stop");
    }
    if kind.is_claude() && !stops.is_empty() && !body.extensions.contains_key(OWN[0]) {
        // Which of them it was is the model's own to say.
        body.additional_model_response_field_paths.push("/stop_sequence");
    }
    body.inference_config.stop_sequences = stops;
}

fn tools<'a>(
    request: &'a Request,
    target: &Target<'_>,
    kind: Kind,
    body: &mut Body<'a>,
    losses: &mut Losses,
) {
    let mut tools = Vec::with_capacity(request.tools.len());
    let mut room = Room::default();
    for tool in &request.tools {
        match tool {
            Tool::Function(function) => {
                tools.push(spec(function, kind, &mut room, losses));
                tools.extend(cache_point(function.cache.as_ref(), kind).map(WireTool::CachePoint));
            }
            Tool::Foreign { kind, .. } => losses.dropped(&format!("tools.{kind}")),
        }
    }
    let used = tools_used(request);
    if tools.is_empty() && !used.is_empty() {
        // Calls and results are refused where no tools are declared.
        losses.emulated("tools");
        tools.extend(used.into_iter().map(|name| WireTool::ToolSpec {
            name,
            description: None,
            input_schema: InputSchema { json: any_object() },
            strict: None,
        }));
        body.tool_config = Some(Tools { tools, tool_choice: None });
        return;
    }
    if tools.is_empty() {
        return;
    }
    let single = request.parallel_tools == Some(false);
    let must = must_call(request, Claude::of(target)).filter(|_| kind.is_claude());
    if let Some((_, only)) = &must {
        losses.emulated("tool_choice");
        only_tool(&mut tools, *only);
    }
    let choice = request.tool_choice.as_ref().filter(|_| must.is_none());
    body.system.extend(must.map(|(text, _)| Block::Text(text.into())));
    if kind.is_claude() && (single || choice == Some(&ToolChoice::None)) {
        // Converse has no words for it, but passes on Anthropic's.
        let mut own = serde_json::Map::new();
        let (word, name) = match choice {
            Some(ToolChoice::None) => ("none", None),
            Some(ToolChoice::Required) => ("any", None),
            Some(ToolChoice::Named(name)) => ("tool", Some(name)),
            Some(ToolChoice::Auto) | None => ("auto", None),
        };
        own.insert("type".to_owned(), word.into());
        own.extend(name.map(|name| ("name".to_owned(), name.as_str().into())));
        if word != "none" {
            own.insert("disable_parallel_tool_use".to_owned(), true.into());
        }
        body.more("tool_choice", own);
        body.tool_config = Some(Tools { tools, tool_choice: None });
        return;
    }
    if single {
        losses.dropped("parallel_tool_calls");
    }
    let tool_choice = match choice {
        None => None,
        Some(ToolChoice::Auto) => Some(Choice::Auto {}),
        Some(ToolChoice::Required) => Some(Choice::Any {}),
        Some(ToolChoice::Named(name)) => Some(Choice::Tool { name }),
        // Not declared, they can't be called.
        Some(ToolChoice::None) if used.is_empty() => return,
        Some(ToolChoice::None) => {
            losses.altered("tool_choice");
            None
        }
    };
    body.tool_config = Some(Tools { tools, tool_choice });
}

/// Leaves one tool, if it is among them, and what marks it.
fn only_tool(tools: &mut Vec<WireTool<'_>>, only: Option<&str>) {
    let named = |tool: &WireTool<'_>| matches!(tool, WireTool::ToolSpec { name, .. } if Some(*name) == only);
    if let Some(at) = tools.iter().position(named) {
        let marked = matches!(tools.get(at + 1), Some(WireTool::CachePoint(_)));
        tools.truncate(at + 1 + usize::from(marked));
        tools.drain(..at);
    }
}

/// What can't be held to strictly isn't.
fn spec<'a>(function: &'a Function, kind: Kind, room: &mut Room, losses: &mut Losses) -> WireTool<'a> {
    let mut strict = function.strict.filter(|strict| *strict);
    let mut json = match &function.schema {
        Some(schema) => Cow::Borrowed(&**schema),
        None => any_object(),
    };
    if strict.is_some() && kind.has_schemas() {
        let compiled = room.compile(&json, Flavor::Anthropic);
        if compiled.altered {
            losses.altered("tools");
        }
        if compiled.supported {
            json = Cow::Owned(compiled.schema);
        } else {
            strict = None;
        }
    }
    WireTool::ToolSpec {
        name: &function.name,
        description: function.description.as_deref().filter(|text| !text.trim().is_empty()),
        input_schema: InputSchema { json },
        strict,
    }
}

fn any_object() -> Cow<'static, RawValue> {
    object(r#"{"type":"object","properties":{}}"#)
}

/// Names of tools that the conversation calls.
fn tools_used(request: &Request) -> Vec<&str> {
    let mut names: Vec<&str> = request
        .messages
        .iter()
        .flat_map(|message| &message.parts)
        .filter_map(|part| match &part.content {
            Content::ToolUse(call) => Some(call.name.as_str()),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Levels become what the model takes. Whether it will think.
fn reasoning(
    request: &Request,
    target: &Target<'_>,
    kind: Kind,
    body: &mut Body<'_>,
    losses: &mut Losses,
) -> bool {
    if kind.is_claude() {
        return claude_thinks(request, target, kind, body, losses);
    }
    let Some(reasoning) = &request.reasoning else { return false };
    if reasoning.enabled == Some(false) {
        return false;
    }
    match kind {
        Kind::GptOss => {
            body.more("reasoning_effort", level(reasoning, losses));
            true
        }
        Kind::Nova2 => {
            let level = level(reasoning, losses);
            let config = serde_json::json!({"type": "enabled", "maxReasoningEffort": level});
            body.more("reasoningConfig", config);
            // Nova refuses these at its highest.
            if level == "high" {
                body.inference_config.max_tokens = None;
            }
            level == "high"
        }
        _ => {
            losses.dropped("reasoning_effort");
            false
        }
    }
}

/// One of three.
fn level(reasoning: &Reasoning, losses: &mut Losses) -> &'static str {
    match (reasoning.effort.as_deref(), reasoning.budget) {
        (Some("low"), _) => "low",
        (Some("high"), _) => "high",
        (Some("minimal"), _) | (None, Some(0..2_048)) => {
            losses.altered("reasoning_effort");
            "low"
        }
        (Some("xhigh" | "max"), _) | (None, Some(12_288..)) => {
            losses.altered("reasoning_effort");
            "high"
        }
        (Some(_), _) | (None, None) => "medium",
        (None, Some(_)) => {
            losses.altered("reasoning_effort");
            "medium"
        }
    }
}

/// In Anthropic's words, which Converse passes on.
fn claude_thinks(
    request: &Request,
    target: &Target<'_>,
    kind: Kind,
    body: &mut Body<'_>,
    losses: &mut Losses,
) -> bool {
    let mut claude = Claude::of(target);
    claude.adaptive |= kind.adaptive();
    claude.budgets = kind.budgeted() && !kind.fixed();
    let most = request.max_output.or(target.max_output);
    let asked = asked(request, claude, (body.tool_config.is_some(), most), losses);
    if let Some(bound) = asked.max_tokens {
        body.inference_config.max_tokens = Some(bound);
    }
    if let Some(thinking) = &asked.thinking {
        body.more("thinking", thinking);
    }
    if let Some(effort) = asked.effort {
        body.more("output_config", serde_json::json!({"effort": effort}));
    }
    asked.thinks()
}

fn sampling(request: &Request, kind: Kind, fixed: bool, body: &mut Body<'_>, losses: &mut Losses) {
    let sampling = &request.sampling;
    if fixed {
        for (name, given) in [
            ("temperature", sampling.temperature.is_some_and(|t| t != 1.0)),
            ("top_p", sampling.top_p.is_some_and(|p| p != 1.0)),
            ("top_k", sampling.top_k.is_some()),
        ] {
            if given {
                losses.dropped(name);
            }
        }
        return;
    }
    if sampling.temperature.is_some_and(|t| t > 1.0) {
        losses.altered("temperature");
    }
    body.inference_config.temperature = sampling.temperature.map(|t| t.min(1.0));
    // Newer models take one of the two; all of it is what leaving it out means.
    body.inference_config.top_p = sampling.top_p.filter(|p| *p < 1.0);
    match (sampling.top_k, kind) {
        (None, _) => {}
        (Some(k), Kind::Claude(..)) => body.more("top_k", k),
        (Some(k), Kind::Nova | Kind::Nova2) => body.more("inferenceConfig", serde_json::json!({"topK": k})),
        (Some(_), _) => losses.dropped("top_k"),
    }
}

fn format<'a>(request: &'a Request, kind: Kind, body: &mut Body<'a>, losses: &mut Losses) {
    match &request.format {
        None => {}
        Some(Format::Json) => {
            losses.emulated("response_format");
            body.system.push(Block::Text(JSON_ONLY.into()));
        }
        Some(Format::Schema { name, schema, .. }) => {
            let compiled = schema::compile(schema, Flavor::Anthropic);
            if !kind.has_schemas() || !compiled.supported {
                losses.emulated("response_format");
                return body.system.push(Block::Text(schema::instruction(schema).into()));
            }
            if compiled.altered {
                losses.altered("response_format");
            }
            let name = name.as_deref().unwrap_or(SCHEMA_NAME);
            let schema = compiled.schema.get().to_owned().into();
            let structure = Structure { json_schema: Schema { schema, name } };
            body.output_config =
                Some(Output { text_format: TextFormat { r#type: "json_schema", structure } });
        }
    }
}

/// As metadata of the call, which has its own letters.
fn user<'a>(request: &'a Request, body: &mut Body<'a>, losses: &mut Losses) {
    let Some(user) = request.user.as_deref() else { return };
    let fits = |c: char| c.is_ascii_alphanumeric() || " :_@$#=/+,-.".contains(c);
    if (1..=256).contains(&user.len())
        && user.chars().all(fits)
        && !body.extensions.contains_key("requestMetadata")
    {
        body.request_metadata = Some(BTreeMap::from([("user_id", user)]));
    } else {
        losses.dropped("user");
    }
}
