//! A WebSocket client that waits with a deadline for everything.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message, client::IntoClientRequest as _, handshake::client::Response, http::HeaderValue,
        protocol::frame::Frame,
    },
};

/// Far beyond what anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client(pub(crate) WebSocketStream<TcpStream>);

/// Opens a connection on a path, with extra headers.
pub(crate) async fn open(
    address: SocketAddr,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<Client, Response> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    match timeout(PATIENCE, client_async(request, stream)).await.expect("no answer to the upgrade") {
        Ok((socket, _)) => Ok(Client(socket)),
        Err(Error::Http(response)) => {
            let (parts, body) = response.into_parts();
            Err(Response::from_parts(parts, body))
        }
        Err(error) => panic!("upgrade failed: {error}"),
    }
}

impl Client {
    pub(crate) async fn send(&mut self, message: Value) {
        self.send_raw(Message::text(message.to_string())).await;
    }

    pub(crate) async fn send_raw(&mut self, message: Message) {
        timeout(PATIENCE, self.0.send(message)).await.expect("the server does not read").unwrap();
    }

    pub(crate) async fn send_frame(&mut self, frame: Frame) {
        self.send_raw(Message::Frame(frame)).await;
    }

    pub(crate) async fn auth(&mut self, key: &str) {
        self.send(json!({"type": "auth", "token": key})).await;
    }

    pub(crate) async fn chat(&mut self, id: &str, model: &str, content: &str) {
        let messages = json!([{"role": "user", "content": content}]);
        self.send(json!({"type": "chat", "id": id, "model": model, "messages": messages})).await;
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("no message in time") {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("not JSON"),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected a message: {other:?}"),
            }
        }
    }

    /// The next message, which has to be of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let message = self.next().await;
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The next message, which has to be an error with this code.
    pub(crate) async fn expect_error(&mut self, code: &str) -> Value {
        let message = self.expect("error").await;
        assert_eq!(message["error"]["code"], code, "{message}");
        message
    }

    /// Reads to the close frame; how many text messages came before it, and its code.
    pub(crate) async fn read_to_close(&mut self) -> (usize, u16) {
        let mut messages = 0;
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("no close in time") {
                Some(Ok(Message::Close(Some(frame)))) => return (messages, frame.code.into()),
                Some(Ok(Message::Text(_))) => messages += 1,
                Some(Ok(_)) => {}
                other => panic!("expected a close: {other:?}"),
            }
        }
    }

    /// Reads to the close frame.
    pub(crate) async fn closed(&mut self) -> u16 {
        self.read_to_close().await.1
    }
}
