//! Anthropic's dialect, by clients and by providers.

use weir_proto::chat::CountTokensRequest;

use super::*;

const START: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","model":"c","usage":{"input_tokens":4,"cache_creation_input_tokens":3,"cache_read_input_tokens":2,"output_tokens":1}}}"#;
const BLOCK: &str = r#"event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
const PIECE: &str = r#"event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" word"}}"#;
const BLOCK_END: &str = r#"event: content_block_stop
data: {"type":"content_block_stop","index":0}"#;
const STOP: &str = r#"event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}"#;
const END: &str = r#"event: message_stop
data: {"type":"message_stop"}"#;

fn message() -> axum::response::Response {
    Json(serde_json::json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "c", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "two words"}], "vendor_thing": 1,
        "usage": {"input_tokens": 4, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 2}}))
    .into_response()
}

fn text_of(frames: &[Frame]) -> String {
    let data = frames.iter().filter_map(|frame| match frame {
        Frame::Data(data) => Some(data.bytes.as_ref()),
        _ => None,
    });
    String::from_utf8(data.collect::<Vec<_>>().concat()).unwrap()
}

#[tokio::test]
async fn a_provider_of_another_dialect_takes_over_before_the_first_byte() {
    let busy = || (StatusCode::SERVICE_UNAVAILABLE, "busy").into_response();
    let providers = [("a", provider(busy).await), ("claude", provider(message).await)];
    let house = House::new(&providers, Transport::absent("router")).await;
    let (status, name, text, usage) = house.answer("m", false, false).await;
    assert_eq!((status, name.as_str(), usage), (200, "claude", (9, 2)));
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "two words");
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
    let (attempts, request) = house.metered().await;
    let outcomes: Vec<_> = attempts.iter().map(|a| (a.provider.as_str(), a.outcome())).collect();
    assert_eq!(outcomes, [("a", Outcome::Failed), ("claude", Outcome::Succeeded)]);
    let tokens = request.tokens.unwrap();
    assert_eq!((tokens.input, tokens.cache_read, tokens.cache_write, tokens.output), (9, 2, 3, 2));
}

#[tokio::test]
async fn the_same_dialect_passes_byte_for_byte() {
    let good = || events(&[START, "event: ping\ndata: {}", BLOCK, PIECE, PIECE, BLOCK_END, STOP, END]);
    let house = House::new(&[("claude", provider(good).await)], Transport::absent("router")).await;
    let frames = house.ask_anthropic(true, CompleteRequest::default()).await.unwrap();
    let whole = [START, "event: ping\ndata: {}", BLOCK, PIECE, PIECE, BLOCK_END, STOP, END]
        .map(|e| format!("{e}\n\n"));
    assert_eq!(text_of(&frames), whole.concat());
    let (_, request) = house.metered().await;
    let tokens = request.tokens.unwrap();
    assert_eq!((tokens.input, tokens.cache_read, tokens.cache_write, tokens.output), (9, 2, 3, 2));

    let house = House::new(&[("claude", provider(message).await)], Transport::absent("router")).await;
    let frames = house.ask_anthropic(false, CompleteRequest::default()).await.unwrap();
    assert!(text_of(&frames).contains("vendor_thing"));
}

#[tokio::test]
async fn a_messages_stream_that_breaks_off_closes_what_is_open() {
    let cut = || events(&[START, BLOCK, PIECE]);
    let failed = || {
        let error = r#"data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        events(&[START, BLOCK, PIECE, &format!("event: error\n{error}")])
    };
    for (broken, kind) in [(cut as fn() -> _, "api_error"), (failed, "overloaded_error")] {
        let house = House::new(&[("claude", provider(broken).await)], Transport::absent("router")).await;
        let text = text_of(&house.ask_anthropic(true, CompleteRequest::default()).await.unwrap());
        let events: Vec<_> = text.split_terminator("\n\n").collect();
        assert_eq!(events[..4], [START, BLOCK, PIECE, BLOCK_END], "{text}");
        assert!(events[4].starts_with("event: error\n") && events[4].contains(kind), "{text}");
        assert_eq!(events[5..], [END]);
        let (attempts, request) = house.metered().await;
        assert_eq!((attempts[0].outcome(), request.outcome()), (Outcome::Cut, Outcome::Cut));
        assert_eq!(tokens(&request), (9, 1));
    }
}

