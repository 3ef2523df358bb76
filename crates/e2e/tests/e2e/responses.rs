//! Stored responses: gone on from, made without their client, and there after whoever made them is gone.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use weir_e2e::{
    http::{Events, Http},
    stand::{Mode, Stand},
    wait::until,
};
use weir_service::Name;
use weir_testkit::Postgres;

const PATIENCE: Duration = Duration::from_secs(60);

async fn made(client: &Http, body: &Value) -> Value {
    let answer = client.post("/v1/responses", body).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn id(response: &Value) -> String {
    response["id"].as_str().unwrap_or_else(|| panic!("no id in {response}")).to_owned()
}

fn text(response: &Value) -> String {
    let items = response["output"].as_array().unwrap().iter();
    let parts = items.filter_map(|item| item["content"].as_array()).flatten();
    parts.filter_map(|part| part["text"].as_str()).collect()
}

/// Data of all events.
async fn read(events: Events) -> Vec<Value> {
    let all = events.all().await.unwrap();
    all.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// Each number once, from `first` on; one end, and nothing after it.
fn assert_whole(events: &[Value], first: u64) {
    let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (first..first + numbers.len() as u64).collect::<Vec<_>>());
    let is_end =
        |kind: &&str| matches!(*kind, "response.completed" | "response.incomplete" | "response.failed");
    let kinds = kinds(events);
    assert_eq!(kinds.iter().filter(|kind| is_end(kind)).count(), 1, "{kinds:?}");
    assert!(is_end(kinds.last().unwrap()), "{kinds:?}");
}

async fn ended(client: &Http, id: &str, status: &str) -> Value {
    let path = format!("/v1/responses/{id}");
    until("the response ended", PATIENCE, async || {
        let answer = client.get(&path).await?;
        ensure!(answer.status == 200 && answer.json()["status"] == status, "{answer:?}");
        Ok(())
    })
    .await
    .unwrap();
    client.get(&path).await.unwrap().json()
}

#[tokio::test]
async fn a_conversation_goes_on_after_a_restart() {
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    for model in ["gpt-4o-mini", "claude-haiku-4-5"] {
        let client = stand.gateway().with_key(&tenant.key);
        let first = made(&client, &json!({"model": model, "input": "Say hello"})).await;
        let body =
            json!({"model": model, "input": "And again", "stream": true, "previous_response_id": id(&first)});
        let told = read(client.stream("/v1/responses", &body).await.unwrap()).await;
        assert_whole(&told, 0);
        let second = told.last().unwrap()["response"].clone();
        assert_eq!(second["previous_response_id"], first["id"]);
        assert_eq!(second["store"], true);
        // The second turn was sent with the first in it.
        let tokens = |response: &Value| response["usage"]["input_tokens"].as_u64().unwrap();
        assert!(tokens(&second) > tokens(&first), "{first} {second}");

        stand.restart().await.unwrap();
        let client = stand.gateway().with_key(&tenant.key);
        for response in [&first, &second] {
            let path = format!("/v1/responses/{}", id(response));
            let kept = client.get(&path).await.unwrap();
            assert_eq!((kept.status, kept.json()), (200, response.clone()));
        }
        let third = json!({"model": model, "input": "More", "previous_response_id": id(&second)});
        let third = made(&client, &third).await;
        assert!(tokens(&third) > tokens(&second));
        let items = client.get(&format!("/v1/responses/{}/input_items?order=asc", id(&third))).await.unwrap();
        let items = items.json();
        let said = items["data"].to_string();
        assert!(
            said.contains("Say hello") && said.contains("More") && said.contains(&text(&first)),
            "{said}"
        );

        let gone = client.delete(&format!("/v1/responses/{}", id(&first))).await.unwrap();
        assert_eq!((gone.status, &gone.json()["deleted"]), (200, &json!(true)));
        let gone = client.get(&format!("/v1/responses/{}", id(&first))).await.unwrap();
        assert_eq!((gone.status, &gone.json()["error"]["type"]), (404, &json!("invalid_request_error")));
        let hole = json!({"model": model, "input": "x", "previous_response_id": id(&third)});
        let hole = client.post("/v1/responses", &hole).await.unwrap();
        let error = &hole.json()["error"];
        assert_eq!((hole.status, &error["code"]), (400, &json!("previous_response_not_found")));
        assert_eq!(error["param"], "previous_response_id");
    }
    let counted = json!({"model": "gpt-4o-mini", "input": "Say hello"});
    let client = stand.gateway().with_key(&tenant.key);
    let counted = client.post("/v1/responses/input_tokens", &counted).await.unwrap();
    assert_eq!(counted.json()["object"], "response.input_tokens", "{counted:?}");
    assert!(counted.json()["input_tokens"].as_u64().unwrap() > 0);
    stand.stop().await.unwrap();
}

/// By a provider that can, and by asking for a summary: the facts are still known, whoever is asked next.
#[tokio::test]
async fn a_conversation_is_compacted_and_gone_on_with() {
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let called = json!([{"role": "user", "content": "Look up the code"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "the code is zebra seven"}]);
    let recall = json!({"role": "user", "content": "Recall what was said"});
    let models = ["simulator-responses/gpt-4o-mini", "gpt-4o-mini", "claude-haiku-4-5"];
    let mut compacted = Vec::new();
    for (model, warned) in models.into_iter().zip(["", "emulated;compact", "emulated;compact"]) {
        let client = stand.gateway().with_key(&tenant.key);
        let body = json!({"model": model, "input": called});
        let answer = client.post("/v1/responses/compact", &body).await.unwrap();
        assert_eq!((answer.status, answer.header("x-weir-warnings")), (200, warned), "{answer:?}");
        assert!(!answer.header("x-weir-cost-usd").is_empty() && !answer.header("x-weir-provider").is_empty());
        let made = answer.json();
        assert_eq!(made["object"], "response.compaction");
        assert!(!made.to_string().contains("zebra") && made["output"].as_array().unwrap().len() == 2);
        let mut input = made["output"].as_array().unwrap().clone();
        input.push(recall.clone());
        compacted.push((model, input));
    }
    // Every instance opens it, also one that begins later.
    stand.restart().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    for (model, input) in &compacted {
        let answer = made(&client, &json!({"model": model, "input": input})).await;
        assert!(text(&answer).contains("zebra seven"), "{model}: {answer}");
        let stream =
            json!({"model": model, "input": "More", "previous_response_id": id(&answer), "stream": true});
        assert_whole(&read(client.stream("/v1/responses", &stream).await.unwrap()).await, 0);
    }
    let ours = &compacted[1].1;
    for model in models {
        let answer = made(&client, &json!({"model": model, "input": ours})).await;
        assert!(text(&answer).contains("zebra seven"), "{model}: {answer}");
    }
    // Nobody else's.
    let stranger = stand.tenant().await.unwrap();
    let body = json!({"model": "gpt-4o-mini", "input": ours});
    for path in ["/v1/responses", "/v1/responses/compact", "/v1/responses/input_tokens"] {
        let refused = stand.gateway().with_key(&stranger.key).post(path, &body).await.unwrap();
        assert_eq!(
            (refused.status, &refused.json()["error"]["param"]),
            (400, &json!("input[1].encrypted_content"))
        );
    }
    let usage = "the usage was counted";
    until(usage, PATIENCE, async || {
        let usage = client.get("/v1/users/me/usage").await?.json();
        ensure!(usage["totals"]["requests"] == 12, "{usage}");
        Ok(())
    })
    .await
    .unwrap();
    stand.stop().await.unwrap();
}

/// Each provider checks the state that comes back to it.
#[tokio::test]
async fn reasoning_is_kept_for_the_next_turn_and_shown_to_those_who_ask() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    for model in ["simulator-responses/o3-mini", "claude-haiku-4-5"] {
        let ask = json!({"model": model, "input": "Say hello", "reasoning": {"effort": "medium"}});
        let first = made(&client, &ask).await;
        let secret = |response: &Value| {
            let thoughts = response["output"].as_array().unwrap().iter();
            let thoughts: Vec<_> = thoughts.filter(|item| item["type"] == "reasoning").collect();
            assert!(!thoughts.is_empty(), "{model}: {response}");
            thoughts.iter().any(|item| item["encrypted_content"].is_string())
        };
        assert!(!secret(&first), "{first}");
        let path = format!("/v1/responses/{}", id(&first));
        let shown = client.get(&format!("{path}?include[]=reasoning.encrypted_content")).await.unwrap();
        assert!(secret(&shown.json()), "{model}: {shown:?}");
        let on = json!({"model": model, "input": "And again", "previous_response_id": id(&first),
            "reasoning": {"effort": "medium"}, "include": ["reasoning.encrypted_content"]});
        let second = made(&client, &on).await;
        assert!(secret(&second), "{second}");
    }
}

