//! The models there are, and the endpoints that list them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Uri};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{Simulator, chat, dialect::Asked, error::ApiError, gemini, limits::time_of_day};

/// A model.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) id: Arc<str>,
    /// Prompt and answer together, in tokens.
    pub(crate) context: u64,
    /// Thinks before it answers, which costs tokens nobody sees; wants `max_completion_tokens`.
    pub(crate) reasons: bool,
    /// Tells what it writes to the cache.
    pub(crate) writes_cache: bool,
    /// Gives vectors, so long by itself; whether it gives no others.
    pub(crate) embeds: Option<(usize, bool)>,
    created: i64,
    owned_by: &'static str,
}

const MILLION: u64 = 1_047_576;

/// Id, context window, release (Unix seconds): OpenAI's, as its model pages have them.
const OPENAI: &[(&str, u64, i64)] = &[
    ("gpt-4o-mini", 128_000, 1_721_172_741),
    ("gpt-4o", 128_000, 1_715_367_049),
    ("gpt-4.1", MILLION, 1_744_316_542),
    ("gpt-4.1-mini", MILLION, 1_744_318_173),
    ("gpt-4", 8_192, 1_687_882_411),
    ("gpt-4-turbo", 128_000, 1_712_361_441),
    ("gpt-3.5-turbo", 16_385, 1_677_610_602),
    ("o3-mini", 200_000, 1_737_146_383),
    ("gpt-5-mini", 400_000, 1_754_425_928),
    ("gpt-5.6-sol", 1_050_000, 1_783_555_200),
    ("text-embedding-3-small", 8_192, 1_705_948_997),
    ("text-embedding-3-large", 8_192, 1_705_953_180),
    ("text-embedding-ada-002", 8_192, 1_671_217_299),
];
const OWN: &[(&str, u64)] =
    &[("sim-small", 8_192), ("sim-large", MILLION), ("sim-think", MILLION), ("sim-embed", 8_192)];
/// What the names of models begin with that reason of their own accord.
const REASONING: &[&str] = &["o3", "gpt-5", "sim-think", "gemini-2.5", "gemini-3"];
/// Anthropic's, with the most they answer.
const ANTHROPIC: &[(&str, u64, i64)] = &[
    ("claude-opus-5-5", 128_000, 1_790_812_800),
    ("claude-sonnet-5-5", 128_000, 1_790_812_800),
    ("claude-opus-4-5", 64_000, 1_763_942_400),
    ("claude-sonnet-4-5", 64_000, 1_759_104_000),
    ("claude-haiku-4-5", 64_000, 1_760_486_400),
    ("claude-3-5-haiku-latest", 8_192, 1_729_555_200),
];
/// Google's.
const GEMINI: &[(&str, u64, i64)] = &[
    ("gemini-3.8-flash", 1_048_576, 1_790_812_800),
    ("gemini-3-pro-preview", 1_048_576, 1_763_424_000),
    ("gemini-2.5-pro", 1_048_576, 1_750_118_400),
    ("gemini-2.5-flash", 1_048_576, 1_750_118_400),
    ("gemini-2.0-flash", 1_048_576, 1_738_713_600),
    ("gemma-3-27b-it", 131_072, 1_741_737_600),
    ("gemini-embedding-001", 2_048, 1_752_451_200),
];
/// On Bedrock, by its ids.
const BEDROCK: &[(&str, u64)] = &[
    ("anthropic.claude-sonnet-4-5-20250929-v1:0", CLAUDE_CONTEXT),
    ("amazon.nova-pro-v1:0", 300_000),
    ("openai.gpt-oss-20b-1:0", 131_072),
    ("amazon.titan-embed-text-v2:0", 8_192),
    ("amazon.titan-embed-text-v1", 8_192),
    ("cohere.embed-english-v3", 512),
    ("cohere.embed-v4:0", 128_000),
];
/// On Vertex AI alone.
const VERTEX: &[(&str, u64)] = &[("text-embedding-005", 2_048), ("gemini-embedding-2", 8_192)];
const MISTRAL: &[(&str, u64)] = &[
    ("mistral-large-latest", 131_072),
    ("mistral-small-latest", 131_072),
    ("magistral-medium-latest", 131_072),
    ("mistral-embed", 8_192),
];
/// As Ollama's library has them.
const OLLAMA: &[(&str, u64)] = &[
    ("llama3.2:latest", 131_072),
    ("qwen3:8b", 40_960),
    ("gpt-oss:20b", 131_072),
    ("nomic-embed-text:latest", 2_048),
];
/// Those that give vectors: how long those are, and whether always.
const EMBEDDING: &[(&str, usize, bool)] = &[
    ("text-embedding-3-small", 1_536, false),
    ("text-embedding-3-large", 3_072, false),
    ("text-embedding-ada-002", 1_536, true),
    ("gemini-embedding-001", 3_072, false),
    ("mistral-embed", 1_024, true),
    ("nomic-embed-text:latest", 768, false),
    ("sim-embed", 256, false),
    ("amazon.titan-embed-text-v2:0", 1_024, false),
    ("amazon.titan-embed-text-v1", 1_536, true),
    ("cohere.embed-english-v3", 1_024, true),
    ("cohere.embed-v4:0", 1_536, false),
    ("text-embedding-005", 768, false),
    ("gemini-embedding-2", 3_072, false),
];
/// What the names of models begin with that tell what they write to the cache, and charge for it.
const CACHE_WRITING: &[&str] = &["gpt-5.6", "gpt-6"];
/// Those that think as much as they like, without a budget, unseen unless asked to show it, and take no sampling
/// parameters: <https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking>.
const ADAPTIVE: &[&str] = &["claude-opus-5", "claude-sonnet-5"];
const CLAUDE_CONTEXT: u64 = 200_000;
const OWN_CREATED: i64 = 1_735_689_600;

