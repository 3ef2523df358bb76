//! What gateways learn of a presented key.

use weir_error::{Code, Error};
use weir_proto::control::{CreateApiKeyRequest, CreateTenantRequest, RateLimits, ResolveKeyRequest, Tenant};
use weir_rpc::request;
use weir_types::{KeyId, UserId, api_key, scope};

use crate::{NOW, World, manager, named, platform, refused, sha256};

#[tokio::test]
async fn a_grant_says_all_a_gateway_needs() {
    let world = World::new().await;
    let limits = RateLimits { requests_per_minute: Some(7), tokens_per_minute: None };
    let message = CreateTenantRequest { name: "x".into(), tier: "free".into(), rate_limits: Some(limits) };
    let tenant: Tenant =
        world.tenants().create_tenant(request(&platform(), message)).await.unwrap().into_inner();
    let ctx = manager(tenant.id.parse().unwrap());
    let user = UserId::new().to_string();
    let message = CreateApiKeyRequest { user_id: user.clone(), expires_at_ms: NOW + 10, ..named("x") };
    let made = world.create(&ctx, message).await.unwrap();
    let grant = world.resolve(&made.secret).await.unwrap();
    assert_eq!((grant.key_id, grant.tenant_id, grant.user_id), (made.api_key.unwrap().id, tenant.id, user));
    assert_eq!(
        (grant.scopes, grant.rate_limits),
        (scope::DEFAULT.iter().map(|&s| s.into()).collect(), Some(limits))
    );
    assert_eq!(grant.expires_at_ms, NOW + 10);
    world.clock.advance(9);
    world.resolve(&made.secret).await.unwrap();
    world.clock.advance(1);
    assert_eq!(refused(world.resolve(&made.secret).await).0, Code::NotFound, "it has expired");
}

#[tokio::test]
async fn unknown_revoked_and_suspended_keys_look_the_same() {
    let world = World::new().await;
    let (one, two) = (world.tenant("one").await, world.tenant("two").await);
    let (revoked, suspended, good) = (world.key(one).await, world.key(two).await, world.key(one).await);
    world.revoke(&manager(one), &revoked.api_key.unwrap().id).await.unwrap();
    let mut admin = world.admin().await;
    sqlx::query("UPDATE control.tenants SET status = 'suspended' WHERE tenant_id = $1")
        .bind(two.0)
        .execute(&mut admin)
        .await
        .unwrap();
    let never = api_key::assemble(api_key::KeyKind::Live, KeyId::new(), &[1; 32]);
    let mut texts = Vec::new();
    for key in [&never, &revoked.secret, &suspended.secret] {
        let error = world.resolve(key).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        texts.push(error.message().to_owned());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(world.resolve(&good.secret).await.unwrap().user_id, "");
    let shown = world.metrics.encode();
    assert!(shown.contains("control_key_lookups_total{outcome=\"unknown\"} 3"), "{shown}");
}

#[tokio::test]
async fn the_platform_key_belongs_to_no_tenant() {
    let world = World::new().await;
    let grant = world.resolve(&world.admin_key).await.unwrap();
    assert_eq!((grant.tenant_id.as_str(), grant.expires_at_ms), ("", 0));
    assert!(grant.key_id.parse::<KeyId>().is_ok());
    assert!(grant.scopes.contains(&scope::PLATFORM_ADMIN.to_owned()));
    assert_eq!(world.resolve(&world.admin_key).await.unwrap().key_id, grant.key_id);
}

#[tokio::test]
async fn only_the_doors_ask_and_with_a_whole_hash() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    let key = world.key(tenant).await;
    let hash = sha256(&key.secret).to_vec();
    let mut operator = platform();
    operator.tenant = Some(tenant);
    let billing = weir_types::RequestContext::service("billing");
    for ctx in [manager(tenant), platform(), operator, billing] {
        let message = ResolveKeyRequest { sha256: hash.clone().into() };
        let result = world.keys().resolve_key(request(&ctx, message)).await;
        assert_eq!(refused(result.map_err(Error::from)).0, Code::PermissionDenied);
    }
    for part in [&hash[..31], &[]] {
        let message = ResolveKeyRequest { sha256: part.to_vec().into() };
        let gateway = weir_types::RequestContext::service("gateway");
        let result = world.keys().resolve_key(request(&gateway, message)).await;
        assert_eq!(refused(result.map_err(Error::from)), (Code::InvalidArgument, Some("sha256".into())));
    }
}
