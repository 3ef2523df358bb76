//! Dialects that only providers speak: what is asked of them, and what they say.

use serde_json::{Value, json};

use crate::{Call, Dialect, Target, Usage, canonical::Losses};

fn asked(from: Dialect, into: Dialect, model: &str, body: &Value) -> (Value, String) {
    let target = Target { model, max_output: None, adaptive_thinking: false, fixed_sampling: false };
    let mut losses = Losses::default();
    let request = from.decode_request(body.to_string().as_bytes(), &mut losses).unwrap();
    let body = into.encode_request(&request, &target, &mut losses);
    (serde_json::from_slice(&body).unwrap(), losses.header())
}

/// With everything in it that chat completions have and others may.
fn full() -> Value {
    let schema = json!({"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}});
    json!({
        "model": "m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "file", "file": {"filename": "a_b.pdf", "file_data": "data:application/pdf;base64,BBBB"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"z\": 1.0, \"a\":2}"}},
                {"id": "call.2", "type": "function", "function": {"name": "g", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "one"},
            {"role": "tool", "tool_call_id": "call.2", "content": [{"type": "text", "text": "two"}]},
            {"role": "user", "content": "And?"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": true}},
            {"type": "function", "function": {"name": "g"}}],
        "tool_choice": "required", "max_completion_tokens": 100, "stop": ["END"], "temperature": 0.5, "top_p": 0.9,
        "seed": 4, "presence_penalty": 0.1, "x_sim": {"tokens": 3}
    })
}

#[test]
fn a_full_request_becomes_a_converse_request() {
    let (body, losses) =
        asked(Dialect::OpenAi, Dialect::Bedrock, "anthropic.claude-sonnet-4-5-20250929-v1:0", &full());
    let schema = json!({"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}},
        "additionalProperties": false});
    assert_eq!(
        body,
        json!({
            "system": [{"text": "Be kind."}],
            "messages": [
                {"role": "user", "content": [{"text": "Look:"},
                    {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
                    {"document": {"format": "pdf", "name": "a b", "source": {"bytes": "BBBB"}}}]},
                {"role": "assistant", "content": [
                    {"toolUse": {"toolUseId": "call_1", "name": "f", "input": {"z": 1.0, "a": 2}}},
                    {"toolUse": {"toolUseId": "call_2", "name": "g", "input": {}}}]},
                {"role": "user", "content": [
                    {"toolResult": {"toolUseId": "call_1", "content": [{"text": "one"}], "status": "success"}},
                    {"toolResult": {"toolUseId": "call_2", "content": [{"text": "two"}], "status": "success"}},
                    {"text": "And?"}]}],
            "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
            "toolConfig": {"tools": [
                {"toolSpec": {"name": "f", "description": "d", "inputSchema": {"json": schema}, "strict": true}},
                {"toolSpec": {"name": "g", "inputSchema": {"json": {"type": "object", "properties": {}}}}}],
                "toolChoice": {"any": {}}},
            "additionalModelResponseFieldPaths": ["/stop_sequence"],
            "x_sim": {"tokens": 3}
        })
    );
    assert_eq!(losses, "dropped;presence_penalty, dropped;seed");
    let raw = serde_json::to_string(&body["messages"][1]).unwrap();
    assert!(raw.contains(r#""z":1.0"#), "{raw}");
}

#[test]
fn a_full_request_becomes_ollama_s() {
    let (body, losses) = asked(Dialect::OpenAi, Dialect::Ollama, "llama3.2", &full());
    let schema = json!({"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}});
    assert_eq!(
        body,
        json!({
            "model": "llama3.2", "stream": true,
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Look:", "images": ["AAAA"]},
                {"role": "assistant", "content": "", "tool_calls": [
                    {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"z": 1.0, "a": 2}}},
                    {"id": "call.2", "function": {"index": 1, "name": "g", "arguments": {}}}]},
                {"role": "tool", "tool_name": "f", "tool_call_id": "call_1", "content": "one"},
                {"role": "tool", "tool_name": "g", "tool_call_id": "call.2", "content": "two"},
                {"role": "user", "content": "And?"}],
            "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}},
                {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}}],
            "options": {"num_predict": 100, "temperature": 0.5, "top_p": 0.9, "seed": 4, "presence_penalty": 0.1, "stop": ["END"]},
            "truncate": false, "shift": false, "x_sim": {"tokens": 3}
        })
    );
    assert_eq!(losses, "dropped;messages.content.document, dropped;tool_choice");
}

#[test]
fn a_full_request_becomes_mistral_s() {
    let (body, losses) = asked(Dialect::OpenAi, Dialect::Mistral, "mistral-large-latest", &full());
    let id = |at: usize| body["messages"][2]["tool_calls"][at]["id"].as_str().unwrap().to_owned();
    let (one, two) = (id(0), id(1));
    assert!([&one, &two].iter().all(|id| id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric())));
    assert_ne!(one, two);
    let schema = json!({"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}});
    assert_eq!(
        body,
        json!({
            "model": "mistral-large-latest", "stream": true,
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": [{"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "document_url", "document_url": "data:application/pdf;base64,BBBB", "document_name": "a_b.pdf"}]},
                {"role": "assistant", "content": "", "tool_calls": [
                    {"id": one, "type": "function", "function": {"name": "f", "arguments": "{\"z\": 1.0, \"a\":2}"}},
                    {"id": two, "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": one, "name": "f", "content": "one"},
                {"role": "tool", "tool_call_id": two, "name": "g", "content": "two"},
                {"role": "assistant", "content": "Understood."},
                {"role": "user", "content": "And?"}],
            "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": true}},
                {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}}],
            "tool_choice": "any", "max_tokens": 100, "stop": ["END"], "temperature": 0.5, "top_p": 0.9,
            "random_seed": 4, "presence_penalty": 0.1, "x_sim": {"tokens": 3}
        })
    );
    assert_eq!(losses, "emulated;messages.role.tool");
}

