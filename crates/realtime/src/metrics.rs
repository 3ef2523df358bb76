//! What realtime counts.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use weir_telemetry::Metrics;

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TurnOutcome {
    Done,
    Failed,
    Cancelled,
}

impl EncodeLabelValue for TurnOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let text = match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        };
        text.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: TurnOutcome,
}

/// The codes this server closes with; 0 stands for a client that went first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Close {
    code: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Policy {
    policy: &'static str,
}

const DISCONNECT: Policy = Policy { policy: "disconnect_slow" };

#[derive(Clone, Default)]
pub(crate) struct RealtimeMetrics {
    pub(crate) active: Gauge,
    // Only ever rises, but is promised by this name, and a counter would be shown as `…_total`.
    drops: Family<Policy, Gauge>,
    closes: Family<Close, Counter>,
    turns: Family<Outcome, Counter>,
}

impl RealtimeMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let this = Self::default();
        // There from the start: an absent series looks like an absent service.
        drop(this.drops.get_or_create(&DISCONNECT));
        metrics.register("ws_active_connections", "WebSocket connections now open", this.active.clone());
        metrics.register("ws_backpressure_drops", "Readers given up as too slow", this.drops.clone());
        metrics.register(
            "ws_closes_total",
            "Closed connections by close code, 0: by the client",
            this.closes.clone(),
        );
        metrics.register("ws_turns_total", "Chat turns by outcome", this.turns.clone());
        this
    }

    pub(crate) fn dropped(&self) {
        self.drops.get_or_create(&DISCONNECT).inc();
    }

    pub(crate) fn closed(&self, code: u16) {
        self.closes.get_or_create(&Close { code: code.into() }).inc();
    }

    pub(crate) fn turn(&self, outcome: TurnOutcome) {
        self.turns.get_or_create(&Outcome { outcome }).inc();
    }
}
