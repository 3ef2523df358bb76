//! Forgetting events that can no longer come again.

use std::time::Duration;

use weir_db::{Db, Inbox};
use weir_runtime::Shutdown;
use weir_types::RequestContext;

const DAY: Duration = Duration::from_secs(86_400);

/// Once a day until told to stop. A day missed is made up for on the next.
pub(crate) async fn prune(db: Db, keep_days: u16, shutdown: Shutdown) {
    let ctx = RequestContext::service("billing");
    let mut day = tokio::time::interval(DAY);
    loop {
        tokio::select! {
            _ = day.tick() => {}
            () = shutdown.cancelled() => return,
        }
        tokio::select! {
            pruned = Inbox::Billing.prune(&db, &ctx, keep_days) => match pruned {
                Ok(rows) => tracing::info!(rows, "old inbox rows forgotten"),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "old inbox rows not forgotten");
                }
            },
            () = shutdown.cancelled() => return,
        }
    }
}
