//! What comes back to models that clients lost, what is held against its schema, and what providers don't know.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use serde_json::{Value, json};
use weir_types::UserId;

use super::*;

/// A provider that answers as it is told, one after another, and what it was asked.
struct Scripted {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<Value>>>,
}

/// A status, and an object or the events of a stream. Without a status there is never an answer.
type Told = (u16, Value);

async fn scripted(answers: Vec<Told>) -> Scripted {
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let answer = routing::post(move |Json(body): Json<Value>| {
        seen.lock().unwrap().push(body);
        let (status, told) = answers.lock().unwrap().pop_front().expect("an answer for every request");
        async move {
            match told {
                _ if status == 0 => std::future::pending().await,
                Value::Array(pieces) => {
                    let text: String =
                        pieces.iter().map(|p| format!("{}\n\n", p.as_str().unwrap())).collect();
                    ([("content-type", "text/event-stream")], text).into_response()
                }
                told => (StatusCode::from_u16(status).unwrap(), Json(told)).into_response(),
            }
        }
    });
    let app =
        Router::new().route("/v1/chat/completions", answer.clone()).route("/v1/messages", answer.clone());
    let app = app.route("/v1/responses", answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as its test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    Scripted { at, asked }
}

struct Got {
    status: u32,
    headers: HashMap<String, String>,
    text: String,
    usage: (u64, u64),
}

async fn ask(house: &House, ctx: &RequestContext, body: &Value) -> Got {
    ask_as(house, ctx, Dialect::OpenaiChat, body, false).await
}

async fn ask_as(house: &House, ctx: &RequestContext, dialect: Dialect, body: &Value, strict: bool) -> Got {
    let stream = body["stream"] == true;
    let message = CompleteRequest {
        dialect: dialect.into(),
        strict,
        model: body["model"].as_str().unwrap().to_owned(),
        stream,
        include_usage: body["stream_options"]["include_usage"] == true,
        body: body.to_string().into(),
        ..CompleteRequest::default()
    };
    let mut frames = house.chat.clone().complete(weir_rpc::request(ctx, message)).await.unwrap().into_inner();
    let mut got = Got { status: 0, headers: HashMap::new(), text: String::new(), usage: (0, 0) };
    while let Some(frame) = frames.message().await.unwrap() {
        match frame.frame.unwrap() {
            Frame::Head(head) => (got.status, got.headers) = (head.status, head.headers),
            Frame::Data(data) => got.text.push_str(std::str::from_utf8(&data.bytes).unwrap()),
            Frame::End(end) => {
                got.usage = end.usage.map(|u| (u.input_tokens, u.output_tokens)).unwrap_or_default();
            }
        }
    }
    got
}

fn message(content: &Value, stop: &str) -> Told {
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content,
        "stop_reason": stop, "usage": {"input_tokens": 9, "output_tokens": 2}});
    (200, message)
}

fn event(mut data: Value, name: &str) -> Value {
    data["type"] = name.into();
    format!("event: {name}\ndata: {data}").into()
}

/// The same, streamed.
fn streamed(content: &Value, stop: &str) -> Told {
    let mut all = vec![event(
        json!({"message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 9, "output_tokens": 1}}}),
        "message_start",
    )];
    for (index, block) in content.as_array().unwrap().iter().enumerate() {
        let (mut begun, mut deltas) = (block.clone(), Vec::new());
        match block["type"].as_str().unwrap() {
            "text" => {
                deltas.push(json!({"type": "text_delta", "text": block["text"]}));
                begun["text"] = "".into();
            }
            "thinking" => {
                deltas.push(json!({"type": "thinking_delta", "thinking": block["thinking"]}));
                deltas.push(json!({"type": "signature_delta", "signature": block["signature"]}));
                (begun["thinking"], begun["signature"]) = ("".into(), "".into());
            }
            _ => {
                deltas.push(json!({"type": "input_json_delta", "partial_json": block["input"].to_string()}));
                begun["input"] = json!({});
            }
        }
        all.push(event(json!({"index": index, "content_block": begun}), "content_block_start"));
        let deltas = deltas.into_iter();
        all.extend(deltas.map(|delta| event(json!({"index": index, "delta": delta}), "content_block_delta")));
        all.push(event(json!({"index": index}), "content_block_stop"));
    }
    all.push(event(json!({"delta": {"stop_reason": stop}, "usage": {"output_tokens": 2}}), "message_delta"));
    all.push(event(json!({}), "message_stop"));
    (200, Value::Array(all))
}

fn thought_and_called() -> Value {
    json!([{"type": "thinking", "thinking": "hm", "signature": "c2lnbmF0dXJl"}, {"type": "text", "text": "Calling."},
        {"type": "tool_use", "id": "toolu_01A09q90qw90lq917835lq9", "name": "f", "input": {"a": 1}}])
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}])
}

