//! The last calls as they came, for tests that want to see what reached the provider. Off until asked for.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use axum::{
    Json,
    body::Bytes,
    extract::{Query, State},
};
use http::{HeaderMap, StatusCode, Uri};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{Simulator, error::ApiError};

const MOST: usize = 1_024;
/// Headers whose values are nobody's business.
const SECRET: [&str; 5] = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "x-amz-security-token"];

#[derive(Debug, Default)]
pub(crate) struct Recorder {
    keep: AtomicUsize,
    calls: Mutex<VecDeque<Recorded>>,
}

#[derive(Debug)]
struct Recorded {
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
}

impl Recorder {
    pub(crate) fn note(&self, headers: &HeaderMap, uri: &Uri, body: &Bytes) {
        let keep = self.keep.load(Relaxed);
        if keep == 0 {
            return;
        }
        let call = Recorded { headers: headers.clone(), uri: uri.clone(), body: body.clone() };
        let mut calls = self.calls.lock();
        calls.push_back(call);
        while calls.len() > keep {
            calls.pop_front();
        }
    }
}

impl Recorded {
    fn id(&self) -> &str {
        self.headers.get("x-client-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default()
    }

    fn view(&self) -> Value {
        let mut headers = Map::new();
        for (name, value) in &self.headers {
            let value = if SECRET.contains(&name.as_str()) {
                "***".into()
            } else {
                String::from_utf8_lossy(value.as_bytes())
            };
            headers.insert(name.as_str().to_owned(), value.into());
        }
        // The text, since bytes are what some tests compare.
        let body = String::from_utf8_lossy(&self.body);
        let query = self.uri.query().map(|query| {
            query.split('&').filter(|pair| !pair.starts_with("key=")).collect::<Vec<_>>().join("&")
        });
        json!({"id": self.id(), "path": self.uri.path(), "query": query, "headers": headers, "body": body})
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// How many of the last calls to keep.
    keep: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Those of this `x-client-request-id` alone.
    id: Option<String>,
}

pub(crate) async fn keep(State(sim): State<Simulator>, body: Bytes) -> Result<StatusCode, ApiError> {
    let invalid = |message: String| ApiError::invalid("keep", "invalid_value", message);
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    if wanted.keep > MOST {
        return Err(invalid(format!("keep must be at most {MOST}")));
    }
    sim.0.recorder.keep.store(wanted.keep, Relaxed);
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn list(State(sim): State<Simulator>, Query(which): Query<Which>) -> Json<Vec<Value>> {
    let calls = sim.0.recorder.calls.lock();
    let wanted = |call: &&Recorded| which.id.as_deref().is_none_or(|id| id == call.id());
    Json(calls.iter().filter(wanted).map(Recorded::view).collect())
}

pub(crate) async fn forget(State(sim): State<Simulator>) -> StatusCode {
    sim.0.recorder.keep.store(0, Relaxed);
    sim.0.recorder.calls.lock().clear();
    StatusCode::NO_CONTENT
}
