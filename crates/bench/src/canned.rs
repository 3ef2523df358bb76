//! The upstream: a bare hyper server that answers every chat request with the same bytes, at once.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Tokens in every answer.
pub(crate) const TOKENS: usize = 64;

/// The model that Anthropic's dialect serves here; any other is OpenAI's.
pub(crate) const CLAUDE: &str = "claude-bench";
/// In a body's text: tokens come slowly, each the time at which it was sent.
pub(crate) const PACED: &str = "paced";
/// Tokens of a paced answer, and the time between two.
pub(crate) const PACED_TOKENS: usize = 60;
pub(crate) const PACE: Duration = Duration::from_millis(100);

const CLAUDES: &[u8] = br#"{"data":[{"type":"model","id":"claude-bench","display_name":"Bench","created_at":"2026-01-01T00:00:00Z"}],"has_more":false,"first_id":"claude-bench","last_id":"claude-bench"}"#;
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

/// A plain answer in Anthropic's dialect.
fn message() -> Bytes {
    let text = " word".repeat(TOKENS);
    format!(
        r#"{{"id":"msg_1","type":"message","role":"assistant","model":"{CLAUDE}","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":20,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":{TOKENS}}}}}"#
    )
    .into()
}

fn chunk(delta: &str, finish: &str) -> Bytes {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}],\"usage\":null}}\n\n"
    )
    .into()
}

const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

fn usage(tokens: usize) -> Bytes {
    let total = tokens + 20;
    format!("data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-mini\",\"choices\":[],\"usage\":{{\"prompt_tokens\":20,\"completion_tokens\":{tokens},\"total_tokens\":{total}}}}}\n\n").into()
}

fn step(name: &str, rest: &str) -> Bytes {
    format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n").into()
}

fn claude_token(text: &str) -> Bytes {
    let delta = format!(r#","index":0,"delta":{{"type":"text_delta","text":"{text}"}}"#);
    step("content_block_delta", &delta)
}

fn claude_start() -> [Bytes; 2] {
    let start = format!(
        r#","message":{{"id":"msg_1","type":"message","role":"assistant","model":"{CLAUDE}","content":[],"stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":20,"output_tokens":1}}}}"#
    );
    let block = r#","index":0,"content_block":{"type":"text","text":""}"#;
    [step("message_start", &start), step("content_block_start", block)]
}

fn claude_end(tokens: usize) -> [Bytes; 3] {
    let end = format!(
        r#","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"output_tokens":{tokens}}}"#
    );
    [step("content_block_stop", r#","index":0"#), step("message_delta", &end), step("message_stop", "")]
}

/// A streamed answer in Anthropic's dialect, an event a token.
fn claude_events() -> Vec<Bytes> {
    let tokens = (0..TOKENS).map(|_| claude_token(" word"));
    claude_start().into_iter().chain(tokens).chain(claude_end(TOKENS)).collect()
}

/// Microseconds of a clock that all processes of the machine share.
pub(crate) fn clock_us() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from);
    now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
}

/// A token every [`PACE`], which is the time at which it is sent.
fn paced(claude: bool) -> impl futures_util::Stream<Item = Bytes> + Send {
    let (start, end) = if claude {
        (claude_start().to_vec(), claude_end(PACED_TOKENS).to_vec())
    } else {
        (Vec::new(), vec![chunk("{}", "\"stop\""), usage(PACED_TOKENS), DONE])
    };
    let began = tokio::time::Instant::now();
    let tokens = stream::iter(0..PACED_TOKENS).then(move |n| async move {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        tokio::time::sleep_until(began + PACE * n).await;
        let text = format!(" {}", clock_us());
        if claude { claude_token(&text) } else { chunk(&format!(r#"{{"content":"{text}"}}"#), "null") }
    });
    stream::iter(start).chain(tokens).chain(stream::iter(end))
}

/// A streamed answer, an event a token, usage at the end.
pub(crate) fn events() -> Vec<Bytes> {
    let mut events: Vec<_> = (0..TOKENS).map(|_| chunk(r#"{"content":" word"}"#, "null")).collect();
    events.push(chunk("{}", "\"stop\""));
    events.extend([usage(TOKENS), DONE]);
    events
}

type Body = BoxBody<Bytes, Infallible>;

/// What is said, in one dialect.
struct Said {
    plain: Bytes,
    events: Vec<Bytes>,
}

/// Serves until the runtime ends.
pub(crate) async fn serve(listener: TcpListener) {
    let openai = Said { plain: plain(), events: events() };
    let said = Arc::new([openai, Said { plain: message(), events: claude_events() }]);
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        drop(socket.set_nodelay(true));
        let said = said.clone();
        let service = service_fn(move |request: Request<Incoming>| answer(request, said.clone()));
        crate::background(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

async fn answer(request: Request<Incoming>, said: Arc<[Said; 2]>) -> Result<Response<Body>, hyper::Error> {
    if request.uri().path().ends_with("/models") {
        let claudes = request.headers().contains_key("anthropic-version");
        return Ok(json(Bytes::from_static(if claudes { CLAUDES } else { MODELS })));
    }
    let claude = request.uri().path().ends_with("/messages");
    let [openai, anthropic] = &*said;
    let said = if claude { anthropic } else { openai };
    let body = request.into_body().collect().await?.to_bytes();
    if !body.windows(13).any(|w| w == b"\"stream\":true") {
        return Ok(json(said.plain.clone()));
    }
    let body = if body.windows(PACED.len()).any(|w| w == PACED.as_bytes()) {
        BodyExt::boxed(StreamBody::new(paced(claude).map(|event| Ok(Frame::data(event)))))
    } else {
        // One frame an event, each polled apart, as a provider that generates them would send.
        let frames = stream::unfold(said.events.clone().into_iter(), |mut left| async move {
            tokio::task::yield_now().await;
            left.next().map(|event| (Ok(Frame::data(event)), left))
        });
        BodyExt::boxed(StreamBody::new(frames))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

fn json(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
