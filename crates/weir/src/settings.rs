//! Every setting of every service, in one file: a section a service, defaults that work.

use serde::Deserialize;

/// The file's sections. Environment: `WEIR_<SECTION>__<KEY>`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub access: weir_access::Config,
    pub analytics: weir_analytics::Config,
    pub billing: weir_billing::Config,
    pub control: weir_control::Config,
    pub database: weir_db::DbConfig,
    pub gateway: weir_gateway::Config,
    pub ingestion: weir_ingestion::Config,
    pub listen: weir_runtime::ListenConfig,
    pub log: weir_telemetry::LogConfig,
    pub nats: weir_events::NatsConfig,
    pub orchestrator: weir_orchestrator::Config,
    pub realtime: weir_realtime::Config,
    pub redis: weir_kv::Config,
    pub router: weir_router::Config,
    pub simulator: weir_simulator::Config,
}

/// Well-known variables, and the settings they stand for.
pub const ALIASES: &[(&str, &str)] = &[
    ("CORS_ORIGINS", "gateway.cors_origins"),
    ("DATABASE_URL", "database.url"),
    ("LITELLM_MASTER_KEY", "orchestrator.litellm_master_key"),
    ("LITELLM_URL", "orchestrator.litellm_url"),
    ("LLAMA_API_ENDPOINT", "orchestrator.llama_api_endpoint"),
    ("LOG_LEVEL", "log.level"),
    ("MAX_CONCURRENT_REQUESTS", "access.max_concurrent_requests"),
    ("NATS_URL", "nats.url"),
    ("OPENAI_API_KEY", "orchestrator.openai_api_key"),
    ("OPENAI_BASE_URL", "orchestrator.openai_base_url"),
    ("REDIS_ENABLED", "redis.enabled"),
    ("REDIS_URL", "redis.url"),
    ("STREAM_TIMEOUT", "orchestrator.idle_timeout_s"),
];
