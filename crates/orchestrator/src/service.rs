//! Puts the orchestrator together.

use std::{path::Path, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue};
use tonic::service::Routes;
use weir_db::LateDb;
use weir_error::Error;
use weir_events::{Bus, Spool, SpoolConfig};
use weir_kv::Kv;
use weir_llm::{
    auth::{Auth, AuthError, AwsSigner, AwsSource, TokenSource, Tokens},
    platform::Platform,
    prices::Prices,
    upstream::{Upstream, UpstreamConfig},
};
use weir_proto::{
    chat::{chat_server::ChatServer, responses_server::ResponsesServer},
    router::router_client::RouterClient,
};
use weir_rpc::Transport;
use weir_runtime::{OnFailure, Tasks};
use weir_telemetry::Metrics as Registry;
use weir_types::Clock;

use crate::{
    Config,
    app::{self, Catalog, Chat, Closing, Embedder, Hub, Meter, Pricing, Responses, Shared, Vault, recover},
    config::{AwsFrom, Credentials, Endpoint, OWN_PROVIDER, ProviderDialect, TokensFrom},
    grpc::Handler,
    metrics::{Metrics, ResponsesMetrics, StructuredMetrics, VaultMetrics},
    store,
};

/// Bodies are bounded at the edge; this is the same bound with room for the envelope.
const MAX_MESSAGE: usize = 11 * 1024 * 1024;

