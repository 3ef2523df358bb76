//! Who serves which model: configured lists, or each provider's own, asked again when it ages.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use weir_embedding::Model as Own;
use weir_llm::{
    Dialect, anthropic,
    embeddings::{self, Embed},
    models,
    platform::Platform,
    upstream::Upstream,
};
use weir_runtime::{Shutdown, retry::Backoff};

use super::{ANTHROPIC_VERSION, learned::Learned, listing::discover};
use crate::config::{Endpoint, OWN_PROVIDER};

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);

pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) upstream: Upstream,
    pub(crate) dialect: Dialect,
    pub(crate) quirks: Quirks,
    /// It serves Responses besides.
    responses: bool,
    platform: Platform,
    /// Listed in the configuration: never asked for.
    fixed: Vec<String>,
    /// It can't be asked what it serves.
    listless: bool,
    /// Tokens of Ollama's window, where a client does not say it.
    pub(crate) num_ctx: Option<u64>,
}

/// What a provider's models were seen to do.
#[derive(Default)]
pub(crate) struct Quirks {
    /// They refuse to be asked for the usage chunk.
    pub(crate) no_stream_options: Learned,
    /// Their answers carry opaque state under the names that others brought up.
    pub(crate) carries_state: Learned,
    /// They know the bound on the answer by its newer name alone.
    pub(crate) newer_limit: Learned,
    /// They refuse to be asked to think.
    pub(crate) no_think: Learned,
    /// They are asked for Responses, and can't compact.
    pub(crate) no_compact: Learned,
}

impl Provider {
    /// A path of the dialect, for this model, as the provider's platform has it.
    pub(crate) fn path<'a>(&self, path: Cow<'a, str>, model: &str) -> Cow<'a, str> {
        self.platform.path(path, model)
    }

    /// The dialect in which it is asked for chat by a client of this one.
    pub(crate) fn spoken(&self, client: Dialect) -> Dialect {
        if self.responses && client == Dialect::Responses { client } else { self.dialect }
    }

    /// Where chat is asked for, in a dialect that it speaks.
    pub(crate) fn chat_path(&self, spoken: Dialect, model: &str, stream: bool) -> Cow<'static, str> {
        if self.is_claude_on_vertex(spoken) {
            return self.path(anthropic::vertex_path(model, stream).into(), model);
        }
        self.path(spoken.provider().path(model, stream), model)
    }

    /// A body in a dialect that it speaks, as its platform takes it, and what goes with it.
    pub(crate) fn on_platform(&self, spoken: Dialect, headers: &mut HeaderMap, body: Bytes) -> Bytes {
        if !self.is_claude_on_vertex(spoken) {
            return body;
        }
        self.only_its_headers(headers);
        anthropic::vertex_body(&body)
    }

    /// Vertex has a version of its own, in the body.
    pub(crate) fn only_its_headers(&self, headers: &mut HeaderMap) {
        if self.is_claude_on_vertex(self.dialect) {
            headers.remove(ANTHROPIC_VERSION);
        }
    }

    /// Where tokens of Messages are counted.
    pub(crate) fn count_path(&self) -> Cow<'_, str> {
        let vertex = self.is_claude_on_vertex(Dialect::Anthropic);
        let path = if vertex { anthropic::VERTEX_COUNT } else { "/messages/count_tokens" };
        self.path(path.into(), "")
    }

    pub(crate) fn is_azure(&self) -> bool {
        matches!(self.platform, Platform::Azure { .. })
    }

    fn is_claude_on_vertex(&self, spoken: Dialect) -> bool {
        spoken == Dialect::Anthropic && matches!(self.platform, Platform::Vertex { .. })
    }

    /// How it is asked for a model's embeddings, if it is.
    pub(crate) fn embeds(&self, model: &str) -> Option<&'static dyn Embed> {
        embeddings::of(self.dialect, &self.platform, model)
    }

    /// It serves whatever it is asked for by its own name, as far as anybody knows.
    fn open(&self) -> bool {
        self.listless && self.fixed.is_empty()
    }
}

