//! The orchestrator's metrics.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family},
};
use weir_proto::events::{Outcome, RequestFinished};
use weir_telemetry::Metrics as Registry;

use crate::app::Ending;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum OutcomeLabel {
    Succeeded,
    Failed,
    Cut,
    Cancelled,
    Interrupted,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: OutcomeLabel,
    stream: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum TokenKind {
    Input,
    Output,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: TokenKind,
}

#[derive(Clone)]
pub(crate) struct Metrics {
    completions: Family<ByOutcome, Counter>,
    tokens: Family<ByKind, Counter>,
    pub(crate) router_fallbacks: Counter,
    pub(crate) spool_refused: Counter,
    pub(crate) commits_late: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let metrics = Self {
            completions: Family::default(),
            tokens: Family::default(),
            router_fallbacks: Counter::default(),
            spool_refused: Counter::default(),
            commits_late: Counter::default(),
        };
        registry.register(
            "chat_completions",
            "chat requests that reached a provider",
            metrics.completions.clone(),
        );
        registry.register("chat_tokens", "tokens metered", metrics.tokens.clone());
        registry.register(
            "router_fallbacks",
            "requests for which the router did not decide in time",
            metrics.router_fallbacks.clone(),
        );
        registry.register(
            "spool_refused",
            "requests refused because usage could not be recorded",
            metrics.spool_refused.clone(),
        );
        registry.register(
            "commits_late",
            "answers that ended before their usage was as durable as configured",
            metrics.commits_late.clone(),
        );
        metrics
    }

    pub(crate) fn finished(&self, request: &RequestFinished, ending: Ending) {
        let outcome = match ending.outcome {
            Outcome::Succeeded => OutcomeLabel::Succeeded,
            Outcome::Cut => OutcomeLabel::Cut,
            Outcome::Cancelled => OutcomeLabel::Cancelled,
            Outcome::Interrupted => OutcomeLabel::Interrupted,
            Outcome::Failed | Outcome::Unspecified => OutcomeLabel::Failed,
        };
        self.completions.get_or_create(&ByOutcome { outcome, stream: request.stream.into() }).inc();
        self.tokens.get_or_create(&ByKind { kind: TokenKind::Input }).inc_by(ending.tokens.input);
        self.tokens.get_or_create(&ByKind { kind: TokenKind::Output }).inc_by(ending.tokens.output);
    }
}
