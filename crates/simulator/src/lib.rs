//! A model provider for development, tests and benchmarks: speaks the vendors' APIs as the real ones do, gives the
//! same answer to the same question, fails on request, and keeps a ledger of what it did.
//!
//! What callers need to know (routes, faults and their order, the ledger's fields) is in the crate's README.

mod admin;
mod answer;
mod anthropic;
mod azure;
mod bedrock;
mod body;
mod cache;
mod chat;
mod config;
mod dialect;
mod embed;
mod error;
mod faults;
mod gemini;
mod ledger;
mod limits;
mod mistral;
mod models;
mod native;
mod ollama;
mod openai;
mod providers;
mod recorder;
mod request;
mod responses;
mod schema;
mod seed;
mod strict;
mod text;
mod tokens;
mod vertex;
mod wire;
mod words;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use parking_lot::RwLock;
use weir_types::{Clock, SystemClock};

pub use bedrock::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};
pub use config::Config;
pub use faults::{Faults, Often};
pub use ledger::{Entry, Ledger, Outcome, Summary, Sums};
pub use providers::providers;

use cache::PromptCache;
use limits::Window;
use models::Catalogue;
use recorder::Recorder;

/// An example of an operator's own prices: what calls would cost by the vendor `simulator`.
pub const PRICES: &str = include_str!("../data/prices.toml");

/// The simulated provider. Clones share everything.
#[derive(Debug, Clone)]
pub struct Simulator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    clock: Arc<dyn Clock>,
    catalogue: Catalogue,
    faults: RwLock<Faults>,
    ledger: Arc<Ledger>,
    window: Window,
    cache: PromptCache,
    recorder: Recorder,
    /// Makes ids differ between processes; answers don't depend on it.
    origin: u64,
    calls: AtomicU64,
}

impl Simulator {
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with_clock(config, Arc::new(SystemClock))
    }

    /// For tests that set the time. Delays use Tokio's clock, which tests can pause.
    #[must_use]
    pub fn with_clock(config: Config, clock: Arc<dyn Clock>) -> Self {
        let origin = seed::mix(clock.now_ms().unsigned_abs());
        Self(Arc::new(Inner {
            catalogue: Catalogue::new(&config.models),
            faults: RwLock::new(config.faults.clone()),
            ledger: Arc::new(Ledger::new(config.ledger_entries, clock.clone())),
            window: Window::new(config.limit_requests, config.limit_tokens),
            cache: PromptCache::default(),
            recorder: Recorder::default(),
            origin,
            calls: AtomicU64::new(0),
            clock,
            config,
        }))
    }

    /// Its routes: the provider's under `/v1`, its own under `/_sim`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/chat/completions", post(openai::chat).fallback(error::method_not_allowed))
            .route("/v1/responses", post(responses::create).fallback(error::method_not_allowed))
            .route("/v1/responses/input_tokens", post(responses::input_tokens))
            .route("/v1/responses/compact", post(responses::compact))
            .route(
                "/v1/responses/{*id}",
                get(responses::stored).delete(responses::stored).post(responses::stored),
            )
            .route("/v1/messages", post(anthropic::messages).fallback(error::method_not_allowed))
            .route(
                "/v1/messages/count_tokens",
                post(anthropic::count_tokens).fallback(error::method_not_allowed),
            )
            .route("/v1/models", get(models::list).fallback(error::method_not_allowed))
            .route(
                "/v1/models/{*id}",
                get(models::one).post(gemini::call).fallback(error::method_not_allowed),
            )
            .route("/v1/embeddings", post(embed::embeddings).fallback(error::method_not_allowed))
            .route("/v1beta/models", get(gemini::list))
            .route("/v1beta/models/{*target}", get(gemini::one).post(gemini::call))
            .route("/model/{model}/{operation}", post(bedrock::converse))
            .route("/api/chat", post(ollama::chat))
            .route("/api/embed", post(ollama::embed))
            .route("/api/tags", get(ollama::tags))
            .route("/mistral/v1/chat/completions", post(mistral::chat))
            .route("/mistral/v1/embeddings", post(mistral::embeddings))
            .route("/mistral/v1/models", get(mistral::models))
            .route("/openai/deployments/{deployment}/chat/completions", post(azure::chat))
            .route("/openai/deployments/{deployment}/embeddings", post(azure::embeddings))
            .route("/openai/v1/chat/completions", post(openai::chat))
            .route("/openai/v1/responses", post(responses::create))
            .route("/openai/v1/responses/compact", post(responses::compact))
            .route("/openai/v1/embeddings", post(embed::embeddings))
            .route(
                "/v1/projects/{project}/locations/{location}/publishers/google/models/{*target}",
                post(vertex::call),
            )
            .route(
                "/v1/projects/{project}/locations/{location}/publishers/anthropic/models/{*target}",
                post(vertex::claude),
            )
            .route("/v1/publishers/google/models/{*target}", post(gemini::call))
            .route("/token", post(vertex::token))
            .route("/_sim/faults", get(admin::faults).put(admin::set_faults).delete(admin::clear_faults))
            .route("/_sim/requests", get(recorder::list).put(recorder::keep).delete(recorder::forget))
            .route("/_sim/ledger", get(admin::ledger).delete(admin::clear_ledger))
            .fallback(error::unknown_url)
            .layer(DefaultBodyLimit::max(self.0.config.max_body_bytes))
            .with_state(self.clone())
    }

    /// What was asked of it and what came of it.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// The faults in force, for calls that bring none of their own.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.0.faults.read().clone()
    }

    /// Replaces the faults in force.
    ///
    /// # Errors
    /// A field out of its range, as a sentence that names it.
    pub fn set_faults(&self, faults: Faults) -> Result<(), String> {
        faults.check()?;
        *self.0.faults.write() = faults;
        Ok(())
    }

    /// A number that no other call of this process has.
    fn next_call(&self) -> u64 {
        self.0.calls.fetch_add(1, Relaxed)
    }
}
