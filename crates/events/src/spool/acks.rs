//! Acknowledgements still to come: one subscription for all events in flight, told apart by the number at the end of
//! the subject they are to be sent to. The client library's own way takes a channel and two timers for each event.

use std::{collections::BTreeMap, time::Duration};

use async_nats::{Client, Message, StatusCode, jetstream::context::PublishErrorKind};
use serde::{Deserialize, de::IgnoredAny};
use tokio::time::Instant;
use weir_telemetry::Span;

use super::publisher::Key;

/// An event not acknowledged for so long is sent again.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Acks {
    /// Of the subjects; a number follows.
    prefix: String,
    last: u64,
    /// In the order they were sent.
    waiting: BTreeMap<u64, Sent>,
}

struct Sent {
    key: Key,
    until: Instant,
    /// Ends with the answer.
    span: Span,
}

/// What JetStream says of an event; it may hold more.
#[derive(Deserialize)]
struct Reply {
    error: Option<IgnoredAny>,
    seq: Option<u64>,
}

impl Acks {
    pub(super) fn new(client: &Client) -> Self {
        Self { prefix: format!("{}.", client.new_inbox()), last: 0, waiting: BTreeMap::new() }
    }

    /// What to subscribe to, before anything is sent.
    pub(super) fn subject(&self) -> String {
        format!("{}*", self.prefix)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Where the next event is to be acknowledged.
    pub(super) fn next(&mut self) -> (u64, String) {
        self.last += 1;
        (self.last, format!("{}{}", self.prefix, self.last))
    }

    /// It was sent.
    pub(super) fn sent(&mut self, number: u64, key: Key, span: Span) {
        self.waiting.insert(number, Sent { key, until: Instant::now() + PATIENCE, span });
    }

    /// Which event the message is about. `None`: nobody waits for it any more.
    pub(super) fn answered(&mut self, message: &Message) -> Option<(Key, Result<(), PublishErrorKind>)> {
        let number = message.subject.strip_prefix(&*self.prefix)?.parse().ok()?;
        let mut sent = self.waiting.remove(&number)?;
        let said = said(message);
        if let Err(error) = said {
            sent.span.fail(error.to_string());
        }
        Some((sent.key, said))
    }

    /// Those that waited too long; they are no longer waited for.
    pub(super) fn late(&mut self) -> Vec<Key> {
        let now = Instant::now();
        let mut late = Vec::new();
        while let Some(first) = self.waiting.first_entry().filter(|first| first.get().until <= now) {
            let mut sent = first.remove();
            sent.span.fail(PublishErrorKind::TimedOut.to_string());
            late.push(sent.key);
        }
        late
    }

    /// Gives up all of them.
    pub(super) fn drain(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.waiting).into_values().map(|sent| sent.key).collect()
    }
}

fn said(message: &Message) -> Result<(), PublishErrorKind> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(PublishErrorKind::StreamNotFound);
    }
    match serde_json::from_slice(&message.payload) {
        Ok(Reply { error: None, seq: Some(_) }) => Ok(()),
        _ => Err(PublishErrorKind::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::segment::Position;

    fn acks() -> Acks {
        Acks { prefix: "_INBOX.x.".into(), last: 0, waiting: BTreeMap::new() }
    }

    fn send(acks: &mut Acks, key: Key) -> String {
        let (number, subject) = acks.next();
        acks.sent(number, key, Span::none(None));
        subject
    }

    fn message(subject: &str, status: Option<StatusCode>, payload: &'static str) -> Message {
        Message {
            subject: subject.into(),
            reply: None,
            payload: payload.into(),
            headers: None,
            status,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn only_an_acknowledgement_of_what_is_awaited_is_one() {
        let key = |offset| (Position { segment: 1, offset }, 0);
        let mut acks = acks();
        let stored = r#"{"stream":"USAGE","seq":7}"#;
        let subjects = [0, 1, 2, 3, 4].map(|n| send(&mut acks, key(n)));
        for (n, status, payload, expected) in [
            (1, None, r#"{"stream":"USAGE","domain":"d","seq":7,"duplicate":true}"#, Ok(())),
            (0, None, stored, Ok(())),
            (2, Some(StatusCode::NO_RESPONDERS), "", Err(PublishErrorKind::StreamNotFound)),
            (3, None, r#"{"error":{"code":503},"stream":"","seq":0}"#, Err(PublishErrorKind::Other)),
            (4, None, "{}", Err(PublishErrorKind::Other)),
        ] {
            let answered = acks.answered(&message(&subjects[n], status, payload));
            assert_eq!(answered, Some((key(n as u64), expected)), "{payload}");
        }
        assert_eq!(acks.answered(&message(&subjects[0], None, stored)), None, "each once");
        assert_eq!(acks.answered(&message("_INBOX.y.1", None, stored)), None);
        let lost = send(&mut acks, key(9));
        assert_eq!((acks.drain(), acks.len()), (vec![key(9)], 0));
        assert_eq!(acks.answered(&message(&lost, None, stored)), None, "it has been queued again");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_answered_is_late() {
        let key = (Position { segment: 1, offset: 1 }, 0);
        let mut acks = acks();
        let first = send(&mut acks, key);
        assert_eq!(acks.late(), []);
        tokio::time::advance(PATIENCE).await;
        send(&mut acks, (key.0, 1));
        assert_eq!((acks.late(), acks.len()), (vec![key], 1));
        assert_eq!(acks.answered(&message(&first, None, r#"{"seq":1}"#)), None);
    }
}
