//! Who may change which aliases, and what is a valid one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message as _;
use uuid::Uuid;
use weir_db::{DbError, Letter};
use weir_error::{Code, Error, require_scope, require_tenant};
use weir_events::{Bucket, subject};
use weir_proto::{
    events::{Actor, AliasChanged},
    router::{Alias, AliasSet, DeleteAliasRequest, ListAliasesRequest, ListAliasesResponse, PutAliasRequest},
};
use weir_types::{Principal, RequestContext, TenantId, scope};

use crate::{
    AliasTarget, MAX_NAME_CHARS,
    app::App,
    catalogue::{MAX_ALIASES, PLATFORM},
    config::fits,
    store::{Aliases, Row, Rows},
};

/// One order for all pushes of a tenant: that of its versions.
const ORDER: &str = "aliases";
/// The audit log's have one of their own: a stream that takes nothing holds up no push.
const AUDIT_ORDER: &str = "audit.aliases";
const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

impl App {
    pub(crate) async fn list_aliases(
        &self,
        ctx: &RequestContext,
        request: &ListAliasesRequest,
    ) -> Result<ListAliasesResponse, Error> {
        let owner = match (request.scope.as_str(), whose(ctx)) {
            (_, Err(error)) => return Err(error),
            ("" | "tenant", Ok(owner)) if owner != PLATFORM => {
                may(ctx, scope::MODELS_READ)?;
                owner
            }
            ("tenant", Ok(_)) => {
                return Err(Error::new(
                    Code::TenantRequired,
                    "this credential belongs to no tenant: name one in X-Tenant-ID",
                )
                .with_param("X-Tenant-ID"));
            }
            ("" | "platform", Ok(_)) => {
                may(ctx, scope::MODELS_READ)?;
                PLATFORM
            }
            _ => return Err(Error::invalid("scope", "scope must be one of tenant, platform")),
        };
        let limit = match usize::try_from(request.limit).unwrap_or(usize::MAX) {
            0 => DEFAULT_LIMIT,
            limit if limit <= MAX_LIMIT => limit,
            _ => return Err(Error::invalid("limit", format!("limit must be between 1 and {MAX_LIMIT}"))),
        };
        let after = if request.after.is_empty() { None } else { Some(read_cursor(&request.after)?) };
        let rows = i64::try_from(limit + 1).unwrap_or(i64::MAX);
        let mut rows = self.store()?.list(&acting_for(ctx, owner), after.as_deref(), rows).await?;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor =
            rows.last().filter(|_| has_more).map(|r| URL_SAFE_NO_PAD.encode(&r.name)).unwrap_or_default();
        Ok(ListAliasesResponse {
            data: rows.into_iter().map(|row| shown(owner, row)).collect(),
            has_more,
            next_cursor,
        })
    }

    pub(crate) async fn put_alias(
        &self,
        ctx: &RequestContext,
        request: &PutAliasRequest,
    ) -> Result<Alias, Error> {
        let owner = may_change(ctx)?;
        let row = valid(request, self.clock.now_ms())?;
        let ctx = acting_for(ctx, owner);
        // What is remembered may be a moment old: a circle that slips through is met when it is followed.
        let mut set = self.catalogue.set(owner);
        set.aliases.insert(row.name.clone(), row.target.clone());
        self.catalogue.would_decide(owner, &set, &row.name)?;
        let mut change = self.store()?.change(&ctx).await?;
        change.put(&row).await?;
        let rows = change.rows().await?;
        if rows.rows.len() > MAX_ALIASES {
            return Err(Error::invalid("name", format!("there can be {MAX_ALIASES} aliases at most")));
        }
        let letters = letters(&ctx, owner, &rows, "alias_put", &row, row.updated_at_ms);
        change.commit(&ctx, &letters).await?;
        self.catalogue.apply([(owner, rows.set())]);
        tracing::info!(
            alias.name = row.name,
            alias.model = row.target.model,
            tenant.id = %owner,
            request.id = %ctx.request_id,
            "alias put"
        );
        Ok(shown(owner, row))
    }

    pub(crate) async fn delete_alias(
        &self,
        ctx: &RequestContext,
        request: &DeleteAliasRequest,
    ) -> Result<Alias, Error> {
        let owner = may_change(ctx)?;
        let ctx = acting_for(ctx, owner);
        let mut change = self.store()?.change(&ctx).await?;
        let gone = change.delete(&request.name).await?;
        let gone = gone.ok_or_else(|| Error::new(Code::NotFound, "no such alias"))?;
        let rows = change.rows().await?;
        let deleted = Row { target: AliasTarget { model: String::new(), provider: None }, ..gone.clone() };
        let letters = letters(&ctx, owner, &rows, "alias_deleted", &deleted, self.clock.now_ms());
        change.commit(&ctx, &letters).await?;
        self.catalogue.apply([(owner, rows.set())]);
        tracing::info!(alias.name = gone.name, tenant.id = %owner, request.id = %ctx.request_id, "alias deleted");
        Ok(shown(owner, gone))
    }

    fn store(&self) -> Result<&Aliases, Error> {
        self.store.as_ref().ok_or_else(|| Error::unavailable("this router has no database for aliases"))
    }
}

