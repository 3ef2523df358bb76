//! Providers that are slow or silent: every limit ends its wait with a typed error and the dialect's own end, and is metered.

use weir_types::Deadline;

use super::*;

const IDLE: u64 = 1;
/// Longer than that.
const SILENCE: Duration = Duration::from_millis(1_500);

async fn house(providers: &[(&str, SocketAddr)], settings: impl FnOnce(&mut Config)) -> House {
    House::set(providers, Transport::absent("router"), &["m", "o3"], settings).await
}

fn event_stream(
    pieces: impl futures_util::Stream<Item = String> + Send + 'static,
) -> axum::response::Response {
    let pieces = pieces.map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece + "\n\n")));
    ([("content-type", "text/event-stream")], Body::from_stream(pieces)).into_response()
}

/// A head, and nothing more.
fn mute() -> axum::response::Response {
    event_stream(stream::pending())
}

/// Nothing at all.
async fn deaf() -> SocketAddr {
    let app = Router::new()
        .route("/v1/chat/completions", routing::post(std::future::pending::<axum::response::Response>));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as its test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Thinks in the middle of its answer.
fn thoughtful() -> axum::response::Response {
    let rest = stream::once(async {
        tokio::time::sleep(SILENCE).await;
        [LAST, USAGE, "data: [DONE]"].join("\n\n")
    });
    event_stream(stream::iter([CHUNK.to_owned()]).chain(rest))
}

/// Never stops talking.
fn talkative() -> axum::response::Response {
    event_stream(stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((CHUNK.to_owned(), ()))
    }))
}

/// The text of a stream, of the model or with more in its body.
async fn text(house: &House, ctx: &RequestContext, model: &str, more: &str) -> String {
    let body =
        format!(r#"{{"model":"{model}","stream":true{more},"messages":[{{"role":"user","content":"Hi"}}]}}"#);
    let message = CompleteRequest {
        dialect: Dialect::OpenaiChat.into(),
        model: model.to_owned(),
        stream: true,
        body: body.into(),
        ..CompleteRequest::default()
    };
    let mut frames = house.chat.clone().complete(weir_rpc::request(ctx, message)).await.unwrap().into_inner();
    let mut text = Vec::new();
    while let Some(frame) = frames.message().await.unwrap() {
        if let Some(Frame::Data(data)) = frame.frame {
            text.extend_from_slice(&data.bytes);
        }
    }
    String::from_utf8(text).unwrap()
}

async fn is_cut(house: &House, text: &str) {
    assert!(text.starts_with(CHUNK) && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(text.matches(r#""code":"upstream_timeout""#).count(), 1, "{text}");
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts[0].outcome(), request.outcome()), (Outcome::Cut, Outcome::Cut));
    assert!(tokens(&request).1 > 0, "what was relayed is metered");
}

#[tokio::test]
async fn silence_in_the_middle_is_cut_in_shape() {
    let house = house(&[("one", provider(endless).await)], |config| config.idle_timeout_s = IDLE).await;
    is_cut(&house, &text(&house, &house.ctx, "m", "").await).await;
}

#[tokio::test]
async fn an_answer_that_never_ends_is_cut_in_shape() {
    let house = house(&[("one", provider(talkative).await)], |config| config.total_timeout_s = 1).await;
    is_cut(&house, &text(&house, &house.ctx, "m", "").await).await;
}

#[tokio::test]
async fn a_request_s_own_deadline_is_told_before_it_is_over() {
    let house = house(&[("one", provider(talkative).await)], |_| {}).await;
    let deadline = Some(Deadline::after(Duration::from_secs(2)));
    let ctx = RequestContext { deadline, ..house.ctx.clone() };
    is_cut(&house, &text(&house, &ctx, "m", "").await).await;
}

#[tokio::test]
async fn who_thinks_may_be_silent_for_longer() {
    let providers = [("one", provider(thoughtful).await)];
    for (model, more, whole) in [
        ("m", "", false),
        ("m", r#","reasoning_effort":"low""#, true),
        ("m", r#","thinking":{"type":"disabled"}"#, false),
        ("o3", "", true),
    ] {
        let house = house(&providers, |config| config.idle_timeout_s = IDLE).await;
        let text = text(&house, &house.ctx, model, more).await;
        let (cut, ended) = (text.contains("upstream_timeout"), text.contains(r#""finish_reason":"stop""#));
        assert_eq!((cut, ended), (!whole, whole), "{model}{more}: {text}");
        let outcome = if whole { Outcome::Succeeded } else { Outcome::Cut };
        assert_eq!(house.metered().await.1.outcome(), outcome, "{model}{more}");
    }
}

#[tokio::test]
async fn a_provider_has_limits_of_its_own() {
    let slow = |config: &mut Config| {
        config.idle_timeout_s = IDLE;
        config.providers.get_mut("one").unwrap().idle_timeout_s = Some(30);
    };
    let house = house(&[("one", provider(thoughtful).await)], slow).await;
    let text = text(&house, &house.ctx, "m", "").await;
    assert!(!text.contains("upstream_timeout") && text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn before_the_first_byte_another_is_asked() {
    for (first, stream) in [(deaf().await, true), (provider(mute).await, true), (deaf().await, false)] {
        let providers = [("a", first), ("b", provider(if stream { answering } else { plain }).await)];
        let quick = |config: &mut Config| {
            (config.first_byte_timeout_s, config.thinking_timeout_s) = (1, 1);
        };
        let house = house(&providers, quick).await;
        let (status, name, text, _) = house.answer("m", stream, false).await;
        assert_eq!((status, name.as_str()), (200, "b"), "{text}");
        let (attempts, request) = house.metered().await;
        let outcomes: Vec<_> = attempts.iter().map(|a| (a.provider.as_str(), a.outcome())).collect();
        assert_eq!(outcomes, [("a", Outcome::Cut), ("b", Outcome::Succeeded)]);
        assert_eq!((request.status, request.outcome()), (200, Outcome::Succeeded));
    }
}

fn answering() -> axum::response::Response {
    events(&[CHUNK, LAST, USAGE, "data: [DONE]"])
}

#[tokio::test]
async fn without_another_it_is_a_timeout() {
    for stream in [true, false] {
        let quick = |config: &mut Config| {
            (config.first_byte_timeout_s, config.thinking_timeout_s) = (1, 1);
        };
        let house = house(&[("a", deaf().await)], quick).await;
        let error = house.ask("m", stream, false).await.unwrap_err();
        assert_eq!(error.code(), Code::UpstreamTimeout);
        let (_, request) = house.metered().await;
        assert_eq!((request.status, request.outcome()), (504, Outcome::Cut));
    }
}

#[tokio::test]
async fn a_connection_that_is_never_made_reached_nobody() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Takes connections, and says nothing to the client's hello.
    let secure = |config: &mut Config| {
        config.connect_timeout_ms = 200;
        config.providers.get_mut("dead").unwrap().base_url = format!("https://{address}/v1");
    };
    let house = house(&[("dead", address)], secure).await;
    assert_eq!(house.ask("m", false, false).await.unwrap_err().code(), Code::UpstreamTimeout);
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts.len(), request.outcome(), request.status), (0, Outcome::Failed, 504));
    drop(listener);
}
