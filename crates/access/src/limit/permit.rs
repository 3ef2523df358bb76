//! One admitted model call.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use weir_error::Code;

use super::{RateState, Tenant};
use crate::ticker::Ticker;

/// Counts as work in progress until dropped. Until [`Permit::settle`] says better, the estimate stays charged, so a
/// cancelled call keeps it; one that was [seen to use more](Permit::used) is charged that.
#[derive(Debug)]
pub struct Permit {
    tenant: Arc<Tenant>,
    ticker: Ticker,
    charged: u64,
    used: u64,
    settled: bool,
    /// Tokens a second that its tenant's streams get together.
    pace: Option<NonZeroU32>,
}

impl Permit {
    pub(crate) fn new(tenant: Arc<Tenant>, ticker: Ticker, charged: u64, pace: Option<NonZeroU32>) -> Self {
        Self { tenant, ticker, charged, used: 0, settled: false, pace }
    }

    /// Notes about so many more tokens as used. They count only for a call that ends unsettled: a client that hangs
    /// up before the end does not get for its small estimate whatever it has read.
    pub fn used(&mut self, tokens: u64) {
        self.used = self.used.saturating_add(tokens);
    }

    /// So many tokens of a stream are sent now; how long the next ones are to wait.
    #[must_use]
    pub fn pace(&self, tokens: u64) -> Duration {
        let Some(per_second) = self.pace else { return Duration::ZERO };
        self.tenant.pace(per_second, tokens, self.ticker.now())
    }

    /// Charges what was really used: refunds the rest of the estimate, or takes more, into debt if need be. A later
    /// call corrects an earlier one.
    pub fn settle(&mut self, actual_tokens: u64) {
        self.settled = true;
        self.charged = self.tenant.settle(self.charged, actual_tokens, self.ticker.now());
    }

    /// The call failed before its answer began. Its tokens are given back where the code says that no provider was
    /// asked; a provider that failed, or was too late, may have worked for it.
    pub fn failed(&mut self, code: Code) {
        if before_any_attempt(code) {
            self.settle(0);
        }
    }

    /// Where the tenant stands now.
    #[must_use]
    pub fn headers(&self) -> RateState {
        self.tenant.state(self.ticker.now())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled && self.used > self.charged {
            self.tenant.settle(self.charged, self.used, self.ticker.now());
        }
        self.tenant.leave();
    }
}

/// One admitted call that is no model call, until dropped.
#[derive(Debug)]
pub struct Visit(Arc<Tenant>);

impl Visit {
    pub(crate) fn new(tenant: Arc<Tenant>) -> Self {
        Self(tenant)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.leave_rest();
    }
}

fn before_any_attempt(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::InvalidType
            | Code::MissingParameter
            | Code::InvalidJson
            | Code::ModelNotFound
            | Code::PreviousResponseNotFound
            | Code::NotFound
            | Code::PermissionDenied
            | Code::TenantRequired
            | Code::Unavailable
            | Code::Overloaded
    )
}
