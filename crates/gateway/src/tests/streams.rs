//! Event streams: order, silence, failures, and clients that leave.

use std::sync::atomic::Ordering;

use super::*;
use crate::tests::fakes::EVENTS;

const KEEP_ALIVE: &str = ": keep-alive\n\n";

fn impatient() -> House {
    let config = Config { keep_alive: Duration::from_millis(20), ..Config::default() };
    house_with(config, weir_access::Config::default(), None)
}

async fn start(house: &House, model: &str) -> Response<Body> {
    post("/v1/chat/completions", &streamed(model)).key(&house.key).send(house).await
}

/// The events of a stream without its comments.
async fn rest(mut body: Body) -> String {
    let mut text = String::new();
    while let Some(frame) = next_frame(&mut body).await {
        if frame != KEEP_ALIVE {
            assert!(frame.starts_with("data: ") && frame.ends_with("\n\n"), "{frame:?} is not whole events");
            text.push_str(&frame);
        }
    }
    text
}

fn error_of(events: &str) -> Value {
    let events = events.strip_suffix("data: [DONE]\n\n").expect("no [DONE] at the end");
    let last = events.trim_end().rsplit("\n\n").next().unwrap();
    let json: String = last.lines().map(|line| line.strip_prefix("data: ").unwrap()).collect();
    serde_json::from_str::<Value>(&json).unwrap()["error"].take()
}

#[tokio::test]
async fn events_come_as_they_are() {
    let house = house();
    let response = start(&house, "sim-1").await;
    assert_eq!(response.status(), StatusCode::OK);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
        ("x-weir-provider", "sim"),
        ("x-weir-model", "sim-1"),
    ] {
        assert_eq!(header(&response, name), Some(value), "{name}");
    }
    assert_eq!(header(&response, "content-length"), None);
    let mut body = response.into_body();
    for event in EVENTS {
        assert_eq!(next_frame(&mut body).await.as_deref(), Some(event));
    }
    assert_eq!(next_frame(&mut body).await, None);
}

#[tokio::test]
async fn silence_is_filled_between_events_only() {
    let house = impatient();
    let response = start(&house, "pausing").await;
    let mut body = response.into_body();
    // A slow machine may be silent before the first event, too.
    let mut first = next_frame(&mut body).await;
    while first.as_deref() == Some(KEEP_ALIVE) {
        first = next_frame(&mut body).await;
    }
    assert_eq!(first.as_deref(), Some(EVENTS[0]));
    for _ in 0..3 {
        assert_eq!(next_frame(&mut body).await.as_deref(), Some(KEEP_ALIVE));
    }
    house.fakes.release();
    assert_eq!(rest(body).await, EVENTS[1..].concat());
}

#[tokio::test]
async fn a_model_that_thinks_long_is_waited_for() {
    let house = impatient();
    let response = start(&house, "thinking").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(header(&response, "x-weir-provider"), None);
    let mut body = response.into_body();
    for _ in 0..2 {
        assert_eq!(next_frame(&mut body).await.as_deref(), Some(KEEP_ALIVE));
    }
    house.fakes.release();
    assert_eq!(rest(body).await, EVENTS.concat());
}

