//! Embeddings: shared calls, shares, failover, refusals.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use weir_proto::chat::{EmbedInput, EmbedRequest, EmbedResponse, TokenIds, embed_input::Input};

use super::*;

/// What a provider was asked.
#[derive(Clone, Default)]
struct Seen(Arc<parking_lot::Mutex<Vec<serde_json::Value>>>);

/// A provider whose vectors are the inputs' lengths. It takes no input that says `bad`, and counts three tokens an input.
async fn embedder(seen: Seen) -> SocketAddr {
    serve(Router::new().route("/v1/embeddings", routing::post(vectors)).with_state(seen)).await
}

async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a server that lives as long as its test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn vectors(State(seen): State<Seen>, Json(body): Json<serde_json::Value>) -> axum::response::Response {
    seen.0.lock().push(body.clone());
    let inputs = body["input"].as_array().unwrap();
    if inputs.iter().any(|input| input == "bad") {
        let error = serde_json::json!({"error": {"message": "this input is bad", "param": "input"}});
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    let length = |input: &serde_json::Value| input.as_str().map_or(0, str::len) as f32;
    let one = |(index, input)| serde_json::json!({"index": index, "embedding": [length(input), 0.5]});
    let data: Vec<_> = inputs.iter().enumerate().map(one).collect();
    let tokens = 3 * inputs.len();
    Json(serde_json::json!({"data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}))
        .into_response()
}

fn text(text: &str) -> EmbedInput {
    EmbedInput { input: Some(Input::Text(text.to_owned())) }
}

impl House {
    async fn embed(&self, inputs: Vec<EmbedInput>) -> Result<EmbedResponse, Error> {
        let request = EmbedRequest { model: "m".to_owned(), inputs, ..EmbedRequest::default() };
        let mut chat = self.chat.clone();
        Ok(chat.embed(weir_rpc::request(&self.ctx, request)).await?.into_inner())
    }
}

fn lengths(answer: &EmbedResponse) -> Vec<f32> {
    answer.vectors.iter().map(|v| f32::from_le_bytes(v[..4].try_into().unwrap())).collect()
}

#[tokio::test]
async fn requests_that_arrive_together_share_a_call_and_what_it_used() {
    let seen = Seen::default();
    let house = House::new(&[("priced", embedder(seen.clone()).await)], Transport::absent("router")).await;
    let (a, b, c) = tokio::join!(
        house.embed(vec![text("one word"), text("two")]),
        house.embed(vec![text("three little words")]),
        house.embed(vec![text("x")]),
    );
    let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
    assert_eq!((lengths(&a), lengths(&b), lengths(&c)), (vec![8.0, 3.0], vec![18.0], vec![1.0]));
    assert_eq!(seen.0.lock().len(), 1, "one call");
    let used = |answer: &EmbedResponse| answer.usage.as_ref().unwrap().input_tokens;
    assert_eq!(used(&a) + used(&b) + used(&c), 12, "{} {} {}", used(&a), used(&b), used(&c));
    assert_eq!(a.cost_nano_usd, Some(used(&a) * 1_000));
}

#[tokio::test]
async fn tenants_and_lengths_share_nothing() {
    let seen = Seen::default();
    let house = House::new(&[("priced", embedder(seen.clone()).await)], Transport::absent("router")).await;
    let ask = async |tenant: Option<TenantId>, dimensions: Option<u32>| {
        let ctx = RequestContext { tenant, ..house.ctx.clone() };
        let request = EmbedRequest {
            model: "m".to_owned(),
            inputs: vec![text("same")],
            dimensions,
            ..EmbedRequest::default()
        };
        let mut chat = house.chat.clone();
        chat.embed(weir_rpc::request(&ctx, request)).await.unwrap()
    };
    let mine = house.ctx.tenant;
    tokio::join!(ask(mine, None), ask(Some(TenantId::new()), None), ask(mine, Some(8)), ask(mine, None));
    assert_eq!(seen.0.lock().len(), 3, "{:?}", seen.0.lock());
}

#[tokio::test]
async fn a_bad_input_is_its_request_s_fault_alone() {
    let seen = Seen::default();
    let house = House::new(&[("priced", embedder(seen.clone()).await)], Transport::absent("router")).await;
    let (good, bad) = tokio::join!(house.embed(vec![text("good")]), house.embed(vec![text("bad")]));
    assert_eq!(lengths(&good.unwrap()), [4.0]);
    let error = bad.unwrap_err();
    assert_eq!(
        (error.code(), error.message(), error.param()),
        (Code::InvalidArgument, "this input is bad", Some("input"))
    );
    assert_eq!(seen.0.lock().len(), 3, "together, then each alone");
}

#[tokio::test]
async fn those_who_are_asked_alone_are_asked_at_once() {
    // It refuses what comes together, and answers those who come alone when all are there.
    async fn together(
        State(all): State<Arc<tokio::sync::Barrier>>,
        Json(body): Json<serde_json::Value>,
    ) -> axum::response::Response {
        if body["input"].as_array().unwrap().len() > 1 {
            return (StatusCode::BAD_REQUEST, "{}").into_response();
        }
        all.wait().await;
        let data = serde_json::json!([{"index": 0, "embedding": [1.0]}]);
        Json(serde_json::json!({"data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}))
            .into_response()
    }
    let all = Arc::new(tokio::sync::Barrier::new(3));
    let app = Router::new().route("/v1/embeddings", routing::post(together)).with_state(all);
    let house = House::new(&[("priced", serve(app).await)], Transport::absent("router")).await;
    let ask = |words: &str| house.embed(vec![text(words)]);
    let answers = async { tokio::join!(ask("a"), ask("b"), ask("c")) };
    let (a, b, c) = tokio::time::timeout(PATIENCE, answers).await.expect("none waits for another");
    assert!(a.is_ok() && b.is_ok() && c.is_ok(), "{a:?} {b:?} {c:?}");
}

#[tokio::test]
async fn an_answer_that_can_t_be_read_counts_what_was_asked() {
    let app = Router::new().route("/v1/embeddings", routing::post(async || "{}"));
    let house = House::new(&[("priced", serve(app).await)], Transport::absent("router")).await;
    assert_eq!(house.embed(vec![text("hello world")]).await.unwrap_err().code(), Code::UpstreamFailed);
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts[0].outcome(), tokens(&request)), (Outcome::Cut, (2, 0)));
}

#[tokio::test]
async fn another_provider_is_asked_when_one_fails() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let broken = || {
        CALLS.fetch_add(1, Ordering::Relaxed);
        (StatusCode::SERVICE_UNAVAILABLE, "{}").into_response()
    };
    let app = Router::new().route("/v1/embeddings", routing::post(move || async move { broken() }));
    let providers = [("a-broken", serve(app).await), ("priced", embedder(Seen::default()).await)];
    let house = House::new(&providers, Transport::absent("router")).await;
    let answer = house.embed(vec![text("hello")]).await.unwrap();
    assert_eq!((answer.provider.as_str(), CALLS.load(Ordering::Relaxed)), ("priced", 1));
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts[0].outcome(), attempts[1].outcome()), (Outcome::Failed, Outcome::Succeeded));
    assert_eq!((tokens(&request), request.cost_nano_usd), ((3, 0), Some(3_000)));
}

#[tokio::test]
async fn who_has_no_embeddings_says_so_and_tokens_pass() {
    let seen = Seen::default();
    let providers = [("claude", provider(plain).await)];
    let house = House::new(&providers, Transport::absent("router")).await;
    let error = house.embed(vec![text("hello")]).await.unwrap_err();
    assert_eq!(error.code(), Code::NotImplemented, "{error:?}");
    let house = House::new(&[("one", embedder(seen.clone()).await)], Transport::absent("router")).await;
    let ids = EmbedInput { input: Some(Input::Tokens(TokenIds { ids: vec![15_339, 1_917] })) };
    let answer = house.embed(vec![ids.clone()]).await.unwrap();
    assert_eq!((answer.vectors.len(), answer.cost_nano_usd), (1, None));
    assert_eq!(seen.0.lock()[0]["input"], serde_json::json!([[15_339, 1_917]]));
    assert_eq!(house.embed(vec![ids, text("a")]).await.unwrap_err().param(), Some("input"));
    assert_eq!(house.embed(vec![]).await.unwrap_err().param(), Some("input"));
}
