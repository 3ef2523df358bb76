//! Streams in every pair of dialects: exactly one finish, then the usage, then what ends a stream; also when the provider
//! fails midway, falls silent, or never hangs up. Keep-alives stand between events.

mod read;
mod slow;

use std::time::Duration;

use anyhow::ensure;
use axum::response::Response;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use weir_e2e::{
    http::{Http, PATIENCE},
    stand::Stand,
    wait::until,
};
use weir_testkit::Postgres;

use read::{CLIENTS, Client, End, Seen};

const PROVIDERS: [&str; 9] = [
    "simulator",
    "simulator-responses",
    "simulator-anthropic",
    "simulator-gemini",
    "simulator-mistral",
    "simulator-ollama",
    "simulator-bedrock",
    "simulator-azure",
    "simulator-vertex",
];

/// Every client with the provider of its own dialect, and one that is translated.
const PAIRS: [(Client, &str); 8] = [
    (Client::Chat, "simulator"),
    (Client::Chat, "simulator-anthropic"),
    (Client::Responses, "simulator-responses"),
    (Client::Responses, "simulator-gemini"),
    (Client::Messages, "simulator-anthropic"),
    (Client::Messages, "simulator"),
    (Client::Gemini, "simulator-gemini"),
    (Client::Gemini, "simulator-bedrock"),
];

/// Those of these that are passed on as they come.
const NATIVE: [(Client, &str); 4] = [
    (Client::Chat, "simulator"),
    (Client::Responses, "simulator-responses"),
    (Client::Messages, "simulator-anthropic"),
    (Client::Gemini, "simulator-gemini"),
];

const THINKERS: [&str; 5] = [
    "simulator/gpt-5-mini",
    "simulator-responses/gpt-5-mini",
    "simulator-anthropic/sim-think",
    "simulator-gemini/sim-think",
    "simulator-bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0",
];

/// The whole stream as text.
async fn ask(http: &Http, client: Client, provider: &str, wish: &Value) -> (String, String) {
    let model = format!("{provider}/sim-large");
    let pair = format!("{client:?} to {provider}, {wish}");
    let answer = http.post(&client.path(&model), &client.body(&model, wish)).await;
    let answer = answer.unwrap_or_else(|error| panic!("{pair}: {error:#}"));
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(answer.status, 200, "{pair}: {text}");
    (pair, text)
}

