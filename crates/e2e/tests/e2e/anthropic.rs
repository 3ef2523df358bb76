//! Two dialects in, two dialects out: the same question gets the same answer, whoever asks and whoever answers.

use serde_json::{Value, json};
use weir_e2e::{
    books::Books,
    http::Http,
    load::{Kind, Seen},
    stand::Stand,
};
use weir_llm::tokens::count_text;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    OpenAi,
    Anthropic,
}

const CLIENTS: [Client; 2] = [Client::OpenAi, Client::Anthropic];
/// Of a provider that speaks OpenAI's dialect, and of one that speaks Anthropic's.
const MODELS: [&str; 2] = ["gpt-4o-mini", "claude-haiku-4-5"];

/// What is asked, in no dialect.
#[derive(Clone)]
struct Ask {
    model: &'static str,
    question: String,
    tools: &'static [&'static str],
    stream: bool,
    sim: Value,
}

impl Ask {
    fn new(model: &'static str, question: &str) -> Self {
        Self { model, question: question.to_owned(), tools: &[], stream: false, sim: json!({}) }
    }

    fn body(&self, client: Client) -> Value {
        let schema =
            json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
        let mut body = json!({
            "model": self.model, "stream": self.stream, "max_tokens": 600, "x_sim": self.sim,
            "messages": [{"role": "user", "content": self.question}]
        });
        let tool = |name: &&str| match client {
            Client::OpenAi => json!({"type": "function", "function": {"name": name, "parameters": schema}}),
            Client::Anthropic => json!({"name": name, "input_schema": schema}),
        };
        if !self.tools.is_empty() {
            body["tools"] = self.tools.iter().map(tool).collect();
        }
        if client == Client::OpenAi && self.stream {
            body["stream_options"] = json!({"include_usage": true});
        }
        body
    }
}

fn path(client: Client) -> &'static str {
    match client {
        Client::OpenAi => "/v1/chat/completions",
        Client::Anthropic => "/v1/messages",
    }
}

/// What was answered, in no dialect.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: String,
    calls: Vec<(String, Value)>,
    finish: String,
    input_tokens: u64,
    output_tokens: u64,
    failed: bool,
}

