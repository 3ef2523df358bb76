//! Telling callers what they used.

use std::sync::Arc;

use weir_db::Db;
use weir_error::{Error, require_scope, require_tenant};
use weir_proto::billing::UsageReport;
use weir_types::{Clock, KeyId, Principal, RequestContext, UserId, scope};

use super::range::range;
use crate::store;

#[derive(Clone)]
pub(crate) struct Usage {
    db: Db,
    clock: Arc<dyn Clock>,
}

/// Whose usage within the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    User(UserId),
    Key(KeyId),
    Everyone,
}

impl Usage {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock }
    }

    /// The caller's own usage; the whole tenant's for the platform.
    ///
    /// # Errors
    /// `PermissionDenied` without `usage:read`; `TenantRequired`; `InvalidArgument` naming `from_ms` or `to_ms`.
    pub(crate) async fn mine(
        &self,
        ctx: &RequestContext,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<UsageReport, Error> {
        require_scope(ctx, scope::USAGE_READ)?;
        require_tenant(ctx)?;
        let range = range(from_ms, to_ms, self.clock.now_ms())?;
        let whose = match ctx.principal {
            Principal::Key { user: Some(user), .. } => Whose::User(user),
            Principal::Key { id, user: None } => Whose::Key(id),
            Principal::Platform | Principal::Service(_) => Whose::Everyone,
        };
        store::report(&self.db, ctx, whose, range).await
    }
}