#[tokio::test]
async fn anthropic_s_streams_are_kept_open_and_ended_in_their_own_way() {
    const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    let messages = |model: &str| {
        let ask = json!({"model": model, "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "x"}]});
        post("/v1/messages", &ask)
    };
    let house = impatient();
    let response = messages("thinking-then-failing").key(&house.key).send(&house).await;
    let mut body = response.into_body();
    for _ in 0..2 {
        assert_eq!(next_frame(&mut body).await.as_deref(), Some(PING));
    }
    house.fakes.release();
    let mut text = String::new();
    while let Some(frame) = next_frame(&mut body).await {
        text.push_str(&frame);
    }
    let text = text.replace(PING, "");
    let events: Vec<_> = text.split_terminator("\n\n").map(|event| event.lines().next().unwrap()).collect();
    assert_eq!(events, ["event: error", "event: message_stop"], "{text}");
    let house = super::house();
    let response = messages("blocks-then-cut").key(&house.key).send(&house).await;
    let mut body = response.into_body();
    let mut text = String::new();
    while let Some(frame) = next_frame(&mut body).await {
        text.push_str(&frame);
    }
    let events: Vec<_> = text.split_terminator("\n\n").map(|event| event.lines().next().unwrap()).collect();
    let expected =
        ["event: content_block_start", "event: content_block_stop", "event: error", "event: message_stop"];
    assert_eq!(events, expected, "{text}");
}

#[tokio::test]
async fn failures_after_the_answer_began_are_events() {
    for (model, code, message) in [
        ("thinking-then-failing", json!("upstream_failed"), "the provider broke off"),
        ("thinking-then-refusing", Value::Null, "slow down"),
    ] {
        let house = impatient();
        let response = start(&house, model).await;
        assert_eq!(response.status(), StatusCode::OK);
        house.fakes.release();
        let error = error_of(&rest(response.into_body()).await);
        assert_eq!((&error["code"], &error["message"]), (&code, &json!(message)), "{model}");
    }
}

#[tokio::test]
async fn a_stream_that_fails_midway_says_so_and_ends() {
    let house = house();
    for (model, message) in [("cut", "the provider broke off"), ("unfinished", "the answer broke off")] {
        let response = start(&house, model).await;
        let events = rest(response.into_body()).await;
        assert!(events.starts_with(EVENTS[0]), "{events}");
        let error = error_of(&events);
        assert_eq!((&error["code"], &error["message"]), (&json!("upstream_failed"), &json!(message)));
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_call() {
    let house = house();
    let dropped = || house.fakes.0.dropped.load(Ordering::SeqCst);
    let mut response = start(&house, "hanging").await;
    assert_eq!(next_frame(response.body_mut()).await.as_deref(), Some(EVENTS[0]));
    assert_eq!(house.metrics.active_streams().get(), 1);
    assert_eq!(dropped(), 0);
    drop(response);
    wait_until("the stream is cancelled", || dropped() == 1).await;
    assert_eq!(house.metrics.active_streams().get(), 0);

    let mut plain = Box::pin(post("/v1/chat/completions", &chat("hanging")).key(&house.key).send(&house));
    let called = house.fakes.called("complete");
    while house.fakes.called("complete") == called {
        assert!(futures_util::poll!(&mut plain).is_pending());
        tokio::task::yield_now().await;
    }
    drop(plain);
    wait_until("the plain call is cancelled", || dropped() == 2).await;
    assert!(house.metrics.encode().contains("method=\"POST\",status=\"499\"} 1"));
}

#[tokio::test]
async fn a_cancelled_call_keeps_its_estimate() {
    let house = house();
    let key = house.fakes.add_key(TenantId::new(), limits(None, Some(100_000)));
    let mut body = streamed("hanging");
    body["max_tokens"] = 50_000.into();
    let response = post("/v1/chat/completions", &body).key(&key).send(&house).await;
    drop(response);
    let response = post("/v1/chat/completions", &chat("sim-1")).key(&key).send(&house).await;
    let left: u64 = header(&response, "x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    assert!((49_000..60_000).contains(&left), "{left}");
}

/// How much is left to a tenant whose tokens are limited, after one small call more.
async fn left(house: &House, key: &str) -> u64 {
    let response = post("/v1/chat/completions", &chat("sim-1")).key(key).send(house).await;
    header(&response, "x-ratelimit-remaining-tokens").unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_client_that_hangs_up_pays_for_what_it_has_read() {
    let house = house();
    let key = house.fakes.add_key(TenantId::new(), limits(None, Some(1_000)));
    let response = post("/v1/chat/completions", &streamed("chatty")).key(&key).send(&house).await;
    let mut body = response.into_body();
    assert!(next_frame(&mut body).await.is_some());
    drop(body);
    // 600 events were read, the estimate was 100 and the prompt; 16 tokens come in a second.
    let left = left(&house, &key).await;
    assert!(left < 700, "{left}");
}

#[tokio::test]
async fn a_call_that_a_provider_may_have_worked_for_keeps_its_estimate() {
    for stream in [true, false] {
        let house = house();
        house.fakes.release();
        let key = house.fakes.add_key(TenantId::new(), limits(None, Some(100_000)));
        let mut body = if stream { streamed("thinking-then-failing") } else { chat("thinking-then-failing") };
        body["max_tokens"] = 50_000.into();
        let response = post("/v1/chat/completions", &body).key(&key).send(&house).await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        let left = left(&house, &key).await;
        assert!((49_000..90_000).contains(&left), "{left}");
    }
}

/// The clock stands still but for what the stream itself waits.
#[tokio::test(start_paused = true)]
async fn streams_of_a_tenant_that_is_paced_wait_between_their_events() {
    for (rate, least, most) in [(None, 0, 0), (std::num::NonZeroU32::new(1), 2, 6)] {
        let access = weir_access::Config {
            stream_tokens_per_second_per_tenant: rate,
            ..weir_access::Config::default()
        };
        let house = house_with(Config::default(), access, None);
        let from = tokio::time::Instant::now();
        let response = start(&house, "sim-1").await;
        assert_eq!(rest(response.into_body()).await, EVENTS.concat());
        // Four events: one may go at once, and nobody waits after the last.
        let waited = from.elapsed().as_secs();
        assert!((least..=most).contains(&waited), "{rate:?}: {waited} s");
    }
}
