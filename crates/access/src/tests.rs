//! Keys and tenants against a control plane that the test plays.

mod pushes;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::watch;
use tonic::{Request, Response, Status, service::Routes};
use weir_events::Bucket;
use weir_proto::control::{
    self, GetTenantRequest, KeyChange, KeyGrant, RateLimits, ResolveKeyRequest, TenantState,
    api_keys_server::{ApiKeys, ApiKeysServer},
    tenants_server::{Tenants, TenantsServer},
};
use weir_testkit::until;
use weir_types::{
    KeyId, ManualClock, Principal,
    api_key::{KeyKind, assemble},
    scope,
};

use super::*;
use crate::ticker::ms;

const NOW_MS: i64 = 1_700_000_000_000;

#[derive(Clone)]
struct FakeControl(Arc<State>);

struct State {
    keys: Mutex<HashMap<Vec<u8>, KeyGrant>>,
    tenants: Mutex<HashMap<String, RateLimits>>,
    asked: AtomicUsize,
    down: AtomicBool,
    /// While true, questions wait.
    held: watch::Sender<bool>,
}

impl FakeControl {
    async fn answer<T>(&self, found: impl FnOnce(&State) -> Option<T>) -> Result<Response<T>, Status> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let found = found(&self.0);
        self.0
            .held
            .subscribe()
            .wait_for(|held| !held)
            .await
            .map_err(|_| Status::cancelled("test is over"))?;
        if self.0.down.load(Ordering::SeqCst) {
            return Err(Status::unavailable("connection refused"));
        }
        found.map(Response::new).ok_or_else(|| Error::new(Code::NotFound, "no such thing").into())
    }
}

#[tonic::async_trait]
impl ApiKeys for FakeControl {
    async fn resolve_key(&self, request: Request<ResolveKeyRequest>) -> Result<Response<KeyGrant>, Status> {
        let ctx = weir_rpc::context(&request)?;
        assert_eq!(ctx.principal, Principal::Service("gateway".into()));
        let hash = request.into_inner().sha256;
        self.answer(|state| state.keys.lock().get(hash.as_ref()).cloned()).await
    }
}

#[tonic::async_trait]
impl Tenants for FakeControl {
    async fn get_tenant(
        &self,
        request: Request<GetTenantRequest>,
    ) -> Result<Response<control::Tenant>, Status> {
        let id = request.into_inner().id;
        let tenant = |state: &State| {
            let rate_limits = state.tenants.lock().get(&id).copied();
            rate_limits.map(|l| control::Tenant {
                id: id.clone(),
                rate_limits: Some(l),
                ..Default::default()
            })
        };
        self.answer(tenant).await
    }
}

struct House {
    control: FakeControl,
    access: Access,
    ticker: Ticker,
    clock: ManualClock,
}

struct Key {
    id: KeyId,
    tenant: TenantId,
    text: String,
}

fn house(config: Config) -> House {
    house_on(config, None)
}

fn house_on(config: Config, bus: Option<Bus>) -> House {
    let control = FakeControl(Arc::new(State {
        keys: Mutex::default(),
        tenants: Mutex::default(),
        asked: AtomicUsize::new(0),
        down: AtomicBool::new(false),
        held: watch::Sender::new(false),
    }));
    let routes =
        Routes::new(ApiKeysServer::new(control.clone())).add_service(TenantsServer::new(control.clone()));
    let (ticker, clock) = (Ticker::manual(), ManualClock::at(NOW_MS));
    let deps = Deps {
        service: "gateway",
        control: Transport::local("control", routes),
        bus,
        clock: Arc::new(clock.clone()),
        metrics: weir_telemetry::Metrics::new(),
    };
    House { access: Access::with_ticker(config, deps, ticker.clone()), control, ticker, clock }
}

fn sha256(text: &str) -> Vec<u8> {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes()).to_vec()
}

impl House {
    fn key(&self, change: impl FnOnce(&mut KeyGrant)) -> Key {
        let (id, tenant) = (KeyId::new(), TenantId::new());
        let text = assemble(KeyKind::Live, id, &[7; 32]);
        let mut grant = KeyGrant {
            key_id: id.to_string(),
            tenant_id: tenant.to_string(),
            scopes: vec![scope::CHAT_WRITE.to_owned()],
            ..Default::default()
        };
        change(&mut grant);
        self.control.0.keys.lock().insert(sha256(&text), grant);
        Key { id, tenant, text }
    }