#[tokio::test]
async fn a_strict_client_is_refused_before_anything_is_sent_or_served_by_another() {
    let strict = |model: &str| CompleteRequest {
        dialect: Dialect::OpenaiChat.into(),
        model: model.to_owned(),
        body: r#"{"model":"m","logit_bias":{"1":1},"messages":[{"role":"user","content":"Hello"}]}"#.into(),
        strict: true,
        ..CompleteRequest::default()
    };
    let providers = [("claude", provider(message).await), ("z", provider(plain).await)];
    let house = House::new(&providers, Transport::absent("router")).await;
    let mut chat = house.chat.clone();
    let refused =
        chat.complete(weir_rpc::request(&house.ctx, strict("claude/m"))).await.map(|_| ()).unwrap_err();
    let refused = Error::from(refused);
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("logit_bias"), "{}", refused.message());
    let mut frames = chat.complete(weir_rpc::request(&house.ctx, strict("m"))).await.unwrap().into_inner();
    let Some(Frame::Head(head)) = frames.message().await.unwrap().unwrap().frame else { panic!() };
    assert_eq!((head.status, head.provider.as_str()), (200, "z"));
}

#[tokio::test]
async fn tokens_are_counted_by_who_can() {
    let house = House::new(&[("claude", provider(message).await)], Transport::absent("router")).await;
    let asked = CountTokensRequest {
        dialect: Dialect::AnthropicMessages.into(),
        model: "m".to_owned(),
        body: r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#.into(),
        headers: [("anthropic-beta".to_owned(), "b".to_owned())].into(),
    };
    let mut chat = house.chat.clone();
    let counted = chat.count_tokens(weir_rpc::request(&house.ctx, asked.clone())).await.unwrap().into_inner();
    // The client's own header, and our version.
    assert_eq!((counted.input_tokens, counted.provider.as_str()), (1 + 10, "claude"));
    let house = House::new(&[("one", provider(plain).await)], Transport::absent("router")).await;
    let mut chat = house.chat.clone();
    let counted = chat.count_tokens(weir_rpc::request(&house.ctx, asked)).await.unwrap().into_inner();
    assert!(counted.input_tokens > 0 && counted.provider.is_empty(), "{counted:?}");
}

#[tokio::test]
async fn a_translated_stream_tells_at_its_end_what_was_lost() {
    const SEARCH: &str = r#"data: {"type":"content_block_start","index":7,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#;
    let searched = || {
        let search = format!("event: content_block_start\n{SEARCH}");
        events(&[START, &search, BLOCK, PIECE, BLOCK_END, STOP, END])
    };
    let house = House::new(&[("claude", provider(searched).await)], Transport::absent("router")).await;
    let lost = r#"{"provider":"claude","model":"m","warnings":"altered;max_tokens, dropped;answer.server_tool_use"}"#;
    let (_, _, asked, _) = house.answer("m", true, true).await;
    assert!(asked.ends_with(&format!(",\"weir\":{lost}}}\n\ndata: [DONE]\n\n")), "{asked}");
    let (_, _, unasked, _) = house.answer("m", true, false).await;
    assert!(unasked.ends_with(&format!("\n\n: weir {lost}\n\ndata: [DONE]\n\n")), "{unasked}");
    // Its own clients see it all, and nothing more.
    let frames = house.ask_anthropic(true, CompleteRequest::default()).await.unwrap();
    let text = text_of(&frames);
    assert!(text.contains(SEARCH) && !text.contains("weir"), "{text}");
}

/// So proxies end a stream whose own provider broke off.
#[tokio::test]
async fn a_chat_stream_that_ends_without_a_reason_was_cut() {
    let half = || events(&[CHUNK, "data: [DONE]"]);
    let house = House::new(&[("one", provider(half).await)], Transport::absent("router")).await;
    let (_, _, text, _) = house.answer("m", true, false).await;
    assert_eq!(text, format!("{CHUNK}\n\ndata: [DONE]\n\n"));
    assert_eq!(house.metered().await.1.outcome(), Outcome::Cut);

    let house = House::new(&[("one", provider(half).await)], Transport::absent("router")).await;
    let frames = house.ask_anthropic(true, CompleteRequest::default()).await.unwrap();
    let text = text_of(&frames);
    assert!(text.contains("event: error") && !text.contains("end_turn"), "{text}");
    assert_eq!(house.metered().await.1.outcome(), Outcome::Cut);
}