#[tokio::test]
async fn a_turn_that_lost_its_thoughts_gets_them_back_but_no_other_tenant_s() {
    for stream in [false, true] {
        let made = if stream { streamed } else { message };
        let done = || message(&json!([{"type": "text", "text": "Done."}]), "end_turn");
        let scripted = scripted(vec![made(&thought_and_called(), "tool_use"), done(), done()]).await;
        let house = House::new(&[("claude", scripted.at)], Transport::absent("router")).await;
        let first = json!({"model": "m", "stream": stream, "tools": tools(), "messages": [{"role": "user", "content": "x"}]});
        ask(&house, &house.ctx, &first).await;
        // As a client would write it that keeps what it knows.
        let next = json!({"model": "m", "tools": tools(), "messages": [{"role": "user", "content": "x"},
            {"role": "assistant", "content": "Calling.", "tool_calls": [{"id": "toolu_01A09q90qw90lq917835lq9", "type": "function",
                "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
            {"role": "tool", "tool_call_id": "toolu_01A09q90qw90lq917835lq9", "content": "y"}]});
        ask(&house, &house.ctx, &next).await;
        let stranger = RequestContext { tenant: Some(TenantId::new()), ..house.ctx.clone() };
        ask(&house, &stranger, &next).await;
        let asked = scripted.asked.lock().unwrap();
        assert_eq!(asked[1]["messages"][1]["content"], thought_and_called(), "stream: {stream}");
        assert_eq!(asked[2]["messages"][1]["content"][0]["type"], "text", "stream: {stream}");
    }
}

#[tokio::test]
async fn a_compatible_provider_s_state_comes_back_too() {
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let mut signed = call.clone();
    signed["extra_content"] = json!({"google": {"thought_signature": "sig"}});
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 2});
    let answer = |message: Value| {
        (
            200,
            json!({"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}),
        )
    };
    let called = answer(json!({"role": "assistant", "content": null, "tool_calls": [signed]}));
    let scripted = scripted(vec![called, answer(json!({"content": "ok"}))]).await;
    let house = House::new(&[("one", scripted.at)], Transport::absent("router")).await;
    ask(&house, &house.ctx, &json!({"model": "m", "messages": [{"role": "user", "content": "x"}]})).await;
    let stripped = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let next = json!({"model": "m", "messages": [{"role": "user", "content": "x"}, stripped,
        {"role": "tool", "tool_call_id": "call_1", "content": "y"}]});
    ask(&house, &house.ctx, &next).await;
    assert_eq!(scripted.asked.lock().unwrap()[1]["messages"][1]["tool_calls"][0], signed);
}

fn bounded(stream: bool) -> Value {
    let schema =
        json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]});
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "x"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}}})
}

