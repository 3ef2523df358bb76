//! The decision itself: one lookup in a table that was resolved when the router was built.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;
use weir_error::{Error, require_scope};
use weir_types::{RequestContext, scope};

use crate::metrics::RouterMetrics;

/// The name that leaves the choice to the router.
pub(crate) const AUTO: &str = "auto";
/// Model names are at most this long.
pub const MAX_NAME_CHARS: usize = 256;

/// Where a request should go. The same name gets the same decision for as long as the configuration stays.
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
    table: Arc<HashMap<String, Decision>>,
    metrics: RouterMetrics,
}

impl App {
    pub(crate) fn new(table: HashMap<String, Decision>, metrics: RouterMetrics) -> Self {
        Self { table: Arc::new(table), metrics }
    }

    /// # Errors
    /// `PermissionDenied` without `chat:write`; `InvalidArgument` for a name that is empty or too long.
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
        Ok(self.table.get(name).cloned().unwrap_or_else(|| Decision {
            model: name.to_owned(),
            provider: None,
            reasons: vec!["named outright".to_owned()],
            kind: ReasonKind::Named,
        }))
    }
}
