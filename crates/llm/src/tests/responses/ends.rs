//! How answers end: failed, cut, drawn; and what clients are to do then.

use super::*;
use crate::canonical::Content;

fn chat(stream: &str) -> String {
    relayed(Dialect::Responses, Dialect::OpenAi, &[stream.as_bytes()], &call(&json!({"model": "m"})))
}

fn head() -> Value {
    json!({"id": "resp_1", "created_at": 5, "model": "gpt-5", "status": "in_progress"})
}

#[test]
fn the_event_s_name_tells_how_it_ended_however_odd_its_object() {
    for odd in [
        json!({"id": "resp_1", "error": {"code": "server_error", "message": "gone"}}),
        json!({"status": "failed", "model": null, "error": {"code": "server_error", "message": "gone"}}),
        json!({"status": "failed", "usage": {}, "output": 3, "id": [], "error": {"code": "server_error", "message": "gone"}}),
        Value::Null,
    ] {
        let n = &mut 0;
        let stream = event(n, "response.created", json!({"response": head()}))
            + &event(n, "response.failed", json!({ "response": odd }));
        let told = chat(&stream);
        assert!(told.contains("\"error\"") && !told.contains("\"finish_reason\":\"stop\""), "{odd}: {told}");
        assert!(odd.is_null() || told.contains("gone"), "{odd}: {told}");
    }
    let n = &mut 0;
    let said = json!([{"type": "message", "content": [{"type": "output_text", "text": "half"}]}]);
    let stream = event(n, "response.created", json!({"response": head()}))
        + &event(
            n,
            "response.incomplete",
            json!({"response": {"usage": {"total_tokens": 3}, "model": null, "output": said}}),
        );
    let told = chat(&stream);
    assert!(told.contains("\"content\":\"half\"") && told.contains("\"finish_reason\":\"length\""), "{told}");
}

#[test]
fn what_is_said_is_not_lost_for_a_member_beside_it() {
    for (name, odd) in [
        ("logprobs", json!([{"token": "a", "logprob": null}])),
        ("logprobs", json!("none")),
        ("output_index", json!(null)),
        ("content_index", json!("0")),
    ] {
        let n = &mut 0;
        let mut delta = json!({"output_index": 0, "content_index": 0, "delta": "Hi"});
        delta[name] = odd.clone();
        let stream = event(n, "response.created", json!({"response": head()}))
            + &event(n, "response.output_text.delta", delta)
            + &event(n, "response.completed", json!({"response": {"status": "completed"}}));
        assert!(chat(&stream).contains("\"content\":\"Hi\""), "{name}: {odd}");
        let mut part = json!({"type": "output_text", "text": "Hi"});
        part[name] = odd.clone();
        let body = json!({"status": "completed", "output": [{"type": "message", "content": [part]}]});
        let answer = Dialect::Responses.provider().decode_answer(body.to_string().as_bytes()).unwrap();
        assert!(matches!(&answer.parts()[0].content, Content::Text(text) if text == "Hi"), "{name}: {odd}");
    }
}

#[test]
fn a_whole_answer_that_failed_is_none() {
    let provider = Dialect::Responses.provider();
    for status in ["failed", "cancelled"] {
        let body = json!({"status": status, "output": [], "usage": null, "error": {"code": "rate_limit_exceeded", "message": "slow"}});
        let body = body.to_string();
        assert!(provider.decode_answer(body.as_bytes()).is_none());
        let failure = provider.failure_of_answer(body.as_bytes()).unwrap();
        assert_eq!((failure.status, failure.message.as_str()), (429, "slow"));
    }
    let whole = finished().to_string();
    assert!(provider.failure_of_answer(whole.as_bytes()).is_none());
    assert!(provider.failure_of_answer(b"<html>").is_none());
    // What can't be read of one that did not fail is as good as absent.
    let odd = json!({"status": "completed", "model": null, "created_at": "x", "usage": 3, "output": finished()["output"]});
    assert_eq!(provider.decode_answer(odd.to_string().as_bytes()).unwrap().parts().len(), 4);
    assert!(provider.decode_answer(b"{\"status\":\"completed\"}").is_none());
}

