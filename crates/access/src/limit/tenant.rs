//! One tenant's buckets and work in progress.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use weir_error::{Code, Error};

use super::{Bucket, Limits, RateState, Standing, Terms};

#[derive(Debug)]
pub(crate) struct Tenant {
    active: AtomicU32,
    /// Calls in progress that are no model calls.
    rest: AtomicU32,
    /// False spares tenants without limits the lock.
    limited: AtomicBool,
    suspended: AtomicBool,
    buckets: Mutex<Buckets>,
    /// Of all its streams' tokens, where they are paced.
    pace: Mutex<Option<Bucket>>,
}

#[derive(Debug, Default)]
struct Buckets {
    /// Of the terms that hold.
    version: u64,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

/// Why a request was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Concurrency { limit: u32 },
    Requests { limit: u64, wait: Option<Duration> },
    Tokens { limit: u64, remaining: u64, asked: u64, wait: Option<Duration> },
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let (text, wait) = match refusal {
            Refusal::Concurrency { limit } => (
                format!("too many requests in progress: the limit is {limit} at once"),
                Some(Duration::from_secs(1)),
            ),
            Refusal::Requests { limit, wait } => {
                (format!("rate limit reached: {limit} requests per minute"), wait)
            }
            Refusal::Tokens { limit, asked, wait: None, .. } => (
                format!("request too large: it may use {asked} tokens, the limit is {limit} per minute"),
                None,
            ),
            Refusal::Tokens { limit, remaining, asked, wait } => (
                format!(
                    "rate limit reached: {limit} tokens per minute, {remaining} left, {asked} may be used by this request"
                ),
                wait,
            ),
        };
        let error = Self::new(Code::RateLimited, text);
        match wait {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    }
}

impl Tenant {
    pub(crate) fn new(terms: Terms, now: u64) -> Arc<Self> {
        let tenant = Self {
            active: AtomicU32::new(0),
            rest: AtomicU32::new(0),
            limited: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
            buckets: Mutex::new(Buckets::default()),
            pace: Mutex::new(None),
        };
        tenant.set(terms, now);
        Arc::new(tenant)
    }

    /// Applies at once, also to requests that other keys of this tenant make. Terms older than those that hold
    /// change nothing: an answer of the control plane may be overtaken by a push.
    pub(crate) fn set(&self, terms: Terms, now: u64) {
        let mut buckets = self.buckets.lock();
        if terms.version != 0 && terms.version < buckets.version {
            return;
        }
        buckets.version = terms.version.max(buckets.version);
        apply(&mut buckets.requests, terms.limits.requests_per_minute, now);
        apply(&mut buckets.tokens, terms.limits.tokens_per_minute, now);
        self.limited.store(terms.limits != Limits::default(), Ordering::Release);
        self.suspended.store(terms.suspended, Ordering::Release);
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire)
    }

    pub(crate) fn limits(&self) -> Limits {
        if !self.limited.load(Ordering::Acquire) {
            return Limits::default();
        }
        let buckets = self.buckets.lock();
        Limits {
            requests_per_minute: buckets.requests.as_ref().map(Bucket::per_minute),
            tokens_per_minute: buckets.tokens.as_ref().map(Bucket::per_minute),
        }
    }

    /// Counts one request in and takes `tokens`; answers how many were really taken (none without a limit).
    /// Nothing is taken when it is refused. [`Tenant::leave`] must follow.
    pub(crate) fn enter(&self, tokens: u64, max_active: u32, now: u64) -> Result<u64, Refusal> {
        if self.active.fetch_add(1, Ordering::AcqRel) >= max_active {
            self.leave();
            return Err(Refusal::Concurrency { limit: max_active });
        }
        if !self.limited.load(Ordering::Acquire) {
            return Ok(0);
        }
        self.buckets.lock().take(tokens, now).inspect_err(|_| self.leave())
    }

    pub(crate) fn leave(&self) {
        self.active.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts a call in that is no model call: it counts among the requests, and takes no tokens, nor does a debt of
    /// tokens keep it out. Nothing is taken when it is refused. [`Tenant::leave_rest`] must follow.
    pub(crate) fn enter_rest(&self, max: u32, now: u64) -> Result<(), Refusal> {
        if self.rest.fetch_add(1, Ordering::AcqRel) >= max {
            self.leave_rest();
            return Err(Refusal::Concurrency { limit: max });
        }
        if !self.limited.load(Ordering::Acquire) {
            return Ok(());
        }
        self.buckets.lock().take_request(now).inspect_err(|_| self.leave_rest())
    }

    pub(crate) fn leave_rest(&self) {
        self.rest.fetch_sub(1, Ordering::AcqRel);
    }

    /// Replaces `charged` by `actual` and answers what is charged now.
    pub(crate) fn settle(&self, charged: u64, actual: u64, now: u64) -> u64 {
        if !self.limited.load(Ordering::Acquire) {
            return charged;
        }
        let mut buckets = self.buckets.lock();
        let Some(tokens) = &mut buckets.tokens else { return charged };
        tokens.refill(now);
        if actual >= charged {
            tokens.take(actual - charged);
        } else {
            tokens.give(charged - actual);
        }
        actual
    }

    /// Takes tokens of a stream that are sent anyway; how long until the next may be.
    pub(crate) fn pace(&self, per_second: NonZeroU32, tokens: u64, now: u64) -> Duration {
        let rate = u64::from(per_second.get());
        let mut pace = self.pace.lock();
        let bucket = pace.get_or_insert_with(|| Bucket::full(rate * 60, rate, now));
        bucket.refill(now);
        bucket.take(tokens);
        bucket.wait(0).unwrap_or_default()
    }

    pub(crate) fn state(&self, now: u64) -> RateState {
        if !self.limited.load(Ordering::Acquire) {
            return RateState::default();
        }
        let mut buckets = self.buckets.lock();
        buckets.refill(now);
        let standing = |bucket: &Option<Bucket>| {
            bucket.as_ref().map(|b| Standing {
                limit: b.per_minute(),
                remaining: b.remaining(),
                reset: b.until_full(),
            })
        };
        RateState { requests: standing(&buckets.requests), tokens: standing(&buckets.tokens) }
    }

    /// Whether forgetting it changes nothing: no work in progress and both buckets full.
    pub(crate) fn is_idle(&self, now: u64) -> bool {
        let mut buckets = self.buckets.lock();
        buckets.refill(now);
        self.active.load(Ordering::Acquire) == 0
            && self.rest.load(Ordering::Acquire) == 0
            && [&buckets.requests, &buckets.tokens].into_iter().flatten().all(Bucket::is_full)
    }
}

