//! What a request used, made durable before its answer ends.
//!
//! A [`Metered`] is one request. Each attempt towards a provider is opened in the spool first; the last one is
//! closed together with the request, in one append. Dropping it unfinished means the client went away.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderValue;
use uuid::Uuid;
use weir_error::{Error, require_tenant};
use weir_events::{Commit, Event, Spool};
use weir_llm::{Dialect, Tap, Told, tokens};
use weir_proto::events::{AttemptClosed, Caller, OpenAttempt, Outcome, RequestFinished, TokenSource, Tokens};
use weir_telemetry::{Span, SpanKind};
use weir_types::{AttemptId, Clock, RequestContext, TraceContext};

use super::{
    closing::Closing,
    pricing::{Pricing, both, llm_usage, usage_tokens},
};
use crate::metrics::Metrics;

/// Longest wait for the configured durability. The record is in the spool by then, whatever happens.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

pub(crate) struct Meter {
    pub(crate) spool: Spool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) send_traceparent: bool,
    pub(crate) pricing: Pricing,
    pub(crate) closing: Closing,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) outcome: Outcome,
    /// The provider's status; 0 when it sent none.
    pub(crate) provider_status: u16,
    /// The client's status.
    pub(crate) status: u16,
    pub(crate) tokens: Tokens,
    pub(crate) source: TokenSource,
}

/// What an attempt cost, and by which row.
#[derive(Default)]
struct Priced {
    nano_usd: u64,
    row: String,
}

struct Attempt {
    open: OpenAttempt,
    id: AttemptId,
    /// Whether the provider is known to have received the request.
    reached: bool,
    status: u16,
    began: Instant,
    span: Span,
}

/// One request under way. It is large, and handed on often: it lives in a box.
pub(crate) struct Metered {
    meter: Arc<Meter>,
    id: Uuid,
    request_id: String,
    caller: Caller,
    requested_model: String,
    stream: bool,
    /// As OpenTelemetry names what is done.
    operation: &'static str,
    /// What was sent, for counting when the provider doesn't say, and the dialect of it.
    prompt: Bytes,
    dialect: Dialect,
    /// Input tokens, where they were counted before anything was sent.
    weight: Option<u64>,
    /// What came back, likewise.
    tap: Option<Tap>,
    started: Instant,
    started_at_ms: i64,
    first_token_us: Option<u64>,
    attempts: u32,
    /// What the attempts before the current one cost.
    spent: Option<u64>,
    current: Option<Attempt>,
    /// How the last attempt ended whose answer is one.
    stands: Option<Ending>,
    /// What the attempts before the current one used.
    before: Tokens,
    /// Where the request stands in its caller's trace.
    trace: Option<TraceContext>,
    /// Whether a thread of its own counts this, or would have, had the runtime not ended.
    handed_over: bool,
}

impl Meter {
    pub(crate) fn request(
        self: &Arc<Self>,
        ctx: &RequestContext,
        requested_model: &str,
        stream: bool,
    ) -> Result<Box<Metered>, Error> {
        let tenant = require_tenant(ctx)?;
        Ok(Box::new(Metered {
            meter: self.clone(),
            id: Uuid::now_v7(),
            request_id: ctx.request_id.to_string(),
            caller: Caller {
                tenant_id: tenant.to_string(),
                key_id: ctx.key().map(|k| k.to_string()).unwrap_or_default(),
                user_id: ctx.user().map(|u| u.to_string()).unwrap_or_default(),
                traceparent: ctx
                    .trace
                    .filter(|t| t.flags & 1 == 1)
                    .map(|t| t.to_string())
                    .unwrap_or_default(),
            },
            requested_model: requested_model.to_owned(),
            stream,
            operation: "chat",
            prompt: Bytes::new(),
            dialect: Dialect::OpenAi,
            weight: None,
            tap: None,
            started: Instant::now(),
            started_at_ms: self.clock.now_ms(),
            first_token_us: None,
            attempts: 0,
            spent: Some(0),
            current: None,
            stands: None,
            before: Tokens::default(),
            trace: ctx.trace,
            handed_over: false,
        }))
    }
}

