//! Tenants and API keys over REST.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use weir_e2e::{stand::Stand, wait::until};

fn hello() -> Value {
    json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]})
}

#[tokio::test]
async fn a_tenant_is_created_shown_and_listed() {
    let stand = Stand::shared();
    let platform = stand.platform();
    let asked = json!({"name": "Enterprise Client", "tier": "premium",
        "rate_limits": {"requests_per_minute": 1000, "tokens_per_minute": 100_000}});
    let made = platform.post("/api/v1/tenants", &asked).await.unwrap();
    assert_eq!(made.status, 201, "{made:?}");
    let tenant = made.json();
    for field in ["name", "tier", "rate_limits"] {
        assert_eq!(tenant[field], asked[field]);
    }
    let id = tenant["id"].as_str().unwrap();
    assert_eq!(made.header("location"), format!("/v1/tenants/{id}"));
    assert_eq!(platform.get(&format!("/v1/tenants/{id}")).await.unwrap().json(), tenant);

    let mut found = Vec::new();
    let mut path = "/v1/tenants?limit=2".to_owned();
    loop {
        let page = platform.get(&path).await.unwrap().json();
        found.extend(page["data"].as_array().unwrap().iter().map(|t| t["id"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) if page["has_more"] == true => path = format!("/v1/tenants?limit=2&after={next}"),
            _ => break,
        }
    }
    assert_eq!(found.iter().filter(|f| **f == *id).count(), 1);
}

#[tokio::test]
async fn a_tenant_that_makes_no_sense_is_refused_by_field() {
    let platform = Stand::shared().platform();
    for (body, param) in [
        (json!({"tier": "premium"}), "/name"),
        (json!({"name": "x", "tier": "golden"}), "/tier"),
        (
            json!({"name": "x", "tier": "free", "rate_limits": {"requests_per_minute": 0}}),
            "/rate_limits/requests_per_minute",
        ),
        (json!({"name": "x", "tier": "free", "colour": "red"}), "/colour"),
    ] {
        let refused = platform.post("/v1/tenants", &body).await.unwrap();
        assert_eq!((refused.status, &refused.json()["param"]), (400, &json!(param)), "{refused:?}");
        assert_eq!(refused.header("content-type"), "application/problem+json");
    }
}

#[tokio::test]
async fn a_key_is_shown_once_listed_without_its_secret_and_works() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let owner = stand.gateway().with_key(&tenant.key);
    let made = owner.post("/v1/api-keys", &json!({"name": "laptop"})).await.unwrap();
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with(made["api_key"]["prefix"].as_str().unwrap()));
    assert_eq!(made["api_key"]["scopes"], json!(["chat:write", "models:read", "usage:read"]));
    let chat = stand.gateway().with_key(secret).post("/v1/chat/completions", &hello()).await.unwrap();
    assert_eq!(chat.status, 200, "{chat:?}");

    let list = owner.get("/v1/api-keys").await.unwrap();
    let ids: Vec<_> = list.json()["data"].as_array().unwrap().iter().map(|k| k["id"].clone()).collect();
    assert!(ids.contains(&made["api_key"]["id"]) && ids.contains(&json!(tenant.key_id)));
    assert_eq!(ids.len(), 2);
    let shown = String::from_utf8_lossy(&list.body).into_owned();
    assert!(!shown.contains(secret) && !shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_revoked_key_is_refused() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let owner = stand.gateway().with_key(&tenant.key);
    let (id, key) = weir_e2e::stand::key(&owner, &["chat:write"]).await.unwrap();
    let user = stand.gateway().with_key(&key);
    assert_eq!(user.post("/v1/chat/completions", &hello()).await.unwrap().status, 200);

    let revoked = owner.delete(&format!("/v1/api-keys/{id}")).await.unwrap();
    assert_eq!(revoked.status, 200, "{revoked:?}");
    until("the key was refused", Duration::from_secs(30), async || {
        let answer = user.post("/v1/chat/completions", &hello()).await?;
        ensure!(answer.status == 401, "{}", answer.status);
        Ok(answer)
    })
    .await
    .unwrap();
    let again = owner.delete(&format!("/v1/api-keys/{id}")).await.unwrap();
    assert_eq!((again.status, again.json()), (200, revoked.json()), "revoking twice is revoking once");
    assert_eq!(owner.post("/v1/chat/completions", &hello()).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_platform_key_acts_for_a_tenant_it_names() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let platform = stand.platform();
    let nameless = platform.post("/v1/chat/completions", &hello()).await.unwrap();
    assert_eq!((nameless.status, &nameless.json()["error"]["code"]), (400, &json!("tenant_required")));
    let acting = platform.with_header("x-tenant-id", &tenant.id);
    assert_eq!(acting.post("/v1/chat/completions", &hello()).await.unwrap().status, 200);
    let keys = acting.get("/v1/api-keys").await.unwrap().json();
    assert_eq!(keys["data"][0]["id"], json!(tenant.key_id));
    let nobody = platform.with_header("x-tenant-id", &weir_types::TenantId::new().to_string());
    assert_eq!(nobody.get("/v1/api-keys").await.unwrap().status, 404);
}