fn texts(stream: &str) -> String {
    let chunks = stream.lines().filter_map(|line| line.strip_prefix("data: {"));
    let chunks = chunks.map(|rest| serde_json::from_str::<Value>(&format!("{{{rest}")).unwrap());
    chunks.filter_map(|c| c["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_asked_for_again_once() {
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    for stream in [false, true] {
        let made = if stream { streamed } else { message };
        let answers = vec![made(&text(r#"{"n":1}"#), "end_turn"), message(&text(r#"{"n":4}"#), "end_turn")];
        let scripted = scripted(answers).await;
        let house = House::new(&[("claude", scripted.at)], Transport::absent("router")).await;
        let got = ask(&house, &house.ctx, &bounded(stream)).await;
        let said = if stream {
            assert_eq!(got.text.matches("\"finish_reason\":\"stop\"").count(), 1, "{}", got.text);
            texts(&got.text)
        } else {
            let answer: Value = serde_json::from_str(&got.text).unwrap();
            assert_eq!(answer["usage"]["total_tokens"], 22);
            answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
        };
        assert_eq!((said.as_str(), got.usage), (r#"{"n":4}"#, (18, 4)), "stream: {stream}");
        assert!(got.headers["x-weir-warnings"].ends_with("altered;response_format"));
        let asked = scripted.asked.lock().unwrap().clone();
        assert_eq!(asked[1]["messages"][1]["content"][0]["text"], r#"{"n":1}"#);
        assert!(
            asked[1]["messages"][2]["content"][0]["text"].as_str().unwrap().contains("/n"),
            "{}",
            asked[1]
        );
        let (attempts, request) = house.metered().await;
        let outcomes: Vec<_> = attempts.iter().map(|a| (a.outcome(), a.tokens.unwrap().input)).collect();
        assert_eq!(outcomes, [(Outcome::Succeeded, 9), (Outcome::Succeeded, 9)]);
        assert_eq!((request.outcome(), tokens(&request), request.attempts), (Outcome::Succeeded, (18, 4), 2));
    }
}

#[tokio::test]
async fn an_answer_that_fits_is_left_and_one_that_never_does_is_named() {
    let text = |text: &str| message(&json!([{"type": "text", "text": text}]), "end_turn");
    let failing = (500, json!({"type": "error", "error": {"type": "api_error", "message": "gone"}}));
    let answers = vec![text(r#"{"n": 3}"#), text("no"), text("still no"), text("no"), failing];
    let scripted = scripted(answers).await;
    let house = House::new(&[("claude", scripted.at)], Transport::absent("router")).await;
    for (said, named) in [(r#"{"n": 3}"#, false), ("still no", true), ("no", true)] {
        let got = ask(&house, &house.ctx, &bounded(false)).await;
        let answer: Value = serde_json::from_str(&got.text).unwrap();
        assert_eq!((got.status, answer["choices"][0]["message"]["content"].as_str()), (200, Some(said)));
        assert_eq!(got.headers["x-weir-warnings"].contains("invalid;response_format"), named);
    }
    assert_eq!(scripted.asked.lock().unwrap().len(), 5);
}

fn refused_options() -> Told {
    let text = "Unknown parameter: 'stream_options'.";
    (400, json!({"error": {"message": text, "type": "invalid_request_error"}}))
}

fn words() -> Told {
    (200, json!([CHUNK, LAST, "data: [DONE]"]))
}

/// With these options, or none of its own.
fn streaming(options: &Value) -> Value {
    let mut body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "x"}]});
    if !options.is_null() {
        body["stream_options"] = options.clone();
    }
    body
}

#[tokio::test]
async fn who_refuses_stream_options_is_asked_without_and_the_usage_chunk_is_ours() {
    let scripted = scripted(vec![refused_options(), words(), words()]).await;
    let house = House::new(&[("one", scripted.at)], Transport::absent("router")).await;
    assert_eq!(ask(&house, &house.ctx, &streaming(&Value::Null)).await.status, 200);
    let got = ask(&house, &house.ctx, &streaming(&json!({"include_usage": true}))).await;
    assert!(got.status == 200 && got.text.contains("\"total_tokens\":"), "{}", got.text);
    let asked = scripted.asked.lock().unwrap();
    assert_eq!(asked.len(), 3);
    assert!(asked[0].get("stream_options").is_some());
    assert!(asked[1..].iter().all(|body| body.get("stream_options").is_none()));
}

#[tokio::test]
async fn no_client_decides_how_others_are_asked_for_usage() {
    let (usage, bogus) = (json!({"include_usage": true}), json!({"include_usage": true, "bogus": 1}));
    for (options, answers, status) in [
        (&bogus, vec![refused_options()], 400),
        // The client's own is made good for it alone.
        (&usage, vec![refused_options(), words()], 200),
        // Something else was wrong with it.
        (&Value::Null, vec![refused_options(), refused_options()], 400),
    ] {
        let asks = answers.len();
        let scripted = scripted([answers, vec![words()]].concat()).await;
        let house = House::new(&[("one", scripted.at)], Transport::absent("router")).await;
        assert_eq!(ask(&house, &house.ctx, &streaming(options)).await.status, status, "{options}");
        assert_eq!(scripted.asked.lock().unwrap().len(), asks, "{options}");
        assert_eq!(ask(&house, &house.ctx, &streaming(&Value::Null)).await.status, 200);
        assert!(scripted.asked.lock().unwrap()[asks].get("stream_options").is_some(), "{options}");
    }
}

#[tokio::test]
async fn nobody_gets_another_s_thoughts_however_alike_their_turns() {
    let thought = json!([{"type": "thinking", "thinking": "a secret", "signature": "c2lnbmF0dXJl"}, {"type": "text", "text": "Yes."}]);
    let done = || message(&json!([{"type": "text", "text": "Done."}]), "end_turn");
    for stream in [false, true] {
        let made = if stream { streamed } else { message };
        let scripted = scripted(vec![made(&thought, "end_turn"), done(), done(), done()]).await;
        let house = House::new(&[("claude", scripted.at)], Transport::absent("router")).await;
        let id = KeyId::new();
        let user = || RequestContext {
            principal: Principal::Key { id, user: Some(UserId::new()) },
            ..house.ctx.clone()
        };
        let (one, another) = (user(), user());
        let first = json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "x"}]});
        ask(&house, &one, &first).await;
        let next = |question: &str| {
            json!({"model": "m", "messages": [{"role": "user", "content": question},
                {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "y"}]})
        };
        ask(&house, &another, &next("x")).await;
        ask(&house, &one, &next("another")).await;
        ask(&house, &one, &next("x")).await;
        let asked = scripted.asked.lock().unwrap();
        for other in [&asked[1], &asked[2]] {
            assert!(!other.to_string().contains("secret"), "stream: {stream}: {other}");
        }
        assert_eq!(asked[3]["messages"][1]["content"], thought, "stream: {stream}");
    }
}

#[tokio::test]
async fn a_successor_of_the_same_dialect_gets_and_gives_all_but_what_it_refuses() {
    let answer = json!({"id": "1", "model": "gpt-5.6-sol", "vendor_thing": 1, "usage": {"prompt_tokens": 9, "completion_tokens": 2},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "[1, 2]"}, "finish_reason": "stop"}]});
    let scripted = scripted(vec![(200, answer.clone())]).await;
    let router = Transport::local("router", tonic::service::Routes::new(RouterServer::new(Aliases)));
    let house = House::listing(&[("one", scripted.at)], router, &["gpt-5.6-sol"]).await;
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "array"}}});
    let body = json!({"model": "gpt-4-1106-preview", "max_tokens": 5, "logit_bias": {"1": 1}, "metadata": {"a": "b"},
        "store": true, "response_format": format, "messages": [{"role": "user", "content": "x"}]});
    let got = ask(&house, &house.ctx, &body).await;
    assert_eq!(
        (got.status, got.headers["x-weir-warnings"].as_str()),
        (200, "altered;max_tokens, altered;model")
    );
    assert_eq!(serde_json::from_str::<Value>(&got.text).unwrap(), answer);
    let mut expected = body.clone();
    let members = expected.as_object_mut().unwrap();
    members.remove("max_tokens");
    members.insert("max_completion_tokens".to_owned(), 5.into());
    members.insert("model".to_owned(), "gpt-5.6-sol".into());
    assert_eq!(scripted.asked.lock().unwrap()[0], expected);
}

