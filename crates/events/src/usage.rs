//! Usage events as consumers see them: decoded, and refused when they make no sense.

use prost::Message as _;
use uuid::Uuid;
use weir_proto::events::{self as proto, Caller};
use weir_types::{KeyId, TenantId, UserId};

use crate::{
    Received,
    event::{ATTEMPT_CLOSED, REQUEST_FINISHED},
};

/// No event has more tokens, or lasts more microseconds (twelve days): 500 of them cannot overflow a sum.
const ABSURD: u64 = 1 << 40;
/// No call costs ten million dollars: 500 of them cannot overflow a sum.
const ABSURD_COST: i64 = 10_000_000 * 1_000_000_000;
/// 2020 and 2100: times outside are a broken clock's.
const TIMES_MS: std::ops::Range<i64> = 1_577_836_800_000..4_102_444_800_000;
const HOUR_MS: i64 = 3_600_000;

/// The kinds of events on `weir.usage.>`.
pub const USAGE_KINDS: &[&str] = &[ATTEMPT_CLOSED, REQUEST_FINISHED];
/// Subjects of the charges.
pub const REQUESTS: &str = "weir.usage.*.request_finished";
/// Only the charges.
pub const REQUEST_KINDS: &[&str] = &[REQUEST_FINISHED];

/// A checked event of the stream `USAGE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageEvent {
    Attempt(Usage),
    Request { usage: Usage, first_token_us: Option<i64>, total_us: Option<i64> },
}

/// What attempts and requests have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Nil: the platform's operator acted, whose key is no tenant's.
    pub key: KeyId,
    /// `None`: the key acted for itself.
    pub user: Option<UserId>,
    /// As the provider names it; as the client named it where no provider did.
    pub model: String,
    /// Start of the hour in which it ended; Unix milliseconds.
    pub hour_ms: i64,
    pub outcome: proto::Outcome,
    pub tokens: Tokens,
    /// `None`: nobody knows.
    pub cost_nano_usd: Option<i64>,
}

/// Inclusive counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    pub input: i64,
    pub output: i64,
    pub cache_read: i64,
    pub reasoning: i64,
    pub cache_write: i64,
}

impl Usage {
    /// Whether reports call it an error. A cancelled one is its caller's wish.
    #[must_use]
    pub fn is_error(&self) -> bool {
        use proto::Outcome::{Cut, Failed, Interrupted};
        matches!(self.outcome, Failed | Cut | Interrupted)
    }
}

impl UsageEvent {
    /// # Errors
    /// Why it can never be counted, in words for the operator.
    pub fn decode(received: &Received) -> Result<Self, String> {
        match received.kind() {
            ATTEMPT_CLOSED => attempt(received).map(Self::Attempt),
            REQUEST_FINISHED => request(received),
            other => Err(format!("{other} is not a usage event")),
        }
    }
}

fn attempt(received: &Received) -> Result<Usage, String> {
    let event = proto::AttemptClosed::decode(received.payload.clone()).map_err(|e| e.to_string())?;
    same_id(received, "attempt_id", &event.attempt_id)?;
    let cost = event.cost_nano_usd.map(cost).transpose()?;
    let usage =
        usage(received, event.caller.as_ref(), event.model, event.closed_at_ms, event.outcome, event.tokens)?;
    Ok(Usage { cost_nano_usd: cost, ..usage })
}

fn request(received: &Received) -> Result<UsageEvent, String> {
    let event = proto::RequestFinished::decode(received.payload.clone()).map_err(|e| e.to_string())?;
    same_id(received, "id", &event.id)?;
    let model = if event.model.is_empty() { event.requested_model } else { event.model };
    let micros = |field, value: Option<u64>| value.map(|v| number(field, v)).transpose();
    Ok(UsageEvent::Request {
        first_token_us: micros("first_token_us", event.first_token_us)?,
        total_us: micros("total_us", event.total_us)?,
        usage: Usage {
            cost_nano_usd: event.cost_nano_usd.map(cost).transpose()?,
            ..usage(
                received,
                event.caller.as_ref(),
                model,
                event.finished_at_ms,
                event.outcome,
                event.tokens,
            )?
        },
    })
}