#[test]
fn the_beginning_of_an_answer_is_a_prefix_and_thoughts_are_chunks() {
    let body = json!({"model": "m", "reasoning_effort": "high", "messages": [{"role": "user", "content": "x"},
        {"role": "assistant", "thinking_blocks": [{"type": "thinking", "thinking": "hm"}], "content": "It is"}], "safe_prompt": true});
    let (sent, losses) = asked(Dialect::OpenAi, Dialect::Mistral, "magistral-medium-latest", &body);
    assert_eq!(
        sent["messages"][1],
        json!({"role": "assistant", "prefix": true, "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": true},
            {"type": "text", "text": "It is"}]})
    );
    assert_eq!((&sent["prompt_mode"], &sent["safe_prompt"]), (&json!("reasoning"), &json!(true)));
    assert_eq!(losses, "altered;reasoning_effort");
    let (sent, losses) = asked(Dialect::OpenAi, Dialect::Mistral, "mistral-small-latest", &body);
    assert_eq!((&sent["reasoning_effort"], losses.as_str()), (&json!("high"), ""));
    let (sent, losses) = asked(Dialect::OpenAi, Dialect::Mistral, "codestral-latest", &body);
    assert_eq!(sent["messages"][1]["content"], "It is");
    assert_eq!(losses, "dropped;reasoning_effort");
}

#[test]
fn documents_on_bedrock_have_names_of_their_own() {
    let file = |name: &str| json!({"type": "file", "file": {"filename": name, "file_data": "data:application/pdf;base64,BBBB"}});
    let files: Vec<Value> = ["x.pdf", "x (2).pdf", "x.pdf", "\u{e9}", "x.pdf", "\u{e9}"].map(file).into();
    let body = json!({"messages": [{"role": "user", "content": files}]});
    let (sent, _) = asked(Dialect::OpenAi, Dialect::Bedrock, "amazon.nova-pro-v1:0", &body);
    let blocks = sent["messages"][0]["content"].as_array().unwrap();
    let names: Vec<_> = blocks.iter().filter_map(|block| block["document"]["name"].as_str()).collect();
    assert_eq!(names, ["x", "x (2)", "x (3)", "document", "x (4)", "document (2)"]);
}

#[test]
fn a_files_base64_needs_no_url_around_it() {
    for (name, media_type) in
        [("a.pdf", "application/pdf"), ("notes.txt", "text/plain"), ("a", "application/pdf")]
    {
        let file = json!({"type": "file", "file": {"filename": name, "file_data": "BBBB"}});
        let body = json!({"messages": [{"role": "user", "content": [file]}]});
        let (sent, losses) = asked(Dialect::OpenAi, Dialect::Gemini, "gemini-2.5-flash", &body);
        let expected = json!({"mimeType": media_type, "data": "BBBB"});
        assert_eq!(
            (&sent["contents"][0]["parts"][0]["inlineData"], losses.as_str()),
            (&expected, ""),
            "{name}"
        );
    }
}