/// A model as its provider lists it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Model {
    pub(crate) id: String,
    /// Unix seconds.
    #[serde(default)]
    pub(crate) created: i64,
    /// Anthropic's, instead.
    #[serde(default)]
    pub(super) created_at: Option<String>,
    #[serde(default)]
    pub(crate) owned_by: String,
    /// Anthropic's and Google's: the most it answers, in tokens.
    #[serde(default)]
    pub(crate) max_tokens: Option<u64>,
    /// Anthropic's.
    #[serde(default)]
    pub(super) capabilities: Option<Capabilities>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Capabilities {
    thinking: Option<Thinking>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Thinking {
    types: ThinkingTypes,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct ThinkingTypes {
    adaptive: Supported,
    #[serde(default)]
    enabled: Supported,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
struct Supported {
    supported: bool,
}

impl Model {
    /// It decides itself how much to think; `None` where the list doesn't say.
    pub(crate) fn adaptive_thinking(&self) -> Option<bool> {
        let thinking = self.capabilities.as_ref()?.thinking.as_ref()?;
        Some(thinking.types.adaptive.supported)
    }

    /// It takes no budget to think within. Those are the models from 4.7 on, which take no sampling parameters either:
    /// <https://platform.claude.com/docs/en/api/migration-2026-10-21>. Their list says only the first of the two.
    pub(crate) fn fixed_sampling(&self) -> Option<bool> {
        let types = &self.capabilities.as_ref()?.thinking.as_ref()?.types;
        Some(types.adaptive.supported && !types.enabled.supported)
    }
}

#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) provider: Arc<Provider>,
    pub(crate) model: String,
    /// It stands in for a retired model that nobody serves.
    pub(crate) successor: bool,
}

#[derive(Default)]
struct Snapshot {
    listed: BTreeMap<String, Vec<Model>>,
    /// Model → indices of providers, in their order.
    servers: HashMap<String, Vec<usize>>,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Catalog {
    providers: Arc<[Arc<Provider>]>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Whether Weir's own models are there.
    own: bool,
}

impl Catalog {
    pub(crate) fn new(endpoints: Vec<(Endpoint, Upstream)>, own: bool) -> Self {
        let providers: Arc<[_]> = endpoints
            .into_iter()
            .map(|(endpoint, upstream)| {
                Arc::new(Provider {
                    listless: !endpoint.lists_models(),
                    platform: endpoint.platform,
                    name: endpoint.name,
                    upstream,
                    dialect: endpoint.dialect.into(),
                    quirks: Quirks::default(),
                    responses: endpoint.responses,
                    fixed: endpoint.models,
                    num_ctx: endpoint.num_ctx,
                })
            })
            .collect();
        let catalog = Self { providers, snapshot: Arc::default(), own };
        for provider in catalog.providers.iter().filter(|p| !p.fixed.is_empty()) {
            let fixed = provider.fixed.iter();
            let models =
                fixed.map(|id| Model { id: id.clone(), owned_by: provider.name.clone(), ..Model::default() });
            catalog.store(&provider.name, &models.collect::<Vec<_>>());
        }
        catalog
    }

    /// Weir's own model of this name. No other name leads to it, and nobody else serves it: vectors of two models don't
    /// compare.
    pub(crate) fn own(&self, model: &str) -> Option<Own> {
        let name = model.strip_prefix(OWN_PROVIDER).and_then(|rest| rest.strip_prefix('/')).unwrap_or(model);
        Own::named(name).filter(|_| self.own)
    }

    /// Everyone who serves this model, in the order of the providers' names. `provider/model` names one.
    pub(crate) fn candidates(&self, model: &str) -> Vec<Candidate> {
        let snapshot = self.snapshot.load();
        let served = |name: &str| snapshot.servers.get(name).map(Vec::as_slice).unwrap_or_default();
        let whole = served(model);
        if !whole.is_empty() {
            let candidate = |&i: &usize| self.providers.get(i).map(|p| (p.clone(), model.to_owned()));
            return whole
                .iter()
                .filter_map(candidate)
                .map(|(provider, model)| Candidate { provider, model, successor: false })
                .collect();
        }
        let Some((provider, model)) = model.split_once('/') else { return Vec::new() };
        let named = self.providers.iter().enumerate().find(|(_, p)| p.name == provider);
        match named {
            Some((i, provider)) if provider.open() || served(model).contains(&i) => {
                vec![Candidate { provider: provider.clone(), model: model.to_owned(), successor: false }]
            }
            _ => Vec::new(),
        }
    }

    /// Everyone who serves the model that a retired one's vendor names in its place, or that one's own successor. A name
    /// that begins with a provider's keeps to that provider.
    pub(crate) fn successors(&self, model: &str, now_ms: i64) -> Vec<Candidate> {
        let before = model.rfind('/').map_or("", |at| &model[..=at]);
        let mut served = models::successors(model, now_ms).into_iter().map(|successor| {
            let mut candidates = self.candidates(&format!("{before}{successor}"));
            candidates.iter_mut().for_each(|candidate| candidate.successor = true);
            candidates
        });
        served.find(|candidates| !candidates.is_empty()).unwrap_or_default()
    }

    /// What a provider tells of one of its models.
    pub(crate) fn model(&self, provider: &str, model: &str) -> Option<Model> {
        let snapshot = self.snapshot.load();
        snapshot.listed.get(provider)?.iter().find(|m| m.id == model).cloned()
    }

    /// Providers whose lists are not known yet: they may serve any model named outright. Their own answer tells.
    pub(crate) fn unlisted(&self, model: &str) -> Vec<Candidate> {
        let snapshot = self.snapshot.load();
        let unlisted = self.providers.iter().filter(|p| !p.open() && !snapshot.listed.contains_key(&p.name));
        let candidate = |provider: &Arc<Provider>| {
            let own = model.strip_prefix(provider.name.as_str()).and_then(|rest| rest.strip_prefix('/'));
            Candidate { provider: provider.clone(), model: own.unwrap_or(model).to_owned(), successor: false }
        };
        unlisted.map(candidate).collect()
    }

    /// Every (provider, model), sorted by model.
    pub(crate) fn models(&self) -> Vec<(String, Model)> {
        let snapshot = self.snapshot.load();
        let mut all: Vec<_> = snapshot
            .listed
            .iter()
            .flat_map(|(provider, models)| models.iter().map(|m| (provider.clone(), m.clone())))
            .filter(|(_, model)| self.own(&model.id).is_none())
            .collect();
        let own = Own::ALL.into_iter().filter(|_| self.own).map(|own| Model {
            id: own.name().to_owned(),
            created: own.created(),
            owned_by: OWN_PROVIDER.to_owned(),
            ..Model::default()
        });
        all.extend(own.map(|model| (OWN_PROVIDER.to_owned(), model)));
        all.sort_by(|a, b| (&a.1.id, &a.0).cmp(&(&b.1.id, &b.0)));
        all.dedup_by(|a, b| a.1.id == b.1.id);
        all
    }

    /// What is served under this name, listed or not.
    pub(crate) fn named(&self, name: &str) -> Option<(String, Model)> {
        if let Some(own) = self.own(name) {
            let model =
                Model { created: own.created(), owned_by: OWN_PROVIDER.to_owned(), ..Model::default() };
            return Some((OWN_PROVIDER.to_owned(), Model { id: name.to_owned(), ..model }));
        }
        let Candidate { provider, model, .. } = self.candidates(name).into_iter().next()?;
        let listed = self.model(&provider.name, &model).unwrap_or_default();
        Some((provider.name.clone(), Model { id: name.to_owned(), ..listed }))
    }

    /// Whether every provider's list is known.
    pub(crate) fn complete(&self) -> bool {
        let listable = self.providers.iter().filter(|p| !p.open()).count();
        self.snapshot.load().listed.len() == listable
    }

    /// Keeps one provider's list fresh.
    pub(crate) async fn follow(self, provider: Arc<Provider>, ttl: Duration, shutdown: Shutdown) {
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let wait = match discover(&provider).await {
                Ok(models) => {
                    tracing::info!(provider = provider.name, models = models.len(), "models listed");
                    self.store(&provider.name, &models);
                    backoff.reset();
                    ttl
                }
                Err(error) => {
                    tracing::warn!(provider = provider.name, error = %error.chain(), "could not list models");
                    backoff.next()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// The providers whose lists must be asked for.
    pub(crate) fn to_follow(&self) -> impl Iterator<Item = Arc<Provider>> + '_ {
        self.providers.iter().filter(|p| p.fixed.is_empty() && !p.open()).cloned()
    }

    fn store(&self, provider: &str, models: &[Model]) {
        self.snapshot.rcu(|old| {
            let mut listed = old.listed.clone();
            listed.insert(provider.to_owned(), models.to_vec());
            let mut servers: HashMap<String, Vec<usize>> = HashMap::new();
            for (i, provider) in self.providers.iter().enumerate() {
                for model in listed.get(&provider.name).into_iter().flatten() {
                    servers.entry(model.id.clone()).or_default().push(i);
                }
            }
            Snapshot { listed, servers }
        });
    }
}
