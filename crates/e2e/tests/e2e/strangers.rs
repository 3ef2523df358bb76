//! Every operation as a second tenant: other tenants' objects are not there, collections show one's own rows only. What
//! there is to try comes from `/openapi.json`, so an RPC that is added is walked without anyone thinking of it.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};
use weir_e2e::{
    http::{Answer, Http},
    stand::{Stand, Tenant},
};

/// What is everybody's: the models that the platform's providers serve.
const SHARED: [&str; 2] = ["/v1/models/{model}", "/v1beta/models/{model}"];

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

/// One operation as the description has it.
struct Operation {
    method: Method,
    path: String,
    /// `tenant`, `any` or `platform`.
    caller: String,
    body: Option<Value>,
}

impl Operation {
    fn at(&self, id: &str) -> String {
        let segment = |s: &str| match s.split_once('}') {
            Some((name, after)) if name.starts_with('{') => format!("{id}{after}"),
            _ => s.to_owned(),
        };
        self.path.split('/').map(segment).collect::<Vec<_>>().join("/")
    }

    async fn send(&self, who: &Http, id: &str) -> Answer {
        let body = self.body.as_ref().map(|b| b.to_string().into());
        who.send(self.method.clone(), &self.at(id), body).await.unwrap()
    }

    fn is_for_the_platform(&self) -> bool {
        self.caller == "platform"
    }

    fn names_an_object(&self) -> bool {
        self.path.contains('{')
    }
}

/// Everything that needs a credential.
async fn operations() -> Vec<Operation> {
    let description = Stand::shared().gateway().get("/openapi.json").await.unwrap().json();
    let mut found = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let security = operation["security"].as_array().unwrap();
            if security.is_empty() || security.contains(&json!({})) {
                continue;
            }
            let media = &operation["requestBody"]["content"]["application/json"];
            found.push(Operation {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                caller: operation["x-weir-caller"].as_str().unwrap_or("tenant").to_owned(),
                body: media.is_object().then(|| media.get("example").cloned().unwrap_or(json!({}))),
            });
        }
    }
    assert!(found.len() > 20, "the description has lost its operations");
    found
}

/// Operations on objects, by the path that names one.
fn by_path(operations: &[Operation]) -> BTreeMap<&str, Vec<&Operation>> {
    let mut found: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations
        .iter()
        .filter(|o| o.names_an_object() && !SHARED.iter().any(|path| o.path.starts_with(path)))
    {
        found.entry(&operation.path).or_default().push(operation);
    }
    found
}

/// An object that a stranger must not see, and whose it is.
struct Object {
    id: String,
    keeper: Http,
    /// Where its keeper sees it.
    seen_at: String,
}

impl Object {
    /// Made by the description's own examples: posted to the collection above `path`, or put at `path`.
    async fn make(two: &Two, all: &[Operation], path: &str) -> Option<Self> {
        let collection = path.split_once("/{")?.0;
        let on = |method: Method, path: &str| all.iter().find(|o| o.method == method && o.path == path);
        let maker = on(Method::POST, collection).or_else(|| on(Method::PUT, path))?;
        let keeper = if maker.is_for_the_platform() { two.stand.platform() } else { two.owner() };
        let name = new_name(maker);
        let made = maker.send(&keeper, &name).await;
        assert!(matches!(made.status, 200 | 201), "{} {path}: {made:?}", maker.method);
        let id = match maker.method {
            Method::PUT => name,
            // As OpenAI has it.
            _ if collection == "/v1/responses" => made.json()["id"].as_str().unwrap_or_default().to_owned(),
            _ => made.header("location").rsplit('/').next().unwrap_or_default().to_owned(),
        };
        assert!(!id.is_empty(), "{path}: what is made must say where it is: {made:?}");
        // The object itself, should the path be below it.
        let object = path.split_inclusive('}').next().unwrap_or(path);
        let seen_at = match on(Method::GET, object) {
            Some(get) => get.at(&id),
            None => collection.to_owned(),
        };
        Some(Self { id, keeper, seen_at })
    }

    async fn seen(&self) -> Value {
        let seen = self.keeper.get(&self.seen_at).await.unwrap();
        assert!(seen.status == 200 && seen.json().to_string().contains(&self.id), "{seen:?}");
        seen.json()
    }
}

/// Ids are UUIDs, but for what its maker names.
fn new_name(operation: &Operation) -> String {
    let id = uuid::Uuid::now_v7();
    if operation.method == Method::PUT { format!("n{}", id.simple()) } else { id.to_string() }
}

/// An answer without what differs from request to request, and the id that was asked for.
fn bare(answer: &Answer, id: &str) -> Value {
    let text = answer.json().to_string().replace(id, "ID");
    let mut body: Value = serde_json::from_str(&text).unwrap();
    for own in ["request_id", "trace_id"] {
        body[own] = Value::Null;
    }
    body
}

