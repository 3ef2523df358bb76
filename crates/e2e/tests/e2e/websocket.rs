//! WebSocket turns through the gateway.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};
use weir_e2e::{http::PATIENCE, stand::Stand, wait::until};

type Socket = WebSocketStream<TcpStream>;

async fn open(stand: &Stand, path: &str) -> Socket {
    let stream = TcpStream::connect(stand.addresses.gateway).await.unwrap();
    client_async(format!("ws://{}{path}", stand.addresses.gateway), stream).await.unwrap().0
}

async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

async fn hear(socket: &mut Socket) -> Value {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("nothing came in time") {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("expected a message: {other:?}"),
        }
    }
}

fn chat(id: &str, x_sim: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "Say hello."}]);
    json!({"type": "chat", "id": id, "model": "gpt-4o-mini", "messages": messages, "x_sim": x_sim})
}

#[tokio::test]
async fn a_turn_is_streamed_and_metered() {
    let stand = Stand::shared();
    let tenant = stand.tenant().await.unwrap();
    for path in ["/ws/chat", "/v1/chat/ws", "/api/v1/chat/ws"] {
        let mut socket = open(stand, path).await;
        say(&mut socket, json!({"type": "auth", "token": tenant.key})).await;
        assert_eq!(hear(&mut socket).await["type"], "ready", "{path}");
        say(&mut socket, chat("t", &json!({"tokens": 9}))).await;
        let mut text = String::new();
        let done = loop {
            let message = hear(&mut socket).await;
            match message["type"].as_str() {
                Some("chunk") => {
                    text += message["data"]["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
                }
                Some("done") => break message,
                other => panic!("{other:?}: {message}"),
            }
        };
        assert_eq!(weir_llm::tokens::count_text(&text), 9);
        assert_eq!(done["usage"]["completion_tokens"], 9);
        assert_eq!((&done["id"], &done["provider"]), (&json!("t"), &json!("simulator")));
    }
    let client = stand.gateway().with_key(&tenant.key);
    until("the turns were counted", PATIENCE, async || {
        let usage = client.get("/v1/users/me/usage").await?.json();
        anyhow::ensure!(
            usage["totals"]["requests"] == 3 && usage["totals"]["output_tokens"] == 27,
            "{usage}"
        );
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_wrong_key_closes_with_4401() {
    let mut socket = open(Stand::shared(), "/ws/chat").await;
    say(&mut socket, json!({"type": "auth", "token": "nonsense"})).await;
    assert_eq!(hear(&mut socket).await["error"]["code"], "invalid_api_key");
    match timeout(PATIENCE, socket.next()).await.unwrap() {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 4401),
        other => panic!("expected a close: {other:?}"),
    }
}

#[tokio::test]
async fn hanging_up_cancels_the_provider_s_call() {
    let mut stand = Stand::start().await.unwrap();
    let tenant = stand.tenant().await.unwrap();
    let mut socket = open(&stand, "/ws/chat").await;
    say(&mut socket, json!({"type": "auth", "token": tenant.key})).await;
    hear(&mut socket).await;
    say(&mut socket, chat("t", &json!({"tokens": 4_000, "token_ms": 20}))).await;
    while hear(&mut socket).await["type"] != "chunk" {}
    drop(socket);
    until("the provider saw it", PATIENCE, async || {
        let ledger = stand.simulator().get("/_sim/ledger").await?.json();
        anyhow::ensure!(ledger["running"] == 0 && ledger["cancelled"]["calls"] == 1, "{ledger}");
        Ok(())
    })
    .await
    .unwrap();
    stand.stop().await.unwrap();
}
