//! Tenants.

use weir_error::{Code, Error};
use weir_proto::control::{
    CreateTenantRequest, GetTenantRequest, ListTenantsRequest, RateLimits, Tenant, UpdateTenantRequest,
};
use weir_rpc::request;
use weir_types::{RequestContext, TenantId};

use crate::{NOW, World, manager, patient, platform, refused};

async fn get(world: &World, ctx: &RequestContext, id: &str) -> Result<Tenant, Error> {
    let message = GetTenantRequest { id: id.into() };
    world
        .tenants()
        .get_tenant(request(ctx, message))
        .await
        .map(tonic::Response::into_inner)
        .map_err(Error::from)
}

async fn create(world: &World, ctx: &RequestContext, message: CreateTenantRequest) -> Result<Tenant, Error> {
    world
        .tenants()
        .create_tenant(request(ctx, message))
        .await
        .map(tonic::Response::into_inner)
        .map_err(Error::from)
}

async fn update(world: &World, ctx: &RequestContext, message: UpdateTenantRequest) -> Result<Tenant, Error> {
    world
        .tenants()
        .update_tenant(request(ctx, message))
        .await
        .map(tonic::Response::into_inner)
        .map_err(Error::from)
}

#[tokio::test]
async fn an_update_changes_what_it_names() {
    let world = World::new().await;
    let limits = RateLimits { requests_per_minute: Some(10), tokens_per_minute: Some(1_000) };
    let message = CreateTenantRequest { name: "acme".into(), tier: "free".into(), rate_limits: Some(limits) };
    let made = create(&world, &platform(), message).await.unwrap();
    assert_eq!((made.version, made.suspended), (1, false));
    let id = made.id.clone();
    let patch = UpdateTenantRequest { id: id.clone(), ..UpdateTenantRequest::default() };
    assert_eq!(update(&world, &platform(), patch.clone()).await.unwrap(), made, "nothing named");

    let named = UpdateTenantRequest { name: Some("Acme".into()), ..patch.clone() };
    let named = update(&world, &platform(), named).await.unwrap();
    assert_eq!(named, Tenant { name: "Acme".into(), version: named.version, ..made.clone() });
    assert!(named.version > made.version);

    let less = RateLimits { requests_per_minute: Some(5), tokens_per_minute: None };
    let less = UpdateTenantRequest { rate_limits: Some(less), tier: Some("premium".into()), ..patch.clone() };
    let less = update(&world, &platform(), less).await.unwrap();
    assert_eq!(
        (less.rate_limits, less.tier.as_str()),
        (Some(RateLimits { requests_per_minute: Some(5), tokens_per_minute: None }), "premium")
    );
    assert!(less.version > named.version);
    assert_eq!(get(&world, &platform(), &id).await.unwrap(), less);
    let list = world.tenants().list_tenants(request(&platform(), ListTenantsRequest::default())).await;
    assert_eq!(list.unwrap().into_inner().data, [less]);
}

#[tokio::test]
async fn a_suspended_tenants_keys_are_refused_until_it_is_active_again() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    let key = world.key(tenant).await.secret;
    assert_eq!(world.resolve(&key).await.unwrap().tenant_version, 1);
    let patch = |suspended| UpdateTenantRequest {
        id: tenant.to_string(),
        suspended: Some(suspended),
        ..UpdateTenantRequest::default()
    };
    assert!(update(&world, &platform(), patch(true)).await.unwrap().suspended);
    assert_eq!(refused(world.resolve(&key).await).0, Code::NotFound);
    assert!(!update(&world, &platform(), patch(false)).await.unwrap().suspended);
    assert!(world.resolve(&key).await.unwrap().tenant_version > 1);
}

