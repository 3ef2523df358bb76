//! Attempts that a killed process left open in the spool: each becomes exactly one `interrupted` event, and so
//! does its request. The ids come from the spool, so doing this twice changes nothing.

use std::collections::HashSet;

use uuid::Uuid;
use weir_events::{Event, Open};
use weir_proto::events::{AttemptClosed, Outcome, RequestFinished, TokenSource, Tokens};
use weir_types::AttemptId;

use super::Meter;

pub(crate) fn recover(meter: &Meter, open: &[Open]) {
    let mut requests = HashSet::new();
    for left in open {
        let attempt = &left.attempt;
        let Ok(id) = attempt.attempt_id.parse::<AttemptId>() else {
            tracing::error!(attempt.id = attempt.attempt_id, "an open attempt without a proper id");
            continue;
        };
        let now_ms = meter.clock.now_ms();
        // How much was relayed died with the process: nothing is charged that can't be shown.
        let closed = AttemptClosed {
            attempt_id: attempt.attempt_id.clone(),
            request_id: attempt.request_id.clone(),
            caller: attempt.caller.clone(),
            provider: attempt.provider.clone(),
            model: attempt.model.clone(),
            number: attempt.number,
            outcome: Outcome::Interrupted.into(),
            status: 0,
            tokens: Some(Tokens::default()),
            token_source: TokenSource::Counted.into(),
            opened_at_ms: attempt.opened_at_ms,
            closed_at_ms: now_ms,
            // Nobody knows what reached the provider.
            cost_nano_usd: None,
            price_row: String::new(),
        };
        let mut events = Vec::new();
        if !left.attempt_closed {
            events.push(Event::attempt_closed(&closed));
        }
        if let Ok(request) = attempt.request_event_id.parse::<Uuid>()
            && requests.insert(request)
        {
            let finished = RequestFinished {
                id: attempt.request_event_id.clone(),
                request_id: attempt.request_id.clone(),
                caller: attempt.caller.clone(),
                requested_model: attempt.requested_model.clone(),
                model: attempt.model.clone(),
                provider: attempt.provider.clone(),
                stream: attempt.stream,
                attempts: attempt.number,
                outcome: Outcome::Interrupted.into(),
                status: 0,
                tokens: Some(Tokens::default()),
                token_source: TokenSource::Counted.into(),
                started_at_ms: attempt.started_at_ms,
                finished_at_ms: now_ms,
                first_token_us: None,
                total_us: None,
                cost_nano_usd: None,
                price_row: String::new(),
            };
            events.push(Event::request_finished(&finished));
        }
        if let Some(Err(error)) = events.iter().find(|e| e.is_err()) {
            tracing::error!(attempt.id = attempt.attempt_id, error = %error, "an open attempt that can't be told of");
        }
        drop(meter.spool.closed(id, &events.into_iter().flatten().collect::<Vec<_>>()));
    }
    if !open.is_empty() {
        tracing::warn!(attempts = open.len(), "closed attempts that an earlier process left open");
    }
}