fn usage(
    received: &Received,
    caller: Option<&Caller>,
    model: String,
    ended_ms: i64,
    outcome: i32,
    tokens: Option<proto::Tokens>,
) -> Result<Usage, String> {
    let caller = caller.ok_or("the event has no caller")?;
    let tenant: TenantId = caller.tenant_id.parse().map_err(|e| format!("caller.tenant_id: {e}"))?;
    if tenant != received.tenant {
        return Err("the event's tenant is not its subject's".into());
    }
    let user = if caller.user_id.is_empty() {
        None
    } else {
        Some(caller.user_id.parse().map_err(|e| format!("caller.user_id: {e}"))?)
    };
    let key = if caller.key_id.is_empty() {
        KeyId(Uuid::nil())
    } else {
        caller.key_id.parse().map_err(|e| format!("caller.key_id: {e}"))?
    };
    if !TIMES_MS.contains(&ended_ms) {
        return Err(format!("the event ended at {ended_ms} ms, which no working clock says"));
    }
    let outcome = proto::Outcome::try_from(outcome).ok().filter(|o| *o != proto::Outcome::Unspecified);
    let tokens = tokens.unwrap_or_default();
    Ok(Usage {
        key,
        user,
        model,
        hour_ms: ended_ms - ended_ms.rem_euclid(HOUR_MS),
        outcome: outcome.ok_or("the event has no known outcome")?,
        tokens: Tokens {
            input: number("tokens.input", tokens.input)?,
            output: number("tokens.output", tokens.output)?,
            cache_read: number("tokens.cache_read", tokens.cache_read)?,
            reasoning: number("tokens.reasoning", tokens.reasoning)?,
            cache_write: number("tokens.cache_write", tokens.cache_write)?,
        },
        cost_nano_usd: None,
    })
}

fn same_id(received: &Received, field: &str, text: &str) -> Result<(), String> {
    if Uuid::try_parse(text) == Ok(received.id) {
        Ok(())
    } else {
        Err(format!("{field} is not the id the event was published with"))
    }
}

fn cost(nano_usd: u64) -> Result<i64, String> {
    match i64::try_from(nano_usd) {
        Ok(nano_usd) if nano_usd < ABSURD_COST => Ok(nano_usd),
        _ => Err(format!("cost_nano_usd is {nano_usd}, which is absurd")),
    }
}

fn number(field: &str, value: u64) -> Result<i64, String> {
    match i64::try_from(value) {
        Ok(number) if value < ABSURD => Ok(number),
        _ => Err(format!("{field} is {value}, which is absurd")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Event;

    fn received(event: &proto::RequestFinished) -> Received {
        let Event { id, subject, payload, .. } = Event::request_finished(event).unwrap();
        let tenant = event.caller.as_ref().unwrap().tenant_id.parse().unwrap();
        Received { id, tenant, subject, payload, failures: 0 }
    }

    fn finished() -> proto::RequestFinished {
        proto::RequestFinished {
            id: Uuid::now_v7().to_string(),
            caller: Some(Caller {
                tenant_id: TenantId::new().to_string(),
                key_id: KeyId::new().to_string(),
                user_id: String::new(),
                traceparent: String::new(),
            }),
            requested_model: "auto".into(),
            outcome: proto::Outcome::Cut.into(),
            tokens: Some(proto::Tokens {
                input: 3,
                output: 5,
                cache_read: 2,
                reasoning: 1,
                ..Default::default()
            }),
            finished_at_ms: 1_700_000_000_123,
            total_us: Some(9),
            ..Default::default()
        }
    }

    #[test]
    fn a_sound_event_is_read() {
        let event = UsageEvent::decode(&received(&finished())).unwrap();
        let UsageEvent::Request { usage, first_token_us: None, total_us: Some(9) } = event else {
            panic!("{event:?}")
        };
        assert_eq!((usage.hour_ms, usage.model.as_str()), (1_699_999_200_000, "auto"));
        assert_eq!((usage.tokens.output, usage.user, usage.outcome), (5, None, proto::Outcome::Cut));
    }

    #[test]
    fn the_platform_s_operator_has_no_key() {
        let mut event = finished();
        event.caller.as_mut().unwrap().key_id.clear();
        let UsageEvent::Request { usage, .. } = UsageEvent::decode(&received(&event)).unwrap() else {
            panic!()
        };
        assert_eq!(usage.key, KeyId(Uuid::nil()));
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        type Spoil = fn(&mut proto::RequestFinished);
        let cases: [(&str, Spoil); 7] = [
            ("cost_nano_usd", |e| e.cost_nano_usd = Some(u64::MAX)),
            ("caller.key_id", |e| e.caller.as_mut().unwrap().key_id = "k".into()),
            ("caller.user_id", |e| e.caller.as_mut().unwrap().user_id = "u".into()),
            ("clock", |e| e.finished_at_ms = 0),
            ("outcome", |e| e.outcome = 0),
            ("outcome", |e| e.outcome = 99),
            ("tokens.input is 18446744073709551615", |e| e.tokens.as_mut().unwrap().input = u64::MAX),
        ];
        for (reason, spoil) in cases {
            let mut event = finished();
            spoil(&mut event);
            let refused = UsageEvent::decode(&received(&event)).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        let mut foreign = received(&finished());
        foreign.tenant = TenantId::new();
        assert!(UsageEvent::decode(&foreign).unwrap_err().contains("tenant"));
        let mut renamed = received(&finished());
        renamed.id = Uuid::now_v7();
        assert!(UsageEvent::decode(&renamed).unwrap_err().contains("published with"));
        let mut garbage = received(&finished());
        garbage.payload = bytes::Bytes::from_static(&[0xff]);
        assert!(UsageEvent::decode(&garbage).is_err());
    }
}
