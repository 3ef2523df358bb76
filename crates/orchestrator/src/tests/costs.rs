//! What requests cost, and who is told.

use super::*;

/// Nine tokens at a dollar a million, two at four dollars.
const COST: u64 = 9_000 + 8_000;
const ROW: &str = "priced/m@2026-01-01";

async fn end(house: &House, stream: bool, include_usage: bool) -> (String, Option<u64>) {
    let mut frames = house.ask("m", stream, include_usage).await.unwrap();
    let (mut text, mut cost) = (Vec::new(), None);
    while let Some(frame) = frames.message().await.unwrap() {
        match frame.frame.unwrap() {
            Frame::Head(_) => {}
            Frame::Data(d) => text.extend_from_slice(&d.bytes),
            Frame::End(e) => cost = e.cost_nano_usd,
        }
    }
    (String::from_utf8(text).unwrap(), cost)
}

#[tokio::test]
async fn a_request_costs_what_its_provider_s_prices_say() {
    let house = House::new(&[("priced", provider(plain).await)], Transport::absent("router")).await;
    assert_eq!(end(&house, false, false).await.1, Some(COST));
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts[0].cost_nano_usd, attempts[0].price_row.as_str()), (Some(COST), ROW));
    assert_eq!((request.cost_nano_usd, request.price_row.as_str()), (Some(COST), ROW));
}

#[tokio::test]
async fn without_a_price_nobody_knows() {
    let house = House::new(&[("one", provider(plain).await)], Transport::absent("router")).await;
    assert_eq!(end(&house, false, false).await.1, None);
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts[0].cost_nano_usd, request.cost_nano_usd), (None, None));
}

#[tokio::test]
async fn the_chunk_with_the_usage_tells_the_cost() {
    let good = || events(&[CHUNK, LAST, USAGE, "data: [DONE]"]);
    let house = House::new(&[("priced", provider(good).await)], Transport::absent("router")).await;
    let (text, cost) = end(&house, true, true).await;
    assert_eq!(cost, Some(COST));
    let chunk = text.split("\n\n").find(|event| event.contains("\"usage\":{")).unwrap();
    let chunk: serde_json::Value = serde_json::from_str(chunk.strip_prefix("data: ").unwrap()).unwrap();
    let told = serde_json::json!({"cost_usd": "0.000017", "provider": "priced", "model": "m"});
    assert_eq!((&chunk["weir"], &chunk["usage"]["prompt_tokens"]), (&told, &9.into()));
    assert!(!end(&house, true, false).await.0.contains("weir"));
}

#[tokio::test]
async fn a_refused_attempt_costs_nothing_and_a_silent_one_nobody_knows() {
    for (first, total) in [("a-refuses", Some(COST)), ("a-hangs-up", None)] {
        let failing = if first == "a-refuses" { provider(refusing).await } else { silent().await };
        let providers = [(first, failing), ("priced", provider(plain).await)];
        let house = House::new(&providers, Transport::absent("router")).await;
        assert_eq!(end(&house, false, false).await.1, total, "{first}");
        let (attempts, request) = house.metered().await;
        let refused = (first == "a-refuses").then_some(0);
        assert_eq!((attempts[0].cost_nano_usd, attempts[1].cost_nano_usd), (refused, Some(COST)), "{first}");
        assert_eq!(request.cost_nano_usd, total, "{first}");
    }
}

fn refusing() -> axum::response::Response {
    (StatusCode::SERVICE_UNAVAILABLE, "{}").into_response()
}

/// Takes requests and hangs up.
async fn silent() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as its test's runtime")]
    tokio::spawn(async move {
        use tokio::io::AsyncReadExt as _;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 1_024];
            drop(stream.read(&mut some).await);
        }
    });
    address
}

#[tokio::test]
async fn prices_that_make_no_sense_stop_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prices.toml");
    std::fs::write(&file, "[[price]]\nvendor = 7\n").unwrap();
    let nats = Nats::start().await.unwrap();
    let metrics = Metrics::new();
    let nats_config = NatsConfig { url: nats.url().into(), ..NatsConfig::default() };
    for file in [file, dir.path().join("none.toml")] {
        let bus = Bus::connect(&nats_config, EventMetrics::default()).await.unwrap();
        let config = Config {
            spool_dir: dir.path().join("spool"),
            prices_file: Some(file.clone()),
            ..Config::default()
        };
        let deps = Deps {
            database: None,
            router: Transport::absent("router"),
            bus,
            kv: weir_kv::Kv::memory(),
            metrics: metrics.clone(),
            clock: Arc::new(SystemClock),
        };
        let error = build(&config, deps).map(drop).unwrap_err();
        assert!(error.chain().contains("orchestrator.prices_file"), "{}", error.chain());
    }
}