impl Buckets {
    fn refill(&mut self, now: u64) {
        for bucket in [&mut self.requests, &mut self.tokens].into_iter().flatten() {
            bucket.refill(now);
        }
    }

    fn take_request(&mut self, now: u64) -> Result<(), Refusal> {
        let Some(bucket) = &mut self.requests else { return Ok(()) };
        bucket.refill(now);
        let wait = bucket.wait(1);
        if wait != Some(Duration::ZERO) {
            return Err(Refusal::Requests { limit: bucket.per_minute(), wait });
        }
        bucket.take(1);
        Ok(())
    }

    /// From both buckets or from none.
    fn take(&mut self, asked: u64, now: u64) -> Result<u64, Refusal> {
        self.refill(now);
        let requests = self.requests.as_ref().map_or(Some(Duration::ZERO), |b| b.wait(1));
        let tokens = self.tokens.as_ref().map_or(Some(Duration::ZERO), |b| b.wait(asked));
        if requests != Some(Duration::ZERO) || tokens != Some(Duration::ZERO) {
            // The one that takes longer: what is promised must hold for both.
            let never = |wait: Option<Duration>| wait.unwrap_or(Duration::MAX);
            return Err(match (&self.requests, &self.tokens) {
                (_, Some(b)) if never(tokens) >= never(requests) => {
                    Refusal::Tokens { limit: b.per_minute(), remaining: b.remaining(), asked, wait: tokens }
                }
                (bucket, _) => {
                    Refusal::Requests { limit: bucket.as_ref().map_or(0, Bucket::per_minute), wait: requests }
                }
            });
        }
        if let Some(bucket) = &mut self.requests {
            bucket.take(1);
        }
        Ok(self.tokens.as_mut().map_or(0, |bucket| {
            bucket.take(asked);
            asked
        }))
    }
}

