//! What Claude is asked otherwise than others are, by its model; directly and on Bedrock.

use serde_json::{Value, json};

use super::lenient::relayed;
use crate::{Dialect, Target, canonical::Losses};

/// What a provider of `to` is sent for a client's body, and what was lost.
fn sent(from: Dialect, to: Dialect, model: &str, body: &Value) -> (Value, String) {
    let mut losses = Losses::default();
    let request = from.decode_request(body.to_string().as_bytes(), &mut losses).unwrap();
    let body = to.encode_request(&request, &Target::known(model), &mut losses);
    (serde_json::from_slice(&body).unwrap(), losses.header())
}

/// A chat to Anthropic.
fn chat(model: &str, more: Value) -> (Value, String) {
    let mut body = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64_000});
    let Value::Object(more) = more else { panic!("{more}") };
    body.as_object_mut().unwrap().extend(more);
    sent(Dialect::OpenAi, Dialect::Anthropic, model, &body)
}

/// The same on Bedrock: what is passed on to the model.
fn bedrock(model: &str, more: Value) -> (Value, String) {
    let mut body = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64_000});
    let Value::Object(more) = more else { panic!("{more}") };
    body.as_object_mut().unwrap().extend(more);
    sent(Dialect::OpenAi, Dialect::Bedrock, model, &body)
}

fn function(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}})
}

const SUMMARIZED: &str = r#"{"type":"adaptive","display":"summarized"}"#;

fn summarized() -> Value {
    serde_json::from_str(SUMMARIZED).unwrap()
}

#[test]
fn models_that_take_no_forced_tools_are_asked_in_words() {
    let tools = json!([function("f"), function("g")]);
    let forced = |choice: Value| json!({"tools": tools, "tool_choice": choice});
    let named = json!({"type": "function", "function": {"name": "g"}});
    for model in ["claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-1"] {
        let (body, losses) = chat(model, forced(json!("required")));
        assert_eq!(losses, "emulated;tool_choice", "{model}");
        assert!(body.get("tool_choice").is_none() && body["tools"].as_array().unwrap().len() == 2, "{body}");
        assert!(body["system"][0]["text"].as_str().unwrap().contains("at least one"), "{body}");
        let (body, losses) = chat(model, forced(named.clone()));
        assert_eq!((losses.as_str(), body["tools"].as_array().unwrap().len()), ("emulated;tool_choice", 1));
        assert_eq!(body["tools"][0]["name"], "g");
        assert!(body["system"][0]["text"].as_str().unwrap().contains("`g`"), "{body}");
    }
    let (body, losses) = bedrock("us.anthropic.claude-opus-5-5-v1:0", forced(named.clone()));
    let declared = body["toolConfig"]["tools"].as_array().unwrap();
    assert_eq!((declared.len(), &declared[0]["toolSpec"]["name"]), (1, &json!("g")), "{body}");
    assert!(body["toolConfig"].get("toolChoice").is_none() && losses == "emulated;tool_choice", "{losses}");
    assert!(body["system"][0]["text"].as_str().unwrap().contains("`g`"), "{body}");
    for model in ["claude-opus-5", "claude-fable-5", "claude-sonnet-4-5"] {
        let (body, losses) = chat(model, forced(named.clone()));
        assert_eq!((body["tool_choice"]["type"].as_str(), losses.as_str()), (Some("tool"), ""), "{model}");
    }
}