#[tokio::test]
async fn a_background_response_needs_no_client() {
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    let body = json!({"model": "gpt-4o-mini", "input": "Say hello", "background": true, "stream": true,
        "x_sim": {"tokens": 40, "token_ms": 10}});
    let mut events = client.stream("/v1/responses", &body).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 6 {
        let event = events.next().await.unwrap().unwrap();
        seen.push(serde_json::from_str::<Value>(&event).unwrap());
    }
    drop(events);
    let response = id(&seen[0]["response"]);
    let path = format!("/v1/responses/{response}?stream=true");
    let rest = read(client.watch(&format!("{path}&starting_after=5")).await.unwrap()).await;
    assert_whole(&rest, 6);
    seen.extend(rest);
    assert_eq!(kinds(&seen)[..3], ["response.created", "response.queued", "response.in_progress"]);
    let whole = ended(&client, &response, "completed").await;
    assert_eq!(whole, seen.last().unwrap()["response"]);
    assert_eq!(read(client.watch(&path).await.unwrap()).await, seen);
    let again = client.with_header("last-event-id", "5").watch(&path).await.unwrap();
    assert_eq!(read(again).await, seen[6..]);

    // One that is not to be finished.
    let endless = json!({"model": "gpt-4o-mini", "input": "Say hello", "background": true,
        "x_sim": {"tokens": 5000, "token_ms": 20}});
    let queued = made(&client, &endless).await;
    assert_eq!(queued["status"], "queued");
    let cancel = format!("/v1/responses/{}/cancel", id(&queued));
    let cancelled = client.post(&cancel, &json!({})).await.unwrap();
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
    let told = read(client.watch(&format!("/v1/responses/{}?stream=true", id(&queued))).await.unwrap()).await;
    assert_whole(&told, 0);
    stand.stop().await.unwrap();
}

