//! API keys of a tenant.

use weir_error::Code;
use weir_proto::control::CreateApiKeyRequest;
use weir_types::{
    KeyId, RequestContext, TenantId, UserId,
    api_key::{KeyForm, KeyKind, parse},
    scope,
};

use crate::{MAX_KEYS, NOW, World, caller, manager, named, platform, refused, sha256};

#[tokio::test]
async fn a_key_is_shown_once_and_stored_nowhere() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    let user = UserId::new();
    let message = CreateApiKeyRequest {
        name: "build server".into(),
        scopes: vec!["usage:read".into(), "chat:write".into()],
        user_id: user.to_string(),
        expires_at_ms: NOW + 1_000,
    };
    let made = world.create(&manager(tenant), message).await.unwrap();
    let key = made.api_key.clone().unwrap();
    let id: KeyId = key.id.parse().unwrap();
    assert_eq!(parse(&made.secret), Some(KeyForm { kind: KeyKind::Live, id }));
    assert!(made.secret.starts_with(&key.prefix) && key.prefix.len() < made.secret.len() - 40);
    assert_eq!(
        (key.scopes.clone(), key.user_id.clone()),
        (vec!["chat:write".into(), "usage:read".into()], user.to_string())
    );
    assert_eq!((key.created_at_ms, key.expires_at_ms, key.revoked_at_ms), (NOW, NOW + 1_000, 0));

    let secret = &made.secret[key.prefix.len() + 1..];
    assert!(!format!("{made:?}").contains(secret), "the secret is in Debug");
    let listed = world.list(&manager(tenant), 0, "").await.unwrap();
    assert_eq!(world.get(&manager(tenant), &key.id).await.unwrap(), key);
    assert_eq!(listed.data, [key]);
    assert!(!format!("{listed:?}").contains(secret));
    let mut admin = world.admin().await;
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT k::text FROM control.api_keys k").fetch_all(&mut admin).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert!(rows[0].contains(&crate::hex(&sha256(&made.secret))) && !rows[0].contains(secret), "{rows:?}");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let world = World::new().await;
    let ctx = manager(world.tenant("acme").await);
    for (message, param) in [
        (named(""), "name"),
        (named(&"x".repeat(201)), "name"),
        (CreateApiKeyRequest { scopes: vec!["chat:write".into(), "root".into()], ..named("x") }, "scopes[1]"),
        (CreateApiKeyRequest { scopes: vec![scope::PLATFORM_ADMIN.into()], ..named("x") }, "scopes[0]"),
        (CreateApiKeyRequest { user_id: "bob".into(), ..named("x") }, "user_id"),
        (CreateApiKeyRequest { expires_at_ms: NOW, ..named("x") }, "expires_at_ms"),
        (CreateApiKeyRequest { expires_at_ms: -1, ..named("x") }, "expires_at_ms"),
    ] {
        assert_eq!(refused(world.create(&ctx, message).await), (Code::InvalidArgument, Some(param.into())));
    }
    assert_eq!(refused(world.list(&ctx, 101, "").await).1.as_deref(), Some("limit"));
    assert_eq!(refused(world.list(&ctx, 1, "?").await).1.as_deref(), Some("after"));
    assert_eq!(world.list(&ctx, 0, "").await.unwrap().data, []);
}

#[tokio::test]
async fn nobody_grants_what_they_lack() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    let only_keys = caller(tenant, &[scope::KEYS_MANAGE]);
    // The default ones count as named.
    for scopes in [vec![], vec![scope::CHAT_WRITE.to_owned()]] {
        let result = world.create(&only_keys, CreateApiKeyRequest { scopes, ..named("x") }).await;
        assert_eq!(refused(result), (Code::PermissionDenied, Some("scopes".into())));
    }
    let same = CreateApiKeyRequest { scopes: vec![scope::KEYS_MANAGE.into()], ..named("x") };
    world.create(&only_keys, same).await.unwrap();
    let default = world.key(tenant).await.api_key.unwrap();
    assert_eq!(default.scopes, scope::DEFAULT);
    let mut operator = platform();
    operator.tenant = Some(tenant);
    let all = CreateApiKeyRequest { scopes: scope::TENANT.iter().map(|&s| s.into()).collect(), ..named("x") };
    world.create(&operator, all).await.unwrap();
}

#[tokio::test]
async fn callers_need_a_tenant_and_the_scope() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    let id = world.key(tenant).await.api_key.unwrap().id;
    let reader = caller(tenant, scope::DEFAULT);
    for (ctx, code) in [
        (reader, Code::PermissionDenied),
        (platform(), Code::TenantRequired),
        (RequestContext::service("gateway"), Code::TenantRequired),
    ] {
        assert_eq!(refused(world.create(&ctx, named("x")).await).0, code);
        assert_eq!(refused(world.list(&ctx, 0, "").await).0, code);
        assert_eq!(refused(world.get(&ctx, &id).await).0, code);
        assert_eq!(refused(world.revoke(&ctx, &id).await).0, code);
    }
    let mut operator = platform();
    operator.tenant = Some(TenantId::new());
    assert_eq!(refused(world.create(&operator, named("x")).await).0, Code::NotFound);
}

