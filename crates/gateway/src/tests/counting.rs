//! Counting takes the same bodies as calls do, and refuses the same.

use super::*;

/// What no member here may be, each of another type; a member's own type is left out by the table.
fn nonsense() -> [(&'static str, Value); 6] {
    [
        ("number", json!(-1)),
        ("bool", json!(true)),
        ("string", json!("zzz")),
        ("list", json!([1])),
        ("object", json!({"zzz": [1]})),
        ("lists", json!([[[]]])),
    ]
}

/// A body, and pointers to members of it with the types that are right there.
struct Dialect {
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: Value,
    members: &'static [(&'static str, &'static [&'static str])],
}

fn dialects() -> [Dialect; 3] {
    [
        Dialect {
            path: "/v1/messages/count_tokens",
            headers: &[("anthropic-version", "2023-06-01")],
            body: json!({
                "model": "m",
                "system": [{"type": "text", "text": "s"}],
                "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
                "tool_choice": {"type": "tool", "name": "f"},
                "thinking": {"type": "enabled", "budget_tokens": 1024},
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "t"}]},
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "r"}]},
                ],
            }),
            members: &[
                ("/model", &["string"]),
                ("/system", &["string"]),
                ("/system/0", &[]),
                ("/system/0/text", &["string"]),
                ("/tools", &[]),
                ("/tools/0", &[]),
                ("/tools/0/name", &["string"]),
                ("/tools/0/description", &["string"]),
                ("/tools/0/input_schema", &["object"]),
                ("/tool_choice", &[]),
                ("/tool_choice/type", &[]),
                ("/tool_choice/name", &["string"]),
                ("/thinking", &[]),
                ("/thinking/type", &["string"]),
                ("/thinking/budget_tokens", &[]),
                ("/messages", &[]),
                ("/messages/0", &[]),
                ("/messages/0/role", &[]),
                ("/messages/0/content", &["string"]),
                ("/messages/0/content/0", &[]),
                ("/messages/0/content/0/type", &["string"]),
                ("/messages/0/content/0/text", &["string"]),
                ("/messages/1/content/0/id", &["string"]),
                ("/messages/1/content/0/name", &["string"]),
                ("/messages/1/content/0/input", &["object"]),
                ("/messages/2/content/0/tool_use_id", &["string"]),
                ("/messages/2/content/0/content", &["string"]),
            ],
        },
        Dialect {
            path: "/v1beta/models/m:countTokens",
            headers: &[],
            body: json!({"generateContentRequest": {
                "model": "models/m",
                "systemInstruction": {"parts": [{"text": "s"}]},
                "tools": [{"functionDeclarations": [{"name": "f", "description": "d", "parameters": {"type": "OBJECT"}}]}],
                "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
                "generationConfig": {"temperature": 1, "maxOutputTokens": 5, "stopSequences": ["x"]},
                "contents": [
                    {"role": "user", "parts": [{"text": "t"}]},
                    {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
                    {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]},
                ],
            }}),
            members: &[
                ("/generateContentRequest/systemInstruction", &["string", "object"]),
                ("/generateContentRequest/systemInstruction/parts", &[]),
                ("/generateContentRequest/systemInstruction/parts/0/text", &["string"]),
                ("/generateContentRequest/tools", &[]),
                ("/generateContentRequest/tools/0", &["object"]),
                ("/generateContentRequest/tools/0/functionDeclarations", &[]),
                ("/generateContentRequest/tools/0/functionDeclarations/0/name", &["string"]),
                ("/generateContentRequest/tools/0/functionDeclarations/0/description", &["string"]),
                ("/generateContentRequest/toolConfig", &["object"]),
                ("/generateContentRequest/toolConfig/functionCallingConfig", &["object"]),
                ("/generateContentRequest/generationConfig", &["object"]),
                ("/generateContentRequest/generationConfig/temperature", &["number"]),
                ("/generateContentRequest/generationConfig/maxOutputTokens", &[]),
                ("/generateContentRequest/generationConfig/stopSequences", &[]),
                ("/generateContentRequest/contents", &[]),
                ("/generateContentRequest/contents/0/parts", &[]),
                ("/generateContentRequest/contents/0/parts/0", &["object"]),
                ("/generateContentRequest/contents/0/parts/0/text", &["string"]),
                ("/generateContentRequest/contents/1/parts/0/functionCall", &[]),
                ("/generateContentRequest/contents/1/parts/0/functionCall/name", &["string"]),
                ("/generateContentRequest/contents/1/parts/0/functionCall/args", &["object"]),
                ("/generateContentRequest/contents/2/parts/0/functionResponse/name", &["string"]),
            ],
        },
        Dialect {
            path: "/v1/responses/input_tokens",
            headers: &[],
            body: json!({
                "model": "m",
                "instructions": "i",
                "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}],
                "tool_choice": {"type": "function", "name": "f"},
                "reasoning": {"effort": "low"},
                "text": {"format": {"type": "text"}},
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "t"}]},
                    {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "a", "output": "r"},
                ],
            }),
            members: &[
                ("/model", &["string"]),
                ("/instructions", &["string"]),
                ("/tools", &[]),
                ("/tools/0", &[]),
                ("/tools/0/name", &["string"]),
                ("/tools/0/description", &["string"]),
                ("/tools/0/parameters", &["object"]),
                ("/tool_choice", &[]),
                ("/tool_choice/name", &["string"]),
                ("/reasoning", &["object"]),
                ("/reasoning/effort", &["string"]),
                ("/text", &["object"]),
                ("/text/format", &[]),
                ("/input", &["string"]),
                ("/input/0", &[]),
                ("/input/0/role", &[]),
                ("/input/0/content", &["string"]),
                ("/input/0/content/0", &[]),
                ("/input/0/content/0/text", &["string"]),
                ("/input/1/call_id", &["string"]),
                ("/input/1/name", &["string"]),
                ("/input/1/arguments", &["string"]),
                ("/input/2/call_id", &["string"]),
                ("/input/2/output", &["string"]),
            ],
        },
    ]
}

#[tokio::test]
async fn what_a_call_would_refuse_counting_refuses() {
    let house = house();
    let mut counted = Vec::new();
    for Dialect { path, headers, body, members } in dialects() {
        let ask = |body: &Value| {
            let ask = post(path, body).key(&house.key);
            headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value))
        };
        let (status, answer) = ask(&body).json(&house).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        for (pointer, right) in members {
            for (kind, wrong) in nonsense() {
                if right.contains(&kind) {
                    continue;
                }
                let mut body = body.clone();
                *body.pointer_mut(pointer).unwrap() = wrong.clone();
                let (status, answer) = ask(&body).json(&house).await;
                if status != StatusCode::BAD_REQUEST {
                    counted.push(format!("{path} {pointer} = {wrong}: {status} {answer}"));
                }
            }
        }
    }
    assert!(counted.is_empty(), "{} are counted:\n{}", counted.len(), counted.join("\n"));
}
