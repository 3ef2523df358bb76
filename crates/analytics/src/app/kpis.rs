//! Answering for hourly figures.

use std::sync::Arc;

use weir_db::Db;
use weir_error::{Error, require_scope, require_tenant};
use weir_proto::analytics::HourKpis;
use weir_types::{Clock, RequestContext, scope};

use super::range::range;
use crate::store;

/// Rows of one answer.
const MAX_ROWS: usize = 20_000;

#[derive(Clone)]
pub(crate) struct Kpis {
    db: Db,
    clock: Arc<dyn Clock>,
}

impl Kpis {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock }
    }

    /// The tenant's figures by hour and model, oldest first; of one model when it is named.
    ///
    /// # Errors
    /// `PermissionDenied` without `usage:read`; `TenantRequired`; `InvalidArgument` naming `from_ms` or `to_ms`.
    pub(crate) async fn hourly(
        &self,
        ctx: &RequestContext,
        from_ms: i64,
        to_ms: i64,
        model: &str,
    ) -> Result<Vec<HourKpis>, Error> {
        require_scope(ctx, scope::USAGE_READ)?;
        require_tenant(ctx)?;
        let range = range(from_ms, to_ms, self.clock.now_ms())?;
        let rows =
            store::hourly(&self.db, ctx, range, (!model.is_empty()).then_some(model), MAX_ROWS).await?;
        if rows.len() > MAX_ROWS {
            let text = format!(
                "there are more than {MAX_ROWS} hours and models: choose a later from_ms, or a model"
            );
            return Err(Error::invalid("from_ms", text));
        }
        Ok(rows)
    }
}
