//! Gathering messages into batches from one outstanding pull request.

use std::time::Duration;

use async_nats::jetstream::{
    self, AckKind,
    consumer::{PullConsumer, pull},
};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{sync::watch, time::Instant};
use weir_runtime::Shutdown;

use crate::Link;

/// How long one pull request stands.
const EXPIRES: Duration = Duration::from_secs(5);

/// What ended the gathering.
#[derive(Debug)]
pub(super) enum Gathered {
    Messages(Vec<jetstream::Message>),
    /// The pull request ran out with nothing there.
    Nothing,
    /// Connection or consumer are gone, or it is time to stop.
    Ended,
}

pub(super) struct Puller {
    consumer: PullConsumer,
    max: usize,
    linger: Duration,
    /// The epoch of the connection it was made on.
    epoch: u64,
    link: watch::Receiver<Link>,
    request: Option<pull::Batch>,
}

impl Puller {
    pub(super) fn new(
        consumer: PullConsumer,
        max: usize,
        linger: Duration,
        epoch: u64,
        link: watch::Receiver<Link>,
    ) -> Self {
        Self { consumer, max, linger, epoch, link, request: None }
    }

    /// Up to `max` messages, or what came within `linger` after the first.
    pub(super) async fn gather(&mut self, shutdown: &Shutdown) -> Gathered {
        let mut messages = Vec::new();
        let mut full_at = None::<Instant>;
        while messages.len() < self.max {
            let epoch = self.epoch;
            let linger = full_at;
            let next = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Self::end(messages),
                _ = self.link.wait_for(|l| l.epoch != epoch || !l.up) => return Self::end(messages),
                next = Self::next(&mut self.request, &self.consumer, self.max) => next,
                () = async { match linger {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                } } => break,
            };
            match next {
                Ok(Some(message)) => {
                    messages.push(message);
                    full_at.get_or_insert_with(|| Instant::now() + self.linger);
                }
                Ok(None) if messages.is_empty() => return Gathered::Nothing,
                // The next request is made at once, until `linger` is over.
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = &*error as &dyn std::error::Error, "pull request failed");
                    return Self::end(messages);
                }
            }
        }
        Gathered::Messages(messages)
    }

    fn end(messages: Vec<jetstream::Message>) -> Gathered {
        if messages.is_empty() { Gathered::Ended } else { Gathered::Messages(messages) }
    }

    async fn next(
        request: &mut Option<pull::Batch>,
        consumer: &PullConsumer,
        max: usize,
    ) -> Result<Option<jetstream::Message>, async_nats::Error> {
        let open = match request {
            Some(open) => open,
            // No heartbeats: this client's batches lose their wake-up on one. The connection is watched instead.
            None => request.insert(consumer.batch().max_messages(max).expires(EXPIRES).messages().await?),
        };
        match open.next().await {
            Some(message) => message.map(Some),
            None => {
                *request = None;
                Ok(None)
            }
        }
    }

    /// Gives back what has arrived and was not taken, so that others get it at once.
    pub(super) async fn put_back(mut self) {
        let Some(request) = &mut self.request else { return };
        while let Some(Some(Ok(message))) = request.next().now_or_never() {
            if message.ack_with(AckKind::Nak(None)).await.is_err() {
                return;
            }
        }
    }
}
