//! With a real Redis that is killed and started again.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weir_config::ByteSize;
use weir_kv::{Backend, Config, Key, Kv};
use weir_runtime::Tasks;
use weir_telemetry::Metrics;
use weir_testkit::Redis;
use weir_types::TenantId;

const TTL: Duration = Duration::from_secs(600);

fn config(url: &str) -> Config {
    // Generous: a busy test machine is no lost Redis.
    Config { url: Some(url.into()), timeout: Duration::from_secs(5), ..Config::default() }
}

async fn until(kv: &Kv, backend: Backend) {
    let arrived = async {
        while kv.backend() != backend {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), arrived)
        .await
        .unwrap_or_else(|_| panic!("never {backend:?}"));
}

#[tokio::test]
async fn all_operations_in_both_backends() {
    let redis = Redis::start().await;
    let tasks = Tasks::new();
    let mut stores = vec![Kv::memory()];
    if let Some(redis) = &redis {
        let kv = Kv::new(&config(&redis.url()), &Metrics::new(), &tasks).unwrap();
        until(&kv, Backend::Redis).await;
        stores.push(kv);
    }
    for kv in stores {
        let key = |id: &str| Key::tenant(TenantId::new(), "test", id);
        let (a, n, s, x) = (key("a"), key("n"), key("s"), key("x"));
        assert_eq!(kv.get(&a).await, None);
        kv.set(&a, &b"\0\xff"[..], TTL).await;
        assert_eq!(kv.get(&a).await.as_deref(), Some(&b"\0\xff"[..]));
        kv.delete(&a).await;
        assert_eq!(kv.get(&a).await, None);
        assert_eq!((kv.incr(&n, 5, TTL).await, kv.incr(&n, -2, TTL).await), (5, 3));
        assert_eq!(kv.get(&n).await.as_deref(), Some(&b"3"[..]));
        assert!(kv.set_new(&s, "1", TTL).await);
        assert!(!kv.set_new(&s, "2", TTL).await);
        assert_eq!(kv.get(&s).await.as_deref(), Some(&b"1"[..]));
        kv.set(&x, "no number", TTL).await;
        assert_eq!(kv.incr(&x, 7, TTL).await, 7, "what is no number starts over");
        kv.set(&a, "short", Duration::from_millis(1)).await;
        let gone = async {
            while kv.get(&a).await.is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("a value ends");
        assert_eq!(kv.health().await, Ok(()));
    }
    assert!(tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_lost_redis_is_replaced_by_memory_and_taken_back() {
    let Some(redis) = Redis::start().await else { return };
    let (tasks, metrics) = (Tasks::new(), Metrics::new());
    let kv = Kv::new(&config(&redis.url()), &metrics, &tasks).unwrap();
    let other = Kv::new(&config(&redis.url()), &Metrics::new(), &tasks).unwrap();
    until(&kv, Backend::Redis).await;
    until(&other, Backend::Redis).await;
    let [before, during, dropped] = ["before", "during", "dropped"].map(|id| Key::global("test", id));
    kv.set(&before, "1", TTL).await;
    assert_eq!(other.get(&before).await.as_deref(), Some(&b"1"[..]), "both see one Redis");

    redis.stop().await.unwrap();
    kv.set(&during, "2", TTL).await;
    assert_eq!(kv.backend(), Backend::Memory);
    assert_eq!(kv.get(&during).await.as_deref(), Some(&b"2"[..]));
    assert_eq!(kv.incr(&Key::global("test", "n"), 1, TTL).await, 1);
    kv.delete(&dropped).await;
    assert!(kv.health().await.is_err());
    for _ in 0..100 {
        kv.get(&before).await;
    }
    let text = metrics.encode();
    assert!(text.contains("kv_redis_connected 0\n"), "{text}");
    assert!(
        text.contains("kv_backend_changes_total{backend=\"memory\"} 1\n"),
        "once, not once a call: {text}"
    );

    redis.restart().await.unwrap();
    until(&kv, Backend::Redis).await;
    // A first call of this one may be what finds the loss.
    other.get(&during).await;
    until(&other, Backend::Redis).await;
    assert_eq!(
        other.get(&during).await.as_deref(),
        Some(&b"2"[..]),
        "what was written meanwhile is handed over"
    );
    assert_eq!(kv.get(&during).await.as_deref(), Some(&b"2"[..]));
    assert!(metrics.encode().contains("kv_redis_connected 1\n"));
    assert!(tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_redis_that_accepts_and_never_answers_stalls_nobody() {
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://:hunter2@{}", hanging.local_addr().unwrap());
    let tasks = Tasks::new();
    let config = Config {
        url: Some(url.into()),
        connect_timeout: Duration::from_secs(3600),
        timeout: Duration::from_secs(3600),
        max_bytes: ByteSize::mib(1),
        ..Config::default()
    };
    let kv = Kv::new(&config, &Metrics::new(), &tasks).unwrap();
    let (_socket, _) = hanging.accept().await.unwrap();
    let key = Key::global("test", "k");
    kv.set(&key, "v", TTL).await;
    assert_eq!(kv.get(&key).await.as_deref(), Some(&b"v"[..]));
    assert!(kv.health().await.is_err());
    assert!(!format!("{config:?} {kv:?}").contains("hunter2"));
    assert!(tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_redis_that_stops_answering_stalls_nobody_for_long() {
    let Some(redis) = Redis::start().await else { return };
    let tasks = Tasks::new();
    let config = Config { timeout: Duration::from_millis(500), ..config(&redis.url()) };
    let kv = Kv::new(&config, &Metrics::new(), &tasks).unwrap();
    until(&kv, Backend::Redis).await;
    let mut admin = tokio::net::TcpStream::connect(redis.url().trim_start_matches("redis://")).await.unwrap();
    admin.write_all(b"CLIENT PAUSE 600000 ALL\r\n").await.unwrap();
    admin.read_exact(&mut [0; 5]).await.unwrap();

    let key = Key::global("test", "paused");
    let calls = async {
        for _ in 0..1000 {
            kv.set(&key, "v", TTL).await;
            assert_eq!(kv.get(&key).await.as_deref(), Some(&b"v"[..]));
        }
    };
    // 2,000 calls at half a second each would take far longer than this.
    tokio::time::timeout(Duration::from_secs(60), calls).await.expect("one call waits, the others do not");
    assert_eq!(kv.backend(), Backend::Memory);
    assert!(tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_wrong_address_is_told_without_the_password() {
    let config = Config { url: Some("http://:hunter2@host".into()), ..Config::default() };
    let error = Kv::new(&config, &Metrics::new(), &Tasks::new()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let off = Config { enabled: false, ..config };
    assert_eq!(Kv::new(&off, &Metrics::new(), &Tasks::new()).unwrap().backend(), Backend::Memory);
}