    fn delete(&self, key: &Key) {
        self.control.0.keys.lock().remove(&sha256(&key.text));
    }

    async fn code(&self, key: &str) -> Option<Code> {
        self.access.authenticate(&RequestId::new(), key).await.err().map(|e| e.code())
    }

    async fn grant(&self, key: &Key) -> Grant {
        self.access.authenticate(&RequestId::new(), &key.text).await.unwrap()
    }

    fn asked(&self) -> usize {
        self.control.0.asked.load(Ordering::SeqCst)
    }

    fn down(&self, down: bool) {
        self.control.0.down.store(down, Ordering::SeqCst);
    }

    async fn wait_for_questions(&self, count: usize) {
        until("the question", async || (self.asked() >= count).then_some(())).await;
    }
}

fn unknown_key(n: u8) -> String {
    assemble(KeyKind::Live, KeyId::new(), &[n; 32])
}

#[tokio::test]
async fn many_who_present_the_same_key_ask_once() {
    let house = house(Config::default());
    let key = house.key(|_| {});
    house.control.0.held.send_replace(true);
    let asking = futures_util::future::join_all((0..50).map(|_| house.code(&key.text)));
    let release = async {
        house.wait_for_questions(1).await;
        house.control.0.held.send_replace(false);
    };
    let (answers, ()) = futures_util::future::join(asking, release).await;
    assert_eq!(answers, vec![None; 50]);
    assert_eq!(house.code(&key.text).await, None);
    assert_eq!(house.asked(), 1);
    let grant = house.grant(&key).await;
    assert_eq!((grant.tenant(), grant.key()), (Some(key.tenant), Some(key.id)));
    assert!(grant.has_scope(scope::CHAT_WRITE) && !grant.has_scope(scope::KEYS_MANAGE));
}

