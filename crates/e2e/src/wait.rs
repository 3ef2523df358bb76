//! Waiting for conditions.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep};

const POLL: Duration = Duration::from_millis(20);

/// Polls until the condition holds; an error of the last poll is the reason given when it never does.
///
/// # Errors
/// The condition did not hold within `patience`.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut condition: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match condition().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("waited {} s until {what}", patience.as_secs()));
            }
            Err(_) => sleep(POLL).await,
        }
    }
}
