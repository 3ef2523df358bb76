//! Credentials that don't last: kept, and replaced before their end.
//!
//! While what is kept still holds no request waits: [`Kept::keep`], a task, replaces it. Where nothing holds, one request
//! asks for all that come, and those who come right after a failure are told the same.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::{
    sync::{Mutex, Notify},
    time::timeout,
};
use weir_types::Clock;

use super::AuthError;

/// What is kept is replaced so long before its end, unless its source says otherwise.
pub(super) const EARLY_MS: i64 = 300_000;
/// What is within this time of its end is used no more.
pub(super) const MARGIN_MS: i64 = 10_000;
/// After a failed attempt; twice as long after each that follows, up to eight times.
pub(super) const RETRY_MS: i64 = 10_000;
const MOST_DOUBLED: u32 = 3;
/// So long after a failure nobody asks on behalf of a request.
pub(super) const SPARE_MS: i64 = 1_000;
/// The most that a replacement comes later, so that instances that started together don't ask together.
pub(super) const JITTER_MS: i64 = 60_000;
/// Of a whole attempt, which may take several exchanges.
const PATIENCE: Duration = Duration::from_secs(20);
/// The task looks at the clock at least this often: it may jump.
const LOOK_MS: i64 = 60_000;

/// What a source gave.
pub(super) struct Fresh<T> {
    pub(super) value: T,
    /// Unix milliseconds.
    pub(super) until_ms: i64,
}

/// Boxed, since the client that asks is the one that asks us who it is.
pub(super) type Asking<'a, T> = Pin<Box<dyn Future<Output = Result<Fresh<T>, AuthError>> + Send + 'a>>;

/// Where credentials come from.
pub(super) trait Source: Send + Sync {
    type Held: Clone + Send + Sync;

    /// For logs.
    fn name(&self) -> &'static str;

    /// How long before their end new ones are to be had.
    fn early_ms(&self) -> i64 {
        EARLY_MS
    }

    fn ask(&self, now_ms: i64) -> Asking<'_, Self::Held>;
}

struct Held<T> {
    value: Option<(T, i64)>,
    /// When to ask again, Unix milliseconds.
    ask_at_ms: i64,
    /// The last failure since, and when it was.
    failed: Option<(Arc<AuthError>, i64)>,
    /// Failures since.
    failures: u32,
}

/// Asks, and keeps.
pub(super) struct Kept<S: Source> {
    source: S,
    held: RwLock<Held<S::Held>>,
    asking: Mutex<()>,
    /// Told when a request sees that it is time.
    due: Notify,
    clock: Arc<dyn Clock>,
}

impl<S: Source> fmt::Debug for Kept<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("source", &self.source.name()).finish_non_exhaustive()
    }
}

impl<S: Source> Kept<S> {
    pub(super) fn new(source: S, clock: Arc<dyn Clock>) -> Self {
        let held = RwLock::new(Held { value: None, ask_at_ms: i64::MIN, failed: None, failures: 0 });
        Self { source, held, asking: Mutex::default(), due: Notify::new(), clock }
    }

    /// What holds now.
    ///
    /// # Errors
    /// Nothing does, and nothing is to be had.
    pub(super) async fn current(&self) -> Result<S::Held, AuthError> {
        if let Some(value) = self.good() {
            if self.is_due() {
                self.due.notify_one();
            }
            return Ok(value);
        }
        let _asking = self.asking.lock().await;
        // Somebody may have asked meanwhile.
        if let Some(value) = self.good() {
            return Ok(value);
        }
        match self.just_failed() {
            Some(error) => Err(AuthError::Failed(error)),
            None => self.ask().await.map_err(AuthError::Failed),
        }
    }

    /// Replaces what is kept, as long as it is polled: from the start, and ahead of each end.
    pub(super) async fn keep(&self) {
        loop {
            let until = self.read(|held| held.ask_at_ms).saturating_sub(self.clock.now_ms());
            let wait = Duration::from_millis(until.clamp(0, LOOK_MS).unsigned_abs());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.due.notified() => {}
            }
            let _asking = self.asking.lock().await;
            if !self.is_due() {
                continue;
            }
            let source = self.source.name();
            match self.ask().await {
                Ok(_) => tracing::debug!(source, "credentials replaced"),
                Err(error) => {
                    let holds = self.good().is_some();
                    let error = weir_error::Error::internal(AuthError::Failed(error));
                    tracing::warn!(source, holds, error = %error.chain(), "could not replace credentials");
                }
            }
        }
    }

    async fn ask(&self) -> Result<S::Held, Arc<AuthError>> {
        let asked = match timeout(PATIENCE, self.source.ask(self.clock.now_ms())).await {
            Ok(asked) => asked,
            Err(_) => Err(AuthError::Late),
        };
        let now = self.clock.now_ms();
        let asked = asked.and_then(|fresh| match now + MARGIN_MS < fresh.until_ms {
            true => Ok(fresh),
            false => Err(AuthError::Answer("the credentials that were given have ended already")),
        });
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        match asked {
            Ok(Fresh { value, until_ms }) => {
                // Some last only minutes.
                let early = until_ms.saturating_sub(self.source.early_ms());
                let ask_at_ms = early.saturating_add(jitter_ms()).max(now + (until_ms - now) / 2);
                *held = Held { value: Some((value.clone(), until_ms)), ask_at_ms, failed: None, failures: 0 };
                Ok(value)
            }
            Err(error) => {
                let error = Arc::new(error);
                held.failed = Some((error.clone(), now));
                held.ask_at_ms = now + (RETRY_MS << held.failures.min(MOST_DOUBLED));
                held.failures = held.failures.saturating_add(1);
                Err(error)
            }
        }
    }

    fn read<T>(&self, of: impl FnOnce(&Held<S::Held>) -> T) -> T {
        of(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn good(&self) -> Option<S::Held> {
        let now = self.clock.now_ms();
        let good = |held: &Held<S::Held>| {
            held.value.as_ref().filter(|(_, until)| now + MARGIN_MS < *until).map(|(value, _)| value.clone())
        };
        self.read(good)
    }

    fn is_due(&self) -> bool {
        let now = self.clock.now_ms();
        self.read(|held| now >= held.ask_at_ms)
    }

    pub(super) fn just_failed(&self) -> Option<Arc<AuthError>> {
        let now = self.clock.now_ms();
        let recent = |(error, at): &(Arc<AuthError>, i64)| (now < at + SPARE_MS).then(|| error.clone());
        self.read(|held| held.failed.as_ref().and_then(recent))
    }
}

fn jitter_ms() -> i64 {
    let mut random = [0; 2];
    if SystemRandom::new().fill(&mut random).is_err() {
        return 0;
    }
    i64::from(u16::from_le_bytes(random)) * JITTER_MS / (i64::from(u16::MAX) + 1)
}