/// What the orchestrator works with.
pub struct Deps {
    pub router: Transport,
    /// Where responses are kept; without it none are.
    pub database: Option<LateDb>,
    pub bus: Bus,
    /// Where models' opaque state is kept.
    pub kv: Kv,
    pub metrics: Registry,
    pub clock: Arc<dyn Clock>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Service {
    chat: Chat,
    embedder: Embedder,
    responses: Responses,
    bus: Bus,
    models_ttl: Duration,
    /// Credentials to be replaced before their end.
    ending: Arc<[Auth]>,
}

/// Takes the spool's folder over and closes what an earlier process left open in it.
///
/// # Errors
/// A wrong provider, or a spool that can't be opened or belongs to a living process.
pub fn build(config: &Config, deps: Deps) -> Result<Service, Error> {
    let (mut endpoints, mut ending) = (Vec::new(), Vec::new());
    for endpoint in config.endpoints().map_err(Error::internal)? {
        let (auth, headers) = credentials(&endpoint, &deps.clock)?;
        ending.extend(auth.ends().then(|| auth.clone()));
        let upstream = Upstream::new(UpstreamConfig {
            base_url: endpoint.base_url.clone(),
            auth,
            headers,
            connect_timeout: endpoint.timeouts.connect,
            first_byte_timeout: endpoint.timeouts.first_byte,
            idle_timeout: endpoint.timeouts.idle,
            thinking_timeout: endpoint.timeouts.thinking,
            total_timeout: endpoint.timeouts.total,
            ..UpstreamConfig::default()
        })
        .map_err(Error::internal)?;
        endpoints.push((endpoint, upstream));
    }
    let own = (OWN_PROVIDER.to_owned(), OWN_PROVIDER.to_owned());
    let vendors = endpoints.iter().map(|(e, _)| (e.name.clone(), e.prices.clone())).chain([own]).collect();
    let spool_config = SpoolConfig { durability: config.durability, ..SpoolConfig::default() };
    let (spool, open) =
        Spool::open(&config.spool_dir, spool_config, deps.bus.metrics().clone()).map_err(Error::internal)?;
    let clock = deps.clock;
    let meter = Arc::new(Meter {
        spool,
        clock: clock.clone(),
        metrics: Metrics::new(&deps.metrics),
        send_traceparent: config.send_traceparent,
        pricing: Pricing::new(prices(config)?, vendors),
        closing: Closing::default(),
    });
    recover(&meter, &open);
    let chat = Chat {
        catalog: Catalog::new(endpoints, config.local_embeddings),
        meter,
        router: RouterClient::new(deps.router),
        decide_timeout: config.decide_timeout(),
        decided: Arc::default(),
        fallback_model: config.fallback_model.clone(),
        vault: Vault::new(
            deps.kv,
            config.vault_bytes,
            Duration::from_secs(config.vault_ttl_s),
            clock.clone(),
            VaultMetrics::new(&deps.metrics),
        ),
        structured: StructuredMetrics::new(&deps.metrics),
    };
    config.responses.check()?;
    let responses = Responses::new(Shared {
        store: store::Responses::new(deps.database),
        hub: Hub::new(deps.bus.clone()),
        model: Arc::new(chat.clone()),
        config: Arc::new(config.responses.clone()),
        clock,
        metrics: ResponsesMetrics::new(&deps.metrics),
    });
    let embedder = Embedder::new(chat.clone(), config.embed_batch_ms);
    Ok(Service {
        chat,
        embedder,
        responses,
        bus: deps.bus,
        models_ttl: config.models_ttl(),
        ending: ending.into(),
    })
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

/// How a provider's dialect and platform carry what it is shown: a bearer token, or a header of their own.
fn credentials(endpoint: &Endpoint, clock: &Arc<dyn Clock>) -> Result<(Auth, HeaderMap), Error> {
    let mut headers = HeaderMap::new();
    let vertex = matches!(endpoint.platform, Platform::Vertex { .. });
    if endpoint.dialect == ProviderDialect::Anthropic && !vertex {
        headers.insert(app::ANTHROPIC_VERSION, HeaderValue::from_static(weir_llm::anthropic::VERSION));
    }
    let auth = match &endpoint.credentials {
        Credentials::None => Ok(Auth::None),
        Credentials::Bearer(token) => Auth::bearer(token),
        Credentials::Key(key) => match (endpoint.dialect, &endpoint.platform) {
            (_, Platform::Azure { .. }) => Auth::header("api-key", key),
            (ProviderDialect::Gemini, _) => Auth::header("x-goog-api-key", key),
            (ProviderDialect::Anthropic, _) => Auth::header("x-api-key", key),
            _ => Auth::bearer(key),
        },
        Credentials::Aws { from, region } => {
            signer(from, region, clock.clone()).map(|signer| Auth::Aws(Arc::new(signer)))
        }
        Credentials::Tokens(from) => {
            tokens(from).map(|source| Auth::Tokens(Arc::new(Tokens::new(source, clock.clone()))))
        }
    };
    let auth = auth.map_err(|error| {
        let text = format!("orchestrator.providers.{}: {error}", endpoint.name);
        Error::internal(std::io::Error::other(text))
    })?;
    Ok((auth, headers))
}

fn signer(from: &AwsFrom, region: &str, clock: Arc<dyn Clock>) -> Result<AwsSigner, AuthError> {
    let source = match from {
        AwsFrom::Keys(keys) => return Ok(AwsSigner::bedrock(keys.clone(), region.to_owned(), clock)),
        AwsFrom::Container { uri, token } => AwsSource::container(uri, token.clone()),
        AwsFrom::WebIdentity { role_arn, session, token_file, url } => AwsSource::web_identity(
            role_arn.clone(),
            session.clone(),
            token_file.clone(),
            region,
            url.as_deref(),
        ),
        AwsFrom::Instance { url } => AwsSource::instance(url.as_deref()),
    };
    Ok(AwsSigner::bedrock_by(source?, region.to_owned(), clock))
}

fn tokens(from: &TokensFrom) -> Result<TokenSource, AuthError> {
    match from {
        TokensFrom::Google(json) => TokenSource::google(json),
        TokensFrom::GoogleInstance { url } => TokenSource::google_instance(url.as_deref()),
        TokensFrom::Entra { tenant_id, client_id, token_file, authority } => {
            TokenSource::entra(tenant_id, client_id.clone(), token_file.clone(), authority.as_deref())
        }
    }
}

impl Service {
    #[must_use]
    pub fn routes(&self) -> Routes {
        let (chat, embedder) = (self.chat.clone(), self.embedder.clone());
        let handler = Handler { chat, embedder, responses: self.responses.clone() };
        let server = ChatServer::new(handler.clone());
        let routes =
            Routes::new(server.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(usize::MAX));
        routes.add_service(ResponsesServer::new(handler).max_encoding_message_size(usize::MAX))
    }

    /// Keeps credentials and the providers' lists of models fresh, and publishes the spool.
    pub fn spawn(&self, tasks: &Tasks) {
        for auth in &*self.ending {
            let (auth, shutdown) = (auth.clone(), tasks.shutdown());
            tasks.spawn("orchestrator.credentials", OnFailure::Log, async move {
                tokio::select! {
                    () = auth.keep() => {}
                    () = shutdown.cancelled() => {}
                }
            });
        }
        let catalog = &self.chat.catalog;
        for provider in catalog.to_follow() {
            let follow = catalog.clone().follow(provider, self.models_ttl, tasks.shutdown());
            tasks.spawn("orchestrator.models", OnFailure::Log, follow);
        }
        self.embedder.spawn(tasks);
        self.chat.meter.spool.publish_loop(self.bus.clone(), tasks);
    }

    /// Requests whose clients left are closed among these tasks, which end before usage is no longer published.
    pub fn close_within(&self, tasks: &Tasks) {
        self.chat.meter.closing.within(tasks);
    }

    /// Runs responses in the background, this process's and those that others leave. They end before what is behind
    /// requests does.
    pub fn spawn_background(&self, tasks: &Tasks) {
        self.responses.spawn(tasks);
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
