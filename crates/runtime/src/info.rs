//! What is running: the answer of `GET /info`.

use serde::Serialize;

/// Which build of which service this is.
#[derive(Debug, Clone, Serialize)]
pub struct Info {
    pub service: &'static str,
    pub version: &'static str,
    /// The commit, when the build was told (`WEIR_GIT_SHA`).
    pub git_sha: Option<&'static str>,
    /// When it was built, when the build was told (`WEIR_BUILD_TIME`, RFC 3339).
    pub build_time: Option<&'static str>,
    /// What is switched on by configuration: `redis`, `tls`, …
    pub features: Vec<&'static str>,
    /// `weir_config::Loaded::fingerprint`: shows whether two instances have the same settings.
    pub config_hash: Option<String>,
}

impl Info {
    #[must_use]
    pub fn new(service: &'static str) -> Self {
        Self {
            service,
            version: env!("CARGO_PKG_VERSION"),
            git_sha: option_env!("WEIR_GIT_SHA"),
            build_time: option_env!("WEIR_BUILD_TIME"),
            features: Vec::new(),
            config_hash: None,
        }
    }

    #[must_use]
    pub fn with_features(mut self, features: Vec<&'static str>) -> Self {
        self.features = features;
        self
    }

    #[must_use]
    pub fn with_config_hash(mut self, hash: String) -> Self {
        self.config_hash = Some(hash);
        self
    }
}
