//! Puts the orchestrator together.

use std::{path::Path, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue};
use tonic::service::Routes;
use weir_error::Error;
use weir_events::{Bus, Spool, SpoolConfig};
use weir_llm::{
    auth::Auth,
    prices::Prices,
    upstream::{Upstream, UpstreamConfig},
};
use weir_proto::{chat::chat_server::ChatServer, router::router_client::RouterClient};
use weir_rpc::Transport;
use weir_runtime::{OnFailure, Tasks};
use weir_telemetry::Metrics as Registry;
use weir_types::Clock;

use crate::{
    Config,
    app::{self, Catalog, Chat, Meter, Pricing, recover},
    config::{Endpoint, ProviderDialect},
    grpc::Handler,
    metrics::Metrics,
};

/// Bodies are bounded at the edge; this is the same bound with room for the envelope.
const MAX_MESSAGE: usize = 11 * 1024 * 1024;

/// What the orchestrator works with.
pub struct Deps {
    pub router: Transport,
    pub bus: Bus,
    pub metrics: Registry,
    pub clock: Arc<dyn Clock>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Service {
    chat: Chat,
    bus: Bus,
    models_ttl: Duration,
}

/// Takes the spool's folder over and closes what an earlier process left open in it.
///
/// # Errors
/// A wrong provider, or a spool that can't be opened or belongs to a living process.
pub fn build(config: &Config, deps: Deps) -> Result<Service, Error> {
    let mut endpoints = Vec::new();
    for endpoint in config.endpoints().map_err(Error::internal)? {
        let (auth, headers) = credentials(&endpoint)?;
        let upstream = Upstream::new(UpstreamConfig {
            base_url: endpoint.base_url.clone(),
            auth,
            headers,
            connect_timeout: Duration::from_millis(config.connect_timeout_ms),
            first_byte_timeout: Duration::from_secs(config.first_byte_timeout_s),
            idle_timeout: Duration::from_secs(config.idle_timeout_s),
            ..UpstreamConfig::default()
        })
        .map_err(Error::internal)?;
        endpoints.push((endpoint, upstream));
    }
    let vendors = endpoints.iter().map(|(e, _)| (e.name.clone(), e.prices.clone())).collect();
    let spool_config = SpoolConfig { durability: config.durability, ..SpoolConfig::default() };
    let (spool, open) =
        Spool::open(&config.spool_dir, spool_config, deps.bus.metrics().clone()).map_err(Error::internal)?;
    let meter = Meter {
        spool,
        clock: deps.clock,
        metrics: Metrics::new(&deps.metrics),
        send_traceparent: config.send_traceparent,
        pricing: Pricing::new(prices(config)?, vendors),
    };
    recover(&meter, &open);
    let chat = Chat {
        catalog: Catalog::new(endpoints),
        meter,
        router: RouterClient::new(deps.router),
        decide_timeout: config.decide_timeout(),
        fallback_model: config.fallback_model.clone(),
    };
    Ok(Service { chat, bus: deps.bus, models_ttl: config.models_ttl() })
}

/// The prices that come with Weir, and the operator's.
fn prices(config: &Config) -> Result<Prices, Error> {
    let wrong = |path: &Path, error: &dyn std::error::Error| {
        let text = format!("orchestrator.prices_file: {}: {error}", path.display());
        Error::internal(std::io::Error::other(text))
    };
    let Some(path) = &config.prices_file else { return Prices::built_in().map_err(Error::internal) };
    let own = std::fs::read_to_string(path).map_err(|e| wrong(path, &e))?;
    Prices::with(Some(&own)).map_err(|e| wrong(path, &e))
}

/// How a provider's dialect carries its key: a bearer token, or a header of its own.
fn credentials(endpoint: &Endpoint) -> Result<(Auth, HeaderMap), Error> {
    let mut headers = HeaderMap::new();
    let key = endpoint.api_key.as_ref();
    let auth = match endpoint.dialect {
        ProviderDialect::OpenAi => key.map(Auth::bearer),
        ProviderDialect::Anthropic => {
            let version = HeaderValue::from_static(weir_llm::anthropic::VERSION);
            headers.insert(app::ANTHROPIC_VERSION, version);
            key.map(|key| Auth::header("x-api-key", key))
        }
    };
    Ok((auth.transpose().map_err(Error::internal)?.unwrap_or_default(), headers))
}

impl Service {
    #[must_use]
    pub fn routes(&self) -> Routes {
        let server = ChatServer::new(Handler(self.chat.clone()));
        Routes::new(server.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(usize::MAX))
    }

    /// Follows the providers' lists of models, and publishes the spool.
    pub fn spawn(&self, tasks: &Tasks) {
        let catalog = &self.chat.catalog;
        for provider in catalog.to_follow() {
            let follow = catalog.clone().follow(provider, self.models_ttl, tasks.shutdown());
            tasks.spawn("orchestrator.models", OnFailure::Log, follow);
        }
        self.chat.meter.spool.publish_loop(self.bus.clone(), tasks);
    }

    /// For `/health`: what keeps usage from being recorded.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        self.chat.meter.spool.check()
    }

    /// Whether every provider's list of models is known.
    #[must_use]
    pub fn models_known(&self) -> bool {
        self.chat.catalog.complete()
    }
}
