//! The models there are, and the endpoints that list them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::HeaderMap;
use serde::Serialize;

use crate::{Simulator, chat, error::ApiError};

/// A model.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) id: Arc<str>,
    /// Prompt and answer together, in tokens.
    pub(crate) context: u64,
    /// Thinks before it answers, which costs tokens nobody sees; wants `max_completion_tokens`.
    pub(crate) reasons: bool,
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
];
const OWN: &[(&str, u64)] = &[("sim-small", 8_192), ("sim-large", MILLION)];
const OWN_CREATED: i64 = 1_735_689_600;

#[derive(Debug)]
pub(crate) struct Catalogue(Vec<Model>);

impl Catalogue {
    pub(crate) fn new(more: &[String]) -> Self {
        let model = |id: &str, context, created, owned_by| Model {
            id: id.into(),
            context,
            reasons: id.starts_with("o3"),
            created,
            owned_by,
        };
        let openai = OPENAI.iter().map(|(id, context, created)| model(id, *context, *created, "openai"));
        let own = OWN.iter().map(|(id, context)| model(id, *context, OWN_CREATED, "weir"));
        let more = more.iter().map(|id| model(id, MILLION, OWN_CREATED, "weir"));
        let mut models: Vec<Model> = Vec::new();
        for model in openai.chain(own).chain(more) {
            if !models.iter().any(|known| known.id == model.id) {
                models.push(model);
            }
        }
        Self(models)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Model> {
        self.0.iter().find(|model| &*model.id == id)
    }
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

pub(crate) async fn list(State(sim): State<Simulator>, headers: HeaderMap) -> Result<Response, ApiError> {
    chat::authorize(&sim, &headers)?;
    let data = sim.0.catalogue.0.iter().map(Model::card).collect();
    Ok(Json(List { object: "list", data }).into_response())
}

pub(crate) async fn one(
    State(sim): State<Simulator>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    chat::authorize(&sim, &headers)?;
    let model = sim.0.catalogue.get(&id).ok_or_else(|| ApiError::unknown_model(&id))?;
    Ok(Json(model.card()).into_response())
}