#[test]
fn a_search_that_is_asked_for_without_options_is_missed() {
    for (options, lost) in [(json!({}), "dropped;web_search_options"), (Value::Null, "")] {
        let body = json!({"messages": [{"role": "user", "content": "x"}], "web_search_options": options});
        let (_, losses) = asked(Dialect::OpenAi, Dialect::Mistral, "mistral-small-latest", &body);
        assert_eq!(losses, lost, "{options}");
    }
}

#[test]
fn claude_on_bedrock_gets_its_state_and_marks_back_as_they_were() {
    let model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    let body = json!({"model": "m", "max_tokens": 5000, "thinking": {"type": "enabled", "budget_tokens": 2000},
        "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "messages": [{"role": "user", "content": "x"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "h\u{e9}", "signature": "EqQB+/=="},
                {"type": "redacted_thinking", "data": "EmwKAhgB=="},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"q": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "is_error": true,
                "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "CC=="}}]},
                {"type": "text", "text": "go on", "cache_control": {"type": "ephemeral"}}]}]});
    let (sent, losses) = asked(Dialect::Anthropic, Dialect::Bedrock, model, &body);
    assert_eq!(losses, "");
    assert_eq!(
        sent,
        json!({
            "system": [{"text": "Be kind."}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
            "messages": [{"role": "user", "content": [{"text": "x"}]},
                {"role": "assistant", "content": [
                    {"reasoningContent": {"reasoningText": {"text": "h\u{e9}", "signature": "EqQB+/=="}}},
                    {"reasoningContent": {"redactedContent": "EmwKAhgB=="}},
                    {"toolUse": {"toolUseId": "toolu_1", "name": "f", "input": {"q": 1}}}]},
                {"role": "user", "content": [
                    {"toolResult": {"toolUseId": "toolu_1", "status": "error",
                        "content": [{"image": {"format": "webp", "source": {"bytes": "CC=="}}}]}},
                    {"text": "go on"}, {"cachePoint": {"type": "default"}}]}],
            "inferenceConfig": {"maxTokens": 5000},
            "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}},
                {"cachePoint": {"type": "default"}}]},
            "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2000},
                "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}
        })
    );
    let answer = json!({"output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "h\u{e9}", "signature": "EqQB+/=="}}},
            {"reasoningContent": {"redactedContent": "EmwKAhgB=="}},
            {"text": "so"},
            {"toolUse": {"toolUseId": "toolu_1", "name": "f", "input": {"q": 1.0}}}]}},
        "stopReason": "tool_use", "invented": 1,
        "usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 42, "cacheReadInputTokens": 20, "cacheWriteInputTokens": 7,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 4}, {"ttl": "5m", "inputTokens": 3}]}});
    let bytes = answer.to_string();
    let usage = Dialect::Bedrock.provider().usage_of_answer(bytes.as_bytes()).unwrap();
    let expected = Usage {
        input_tokens: 37,
        output_tokens: 5,
        cache_read_tokens: 20,
        cache_write_tokens: 7,
        cache_write_1h_tokens: 4,
        ..Usage::default()
    };
    assert_eq!(usage, expected);
    let call = Call { model: "claude".to_owned(), now_s: 7, ..Call::default() };
    let back = Dialect::Bedrock.translate_answer(bytes.as_bytes(), Dialect::Anthropic, usage, &call).unwrap();
    let back: Value = serde_json::from_slice(&back).unwrap();
    assert_eq!(
        back["content"],
        json!([{"type": "thinking", "thinking": "h\u{e9}", "signature": "EqQB+/=="},
            {"type": "redacted_thinking", "data": "EmwKAhgB=="}, {"type": "text", "text": "so"},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"q": 1.0}}])
    );
    assert_eq!((&back["model"], &back["stop_reason"]), (&json!("claude"), &json!("tool_use")));
    assert_eq!(back["usage"]["input_tokens"], 10);
}