#[test]
fn only_a_budget_stands_back_for_forced_tools_and_calls_without_thoughts() {
    let tools = json!([function("f")]);
    let call = json!({"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let history = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_a", "content": "r"}]);
    for more in [
        json!({"tools": tools, "messages": history, "reasoning_effort": "high"}),
        json!({"tools": tools, "tool_choice": "required", "reasoning_effort": "high"}),
    ] {
        let (body, losses) = chat("claude-opus-5", more.clone());
        assert_eq!((&body["thinking"], losses.as_str()), (&summarized(), ""), "{more}");
        assert_eq!(body["output_config"]["effort"], "high");
        let (body, losses) = bedrock("anthropic.claude-opus-5-v1:0", more.clone());
        assert_eq!((&body["additionalModelRequestFields"]["thinking"], losses.as_str()), (&summarized(), ""));
        let (body, losses) = chat("claude-sonnet-4-5", more.clone());
        assert_eq!((body.get("thinking"), losses.as_str()), (None, "dropped;reasoning_effort"), "{more}");
        let (body, losses) = bedrock("anthropic.claude-sonnet-4-5-20250929-v1:0", more);
        assert_eq!(body.get("additionalModelRequestFields"), None);
        assert_eq!(losses, "dropped;reasoning_effort");
    }
}

#[test]
fn models_that_think_of_their_own_accord_are_told_not_to() {
    let none = || json!({"reasoning_effort": "none"});
    for (model, thinking, effort, lost) in [
        ("claude-opus-5", json!({"type": "disabled"}), Value::Null, ""),
        ("claude-sonnet-5", json!({"type": "disabled"}), Value::Null, ""),
        ("claude-haiku-5-5", json!({"type": "disabled"}), Value::Null, ""),
        ("claude-sonnet-5-5", json!({"type": "between_tools"}), Value::Null, ""),
        ("claude-opus-5-5", Value::Null, json!("low"), "altered;reasoning_effort"),
        ("claude-fable-5", Value::Null, json!("low"), "altered;reasoning_effort"),
        ("claude-opus-4-8", Value::Null, Value::Null, ""),
        ("claude-haiku-4-5", Value::Null, Value::Null, ""),
    ] {
        let (body, losses) = chat(model, none());
        let found = (&body["thinking"], &body["output_config"]["effort"], losses.as_str());
        assert_eq!(found, (&thinking, &effort, lost), "{model}");
        let (body, losses) = bedrock(&format!("us.anthropic.{model}-v1:0"), none());
        let more = &body["additionalModelRequestFields"];
        let found = (&more["thinking"], &more["output_config"]["effort"], losses.as_str());
        assert_eq!(found, (&thinking, &effort, lost), "{model}");
    }
    let off = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}],
        "thinking": {"type": "disabled"}, "output_config": {"effort": "max"}});
    let (body, losses) = sent(Dialect::Anthropic, Dialect::Bedrock, "anthropic.claude-opus-5-v1:0", &off);
    let more = &body["additionalModelRequestFields"];
    assert_eq!(
        (&more["thinking"]["type"], &more["output_config"]["effort"]),
        (&json!("disabled"), &json!("high"))
    );
    assert_eq!(losses, "altered;reasoning_effort");
}

#[test]
fn thoughts_are_asked_for_where_the_client_sees_them() {
    let shown = |model: &str, more: Value| chat(model, more).0["thinking"].clone();
    let high = || json!({"reasoning_effort": "high"});
    assert_eq!(shown("claude-opus-4-7", high()), summarized());
    assert_eq!(shown("claude-opus-4-6", high()), json!({"type": "adaptive"}));
    // It thinks without being asked to, and says in its thoughts what it does between two calls.
    assert_eq!(shown("claude-opus-5-5", json!({"tools": [function("f")]})), summarized());
    assert_eq!(shown("claude-opus-4-8", json!({"tools": [function("f")]})), Value::Null);
    assert_eq!(shown("claude-opus-5-5", json!({})), Value::Null);
    let gemini = |config: Value| {
        let body = json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
            "generationConfig": {"thinkingConfig": config}});
        sent(Dialect::Gemini, Dialect::Anthropic, "claude-opus-5", &body).0["thinking"].clone()
    };
    assert_eq!(gemini(json!({"includeThoughts": true, "thinkingLevel": "HIGH"})), summarized());
    assert_eq!(gemini(json!({"thinkingLevel": "HIGH"})), json!({"type": "adaptive"}));
    let responses = |reasoning: Value| {
        let body = json!({"input": "Hi", "reasoning": reasoning});
        sent(Dialect::Responses, Dialect::Anthropic, "claude-opus-5", &body).0["thinking"].clone()
    };
    assert_eq!(responses(json!({"effort": "high", "summary": "auto"})), summarized());
    assert_eq!(responses(json!({"effort": "high"})), json!({"type": "adaptive"}));
    let messages = |display: &str| {
        let body = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}],
            "thinking": {"type": "adaptive", "display": display}});
        sent(Dialect::Anthropic, Dialect::Bedrock, "anthropic.claude-opus-4-6-v1", &body).0
            ["additionalModelRequestFields"]["thinking"]
            .clone()
    };
    assert_eq!(messages("omitted"), json!({"type": "adaptive", "display": "omitted"}));
    assert_eq!(messages("summarized"), json!({"type": "adaptive"}));
}

