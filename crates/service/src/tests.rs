//! Services in one process and apart, over real sockets: who reaches whom, what is refused before anything serves.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::State, routing::get};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::{Request, Response, Status, service::Routes};
use weir_config::Sources;
use weir_error::Error;
use weir_proto::realtime::{
    CountSessionsRequest, CountSessionsResponse,
    realtime_client::RealtimeClient,
    realtime_server::{Realtime, RealtimeServer},
};
use weir_rpc::Transport;
use weir_types::{Clock, RequestContext, SystemClock};

use crate::{Doors, House, Keys, Name, Room, Service, load};

const GRACE: Duration = Duration::from_secs(10);

/// Answers anybody who is known.
struct Fake;

#[tonic::async_trait]
impl Realtime for Fake {
    async fn count_sessions(
        &self,
        request: Request<CountSessionsRequest>,
    ) -> Result<Response<CountSessionsResponse>, Status> {
        weir_rpc::context(&request)?;
        Ok(Response::new(CountSessionsResponse { active: 7 }))
    }
}

const REALTIME: Service = Service::new(Name::Realtime, |_| {
    Box::pin(async { Ok(Room::grpc(Routes::new(RealtimeServer::new(Fake)))) })
});

/// Asks realtime whenever it is asked. Built before it.
const GATEWAY: Service = Service::new(Name::Gateway, |site| {
    Box::pin(async move {
        let app = Router::new().route("/ask", get(ask)).with_state(site.peer(Name::Realtime)?);
        Ok(Room::http(app))
    })
});

async fn ask(State(realtime): State<Transport>) -> String {
    let call = weir_rpc::request(&RequestContext::service("gateway"), CountSessionsRequest {});
    match RealtimeClient::new(realtime).count_sessions(call).await {
        Ok(answer) => answer.get_ref().active.to_string(),
        Err(status) => format!("{:?}", status.code()),
    }
}

async fn door() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn start(settings: &[(String, String)], services: &[Service]) -> anyhow::Result<House> {
    let mut sources = Sources::default();
    for (key, value) in settings {
        sources.set(key, value, "the test");
    }
    let mut all = Vec::new();
    for &service in services {
        all.push((service, Doors::one(door().await)));
    }
    House::start(load(&sources)?, all).await
}

fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn http(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// As `weir keys` prints them, and as a process reads them.
fn keys_of(name: Name, keys: &Keys) -> Vec<(String, String)> {
    let key = |variable: &str| variable.trim_start_matches("WEIR_").to_ascii_lowercase().replace("__", ".");
    keys.of(name).into_iter().map(|(variable, value)| (key(&variable), value)).collect()
}

fn fresh_keys() -> Keys {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Keys::generate(&Name::ALL, &clock).unwrap()
}

#[tokio::test]
async fn services_of_one_process_need_no_address_and_no_key() {
    let house = start(&[], &[GATEWAY, REALTIME]).await.unwrap();
    let gateway = house.address(Name::Gateway).unwrap();
    assert_eq!(http(gateway, "/ask").await, (200, "7".to_owned()));
    for path in ["/live", "/ready", "/health", "/metrics", "/info"] {
        assert_eq!(http(gateway, path).await.0, 200, "{path}");
    }
    assert!(house.stop(GRACE).await);
}

#[tokio::test]
async fn services_apart_know_each_other_by_their_keys() {
    let keys = fresh_keys();
    let realtime = start(&keys_of(Name::Realtime, &keys), &[REALTIME]).await.unwrap();
    let peer = ("peers.realtime".to_owned(), format!("http://{}", realtime.address(Name::Realtime).unwrap()));
    for (keys, answer, says) in [
        (keys, "7", "\"status\":\"ok\""),
        (fresh_keys(), "Unavailable", "\"error\":\"realtime does not know this service\""),
    ] {
        let mut settings = keys_of(Name::Gateway, &keys);
        settings.push(peer.clone());
        let gateway = start(&settings, &[GATEWAY]).await.unwrap();
        let asked = http(gateway.address(Name::Gateway).unwrap(), "/ask").await;
        assert_eq!(asked, (200, answer.to_owned()));
        let (status, health) = http(gateway.address(Name::Gateway).unwrap(), "/health").await;
        assert!(status == 200 && health.contains(says), "{health}");
        assert_eq!(health.contains("degraded"), answer != "7", "{health}");
        assert!(gateway.stop(GRACE).await);
    }
    // It starts although its peer is gone, and says so to those who ask.
    assert!(realtime.stop(GRACE).await);
    let mut settings = keys_of(Name::Gateway, &fresh_keys());
    settings.push(peer);
    let gateway = start(&settings, &[GATEWAY]).await.unwrap();
    assert_eq!(http(gateway.address(Name::Gateway).unwrap(), "/ask").await.1, "Unavailable");
    let (_, health) = http(gateway.address(Name::Gateway).unwrap(), "/health").await;
    assert!(health.contains("degraded") && health.contains("realtime cannot be reached"), "{health}");
    assert!(gateway.stop(GRACE).await);
}

#[tokio::test]
async fn a_wrong_setting_is_named_with_its_source() {
    let key = "A".repeat(43);
    for (wrong, expected) in [
        (
            settings(&[]),
            "default: `identity.keys.gateway` is not set (WEIR_IDENTITY__KEYS__GATEWAY): gateway calls realtime",
        ),
        (
            settings(&[("identity.keys.gateway", "hunter2")]),
            "the test: `identity.keys.gateway` must be 32 bytes",
        ),
        (
            settings(&[("identity.trusted.control", "hunter2")]),
            "the test: `identity.trusted.control` must be public Ed25519 keys",
        ),
        (settings(&[("identity.keys.nobody", &key)]), "the test: `identity.keys.nobody` "),
        (
            settings(&[("identity.keys.gateway", &key), ("peers.realtime", "https://realtime")]),
            "the test: `peers.realtime` must be of the form http://host:port",
        ),
        (settings(&[("peers.nobody", "http://x")]), "the test: `peers.nobody` "),
        (settings(&[("listne.port", "1")]), "the test: `listne` is not a known section"),
    ] {
        let error = format!("{:#}", start(&wrong, &[GATEWAY]).await.err().unwrap());
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn what_a_service_finds_wrong_with_its_section_is_named_with_its_source() {
    const PICKY: Service = Service::new(Name::Router, |_| {
        Box::pin(async { Err(Error::invalid("aliases.x", "aliases.x: a cycle").into()) })
    });
    const PROUD: Service = Service::new(Name::Gateway, |_| {
        Box::pin(async { Err(Error::invalid("gateway.cors_origins", "\"x\" is not an origin").into()) })
    });
    for (service, key, expected) in [
        (PICKY, "router.aliases.x.model", "router: the test: `router.aliases.x` a cycle"),
        (PROUD, "gateway.cors_origins", "gateway: the test: `gateway.cors_origins` \"x\" is not an origin"),
    ] {
        let error = start(&settings(&[(key, "x")]), &[service]).await.err().unwrap();
        assert_eq!(format!("{error:#}"), expected);
    }
}

#[tokio::test]
async fn with_an_ops_port_the_other_one_shows_nothing_of_the_inside() {
    let doors = Doors { service: door().await, ops: Some(door().await) };
    let (public, ops) =
        (doors.service.local_addr().unwrap(), doors.ops.as_ref().unwrap().local_addr().unwrap());
    let settings = load(&Sources::default()).unwrap();
    let house = House::start(settings, vec![(REALTIME, doors)]).await.unwrap();
    for (path, status) in
        [("/live", 200), ("/ready", 200), ("/health", 404), ("/metrics", 404), ("/info", 404)]
    {
        assert_eq!((http(public, path).await.0, http(ops, path).await.0), (status, 200), "{path}");
    }
    assert!(house.stop(GRACE).await);
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_door_open() {
    const BROKEN: Service =
        Service::new(Name::Realtime, |_| Box::pin(async { Err(anyhow::anyhow!("cannot")) }));
    let (first, second) = (door().await, door().await);
    let address = first.local_addr().unwrap();
    let all = vec![(BROKEN, Doors::one(second)), (REALTIME_AS_ROUTER, Doors::one(first))];
    assert!(House::start(load(&Sources::default()).unwrap(), all).await.is_err());
    assert!(TcpStream::connect(address).await.is_err());
}

const REALTIME_AS_ROUTER: Service = Service::new(Name::Router, |_| {
    Box::pin(async { Ok(Room::grpc(Routes::new(RealtimeServer::new(Fake)))) })
});

#[test]
fn every_service_has_keys_of_both_kinds_and_no_secret_half_but_its_own() {
    let keys = fresh_keys();
    let variables: Vec<_> = keys.variables().map(|(variable, _)| variable).collect();
    assert_eq!(variables.len(), 16);
    for name in Name::ALL {
        let upper = name.as_str().to_ascii_uppercase();
        for variable in [format!("WEIR_IDENTITY__KEYS__{upper}"), format!("WEIR_IDENTITY__TRUSTED__{upper}")]
        {
            assert!(variables.contains(&variable), "{variable}");
        }
        let secrets = keys.of(name).into_iter().filter(|(variable, _)| variable.contains("KEYS")).count();
        assert_eq!(secrets, 1);
    }
}

#[tokio::test]
async fn a_database_that_is_not_fit_is_refused_with_what_to_do() {
    const STORING: Service = Service::new(Name::Billing, |site| {
        Box::pin(async move {
            site.database().await?;
            Ok(Room::default())
        })
    });
    let postgres = weir_testkit::Postgres::shared().await.unwrap();
    // The services' login belongs to the whole server: it is there once any database of it was migrated.
    let role = weir_db::AppRole::new(
        weir_testkit::APP_ROLE,
        secrecy::SecretString::from(weir_testkit::APP_PASSWORD),
    );
    let migrate = |url: String| async move { weir_db::migrate(&url, &role).await };
    postgres.database(&weir_db::fingerprint(), migrate).await.unwrap();
    let empty = postgres.empty().await.unwrap();
    for (url, expected) in [
        (
            &empty.app_url,
            "billing: the test: `database.url` cannot be used: the database has no schema yet: run `weir migrate`",
        ),
        (&empty.admin_url, "`database.url` cannot be used: the role "),
        (&"mysql://u:hunter2@h/x".to_owned(), "billing: the test: `database.url` is not a database URL like"),
    ] {
        let error = start(&settings(&[("database.url", url)]), &[STORING]).await.err().unwrap();
        let error = format!("{error:#}");
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
    }
    let error = format!("{:#}", start(&[], &[STORING]).await.err().unwrap());
    assert!(error.starts_with("billing: default: `database.url` is not set"), "{error}");
}

#[tokio::test]
async fn a_service_starts_while_nats_is_away() {
    const TELLING: Service = Service::new(Name::Billing, |site| {
        Box::pin(async move {
            site.bus().await?;
            Ok(Room::default())
        })
    });
    let nobody = door().await.local_addr().unwrap();
    let house = start(&settings(&[("nats.url", &format!("nats://{nobody}"))]), &[TELLING]).await.unwrap();
    house.ready().await;
    let (status, health) = http(house.address(Name::Billing).unwrap(), "/health").await;
    assert_eq!(status, 200);
    assert!(health.contains("\"degraded\""), "{health}");
    assert!(house.stop(GRACE).await);
    let error = start(&settings(&[("nats.url", "nats://:x:y")]), &[TELLING]).await.err().unwrap();
    assert!(format!("{error:#}").starts_with("billing: the test: `nats.url` cannot be used"), "{error:#}");
}
