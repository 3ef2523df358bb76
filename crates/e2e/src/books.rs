//! What was counted, as everyone who counts tells it: the provider's ledger, the events, the databases. And whether
//! they agree as ARCHITECTURE §3 means it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::jetstream::{self, consumer::PullConsumer};
use futures_util::{StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use serde::Deserialize;
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;
use weir_proto::events::{AttemptClosed, Outcome, RequestFinished, Tokens};

use crate::{http::Http, load::Seen, wait::until};

const STREAM: &str = "USAGE";
/// Longer than everything takes to arrive on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// One call, as the provider tells it.
#[derive(Debug, Clone, Deserialize)]
pub struct Entry {
    pub id: String,
    pub status: u16,
    /// `finished`, `failed`, `cut` or `cancelled`.
    pub outcome: String,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub sent: u64,
}

/// Events by their id, each once however often it was delivered.
#[derive(Debug, Default)]
pub struct Events {
    pub attempts: HashMap<Uuid, AttemptClosed>,
    pub requests: HashMap<Uuid, RequestFinished>,
}

/// Sums of one key and model, in the order of `COLUMNS`.
pub type Counters = BTreeMap<(String, String), [i64; 11]>;

const COLUMNS: [&str; 11] = [
    "requests",
    "errors",
    "input_tokens",
    "output_tokens",
    "attempts",
    "attempts_failed",
    "attempts_cut",
    "attempts_cancelled",
    "attempts_interrupted",
    "provider_input_tokens",
    "provider_output_tokens",
];

/// Where the books are.
pub struct Books {
    pub simulator: Http,
    pub nats_url: String,
    /// A superuser's, who sees every tenant.
    pub database_url: String,
}

impl Books {
    /// Waits until nothing is under way anywhere, and compares everything with everything.
    ///
    /// # Errors
    /// The first disagreement.
    pub async fn agree(&self, seen: &[Seen]) -> Result<Summary> {
        let (ledger, events, counters) =
            until("everything was counted", PATIENCE, async || Box::pin(self.settled()).await).await?;
        compare_with_ledger(&ledger, &events)?;
        compare_with_clients(seen, &ledger, &events)?;
        let expected = expected_counters(&events);
        ensure!(counters == expected, "billing counted {counters:#?}, the events say {expected:#?}");
        self.compare_with_analytics(&events).await?;
        Ok(Summary::of(&ledger, &events))
    }

    /// Everything, once each book has all that it will get.
    async fn settled(&self) -> Result<(Vec<Entry>, Events, Counters)> {
        let ledger = self.ledger().await?;
        let events = self.events().await?;
        for entry in &ledger {
            let id = Uuid::parse_str(&entry.id).with_context(|| format!("{entry:?} has no attempt's id"))?;
            ensure!(events.attempts.contains_key(&id), "no event yet of {entry:?}");
        }
        let finished: std::collections::HashSet<_> =
            events.requests.values().map(|r| r.request_id.as_str()).collect();
        for attempt in events.attempts.values() {
            ensure!(finished.contains(attempt.request_id.as_str()), "no request's event yet for {attempt:?}");
        }
        let counters = self.counters().await?;
        let sum = |column: usize| counters.values().map(|row| row[column]).sum::<i64>();
        let (requests, attempts) =
            (i64::try_from(events.requests.len())?, i64::try_from(events.attempts.len())?);
        ensure!(sum(0) >= requests && sum(4) >= attempts, "billing lags: {} of {requests} requests", sum(0));
        Ok((ledger, events, counters))
    }

    async fn ledger(&self) -> Result<Vec<Entry>> {
        let answer = self.simulator.get("/_sim/ledger?entries=true").await?;
        ensure!(answer.status == 200, "{answer:?}");
        let mut ledger = answer.json();
        ensure!(ledger["running"] == 0, "{} calls are running", ledger["running"]);
        ensure!(ledger["dropped"] == 0, "the ledger forgot {} calls", ledger["dropped"]);
        Ok(serde_json::from_value(ledger["entries"].take())?)
    }

    /// Everything in the stream. Nothing may be on its way to a consumer.
    async fn events(&self) -> Result<Events> {
        let jetstream = jetstream::new(async_nats::connect(&self.nats_url).await?);
        let stream = jetstream.get_stream(STREAM).await?;
        let mut consumers = stream.consumers();
        while let Some(consumer) = consumers.try_next().await? {
            let (pending, unacknowledged) = (consumer.num_pending, consumer.num_ack_pending);
            ensure!(
                pending == 0 && unacknowledged == 0,
                "{} has {pending} + {unacknowledged} to do",
                consumer.name
            );
        }
        let config = jetstream::consumer::pull::Config {
            ack_policy: jetstream::consumer::AckPolicy::None,
            ..jetstream::consumer::pull::Config::default()
        };
        let consumer: PullConsumer = stream.create_consumer(config).await?;
        let expected = consumer.cached_info().num_pending;
        let mut events = Events::default();
        let mut messages = consumer.messages().await?.take(usize::try_from(expected)?);
        while let Some(message) = messages.next().await {
            let message = message?;
            events.add(&message.subject, message.payload.clone())?;
        }
        jetstream.delete_consumer_from_stream(&consumer.cached_info().name, STREAM).await?;
        Ok(events)
    }

    async fn counters(&self) -> Result<Counters> {
        let sums = COLUMNS.map(|c| format!("sum({c})::bigint AS {c}")).join(", ");
        let sql = format!("SELECT key_id::text, model, {sums} FROM billing.usage_counters GROUP BY 1, 2");
        let mut connection = PgConnection::connect(&self.database_url).await?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await?;
        connection.close().await?;
        rows.iter()
            .map(|row| {
                let mut sums = [0; COLUMNS.len()];
                for (sum, column) in sums.iter_mut().zip(COLUMNS) {
                    *sum = row.try_get(column)?;
                }
                Ok(((row.try_get("key_id")?, row.try_get("model")?), sums))
            })
            .collect()
    }

    /// Analytics counts requests only, and by model.
    async fn compare_with_analytics(&self, events: &Events) -> Result<()> {
        let sql = "SELECT coalesce(sum(requests), 0)::bigint, coalesce(sum(input_tokens), 0)::bigint, \
                   coalesce(sum(output_tokens), 0)::bigint FROM analytics.kpi_hourly";
        let tokens = |of: fn(&Tokens) -> u64| {
            events.requests.values().filter_map(|r| r.tokens.as_ref()).map(|t| to_i64(of(t))).sum::<i64>()
        };
        let expected = (to_i64(events.requests.len() as u64), tokens(|t| t.input), tokens(|t| t.output));
        until("analytics counted everything", PATIENCE, async || {
            let mut connection = PgConnection::connect(&self.database_url).await?;
            let counted: (i64, i64, i64) = sqlx::query_as(sql).fetch_one(&mut connection).await?;
            connection.close().await?;
            ensure!(counted == expected, "analytics counted {counted:?}, the events say {expected:?}");
            Ok(())
        })
        .await
    }
}

/// How much was compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary {
    pub ledger: usize,
    pub attempts: usize,
    pub requests: usize,
    /// Requests by outcome.
    pub succeeded: usize,
    pub failed: usize,
    pub cut: usize,
    pub cancelled: usize,
    pub interrupted: usize,
}