#[tokio::test]
async fn who_leaves_while_an_answer_is_mended_got_none() {
    let wrong = streamed(&json!([{"type": "text", "text": "no"}]), "end_turn");
    let scripted = scripted(vec![wrong, (0, Value::Null)]).await;
    let house = House::new(&[("claude", scripted.at)], Transport::absent("router")).await;
    let asked = scripted.asked.clone();
    let mended = async {
        while asked.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    let body = bounded(true);
    tokio::select! {
        _ = ask(&house, &house.ctx, &body) => panic!("there is no second answer"),
        () = mended => {}
    }
    let (attempts, request) = house.metered().await;
    let outcomes: Vec<_> = attempts.iter().map(AttemptClosed::outcome).collect();
    assert_eq!(outcomes, [Outcome::Succeeded, Outcome::Cancelled]);
    assert_eq!((request.outcome(), request.status), (Outcome::Cancelled, 499));
}

#[tokio::test]
async fn other_refusals_pass_and_an_empty_account_is_not_asked_again() {
    let wrong = (400, json!({"error": {"message": "Bad temperature", "type": "invalid_request_error"}}));
    let empty = (
        429,
        json!({"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}}),
    );
    let scripted = scripted(vec![wrong, empty]).await;
    let house = House::new(&[("one", scripted.at)], Transport::absent("router")).await;
    let stream = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "x"}]});
    let got = ask(&house, &house.ctx, &stream).await;
    assert!(got.status == 400 && got.text.contains("Bad temperature"), "{}", got.text);
    let got = ask(&house, &house.ctx, &stream).await;
    assert_eq!((got.status, got.headers["x-should-retry"].as_str()), (429, "false"));
}