#[test]
fn bedrock_is_asked_for_schemas_thoughts_and_tools_as_the_model_takes_them() {
    let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}});
    let body = |more: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let sent = |model: &str, more: Value| asked(Dialect::OpenAi, Dialect::Bedrock, model, &body(more));
    let (claude, losses) =
        sent("anthropic.claude-haiku-4-5-20251001-v1:0", json!({"response_format": format}));
    let structure = &claude["outputConfig"]["textFormat"]["structure"]["jsonSchema"];
    assert_eq!(serde_json::from_str::<Value>(structure["schema"].as_str().unwrap()).unwrap(), schema);
    assert_eq!((structure["name"].as_str(), losses.as_str()), (Some("n"), ""));
    let (nova, losses) = sent("amazon.nova-pro-v1:0", json!({"response_format": format}));
    assert!(nova["system"][0]["text"].as_str().unwrap().contains("additionalProperties"));
    assert_eq!((losses.as_str(), nova.get("outputConfig")), ("emulated;response_format", None));

    // As the model takes them, and in words where it would refuse them.
    let loose = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}});
    let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let wants = |schema: &Value| {
        let tool =
            json!({"type": "function", "function": {"name": "f", "parameters": schema, "strict": true}});
        json!({"tools": [tool], "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}})
    };
    for model in ["global.anthropic.claude-opus-4-6-v1", "qwen.qwen3-32b-v1:0"] {
        let (sent, losses) = sent(model, wants(&loose));
        let told = &sent["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"];
        let expected = json!({"type": "object", "additionalProperties": false,
            "properties": {"n": {"type": "integer", "description": "{minimum: 1}"}}});
        assert_eq!(serde_json::from_str::<Value>(told.as_str().unwrap()).unwrap(), expected);
        let tool = &sent["toolConfig"]["tools"][0]["toolSpec"];
        assert_eq!((&tool["inputSchema"]["json"], &tool["strict"]), (&expected, &json!(true)));
        assert_eq!(losses, "altered;response_format, altered;tools");
    }
    let (told, losses) = sent("global.anthropic.claude-opus-4-6-v1", wants(&map));
    let raw = serde_json::value::to_raw_value(&map).unwrap();
    assert_eq!(told["system"][0]["text"], crate::schema::instruction(&raw));
    let tool = &told["toolConfig"]["tools"][0]["toolSpec"];
    assert_eq!((&tool["inputSchema"]["json"], tool.get("strict")), (&map, None));
    assert_eq!(losses, "altered;tools, emulated;response_format");

    let (opus, _) = sent("global.anthropic.claude-opus-4-6-v1", json!({"reasoning_effort": "high"}));
    let more = json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}});
    assert_eq!(opus["additionalModelRequestFields"], more);
    let newest = json!({"reasoning_effort": "low", "temperature": 0.5});
    let (newest, losses) = sent("anthropic.claude-opus-5-5-v1:0", newest);
    assert_eq!(
        newest["additionalModelRequestFields"]["thinking"],
        json!({"type": "adaptive", "display": "summarized"})
    );
    assert_eq!((losses.as_str(), newest.get("inferenceConfig")), ("dropped;temperature", None));
    let (sonnet, losses) = sent(
        "anthropic.claude-3-7-sonnet-20250219-v1:0",
        json!({"reasoning_effort": "low", "temperature": 0.2}),
    );
    assert_eq!(sonnet["additionalModelRequestFields"]["thinking"]["budget_tokens"], 1024);
    assert!(sonnet["inferenceConfig"]["maxTokens"].as_u64().unwrap() > 1024);
    assert_eq!(losses, "altered;reasoning_effort, dropped;temperature");
    let (oss, _) = sent("openai.gpt-oss-20b-1:0", json!({"reasoning_effort": "low"}));
    assert_eq!(oss["additionalModelRequestFields"], json!({"reasoning_effort": "low"}));
    let (_, losses) = sent("meta.llama3-1-8b-instruct-v1:0", json!({"reasoning_effort": "low"}));
    assert_eq!(losses, "dropped;reasoning_effort");

    // Members of Converse's own come through, and a client's own parameters go before ours.
    let own = json!({"performanceConfig": {"latency": "optimized"}, "reasoning_effort": "low",
        "additionalModelRequestFields": {"reasoning_effort": "high", "k": 1}});
    let (oss, losses) = sent("openai.gpt-oss-20b-1:0", own);
    assert_eq!(oss["additionalModelRequestFields"], json!({"reasoning_effort": "high", "k": 1}));
    assert_eq!((oss["performanceConfig"]["latency"].as_str(), losses.as_str()), (Some("optimized"), ""));

    // Calls without declared tools would be refused.
    let called = json!({"messages": [{"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": ""}]});
    let (plain, losses) = sent("amazon.nova-lite-v1:0", called);
    assert_eq!(plain["toolConfig"]["tools"][0]["toolSpec"]["name"], "f");
    assert_eq!(losses, "emulated;tools");
    let result = &plain["messages"][2]["content"][0]["toolResult"];
    assert_eq!(result["content"][0]["text"], "(no output)");
}