#[tokio::test]
async fn versions_grow_even_after_the_database_has_forgotten_some() {
    let world = World::new().await;
    let id = world.tenant("acme").await.to_string();
    let patch = |n| UpdateTenantRequest { id: id.clone(), suspended: Some(n % 2 == 0), ..Default::default() };
    let mut told = 0;
    for n in 0..3 {
        let version = update(&world, &platform(), patch(n)).await.unwrap().version;
        assert!(version > told, "{version} after {told}");
        told = version;
        // As a backup has it.
        sqlx::query("UPDATE control.tenants SET version = 1")
            .execute(&mut world.admin().await)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn updates_are_the_operators_and_refused_by_field() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    let patch = UpdateTenantRequest { id: tenant.to_string(), ..UpdateTenantRequest::default() };
    for ctx in [manager(tenant), RequestContext::service("router")] {
        assert_eq!(refused(update(&world, &ctx, patch.clone()).await).0, Code::PermissionDenied);
    }
    let zero = RateLimits { requests_per_minute: None, tokens_per_minute: Some(0) };
    for (bad, param) in [
        (UpdateTenantRequest { name: Some(String::new()), ..patch.clone() }, "name"),
        (UpdateTenantRequest { tier: Some(String::new()), ..patch.clone() }, "tier"),
        (UpdateTenantRequest { rate_limits: Some(zero), ..patch.clone() }, "rate_limits.tokens_per_minute"),
    ] {
        let error = refused(update(&world, &platform(), bad).await);
        assert_eq!(error, (Code::InvalidArgument, Some(param.into())));
    }
    for id in [TenantId::new().to_string(), "nonsense".into()] {
        for suspended in [None, Some(true)] {
            let nobody = UpdateTenantRequest { id: id.clone(), suspended, ..patch.clone() };
            assert_eq!(refused(update(&world, &platform(), nobody).await).0, Code::NotFound);
        }
    }
}

#[tokio::test]
async fn a_tenant_is_made_and_read_back() {
    let world = World::new().await;
    let limits = RateLimits { requests_per_minute: Some(1_000), tokens_per_minute: Some(100_000) };
    let message =
        CreateTenantRequest { name: "Acme Corp".into(), tier: "premium".into(), rate_limits: Some(limits) };
    let made = create(&world, &platform(), message).await.unwrap();
    assert_eq!((made.name.as_str(), made.tier.as_str(), made.created_at_ms), ("Acme Corp", "premium", NOW));
    assert_eq!(made.rate_limits, Some(limits));
    assert_eq!(get(&world, &platform(), &made.id).await.unwrap(), made);
    assert_eq!(get(&world, &manager(made.id.parse().unwrap()), &made.id).await.unwrap(), made);

    let plain = CreateTenantRequest { name: "x".into(), ..CreateTenantRequest::default() };
    let plain = create(&world, &platform(), plain).await.unwrap();
    assert_eq!(plain.tier, "standard");
    assert_eq!(plain.rate_limits, Some(RateLimits { requests_per_minute: None, tokens_per_minute: None }));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let world = World::new().await;
    let good = CreateTenantRequest { name: "x".into(), ..CreateTenantRequest::default() };
    let zero = RateLimits { requests_per_minute: Some(0), tokens_per_minute: None };
    for (message, param) in [
        (CreateTenantRequest { name: String::new(), ..good.clone() }, "name"),
        (CreateTenantRequest { tier: "gold".into(), ..good.clone() }, "tier"),
        (CreateTenantRequest { rate_limits: Some(zero), ..good }, "rate_limits.requests_per_minute"),
    ] {
        let error = refused(create(&world, &platform(), message).await);
        assert_eq!(error, (Code::InvalidArgument, Some(param.into())));
    }
}

#[tokio::test]
async fn another_tenant_is_not_found_and_only_the_operator_makes_and_lists() {
    let world = World::new().await;
    let (one, two) = (world.tenant("one").await, world.tenant("two").await);
    for id in [two.to_string(), TenantId::new().to_string(), "nonsense".into()] {
        assert_eq!(refused(get(&world, &manager(one), &id).await).0, Code::NotFound, "{id}");
    }
    assert_eq!(refused(get(&world, &platform(), &TenantId::new().to_string()).await).0, Code::NotFound);
    let stranger = RequestContext::service("router");
    assert_eq!(refused(get(&world, &stranger, &one.to_string()).await).0, Code::TenantRequired);

    // The name of the principal without its scope is not enough.
    let mut unscoped = platform();
    unscoped.scopes = crate::scopes(&[]);
    for ctx in [manager(one), stranger, unscoped] {
        let message = CreateTenantRequest { name: "x".into(), ..CreateTenantRequest::default() };
        assert_eq!(refused(create(&world, &ctx, message).await).0, Code::PermissionDenied);
        let list = world.tenants().list_tenants(request(&ctx, ListTenantsRequest::default())).await;
        assert_eq!(refused(list.map_err(Error::from)).0, Code::PermissionDenied);
    }
}

#[tokio::test]
async fn pages_are_stable_while_tenants_are_added() {
    let world = World::new().await;
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(world.tenant(&format!("t{n}")).await.to_string());
    }
    made.reverse();
    let page = async |limit, after: &str| {
        let message = ListTenantsRequest { limit, after: after.into() };
        world.tenants().list_tenants(request(&platform(), message)).await.map(tonic::Response::into_inner)
    };
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = page(2, &after).await.unwrap();
        seen.extend(page.data.into_iter().map(|t| t.id));
        world.tenant("newer").await;
        assert_eq!(page.has_more, !page.next_cursor.is_empty());
        if !page.has_more {
            break;
        }
        after = page.next_cursor;
    }
    assert_eq!(seen, made);
    assert_eq!(refused(page(101, "").await.map_err(Error::from)).1.as_deref(), Some("limit"));
    assert_eq!(refused(page(1, "zzz").await.map_err(Error::from)).1.as_deref(), Some("after"));
}

#[tokio::test]
async fn the_database_refuses_what_a_forgotten_check_would_let_through() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    let db = weir_db::Db::connect_lazy(&patient(&world.database)).unwrap();
    let may = async |ctx: &RequestContext, sql: &'static str| {
        let mut tx = db.lookup(ctx).await.unwrap();
        sqlx::query(sql).execute(tx.conn()).await.map(drop).map_err(|e| e.to_string())
    };
    const LIST: &str = "SELECT * FROM control.tenants_page(NULL, 10)";
    const KEYS: &str = "SELECT * FROM control.key_grant('', 0)";
    let service = RequestContext::service("gateway");
    assert_eq!(may(&platform(), LIST).await, Ok(()));
    assert_eq!(may(&service, KEYS).await, Ok(()));
    for (ctx, sql) in
        [(&manager(tenant), LIST), (&service, LIST), (&manager(tenant), KEYS), (&platform(), KEYS)]
    {
        let refused = may(ctx, sql).await.unwrap_err();
        assert!(refused.contains("only for transactions of a"), "{refused}");
    }
}
