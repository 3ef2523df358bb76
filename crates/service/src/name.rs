//! The eight services by name.

use std::{fmt, str::FromStr};

use clap::{ValueEnum, builder::PossibleValue};
use serde::Deserialize;

/// A service. In the order of their ports, the gateway's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    Gateway,
    Realtime,
    Router,
    Orchestrator,
    Analytics,
    Billing,
    Ingestion,
    Control,
}

/// No service has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no service is called {0:?}")]
pub struct NoSuchService(String);

impl Name {
    pub const ALL: [Self; 8] = [
        Self::Gateway,
        Self::Realtime,
        Self::Router,
        Self::Orchestrator,
        Self::Analytics,
        Self::Billing,
        Self::Ingestion,
        Self::Control,
    ];

    /// In the configuration, as identity, on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Realtime => "realtime",
            Self::Router => "router",
            Self::Orchestrator => "orchestrator",
            Self::Analytics => "analytics",
            Self::Billing => "billing",
            Self::Ingestion => "ingestion",
            Self::Control => "control",
        }
    }

    /// Whether it calls `peer`, which then has to know it. Chart and compose files say the same.
    #[must_use]
    pub const fn calls(self, peer: Self) -> bool {
        match self {
            Self::Gateway => !matches!(peer, Self::Gateway),
            Self::Realtime => matches!(peer, Self::Orchestrator | Self::Control),
            Self::Orchestrator => matches!(peer, Self::Router | Self::Ingestion),
            _ => false,
        }
    }

    /// Its own binary.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Gateway => "weir-gateway",
            Self::Realtime => "weir-realtime",
            Self::Router => "weir-router",
            Self::Orchestrator => "weir-orchestrator",
            Self::Analytics => "weir-analytics",
            Self::Billing => "weir-billing",
            Self::Ingestion => "weir-ingestion",
            Self::Control => "weir-control",
        }
    }

    /// Where it listens unless it is told otherwise.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Gateway => 8000,
            Self::Realtime => 8001,
            Self::Router => 8002,
            Self::Orchestrator => 8003,
            Self::Analytics => 8004,
            Self::Billing => 8005,
            Self::Ingestion => 8006,
            Self::Control => 8007,
        }
    }

    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Gateway => "the edge clients talk to: HTTP, server-sent events, WebSocket hand-over",
            Self::Realtime => "WebSocket sessions",
            Self::Router => "decides which model a request goes to",
            Self::Orchestrator => "every call to a model; owns the spool of usage events",
            Self::Analytics => "read-only figures built from events",
            Self::Billing => "metering",
            Self::Ingestion => "documents",
            Self::Control => "tenants and keys",
        }
    }

    /// What serves others comes before what calls them, so that the doors open last.
    pub(crate) const fn start_order(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Router => 1,
            Self::Billing => 2,
            Self::Analytics => 3,
            Self::Ingestion => 4,
            Self::Orchestrator => 5,
            Self::Gateway => 6,
            Self::Realtime => 7,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Name {
    type Err = NoSuchService;

    fn from_str(text: &str) -> Result<Self, NoSuchService> {
        let found = Self::ALL.into_iter().find(|name| name.as_str() == text);
        found.ok_or_else(|| NoSuchService(text.to_owned()))
    }
}

impl ValueEnum for Name {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()).help(format!("{}, port {}", self.about(), self.port())))
    }
}
