//! The hand-over of WebSockets, over real connections.

use std::convert::Infallible;

use http::header;
use http_body_util::Empty;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};
use weir_runtime::{ListenConfig, OnFailure, serve};

use super::*;

/// Stands for realtime: upgrades and echoes, unless the query says to refuse. Keeps what it was asked.
async fn realtime(tasks: &Tasks) -> (String, Arc<Mutex<Vec<(String, http::HeaderMap)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked: Arc<Mutex<Vec<_>>> = Arc::default();
    let (seen, inner) = (asked.clone(), tasks.clone());
    tasks.spawn("realtime", OnFailure::Log, async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (seen, tasks) = (seen.clone(), inner.clone());
            let service = service_fn(move |mut request: Request<Incoming>| {
                seen.lock().push((request.uri().to_string(), request.headers().clone()));
                if request.uri().query() == Some("refuse") {
                    let refusal = Response::builder().status(401).body("no".to_owned()).unwrap();
                    return std::future::ready(Ok::<_, Infallible>(refusal));
                }
                let upgrade = hyper::upgrade::on(&mut request);
                tasks.spawn("echo", OnFailure::Log, async move {
                    let mut io = TokioIo::new(upgrade.await.unwrap());
                    let mut buffer = [0u8; 64];
                    while let Ok(n @ 1..) = io.read(&mut buffer).await {
                        io.write_all(&buffer[..n]).await.unwrap();
                    }
                });
                let answer = Response::builder()
                    .status(101)
                    .header("connection", "upgrade")
                    .header("upgrade", "websocket")
                    .header("sec-websocket-accept", "accepted");
                std::future::ready(Ok(answer.body(String::new()).unwrap()))
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            inner.spawn("connection", OnFailure::Log, async move {
                let _ended = connection.with_upgrades().await;
            });
        }
    });
    (address, asked)
}

async fn connect(house: &House, path: &str, id: &str) -> (Response<Incoming>, Tasks) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = Tasks::new();
    let (app, shutdown) = (house.app.clone(), tasks.shutdown());
    tasks.spawn("gateway", OnFailure::Log, async move {
        serve(listener, app, ListenConfig::default(), shutdown).await;
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tasks.spawn("client", OnFailure::Log, async move {
        let _ended = connection.with_upgrades().await;
    });
    let request = Request::get(path)
        .header(header::HOST, "weir.test")
        .header(header::CONNECTION, "keep-alive, Upgrade")
        .header(header::UPGRADE, "websocket")
        .header("sec-websocket-key", "key")
        .header("sec-websocket-version", "13")
        .header("x-request-id", id)
        .header("x-forwarded-for", "203.0.113.9")
        .header("x-weir-introduction", "Bearer mine")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = tokio::time::timeout(SOON, sender.send_request(request)).await.unwrap().unwrap();
    (response, tasks)
}

fn house_at(address: String, config: Config) -> House {
    house_with(config, weir_access::Config::default(), Some(address))
}

#[tokio::test]
async fn bytes_flow_both_ways_on_every_path() {
    let tasks = Tasks::new();
    let (address, asked) = realtime(&tasks).await;
    for path in ["/ws/chat?room=7", "/v1/chat/ws?room=7", "/api/v1/chat/ws?room=7"] {
        let house = house_at(address.clone(), Config::default());
        let (mut response, client) = connect(&house, path, "mine-7").await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["sec-websocket-accept"], "accepted");
        assert_eq!(response.headers()["upgrade"], "websocket");
        assert_eq!(response.headers()["x-request-id"], "mine-7");
        let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        for text in ["hello", "again"] {
            io.write_all(text.as_bytes()).await.unwrap();
            let mut back = vec![0; text.len()];
            tokio::time::timeout(SOON, io.read_exact(&mut back)).await.unwrap().unwrap();
            assert_eq!(back, text.as_bytes());
        }
        let (uri, headers) = asked.lock().pop().unwrap();
        assert_eq!(uri, "/ws/chat?room=7");
        assert_eq!(headers["x-request-id"], "mine-7");
        assert_eq!(headers["sec-websocket-key"], "key");
        assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
        let realtime = Identity::generate("realtime", Arc::new(house.clock.clone())).unwrap();
        realtime.trust(&[house.edge.0.realtime.identity().public().clone()]).unwrap();
        assert_eq!(headers.get_all("x-weir-introduction").iter().count(), 1);
        assert!(realtime.is_introduced(headers.get("x-weir-introduction"), "gateway"));
        drop(io);
        assert!(house.tasks.stop(SOON).await, "the tunnel ends with its client");
        client.stop(Duration::ZERO).await;
    }
    tasks.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn refusals_of_realtime_pass_and_its_absence_is_said() {
    let tasks = Tasks::new();
    let (address, _) = realtime(&tasks).await;
    let house = house_at(address, Config::default());
    let (response, client) = connect(&house, "/ws/chat?refuse", "a").await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "no");
    client.stop(Duration::ZERO).await;
    tasks.stop(Duration::ZERO).await;

    // Bound, so that nobody else gets the port, and not listened on.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let house = house_at(closed.local_addr().unwrap().to_string(), Config::default());
    let (response, client) = connect(&house, "/ws/chat", "b").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
    client.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn connections_are_bounded_and_plain_requests_refused() {
    let tasks = Tasks::new();
    let (address, _) = realtime(&tasks).await;
    let house = house_at(address, Config { max_websockets: 1, ..Config::default() });
    let (response, first) = connect(&house, "/ws/chat", "a").await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let (refused, second) = connect(&house, "/ws/chat", "b").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let (status, problem) = get("/ws/chat").json(&house).await;
    assert_eq!((status, &problem["param"]), (StatusCode::BAD_REQUEST, &json!("Upgrade")));
    for tasks in [first, second, tasks] {
        tasks.stop(Duration::ZERO).await;
    }
}