#[test]
fn levels_leave_room_for_the_answer_and_are_no_more_than_was_asked() {
    let budget = |most: u64, effort: &str| {
        let (body, losses) =
            chat("claude-sonnet-4-5", json!({"max_tokens": most, "reasoning_effort": effort}));
        (body["thinking"]["budget_tokens"].as_u64(), losses)
    };
    assert_eq!(budget(4_000, "high"), (Some(2_000), "altered;reasoning_effort".to_owned()));
    assert_eq!(budget(64_000, "high"), (Some(16_384), "altered;reasoning_effort".to_owned()));
    assert_eq!(budget(2_000, "low"), (None, "dropped;reasoning_effort".to_owned()));
    let (body, _) = bedrock(
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        json!({"max_tokens": 4_000, "reasoning_effort": "high"}),
    );
    assert_eq!(body["additionalModelRequestFields"]["thinking"]["budget_tokens"], 2_000);
    // A client's own budget is its own.
    let own = json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "generationConfig": {"maxOutputTokens": 4_000, "thinkingConfig": {"thinkingBudget": 3_000}}});
    let (body, losses) = sent(Dialect::Gemini, Dialect::Anthropic, "claude-sonnet-4-5", &own);
    assert_eq!((body["thinking"]["budget_tokens"].as_u64(), losses.as_str()), (Some(3_000), ""));
    let effort = |model: &str| {
        let (body, losses) =
            bedrock(&format!("us.anthropic.{model}-v1:0"), json!({"reasoning_effort": "xhigh"}));
        let effort = &body["additionalModelRequestFields"]["output_config"]["effort"];
        (effort.as_str().unwrap().to_owned(), losses)
    };
    assert_eq!(effort("claude-opus-5-5"), ("xhigh".to_owned(), String::new()));
    assert_eq!(effort("claude-opus-4-6"), ("high".to_owned(), "altered;reasoning_effort".to_owned()));
}

#[test]
fn blank_texts_are_left_out() {
    let body = json!({"messages": [{"role": "system", "content": " "}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "\n\n"}, {"role": "user", "content": [{"type": "text", "text": " "},
        {"type": "text", "text": "there"}]}, {"role": "assistant", "content": "  "}]});
    let (body, _) = sent(Dialect::OpenAi, Dialect::Anthropic, "claude-sonnet-4-5", &body);
    let text = |text: &str| json!({"type": "text", "text": text});
    assert_eq!(body["messages"], json!([{"role": "user", "content": [text("Hi"), text("there")]}]));
    assert_eq!(body.get("system"), None);
}

