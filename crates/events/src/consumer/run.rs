//! The loop of a consumer.

use std::{collections::HashMap, ops::Range, panic::AssertUnwindSafe, time::Duration};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use futures_util::FutureExt as _;
use tokio::time::timeout;
use weir_runtime::{Shutdown, retry::Backoff};
use weir_telemetry::Span;

use super::{
    BatchHandler, ConsumerConfig, Delivery, Outcome, Received,
    batch::{Gathered, Puller},
    settle::{Failures, Settler},
    slow::Slow,
};
use crate::{
    Bus,
    dead_letters::{Reason, ReasonCode, replay_prefix},
    metrics::ConsumerLabel,
    trace,
};

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(3);
/// A stream that has gone is made again after this, not at once: nats-server 2.15 gives a stream made while the one
/// before it is being deleted that one's store, and then acknowledges nothing.
const REMAKE: Duration = Duration::from_secs(1);
/// Messages whose failures are remembered.
const MAX_REMEMBERED: usize = 100_000;
/// How long stopping waits for the last acknowledgements to leave.
const FLUSH: Duration = Duration::from_secs(1);

pub(super) struct Run<H> {
    bus: Bus,
    config: ConsumerConfig,
    handler: H,
    label: ConsumerLabel,
    /// Failures by stream sequence, of messages not yet settled.
    failing: HashMap<u64, Failing>,
    slow: Slow,
    backoff: Backoff,
}

/// A message that comes again.
struct Failing {
    failures: Failures,
    backoff: Backoff,
}