#[test]
fn ollama_s_whole_answers_have_ids_counts_and_log_probabilities() {
    let body = json!({"model": "llama3", "created_at": "2025-01-01T00:00:00Z", "done": true, "done_reason": "length",
        "message": {"role": "assistant", "content": "Hi", "thinking": "hm"}, "prompt_eval_count": 3, "eval_count": 2,
        "logprobs": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{"token": "Ho", "logprob": -1.5}]}]});
    let provider = Dialect::Ollama.provider();
    let answer = provider.decode_answer(body.to_string().as_bytes()).unwrap();
    assert_eq!(answer.usage.map(|u| (u.input_tokens, u.output_tokens)), Some((3, 2)));
    let text = answer.parts().last().unwrap();
    assert_eq!((text.logprobs[0].token.as_str(), text.logprobs[0].top[0].logprob), ("Hi", -1.5));
    assert_eq!(*answer.finish(), crate::canonical::Finish::MaxTokens);
    let schema = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}});
    let ask = json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "response_format": schema,
        "reasoning_effort": "low", "logprobs": true, "top_logprobs": 2, "keep_alive": "5m", "options": {"num_ctx": 8192}, "max_tokens": 9});
    let (sent, losses) = asked(Dialect::OpenAi, Dialect::Ollama, "gpt-oss:20b", &ask);
    assert_eq!((&sent["format"], &sent["think"]), (&json!({"type": "object"}), &json!("low")));
    assert_eq!(sent["options"], json!({"num_ctx": 8192, "num_predict": 9}));
    assert_eq!(sent["keep_alive"], "5m");
    assert_eq!(losses, "");
    let mut unique = ask.clone();
    unique["response_format"]["json_schema"]["schema"] = json!({"type": "array", "uniqueItems": true});
    let (sent, losses) = asked(Dialect::OpenAi, Dialect::Ollama, "gpt-oss:20b", &unique);
    assert_eq!(sent["format"], json!({"type": "array", "description": "{uniqueItems: true}"}));
    assert_eq!(losses, "altered;response_format");
    unique["response_format"]["json_schema"]["schema"] = json!(true);
    let (sent, losses) = asked(Dialect::OpenAi, Dialect::Ollama, "gpt-oss:20b", &unique);
    assert_eq!((sent.get("format"), &sent["messages"][0]["role"]), (None, &json!("system")));
    assert_eq!(losses, "emulated;response_format");
    let (sent, losses) = asked(Dialect::OpenAi, Dialect::Ollama, "qwen3", &ask);
    assert_eq!((&sent["think"], losses.as_str()), (&json!(true), "altered;reasoning_effort"));
}

#[test]
fn files_of_other_vendors_are_nobody_else_s() {
    let file = json!({"type": "document", "source": {"type": "file", "file_id": "file_011"}});
    let image = json!({"type": "image", "source": {"type": "file", "file_id": "file_012"}});
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [file, image, {"type": "text", "text": "x"}]}]});
    let (out, losses) = asked(Dialect::Anthropic, Dialect::Mistral, "mistral-large-latest", &body);
    assert!(!out.to_string().contains("file_01"), "{out}");
    assert_eq!(losses, "dropped;messages.content.file.file_id, dropped;messages.content.image.file_id");
}

#[test]
fn ollama_cuts_nothing_silently_unless_it_is_told_to() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
    let (out, _) = asked(Dialect::OpenAi, Dialect::Ollama, "llama3.2", &body);
    assert_eq!((&out["truncate"], &out["shift"]), (&json!(false), &json!(false)));
    let body = json!({"model": "m", "truncate": true, "shift": true, "messages": [{"role": "user", "content": "x"}]});
    let (out, losses) = asked(Dialect::OpenAi, Dialect::Ollama, "llama3.2", &body);
    assert_eq!((&out["truncate"], &out["shift"], losses.as_str()), (&json!(true), &json!(true), ""));
    let refused = br#"{"error":"the input length exceeds the context length"}"#;
    let failure = Dialect::Ollama.provider().decode_error(400, refused);
    assert_eq!(failure.wrong(), crate::canonical::Wrong::ContextLength);
}