#[test]
fn documents_and_images_are_told_as_what_they_are() {
    let file = |data: &str| {
        let file = json!({"type": "file", "file": {"filename": "a", "file_data": data}});
        chat(
            "claude-opus-5",
            json!({"messages": [{"role": "user", "content": [file, {"type": "text", "text": "?"}]}]}),
        )
    };
    let (body, losses) = file("data:text/csv; charset=utf-8;base64,aGVsbG8=");
    let expected = json!({"type": "text", "media_type": "text/plain", "data": "hello"});
    assert_eq!((&body["messages"][0]["content"][0]["source"], losses.as_str()), (&expected, ""));
    let (body, _) = file("data:application/pdf;base64,JVBERi0=");
    assert_eq!(body["messages"][0]["content"][0]["source"]["media_type"], "application/pdf");
    for unreadable in ["data:text/plain;base64,/w==", "data:application/zip;base64,UEs="] {
        let (body, losses) = file(unreadable);
        assert_eq!(
            (body["messages"][0]["content"][0]["type"].as_str(), losses.as_str()),
            (Some("text"), "dropped;messages.content.file"),
            "{unreadable}"
        );
    }
    let image = |to: Dialect, model: &str| {
        let url = "data:image/heic;base64,AAAA";
        let content =
            json!([{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "?"}]);
        let body = json!({"messages": [{"role": "user", "content": content}], "max_tokens": 9});
        sent(Dialect::OpenAi, to, model, &body).1
    };
    assert_eq!(image(Dialect::Anthropic, "claude-opus-5"), "dropped;messages.content.image");
    assert_eq!(image(Dialect::Bedrock, "anthropic.claude-opus-5-v1:0"), "dropped;messages.content.image");
}

#[test]
fn what_was_found_is_text_to_everybody_else() {
    let found = json!({"type": "search_result", "source": "https://x", "title": "T",
        "content": [{"type": "text", "text": "FOUND"}], "citations": {"enabled": true}});
    let call = json!({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}});
    let body = json!({"max_tokens": 9, "tools": [{"name": "f", "input_schema": {"type": "object"}}], "messages": [
        {"role": "user", "content": [found]}, {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [found]}]}]});
    for to in [Dialect::OpenAi, Dialect::Gemini, Dialect::Bedrock, Dialect::Mistral] {
        let (body, losses) = sent(Dialect::Anthropic, to, "m", &body);
        assert_eq!(body.to_string().matches("T\\nhttps://x\\nFOUND").count(), 2, "{to:?}: {body}");
        assert!(losses.contains("emulated;messages.content.search_result"), "{to:?}: {losses}");
    }
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}});
    let body = json!({"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "document",
        "source": {"type": "content", "content": [{"type": "text", "text": "x"}, image]}}]}]});
    let (_, losses) = sent(Dialect::Anthropic, Dialect::Bedrock, "anthropic.claude-opus-5-v1:0", &body);
    assert_eq!(losses, "dropped;messages.content.image");
}

#[test]
fn claude_code_s_user_fits_openai() {
    let user = format!("user_{}_account_x_session_y", "a".repeat(64));
    let body = json!({"max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}], "metadata": {"user_id": user}});
    for to in [Dialect::OpenAi, Dialect::Responses] {
        let (body, losses) = sent(Dialect::Anthropic, to, "gpt-4o", &body);
        assert_eq!(
            (body["user"].as_str().unwrap().len(), losses.contains("altered;user")),
            (64, true),
            "{losses}"
        );
    }
}

#[test]
fn openai_s_models_on_bedrock_are_not_counted_twice() {
    let usage = json!({"inputTokens": 4_995, "outputTokens": 19, "totalTokens": 10_007,
        "cacheReadInputTokens": 0, "cacheWriteInputTokens": 4_993});
    let stream = [
        ("messageStart", json!({"role": "assistant"})),
        ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": "Hi"}})),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("messageStop", json!({"stopReason": "end_turn"})),
        ("metadata", json!({"usage": usage})),
    ];
    for (model, input) in [("us.openai.gpt-5.6-sol", 4_995), ("anthropic.claude-opus-5-v1:0", 9_988)] {
        let used = relayed(Dialect::Bedrock, model, &stream).2.unwrap();
        assert_eq!((used.input_tokens, used.cache_write_tokens), (input, 4_993), "{model}");
    }
    // Whole answers tell them as everybody does.
    let whole = json!({"output": {"message": {"content": []}}, "usage":
        {"inputTokens": 2, "outputTokens": 19, "cacheWriteInputTokens": 4_993}});
    let used = Dialect::Bedrock.provider().usage_of_answer(whole.to_string().as_bytes()).unwrap();
    assert_eq!(used.input_tokens, 4_995);
}