#[tokio::test]
async fn whoever_asked_first_may_leave() {
    let house = house(Config::default());
    let key = house.key(|_| {});
    house.control.0.held.send_replace(true);
    let mut first = Box::pin(house.code(&key.text));
    let mut second = Box::pin(house.code(&key.text));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    house.wait_for_questions(1).await;
    drop(first);
    house.control.0.held.send_replace(false);
    assert_eq!(second.await, None);
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn an_unknown_key_is_remembered_for_a_while_and_a_malformed_one_never_asked_about() {
    let house = house(Config::default());
    let key = unknown_key(1);
    for _ in 0..5 {
        assert_eq!(house.code(&key).await, Some(Code::InvalidApiKey));
        assert_eq!(house.code("sk-typo").await, Some(Code::InvalidApiKey));
        assert_eq!(house.code(&key[..key.len() - 1]).await, Some(Code::InvalidApiKey));
    }
    assert_eq!(house.asked(), 1);
    house.ticker.advance_ms(10_000);
    assert_eq!(house.code(&key).await, Some(Code::InvalidApiKey));
    assert_eq!(house.asked(), 2);
}

#[tokio::test]
async fn a_wrong_secret_does_not_disturb_the_right_one() {
    let house = house(Config::default());
    let key = house.key(|_| {});
    assert_eq!(house.code(&key.text).await, None);
    let forged = assemble(KeyKind::Live, key.id, &[9; 32]);
    assert_eq!(house.code(&forged).await, Some(Code::InvalidApiKey));
    assert_eq!(house.code(&key.text).await, None);
    assert_eq!(house.asked(), 2);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_from_one_address_is_cut_off() {
    let house = house(Config { unknown_keys_per_address: 5, ..Config::default() });
    let key = house.key(|_| {});
    let from = |address: &str| address.parse().ok();
    let mut codes = Vec::new();
    for n in 0..20 {
        let answer =
            house.access.authenticate_from(&RequestId::new(), &unknown_key(n), from("10.0.0.1")).await;
        codes.push(answer.unwrap_err().code());
    }
    assert_eq!(house.asked(), 5);
    assert_eq!(codes[..5], [Code::InvalidApiKey; 5]);
    assert_eq!(codes[5..], [Code::RateLimited; 15]);
    assert!(house.access.authenticate_from(&RequestId::new(), &key.text, from("10.0.0.2")).await.is_ok());
    assert!(house.access.authenticate_from(&RequestId::new(), &key.text, from("10.0.0.1")).await.is_ok());
}

#[tokio::test]
async fn an_ageing_key_is_checked_beside_the_request_it_serves() {
    let house = house(Config::default());
    let tasks = Tasks::new();
    house.access.spawn(&tasks);
    let key = house.key(|_| {});
    assert_eq!(house.code(&key.text).await, None);
    house.delete(&key);
    house.ticker.advance_ms(20_000);
    assert_eq!(house.code(&key.text).await, None, "served from memory while it is checked");
    house.wait_for_questions(2).await;
    until("the revocation", async || {
        (house.code(&key.text).await == Some(Code::InvalidApiKey)).then_some(())
    })
    .await;
    assert_eq!(house.asked(), 2);
    assert!(tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_key_whose_check_is_overdue_is_checked_first() {
    let house = house(Config::default());
    let (kept, deleted) = (house.key(|_| {}), house.key(|_| {}));
    assert_eq!(house.code(&kept.text).await, None);
    assert_eq!(house.code(&deleted.text).await, None);
    house.delete(&deleted);
    house.ticker.advance_ms(30_000);
    assert_eq!(house.code(&deleted.text).await, Some(Code::InvalidApiKey));
    assert_eq!(house.code(&kept.text).await, None);
    assert_eq!(house.asked(), 4);
}

#[tokio::test]
async fn known_keys_outlive_the_control_plane_for_an_hour() {
    let house = house(Config::default());
    let (known, new) = (house.key(|_| {}), house.key(|_| {}));
    assert_eq!(house.code(&known.text).await, None);
    house.down(true);
    house.ticker.advance_ms(3_599_000);
    for _ in 0..10 {
        assert_eq!(house.code(&known.text).await, None);
    }
    assert_eq!(house.asked(), 2, "once it is known to be down, requests don't wait for it");
    let error = house.access.authenticate(&RequestId::new(), &new.text).await.unwrap_err();
    assert_eq!((error.code(), error.retry_after()), (Code::Unavailable, Some(Duration::from_secs(1))));
    house.ticker.advance_ms(2_000);
    assert_eq!(house.code(&known.text).await, Some(Code::Unavailable));
    house.down(false);
    assert_eq!(house.code(&known.text).await, None);
    assert_eq!(house.code(&new.text).await, None);
}

/// The clock goes on when nothing else does.
#[tokio::test(start_paused = true)]
async fn a_control_plane_that_hangs_delays_one_request_and_no_more() {
    let house = house(Config {
        recheck_wait: Duration::from_secs(10),
        lookup_timeout: Duration::from_secs(10),
        ..Config::default()
    });
    let key = house.key(|_| {});
    assert_eq!(house.code(&key.text).await, None);
    house.control.0.held.send_replace(true);
    house.ticker.advance_ms(60_000);
    assert_eq!(house.code(&key.text).await, None);
    assert_eq!(house.code(&unknown_key(3)).await, Some(Code::Unavailable));
    assert!(house.access.0.lookup.is_down(house.ticker.now()));
}

#[tokio::test]
async fn a_control_plane_slower_than_a_request_waits_is_heard_all_the_same() {
    let house = house(Config {
        recheck_wait: Duration::from_millis(20),
        lookup_timeout: Duration::from_secs(60),
        ..Config::default()
    });
    let tasks = Tasks::new();
    house.access.spawn(&tasks);
    let key = house.key(|_| {});
    assert_eq!(house.code(&key.text).await, None);
    house.delete(&key);
    house.control.0.held.send_replace(true);
    house.ticker.advance_ms(30_000);
    assert_eq!(house.code(&key.text).await, None, "served from memory");
    house.control.0.held.send_replace(false);
    let presented = Presented::new(api_key::parse(&key.text).unwrap(), &key.text);
    until("the revocation", async || house.access.0.lookup.memory.get(&presented).is_none().then_some(()))
        .await;
    assert!(tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn expiry_is_looked_at_on_every_use() {
    let house = house(Config::default());
    let key = house.key(|grant| grant.expires_at_ms = NOW_MS + 1_000);
    assert_eq!(house.code(&key.text).await, None);
    house.clock.advance(999);
    assert_eq!(house.code(&key.text).await, None);
    house.clock.advance(1);
    assert_eq!(house.code(&key.text).await, Some(Code::InvalidApiKey));
}

#[tokio::test]
async fn limits_hold_across_keys_of_a_tenant_and_follow_the_control_plane() {
    let house = house(Config::default());
    let limits =
        |requests| Some(RateLimits { requests_per_minute: Some(requests), tokens_per_minute: Some(1_000) });
    let one = house.key(|grant| grant.rate_limits = limits(2));
    let other = house.key(|grant| {
        grant.rate_limits = limits(2);
        grant.tenant_id = one.tenant.to_string();
    });
    let admit = async |key: &Key| house.access.admit(&house.grant(key).await, 100);
    drop(admit(&one).await.unwrap());
    let mut permit = admit(&other).await.unwrap();
    let refused = admit(&one).await.unwrap_err();
    assert_eq!((refused.code(), refused.retry_after()), (Code::RateLimited, Some(Duration::from_secs(30))));
    assert!(refused.message().contains("2 requests per minute"), "{refused}");
    assert_eq!(permit.headers().tokens.unwrap().remaining, 800);
    permit.settle(500);
    assert_eq!(permit.headers().tokens.unwrap().remaining, 400);
    permit.settle(0);
    assert_eq!(permit.headers().tokens.unwrap().remaining, 900);

    for grant in house.control.0.keys.lock().values_mut() {
        grant.rate_limits = limits(4);
    }
    house.ticker.advance_ms(31_000);
    assert_eq!(house.code(&other.text).await, None);
    assert_eq!(house.access.rate(&house.grant(&one).await).requests.unwrap().limit, 4);

    let large = house.access.admit(&house.grant(&one).await, 1_001).unwrap_err();
    assert_eq!((large.code(), large.retry_after()), (Code::RateLimited, None));
}

#[tokio::test]
async fn a_platform_key_acts_for_tenants_that_exist_and_within_their_limits() {
    let house = house(Config::default());
    let text = assemble(KeyKind::Admin, KeyId::new(), &[1; 32]);
    let grant = KeyGrant { scopes: vec![scope::PLATFORM_ADMIN.to_owned()], ..Default::default() };
    house.control.0.keys.lock().insert(sha256(&text), grant);
    let tenant = TenantId::new();
    let limits = RateLimits { requests_per_minute: Some(1), tokens_per_minute: None };
    house.control.0.tenants.lock().insert(tenant.to_string(), limits);

    let id = RequestId::new();
    let platform = house.access.authenticate(&id, &text).await.unwrap();
    assert!(platform.is_platform() && platform.tenant().is_none());
    assert_eq!(house.access.admit(&platform, 1).unwrap_err().code(), Code::TenantRequired);

    let acting = house.access.acting_for(&platform, tenant, &id).await.unwrap();
    assert!(acting.has_scope(scope::CHAT_WRITE) && acting.has_scope(scope::PLATFORM_ADMIN));
    assert_eq!(acting.context(id.clone()).tenant, Some(tenant));
    assert!(house.access.admit(&acting, 1).is_ok());
    assert_eq!(house.access.admit(&acting, 1).unwrap_err().code(), Code::RateLimited);
    let stranger = house.access.acting_for(&platform, TenantId::new(), &id).await.unwrap_err();
    assert_eq!((stranger.code(), stranger.param()), (Code::NotFound, Some("X-Tenant-ID")));

    let asked = house.asked();
    house.down(true);
    house.ticker.advance_ms(60_000);
    assert!(house.access.acting_for(&platform, tenant, &id).await.is_ok());
    assert_eq!(house.asked(), asked + 1);
}

#[tokio::test]
async fn a_tenants_key_naming_any_other_tenant_gets_one_answer() {
    let house = house(Config::default());
    let (key, neighbour) = (house.key(|_| {}), house.key(|_| {}));
    let (id, grant) = (RequestId::new(), house.grant(&key).await);
    assert!(house.access.acting_for(&grant, key.tenant, &id).await.is_ok());
    let existing = house.access.acting_for(&grant, neighbour.tenant, &id).await.unwrap_err();
    let absent = house.access.acting_for(&grant, TenantId::new(), &id).await.unwrap_err();
    assert_eq!(existing.code(), Code::TenantMismatch);
    assert_eq!(existing.to_string(), absent.to_string());
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn the_process_takes_a_bounded_number_of_requests() {
    let house = house(Config { max_concurrent_requests: 2, ..Config::default() });
    let (one, _two) = (house.access.enter().unwrap(), house.access.enter().unwrap());
    let refused = house.access.enter().unwrap_err();
    assert_eq!((refused.code(), refused.retry_after()), (Code::Overloaded, Some(Duration::from_secs(1))));
    drop(one);
    assert!(house.access.enter().is_ok());
}