impl Metered {
    /// Opens the next attempt in the spool. An attempt before it must have failed; it is closed only now, so that
    /// at every moment something open in the spool speaks for this request.
    pub(crate) fn open(
        &mut self,
        provider: &str,
        model: &str,
        failed: Option<Ending>,
    ) -> Result<AttemptId, Error> {
        let id = AttemptId::new();
        let open = OpenAttempt {
            attempt_id: id.to_string(),
            request_event_id: self.id.to_string(),
            request_id: self.request_id.clone(),
            caller: Some(self.caller.clone()),
            provider: provider.to_owned(),
            model: model.to_owned(),
            requested_model: self.requested_model.clone(),
            stream: self.stream,
            number: self.attempts + 1,
            opened_at_ms: self.meter.clock.now_ms(),
            started_at_ms: self.started_at_ms,
            input_tokens_estimate: self.weight.unwrap_or_else(|| tokens::estimate(self.prompt.len())),
        };
        if let Err(error) = self.meter.spool.opened(&open) {
            self.meter.metrics.spool_refused.inc();
            drop(failed.and_then(|ending| self.close(ending)));
            return Err(Error::unavailable("usage can't be recorded right now").with_source(error));
        }
        if let (Some(mut previous), Some(ending)) = (self.current.take(), failed) {
            self.ended(&mut previous, ending);
            let cost = self.cost(&previous, ending);
            self.spent = self.with(cost.as_ref());
            self.before = both(self.before, ending.tokens);
            let id = previous.id;
            let events: Vec<_> = self.attempt_event(previous, ending, cost).into_iter().collect();
            drop(self.meter.spool.attempt_closed(id, &events));
        }
        self.attempts += 1;
        let span = self.span(&open);
        self.current = Some(Attempt { open, id, reached: false, status: 0, began: Instant::now(), span });
        Ok(id)
    }

    /// Opens one more attempt after one whose answer will not do, though it was whole. If this one fails, the answer
    /// before it stands.
    pub(crate) fn open_again(&mut self, provider: &str, model: &str, stands: Ending) -> Result<(), Error> {
        self.open(provider, model, Some(stands))?;
        self.tap = None;
        if stands.outcome == Outcome::Succeeded {
            self.stands = Some(stands);
        }
        Ok(())
    }

    /// A span for the attempt: <https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/>.
    fn span(&self, open: &OpenAttempt) -> Span {
        let mut span = Span::start("orchestrator", SpanKind::Client, self.operation, self.trace);
        if span.is_recorded() {
            span.rename(format!("{} {}", self.operation, open.model));
            span.set("gen_ai.operation.name", self.operation);
            span.set("gen_ai.provider.name", open.provider.clone());
            span.set("gen_ai.request.model", open.requested_model.clone());
            span.set("gen_ai.response.model", open.model.clone());
            span.set("weir.attempt.id", open.attempt_id.clone());
            span.set("weir.attempt.number", i64::from(open.number));
            span.set("weir.tenant.id", self.caller.tenant_id.clone());
        }
        span
    }

    /// Vectors are asked for, not an answer, of inputs that count so much.
    pub(crate) fn embeds(&mut self, weight: u64) {
        (self.operation, self.weight) = ("embeddings", Some(weight));
    }

    pub(crate) fn attempt_id(&self) -> Option<AttemptId> {
        self.current.as_ref().map(|attempt| attempt.id)
    }

    /// Where the current attempt stands in its trace, for its provider.
    pub(crate) fn traceparent(&self) -> Option<HeaderValue> {
        let at = self.current.as_ref().filter(|_| self.meter.send_traceparent)?.span.context()?;
        HeaderValue::from_str(&at.to_string()).ok()
    }

    /// What the current attempt sends, in the dialect of its provider.
    pub(crate) fn sending(&mut self, dialect: Dialect, body: Bytes) {
        (self.dialect, self.prompt) = (dialect, body);
    }

    /// What the last attempt sent, in the dialect of its provider.
    pub(crate) fn sent(&self) -> &Bytes {
        &self.prompt
    }

    /// The provider answered with this status: it received the request.
    pub(crate) fn reached(&mut self, status: u16) {
        if let Some(current) = &mut self.current {
            current.reached = true;
            current.status = status;
        }
    }

    /// The first piece of the answer goes to the client.
    pub(crate) fn first_token(&mut self) {
        if self.first_token_us.is_none() {
            self.first_token_us = Some(micros(self.started));
        }
    }

