//! The simulator's own endpoints: faults and the ledger.

use axum::{
    Json,
    body::Bytes,
    extract::{Query, State},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{Entry, Faults, Simulator, Summary, error::ApiError};

pub(crate) async fn faults(State(sim): State<Simulator>) -> Json<Faults> {
    Json(sim.faults())
}

pub(crate) async fn set_faults(State(sim): State<Simulator>, body: Bytes) -> Result<Json<Faults>, ApiError> {
    let invalid = |message: String| ApiError::invalid("faults", "invalid_value", message);
    let faults = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    sim.set_faults(faults).map_err(invalid)?;
    Ok(Json(sim.faults()))
}

pub(crate) async fn clear_faults(State(sim): State<Simulator>) -> StatusCode {
    *sim.0.faults.write() = Faults::default();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
pub(crate) struct Which {
    /// With the entries.
    entries: bool,
    /// With the entries of this `x-client-request-id` alone.
    id: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct LedgerView {
    #[serde(flatten)]
    summary: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<Entry>>,
}

pub(crate) async fn ledger(State(sim): State<Simulator>, Query(which): Query<Which>) -> Json<LedgerView> {
    let ledger = sim.ledger();
    let entries = match which.id {
        Some(id) => Some(ledger.find(&id)),
        None => which.entries.then(|| ledger.entries()),
    };
    Json(LedgerView { summary: ledger.summary(), entries })
}

pub(crate) async fn clear_ledger(State(sim): State<Simulator>) -> StatusCode {
    sim.ledger().clear();
    StatusCode::NO_CONTENT
}