fn apply(bucket: &mut Option<Bucket>, limit: Option<u64>, now: u64) {
    match (bucket.as_mut(), limit) {
        (Some(bucket), Some(limit)) if bucket.per_minute() != limit => {
            bucket.refill(now);
            bucket.resize(limit, limit);
        }
        (None, Some(limit)) => *bucket = Some(Bucket::full(limit, limit, now)),
        (_, None) => *bucket = None,
        (Some(_), Some(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const MANY: u32 = 1_000_000;

    fn limits(requests: Option<u64>, tokens: Option<u64>) -> Terms {
        let limits = Limits { requests_per_minute: requests, tokens_per_minute: tokens };
        Terms { limits, ..Terms::default() }
    }

    #[test]
    fn concurrent_admissions_are_exact() {
        let tenant = Tenant::new(limits(Some(1_000), Some(7_000)), 0);
        let barrier = Barrier::new(8);
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        (0..500).filter(|_| tenant.enter(7, MANY, 0).is_ok()).count()
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1_000);
        let state = tenant.state(0);
        assert_eq!(state.requests.unwrap().remaining, 0);
        assert_eq!(state.tokens.unwrap().remaining, 0);
    }

    #[test]
    fn a_refusal_takes_nothing_and_names_the_slower_limit() {
        let tenant = Tenant::new(limits(Some(2), Some(100)), 0);
        assert_eq!(tenant.enter(60, MANY, 0), Ok(60));
        let refused = tenant.enter(60, MANY, 0).unwrap_err();
        assert_eq!(
            refused,
            Refusal::Tokens { limit: 100, remaining: 40, asked: 60, wait: Some(Duration::from_secs(12)) }
        );
        assert_eq!(tenant.state(0).requests.unwrap().remaining, 1);
        assert_eq!(tenant.enter(40, MANY, 0), Ok(40));
        assert!(matches!(tenant.enter(1, MANY, 0), Err(Refusal::Requests { limit: 2, .. })));
        assert!(matches!(tenant.enter(101, MANY, 0), Err(Refusal::Tokens { wait: None, .. })));
    }

    #[test]
    fn settling_conserves() {
        let tenant = Tenant::new(limits(None, Some(1_000)), 0);
        let left = || tenant.state(0).tokens.unwrap().remaining;
        assert_eq!(tenant.enter(300, MANY, 0), Ok(300));
        assert_eq!(left(), 700);
        assert_eq!(tenant.settle(300, 120, 0), 120);
        assert_eq!(left(), 880);
        assert_eq!(tenant.settle(120, 1_100, 0), 1_100);
        assert_eq!(left(), 0);
        // 100 in debt, so 101 more must come in before one is there: 6.06 s.
        let Err(Refusal::Tokens { wait, .. }) = tenant.enter(1, MANY, 0) else { panic!("admitted in debt") };
        assert_eq!(wait, Some(Duration::from_millis(6_060)));
    }

    #[test]
    fn new_limits_apply_at_once() {
        let tenant = Tenant::new(Terms::default(), 0);
        assert_eq!(tenant.enter(5_000, MANY, 0), Ok(0));
        tenant.set(limits(Some(1), None), 0);
        assert_eq!(tenant.enter(5_000, MANY, 0), Ok(0));
        assert!(tenant.enter(5_000, MANY, 0).is_err());
        tenant.set(limits(Some(3), None), 0);
        assert_eq!(tenant.enter(0, MANY, 0), Ok(0));
        tenant.set(Terms::default(), 0);
        assert_eq!(tenant.state(0), RateState::default());
        assert_eq!(tenant.enter(0, MANY, 0), Ok(0));
    }

    #[test]
    fn of_two_terms_the_later_ones_hold_whichever_comes_last() {
        let at = |version, requests, suspended| Terms { version, suspended, ..limits(Some(requests), None) };
        let tenant = Tenant::new(at(3, 30, false), 0);
        let now = || (tenant.limits().requests_per_minute, tenant.is_suspended());
        tenant.set(at(5, 50, true), 0);
        assert_eq!(now(), (Some(50), true));
        tenant.set(at(4, 40, false), 0);
        assert_eq!(now(), (Some(50), true));
        tenant.set(at(0, 7, false), 0);
        assert_eq!(now(), (Some(7), false), "nothing is known of its age");
        tenant.set(at(6, 60, false), 0);
        assert_eq!(now(), (Some(60), false));
    }

    #[test]
    fn other_calls_have_places_of_their_own_and_count_among_the_requests() {
        let tenant = Tenant::new(limits(Some(3), Some(10)), 0);
        tenant.enter(10, 1, 0).unwrap();
        assert_eq!(tenant.enter_rest(1, 0), Ok(()), "neither tokens nor model calls stand in the way");
        assert_eq!(tenant.enter_rest(1, 0), Err(Refusal::Concurrency { limit: 1 }));
        tenant.leave();
        tenant.leave_rest();
        assert_eq!(tenant.enter_rest(1, 0), Ok(()));
        tenant.leave_rest();
        assert!(matches!(tenant.enter_rest(1, 0), Err(Refusal::Requests { limit: 3, .. })));
        assert!(tenant.is_idle(60_000_000_000), "a refused call holds nothing");
        tenant.enter_rest(1, 60_000_000_000).unwrap();
        assert!(!tenant.is_idle(120_000_000_000));
    }

    #[test]
    fn work_in_progress_is_capped() {
        let tenant = Tenant::new(Terms::default(), 0);
        assert!(tenant.enter(0, 2, 0).is_ok());
        assert!(tenant.enter(0, 2, 0).is_ok());
        assert_eq!(tenant.enter(0, 2, 0), Err(Refusal::Concurrency { limit: 2 }));
        tenant.leave();
        assert!(tenant.enter(0, 2, 0).is_ok());
        assert!(!tenant.is_idle(0));
    }

    #[test]
    fn streams_of_a_tenant_share_a_pace() {
        let tenant = Tenant::new(Terms::default(), 0);
        let rate = NonZeroU32::new(10).unwrap();
        let pace = |tokens, at_ms: u64| tenant.pace(rate, tokens, at_ms * 1_000_000);
        // A second's worth at once, then as fast as the rate.
        assert_eq!(pace(4, 0), Duration::ZERO);
        assert_eq!(pace(6, 0), Duration::ZERO);
        assert_eq!(pace(1, 0), Duration::from_millis(100));
        assert_eq!(pace(1, 0), Duration::from_millis(200));
        assert_eq!(pace(0, 200), Duration::ZERO);
        assert_eq!(pace(30, 10_000), Duration::from_secs(2));
    }
}