/// What was thought at one account's is worth nothing at another's, and no end of the conversation.
#[tokio::test]
async fn reasoning_that_another_account_can_t_read_is_dropped() {
    let unreadable = (
        400,
        json!({"error": {"type": "invalid_request_error", "code": "invalid_encrypted_content",
        "message": "The encrypted content gAAA... could not be verified."}}),
    );
    let said = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "Fine.", "annotations": []}]});
    let whole = json!({"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [said],
        "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}});
    let done = json!({"type": "response.completed", "sequence_number": 0, "response": whole});
    let streamed = json!([format!("event: response.completed\ndata: {done}")]);
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "hi"},
        {"role": "assistant", "content": "a", "reasoning_details": [{"type": "reasoning.encrypted", "id": "rs_1",
            "data": "gAAAAABother", "format": "openai-responses-v1", "index": 0}]},
        {"role": "user", "content": "go"}]});
    let own = json!({"model": "m", "store": false, "input": [{"type": "message", "role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAABother"},
        {"type": "message", "id": "msg_0", "role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": []}]},
        {"type": "message", "role": "user", "content": "go"}]});
    for (dialect, body, lost) in [
        (Dialect::OpenaiChat, &chat, "dropped;thinking"),
        (Dialect::OpenaiResponses, &own, "dropped;reasoning"),
    ] {
        for stream in [false, true] {
            let answer = if stream { streamed.clone() } else { whole.clone() };
            let scripted = scripted(vec![unreadable.clone(), (200, answer), unreadable.clone()]).await;
            let house = House::new(&[("native", scripted.at)], Transport::absent("router")).await;
            let mut body = body.clone();
            body["stream"] = stream.into();
            let got = ask_as(&house, &house.ctx, dialect, &body, false).await;
            assert_eq!((got.status, got.text.contains("Fine.")), (200, true), "{dialect:?} {}", got.text);
            assert!(got.headers["x-weir-warnings"].contains(lost), "{}", got.headers["x-weir-warnings"]);
            {
                let asked = scripted.asked.lock().unwrap();
                assert!(asked[0].to_string().contains("gAAAAABother"));
                let items = asked[1]["input"].as_array().unwrap();
                assert!(items.iter().all(|item| item["type"] != "reasoning" && item.get("id").is_none()));
                assert_eq!(items.len(), 3, "{items:?}");
            }
            // Who insists hears of it.
            let got = ask_as(&house, &house.ctx, dialect, &body, true).await;
            assert_eq!((got.status, got.text.contains("could not be verified")), (400, true), "{}", got.text);
        }
    }
}
