//! Names of values. Only made here, so that none can lack its tenant.

use std::{fmt, sync::Arc};

use weir_types::TenantId;

/// A value's name: whose it is, what it is for, which one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Something of one tenant. `area` is a word such as `session`; `id` may be anything.
    #[must_use]
    pub fn tenant(tenant: TenantId, area: &'static str, id: impl fmt::Display) -> Self {
        Self(format!("weir:t:{tenant}:{area}:{id}").into())
    }

    /// Something that belongs to no tenant.
    #[must_use]
    pub fn global(area: &'static str, id: impl fmt::Display) -> Self {
        Self(format!("weir:g:{area}:{id}").into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_reaches_another_tenant_or_the_global_keys() {
        let (a, b) = (TenantId::new(), TenantId::new());
        let forged = Key::tenant(a, "session", format!("x:t:{b}:session:1"));
        assert!(forged.as_str().starts_with(&format!("weir:t:{a}:session:")));
        assert_ne!(Key::global("session", 1), Key::tenant(a, "session", 1));
    }
}