#[tokio::test]
async fn without_postgresql_a_response_is_answered_and_not_kept() {
    let postgres = Postgres::private().await.unwrap();
    // Shorter than the stand's: it ends before calls do.
    let settings = [("database.acquire_timeout_ms", "5000")];
    let mut stand = Stand::start_with(&postgres, &settings).await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    let ask = json!({"model": "gpt-4o-mini", "input": "Say hello"});
    let first = made(&client, &ask).await;
    postgres.stop().await.unwrap();
    let unkept = client.post("/v1/responses", &ask).await.unwrap();
    assert_eq!((unkept.status, unkept.header("x-weir-warnings")), (200, "dropped;store"), "{unkept:?}");
    assert_eq!(unkept.json()["store"], false);
    let on = json!({"model": "gpt-4o-mini", "input": "x", "previous_response_id": id(&first)});
    let background = json!({"model": "gpt-4o-mini", "input": "x", "background": true});
    for body in [on, background] {
        let refused = client.post("/v1/responses", &body).await.unwrap();
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(!refused.header("retry-after").is_empty());
    }
    let read = client.get(&format!("/v1/responses/{}", id(&first))).await.unwrap();
    assert_eq!(read.status, 503, "{read:?}");
    postgres.start().await.unwrap();
    let kept = client.get(&format!("/v1/responses/{}", id(&first))).await.unwrap();
    assert_eq!(kept.json(), first);
    stand.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_orchestrator_s_responses_go_on_or_end() {
    if !Mode::Split.is_wished("services of one process cannot be killed one by one") {
        return;
    }
    let settings = [("orchestrator.responses.lease_ms", "2000")];
    let mut stand = Stand::start_with(Postgres::shared().await.unwrap(), &settings).await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let client = stand.gateway().with_key(&tenant.key);
    let body =
        |sim: Value| json!({"model": "gpt-4o-mini", "input": "Say hello", "background": true, "x_sim": sim});
    // For longer than it takes until the kill.
    let silent = id(&made(&client, &body(json!({"first_token_ms": 10_000, "tokens": 5}))).await);
    let talking = id(&made(&client, &body(json!({"tokens": 2_000, "token_ms": 20}))).await);
    let path = format!("/v1/responses/{talking}?stream=true");
    let mut events = client.watch(&path).await.unwrap();
    let mut seen: Vec<Value> = Vec::new();
    while seen.iter().filter(|e| e["type"] == "response.output_text.delta").count() < 5 {
        seen.push(serde_json::from_str(&events.next().await.unwrap().unwrap()).unwrap());
    }
    stand.split().kill(Name::Orchestrator).await.unwrap();
    drop(events);
    stand.split().start_one(Name::Orchestrator).await.unwrap();

    // What was seen is not said again, and what was not is not lost.
    let failed = ended(&client, &talking, "failed").await;
    assert_eq!(failed["error"]["code"], "server_error");
    assert!(failed["error"]["message"].as_str().unwrap().contains("interrupted"), "{failed}");
    let after = seen.last().unwrap()["sequence_number"].as_u64().unwrap();
    let rest = read(client.watch(&format!("{path}&starting_after={after}")).await.unwrap()).await;
    assert_whole(&rest, after + 1);
    seen.extend(rest);
    let whole = read(client.watch(&path).await.unwrap()).await;
    assert_eq!(whole, seen);
    // What had said nothing begins again.
    let whole = ended(&client, &silent, "completed").await;
    let told = read(client.watch(&format!("/v1/responses/{silent}?stream=true")).await.unwrap()).await;
    assert_whole(&told, 0);
    assert_eq!(told.last().unwrap()["response"], whole);
    // Both that were interrupted, and the one that was made again.
    until("the usage was counted", PATIENCE, async || {
        let usage = client.get("/v1/users/me/usage").await?.json();
        ensure!(usage["totals"]["requests"] == 3, "{usage}");
        Ok(())
    })
    .await
    .unwrap();
    stand.stop().await.unwrap();
}
