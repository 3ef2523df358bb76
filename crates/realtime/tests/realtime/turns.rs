//! Chat turns.

use std::time::Duration;

use serde_json::json;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};
use weir_config::ByteSize;
use weir_proto::control::RateLimits;
use weir_realtime::Config;
use weir_types::scope;

use crate::{
    client::open,
    rig::{Rig, until},
    upstream::chunk,
};

#[tokio::test]
async fn one_turn_is_streamed_to_its_end() {
    let rig = Rig::start().await;
    let mut client = rig.session().await;
    let messages = json!([{"role": "user", "content": "hé"}]);
    client
        .send(json!({"type": "chat", "id": "t1", "model": "echo", "messages": messages, "stream": false, "x_new": 1.5}))
        .await;
    for content in ["hé", "!"] {
        let message = client.expect("chunk").await;
        assert_eq!((&message["id"], &message["data"]), (&json!("t1"), &chunk(content)));
    }
    let done = client.expect("done").await;
    assert_eq!(
        (&done["id"], &done["provider"], &done["model"]),
        (&json!("t1"), &json!("fake"), &json!("fake-1"))
    );
    let usage = &done["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(7), &json!(5)));
    assert_eq!(usage["total_tokens"], 12);

    let requests = rig.upstream.requests.lock();
    let (ctx, request) = &requests[0];
    assert_eq!(ctx.tenant, Some(rig.tenant));
    assert_eq!(done["request_id"], ctx.request_id.as_str());
    assert!(ctx.deadline.is_some());
    assert!(request.stream && !request.include_usage);
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body, json!({"model": "echo", "messages": messages, "stream": true, "x_new": 1.5}));
}

#[tokio::test]
async fn two_turns_share_a_connection() {
    let rig = Rig::start().await;
    let mut client = rig.session().await;
    client.chat("a", "gated", "a").await;
    client.chat("b", "gated", "b").await;
    for turn in ["a", "b", "b", "a", "a", "b"] {
        rig.upstream.gate(turn).add_permits(1);
        let message = client.expect("chunk").await;
        assert_eq!(message["id"], turn);
        if message["data"]["choices"][0]["delta"]["content"] == format!("{turn}2") {
            assert_eq!(client.expect("done").await["id"], turn);
        }
    }
    assert_eq!(*rig.upstream.dropped.borrow(), 0);
}

