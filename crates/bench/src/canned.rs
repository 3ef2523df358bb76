//! The upstream: a bare hyper server that answers every chat request with the same bytes, at once.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Tokens in every answer.
pub(crate) const TOKENS: usize = 64;

pub(crate) const MODELS: &[u8] =
    br#"{"object":"list","data":[{"id":"gpt-4o-mini","object":"model","created":1,"owned_by":"bench"}]}"#;

/// A plain answer.
pub(crate) fn plain() -> Bytes {
    let content = " word".repeat(TOKENS);
    format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-mini","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":20,"completion_tokens":{TOKENS},"total_tokens":84}}}}"#
    )
    .into()
}

/// A streamed answer, an event a token, usage at the end.
pub(crate) fn events() -> Vec<Bytes> {
    let chunk = |delta: &str, finish: &str| {
        Bytes::from(format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}],\"usage\":null}}\n\n"
        ))
    };
    let mut events: Vec<_> = (0..TOKENS).map(|_| chunk(r#"{"content":" word"}"#, "null")).collect();
    events.push(chunk("{}", "\"stop\""));
    events.push(
        format!("data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-mini\",\"choices\":[],\"usage\":{{\"prompt_tokens\":20,\"completion_tokens\":{TOKENS},\"total_tokens\":84}}}}\n\n").into(),
    );
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}

type Body = BoxBody<Bytes, Infallible>;

/// Serves until the runtime ends.
pub(crate) async fn serve(listener: TcpListener) {
    let (plain, events) = (plain(), events());
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        drop(socket.set_nodelay(true));
        let (plain, events) = (plain.clone(), events.clone());
        let service =
            service_fn(move |request: Request<Incoming>| answer(request, plain.clone(), events.clone()));
        crate::background(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    plain: Bytes,
    events: Vec<Bytes>,
) -> Result<Response<Body>, hyper::Error> {
    if request.uri().path().ends_with("/models") {
        return Ok(json(Bytes::from_static(MODELS)));
    }
    let body = request.into_body().collect().await?.to_bytes();
    if !body.windows(13).any(|w| w == b"\"stream\":true") {
        return Ok(json(plain));
    }
    // One frame an event, each polled apart, as a provider that generates them would send.
    let frames = stream::unfold(events.into_iter(), |mut left| async move {
        tokio::task::yield_now().await;
        left.next().map(|event| (Ok(Frame::data(event)), left))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

fn json(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