impl Summary {
    fn of(ledger: &[Entry], events: &Events) -> Self {
        let (ledger, attempts, requests) = (ledger.len(), events.attempts.len(), events.requests.len());
        let mut summary = Self { ledger, attempts, requests, ..Self::default() };
        for request in events.requests.values() {
            match request.outcome() {
                Outcome::Succeeded => summary.succeeded += 1,
                Outcome::Failed => summary.failed += 1,
                Outcome::Cut => summary.cut += 1,
                Outcome::Cancelled => summary.cancelled += 1,
                Outcome::Interrupted => summary.interrupted += 1,
                Outcome::Unspecified => {}
            }
        }
        summary
    }
}

impl Events {
    fn add(&mut self, subject: &str, payload: bytes::Bytes) -> Result<()> {
        if subject.ends_with(".attempt_closed") {
            let event = AttemptClosed::decode(payload)?;
            let id = Uuid::parse_str(&event.attempt_id)?;
            once(&mut self.attempts, id, event)
        } else if subject.ends_with(".request_finished") {
            let event = RequestFinished::decode(payload)?;
            let id = Uuid::parse_str(&event.id)?;
            once(&mut self.requests, id, event)
        } else {
            bail!("an event on {subject}")
        }
    }
}

/// The same event may be published twice; two events under one id may not.
fn once<T: PartialEq + std::fmt::Debug>(known: &mut HashMap<Uuid, T>, id: Uuid, event: T) -> Result<()> {
    if let Some(other) = known.get(&id) {
        ensure!(*other == event, "two events with one id: {other:?} and {event:?}");
    }
    known.insert(id, event);
    Ok(())
}