#[tokio::test]
async fn a_cancelled_turn_is_dropped_upstream_and_the_others_go_on() {
    let rig = Rig::start().await;
    let mut client = rig.session().await;
    client.chat("a", "gated", "a").await;
    client.chat("b", "gated", "b").await;
    rig.upstream.gate("a").add_permits(1);
    client.expect("chunk").await;
    client.send(json!({"type": "cancel", "id": "a"})).await;
    assert_eq!(client.expect("cancelled").await["id"], "a");
    rig.upstream.dropped.subscribe().wait_for(|n| *n == 1).await.unwrap();

    rig.upstream.gate("b").add_permits(3);
    for _ in 0..3 {
        assert_eq!(client.expect("chunk").await["id"], "b");
    }
    client.expect("done").await;
    client.send(json!({"type": "cancel", "id": "a"})).await;
    assert_eq!(client.expect_error("not_found").await["error"]["param"], "id");
    rig.metric("ws_turns_total{outcome=\"cancelled\"} 1").await;
    rig.metric("ws_turns_total{outcome=\"done\"} 1").await;
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_its_turns() {
    let rig = Rig::start().await;
    let mut client = rig.session().await;
    client.chat("a", "gated", "a").await;
    client.chat("b", "gated", "b").await;
    rig.upstream.gate("b").add_permits(1);
    client.expect("chunk").await;
    drop(client);
    rig.upstream.dropped.subscribe().wait_for(|n| *n == 2).await.unwrap();
}

#[tokio::test]
async fn failures_are_told_and_the_session_goes_on() {
    let rig = Rig::start().await;
    let mut client = rig.session().await;

    client.chat("1", "unserved", "").await;
    let error = client.expect_error("invalid_argument").await;
    assert_eq!((&error["id"], &error["error"]["param"]), (&json!("1"), &json!("model")));

    client.chat("2", "refused", "").await;
    let error = client.expect_error("context_length_exceeded").await;
    assert_eq!((&error["id"], &error["error"]["param"]), (&json!("2"), &json!("messages")));

    client.chat("3", "cut", "").await;
    client.expect("chunk").await;
    assert_eq!(client.expect_error("upstream_failed").await["id"], "3");

    client.chat("4", "vanishing", "").await;
    client.expect("chunk").await;
    client.expect_error("upstream_failed").await;

    client.chat("5", "garbled", "").await;
    client.expect_error("upstream_failed").await;

    client.send(json!({"type": "chat", "id": "6", "messages": []})).await;
    assert_eq!(client.expect_error("missing_required_parameter").await["error"]["param"], "model");

    client.chat("7", "echo", "still here").await;
    client.expect("chunk").await;
    client.expect("chunk").await;
    assert_eq!(client.expect("done").await["id"], "7");
    rig.metric("ws_turns_total{outcome=\"failed\"} 6").await;
}

#[tokio::test]
async fn a_provider_that_does_not_stream_is_one_chunk() {
    let rig = Rig::start().await;
    let mut client = rig.session().await;
    client.chat("a", "unstreamed", "").await;
    assert_eq!(client.expect("chunk").await["data"]["object"], "chat.completion");
    assert_eq!(client.expect("done").await["usage"]["total_tokens"], 12);
}

#[tokio::test]
async fn messages_that_make_no_sense_are_answered_not_punished() {
    let rig = Rig::start().await;
    let mut client = rig.session().await;
    client.send_raw(Message::text("{oops")).await;
    client.expect_error("invalid_json").await;
    client.send(json!({"type": "dance", "id": "x"})).await;
    assert_eq!(client.expect_error("invalid_argument").await["id"], "x");
    client.auth(&rig.key).await;
    client.expect_error("invalid_argument").await;
    client.send_raw(Message::binary(vec![1, 2])).await;
    client.expect_error("invalid_argument").await;
    client.send(json!({"type": "ping"})).await;
    client.expect("pong").await;
}

#[tokio::test]
async fn a_session_has_a_bounded_number_of_turns_with_ids_of_their_own() {
    let rig = Rig::with(Config { max_turns: 2, ..Config::default() }).await;
    let mut client = rig.session().await;
    client.chat("a", "gated", "a").await;
    client.chat("a", "gated", "a").await;
    client.expect_error("conflict").await;
    client.chat("b", "gated", "b").await;
    client.chat("c", "gated", "c").await;
    assert_eq!(client.expect_error("overloaded").await["id"], "c");
    client.send(json!({"type": "cancel", "id": "a"})).await;
    client.expect("cancelled").await;
    client.chat("c", "echo", "c").await;
    assert_eq!(client.expect("chunk").await["id"], "c");
}

#[tokio::test]
async fn a_tenant_s_requests_a_minute_hold_here_too() {
    let rig = Rig::start().await;
    let limits = RateLimits { requests_per_minute: Some(1), tokens_per_minute: None };
    let key = rig.control.key(Some(rig.control.tenant(limits)), scope::DEFAULT);
    let mut client = rig.session_of(&key).await;
    client.chat("1", "echo", "x").await;
    client.expect("chunk").await;
    client.expect("chunk").await;
    client.expect("done").await;
    client.chat("2", "echo", "x").await;
    let error = client.expect_error("rate_limit_exceeded").await;
    assert!(error["error"]["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{error}");
    assert_eq!(rig.upstream.requests.lock().len(), 1);
}

#[tokio::test]
async fn tokens_are_charged_as_used_not_as_guessed() {
    let rig = Rig::start().await;
    // The guess takes nearly all of it, the answer uses twelve: only settling leaves room for the next turn.
    let limits = RateLimits { requests_per_minute: None, tokens_per_minute: Some(1_000) };
    let key = rig.control.key(Some(rig.control.tenant(limits)), scope::DEFAULT);
    let mut client = rig.session_of(&key).await;
    let messages = json!([{"role": "user", "content": "x"}]);
    for id in ["1", "2", "3"] {
        let chat =
            json!({"type": "chat", "id": id, "model": "echo", "messages": messages, "max_tokens": 800});
        client.send(chat).await;
        client.expect("chunk").await;
        client.expect("chunk").await;
        client.expect("done").await;
    }
}

#[tokio::test]
async fn a_cancelled_turn_is_charged_for_what_was_relayed() {
    let rig = Rig::start().await;
    // The guess is a tenth of the limit; the hundreds of events that were relayed are what counts.
    let limits = RateLimits { requests_per_minute: None, tokens_per_minute: Some(1_000) };
    let key = rig.control.key(Some(rig.control.tenant(limits)), scope::DEFAULT);
    let mut client = rig.session_of(&key).await;
    client.chat("1", "chatty", "x").await;
    for _ in 0..600 {
        client.expect("chunk").await;
    }
    client.send(json!({"type": "cancel", "id": "1"})).await;
    client.expect("cancelled").await;
    let chat = json!({"type": "chat", "id": "2", "model": "echo", "max_tokens": 800,
        "messages": [{"role": "user", "content": "x"}]});
    client.send(chat).await;
    client.expect_error("rate_limit_exceeded").await;
}

#[tokio::test]
async fn a_turn_that_a_provider_may_have_worked_for_keeps_its_guess() {
    for (model, code, refused) in
        [("unreached", "upstream_failed", true), ("unserved", "invalid_argument", false)]
    {
        let rig = Rig::start().await;
        let limits = RateLimits { requests_per_minute: None, tokens_per_minute: Some(1_000) };
        let key = rig.control.key(Some(rig.control.tenant(limits)), scope::DEFAULT);
        let mut client = rig.session_of(&key).await;
        let chat = |id, model| {
            json!({"type": "chat", "id": id, "model": model, "max_tokens": 800,
                "messages": [{"role": "user", "content": "x"}]})
        };
        client.send(chat("1", model)).await;
        client.expect_error(code).await;
        client.send(chat("2", "echo")).await;
        if refused {
            client.expect_error("rate_limit_exceeded").await;
        } else {
            client.expect("chunk").await;
        }
    }
}

#[tokio::test]
async fn a_key_without_chat_write_gets_no_turn() {
    let rig = Rig::start().await;
    let key = rig.control.key(Some(rig.tenant), &[scope::USAGE_READ]);
    let mut client = rig.session_of(&key).await;
    client.chat("a", "echo", "x").await;
    client.expect_error("permission_denied").await;
    assert!(rig.upstream.requests.lock().is_empty());
}

#[tokio::test]
async fn a_revoked_key_ends_the_session_at_its_next_turn() {
    let ask_always = weir_access::Config {
        trust_for: Duration::ZERO,
        refresh_after: Duration::ZERO,
        ..weir_access::Config::default()
    };
    let rig = Rig::with_access(Config::default(), ask_always).await;
    let mut client = rig.session().await;
    client.chat("a", "echo", "x").await;
    client.expect("chunk").await;
    client.expect("chunk").await;
    client.expect("done").await;
    rig.control.revoke(&rig.key);
    client.chat("b", "echo", "x").await;
    client.expect_error("invalid_api_key").await;
    assert_eq!(client.closed().await, 4401);
    assert_eq!(rig.upstream.requests.lock().len(), 1);
}

#[tokio::test]
async fn a_revoked_key_ends_an_idle_session_at_the_next_heartbeat() {
    let ask_always = weir_access::Config {
        trust_for: Duration::ZERO,
        refresh_after: Duration::ZERO,
        ..weir_access::Config::default()
    };
    let config = Config { heartbeat: Duration::from_millis(50), ..Config::default() };
    let rig = Rig::with_access(config, ask_always).await;
    let mut client = rig.session().await;
    rig.control.revoke(&rig.key);
    assert_eq!(client.closed().await, 4401);
    until("the session is gone", async || rig.count(rig.tenant).await == 0).await;
}

fn piece(text: &str, code: Data, last: bool) -> Frame {
    Frame::message(text.as_bytes().to_vec(), OpCode::Data(code), last)
}

#[tokio::test]
async fn a_message_may_come_in_fragments_with_a_ping_between() {
    let rig = Rig::start().await;
    let mut client = rig.session().await;
    client.send_frame(piece("{\"type\":", Data::Text, false)).await;
    client.send_raw(Message::Ping(vec![1].into())).await;
    client.send_frame(piece("\"pi", Data::Continue, false)).await;
    client.send_frame(piece("ng\"}", Data::Continue, true)).await;
    client.expect("pong").await;
}

#[tokio::test]
async fn a_message_too_big_is_refused_whole_or_in_fragments() {
    let rig = Rig::with(Config { max_message: ByteSize(1_000), ..Config::default() }).await;
    let mut whole = rig.session().await;
    whole.chat("a", "echo", &"x".repeat(1_000)).await;
    assert_eq!(whole.closed().await, 1009);

    let mut pieces = rig.session().await;
    pieces.send_frame(piece(&"x".repeat(600), Data::Text, false)).await;
    pieces.send_frame(piece(&"x".repeat(600), Data::Continue, false)).await;
    assert_eq!(pieces.closed().await, 1009);
    assert!(rig.upstream.requests.lock().is_empty());
}

#[tokio::test]
async fn a_client_s_trace_is_followed_and_its_wish_to_be_sampled_is_not_its_own_to_grant() {
    let rig = Rig::start().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut client = open(rig.address, "/ws/chat", &[("traceparent", traceparent)]).await.unwrap();
    client.auth(&rig.key).await;
    client.expect("ready").await;
    for id in ["a", "b"] {
        client.chat(id, "echo", "hello").await;
        while client.next().await["type"] != "done" {}
    }
    let requests = rig.upstream.requests.lock();
    let seen: Vec<_> = requests.iter().map(|(ctx, _)| ctx.trace.unwrap()).collect();
    assert_eq!(seen.len(), 2);
    for trace in seen {
        assert_eq!((trace.trace_id, trace.flags), (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0));
    }
}