    pub(crate) fn watch(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    pub(crate) fn tap_ref(&self) -> Option<&Tap> {
        self.tap.as_ref()
    }

    pub(crate) fn tap(&mut self) -> Option<&mut Tap> {
        self.tap.as_mut()
    }

    /// What the provider's answer has cost so far: its own numbers when it sent them, but never less output than was
    /// relayed; else counted from what was sent and relayed. Nothing when the provider isn't known to have received
    /// the request, or refused it.
    pub(crate) async fn tokens(&self) -> (Tokens, TokenSource) {
        let told = self.tap.as_ref().is_some_and(|t| t.usage().is_some());
        if told || tokens::is_quick(self.prompt.len()) {
            return self.tokens_here();
        }
        let (dialect, prompt) = (self.dialect, self.prompt.clone());
        let counted = tokio::task::spawn_blocking(move || dialect.provider().count_prompt(&prompt)).await;
        self.tokens_with(|| counted.unwrap_or_default())
    }

    /// The same on this thread, however long the prompt is.
    fn tokens_here(&self) -> (Tokens, TokenSource) {
        self.tokens_with(|| self.dialect.provider().count_prompt(&self.prompt))
    }

    fn tokens_with(&self, count_prompt: impl FnOnce() -> u64) -> (Tokens, TokenSource) {
        let answering = self.current.as_ref().is_some_and(|c| c.reached && (200..300).contains(&c.status));
        if !answering {
            return (Tokens::default(), TokenSource::Counted);
        }
        match self.tap.as_ref().and_then(|tap| Some((tap, tap.usage()?))) {
            Some((tap, usage)) if tap.finished() => (usage_tokens(usage), TokenSource::Provider),
            // Numbers of a stream that did not end may be those of its beginning.
            Some((tap, usage)) => {
                let usage = usage_tokens(usage);
                (Tokens { output: usage.output.max(tap.count_output()), ..usage }, TokenSource::Provider)
            }
            None => {
                let output = self.tap.as_ref().map(Tap::count_output).unwrap_or_default();
                let input = self.weight.unwrap_or_else(count_prompt);
                (Tokens { input, output, ..Tokens::default() }, TokenSource::Counted)
            }
        }
    }

    /// Counts a whole unstreamed answer.
    pub(crate) async fn tokens_of_answer(&self, body: &Bytes) -> (Tokens, TokenSource) {
        if let Some(usage) = self.dialect.provider().usage_of_answer(body) {
            return (usage_tokens(usage), TokenSource::Provider);
        }
        let (dialect, prompt, body) = (self.dialect, self.prompt.clone(), body.clone());
        let count =
            move || (dialect.provider().count_prompt(&prompt), dialect.provider().count_answer(&body));
        let (input, output) = if tokens::is_quick(self.prompt.len()) {
            count()
        } else {
            tokio::task::spawn_blocking(count).await.unwrap_or_default()
        };
        (Tokens { input, output, ..Tokens::default() }, TokenSource::Counted)
    }

    /// Closes the request and its last attempt in one append, and tells what it cost. The answer may end once this
    /// returns.
    pub(crate) async fn finish(mut self: Box<Self>, ending: Ending) -> Option<u64> {
        let (commit, cost) = self.close(ending)?;
        if commit.is_done() {
            return cost;
        }
        let durable = tokio::time::timeout(COMMIT_WAIT, commit.wait()).await;
        if !matches!(durable, Ok(Ok(()))) {
            self.meter.metrics.commits_late.inc();
            tracing::error!("usage is recorded, but not yet as durably as configured");
        }
        cost
    }

    /// The chunk with the usage, and in it what the request costs so far, if that is known.
    pub(crate) fn tell(&self, events: &Bytes) -> Bytes {
        let (Some(attempt), Some(usage)) = (&self.current, self.tap.as_ref().and_then(Tap::usage)) else {
            return events.clone();
        };
        let OpenAttempt { provider, model, opened_at_ms, .. } = &attempt.open;
        let cost = self.meter.pricing.of(provider, model, *opened_at_ms, &usage);
        match cost.and_then(|cost| self.spent?.checked_add(cost.nano_usd)) {
            None => events.clone(),
            cost_nano_usd => Told { cost_nano_usd, provider, model, warnings: "" }.into_usage(events),
        }
    }

    /// An attempt's cost. A refusal costs nothing; what is known to have begun, and not what it used, nobody knows.
    fn cost(&self, attempt: &Attempt, ending: Ending) -> Option<Priced> {
        let Ending { outcome, tokens, .. } = ending;
        if outcome == Outcome::Failed {
            return Some(Priced::default());
        }
        if outcome != Outcome::Succeeded && (tokens.input, tokens.output) == (0, 0) {
            return None;
        }
        let open = &attempt.open;
        let usage = llm_usage(tokens);
        let cost = self.meter.pricing.of(&open.provider, &open.model, open.opened_at_ms, &usage)?;
        Some(Priced { nano_usd: cost.nano_usd, row: cost.row.to_string() })
    }

    fn with(&self, cost: Option<&Priced>) -> Option<u64> {
        self.spent?.checked_add(cost?.nano_usd)
    }

    fn close(&mut self, ending: Ending) -> Option<(Commit, Option<u64>)> {
        let mut attempt = self.current.take()?;
        self.ended(&mut attempt, ending);
        let cost = self.cost(&attempt, ending);
        let total = self.with(cost.as_ref());
        let finished_at_ms = self.meter.clock.now_ms();
        // Who leaves gets neither.
        let stands =
            self.stands.filter(|_| !matches!(ending.outcome, Outcome::Succeeded | Outcome::Cancelled));
        let answered = stands.unwrap_or(ending);
        let request = RequestFinished {
            id: self.id.to_string(),
            request_id: std::mem::take(&mut self.request_id),
            caller: Some(std::mem::take(&mut self.caller)),
            requested_model: std::mem::take(&mut self.requested_model),
            model: attempt.open.model.clone(),
            provider: attempt.open.provider.clone(),
            stream: self.stream,
            attempts: self.attempts,
            outcome: answered.outcome.into(),
            status: answered.status.into(),
            tokens: Some(self.told(ending)),
            token_source: answered.source.into(),
            started_at_ms: self.started_at_ms,
            finished_at_ms,
            first_token_us: self.first_token_us,
            total_us: Some(micros(self.started)),
            cost_nano_usd: total,
            price_row: cost.as_ref().map(|c| c.row.clone()).unwrap_or_default(),
        };
        self.meter.metrics.finished(&request, Ending { tokens: self.told(ending), ..answered });
        let id = attempt.id;
        let closed = self.attempt_event(attempt, ending, cost);
        let events: Vec<_> = closed.into_iter().chain(Event::request_finished(&request).ok()).collect();
        Some((self.meter.spool.closed(id, &events), total))
    }

    /// What the request used, all attempts together.
    pub(crate) fn told(&self, ending: Ending) -> Tokens {
        both(self.before, ending.tokens)
    }

    /// Counts the attempt that ended, and ends its span.
    fn ended(&self, attempt: &mut Attempt, ending: Ending) {
        let open = &attempt.open;
        self.meter.metrics.attempted(&open.provider, ending, attempt.began.elapsed());
        let mut span = std::mem::replace(&mut attempt.span, Span::none(None));
        if !span.is_recorded() {
            return;
        }
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        span.set("gen_ai.usage.input_tokens", count(ending.tokens.input));
        span.set("gen_ai.usage.output_tokens", count(ending.tokens.output));
        span.set("weir.outcome", ending.outcome.as_str_name());
        if ending.provider_status != 0 {
            span.set("http.response.status_code", i64::from(ending.provider_status));
        }
        if let Some(us) = self.first_token_us {
            span.set("weir.first_token_us", count(us));
        }
        if !matches!(ending.outcome, Outcome::Succeeded | Outcome::Cancelled) {
            span.set("error.type", ending.outcome.as_str_name());
            span.fail("the provider did not answer in full");
        }
    }

    /// `None` for an attempt that cannot have reached its provider: it cost nothing.
    fn attempt_event(&self, attempt: Attempt, ending: Ending, cost: Option<Priced>) -> Option<Event> {
        if !attempt.reached && ending.outcome == Outcome::Failed && ending.provider_status == 0 {
            return None;
        }
        let open = attempt.open;
        let closed = AttemptClosed {
            attempt_id: open.attempt_id,
            request_id: open.request_id,
            caller: open.caller,
            provider: open.provider,
            model: open.model,
            number: open.number,
            outcome: ending.outcome.into(),
            status: ending.provider_status.into(),
            tokens: Some(ending.tokens),
            token_source: ending.source.into(),
            opened_at_ms: open.opened_at_ms,
            closed_at_ms: self.meter.clock.now_ms(),
            cost_nano_usd: cost.as_ref().map(|c| c.nano_usd),
            price_row: cost.map(|c| c.row).unwrap_or_default(),
        };
        Event::attempt_closed(&closed).ok()
    }

    fn cancelled(&self) -> Ending {
        let (tokens, source) = self.tokens_here();
        let provider_status = self.current.as_ref().map(|c| c.status).unwrap_or_default();
        Ending { outcome: Outcome::Cancelled, provider_status, status: 499, tokens, source }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if self.current.is_none() {
            return;
        }
        // A runtime that ends drops what it is handed, which must not be handed over again.
        let here = self.handed_over
            || tokens::is_quick(self.prompt.len())
            || self.tap.as_ref().is_some_and(|t| t.usage().is_some());
        let runtime = tokio::runtime::Handle::try_current();
        let (false, Ok(runtime)) = (here, runtime) else {
            let ending = self.cancelled();
            return drop(self.close(ending));
        };
        let moved = Self {
            meter: self.meter.clone(),
            request_id: std::mem::take(&mut self.request_id),
            caller: std::mem::take(&mut self.caller),
            requested_model: std::mem::take(&mut self.requested_model),
            prompt: std::mem::take(&mut self.prompt),
            tap: self.tap.take(),
            current: self.current.take(),
            handed_over: true,
            ..*self
        };
        self.meter.closing.later(&runtime, move || drop(moved));
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
