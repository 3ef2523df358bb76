//! Changes over REST and how soon they count: limits, suspensions, aliases.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};
use weir_e2e::{
    http::{Answer, Http},
    stand::Stand,
    wait::until,
};

/// Without push it would take as long as a key is trusted.
const PATIENCE: Duration = Duration::from_secs(25);

fn hello(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "x"}]})
}

async fn send(caller: &Http, method: Method, path: &str, body: &Value) -> Result<Answer> {
    caller.send(method, path, Some(body.to_string().into())).await
}

async fn chat(caller: &Http, model: &str) -> Result<Answer> {
    caller.post("/v1/chat/completions", &hello(model)).await
}

/// The field to blame, as a name or a JSON pointer.
fn param(answer: &Answer) -> String {
    answer.json()["param"].as_str().unwrap_or_default().trim_start_matches('/').to_owned()
}

#[tokio::test]
async fn new_limits_and_a_suspension_count_soon_and_what_is_not_named_stays() {
    let stand = Stand::shared();
    let tenant = stand.tenant_with(&json!({"requests_per_minute": 1000})).await.unwrap();
    let user = stand.gateway().with_key(&tenant.key);
    let platform = stand.platform();
    let path = format!("/v1/tenants/{}", tenant.id);
    assert_eq!(chat(&user, "gpt-4o-mini").await.unwrap().header("x-ratelimit-limit-requests"), "1000");

    let patch = json!({"rate_limits": {"requests_per_minute": 500}});
    let patched = send(&platform, Method::PATCH, &path, &patch).await.unwrap();
    assert_eq!(patched.status, 200, "{patched:?}");
    let since = Instant::now();
    let before = patched.json();
    assert_eq!(
        (&before["tier"], before["version"].as_u64() > Some(1), &before["suspended"]),
        (&json!("standard"), true, &json!(false))
    );
    until("the new limit counts", PATIENCE, async || {
        let answer = chat(&user, "gpt-4o-mini").await?;
        ensure!(answer.header("x-ratelimit-limit-requests") == "500", "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
    println!("new limits count after {} ms", since.elapsed().as_millis());

    let suspended = send(&platform, Method::PATCH, &path, &json!({"suspended": true})).await.unwrap().json();
    let since = Instant::now();
    assert_eq!((&suspended["suspended"], &suspended["rate_limits"]), (&json!(true), &before["rate_limits"]));
    until("the key was refused", PATIENCE, async || {
        let answer = chat(&user, "gpt-4o-mini").await?;
        ensure!(answer.status == 401, "{}", answer.status);
        Ok(())
    })
    .await
    .unwrap();
    println!("a suspension counts after {} ms", since.elapsed().as_millis());
    assert_eq!(platform.get(&path).await.unwrap().json(), suspended, "the operator still sees it");
    send(&platform, Method::PATCH, &path, &json!({"suspended": false})).await.unwrap();
    until("the key was good again", PATIENCE, async || {
        let answer = chat(&user, "gpt-4o-mini").await?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(())
    })
    .await
    .unwrap();

    assert_eq!(send(&user, Method::PATCH, &path, &json!({"tier": "free"})).await.unwrap().status, 403);
    let wrong = send(&platform, Method::PATCH, &path, &json!({"tier": "golden"})).await.unwrap();
    assert_eq!((wrong.status, param(&wrong).as_str()), (400, "tier"));
}

#[tokio::test]
async fn an_alias_is_its_tenants_own() {
    let stand = Stand::shared();
    let (one, two) = (stand.tenant().await.unwrap(), stand.tenant().await.unwrap());
    let (owner, stranger) = (stand.gateway().with_key(&one.key), stand.gateway().with_key(&two.key));
    let alias = json!({"model": "gpt-4o-mini"});
    let put = send(&owner, Method::PUT, "/v1/router/aliases/our-best", &alias).await.unwrap();
    assert_eq!(put.status, 200, "{put:?}");
    let put = put.json();
    assert_eq!(
        (&put["name"], &put["scope"], &put["provider"]),
        (&json!("our-best"), &json!("tenant"), &Value::Null)
    );
    until("the alias counts", PATIENCE, async || {
        let answer = chat(&owner, "our-best").await?;
        ensure!(answer.header("x-weir-model") == "gpt-4o-mini", "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert_ne!(chat(&stranger, "our-best").await.unwrap().header("x-weir-model"), "gpt-4o-mini");
    let listed = owner.get("/v1/router/aliases").await.unwrap().json();
    assert_eq!((&listed["data"], &listed["has_more"]), (&json!([put]), &json!(false)));
    assert_eq!(stranger.get("/v1/router/aliases").await.unwrap().json()["data"], json!([]));
    assert_eq!(stranger.delete("/v1/router/aliases/our-best").await.unwrap().status, 404);
    let circle = send(&owner, Method::PUT, "/v1/router/aliases/a", &json!({"model": "a"})).await.unwrap();
    assert_eq!((circle.status, param(&circle).as_str()), (400, "model"), "{circle:?}");
    let unscoped = weir_e2e::stand::key(&owner, &["chat:write"]).await.unwrap().1;
    let unscoped = stand.gateway().with_key(&unscoped);
    assert_eq!(send(&unscoped, Method::PUT, "/v1/router/aliases/b", &alias).await.unwrap().status, 403);
    assert_eq!(owner.delete("/v1/router/aliases/our-best").await.unwrap().json(), put);
    until("the alias is gone", PATIENCE, async || {
        let answer = chat(&owner, "our-best").await?;
        ensure!(answer.header("x-weir-model") != "gpt-4o-mini", "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_platforms_aliases_are_everybodys() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let user = stand.gateway().with_key(&tenant.key);
    let platform = stand.platform();
    let path = "/v1/router/aliases/the-platforms";
    let put = send(&platform, Method::PUT, path, &json!({"model": "gpt-4o-mini"})).await.unwrap();
    assert_eq!((put.status, &put.json()["scope"]), (200, &json!("platform")), "{put:?}");
    until("the alias counts", PATIENCE, async || {
        let answer = chat(&user, "the-platforms").await?;
        ensure!(answer.header("x-weir-model") == "gpt-4o-mini", "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
    let listed = user.get("/v1/router/aliases?scope=platform").await.unwrap().json();
    assert!(listed["data"].as_array().unwrap().iter().any(|a| a["name"] == "the-platforms"), "{listed}");
    assert_eq!(user.delete(path).await.unwrap().status, 404, "a tenant's own of that name is not there");
    assert_eq!(platform.delete(path).await.unwrap().status, 200);
}
