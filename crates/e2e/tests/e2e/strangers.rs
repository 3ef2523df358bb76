//! Every route as a second tenant: other tenants' objects are not there, collections show one's own rows only.

use serde_json::{Value, json};
use weir_e2e::{
    http::Http,
    stand::{Stand, Tenant},
};

struct Two {
    stand: &'static Stand,
    owner: Tenant,
    stranger: Tenant,
}

impl Two {
    async fn new() -> Self {
        let stand = Stand::shared();
        Self { stand, owner: stand.tenant().await.unwrap(), stranger: stand.tenant().await.unwrap() }
    }

    fn owner(&self) -> Http {
        self.stand.gateway().with_key(&self.owner.key)
    }

    fn stranger(&self) -> Http {
        self.stand.gateway().with_key(&self.stranger.key)
    }
}

#[tokio::test]
async fn objects_of_another_tenant_are_not_found() {
    let two = Two::new().await;
    let stranger = two.stranger();
    let tenant = format!("/v1/tenants/{}", two.owner.id);
    let key = format!("/v1/api-keys/{}", two.owner.key_id);
    let own_key = format!("/v1/users/me/api-keys/{}", two.owner.key_id);
    for (theirs, absent) in [
        (
            stranger.get(&tenant).await.unwrap(),
            stranger.get(&format!("/v1/tenants/{}", uuid::Uuid::now_v7())).await.unwrap(),
        ),
        (
            stranger.delete(&key).await.unwrap(),
            stranger.delete(&format!("/v1/api-keys/{}", uuid::Uuid::now_v7())).await.unwrap(),
        ),
        (
            stranger.delete(&own_key).await.unwrap(),
            stranger.delete(&format!("/v1/users/me/api-keys/{}", uuid::Uuid::now_v7())).await.unwrap(),
        ),
    ] {
        assert_eq!(theirs.status, 404, "{theirs:?}");
        // Nothing tells an object of another's from one that is not there.
        let bare = |answer: &weir_e2e::http::Answer| {
            let mut body = answer.json();
            body["request_id"] = Value::Null;
            body
        };
        assert_eq!(bare(&theirs), bare(&absent));
    }
    assert_eq!(two.owner().get("/v1/models").await.unwrap().status, 200, "the key was revoked by a stranger");
}

#[tokio::test]
async fn collections_show_one_s_own_rows_only() {
    let two = Two::new().await;
    let body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(two.owner().post("/v1/chat/completions", &body).await.unwrap().status, 200);
    weir_e2e::wait::until("the owner's usage was counted", weir_e2e::http::PATIENCE, async || {
        let usage = two.owner().get("/v1/users/me/usage").await?.json();
        anyhow::ensure!(usage["totals"]["requests"] == 1, "{usage}");
        let kpis = two.owner().get("/v1/analytics/kpis/hourly").await?.json();
        anyhow::ensure!(kpis["data"][0]["requests"] == 1, "{kpis}");
        Ok(())
    })
    .await
    .unwrap();

    let stranger = two.stranger();
    for path in ["/v1/api-keys", "/v1/users/me/api-keys", "/api/v1/api-keys"] {
        let keys = stranger.get(path).await.unwrap().json();
        let ids: Vec<_> = keys["data"].as_array().unwrap().iter().map(|k| k["id"].clone()).collect();
        assert_eq!(ids, [json!(two.stranger.key_id)]);
    }
    let usage = stranger.get("/v1/users/me/usage").await.unwrap().json();
    assert_eq!((&usage["totals"]["requests"], &usage["by_model"]), (&json!(0), &json!([])));
    let kpis = stranger.get("/v1/analytics/kpis/hourly").await.unwrap().json();
    assert_eq!(kpis["data"], json!([]));
}

#[tokio::test]
async fn tenants_are_the_platform_s_business() {
    let two = Two::new().await;
    let stranger = two.stranger();
    let made = stranger.post("/v1/tenants", &json!({"name": "x", "tier": "free"})).await.unwrap();
    assert_eq!(made.status, 403, "{made:?}");
    assert_eq!(stranger.get("/v1/tenants").await.unwrap().status, 403);
    let own = stranger.get(&format!("/v1/tenants/{}", two.stranger.id)).await.unwrap();
    assert_eq!((own.status, &own.json()["id"]), (200, &json!(two.stranger.id)));
}

#[tokio::test]
async fn naming_another_tenant_is_refused_whether_or_not_it_exists() {
    let two = Two::new().await;
    let body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]});
    let mut answers = Vec::new();
    for named in [two.owner.id.clone(), uuid::Uuid::now_v7().to_string(), "not-an-id".to_owned()] {
        let stranger = two.stranger().with_header("x-tenant-id", &named);
        for answer in [
            stranger.get("/v1/api-keys").await.unwrap(),
            stranger.get("/v1/users/me/usage").await.unwrap(),
            stranger.get("/v1/analytics/kpis/hourly").await.unwrap(),
            stranger.get("/v1/models").await.unwrap(),
            stranger.post("/v1/chat/completions", &body).await.unwrap(),
            stranger.post("/v1/router/decide", &json!({"model": "auto"})).await.unwrap(),
        ] {
            assert_eq!(answer.status, 403, "{answer:?}");
            answers.push(answer.json().to_string().contains("tenant_mismatch"));
        }
    }
    assert!(answers.into_iter().all(|mismatch| mismatch));
    let own = two.stranger().with_header("x-tenant-id", &two.stranger.id);
    assert_eq!(own.get("/v1/api-keys").await.unwrap().status, 200);
}

#[tokio::test]
async fn without_a_key_nothing_is_shown() {
    let gateway = Stand::shared().gateway();
    for path in
        ["/v1/tenants", "/v1/api-keys", "/v1/users/me/usage", "/v1/analytics/kpis/hourly", "/v1/models"]
    {
        assert_eq!(gateway.get(path).await.unwrap().status, 401, "{path}");
    }
}