#[test]
fn a_call_that_was_cut_is_not_told_as_whole() {
    let message = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
    let begun = |index: u64, block: Value| {
        message(
            "content_block_start",
            json!({"type": "content_block_start", "index": index, "content_block": block}),
        )
    };
    let delta = |index: u64, delta: Value| {
        message("content_block_delta", json!({"type": "content_block_delta", "index": index, "delta": delta}))
    };
    let stop =
        |index: u64| message("content_block_stop", json!({"type": "content_block_stop", "index": index}));
    let call_block = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {}});
    let arguments = |text: &str| json!({"type": "input_json_delta", "partial_json": text});
    for (reason, last) in [("max_tokens", "incomplete"), ("tool_use", "completed")] {
        let stream = [
            message("message_start", json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}}})),
            begun(0, call_block("toolu_1")),
            delta(0, arguments("{}")),
            stop(0),
            begun(1, call_block("toolu_2")),
            delta(1, arguments("{\"a\":\"trunc")),
            stop(1),
            message("message_delta", json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 9}})),
            message("message_stop", json!({"type": "message_stop"})),
        ]
        .concat();
        let call = call(&json!({"model": "m"}));
        let events = events(&relayed(Dialect::Anthropic, Dialect::Responses, &[stream.as_bytes()], &call));
        let done: Vec<_> = events
            .iter()
            .filter(|e| e["type"] == "response.output_item.done")
            .map(|e| e["item"]["status"].as_str().unwrap())
            .collect();
        assert_eq!(done, ["completed", last], "{reason}");
        let output = &events.last().unwrap()["response"]["output"];
        assert_eq!((&output[0]["status"], &output[1]["status"]), (&json!("completed"), &json!(last)));
    }
}

