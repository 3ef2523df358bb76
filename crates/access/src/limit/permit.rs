//! One admitted model call.

use std::sync::Arc;

use super::{RateState, Tenant};
use crate::ticker::Ticker;

/// Counts as work in progress until dropped. Until [`Permit::settle`] says better, the estimate stays charged, so a
/// cancelled call keeps it.
#[derive(Debug)]
pub struct Permit {
    tenant: Arc<Tenant>,
    ticker: Ticker,
    charged: u64,
}

impl Permit {
    pub(crate) fn new(tenant: Arc<Tenant>, ticker: Ticker, charged: u64) -> Self {
        Self { tenant, ticker, charged }
    }

    /// Charges what was really used: refunds the rest of the estimate, or takes more, into debt if need be. A later
    /// call corrects an earlier one.
    pub fn settle(&mut self, actual_tokens: u64) {
        self.charged = self.tenant.settle(self.charged, actual_tokens, self.ticker.now());
    }

    /// Where the tenant stands now.
    #[must_use]
    pub fn headers(&self) -> RateState {
        self.tenant.state(self.ticker.now())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.tenant.leave();
    }
}