#[derive(Debug)]
pub(crate) struct Catalogue(Vec<Model>);

impl Catalogue {
    pub(crate) fn new(more: &[String]) -> Self {
        let model = |id: &str, context, created, owned_by| Model {
            id: id.into(),
            context,
            reasons: REASONING.iter().any(|prefix| id.starts_with(prefix)),
            writes_cache: CACHE_WRITING.iter().any(|prefix| id.starts_with(prefix)),
            embeds: EMBEDDING.iter().find(|(name, ..)| *name == id).map(|(_, size, fixed)| (*size, *fixed)),
            created,
            owned_by,
        };
        let openai = OPENAI.iter().map(|(id, context, created)| model(id, *context, *created, "openai"));
        let own = OWN.iter().map(|(id, context)| model(id, *context, OWN_CREATED, "weir"));
        let claude =
            ANTHROPIC.iter().map(|(id, _, created)| model(id, CLAUDE_CONTEXT, *created, "anthropic"));
        let gemini = GEMINI.iter().map(|(id, context, created)| model(id, *context, *created, "google"));
        let own = own.chain(claude).chain(gemini);
        let others = [("amazon", BEDROCK), ("vertex", VERTEX), ("mistralai", MISTRAL), ("ollama", OLLAMA)];
        let others = others
            .into_iter()
            .flat_map(|(owner, models)| models.iter().map(move |(id, context)| (*id, *context, owner)));
        let own = own.chain(others.map(|(id, context, owner)| model(id, context, OWN_CREATED, owner)));
        let more = more.iter().map(|id| model(id, MILLION, OWN_CREATED, "weir"));
        let mut models: Vec<Model> = Vec::new();
        for model in openai.chain(own).chain(more) {
            if !models.iter().any(|known| known.id == model.id) {
                models.push(model);
            }
        }
        Self(models)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Model> {
        self.0.iter()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Model> {
        self.0.iter().find(|model| &*model.id == id)
    }
}

impl Model {
    /// Models of our own, and those of the configuration, speak every dialect.
    fn is_of(&self, vendor: &str) -> bool {
        self.owned_by == vendor || self.owned_by == "weir"
    }

    pub(crate) fn speaks_openai(&self) -> bool {
        self.is_of("openai")
    }

    pub(crate) fn speaks_anthropic(&self) -> bool {
        self.is_of("anthropic") && self.embeds.is_none()
    }

    pub(crate) fn speaks_gemini(&self) -> bool {
        self.is_of("google")
    }

    pub(crate) fn speaks_bedrock(&self) -> bool {
        self.is_of("amazon") && self.embeds.is_none()
    }

    /// By their makers' own bodies.
    pub(crate) fn is_invoked(&self) -> bool {
        self.is_of("amazon") && self.embeds.is_some()
    }

    pub(crate) fn is_predicted(&self) -> bool {
        (self.is_of("google") || self.is_of("vertex")) && self.embeds.is_some()
    }

    pub(crate) fn speaks_mistral(&self) -> bool {
        self.is_of("mistralai")
    }

    pub(crate) fn speaks_ollama(&self) -> bool {
        self.is_of("ollama")
    }

    fn anthropic_card(&self) -> Value {
        let max =
            ANTHROPIC.iter().find(|(id, ..)| *id == &*self.id).map_or(CLAUDE_CONTEXT, |(_, max, _)| *max);
        let yes = |supported: bool| json!({"supported": supported});
        let adaptive = is_adaptive(&self.id);
        let types = json!({
            "enabled": yes(!adaptive), "adaptive": yes(adaptive), "disabled": yes(true), "between_tools": yes(adaptive),
        });
        let levels = ["low", "medium", "high", "xhigh", "max"].map(|level| (level.to_owned(), yes(true)));
        let mut effort: Map<String, Value> = levels.into_iter().collect();
        effort.insert("supported".into(), true.into());
        json!({
            "type": "model", "id": &*self.id, "display_name": &*self.id, "created_at": time_of_day(self.created),
            "lifecycle": "active", "deprecated_at": null, "retires_at": null, "line": null,
            "max_input_tokens": self.context, "max_tokens": max,
            "capabilities": {
                "batch": yes(false), "citations": yes(false), "code_execution": yes(false),
                "context_management": yes(false), "effort": effort, "image_input": yes(true), "pdf_input": yes(true),
                "server_tools": yes(false), "structured_outputs": yes(true),
                "thinking": {"supported": true, "types": types},
            },
        })
    }
}

/// Whether it is one of Anthropic's that think without a budget.
pub(crate) fn is_adaptive(id: &str) -> bool {
    ADAPTIVE.iter().any(|prefix| id.starts_with(prefix))
}

#[derive(Serialize)]
struct Card<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    owned_by: &'a str,
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Card<'a>>,
}

impl Model {
    fn card(&self) -> Card<'_> {
        Card { id: &self.id, object: "model", created: self.created, owned_by: self.owned_by }
    }
}

