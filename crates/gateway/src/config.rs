//! Settings of the gateway.

use std::time::Duration;

use serde::Deserialize;
use weir_config::ByteSize;
use weir_error::Error;

/// How the edge behaves.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The largest request body.
    pub max_body: ByteSize,
    /// Request bodies that one tenant may have under way at once.
    pub max_uploads_per_tenant: u32,
    /// Memory for all request bodies, where they are larger than 64 KiB; a quarter of it for one tenant.
    pub upload_memory: ByteSize,
    /// The largest answer that is not streamed.
    pub max_answer: ByteSize,
    /// Answers from this size on are compressed for clients that take gzip or zstd; event streams never are. Zero:
    /// none.
    pub compress_from: ByteSize,
    /// How long a request body may take in all.
    #[serde(with = "weir_config::duration")]
    pub body_timeout: Duration,
    /// How long a chat answer may take in all.
    #[serde(with = "weir_config::duration")]
    pub chat_timeout: Duration,
    /// The same when it is streamed.
    #[serde(with = "weir_config::duration")]
    pub stream_timeout: Duration,
    /// How long any other call may take.
    #[serde(with = "weir_config::duration")]
    pub call_timeout: Duration,
    /// Silence after which a stream gets a comment line, and after which a stream without any answer yet begins.
    #[serde(with = "weir_config::duration")]
    pub keep_alive: Duration,
    /// How long the list of models is remembered.
    #[serde(with = "weir_config::duration")]
    pub models_for: Duration,
    /// Output tokens a chat request is expected to use when it sets no bound; at most a tenth of its tenant's limit.
    pub default_output_tokens: u64,
    /// WebSocket connections passed on to realtime at once.
    pub max_websockets: u32,
    /// Web origins that browsers may call from, as in `http://localhost:3000`; `*` alone for any.
    pub cors_origins: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body: ByteSize::mib(10),
            max_uploads_per_tenant: 1_024,
            upload_memory: ByteSize::mib(1_024),
            max_answer: ByteSize::mib(64),
            compress_from: ByteSize::kib(8),
            body_timeout: Duration::from_secs(60),
            chat_timeout: Duration::from_secs(600),
            stream_timeout: Duration::from_secs(14_400),
            call_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(10),
            models_for: Duration::from_secs(5),
            default_output_tokens: 256,
            max_websockets: 10_000,
            cors_origins: Vec::new(),
        }
    }
}

impl Config {
    /// # Errors
    /// Names the key that makes no sense.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.keep_alive.is_zero() {
            return Err(Error::invalid("gateway.keep_alive", "must be longer than zero"));
        }
        if self.max_body.0 == 0 {
            return Err(Error::invalid("gateway.max_body", "must be larger than zero"));
        }
        if self.max_uploads_per_tenant == 0 {
            return Err(Error::invalid("gateway.max_uploads_per_tenant", "must be larger than zero"));
        }
        if self.upload_memory.as_usize() / 4 < self.max_body.as_usize() {
            return Err(Error::invalid("gateway.upload_memory", "must be at least four times max_body"));
        }
        for origin in &self.cors_origins {
            let is_origin = origin.split_once("://").is_some_and(|(scheme, host)| {
                !scheme.is_empty() && !host.is_empty() && !host.contains('/') && host.is_ascii()
            });
            if origin != "*" && !is_origin {
                let text = format!("{origin:?} is not an origin such as \"http://localhost:3000\"");
                return Err(Error::invalid("gateway.cors_origins", text));
            }
        }
        Ok(())
    }
}
