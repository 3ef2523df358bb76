//! The edge through its real router, with services that the tests play.

mod chat;
mod counting;
mod docs;
mod fakes;
mod gemini;
mod heads;
mod models;
mod refusals;
mod responses;
mod rest;
mod streams;
mod websocket;

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use weir_access::Access;
use weir_proto::control::{KeyGrant, RateLimits};
use weir_rpc::{Identity, Transport};
use weir_runtime::Tasks;
use weir_telemetry::Metrics;
use weir_types::{
    KeyId, ManualClock, TenantId,
    api_key::{KeyKind, assemble},
    scope,
};

use self::fakes::{Fakes, sha256};
use crate::{Config, Deps, build};

/// Longer than anything here takes, for waits that must not hang for ever.
const SOON: Duration = Duration::from_secs(20);

struct House {
    app: Router,
    edge: crate::Service,
    fakes: Fakes,
    metrics: Metrics,
    clock: ManualClock,
    tasks: Tasks,
    tenant: TenantId,
    /// May do everything a tenant's key may.
    key: String,
    /// The platform's.
    admin: String,
}

fn house() -> House {
    house_with(Config::default(), weir_access::Config::default(), None)
}

fn house_with(config: Config, access: weir_access::Config, realtime: Option<String>) -> House {
    let (fakes, metrics, tasks) = (Fakes::default(), Metrics::new(), Tasks::new());
    let clock = ManualClock::at(1_700_000_000_000);
    let transport = Transport::local("fakes", fakes.routes());
    let access_deps = weir_access::Deps {
        service: "gateway",
        control: transport.clone(),
        bus: None,
        clock: Arc::new(clock.clone()),
        metrics: metrics.clone(),
    };
    let deps = Deps {
        access: Access::build(access, access_deps),
        orchestrator: transport.clone(),
        control: transport.clone(),
        billing: transport.clone(),
        analytics: transport.clone(),
        ingestion: transport.clone(),
        router: transport,
        realtime,
        identity: Arc::new(Identity::generate("gateway", Arc::new(clock.clone())).unwrap()),
        metrics: metrics.clone(),
        clock: Arc::new(clock.clone()),
        tasks: tasks.clone(),
    };
    let tenant = TenantId::new();
    let key = fakes.add_key(tenant, |_| {});
    let admin = assemble(KeyKind::Admin, KeyId::new(), &[1; 32]);
    let grant = KeyGrant { scopes: vec![scope::PLATFORM_ADMIN.to_owned()], ..Default::default() };
    fakes.0.keys.lock().insert(sha256(&admin), grant);
    let edge = build(config, deps).unwrap();
    House { app: edge.http(), edge, fakes, metrics, clock, tasks, tenant, key, admin }
}

fn limits(requests: Option<u64>, tokens: Option<u64>) -> impl FnOnce(&mut KeyGrant) {
    move |grant| {
        grant.rate_limits = Some(RateLimits { requests_per_minute: requests, tokens_per_minute: tokens });
    }
}

/// A request under way to being sent.
struct Ask(http::request::Builder, Body);

fn get(path: &str) -> Ask {
    Ask(Request::get(path), Body::empty())
}

fn post(path: &str, body: &Value) -> Ask {
    Ask(Request::post(path).header("content-type", "application/json"), Body::from(body.to_string()))
}

fn chat(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "hello" }] })
}

fn streamed(model: &str) -> Value {
    json!({ "model": model, "stream": true, "messages": [{ "role": "user", "content": "hello" }] })
}

impl Ask {
    fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value), self.1)
    }

    fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    fn method(self, method: Method) -> Self {
        Self(self.0.method(method), self.1)
    }

    fn body(self, body: impl Into<Body>) -> Self {
        Self(self.0, body.into())
    }

    async fn send(self, house: &House) -> Response<Body> {
        house.app.clone().oneshot(self.0.body(self.1).unwrap()).await.unwrap()
    }

    /// Sends it and reads a JSON answer.
    async fn json(self, house: &House) -> (StatusCode, Value) {
        let response = self.send(house).await;
        (response.status(), body_json(response).await)
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|v| v.to_str().unwrap())
}

async fn body_bytes(response: Response<Body>) -> Bytes {
    let body =
        tokio::time::timeout(SOON, response.into_body().collect()).await.expect("the body never ended");
    body.unwrap().to_bytes()
}

async fn body_text(response: Response<Body>) -> String {
    String::from_utf8(body_bytes(response).await.to_vec()).unwrap()
}

async fn body_json(response: Response<Body>) -> Value {
    serde_json::from_slice(&body_bytes(response).await).unwrap()
}

async fn next_frame(body: &mut Body) -> Option<String> {
    let frame = tokio::time::timeout(SOON, body.frame()).await.expect("no frame came")?;
    Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("{what}: never"));
}