/// Google's clients come to the same place, with Google's key.
fn is_google(headers: &HeaderMap, uri: &Uri) -> bool {
    headers.contains_key("x-goog-api-key") || Asked { headers, uri, body: &[] }.query("key").is_some()
}

pub(crate) async fn list(
    State(sim): State<Simulator>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    if is_google(&headers, &uri) {
        return Ok(gemini::list(State(sim), headers, uri).await);
    }
    chat::authorize(&sim, &headers)?;
    let models = &sim.0.catalogue.0;
    if headers.contains_key("anthropic-version") {
        let data: Vec<_> =
            models.iter().filter(|m| m.speaks_anthropic()).map(Model::anthropic_card).collect();
        let id = |card: Option<&Value>| card.map(|card| card["id"].clone());
        let (first_id, last_id) = (id(data.first()), id(data.last()));
        let list = json!({"data": data, "has_more": false, "first_id": first_id, "last_id": last_id});
        return Ok(Json(list).into_response());
    }
    let data = models.iter().filter(|m| m.speaks_openai()).map(Model::card).collect();
    Ok(Json(List { object: "list", data }).into_response())
}

pub(crate) async fn one(
    State(sim): State<Simulator>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    if is_google(&headers, &uri) {
        return Ok(gemini::one(State(sim), Path(id), headers, uri).await);
    }
    chat::authorize(&sim, &headers)?;
    let model = sim.0.catalogue.get(&id).ok_or_else(|| ApiError::unknown_model(&id))?;
    if headers.contains_key("anthropic-version") {
        return Ok(Json(model.anthropic_card()).into_response());
    }
    Ok(Json(model.card()).into_response())
}
