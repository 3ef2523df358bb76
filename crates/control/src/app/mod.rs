//! The policy of the control plane: who may do what, and what is a valid request.

mod changes;
mod dead_letters;
mod keys;
mod page;
mod resolve;
mod tenants;
mod validate;

use std::sync::Arc;

use weir_db::Db;
use weir_error::{Code, Error};
use weir_types::{Clock, Principal, RequestContext, scope};

use crate::{
    metrics::ControlMetrics,
    store::{Keys, Tenants},
};
pub(crate) use dead_letters::DeadLetters;
pub(crate) use page::Page;
pub(crate) use resolve::Resolved;

pub(crate) struct App {
    tenants: Tenants,
    keys: Keys,
    clock: Arc<dyn Clock>,
    /// SHA-256 of the platform operator's key.
    admin_key: Option<[u8; 32]>,
    /// Per tenant.
    max_keys: u32,
    metrics: ControlMetrics,
}

impl App {
    pub(crate) fn new(
        db: Db,
        clock: Arc<dyn Clock>,
        (admin_key, max_keys): (Option<[u8; 32]>, u32),
        metrics: ControlMetrics,
    ) -> Self {
        Self { tenants: Tenants(db.clone()), keys: Keys(db), clock, admin_key, max_keys, metrics }
    }
}

fn is_platform(ctx: &RequestContext) -> bool {
    ctx.principal == Principal::Platform && ctx.has_scope(scope::PLATFORM_ADMIN)
}

fn require_platform(ctx: &RequestContext) -> Result<(), Error> {
    if is_platform(ctx) {
        return Ok(());
    }
    Err(Error::new(Code::PermissionDenied, "only the platform's operator may do that"))
}