#[tokio::test]
async fn another_tenants_key_is_not_found() {
    let world = World::new().await;
    let (one, two) = (world.tenant("one").await, world.tenant("two").await);
    let (mine, theirs) = (world.key(one).await, world.key(two).await);
    let (mine_id, their_id) = (mine.api_key.unwrap().id, theirs.api_key.unwrap().id);
    for id in [their_id, KeyId::new().to_string(), "x".into()] {
        assert_eq!(refused(world.get(&manager(one), &id).await).0, Code::NotFound);
        assert_eq!(refused(world.revoke(&manager(one), &id).await).0, Code::NotFound);
    }
    world.resolve(&theirs.secret).await.unwrap();
    let listed: Vec<String> =
        world.list(&manager(one), 0, "").await.unwrap().data.into_iter().map(|k| k.id).collect();
    assert_eq!(listed, [mine_id]);
}

#[tokio::test]
async fn pages_are_stable_while_keys_come_and_go() {
    let world = World::new().await;
    let ctx = manager(world.tenant("acme").await);
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(world.create(&ctx, named("x")).await.unwrap().api_key.unwrap().id);
    }
    made.reverse();
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = world.list(&ctx, 2, &after).await.unwrap();
        for key in &page.data {
            world.revoke(&ctx, &key.id).await.unwrap();
        }
        world.create(&ctx, named("newer")).await.unwrap();
        seen.extend(page.data.into_iter().map(|k| k.id));
        if !page.has_more {
            assert_eq!(page.next_cursor, "");
            break;
        }
        after = page.next_cursor;
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn revoking_is_idempotent_even_at_once() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    let made = world.key(tenant).await;
    let id = made.api_key.unwrap().id;
    let ctx = manager(tenant);
    let race = futures_util::future::join_all((0..8).map(|_| world.revoke(&ctx, &id))).await;
    let times: Vec<i64> = race.into_iter().map(|r| r.unwrap().revoked_at_ms).collect();
    assert_eq!(times, [NOW; 8]);
    world.clock.advance(5_000);
    assert_eq!(world.revoke(&ctx, &id).await.unwrap().revoked_at_ms, NOW, "the first time stays");
    assert_eq!(world.get(&ctx, &id).await.unwrap().revoked_at_ms, NOW, "a revoked key is still shown");
    assert_eq!(refused(world.resolve(&made.secret).await).0, Code::NotFound);
}

#[tokio::test]
async fn a_tenant_has_so_many_keys_and_revoked_ones_count_for_a_day() {
    let world = World::new().await;
    let (tenant, other) = (world.tenant("acme").await, world.tenant("other").await);
    let ctx = manager(tenant);
    let expiring = CreateApiKeyRequest { expires_at_ms: NOW + 1_000, ..named("x") };
    world.create(&ctx, expiring).await.unwrap();
    let race = (0..MAX_KEYS + 4).map(|_| world.create(&ctx, named("x")));
    let made: Vec<_> = futures_util::future::join_all(race).await.into_iter().flatten().collect();
    assert_eq!(made.len(), MAX_KEYS as usize - 1);
    let error = world.create(&ctx, named("x")).await.unwrap_err();
    assert_eq!(error.code(), Code::Conflict);
    assert!(error.message().contains("20 API keys at most (control.max_keys_per_tenant)"), "{error}");
    world.key(other).await;

    world.clock.advance(1_000);
    world.create(&ctx, named("for the one that expired")).await.unwrap();
    world.revoke(&ctx, &made[0].api_key.as_ref().unwrap().id).await.unwrap();
    assert_eq!(refused(world.create(&ctx, named("x")).await).0, Code::Conflict);
    world.clock.advance(86_400_000);
    world.create(&ctx, named("x")).await.unwrap();
    assert_eq!(refused(world.create(&ctx, named("x")).await).0, Code::Conflict);
}

#[tokio::test]
async fn gateways_are_told_of_revocations_of_good_keys_only_and_apart_from_the_audit_log() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    let expired = CreateApiKeyRequest { expires_at_ms: NOW + 1_000, ..named("x") };
    let expired = world.create(&manager(tenant), expired).await.unwrap().api_key.unwrap().id;
    let good = world.key(tenant).await.api_key.unwrap().id;
    world.clock.advance(1_000);
    for id in [&expired, &good] {
        world.revoke(&manager(tenant), id).await.unwrap();
    }
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT key, subject FROM control.outbox WHERE key LIKE '%key.%' ORDER BY seq")
            .fetch_all(&mut world.admin().await)
            .await
            .unwrap();
    let (audits, pushes): (Vec<_>, Vec<_>) = rows.into_iter().partition(|r| r.1.starts_with("weir.audit."));
    assert_eq!(audits.len(), 4);
    assert!(audits.iter().all(|r| r.0.starts_with("audit.key.")), "{audits:?}");
    assert_eq!(pushes, [(format!("key.{good}"), format!("$KV.weir_keys.{tenant}.{good}"))]);
}
