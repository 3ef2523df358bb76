//! The SQL of the control plane. No policy here.

mod keys;
mod tenants;

pub(crate) use keys::{ApiKey, Grant, Inserted, Keys, NewKey};
pub(crate) use tenants::{NewTenant, Tenant, TenantPatch, Tenants};

/// A column that is never negative (a check constraint) as it goes over the wire.
fn count(value: Option<i64>) -> Option<u64> {
    value.and_then(|v| u64::try_from(v).ok())
}

fn column(value: Option<u64>) -> Option<i64> {
    value.map(|v| i64::try_from(v).unwrap_or(i64::MAX))
}
