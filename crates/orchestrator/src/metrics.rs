//! The orchestrator's metrics.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use weir_proto::events::{Outcome, RequestFinished};
use weir_telemetry::{BoundedLabels, Metrics as Registry};

use crate::app::Ending;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum OutcomeLabel {
    Succeeded,
    Failed,
    Cut,
    Cancelled,
    Interrupted,
    /// By the provider, for what the client asked.
    Refused,
}

impl EncodeLabelValue for OutcomeLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let text = match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cut => "cut",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Refused => "refused",
        };
        text.encode(encoder)
    }
}

impl OutcomeLabel {
    fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Cut => Self::Cut,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Interrupted => Self::Interrupted,
            Outcome::Failed | Outcome::Unspecified => Self::Failed,
        }
    }
}

/// Models that are told apart: a provider may take any name.
const MAX_MODELS: usize = 200;
const CHAT: &str = "chat";
/// Seconds: a model's answers.
const SECONDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Tokens, as OpenTelemetry proposes them for `gen_ai.client.token.usage`.
const TOKENS: [f64; 12] =
    [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    model: Arc<str>,
    outcome: OutcomeLabel,
    stream: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByProvider {
    provider: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByProviderOutcome {
    provider: Arc<str>,
    outcome: OutcomeLabel,
}

/// <https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/>.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GenAi {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: Arc<str>,
    gen_ai_response_model: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GenAiTokens {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: Arc<str>,
    gen_ai_response_model: Arc<str>,
    gen_ai_token_type: &'static str,
}

type Seconds<L> = Family<L, Histogram, fn() -> Histogram>;

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn token_counts() -> Histogram {
    Histogram::new(TOKENS)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum TokenKind {
    Input,
    Output,
}

impl EncodeLabelValue for TokenKind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let text = match self {
            Self::Input => "input",
            Self::Output => "output",
        };
        text.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: TokenKind,
}

#[derive(Clone)]
pub(crate) struct Metrics {
    completions: Family<ByOutcome, Counter>,
    tokens: Family<ByKind, Counter>,
    provider_requests: Family<ByProviderOutcome, Counter>,
    provider_seconds: Seconds<ByProvider>,
    gen_ai_seconds: Seconds<GenAi>,
    gen_ai_first: Seconds<GenAi>,
    gen_ai_tokens: Seconds<GenAiTokens>,
    models: BoundedLabels,
    providers: BoundedLabels,
    pub(crate) router_fallbacks: Counter,
    pub(crate) spool_refused: Counter,
    pub(crate) commits_late: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let metrics = Self {
            completions: Family::default(),
            tokens: Family::default(),
            provider_requests: Family::default(),
            provider_seconds: Family::new_with_constructor(seconds),
            gen_ai_seconds: Family::new_with_constructor(seconds),
            gen_ai_first: Family::new_with_constructor(seconds),
            gen_ai_tokens: Family::new_with_constructor(token_counts),
            models: BoundedLabels::new(MAX_MODELS),
            providers: BoundedLabels::new(MAX_MODELS),
            router_fallbacks: Counter::default(),
            spool_refused: Counter::default(),
            commits_late: Counter::default(),
        };
        registry.register(
            "chat_completions_total",
            "Chat requests that reached a provider",
            metrics.completions.clone(),
        );
        registry.register("chat_tokens_total", "Tokens metered", metrics.tokens.clone());
        registry.register(
            "provider_requests_total",
            "Attempts at a provider that ended, by outcome",
            metrics.provider_requests.clone(),
        );
        registry.register(
            "provider_request_duration_seconds",
            "Attempts at a provider, from the request to the end of the answer",
            metrics.provider_seconds.clone(),
        );
        registry.register(
            "gen_ai_client_operation_duration_seconds",
            "Requests to models, all attempts together",
            metrics.gen_ai_seconds.clone(),
        );
        registry.register(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "From a request to the first piece of its answer",
            metrics.gen_ai_first.clone(),
        );
        registry.register(
            "gen_ai_client_token_usage",
            "Tokens of a request, by kind",
            metrics.gen_ai_tokens.clone(),
        );
        registry.register(
            "router_fallbacks_total",
            "Requests for which the router did not decide in time",
            metrics.router_fallbacks.clone(),
        );
        registry.register(
            "spool_refused_total",
            "Requests refused because usage could not be recorded",
            metrics.spool_refused.clone(),
        );
        registry.register(
            "commits_late_total",
            "Answers that ended before their usage was as durable as configured",
            metrics.commits_late.clone(),
        );
        metrics
    }

    pub(crate) fn finished(&self, request: &RequestFinished, ending: Ending) {
        let model = self.models.label(&request.model);
        let outcome = OutcomeLabel::of(ending.outcome);
        let labels = ByOutcome { model: model.clone(), outcome, stream: request.stream.into() };
        self.completions.get_or_create(&labels).inc();
        self.tokens.get_or_create(&ByKind { kind: TokenKind::Input }).inc_by(ending.tokens.input);
        self.tokens.get_or_create(&ByKind { kind: TokenKind::Output }).inc_by(ending.tokens.output);
        let gen_ai_provider_name = self.providers.label(&request.provider);
        for (gen_ai_token_type, count) in [("input", ending.tokens.input), ("output", ending.tokens.output)] {
            let labels = GenAiTokens {
                gen_ai_operation_name: CHAT,
                gen_ai_provider_name: gen_ai_provider_name.clone(),
                gen_ai_response_model: model.clone(),
                gen_ai_token_type,
            };
            #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
            self.gen_ai_tokens.get_or_create(&labels).observe(count as f64);
        }
        let labels =
            GenAi { gen_ai_operation_name: CHAT, gen_ai_provider_name, gen_ai_response_model: model };
        let in_seconds = |us: u64| Duration::from_micros(us).as_secs_f64();
        if let Some(us) = request.total_us {
            self.gen_ai_seconds.get_or_create(&labels).observe(in_seconds(us));
        }
        if let Some(us) = request.first_token_us {
            self.gen_ai_first.get_or_create(&labels).observe(in_seconds(us));
        }
    }

    /// An attempt at a provider ended. What the client's own leaving or mistake ended is not the provider's failure.
    pub(crate) fn attempted(&self, provider: &str, ending: Ending, took: Duration) {
        let provider = self.providers.label(provider);
        let refused = ending.outcome == Outcome::Failed
            && matches!(ending.provider_status, 400 | 404 | 405 | 409 | 413 | 415 | 422);
        let outcome = if refused { OutcomeLabel::Refused } else { OutcomeLabel::of(ending.outcome) };
        let labels = ByProviderOutcome { provider: provider.clone(), outcome };
        self.provider_requests.get_or_create(&labels).inc();
        self.provider_seconds.get_or_create(&ByProvider { provider }).observe(took.as_secs_f64());
    }
}

/// Of turns' opaque state.
#[derive(Clone, Default)]
pub(crate) struct VaultMetrics {
    kept: Counter,
    too_long: Counter,
    hits: Counter,
    misses: Counter,
}

impl VaultMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let metrics = Self::default();
        for (name, help, counter) in [
            ("vault_kept_total", "Turns whose opaque state was kept", &metrics.kept),
            ("vault_too_long_total", "Turns whose opaque state was too long to be kept", &metrics.too_long),
            ("vault_hits_total", "Turns that came back without their state and got it back", &metrics.hits),
            (
                "vault_misses_total",
                "Turns that came back without state, and of which none is kept",
                &metrics.misses,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }

    pub(crate) fn kept(&self) {
        self.kept.inc();
    }

    pub(crate) fn too_long(&self) {
        self.too_long.inc();
    }

    pub(crate) fn asked(&self, found: bool) {
        if found {
            self.hits.inc()
        } else {
            self.misses.inc()
        };
    }
}

/// Of answers held against the schema their client asked for.
#[derive(Clone, Default)]
pub(crate) struct StructuredMetrics {
    /// At once, or mended without asking again.
    pub(crate) fit: Counter,
    pub(crate) repaired: Counter,
    pub(crate) invalid: Counter,
    /// Too long to be held back.
    pub(crate) unseen: Counter,
}

impl StructuredMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let metrics = Self::default();
        for (name, help, counter) in [
            ("structured_fit_total", "Answers that fit the schema asked for", &metrics.fit),
            ("structured_repaired_total", "Answers that fit after another try", &metrics.repaired),
            ("structured_invalid_total", "Answers that did not fit after another try", &metrics.invalid),
            (
                "structured_unseen_total",
                "Streamed answers that were too long to be looked at",
                &metrics.unseen,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }
}

/// Of responses that are kept, or were to be.
#[derive(Clone, Default)]
pub(crate) struct ResponsesMetrics {
    pub(crate) stored: Counter,
    pub(crate) unstored: Counter,
    pub(crate) background_begun: Counter,
    pub(crate) background_taken: Counter,
    pub(crate) background_interrupted: Counter,
}

impl ResponsesMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let metrics = Self::default();
        for (name, help, counter) in [
            ("responses_stored_total", "Responses kept", &metrics.stored),
            ("responses_unstored_total", "Responses that could not be kept", &metrics.unstored),
            (
                "responses_background_begun_total",
                "Background runs that began here",
                &metrics.background_begun,
            ),
            (
                "responses_background_taken_total",
                "Background runs that began again here after another process left them",
                &metrics.background_taken,
            ),
            (
                "responses_background_interrupted_total",
                "Background runs that ended because their process did",
                &metrics.background_interrupted,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }
}