#[tokio::test]
async fn objects_of_another_tenant_are_not_found() {
    let two = Two::new().await;
    let stranger = two.stranger();
    let all = operations().await;
    for (path, mut operations) in by_path(&all) {
        for operation in operations.iter().filter(|o| o.is_for_the_platform()) {
            let refused = operation.send(&stranger, &uuid::Uuid::now_v7().to_string()).await;
            assert_eq!(refused.status, 403, "{} {path}: {refused:?}", operation.method);
        }
        operations.retain(|o| !o.is_for_the_platform());
        if operations.is_empty() {
            continue;
        }
        let object = Object::make(&two, &all, path).await;
        let object =
            object.unwrap_or_else(|| panic!("nothing makes an object of {path}: tell this test how"));
        let before = object.seen().await;
        // What puts an object makes the stranger's own: last, so that it isn't found by the others.
        operations.sort_by_key(|o| o.method == Method::PUT);
        for operation in operations {
            let theirs = operation.send(&stranger, &object.id).await;
            if operation.method == Method::PUT && theirs.status == 200 {
                continue;
            }
            assert_eq!(theirs.status, 404, "{} {path}: {theirs:?}", operation.method);
            // Nothing tells an object of another's from one that is not there.
            let form = if object.id.parse::<uuid::Uuid>().is_ok() { Method::GET } else { Method::PUT };
            let name =
                new_name(&Operation { method: form, path: String::new(), caller: String::new(), body: None });
            let absent = operation.send(&stranger, &name).await;
            assert_eq!(bare(&theirs, &object.id), bare(&absent, &name), "{} {path}", operation.method);
        }
        assert_eq!(object.seen().await, before, "{path}: a stranger changed it");
    }
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
    let all = operations().await;
    let mut owned = vec![two.owner.id.clone(), two.owner.key_id.clone()];
    for path in by_path(&all).into_keys() {
        if all.iter().any(|o| o.path == path && !o.is_for_the_platform()) {
            owned.extend(Object::make(&two, &all, path).await.map(|object| object.id));
        }
    }

    let stranger = two.stranger();
    for operation in all.iter().filter(|o| o.method == Method::GET && !o.names_an_object()) {
        let shown = operation.send(&stranger, "").await;
        let expected = if operation.is_for_the_platform() { 403 } else { 200 };
        assert_eq!(shown.status, expected, "{}: {shown:?}", operation.path);
        let text = shown.json().to_string();
        assert!(!owned.iter().any(|id| text.contains(id)), "{} shows another's: {text}", operation.path);
    }
    let keys = stranger.get("/api/v1/api-keys").await.unwrap().json();
    let ids: Vec<_> = keys["data"].as_array().unwrap().iter().map(|k| k["id"].clone()).collect();
    assert_eq!(ids, [json!(two.stranger.key_id)]);
    let usage = stranger.get("/v1/users/me/usage").await.unwrap().json();
    assert_eq!((&usage["totals"]["requests"], &usage["by_model"]), (&json!(0), &json!([])));
    let kpis = stranger.get("/v1/analytics/kpis/hourly").await.unwrap().json();
    assert_eq!(kpis["data"], json!([]));
    assert_eq!(stranger.get("/v1/router/aliases").await.unwrap().json()["data"], json!([]));
}

#[tokio::test]
async fn tenants_are_the_platform_s_business() {
    let two = Two::new().await;
    let stranger = two.stranger();
    for operation in operations().await.iter().filter(|o| o.is_for_the_platform()) {
        let refused = operation.send(&stranger, &two.owner.id).await;
        assert_eq!(refused.status, 403, "{} {}: {refused:?}", operation.method, operation.path);
    }
    let own = stranger.get(&format!("/v1/tenants/{}", two.stranger.id)).await.unwrap();
    assert_eq!((own.status, &own.json()["id"]), (200, &json!(two.stranger.id)));
}

#[tokio::test]
async fn naming_another_tenant_is_refused_whether_or_not_it_exists() {
    let two = Two::new().await;
    let all = operations().await;
    for named in [two.owner.id.clone(), uuid::Uuid::now_v7().to_string(), "not-an-id".to_owned()] {
        let stranger = two.stranger().with_header("x-tenant-id", &named);
        for operation in &all {
            let refused = operation.send(&stranger, &uuid::Uuid::now_v7().to_string()).await;
            assert_eq!(refused.status, 403, "{} {}: {refused:?}", operation.method, operation.path);
            assert!(refused.json().to_string().contains("may not act for that tenant"), "{refused:?}");
        }
    }
    let own = two.stranger().with_header("x-tenant-id", &two.stranger.id);
    assert_eq!(own.get("/v1/api-keys").await.unwrap().status, 200);
}

#[tokio::test]
async fn without_a_key_nothing_is_shown() {
    let gateway = Stand::shared().gateway();
    for operation in operations().await {
        let refused = operation.send(&gateway, &uuid::Uuid::now_v7().to_string()).await;
        assert_eq!(refused.status, 401, "{} {}: {refused:?}", operation.method, operation.path);
    }
}
