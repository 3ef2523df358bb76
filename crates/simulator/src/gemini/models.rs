//! The models there are, as Google lists them.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, Uri};
use serde_json::{Value, json};

use super::{authorize, error_response, unknown_model};
use crate::{Simulator, dialect::Asked, models::Model};

fn card(model: &Model) -> Value {
    let embeds = model.embeds.is_some();
    let methods =
        if embeds { vec!["embedContent", "countTokens"] } else { vec!["generateContent", "countTokens"] };
    json!({
        "name": format!("models/{}", model.id),
        "version": "001",
        "displayName": &*model.id,
        "description": "Answers as it is told to.",
        "inputTokenLimit": model.context,
        "outputTokenLimit": if embeds { 1 } else { 65_536 },
        "supportedGenerationMethods": methods,
        "temperature": 1, "topP": 0.95, "topK": 64, "maxTemperature": 2, "thinking": model.reasons,
    })
}

pub(crate) async fn list(State(sim): State<Simulator>, headers: HeaderMap, uri: Uri) -> Response {
    if let Err(error) = authorize(&sim, &Asked { headers: &headers, uri: &uri, body: &[] }) {
        return error_response(&error, false);
    }
    let models: Vec<_> = sim.0.catalogue.all().filter(|model| model.speaks_gemini()).map(card).collect();
    Json(json!({"models": models})).into_response()
}

pub(crate) async fn one(
    State(sim): State<Simulator>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let found = authorize(&sim, &Asked { headers: &headers, uri: &uri, body: &[] }).and_then(|()| {
        sim.0
            .catalogue
            .get(&id)
            .filter(|model| model.speaks_gemini())
            .map(card)
            .ok_or_else(|| unknown_model(&id))
    });
    found.map_or_else(|error| error_response(&error, false), |card| Json(card).into_response())
}
