//! Waiting for a record to be as durable as configured.

use tokio::sync::{oneshot, watch};

use super::sync::Synced;

/// A write that may still be on its way to be durable. Dropping it loses nothing but the knowledge.
#[derive(Debug)]
pub struct Commit(Wait);

#[derive(Debug)]
enum Wait {
    Done,
    Failed,
    Disk { ticket: u64, synced: watch::Receiver<Synced> },
    Cluster(oneshot::Receiver<()>),
}

/// It is not known to be durable: it is stored less safely than configured, and will be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record could not be made durable")]
pub struct CommitError;

impl Commit {
    pub(crate) fn done() -> Self {
        Self(Wait::Done)
    }

    pub(crate) fn failed() -> Self {
        Self(Wait::Failed)
    }

    pub(crate) fn disk(ticket: u64, synced: watch::Receiver<Synced>) -> Self {
        Self(Wait::Disk { ticket, synced })
    }

    pub(crate) fn cluster(acked: oneshot::Receiver<()>) -> Self {
        Self(Wait::Cluster(acked))
    }

    /// Nothing to wait for: always so with durability `process`.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.0, Wait::Done)
    }

    /// Until it is durable. With `cluster` that may take as long as NATS is away: bound it.
    ///
    /// # Errors
    /// The disk refused, or the spool is gone.
    pub async fn wait(self) -> Result<(), CommitError> {
        match self.0 {
            Wait::Done => Ok(()),
            Wait::Failed => Err(CommitError),
            Wait::Disk { ticket, mut synced } => {
                let state = synced.wait_for(|s| s.tried >= ticket).await.map_err(|_| CommitError)?;
                if state.failed(ticket) { Err(CommitError) } else { Ok(()) }
            }
            Wait::Cluster(acked) => acked.await.map_err(|_| CommitError),
        }
    }
}