async fn every(
    http: &Http,
    pairs: impl IntoIterator<Item = (Client, &'static str)>,
    wish: Value,
    end: End,
) -> Vec<Seen> {
    let mut asking = JoinSet::new();
    for (client, provider) in pairs {
        let (http, wish) = (http.clone(), wish.clone());
        asking.spawn(async move {
            let (pair, text) = ask(&http, client, provider, &wish).await;
            let seen = Seen::of(&text, &pair);
            seen.is_sound(client, end, &format!("{pair}\n{text}"));
            if wish["hang"] == true {
                assert!(seen.timed_out(client), "{pair}\n{text}");
            }
            seen
        });
    }
    asking.join_all().await
}

fn all() -> impl Iterator<Item = (Client, &'static str)> {
    CLIENTS.into_iter().flat_map(|client| PROVIDERS.map(|provider| (client, provider)))
}

async fn tenant(stand: &Stand) -> Http {
    stand.gateway().with_key(&stand.tenant().await.unwrap().key)
}

#[tokio::test]
async fn a_stream_is_whole_however_its_bytes_arrive() {
    let http = tenant(Stand::shared()).await;
    for wish in [
        json!({"tokens": 20}),
        json!({"tokens": 12, "chunk_bytes": 1}),
        json!({"tokens": 20, "chunk_bytes": 7}),
    ] {
        every(&http, all(), wish, End::Whole).await;
    }
}

#[tokio::test]
async fn a_stream_that_fails_midway_says_so_once_and_ends() {
    let http = tenant(Stand::shared()).await;
    // Slowly enough that what comes before a broken connection is read before it.
    for wish in [
        json!({"status": 500, "cut_after": 3, "tokens": 40, "token_ms": 2}),
        json!({"status": 429, "cut_after": 3, "tokens": 40, "token_ms": 2}),
        json!({"cut_after": 3, "tokens": 40, "token_ms": 4}),
        json!({"malformed": true, "tokens": 20, "token_ms": 2}),
        json!({"no_end": true, "tokens": 20}),
    ] {
        every(&http, all(), wish, End::Failed).await;
    }
}

#[tokio::test]
async fn silence_beyond_the_idle_timeout_is_an_error_event() {
    let settings = [("orchestrator.idle_timeout_s", "1"), ("gateway.keep_alive", "200ms")];
    let mut stand = Stand::start_with(Postgres::shared().await.unwrap(), &settings).await.unwrap();
    let http = tenant(&stand).await;
    let wish = json!({"hang": true, "cut_after": 3, "tokens": 40});
    for seen in every(&http, all(), wish, End::Failed).await {
        assert!(seen.kept > 0, "no keep-alive in a second's silence");
    }
    stand.stop().await.unwrap();
}

#[tokio::test]
async fn a_model_that_thinks_may_be_silent_for_longer() {
    let settings = [("orchestrator.idle_timeout_s", "1"), ("gateway.keep_alive", "200ms")];
    let mut stand = Stand::start_with(Postgres::shared().await.unwrap(), &settings).await.unwrap();
    let http = tenant(&stand).await;
    let mut asking = JoinSet::new();
    let wish = json!({"tokens": 8, "pause_after": 3, "pause_ms": 2_500});
    for (client, model) in CLIENTS.into_iter().flat_map(|client| THINKERS.map(|model| (client, model))) {
        let (http, wish) = (http.clone(), wish.clone());
        asking.spawn(async move {
            let answer = http.post(&client.path(model), &client.thinking(model, &wish)).await.unwrap();
            let text = String::from_utf8(answer.body.to_vec()).unwrap();
            let seen = Seen::of(&text, model);
            seen.is_sound(client, End::Whole, &format!("{client:?} of {model}: {text}"));
            assert!(seen.kept > 1, "{client:?} of {model}: {} keep-alives", seen.kept);
        });
    }
    asking.join_all().await;
    stand.stop().await.unwrap();
}

#[tokio::test]
async fn a_provider_that_never_answers_is_a_timeout_in_every_dialect() {
    let settings = [("orchestrator.first_byte_timeout_s", "1"), ("orchestrator.thinking_timeout_s", "1")];
    let mut stand = Stand::start_with(Postgres::shared().await.unwrap(), &settings).await.unwrap();
    let http = tenant(&stand).await;
    let wish = json!({"hang": true});
    for (client, provider) in PAIRS {
        let model = format!("{provider}/sim-large");
        let (path, body) = client.whole(&model, &wish);
        for (path, body) in [(path, body), (client.path(&model), client.body(&model, &wish))] {
            let answer = http.post(&path, &body).await.unwrap();
            let says = format!("{client:?} of {provider}: {answer:?}");
            assert!(answer.status == 504 && client.is_timeout(&answer.json()), "{says}");
        }
    }
    stand.stop().await.unwrap();
}

#[tokio::test]
async fn a_translated_stream_tells_its_cost_at_its_end() {
    let http = tenant(Stand::shared()).await;
    for (client, provider) in PAIRS {
        let (pair, text) = ask(&http, client, provider, &json!({"tokens": 6})).await;
        let told = Seen::of(&text, &pair).told();
        // A stream that is passed on as it came is its provider's own; chat's usage chunk is the exception.
        let tells = client == Client::Chat || NATIVE.iter().all(|pair| *pair != (client, provider));
        assert_eq!(told["cost_usd"].is_string(), tells, "{pair}: {text}");
        assert_eq!(told["provider"] == provider, tells, "{pair}: {text}");
    }
}

#[tokio::test]
async fn keep_alives_stand_between_events() {
    let settings = [("gateway.keep_alive", "150ms")];
    let mut stand = Stand::start_with(Postgres::shared().await.unwrap(), &settings).await.unwrap();
    let http = tenant(&stand).await;
    for bytes in [5, 23] {
        let wish = json!({"tokens": 8, "chunk_bytes": bytes, "pause_after": 3, "pause_ms": 900});
        for seen in every(&http, all(), wish, End::Whole).await {
            assert!(seen.kept > 1, "{bytes}: {} keep-alives", seen.kept);
        }
    }
    stand.stop().await.unwrap();
}

#[tokio::test]
async fn half_a_minute_of_silence_is_bridged_by_default() {
    let http = tenant(Stand::shared()).await;
    let wish = json!({"tokens": 6, "pause_after": 2, "pause_ms": 30_000});
    for seen in every(&http, PAIRS, wish, End::Whole).await {
        assert!(seen.kept >= 1, "{} keep-alives", seen.kept);
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_stops_its_provider_in_every_dialect() {
    let mut stand = Stand::start().await.unwrap();
    let http = tenant(&stand).await;
    for (client, provider) in PAIRS {
        let model = format!("{provider}/sim-large");
        // More than a minute's worth: the test would not wait for it.
        let wish = json!({"tokens": 4_000, "token_ms": 25});
        let mut events = http.stream(&client.path(&model), &client.body(&model, &wish)).await.unwrap();
        for _ in 0..3 {
            events.next().await.unwrap().unwrap();
        }
    }
    let entries = ended(&stand, PAIRS.len()).await;
    for call in entries {
        assert_eq!(call["outcome"], "cancelled", "{call}");
    }
    stand.stop().await.unwrap();
}

/// The ledger's entries, once these many calls have ended.
async fn ended(stand: &Stand, calls: usize) -> Vec<Value> {
    let simulator = stand.simulator();
    until("the provider's calls ended", PATIENCE, async || {
        let ledger = simulator.get("/_sim/ledger?entries=true").await?.json();
        let entries = ledger["entries"].as_array().cloned().unwrap_or_default();
        ensure!(ledger["running"] == 0 && entries.len() == calls, "{ledger}");
        Ok(entries)
    })
    .await
    .unwrap()
}

/// Every client's stream of every dialect from a provider of our own, in a house with these settings.
async fn from_a_provider(say: fn(&'static str) -> Response, more: &[(&str, &str)]) -> Vec<Seen> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    // Ends with the test.
    let mut provider = JoinSet::new();
    provider.spawn(async move { axum::serve(listener, read::saying(say)).await });
    let (v1, beta) = (format!("{origin}/v1"), format!("{origin}/v1beta"));
    let mut settings = Vec::new();
    for (name, dialect, base) in [
        ("own-chat", "openai", &v1),
        ("own-responses", "responses", &v1),
        ("own-messages", "anthropic", &v1),
        ("own-gemini", "gemini", &beta),
    ] {
        settings.push((format!("orchestrator.providers.{name}.base_url"), base.clone()));
        settings.push((format!("orchestrator.providers.{name}.dialect"), dialect.to_owned()));
    }
    let settings = settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let settings: Vec<_> = settings.chain(more.iter().copied()).collect();
    let mut stand = Stand::start_with(Postgres::shared().await.unwrap(), &settings).await.unwrap();
    let http = tenant(&stand).await;
    let mut asking = JoinSet::new();
    for client in CLIENTS {
        for name in ["own-chat", "own-responses", "own-messages", "own-gemini"] {
            let http = http.clone();
            asking.spawn(async move {
                let model = format!("{name}/m");
                let (path, body) = (client.path(&model), client.body(&model, &json!({})));
                let asked = http.post(&path, &body);
                // Far less than the idle timeout, far more than it takes.
                let answer = tokio::time::timeout(Duration::from_secs(45), asked).await;
                let answer = answer.unwrap_or_else(|_| panic!("{client:?} of {name} waits on")).unwrap();
                let text = String::from_utf8(answer.body.to_vec()).unwrap();
                let pair = format!("{client:?} of {name}: {text}");
                assert_eq!(answer.status, 200, "{pair}");
                let seen = Seen::of(&text, &pair);
                seen.is_sound(client, End::Whole, &pair);
                seen
            });
        }
    }
    let seen = asking.join_all().await;
    stand.stop().await.unwrap();
    seen
}

#[tokio::test]
async fn a_provider_that_never_hangs_up_holds_no_stream_open() {
    from_a_provider(read::endless, &[]).await;
}

#[tokio::test]
async fn no_keep_alive_stands_in_half_an_event() {
    for seen in from_a_provider(read::halting, &[("gateway.keep_alive", "150ms")]).await {
        assert!(seen.kept > 1, "{} keep-alives", seen.kept);
    }
}
