//! The decision itself: a few lookups in memory.

use std::sync::Arc;

use tokio::time::Instant;
use weir_error::{Error, require_scope};
use weir_types::{Clock, RequestContext, scope};

use crate::{catalogue::Catalogue, metrics::RouterMetrics, store::Aliases};

/// The name that leaves the choice to the router.
pub(crate) const AUTO: &str = "auto";
/// Model names are at most this long.
pub const MAX_NAME_CHARS: usize = 256;

/// Where a request should go. The same name gets the same decision for as long as no alias changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub model: String,
    /// `None`: any provider that serves the model.
    pub provider: Option<String>,
    /// In words for people.
    pub reasons: Vec<String>,
    pub(crate) kind: ReasonKind,
}

/// What a decision rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ReasonKind {
    Alias,
    Auto,
    Named,
    Refused,
}

#[derive(Clone)]
pub(crate) struct App {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) store: Option<Aliases>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: RouterMetrics,
}

impl App {
    /// # Errors
    /// `PermissionDenied` without `chat:write`; `InvalidArgument` for a name that is empty or too long, or whose
    /// aliases go round in a circle.
    pub(crate) fn decide(&self, ctx: &RequestContext, name: &str) -> Result<Decision, Error> {
        let started = Instant::now();
        let decided = self.look_up(ctx, name);
        let kind = decided.as_ref().map_or(ReasonKind::Refused, |d| d.kind);
        self.metrics.decided(kind, started.elapsed());
        decided
    }

    fn look_up(&self, ctx: &RequestContext, name: &str) -> Result<Decision, Error> {
        require_scope(ctx, scope::CHAT_WRITE)?;
        if name.is_empty() {
            return Err(Error::invalid("model", "name a model, an alias, or `auto`"));
        }
        if name.chars().count() > MAX_NAME_CHARS {
            return Err(Error::invalid(
                "model",
                format!("a model's name has at most {MAX_NAME_CHARS} characters"),
            ));
        }
        Ok(self.catalogue.decide(ctx.tenant, name)?)
    }
}