fn compare_with_ledger(ledger: &[Entry], events: &Events) -> Result<()> {
    let mut entries: HashMap<Uuid, &Entry> = HashMap::with_capacity(ledger.len());
    for entry in ledger {
        let other = entries.insert(Uuid::parse_str(&entry.id)?, entry);
        ensure!(other.is_none(), "one attempt called the provider twice: {other:?} and {entry:?}");
    }
    for (id, event) in &events.attempts {
        let tokens = event.tokens.unwrap_or_default();
        let Some(entry) = entries.get(id) else {
            // Opened, but it never reached the provider.
            let nothing = tokens == Tokens::default() && event.outcome() != Outcome::Succeeded;
            ensure!(nothing, "the provider knows nothing of {event:?}");
            continue;
        };
        let within = tokens.input <= entry.prompt_tokens && tokens.output <= entry.sent;
        let agree = match event.outcome() {
            Outcome::Succeeded => {
                let exact = (tokens.input, tokens.output) == (entry.prompt_tokens, entry.completion_tokens);
                exact && entry.outcome == "finished"
            }
            Outcome::Failed => tokens == Tokens::default() && entry.outcome == "failed",
            // A cut that the provider made; it may also come to light as a failure of the connection.
            Outcome::Cut => within && matches!(entry.outcome.as_str(), "cut" | "failed" | "cancelled"),
            Outcome::Cancelled => within,
            Outcome::Interrupted => within,
            Outcome::Unspecified => false,
        };
        ensure!(agree, "{event:?} does not fit {entry:?}");
    }
    Ok(())
}

fn compare_with_clients(seen: &[Seen], ledger: &[Entry], events: &Events) -> Result<()> {
    let mut by_request: HashMap<&str, Vec<&RequestFinished>> = HashMap::new();
    for event in events.requests.values() {
        by_request.entry(&event.request_id).or_default().push(event);
    }
    let sent: HashMap<&str, u64> = ledger.iter().map(|e| (e.id.as_str(), e.sent)).collect();
    let mut sent_for: HashMap<&str, u64> = HashMap::new();
    for attempt in events.attempts.values() {
        *sent_for.entry(&attempt.request_id).or_default() +=
            sent.get(attempt.attempt_id.as_str()).copied().unwrap_or(0);
    }
    for seen in seen {
        let requests = by_request.remove(seen.request_id.as_str()).unwrap_or_default();
        ensure!(requests.len() <= 1, "one request, {} events: {requests:?}", requests.len());
        let Some(request) = requests.first() else {
            ensure!(!seen.must_be_counted(), "{seen:?} was not counted");
            continue;
        };
        let tokens = request.tokens.unwrap_or_default();
        if let Some((input, output)) = seen.finished {
            let exact =
                (tokens.input, tokens.output) == (input, output) && request.outcome() == Outcome::Succeeded;
            ensure!(exact, "{seen:?} was counted as {request:?}");
        } else if request.outcome() != Outcome::Interrupted {
            let sent = sent_for.get(seen.request_id.as_str()).copied().unwrap_or(0);
            let between = (seen.relayed..=sent).contains(&tokens.output);
            ensure!(between, "{seen:?} was counted as {request:?}, of {sent} tokens sent");
        }
    }
    ensure!(by_request.is_empty(), "counted, but asked by nobody: {:?}", by_request.values().next());
    Ok(())
}

fn expected_counters(events: &Events) -> Counters {
    let mut counters = Counters::new();
    let key = |caller: &Option<weir_proto::events::Caller>, model: &str, asked: &str| {
        let model = if model.is_empty() { asked } else { model };
        // The platform's operator has no key of the tenant's.
        let key = caller.as_ref().map(|c| c.key_id.clone()).filter(|key| !key.is_empty());
        (key.unwrap_or_else(|| Uuid::nil().to_string()), model.to_owned())
    };
    for event in events.requests.values() {
        let row = counters.entry(key(&event.caller, &event.model, &event.requested_model)).or_default();
        let tokens = event.tokens.unwrap_or_default();
        row[0] += 1;
        row[1] += i64::from(matches!(event.outcome(), Outcome::Failed | Outcome::Cut | Outcome::Interrupted));
        row[2] += to_i64(tokens.input);
        row[3] += to_i64(tokens.output);
    }
    for event in events.attempts.values() {
        let row = counters.entry(key(&event.caller, &event.model, "")).or_default();
        let tokens = event.tokens.unwrap_or_default();
        row[4] += 1;
        match event.outcome() {
            Outcome::Failed => row[5] += 1,
            Outcome::Cut => row[6] += 1,
            Outcome::Cancelled => row[7] += 1,
            Outcome::Interrupted => row[8] += 1,
            Outcome::Succeeded | Outcome::Unspecified => {}
        }
        row[9] += to_i64(tokens.input);
        row[10] += to_i64(tokens.output);
    }
    counters
}

fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