#[test]
fn results_of_calls_are_one_message_and_stand_first() {
    let output =
        |id: &str, output: Value| json!({"type": "function_call_output", "call_id": id, "output": output});
    let called = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let image = json!([{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]);
    let user = |text: &str| json!({"role": "user", "content": text});
    let body = json!({"model": "m", "input": [user("x"), called("a"), called("b"), called("c"),
        output("a", image), user("wait"), output("b", json!("done")), output("c", json!("too")), user("and?"), user("so?")]});
    let request =
        Dialect::Responses.decode_request(body.to_string().as_bytes(), &mut Losses::default()).unwrap();
    let shape: Vec<Vec<&str>> =
        request.messages.iter().map(|m| m.parts.iter().map(|p| p.content.kind()).collect()).collect();
    assert_eq!(
        shape,
        [
            vec!["text"],
            vec!["tool_use"; 3],
            vec!["tool_result", "tool_result", "tool_result", "text", "text"],
            vec!["text"]
        ]
    );
    let (chat, _) = asked(Dialect::Responses, Dialect::OpenAi, "gpt-4o", &body);
    let roles: Vec<_> =
        chat["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles[..5], ["user", "assistant", "tool", "tool", "tool"]);
}

#[test]
fn the_provider_s_word_for_what_is_wrong_reaches_the_client() {
    let error = |code: &str| event(&mut 1, "error", json!({"error": {"code": code, "message": "m"}}));
    let begun = event(&mut 0, "response.created", json!({"response": head()}));
    for code in
        ["context_length_exceeded", "insufficient_quota", "server_is_overloaded", "rate_limit_exceeded"]
    {
        let mut follower = Follower::new(Dialect::Responses);
        follower.observe(begun.as_bytes());
        let own = error(code);
        let end = follower.end_with(&own.clone().into());
        let end = String::from_utf8(end.to_vec()).unwrap().split_off(own.len());
        assert!(
            end.contains("response.failed") && end.contains(&format!(r#""error":{{"code":"{code}","#)),
            "{end}"
        );
    }
    // One that is no word is known by what it says.
    let mut follower = Follower::new(Dialect::Responses);
    follower.observe(begun.as_bytes());
    let own = event(
        &mut 1,
        "error",
        json!({"code": 400, "message": "This model's maximum context length is 8 tokens"}),
    );
    let end = follower.end_with(&own.clone().into());
    let end = String::from_utf8(end.to_vec()).unwrap().split_off(own.len());
    assert!(end.contains(r#""error":{"code":"context_length_exceeded","#), "{end}");

    let stream = format!("{begun}{}", error("context_length_exceeded"));
    let call = call(&json!({"model": "m"}));
    for (into, word) in [
        (Dialect::OpenAi, r#""code":"context_length_exceeded""#),
        (Dialect::Responses, r#""code":"context_length_exceeded""#),
        (Dialect::Anthropic, "prompt is too long: m"),
        (Dialect::Gemini, "CONTEXT_LENGTH_EXCEEDED"),
    ] {
        let told = relayed(Dialect::Responses, into, &[stream.as_bytes()], &call);
        assert!(told.contains(word), "{into:?}: {told}");
    }
    let stream = format!("{begun}{}", error("insufficient_quota"));
    let told = relayed(Dialect::Responses, Dialect::Anthropic, &[stream.as_bytes()], &call);
    assert!(told.contains("billing_error"), "{told}");
    let told = relayed(Dialect::Responses, Dialect::Responses, &[stream.as_bytes()], &call);
    assert!(told.contains(r#""code":"insufficient_quota""#), "{told}");
}

#[test]
fn what_a_model_draws_is_an_item() {
    let inline = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
    let answer = json!({"responseId": "r1", "modelVersion": "gemini", "candidates": [{"index": 0, "finishReason": "STOP",
        "content": {"role": "model", "parts": [{"text": "Here:"}, inline]}}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1290}});
    let call = call(&json!({"model": "m"}));
    let whole = answered(Dialect::Gemini, Dialect::Responses, &answer, &call)["output"].clone();
    assert_eq!(
        (&whole[1]["type"], &whole[1]["result"], &whole[1]["status"], &whole[1]["output_format"]),
        (&json!("image_generation_call"), &json!("AAAA"), &json!("completed"), &json!("png"))
    );
    let stream = format!("data: {answer}\n\n");
    let events = events(&{
        let mut translator = Translator::new(Dialect::Gemini, Dialect::Responses, &call);
        let mut out = BytesMut::new();
        translator.event(stream.as_bytes(), &mut out).unwrap();
        assert!(translator.losses().is_empty());
        out.extend_from_slice(&translator.end(Usage::default()));
        String::from_utf8(out.to_vec()).unwrap()
    });
    let drawn: Vec<_> =
        types(&events).into_iter().filter(|t| t.starts_with("image_generation_call")).collect();
    assert_eq!(drawn.len(), 3);
    let output = &events.last().unwrap()["response"]["output"];
    assert_eq!(output[1], whole[1]);
    let done = events.iter().rfind(|e| e["type"] == "response.output_item.done").unwrap();
    assert_eq!(done["item"], whole[1]);

    // A provider's own reaches chat's clients, whole and streamed.
    let mut answer = finished();
    answer["output"] = json!([whole[1]]);
    let chat = answered(Dialect::Responses, Dialect::OpenAi, &answer, &call);
    let url = json!("data:image/png;base64,AAAA");
    assert_eq!(chat["choices"][0]["message"]["images"][0]["image_url"]["url"], url);
    let stream = event(&mut 0, "response.completed", json!({"response": answer}));
    let chat = relayed(Dialect::Responses, Dialect::OpenAi, &[stream.as_bytes()], &call);
    assert!(chat.contains(&url.to_string()), "{chat}");
}
