//! Hearing of writes, over a connection of its own. Publishing never waits for it: whoever hears nothing looks often.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout};
use weir_db::{Db, DbError, Listener, Outbox};

use crate::POLLING;

/// How often the relay looks by itself where PostgreSQL tells of writes. A notification may be lost with a connection.
const LISTENING: Duration = Duration::from_secs(5);
/// After listening was refused, not before this: there may be no connection left.
const AGAIN: Duration = Duration::from_secs(5);

pub(crate) struct Ear {
    db: Db,
    outbox: Outbox,
    state: State,
    /// That nobody can be heard was said.
    warned: bool,
}

enum State {
    Begins(BoxFuture<'static, Result<Option<Listener>, DbError>>),
    Listens(Listener),
    /// Until then.
    Deaf(Instant),
    /// Behind a pooler nobody can listen.
    Pooled,
}

impl Ear {
    pub(crate) fn new(db: Db, outbox: Outbox) -> Self {
        Self { db, outbox, state: State::Deaf(Instant::now()), warned: false }
    }

    /// Until something may have been written.
    pub(crate) async fn written(&mut self) {
        if matches!(self.state, State::Deaf(until) if until <= Instant::now()) {
            let (db, channel) = (self.db.clone(), self.outbox.channel());
            self.state = State::Begins(Box::pin(async move { db.listen(channel).await }));
        }
        match &mut self.state {
            // A look follows at once: what was written before is found, what is written from here on is heard of.
            State::Begins(listener) => {
                if let Ok(begun) = timeout(POLLING, listener).await {
                    self.begun(begun);
                }
            }
            State::Listens(listener) => {
                if let Ok(Err(error)) = timeout(LISTENING, listener.next()).await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "no longer listening");
                    self.state = State::Deaf(Instant::now());
                    sleep(POLLING).await;
                }
            }
            State::Deaf(_) | State::Pooled => sleep(POLLING).await,
        }
    }

    fn begun(&mut self, begun: Result<Option<Listener>, DbError>) {
        self.state = match begun {
            Ok(Some(listener)) => {
                self.warned = false;
                State::Listens(listener)
            }
            Ok(None) => State::Pooled,
            Err(error) => {
                if !std::mem::replace(&mut self.warned, true) {
                    let (outbox, error) = (self.outbox.name(), &error as &dyn std::error::Error);
                    tracing::warn!(outbox, error, "writes are not heard of, looking often instead");
                }
                State::Deaf(Instant::now() + AGAIN)
            }
        };
    }
}
