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

fn own(inputs: &[&str]) -> EmbedRequest {
    let inputs = inputs.iter().map(|input| text(input)).collect();
    EmbedRequest { model: "weir-hash-1".to_owned(), inputs, ..EmbedRequest::default() }
}

impl House {
    async fn asked(&self, request: EmbedRequest) -> Result<EmbedResponse, Error> {
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
async fn a_provider_s_status_and_wait_come_through() {
    for (status, code, after) in [
        (408, Code::RequestTimeout, Some(7)),
        (429, Code::RateLimited, Some(7)),
        (503, Code::Unavailable, Some(7)),
        (529, Code::Overloaded, Some(7)),
        (504, Code::UpstreamTimeout, Some(7)),
        (500, Code::UpstreamFailed, Some(7)),
        (422, Code::InvalidArgument, None),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = move || async move { (status, [("retry-after", "7")], "{}") };
        let app = Router::new().route("/v1/embeddings", routing::post(answer));
        let house = House::new(&[("one", serve(app).await)], Transport::absent("router")).await;
        let error = house.embed(vec![text("hello")]).await.unwrap_err();
        let wait = error.retry_after().map(|after| after.as_secs());
        assert_eq!((error.code(), wait), (code, after), "{status}");
    }
}

#[tokio::test]
async fn models_are_found_by_whatever_they_may_be_called() {
    let house = House::new(&[("one", provider(plain).await)], Transport::absent("router")).await;
    let ctx =
        weir_types::RequestContext { scopes: Arc::from([scope::MODELS_READ.into()]), ..house.ctx.clone() };
    for (name, found) in
        [("one/m", true), ("weir/weir-hash-1", true), ("m", true), ("two/m", false), ("n", false)]
    {
        let request = weir_proto::chat::ListModelsRequest { name: name.to_owned() };
        let models = house.chat.clone().list_models(weir_rpc::request(&ctx, request)).await.unwrap();
        let ids: Vec<_> = models.into_inner().models.into_iter().map(|model| model.id).collect();
        assert_eq!(ids, found.then(|| name.to_owned()).into_iter().collect::<Vec<_>>());
    }
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

#[tokio::test]
async fn our_own_model_needs_nobody_and_costs_nothing() {
    let house = House::new(&[("one", provider(plain).await)], Transport::absent("router")).await;
    let answer = house.asked(own(&["a river in spring", "a hill"])).await.unwrap();
    assert_eq!((answer.provider.as_str(), answer.model.as_str()), ("weir", "weir-hash-1"));
    let vector: Vec<f32> = weir_embedding::Model::Hash1.embed("a hill", None).unwrap();
    assert_eq!(weir_llm::embeddings::floats(&answer.vectors[1]).collect::<Vec<_>>(), vector);
    assert_eq!((answer.usage.unwrap().input_tokens, answer.cost_nano_usd), (6, Some(0)));
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts[0].outcome(), attempts[0].provider.as_str()), (Outcome::Succeeded, "weir"));
    assert_eq!((tokens(&request), request.cost_nano_usd), ((6, 0), Some(0)));
    assert_eq!(attempts[0].price_row, "weir/weir-hash-1@2026-11-21");

    let named = EmbedRequest { model: "weir/weir-hash-1".to_owned(), ..own(&["x"]) };
    assert_eq!(house.asked(named).await.unwrap().model, "weir-hash-1");
    let long = "word ".repeat(40_000);
    let short = EmbedRequest { dimensions: Some(16), ..own(&[&long]) };
    assert_eq!(house.asked(short).await.unwrap().vectors[0].len(), 64);
    // Tokens are the text that they stand for.
    let ids = vec![EmbedInput { input: Some(Input::Tokens(TokenIds { ids: vec![15_339, 1_917] })) }];
    let by_tokens = house.asked(EmbedRequest { inputs: ids, ..own(&[]) }).await.unwrap();
    assert_eq!(by_tokens.vectors, house.asked(own(&["hello world"])).await.unwrap().vectors);
    assert_eq!(by_tokens.usage.unwrap().input_tokens, 2);
}

#[tokio::test]
async fn our_own_model_says_what_it_has_not() {
    let house = House::new(&[("one", provider(plain).await)], Transport::absent("router")).await;
    let refused = async |request| {
        let error = house.asked(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        (error.param().unwrap_or_default().to_owned(), error.message().to_owned())
    };
    let (param, text) = refused(EmbedRequest { dimensions: Some(4), ..own(&["x"]) }).await;
    assert_eq!((param.as_str(), text.as_str()), ("dimensions", "expected 8 to 4096 dimensions"));
    let ids = vec![EmbedInput { input: Some(Input::Tokens(TokenIds { ids: vec![u32::MAX] })) }];
    assert_eq!(refused(EmbedRequest { inputs: ids, ..own(&[]) }).await.0, "input");
    let extra = bytes::Bytes::from_static(br#"{"user":"me","x_y":1}"#);
    let answer = house.asked(EmbedRequest { extra: extra.clone(), ..own(&["x"]) }).await.unwrap();
    assert_eq!(answer.warnings, "dropped;user");
    let (_, text) = refused(EmbedRequest { extra, strict: true, ..own(&["x"]) }).await;
    assert!(text.contains("dropped;user"), "{text}");
    let chatting = house.ask("weir-hash-1", false, false).await.unwrap_err();
    assert_eq!((chatting.code(), chatting.param()), (Code::InvalidArgument, Some("model")));
}

#[tokio::test]
async fn our_own_model_is_listed_once_and_can_be_left_out() {
    let list = async |house: &House| -> Vec<(String, String)> {
        let ctx = RequestContext { scopes: Arc::from([scope::MODELS_READ.into()]), ..house.ctx.clone() };
        let mut chat = house.chat.clone();
        let request = weir_proto::chat::ListModelsRequest::default();
        let models = chat.list_models(weir_rpc::request(&ctx, request)).await.unwrap().into_inner().models;
        models.into_iter().map(|model| (model.id, model.provider)).collect()
    };
    let seen = Seen::default();
    let providers = [("one", embedder(seen.clone()).await)];
    let models = ["m", "weir-hash-1"];
    let house = House::listing(&providers, Transport::absent("router"), &models).await;
    let named = |id: &str, provider: &str| (id.to_owned(), provider.to_owned());
    assert_eq!(list(&house).await, [named("m", "one"), named("weir-hash-1", "weir")]);
    assert_eq!(house.asked(own(&["x"])).await.unwrap().provider, "weir");
    let without = |config: &mut Config| config.local_embeddings = false;
    let house = House::set(&providers, Transport::absent("router"), &models, without).await;
    assert_eq!(list(&house).await, [named("m", "one"), named("weir-hash-1", "one")]);
    assert_eq!(house.asked(own(&["x"])).await.unwrap().provider, "one");
}

/// Titan: one text a call, refused where it says `bad`; three tokens each. It is asked by `most` at once at most.
#[derive(Clone, Default)]
struct Titan {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

async fn invoke(State(titan): State<Titan>, Json(body): Json<serde_json::Value>) -> axum::response::Response {
    titan.calls.fetch_add(1, Ordering::SeqCst);
    titan.most.fetch_max(titan.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    titan.now.fetch_sub(1, Ordering::SeqCst);
    let text = body["inputText"].as_str().unwrap();
    if text == "bad" {
        return (StatusCode::BAD_REQUEST, Json(serde_json::json!({"message": "bad text"}))).into_response();
    }
    let answer = serde_json::json!({"embedding": [text.len() as f32], "inputTextTokenCount": 3});
    Json(answer).into_response()
}

async fn titan_house(titan: &Titan) -> House {
    let app =
        Router::new().route("/v1/model/{model}/invoke", routing::post(invoke)).with_state(titan.clone());
    let providers = [("priced", serve(app).await)];
    House::set(&providers, Transport::absent("router"), &["amazon.titan-embed-text-v2:0"], |config| {
        let titan = config.providers.get_mut("priced").unwrap();
        titan.dialect = ProviderDialect::Bedrock;
        titan.region = Some("r".to_owned());
    })
    .await
}

fn titan_asked(inputs: &[String]) -> EmbedRequest {
    let inputs = inputs.iter().map(|input| text(input)).collect();
    EmbedRequest { model: "amazon.titan-embed-text-v2:0".to_owned(), inputs, ..EmbedRequest::default() }
}

#[tokio::test]
async fn a_provider_that_takes_one_text_a_call_gets_them_one_by_one() {
    let titan = Titan::default();
    let house = titan_house(&titan).await;
    let inputs: Vec<_> = (1..=40).map(|n| "x".repeat(n)).collect();
    let answer = house.asked(titan_asked(&inputs)).await.unwrap();
    assert_eq!(lengths(&answer), (1..=40).map(|n| n as f32).collect::<Vec<_>>());
    assert_eq!(answer.usage.unwrap().input_tokens, 120);
    assert_eq!(titan.calls.load(Ordering::SeqCst), 40);
    assert!((2..=8).contains(&titan.most.load(Ordering::SeqCst)), "{:?}", titan.most);
    let (attempts, request) = house.metered().await;
    assert_eq!((attempts.len(), tokens(&request)), (1, (120, 0)));
}

#[tokio::test]
async fn one_bad_text_refuses_all_and_what_was_embedded_before_counts() {
    let titan = Titan::default();
    let house = titan_house(&titan).await;
    let mut inputs: Vec<_> = (1..=40).map(|n| "x".repeat(n)).collect();
    inputs[4] = "bad".to_owned();
    let error = house.asked(titan_asked(&inputs)).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "bad text"));
    let calls = titan.calls.load(Ordering::SeqCst);
    assert!((5..=20).contains(&calls), "none is begun once one has failed: {calls}");
    let (attempts, request) = house.metered().await;
    let used = 3 * (calls as u64 - 1);
    assert_eq!((attempts[0].outcome(), tokens(&request)), (Outcome::Cut, (used, 0)));
    assert_eq!(attempts[0].status, 400);
}

#[tokio::test]
async fn vectors_of_another_length_than_asked_for_are_named() {
    let house = House::new(&[("one", embedder(Seen::default()).await)], Transport::absent("router")).await;
    let ask = |dimensions| EmbedRequest {
        model: "m".to_owned(),
        inputs: vec![text("hello")],
        dimensions: Some(dimensions),
        ..EmbedRequest::default()
    };
    assert_eq!(house.asked(ask(2)).await.unwrap().warnings, "");
    assert_eq!(house.asked(ask(8)).await.unwrap().warnings, "dropped;dimensions");
}

#[tokio::test]
async fn a_strict_request_goes_to_nobody_who_would_not_get_all_of_it() {
    let seen = Seen::default();
    let house = House::new(&[("one", embedder(seen.clone()).await)], Transport::absent("router")).await;
    let ask = |extra: &'static str, strict| EmbedRequest {
        model: "m".to_owned(),
        inputs: vec![text("hello")],
        extra: extra.into(),
        strict,
        ..EmbedRequest::default()
    };
    let error = house.asked(ask(r#"{"taskType":"CLUSTERING"}"#, true)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("dropped;taskType") && seen.0.lock().is_empty(), "{error:?}");
    let answer = house.asked(ask(r#"{"taskType":"CLUSTERING"}"#, false)).await.unwrap();
    assert_eq!(answer.warnings, "dropped;taskType");
    assert_eq!(house.asked(ask(r#"{"user":"me"}"#, true)).await.unwrap().warnings, "");
}
