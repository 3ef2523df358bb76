//! `GET /v1/models` and `/v1/models/{id}`, in OpenAI's shape, or Anthropic's for its SDKs. What providers serve is the same
//! for every tenant, so one list is remembered for all, a few seconds long; aliases are each tenant's own.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use http::StatusCode;
use parking_lot::Mutex;
use serde::Serialize;
use weir_access::Visit;
use weir_error::{Code, Error, require_scope};
use weir_proto::{
    chat::{ListModelsRequest, Model, chat_client::ChatClient},
    router::{ListNamesRequest, Name, router_client::RouterClient},
};
use weir_types::{Clock, RequestContext, scope};

use crate::{House, asked::Asked, edge::Answer, gemini::query, reply};

/// How long a list waits for its aliases.
const NAMES_WITHIN: Duration = Duration::from_secs(1);

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
    let page = Page::of(asked)?;
    let models = models(house, asked).await?;
    if !asked.is_anthropic() {
        let data = models.iter().map(Shown::from).collect();
        return reply::json(StatusCode::OK, &ShownList { object: "list", data });
    }
    let (models, has_more) = page.cut(&models)?;
    let list = AnthropicList {
        data: models.iter().map(AnthropicShown::from).collect(),
        has_more,
        first_id: models.first().map(|m| m.id.as_str()),
        last_id: models.last().map(|m| m.id.as_str()),
    };
    reply::json(StatusCode::OK, &list)
}

pub(crate) async fn get(house: &House, asked: &Asked, id: &str) -> Answer {
    let id = String::from_utf8_lossy(&percent_decoded(id)).into_owned();
    let missing = || format!("the model `{id}` does not exist");
    let model = model(house, asked, &id, missing).await?;
    if asked.is_anthropic() {
        return reply::json(StatusCode::OK, &AnthropicShown::from(&model));
    }
    reply::json(StatusCode::OK, &Shown::from(&model))
}

/// Which part of the list Anthropic's SDKs ask for.
struct Page {
    limit: usize,
    after: Option<String>,
    before: Option<String>,
}

impl Page {
    const MOST: usize = 1_000;

    /// # Errors
    /// A limit that is none.
    fn of(asked: &Asked) -> Result<Self, Error> {
        let one = |name| query(asked, name).filter(|value| !value.is_empty()).map(Cow::into_owned);
        let limit = match query(asked, "limit") {
            // Anthropic's own pages have 20: who doesn't ask for pages gets them all here.
            None => Self::MOST,
            Some(text) => text.parse().ok().filter(|n| (1..=Self::MOST).contains(n)).ok_or_else(|| {
                Error::invalid("limit", format!("limit: expected an integer from 1 to {}", Self::MOST))
            })?,
        };
        Ok(Self { limit, after: one("after_id"), before: one("before_id") })
    }

    /// With whether there are more in its direction.
    ///
    /// # Errors
    /// It begins at a model that is not there.
    fn cut<'a>(&self, models: &'a [Model]) -> Result<(&'a [Model], bool), Error> {
        let place = |id: &str, param: &str| {
            let unknown = || Error::invalid(param, format!("{param}: there is no model `{id}`"));
            models.iter().position(|model| model.id == id).ok_or_else(unknown)
        };
        if let Some(before) = &self.before {
            let end = place(before, "before_id")?;
            let start = end.saturating_sub(self.limit);
            return Ok((models.get(start..end).unwrap_or_default(), start > 0));
        }
        let start = self.after.as_deref().map(|id| place(id, "after_id")).transpose()?.map_or(0, |at| at + 1);
        let rest = models.get(start..).unwrap_or_default();
        Ok((rest.get(..self.limit).unwrap_or(rest), rest.len() > self.limit))
    }
}

/// One model, whichever way the caller may name it in a request: as it is listed, or as `provider/model`.
///
/// # Errors
/// As [`models`]; `ModelNotFound` with this text.
pub(crate) async fn model(
    house: &House,
    asked: &Asked,
    id: &str,
    missing: impl FnOnce() -> String,
) -> Result<Model, Error> {
    let (ctx, _visit) = admitted(house, asked).await?;
    let listed = known(house, &ctx, id.contains('/').then_some(id)).await?;
    let found = listed.into_iter().find(|model| model.id == id);
    found.ok_or_else(|| Error::new(Code::ModelNotFound, missing()).with_param("model"))
}

/// What the caller may ask of.
///
/// # Errors
/// As the grant's, and those of the orchestrator.
pub(crate) async fn models(house: &House, asked: &Asked) -> Result<Vec<Model>, Error> {
    let (ctx, _visit) = admitted(house, asked).await?;
    known(house, &ctx, None).await
}

async fn admitted(house: &House, asked: &Asked) -> Result<(RequestContext, Option<Visit>), Error> {
    let grant = house.tenant_grant(asked).await?;
    let visit = house.admit_rest(asked, &grant)?;
    let ctx = asked.context(&grant, house.config.call_timeout);
    require_scope(&ctx, scope::MODELS_READ)?;
    Ok((ctx, visit))
}

/// What is listed, by name: providers' models, and the caller's names for them, which win. `besides` is a name that may
/// be served without being listed.
async fn known(house: &House, ctx: &RequestContext, besides: Option<&str>) -> Result<Vec<Model>, Error> {
    let (listed, names) = tokio::join!(listed(house, ctx), names(house, ctx));
    let listed = listed?;
    let mut all: BTreeMap<&str, Model> =
        listed.iter().map(|model| (model.id.as_str(), model.clone())).collect();
    if let Some(name) = besides.filter(|name| !all.contains_key(name)) {
        let served = served(house, ctx, name).await?;
        all.extend(served.into_iter().filter(|model| model.id == name).map(|model| (name, model)));
    }
    all.extend(names.iter().map(|model| (model.id.as_str(), model.clone())));
    Ok(all.into_values().collect())
}

/// What providers serve.
async fn listed(house: &House, ctx: &RequestContext) -> Result<Arc<[Model]>, Error> {
    if let Some(models) = house.models.fresh() {
        return Ok(models);
    }
    let models: Arc<[Model]> = served(house, ctx, "").await?.into();
    *house.models.known.lock() = Some((house.models.clock.now_ms(), models.clone()));
    Ok(models)
}

/// The orchestrator's answer: to a name, or to none, which is the list.
async fn served(house: &House, ctx: &RequestContext, name: &str) -> Result<Vec<Model>, Error> {
    let _slot = house.access.enter()?;
    let mut client = ChatClient::new(house.orchestrator.clone());
    let request = ListModelsRequest { name: name.to_owned() };
    Ok(client.list_models(weir_rpc::request(ctx, request)).await?.into_inner().models)
}

/// The caller's aliases, and `auto`. Without the router the list is shorter, which is better than none.
async fn names(house: &House, ctx: &RequestContext) -> Vec<Model> {
    let mut client = RouterClient::new(house.router.clone());
    let asked = client.list_names(weir_rpc::request(ctx, ListNamesRequest {}));
    let names = match tokio::time::timeout(NAMES_WITHIN, asked).await {
        Ok(Ok(answer)) => answer.into_inner().names,
        Ok(Err(status)) => {
            tracing::debug!(error = Error::from(status).chain(), "models are listed without aliases");
            return Vec::new();
        }
        Err(_) => return Vec::new(),
    };
    let model = |name: Name| Model { id: name.name, owned_by: name.kind, ..Model::default() };
    names.into_iter().map(model).collect()
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
