//! What the world is told of a change: an event for the audit log, and the new state for whoever enforces it. Written
//! to the outbox in the transaction of the change.

use prost::Message as _;
use uuid::Uuid;
use weir_db::Letter;
use weir_events::{Bucket, subject};
use weir_proto::{
    control::{KeyChange, RateLimits, TenantState},
    events::{Actor, ApiKeyChanged, TenantChanged},
};
use weir_types::{Principal, RequestContext, TenantId};

use crate::store::{ApiKey, Tenant};

/// What happened, as subjects name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    TenantCreated,
    TenantUpdated,
    KeyCreated,
    KeyRevoked,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::TenantCreated => "tenant_created",
            Self::TenantUpdated => "tenant_updated",
            Self::KeyCreated => "api_key_created",
            Self::KeyRevoked => "api_key_revoked",
        }
    }
}

pub(super) fn of_tenant(ctx: &RequestContext, what: What, tenant: &Tenant, now_ms: i64) -> Vec<Letter> {
    let version = u64::try_from(tenant.version).unwrap_or(0);
    let event_id = Uuid::now_v7();
    let event = TenantChanged {
        id: event_id.to_string(),
        actor: Some(actor(ctx)),
        tenant_id: tenant.id.to_string(),
        version,
        name: tenant.name.clone(),
        tier: tenant.tier.clone(),
        requests_per_minute: tenant.requests_per_minute,
        tokens_per_minute: tenant.tokens_per_minute,
        suspended: tenant.suspended,
        at_ms: now_ms,
    };
    let state = TenantState {
        tenant_id: tenant.id.to_string(),
        version,
        rate_limits: Some(RateLimits {
            requests_per_minute: tenant.requests_per_minute,
            tokens_per_minute: tenant.tokens_per_minute,
        }),
        suspended: tenant.suspended,
    };
    let pushed = Bucket::TENANTS.subject(&tenant.id.to_string());
    vec![
        push("tenant", pushed, now_ms, state.encode_to_vec()),
        audit("tenant", tenant.id, what, event_id, now_ms, event.encode_to_vec()),
    ]
}

pub(super) fn of_key(
    ctx: &RequestContext,
    what: What,
    tenant: TenantId,
    key: &ApiKey,
    now_ms: i64,
) -> Vec<Letter> {
    let event_id = Uuid::now_v7();
    let event = ApiKeyChanged {
        id: event_id.to_string(),
        actor: Some(actor(ctx)),
        tenant_id: tenant.to_string(),
        key_id: key.id.to_string(),
        name: key.name.clone(),
        scopes: key.scopes.clone(),
        user_id: key.user.map(|u| u.to_string()).unwrap_or_default(),
        expires_at_ms: key.expires_at_ms.unwrap_or_default(),
        at_ms: now_ms,
    };
    let order = format!("key.{}", key.id);
    let mut letters = vec![audit(&order, tenant, what, event_id, now_ms, event.encode_to_vec())];
    // Nobody remembers a key that is new, and nobody takes one that has expired.
    if what == What::KeyRevoked && key.expires_at_ms.is_none_or(|at| at > now_ms) {
        let change = KeyChange { key_id: key.id.to_string(), revoked: true };
        let pushed = Bucket::KEYS.subject(&format!("{tenant}.{}", key.id));
        letters.push(push(&order, pushed, now_ms, change.encode_to_vec()));
    }
    letters
}

fn push(order: &str, subject: String, time_ms: i64, payload: Vec<u8>) -> Letter {
    Letter { event_id: Uuid::now_v7(), key: order.to_owned(), subject, time_ms, payload }
}

fn audit(
    order: &str,
    tenant: TenantId,
    what: What,
    event_id: Uuid,
    time_ms: i64,
    payload: Vec<u8>,
) -> Letter {
    Letter {
        event_id,
        // One of their own: a stream that takes nothing holds up no push.
        key: format!("audit.{order}"),
        subject: subject("audit", tenant, what.name()),
        time_ms,
        payload,
    }
}

pub(super) fn actor(ctx: &RequestContext) -> Actor {
    let (kind, service) = match &ctx.principal {
        Principal::Key { .. } => ("key", String::new()),
        Principal::Platform => ("platform", String::new()),
        Principal::Service(name) => ("service", name.to_string()),
    };
    Actor {
        kind: kind.to_owned(),
        key_id: ctx.key().map(|k| k.to_string()).unwrap_or_default(),
        user_id: ctx.user().map(|u| u.to_string()).unwrap_or_default(),
        service,
        request_id: ctx.request_id.to_string(),
    }
}
