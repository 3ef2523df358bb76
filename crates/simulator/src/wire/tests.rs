use serde_json::Value;

use super::*;

fn piece(text: &'static str, tokens: u64) -> Piece {
    Piece { text: text.into(), tokens }
}

fn words(said: &[&'static str]) -> Choice {
    let content = said.iter().map(|text| piece(text, 1)).collect();
    Choice { content, finish: "stop", seed: 3, ..Choice::default() }
}

fn calls() -> Choice {
    let call = |id: &str, name: &str| ToolCall {
        id: id.into(),
        name: name.into(),
        name_tokens: 2,
        arguments: vec![piece("{\"a\":", 3), piece(" \"b\"}", 2)],
        custom: false,
    };
    let tool_calls = vec![call("1", "f"), call("2", "g")];
    Choice { tool_calls, finish: "tool_calls", seed: 3, ..Choice::default() }
}

fn answer(choices: Vec<Choice>) -> Answer {
    let completion_tokens = choices.iter().map(Choice::tokens).sum();
    Answer { choices, prompt_tokens: 7, completion_tokens, ..Answer::default() }
}

fn head() -> Head {
    Head {
        id: "chatcmpl-1".into(),
        created: 5,
        model: "a \"model\"".into(),
        service_tier: "default",
        aloud: false,
    }
}

fn events(answer: &Answer, logprobs: Logprobs, usage: bool) -> Vec<String> {
    let chunks = Chunks::new(&head(), logprobs, usage);
    let write = |(_, event)| String::from_utf8(chunks.write(answer, event).0.to_vec()).unwrap();
    script(answer, usage).into_iter().map(write).collect()
}

fn parsed(events: &[String]) -> Vec<Value> {
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(done, "data: [DONE]\n\n");
    let json = |event: &String| {
        let json = event.strip_prefix("data: ").and_then(|e| e.strip_suffix("\n\n")).unwrap();
        serde_json::from_str(json).unwrap()
    };
    chunks.iter().map(json).collect()
}

#[test]
fn a_whole_answer_has_every_field() {
    let answer = answer(vec![words(&["Say", " \"hi\"", "\n."]), calls()]);
    let json: Value = serde_json::from_slice(&plain(&head(), &answer, None, true, u64::MAX).bytes).unwrap();
    assert_eq!(json["object"], "chat.completion");
    assert_eq!(json["model"], "a \"model\"");
    assert!(json["system_fingerprint"].as_str().unwrap().starts_with("fp_"));
    assert_eq!(json["service_tier"], "default");
    let text = &json["choices"][0];
    assert_eq!(text["message"]["content"], "Say \"hi\"\n.");
    assert_eq!((&text["logprobs"], &text["finish_reason"]), (&Value::Null, &"stop".into()));
    assert!(text["message"].get("tool_calls").is_none());
    let called = &json["choices"][1];
    assert_eq!(called["index"], 1);
    assert_eq!(called["message"]["content"], Value::Null);
    assert_eq!(called["message"]["tool_calls"][1]["function"]["name"], "g");
    assert_eq!(called["message"]["tool_calls"][1]["function"]["arguments"], r#"{"a": "b"}"#);
    assert_eq!(json["usage"]["completion_tokens"], 3 + 14);
    assert_eq!(json["usage"]["total_tokens"], 7 + 3 + 14);
    assert_eq!(json["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let without: Value =
        serde_json::from_slice(&plain(&head(), &answer, None, false, u64::MAX).bytes).unwrap();
    assert!(without.get("usage").is_none());
}

#[test]
fn custom_tools_get_a_text() {
    let mut choice = calls();
    choice.tool_calls.truncate(1);
    choice.tool_calls[0].custom = true;
    let answer = answer(vec![choice]);
    let json: Value = serde_json::from_slice(&plain(&head(), &answer, None, true, u64::MAX).bytes).unwrap();
    let expected =
        serde_json::json!([{"id": "1", "type": "custom", "custom": {"name": "f", "input": r#"{"a": "b"}"#}}]);
    assert_eq!(json["choices"][0]["message"]["tool_calls"], expected);
    let chunks = parsed(&events(&answer, None, false));
    let calls: Vec<_> = chunks.iter().map(|c| &c["choices"][0]["delta"]["tool_calls"][0]).collect();
    let begun: Vec<_> = calls.iter().filter(|call| call["type"] == "custom").collect();
    assert_eq!(begun.len(), 1);
    assert_eq!(begun[0]["custom"]["name"], "f");
    let text: String = calls.iter().filter_map(|call| call["custom"]["input"].as_str()).collect();
    assert_eq!(text, r#"{"a": "b"}"#);
}

#[test]
fn a_cut_is_found_to_the_token() {
    let answer = answer(vec![words(&["One", " two", " three"])]);
    for (after, end, tokens) in [(0, r#""content":"#, 0), (2, "One two", 2), (3, "One two three", 3)] {
        let plain = plain(&head(), &answer, None, true, after);
        let before = String::from_utf8(plain.bytes[..plain.cut_at.unwrap()].to_vec()).unwrap();
        assert!(before.ends_with(end), "{before}");
        assert_eq!(plain.cut_tokens, tokens);
    }
    assert!(plain(&head(), &answer, None, true, 4).cut_at.is_none());
}

#[test]
fn chunks_of_text_are_as_clients_expect() {
    let chunks = parsed(&events(&answer(vec![words(&["One", " \"two\""])]), None, false));
    assert_eq!(chunks.len(), 4);
    for chunk in &chunks {
        assert_eq!((&chunk["id"], &chunk["object"]), (&"chatcmpl-1".into(), &"chat.completion.chunk".into()));
        assert_eq!(chunk["choices"][0]["index"], 0);
        assert!(chunk.get("usage").is_none());
        assert!(chunk["choices"][0]["delta"].get("tool_calls").is_none());
    }
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(chunks[2]["choices"][0]["delta"], serde_json::json!({"content": " \"two\""}));
    assert_eq!(chunks[2]["choices"][0]["finish_reason"], Value::Null);
    assert_eq!(chunks[3]["choices"][0]["finish_reason"], "stop");
}

#[test]
fn usage_is_one_more_chunk_and_null_before() {
    let chunks = parsed(&events(&answer(vec![words(&["One"]), words(&["Two", " more"])]), None, true));
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], serde_json::json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 3);
    assert!(before.iter().all(|chunk| chunk.as_object().unwrap().get("usage") == Some(&Value::Null)));
    let finishes = |index| {
        let of = |chunk: &&Value| {
            let choice = &chunk["choices"][0];
            choice["index"] == index && choice["finish_reason"] == "stop"
        };
        before.iter().filter(of).count()
    };
    assert_eq!((finishes(0), finishes(1)), (1, 1));
}

#[test]
fn tool_calls_follow_the_rules_of_deltas() {
    let chunks = parsed(&events(&answer(vec![calls()]), None, false));
    assert_eq!(chunks[0]["choices"][0]["delta"]["content"], Value::Null);
    let mut names = Vec::new();
    let mut arguments = [String::new(), String::new()];
    let mut last = 0;
    for chunk in &chunks[1..chunks.len() - 1] {
        let call = &chunk["choices"][0]["delta"]["tool_calls"][0];
        let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
        assert!(index >= last, "calls do not interleave");
        last = index;
        if let Some(name) = call["function"].get("name") {
            assert_eq!(call["type"], "function");
            assert!(call["id"].is_string());
            names.push(name.as_str().unwrap());
        } else {
            assert_eq!(call.as_object().unwrap().len(), 2, "index and function alone: {call}");
        }
        arguments[index].push_str(call["function"]["arguments"].as_str().unwrap());
    }
    assert_eq!(names, ["f", "g"]);
    assert_eq!(arguments, [r#"{"a": "b"}"#, r#"{"a": "b"}"#]);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn log_probabilities_have_a_token_each_and_fall() {
    let answer = answer(vec![words(&["One", " two"])]);
    let json: Value =
        serde_json::from_slice(&plain(&head(), &answer, Some(3), true, u64::MAX).bytes).unwrap();
    let tokens = json["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(tokens.len(), 2);
    let top = tokens[1]["top_logprobs"].as_array().unwrap();
    assert_eq!((&top[0]["token"], &top[0]["logprob"]), (&tokens[1]["token"], &tokens[1]["logprob"]));
    assert!(top[0]["logprob"].as_f64() > top[1]["logprob"].as_f64());
    assert_eq!(tokens[1]["bytes"], serde_json::json!([32, 116, 119, 111]));
    let chunks = parsed(&events(&answer, Some(3), false));
    assert_eq!(chunks[2]["choices"][0]["logprobs"]["content"][0], tokens[1]);
    assert_eq!(chunks[0]["choices"][0]["logprobs"], Value::Null);
}

#[test]
fn choices_take_turns_and_rounds_pace_them() {
    let answer = answer(vec![words(&["A", " b"]), words(&["C"])]);
    let rounds: Vec<_> = script(&answer, true);
    use Event::{Done, Finish, Role, Usage, Word};
    assert_eq!(
        rounds,
        [
            (0, Role { choice: 0 }),
            (0, Role { choice: 1 }),
            (0, Word { choice: 0, piece: 0 }),
            (0, Word { choice: 1, piece: 0 }),
            (1, Word { choice: 0, piece: 1 }),
            (0, Finish { choice: 1 }),
            (1, Finish { choice: 0 }),
            (1, Usage),
            (1, Done),
        ]
    );
    assert_eq!(answer.rounds(), 2);
}

#[test]
fn a_malformed_event_is_an_event_and_not_json() {
    let event = &events(&answer(vec![words(&["One"])]), None, false)[1];
    let broken = String::from_utf8(malformed_event(event.as_bytes()).to_vec()).unwrap();
    let json = broken.strip_prefix("data: ").and_then(|e| e.strip_suffix("\n\n")).unwrap();
    assert!(serde_json::from_str::<Value>(json).is_err());
}