impl<H: BatchHandler> Run<H> {
    pub(super) fn new(bus: Bus, config: ConsumerConfig, handler: H) -> Self {
        let label = ConsumerLabel { stream: config.stream, consumer: config.durable };
        Self {
            bus,
            config,
            handler,
            label,
            failing: HashMap::new(),
            slow: Slow::default(),
            backoff: Backoff::new(RETRY_FIRST, RETRY_MAX),
        }
    }

    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut stream_missing = true;
        while !shutdown.is_cancelled() {
            let mut link = self.bus.link();
            let epoch = tokio::select! {
                up = link.wait_for(|l| l.up) => match up {
                    Ok(up) => up.epoch,
                    Err(_) => return,
                },
                () = shutdown.cancelled() => return,
            };
            match self.consumer(stream_missing).await {
                Ok(consumer) => {
                    stream_missing = false;
                    tracing::info!(consumer = self.config.durable, "consuming");
                    self.consume(consumer, epoch, &shutdown).await;
                }
                Err(error) => {
                    tracing::warn!(
                        consumer = self.config.durable,
                        error = &*error,
                        "consumer not available yet"
                    );
                    stream_missing = true;
                    let delay = self.backoff.next().max(REMAKE);
                    Self::pause(delay, &shutdown).await;
                }
            }
        }
        // What was acknowledged should not come again just because the process ends.
        drop(timeout(FLUSH, self.bus.client().flush()).await);
    }

    async fn pause(delay: Duration, shutdown: &Shutdown) {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// The consumer on the server, made or updated; before it the streams, should they be missing.
    async fn consumer(
        &self,
        stream_missing: bool,
    ) -> Result<PullConsumer, Box<dyn std::error::Error + Send + Sync>> {
        if stream_missing {
            self.bus.ensure_streams().await?;
        }
        let config = pull::Config {
            durable_name: Some(self.config.durable.to_owned()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.config.ack_wait,
            // Failures are counted here: a database that is down must not use up deliveries.
            max_deliver: -1,
            // What is replayed to this consumer is for no other.
            filter_subjects: vec![
                self.config.filter.to_owned(),
                format!("{}>", replay_prefix(self.config.stream, self.config.durable)),
            ],
            max_ack_pending: 10_000,
            ..pull::Config::default()
        };
        Ok(self.bus.jetstream().create_consumer_on_stream(config, self.config.stream).await?)
    }

    /// Until the connection or the consumer is lost, or it is time to stop.
    async fn consume(&mut self, consumer: PullConsumer, epoch: u64, shutdown: &Shutdown) {
        let (max, linger) = (self.config.max_batch, self.config.linger);
        let mut puller = Puller::new(consumer, max, linger, epoch, self.bus.link());
        loop {
            match puller.gather(shutdown).await {
                Gathered::Messages(messages) => {
                    let pending = messages.last().and_then(|m| m.info().ok().map(|i| i.pending));
                    self.lag(pending.unwrap_or(0));
                    let deliveries = messages
                        .into_iter()
                        .map(|m| {
                            Delivery::new(m, &self.config, |sequence| {
                                self.failing.get(&sequence).map_or(0, |f| f.failures.count)
                            })
                        })
                        .collect();
                    if self.batch(deliveries).await {
                        self.backoff.reset();
                    } else {
                        Self::pause(self.backoff.next(), shutdown).await;
                    }
                }
                Gathered::Nothing => self.lag(0),
                Gathered::Ended => break,
            }
        }
        puller.put_back().await;
    }

    fn lag(&self, pending: u64) {
        let gauge = self.bus.metrics().consumer_lag.get_or_create_owned(&self.label);
        gauge.set(i64::try_from(pending).unwrap_or(i64::MAX));
    }

    /// Handles one batch. False when something the handler needs is down.
    async fn batch(&mut self, deliveries: Vec<Delivery>) -> bool {
        let mut known = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let settler = Settler { bus: &self.bus, config: &self.config };
            if !self.config.kinds.contains(&delivery.kind()) {
                settler.ack(&delivery, "skipped").await;
            } else if let Err(reason) = delivery.received {
                let reason = Reason::new(ReasonCode::Undecodable, reason);
                settler.dead_letter(&delivery, &Failures::none(self.config.clock.now_ms()), &reason).await;
            } else {
                known.push(delivery);
            }
        }
        let mut groups = self.slow.groups(known, |delivery| delivery.sequence).into_iter();
        while let Some(group) = groups.next() {
            if group.is_empty() {
                continue;
            }
            let went = self.group(&group).await;
            if went != Went::Well {
                for rest in groups {
                    self.put_back(&rest).await;
                }
                return went != Went::Down;
            }
        }
        true
    }

    /// Handles some at once.
    async fn group(&mut self, group: &[Delivery]) -> Went {
        self.bus.metrics().consumer_batches.get_or_create_owned(&self.label).inc();
        let received: Vec<Received> =
            group.iter().filter_map(|d| d.received.as_ref().ok().cloned()).collect();
        let spans: Vec<_> = group.iter().map(|d| self.span(d)).collect();
        match self.outcomes(&received).await {
            Ok(outcomes) => {
                for ((delivery, outcome), mut span) in group.iter().zip(outcomes).zip(spans) {
                    trace::note(&mut span, &outcome);
                    self.slow.settled(delivery.sequence);
                    self.settle(delivery, outcome).await;
                }
                Went::Well
            }
            Err(Stopped::Down) => {
                self.put_back(group).await;
                Went::Down
            }
            Err(Stopped::TooSlow(which)) => {
                let (before, after) = (which.start, which.end);
                let sequences: Vec<_> = group[which].iter().map(|d| d.sequence).collect();
                if self.slow.took_too_long(&sequences) {
                    let too_long = Outcome::Retry("the handler takes too long".to_owned());
                    self.settle(&group[before], too_long).await;
                    self.put_back(&group[..before]).await;
                    self.put_back(&group[after..]).await;
                } else {
                    self.put_back(group).await;
                }
                Went::TooSlow
            }
        }
    }

    async fn put_back(&self, deliveries: &[Delivery]) {
        let settler = Settler { bus: &self.bus, config: &self.config };
        for delivery in deliveries {
            settler.put_back(delivery, RETRY_FIRST).await;
        }
    }

    /// Lasts until the message is settled.
    fn span(&self, delivery: &Delivery) -> Span {
        let id = delivery.received.as_ref().map_or_else(|_| uuid::Uuid::nil(), |r| r.id);
        trace::handling(self.config.durable, &delivery.subject, id, delivery.message.headers.as_ref())
    }

    /// As many outcomes as messages.
    async fn outcomes(&self, received: &[Received]) -> Result<Vec<Outcome>, Stopped> {
        match self.call(received).await {
            Called::Outcomes(outcomes) => return Ok(outcomes),
            Called::Down => return Err(Stopped::Down),
            Called::TooSlow => return Err(Stopped::TooSlow(0..received.len())),
            Called::Defect(what) if received.len() == 1 => {
                return Ok(vec![Outcome::Retry(what.to_owned())]);
            }
            Called::Defect(_) => {}
        }
        // One of them is the reason: each on its own, so that the others do not suffer.
        let mut outcomes = Vec::with_capacity(received.len());
        for (at, one) in received.chunks(1).enumerate() {
            outcomes.push(match self.call(one).await {
                Called::Outcomes(mut outcome) => outcome.pop().ok_or(Stopped::Down)?,
                Called::Defect(what) => Outcome::Retry(what.to_owned()),
                Called::Down => return Err(Stopped::Down),
                Called::TooSlow => return Err(Stopped::TooSlow(at..at + 1)),
            });
        }
        Ok(outcomes)
    }

    async fn call(&self, received: &[Received]) -> Called {
        let name = self.config.durable;
        let handled = AssertUnwindSafe(self.handler.handle(received)).catch_unwind();
        let Ok(handled) = timeout(self.config.handle_within, handled).await else {
            self.stalled();
            tracing::warn!(
                consumer = name,
                messages = received.len(),
                "handler takes too long and is given up"
            );
            return Called::TooSlow;
        };
        match handled {
            Ok(Ok(outcomes)) if outcomes.len() == received.len() => Called::Outcomes(outcomes),
            Ok(Ok(outcomes)) => {
                tracing::error!(
                    consumer = name,
                    messages = received.len(),
                    outcomes = outcomes.len(),
                    "handler miscounted"
                );
                Called::Defect("the handler miscounted")
            }
            Ok(Err(error)) => {
                self.stalled();
                let cause = std::error::Error::source(&error);
                tracing::warn!(consumer = name, messages = received.len(), cause, "handler waits: {error}");
                Called::Down
            }
            Err(_) => {
                tracing::error!(consumer = name, messages = received.len(), "handler panicked");
                Called::Defect("the handler panicked")
            }
        }
    }

    fn stalled(&self) {
        self.bus.metrics().consumer_stalls.get_or_create_owned(&self.label).inc();
    }

    async fn settle(&mut self, delivery: &Delivery, outcome: Outcome) {
        let settler = Settler { bus: &self.bus, config: &self.config };
        let settled = match outcome {
            Outcome::Ack => {
                settler.ack(delivery, "ack").await;
                true
            }
            Outcome::Retry(why) => {
                let failing = Self::failed(&mut self.failing, delivery.sequence, &self.config);
                let max = self.config.max_deliver.unwrap_or(self.bus.max_deliver());
                if failing.failures.count < max {
                    settler.retry(delivery, failing.backoff.next(), &why).await;
                    false
                } else {
                    let reason = Reason::new(ReasonCode::RetriesExhausted, why);
                    settler.dead_letter(delivery, &failing.failures, &reason).await
                }
            }
            Outcome::DeadLetter(reason) => {
                let failing = Self::failed(&mut self.failing, delivery.sequence, &self.config);
                settler.dead_letter(delivery, &failing.failures, &reason).await
            }
        };
        if settled {
            self.failing.remove(&delivery.sequence);
            self.slow.settled(delivery.sequence);
        }
    }

    /// Notes one more failure.
    fn failed<'a>(
        failing: &'a mut HashMap<u64, Failing>,
        sequence: u64,
        config: &ConsumerConfig,
    ) -> &'a mut Failing {
        let now_ms = config.clock.now_ms();
        if failing.len() >= MAX_REMEMBERED && !failing.contains_key(&sequence) {
            // Some other message gets its tries again.
            let other = failing.keys().next().copied();
            other.and_then(|other| failing.remove(&other));
        }
        let known = failing.entry(sequence).or_insert_with(|| Failing {
            failures: Failures::none(now_ms),
            backoff: Backoff::new(config.retry_first, config.retry_max),
        });
        known.failures.count += 1;
        known.failures.last_ms = now_ms;
        known
    }
}

enum Called {
    Outcomes(Vec<Outcome>),
    /// It panicked, or gave a wrong number of outcomes.
    Defect(&'static str),
    Down,
    TooSlow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Went {
    Well,
    TooSlow,
    Down,
}

/// Why there are no outcomes.
enum Stopped {
    Down,
    /// Which of the messages took too long.
    TooSlow(Range<usize>),
}