fn is_platform(ctx: &RequestContext) -> bool {
    ctx.principal == Principal::Platform && ctx.has_scope(scope::PLATFORM_ADMIN)
}

/// Whose aliases the caller works on.
fn whose(ctx: &RequestContext) -> Result<TenantId, Error> {
    match ctx.tenant {
        None if is_platform(ctx) => Ok(PLATFORM),
        // Nobody is that tenant.
        Some(PLATFORM) => Err(Error::new(Code::NotFound, "no such tenant")),
        _ => require_tenant(ctx),
    }
}

fn may(ctx: &RequestContext, scope: &str) -> Result<(), Error> {
    if is_platform(ctx) { Ok(()) } else { require_scope(ctx, scope) }
}

fn may_change(ctx: &RequestContext) -> Result<TenantId, Error> {
    let owner = whose(ctx)?;
    may(ctx, scope::ROUTING_WRITE)?;
    Ok(owner)
}

/// The caller, within this tenant. Only after it was seen that they may.
fn acting_for(ctx: &RequestContext, tenant: TenantId) -> RequestContext {
    RequestContext { tenant: Some(tenant), ..ctx.clone() }
}

fn valid(request: &PutAliasRequest, now_ms: i64) -> Result<Row, Error> {
    let name = &request.name;
    let sound = |c: char| c.is_ascii_alphanumeric() || "._:@-".contains(c);
    if !fits(name) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(sound) {
        let message = format!(
            "name must have 1 to {MAX_NAME_CHARS} letters, digits and any of . _ : @ -, a letter or digit first"
        );
        return Err(Error::invalid("name", message));
    }
    let provider = Some(request.provider.clone()).filter(|p| !p.is_empty());
    for (param, text) in [("model", Some(&request.model)), ("provider", provider.as_ref())] {
        if text.is_some_and(|t| !fits(t) || t.chars().any(char::is_control)) {
            let message = format!(
                "{param} must have 1 to {MAX_NAME_CHARS} characters, none of them a control character"
            );
            return Err(Error::invalid(param, message));
        }
    }
    let target = AliasTarget { model: request.model.clone(), provider };
    Ok(Row { name: name.clone(), target, updated_at_ms: now_ms })
}

fn read_cursor(cursor: &str) -> Result<String, Error> {
    let name = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    name.ok_or_else(|| Error::invalid("after", "after must be the next_cursor of an earlier page"))
}

fn shown(owner: TenantId, row: Row) -> Alias {
    Alias {
        name: row.name,
        model: row.target.model,
        provider: row.target.provider.unwrap_or_default(),
        scope: if owner == PLATFORM { "platform" } else { "tenant" }.to_owned(),
        updated_at_ms: row.updated_at_ms,
    }
}

fn letters(
    ctx: &RequestContext,
    owner: TenantId,
    rows: &Rows,
    what: &str,
    changed: &Row,
    at_ms: i64,
) -> Vec<Letter> {
    let event_id = Uuid::now_v7();
    let event = AliasChanged {
        id: event_id.to_string(),
        actor: Some(actor(ctx)),
        tenant_id: owner.to_string(),
        name: changed.name.clone(),
        model: changed.target.model.clone(),
        provider: changed.target.provider.clone().unwrap_or_default(),
        at_ms,
    };
    let told = Letter {
        event_id,
        key: AUDIT_ORDER.to_owned(),
        subject: subject("audit", owner, what),
        time_ms: at_ms,
        payload: event.encode_to_vec(),
    };
    vec![pushed(owner, rows, at_ms), told]
}

/// All of the tenant's aliases, for the bucket.
fn pushed(owner: TenantId, rows: &Rows, at_ms: i64) -> Letter {
    let set = AliasSet {
        tenant_id: owner.to_string(),
        version: rows.version,
        aliases: rows.rows.iter().map(|row| shown(owner, row.clone())).collect(),
    };
    Letter {
        event_id: Uuid::now_v7(),
        key: ORDER.to_owned(),
        subject: Bucket::CATALOGUE.subject(&owner.to_string()),
        time_ms: at_ms,
        payload: set.encode_to_vec(),
    }
}

/// Pushes everybody's aliases again: the bucket was lost.
pub(crate) async fn push_all(store: Aliases, now_ms: i64) -> Result<(), DbError> {
    let ctx = RequestContext::service("router");
    let (mut after, mut tenants) = (None, 0_usize);
    loop {
        let (sets, last) = store.page(&ctx, after).await?;
        for owner in sets.into_keys() {
            let ctx = acting_for(&ctx, owner);
            let Some(mut held) = store.hold(&ctx).await? else { continue };
            let rows = held.rows().await?;
            held.commit(&ctx, &[pushed(owner, &rows, now_ms)]).await?;
            tenants += 1;
        }
        if last.is_none() {
            if tenants > 0 {
                tracing::info!(tenants, bucket = Bucket::CATALOGUE.name, "bucket filled again");
            }
            return Ok(());
        }
        after = last;
    }
}

fn actor(ctx: &RequestContext) -> Actor {
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