impl Said {
    fn usage(&mut self, usage: &Value) {
        let count = |names: &[&str]| names.iter().filter_map(|name| usage[name].as_u64()).sum::<u64>();
        let input =
            ["prompt_tokens", "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
        self.input_tokens = count(&input);
        self.output_tokens = count(&["completion_tokens", "output_tokens"]);
    }

    fn finish(&mut self, reason: &Value) {
        let Some(reason) = reason.as_str() else { return };
        assert!(self.finish.is_empty(), "a second finish: {reason}");
        match reason {
            "stop" | "end_turn" => "end",
            "tool_calls" | "tool_use" => "tools",
            "length" | "max_tokens" => "length",
            other => other,
        }
        .clone_into(&mut self.finish);
    }

    fn whole(client: Client, answer: &Value) -> Self {
        let mut said = Self::default();
        said.usage(&answer["usage"]);
        match client {
            Client::OpenAi => {
                let choice = &answer["choices"][0];
                said.finish(&choice["finish_reason"]);
                said.text = choice["message"]["content"].as_str().unwrap_or_default().to_owned();
                for call in choice["message"]["tool_calls"].as_array().into_iter().flatten() {
                    said.called(&call["function"]["name"], call["function"]["arguments"].as_str().unwrap());
                }
            }
            Client::Anthropic => {
                assert_eq!((&answer["type"], &answer["role"]), (&json!("message"), &json!("assistant")));
                said.finish(&answer["stop_reason"]);
                for block in answer["content"].as_array().unwrap() {
                    match block["type"].as_str().unwrap() {
                        "text" => said.text.push_str(block["text"].as_str().unwrap()),
                        "tool_use" => said.calls.push((text(&block["name"]), block["input"].clone())),
                        other => panic!("{other}"),
                    }
                }
            }
        }
        said
    }

    fn called(&mut self, name: &Value, arguments: &str) {
        self.calls.push((text(name), serde_json::from_str(arguments).unwrap()));
    }

    fn streamed(client: Client, events: &[String]) -> Self {
        let mut said = Self::default();
        let mut calls: Vec<(String, String)> = Vec::new();
        let (last, events) = events.split_last().unwrap();
        match client {
            Client::OpenAi => assert_eq!(last, "[DONE]"),
            Client::Anthropic => assert_eq!(last, r#"{"type":"message_stop"}"#),
        }
        for event in events {
            let event: Value = serde_json::from_str(event).unwrap();
            said.failed |= event["error"].is_object();
            match client {
                Client::OpenAi => said.chunk(&event, &mut calls),
                Client::Anthropic => said.event(&event, &mut calls),
            }
        }
        for (name, arguments) in calls {
            said.called(&json!(name), &arguments);
        }
        said
    }

    fn chunk(&mut self, chunk: &Value, calls: &mut Vec<(String, String)>) {
        if chunk["usage"].is_object() {
            self.usage(&chunk["usage"]);
        }
        let choice = &chunk["choices"][0];
        self.finish(&choice["finish_reason"]);
        self.text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            if let Some(name) = call["function"]["name"].as_str() {
                assert_eq!(index, calls.len());
                calls.push((name.to_owned(), String::new()));
            }
            calls[index].1.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
        }
    }

    fn event(&mut self, event: &Value, calls: &mut Vec<(String, String)>) {
        match event["type"].as_str().unwrap() {
            "content_block_start" if event["content_block"]["type"] == "tool_use" => {
                calls.push((text(&event["content_block"]["name"]), String::new()));
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                self.text.push_str(delta["text"].as_str().unwrap_or_default());
                if let Some(json) = delta["partial_json"].as_str() {
                    calls.last_mut().unwrap().1.push_str(json);
                }
            }
            "message_delta" => {
                self.finish(&event["delta"]["stop_reason"]);
                self.usage(&event["usage"]);
            }
            _ => {}
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn answer(http: &Http, client: Client, ask: &Ask) -> Said {
    let body = ask.body(client);
    if ask.stream {
        let events = http.stream(path(client), &body).await.unwrap();
        return Said::streamed(client, &events.all().await.unwrap());
    }
    let answer = http.post(path(client), &body).await.unwrap();
    assert_eq!(answer.status, 200, "{client:?} {answer:?}");
    Said::whole(client, &answer.json())
}

#[tokio::test]
async fn the_same_question_has_the_same_answer_in_every_pair_of_dialects() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    for model in MODELS {
        for (question, tools) in [
            ("Say hello to \u{1f30d} please.", &[][..]),
            ("Use get_weather now.", &["get_weather", "get_time"][..]),
            ("Use get_weather and get_time now.", &["get_weather", "get_time"][..]),
        ] {
            let mut said = Vec::new();
            for client in CLIENTS {
                for stream in [false, true] {
                    let ask = Ask { tools, stream, ..Ask::new(model, question) };
                    said.push(answer(&http, client, &ask).await);
                }
            }
            let others = said.split_off(1);
            let first = said.remove(0);
            assert_eq!(first.calls.len(), question.matches("get_").count(), "{first:?}");
            assert_eq!(first.finish, if first.calls.is_empty() { "end" } else { "tools" });
            assert!(first.input_tokens > 0 && first.output_tokens > 0, "{first:?}");
            for mut other in others {
                if !tools.is_empty() {
                    // Tools are written differently, so they count differently.
                    other.input_tokens = first.input_tokens;
                }
                assert_eq!(first, other, "{model}");
            }
        }
    }
}

#[tokio::test]
async fn refusals_and_cuts_are_told_in_the_client_s_dialect() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    for model in MODELS {
        for client in CLIENTS {
            for (status, expected) in [(400, 400), (404, 404), (429, 429), (500, 500), (529, 529)] {
                for stream in [false, true] {
                    let ask = Ask { sim: json!({"status": status}), stream, ..Ask::new(model, "Fail.") };
                    let refused = http.post(path(client), &ask.body(client)).await.unwrap();
                    let translated = (client == Client::OpenAi) == (model == MODELS[1]);
                    let expected = if expected == 529 && translated && client == Client::OpenAi {
                        503
                    } else {
                        expected
                    };
                    assert_eq!(refused.status, expected, "{client:?} {model} {refused:?}");
                    let body = refused.json();
                    assert!(!body["error"]["message"].as_str().unwrap().is_empty(), "{body}");
                    match client {
                        Client::OpenAi => assert!(body["error"].get("code").is_some(), "{body}"),
                        Client::Anthropic => assert_eq!(body["type"], "error", "{body}"),
                    }
                }
            }
            let cut = Ask { sim: json!({"tokens": 50, "cut_after": 5}), ..Ask::new(model, "Break off.") };
            let refused = http.post(path(client), &cut.body(client)).await.unwrap();
            assert_eq!(refused.status, 502, "{refused:?}");
            let said = answer(&http, client, &Ask { stream: true, ..cut }).await;
            assert!(said.failed && said.finish.is_empty() && count_text(&said.text) <= 5, "{said:?}");
            let failing = json!({"tokens": 50, "cut_after": 5, "status": 500});
            let failing = Ask { sim: failing, stream: true, ..Ask::new(model, "Fail in the middle.") };
            let said = answer(&http, client, &failing).await;
            assert!(said.failed && said.finish.is_empty() && count_text(&said.text) == 5, "{said:?}");
        }
    }
}

#[tokio::test]
async fn a_tool_s_result_is_used_in_every_pair_of_dialects() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    for model in MODELS {
        let mut said = Vec::new();
        for client in CLIENTS {
            let ask = Ask { tools: &["get_time"], ..Ask::new(model, "Use get_time now.") };
            let mut body = ask.body(client);
            let first = http.post(path(client), &body).await.unwrap().json();
            let messages = body["messages"].as_array_mut().unwrap();
            match client {
                Client::OpenAi => {
                    let message = first["choices"][0]["message"].clone();
                    let id = message["tool_calls"][0]["id"].clone();
                    messages.push(message);
                    messages.push(json!({"role": "tool", "tool_call_id": id, "content": "half past nine"}));
                }
                Client::Anthropic => {
                    let id = first["content"][0]["id"].clone();
                    messages.push(json!({"role": "assistant", "content": first["content"]}));
                    let result =
                        json!({"type": "tool_result", "tool_use_id": id, "content": "half past nine"});
                    messages.push(json!({"role": "user", "content": [result]}));
                }
            }
            let second = http.post(path(client), &body).await.unwrap();
            assert_eq!(second.status, 200, "{client:?} {model} {second:?}");
            said.push(Said::whole(client, &second.json()));
        }
        assert!(said[0].text.starts_with("The result says half past nine:"), "{said:?}");
        assert_eq!(said[0].text, said[1].text);
    }
}

#[tokio::test]
async fn what_is_lost_is_named_or_refused() {
    let stand = Stand::shared();
    let http = stand.gateway().with_key(&stand.tenant().await.unwrap().key);
    let mut body = Ask::new(MODELS[1], "Some json.").body(Client::OpenAi);
    body["logit_bias"] = json!({"5": 1});
    body["response_format"] = json!({"type": "json_object"});
    body["x_sim"] = json!({"text": "{}"});
    let answer = http.post("/v1/chat/completions", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-weir-warnings"), "dropped;logit_bias, emulated;response_format");
    assert_eq!(answer.header("x-weir-provider"), "simulator-anthropic");
    let strict = http.with_header("x-weir-strict", "true");
    let refused = strict.post("/v1/chat/completions", &body).await.unwrap();
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("logit_bias"), "{refused:?}");
    // The provider that speaks the client's dialect loses nothing.
    body["model"] = json!(MODELS[0]);
    let whole = strict.post("/v1/chat/completions", &body).await.unwrap();
    assert_eq!((whole.status, whole.header("x-weir-warnings")), (200, ""), "{whole:?}");
}

#[tokio::test]
async fn anthropic_s_clients_find_what_they_look_for() {
    let stand = Stand::shared();
    let tenant =
        stand.tenant_with(&json!({"requests_per_minute": 100, "tokens_per_minute": 100_000})).await.unwrap();
    let http =
        stand.gateway().with_header("x-api-key", &tenant.key).with_header("anthropic-version", "2023-06-01");
    let ask = Ask::new(MODELS[1], "Say hello.").body(Client::Anthropic);
    for path in ["/v1/messages", "/v1/messages?beta=true", "/anthropic/v1/messages", "/api/v1/messages"] {
        let answer = http.post(path, &ask).await.unwrap();
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
        assert_eq!(answer.header("anthropic-ratelimit-requests-limit"), "100");
        assert!(answer.header("anthropic-ratelimit-tokens-reset").ends_with('Z'));
        assert_eq!(answer.header("x-weir-model"), MODELS[1]);
    }
    let answer =
        http.post("/openai/chat/completions", &Ask::new(MODELS[0], "Hi.").body(Client::OpenAi)).await;
    assert_eq!(answer.unwrap().status, 200);
    let models = http.get("/v1/models").await.unwrap().json();
    let claude = models["data"].as_array().unwrap().iter().find(|m| m["id"] == MODELS[1]).unwrap();
    assert_eq!((&claude["type"], &models["has_more"]), (&json!("model"), &json!(false)), "{claude}");
    assert!(claude["created_at"].as_str().unwrap().starts_with("2025-"), "{claude}");
    let absent = http.get("/v1/models/nobody").await.unwrap();
    assert_eq!(absent.json()["error"]["type"], "not_found_error");
    let counting = json!({"model": MODELS[1], "messages": ask["messages"]});
    let usage = &http.post("/v1/messages", &ask).await.unwrap().json()["usage"]["input_tokens"];
    for model in MODELS {
        let mut counting = counting.clone();
        counting["model"] = json!(model);
        let counted = http.post("/v1/messages/count_tokens?beta=true", &counting).await.unwrap();
        assert_eq!((counted.status, &counted.json()["input_tokens"]), (200, usage), "{model} {counted:?}");
    }
    let wrong = stand.gateway().with_header("x-api-key", "pk_live_nonsense");
    for (http, body, status, kind) in [
        (&wrong, &ask, 401, "authentication_error"),
        (
            &http,
            &json!({"model": "nobody", "max_tokens": 1, "messages": ask["messages"]}),
            404,
            "not_found_error",
        ),
        (&http, &json!({"model": MODELS[1], "messages": ask["messages"]}), 400, "invalid_request_error"),
        (&http, &json!({"model": MODELS[1], "max_tokens": 1, "messages": []}), 400, "invalid_request_error"),
    ] {
        let refused = http.post("/v1/messages", body).await.unwrap();
        let body = refused.json();
        assert_eq!(
            (refused.status, &body["type"], &body["error"]["type"]),
            (status, &json!("error"), &json!(kind))
        );
        assert_eq!(body["request_id"], refused.header("x-request-id"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_equal_the_ledger_in_every_pair_of_dialects() {
    const ROUNDS: usize = 12;
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let gateway = stand.gateway().with_key(&tenant.key);
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..ROUNDS * 20 {
        asking.spawn(counted(gateway.clone(), n));
    }
    let seen = asking.join_all().await;
    let books = Books {
        simulator: stand.simulator(),
        nats_url: stand.nats.url(),
        database_url: stand.database.admin_url.clone(),
    };
    let summary = books.agree(&seen).await.unwrap();
    assert!(summary.succeeded > ROUNDS * 8 && summary.cut > ROUNDS && summary.failed > ROUNDS, "{summary:?}");
    stand.stop().await.unwrap();
}

/// One of the pairs, and one of the ways a request can end.
async fn counted(gateway: Http, n: usize) -> Seen {
    let (client, model) = (CLIENTS[n % 2], MODELS[n / 2 % 2]);
    let kind =
        [Kind::Plain, Kind::StreamedWithUsage, Kind::CutStream, Kind::Failing, Kind::NoUsage][n / 4 % 5];
    let request_id = format!("pair-{n}");
    let http = gateway.with_header("x-request-id", &request_id);
    let tokens = 5 + n % 23;
    let sim = match kind {
        Kind::CutStream => json!({"tokens": tokens, "cut_after": n % 5}),
        Kind::Failing => json!({"status": if n % 8 < 4 { 500 } else { 429 }}),
        Kind::NoUsage => json!({"tokens": tokens, "no_usage": true}),
        _ => json!({"tokens": tokens}),
    };
    let stream = matches!(kind, Kind::StreamedWithUsage | Kind::CutStream);
    let ask = Ask { sim, stream, ..Ask::new(model, &format!("Request number {n} of the pairs.")) };
    let mut seen = Seen { request_id, kind, finished: None, relayed: 0, lost: false };
    if kind == Kind::Failing {
        let refused = http.post(path(client), &ask.body(client)).await.unwrap();
        assert!(refused.status >= 429, "{refused:?}");
        return seen;
    }
    let said = answer(&http, client, &ask).await;
    if said.failed {
        seen.relayed = count_text(&said.text);
    } else if kind != Kind::NoUsage || said.input_tokens > 0 {
        // Where the provider says nothing, the dialect that always tells gets our own count.
        seen.finished = Some((said.input_tokens, said.output_tokens));
    }
    seen
}
