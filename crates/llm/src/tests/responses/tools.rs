//! Tools that only Responses have, with providers that don't.

use super::*;

fn function(name: &str) -> Value {
    json!({"type": "function", "name": name, "parameters": {"type": "object"}})
}

/// What Codex sends for a server of MCP, and what it did before.
fn body() -> Value {
    json!({"model": "m", "tools": [function("shell"),
            {"type": "namespace", "name": "mcp__docs", "description": "d",
                "tools": [function("search"), {"type": "custom", "name": "patch"}]}],
        "input": [
            {"type": "additional_tools", "role": "developer", "tools": [function("shell"),
                {"type": "namespace", "name": "web", "tools": [function("search")]}]},
            {"role": "user", "content": "Look it up."},
            {"type": "function_call", "call_id": "call_1", "namespace": "mcp__docs", "name": "search", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "call_2", "namespace": "mcp__docs", "name": "patch", "input": "p"},
            {"type": "function_call_output", "call_id": "call_1", "output": "found"},
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"}]})
}

fn names(tools: &Value) -> Vec<String> {
    let name = |tool: &Value| tool["function"]["name"].as_str().or(tool["name"].as_str()).unwrap().to_owned();
    tools.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn tools_of_namespaces_are_tools_of_one_name_to_others_and_theirs_again_in_the_answer() {
    let body = body();
    let all = ["shell", "mcp__docs__search", "mcp__docs__patch", "web__search"];
    for into in [Dialect::OpenAi, Dialect::Anthropic] {
        let (sent, losses) = asked(Dialect::Responses, into, "m", &body);
        assert_eq!(losses, "emulated;tools.custom, emulated;tools.namespace", "{into:?}");
        assert_eq!(names(&sent["tools"]), all, "{into:?}");
        assert!(sent["messages"].to_string().matches("mcp__docs__").count() == 2, "{sent}");
    }

    let call_of = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let calls = [
        call_of("c1", "mcp__docs__search", "{}"),
        call_of("c2", "mcp__docs__patch", "{\"input\":\"x\"}"),
        call_of("c3", "shell", "{}"),
    ];
    let answer = json!({"id": "chatcmpl-1", "created": 1, "model": "gpt", "choices": [{"message": {"role": "assistant",
        "tool_calls": calls}, "finish_reason": "tool_calls"}]});
    let whole = answered(Dialect::OpenAi, Dialect::Responses, &answer, &call(&body))["output"].clone();
    let mut deltas = calls.to_vec();
    for (index, delta) in deltas.iter_mut().enumerate() {
        delta["index"] = index.into();
    }
    let stream = format!(
        "data: {}\n\ndata: [DONE]\n\n",
        json!({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"tool_calls": deltas}, "finish_reason": "tool_calls"}]})
    );
    let events = events(&relayed(Dialect::OpenAi, Dialect::Responses, &[stream.as_bytes()], &call(&body)));
    for output in [&whole, &events.last().unwrap()["response"]["output"]] {
        let told: Vec<_> =
            output.as_array().unwrap().iter().map(|i| (&i["type"], &i["namespace"], &i["name"])).collect();
        assert_eq!(
            told,
            [
                (&json!("function_call"), &json!("mcp__docs"), &json!("search")),
                (&json!("custom_tool_call"), &json!("mcp__docs"), &json!("patch")),
                (&json!("function_call"), &Value::Null, &json!("shell"))
            ]
        );
    }
}

#[test]
fn a_tool_of_a_namespace_is_chosen_and_allowed_as_it_is_called() {
    let mut body = body();
    body["tool_choice"] = json!({"type": "function", "namespace": "web", "name": "search"});
    let (sent, _) = asked(Dialect::Responses, Dialect::OpenAi, "gpt-4o", &body);
    assert_eq!(sent["tool_choice"]["function"]["name"], "web__search");
    for (tools, left) in [
        (
            json!([{"type": "function", "namespace": "mcp__docs", "name": "search"}, {"type": "function", "name": "shell"}]),
            vec!["shell", "mcp__docs__search"],
        ),
        (json!([{"type": "namespace", "name": "mcp__docs"}]), vec!["mcp__docs__search", "mcp__docs__patch"]),
    ] {
        body["tool_choice"] = json!({"type": "allowed_tools", "mode": "auto", "tools": tools});
        let (sent, losses) = asked(Dialect::Responses, Dialect::OpenAi, "gpt-4o", &body);
        assert_eq!(names(&sent["tools"]), left);
        assert!(losses.contains("emulated;tool_choice.allowed_tools"), "{losses}");
    }
}

/// Each against each other, these are minutes.
#[test]
fn long_lists_of_tools_are_read_in_one_pass() {
    const MANY: usize = 30_000;
    let many =
        |kind: &str| (0..MANY).map(|i| json!({"type": kind, "name": format!("f{i}")})).collect::<Vec<_>>();
    let foreign: Vec<_> = (0..MANY).map(|i| json!({"type": format!("t{i}")})).collect();
    let members = json!([{"type": "namespace", "name": "n", "tools": many("function")}]);
    let calls = (0..MANY).map(
        |i| json!({"type": "custom_tool_call", "call_id": format!("c{i}"), "name": format!("f{i}"), "input": "x"}),
    );
    let mut input: Vec<_> = calls.collect();
    input.push(json!({"type": "additional_tools", "tools": members}));
    let tools: Vec<_> = many("custom").into_iter().chain(foreign.clone()).collect();
    let allowed: Vec<_> = many("function").into_iter().chain(foreign.into_iter().rev()).collect();
    let body = json!({"model": "m", "input": input, "tools": tools,
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": allowed}});
    let request =
        Dialect::Responses.decode_request(body.to_string().as_bytes(), &mut Losses::default()).unwrap();
    // Of the namespace none is allowed.
    assert_eq!(request.tools.len(), 2 * MANY);
}

#[test]
fn both_of_openai_s_dialects_say_the_same_of_custom_tools_and_the_rest() {
    let chat = json!({"model": "m", "service_tier": "flex", "verbosity": "low", "metadata": {"a": "b"}, "prompt_cache_key": "k",
        "messages": [{"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [{"id": "c1", "type": "custom", "custom": {"name": "patch", "input": "p"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"}],
        "tools": [{"type": "custom", "custom": {"name": "patch", "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "s: x"}}}}],
        "tool_choice": {"type": "custom", "custom": {"name": "patch"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "description": "d", "strict": false, "schema": {"type": "object"}}}});
    let (sent, losses) = asked(Dialect::OpenAi, Dialect::Responses, "gpt-5", &chat);
    assert_eq!(losses, "");
    assert_eq!(
        (&sent["service_tier"], &sent["metadata"], &sent["prompt_cache_key"]),
        (&json!("flex"), &json!({"a": "b"}), &json!("k"))
    );
    assert_eq!(
        (&sent["text"]["verbosity"], &sent["text"]["format"]["description"]),
        (&json!("low"), &json!("d"))
    );
    assert_eq!(
        sent["tools"],
        json!([{"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "s: x"}}])
    );
    assert_eq!(sent["tool_choice"], json!({"type": "custom", "name": "patch"}));
    assert_eq!(
        sent["input"][1],
        json!({"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": "p"})
    );
    assert_eq!(
        sent["input"][2],
        json!({"type": "custom_tool_call_output", "call_id": "c1", "output": "done"})
    );

    let there = json!({"model": "m", "input": "x", "service_tier": "flex", "prompt_cache_key": "k",
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "description": "d", "strict": false, "schema": {"type": "object"}}}});
    let (sent, losses) = asked(Dialect::Responses, Dialect::OpenAi, "gpt-5", &there);
    assert_eq!(losses, "");
    assert_eq!(
        (&sent["service_tier"], &sent["prompt_cache_key"], &sent["verbosity"]),
        (&json!("flex"), &json!("k"), &json!("low"))
    );
    assert_eq!(sent["response_format"]["json_schema"]["description"], "d");
}

#[test]
fn a_provider_s_call_of_a_custom_tool_reaches_others() {
    let item = json!({"type": "custom_tool_call", "id": "ctc_1", "call_id": "c1", "name": "patch", "input": "a \"b\"", "status": "completed"});
    let mut answer = finished();
    answer["output"] = json!([item]);
    let request = json!({"model": "m"});
    let chat = answered(Dialect::Responses, Dialect::Anthropic, &answer, &call(&request));
    assert_eq!(
        (&chat["content"][0]["name"], &chat["content"][0]["input"]),
        (&json!("patch"), &json!({"input": "a \"b\""}))
    );
    let n = &mut 0;
    let stream = event(n, "response.output_item.added", json!({"output_index": 0, "item": item}))
        + &event(n, "response.custom_tool_call_input.delta", json!({"output_index": 0, "delta": "a \"b\""}))
        + &event(n, "response.output_item.done", json!({"output_index": 0, "item": item}))
        + &event(n, "response.completed", json!({"response": answer}));
    let stream = relayed(Dialect::Responses, Dialect::Anthropic, &[stream.as_bytes()], &call(&request));
    assert!(
        stream.contains(r#""name":"patch""#) && stream.contains(r#""stop_reason":"tool_use""#),
        "{stream}"
    );
    assert_eq!(stream.matches("content_block_start").count(), 2, "{stream}");
}
