//! `GET /v1/models` and `/v1/models/{id}`, in OpenAI's shape, or Anthropic's for its SDKs. What providers serve is the same for every tenant, so
//! one list is remembered for all, a few seconds long.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use parking_lot::Mutex;
use serde::Serialize;
use weir_error::{Code, Error, require_scope};
use weir_proto::chat::{ListModelsRequest, Model, chat_client::ChatClient};
use weir_types::{Clock, scope};

use crate::{House, asked::Asked, edge::Answer, reply};

pub(crate) struct ModelList {
    lasts: Duration,
    clock: Arc<dyn Clock>,
    /// With the Unix milliseconds they were asked for at.
    known: Mutex<Option<(i64, Arc<[Model]>)>>,
}

impl ModelList {
    pub(crate) fn new(lasts: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { lasts, clock, known: Mutex::new(None) }
    }

    /// Unix seconds.
    pub(crate) fn now_s(&self) -> i64 {
        self.clock.now_ms().div_euclid(1_000)
    }

    fn fresh(&self) -> Option<Arc<[Model]>> {
        let (known, now) = (self.known.lock(), self.clock.now_ms());
        // A clock that was set back makes the age negative, which is no age to trust.
        let fresh = |at| u64::try_from(now - at).is_ok_and(|age| Duration::from_millis(age) < self.lasts);
        known.as_ref().filter(|(at, _)| fresh(*at)).map(|(_, models)| models.clone())
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    owned_by: &'a str,
}

impl<'a> From<&'a Model> for Shown<'a> {
    fn from(model: &'a Model) -> Self {
        Self { id: &model.id, object: "model", created: model.created, owned_by: &model.owned_by }
    }
}

#[derive(Serialize)]
struct ShownList<'a> {
    object: &'static str,
    data: Vec<Shown<'a>>,
}

/// <https://platform.claude.com/docs/en/api/models-list>
#[derive(Serialize)]
struct AnthropicShown<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: String,
    lifecycle: &'static str,
}

impl<'a> From<&'a Model> for AnthropicShown<'a> {
    fn from(model: &'a Model) -> Self {
        let created_at = reply::rfc3339(model.created);
        Self { r#type: "model", id: &model.id, display_name: &model.id, created_at, lifecycle: "active" }
    }
}

#[derive(Serialize)]
struct AnthropicList<'a> {
    data: Vec<AnthropicShown<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

pub(crate) async fn list(house: &House, asked: &Asked) -> Answer {
    let models = models(house, asked).await?;
    if asked.is_anthropic() {
        let list = AnthropicList {
            data: models.iter().map(AnthropicShown::from).collect(),
            has_more: false,
            first_id: models.first().map(|m| m.id.as_str()),
            last_id: models.last().map(|m| m.id.as_str()),
        };
        return reply::json(StatusCode::OK, &list);
    }
    reply::json(StatusCode::OK, &ShownList { object: "list", data: models.iter().map(Shown::from).collect() })
}

pub(crate) async fn get(house: &House, asked: &Asked, id: &str) -> Answer {
    let models = models(house, asked).await?;
    let id = percent_decoded(id);
    let model = models.iter().find(|model| model.id.as_bytes() == id).ok_or_else(|| {
        let id = String::from_utf8_lossy(&id);
        Error::new(Code::ModelNotFound, format!("the model `{id}` does not exist")).with_param("model")
    })?;
    if asked.is_anthropic() {
        return reply::json(StatusCode::OK, &AnthropicShown::from(model));
    }
    reply::json(StatusCode::OK, &Shown::from(model))
}

/// What the caller may ask of.
///
/// # Errors
/// As the grant's, and those of the orchestrator.
pub(crate) async fn models(house: &House, asked: &Asked) -> Result<Arc<[Model]>, Error> {
    let grant = house.tenant_grant(asked).await?;
    let _visit = house.admit_rest(asked, &grant)?;
    let ctx = asked.context(&grant, house.config.call_timeout);
    require_scope(&ctx, scope::MODELS_READ)?;
    if let Some(models) = house.models.fresh() {
        return Ok(models);
    }
    let _slot = house.access.enter()?;
    let mut client = ChatClient::new(house.orchestrator.clone());
    let answer = client.list_models(weir_rpc::request(&ctx, ListModelsRequest {})).await?;
    let models: Arc<[Model]> = answer.into_inner().models.into();
    *house.models.known.lock() = Some((house.models.clock.now_ms(), models.clone()));
    Ok(models)
}

/// `%2F` and the like; anything malformed stays as it is.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = (byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_may_be_encoded() {
        let decoded = |text| String::from_utf8(percent_decoded(text)).unwrap();
        assert_eq!(decoded("meta/llama:3"), "meta/llama:3");
        assert_eq!(decoded("meta%2Fllama%3a3"), "meta/llama:3");
        assert_eq!(decoded("a+b%"), "a+b%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
        assert_eq!(decoded("%c3%a4"), "ä");
    }
}
