//! The one path every request takes: id, route, method, endpoint, error shape, headers, counts.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use axum::body::Body;
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::json;
use tracing::Instrument as _;
use weir_error::{Code, Error};
use weir_llm::Dialect as Spoken;
use weir_telemetry::{HttpMetrics, Method as MethodLabel, Span};
use weir_types::TraceContext;

use crate::{
    House,
    asked::{Asked, REQUEST_ID, TRACEPARENT},
    chat, compress, docs, embeddings,
    endpoint::{self, Dialect, Endpoint, Found},
    entry::{CLIENT_CLOSED, Entry},
    gemini::{self, Verb},
    inflate, models, reply, responses, rest, tokenize, websocket,
};

/// As Anthropic's SDKs look for it.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const UNMATCHED: &str = "unmatched";
const NO_SNIFF: (HeaderName, HeaderValue) =
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

pub(crate) type Answer = Result<Response<Body>, Error>;

#[derive(Clone)]
pub(crate) struct Edge(pub(crate) Arc<House>);

impl tower::Service<Request<Body>> for Edge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let house = self.0.clone();
        Box::pin(async move { Ok(house.serve(request).await) })
    }
}

impl House {
    async fn serve(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let version = request.version();
        let (mut asked, body) = Asked::new(request);
        let body = self.lingering.over(body, version);
        let caller = asked.trace;
        let root = Span::root("gateway", "HTTP", weir_telemetry::admit(caller), caller);
        asked.trace = root.context();
        let found = endpoint::find(asked.uri.path());
        let origin = self.cors.origin(&asked.headers);
        let mut counted = Counted::new(&self.http_metrics, found, &asked);
        let mut entry = Entry::new(counted.route, counted.method, asked.request_id.clone(), root);
        if entry.span.is_recorded() {
            entry.span.rename(format!("{} {}", counted.method.as_str(), counted.route));
        }
        let span = tracing::info_span!(
            "http",
            service = "gateway",
            op = counted.route,
            request_id = asked.request_id.as_str(),
            tenant = tracing::field::Empty,
            trace_id = asked.trace.map(|t| t.trace_id),
            span_id = asked.trace.map(|t| t.span_id),
        );
        let dialect = found.map_or(Dialect::Problem, |f| dialect(f.endpoint, &asked));
        entry.business_event = found.and_then(|f| f.endpoint.business_event());
        let work = AssertUnwindSafe(self.answer(found, &asked, body));
        let answer = work.catch_unwind().instrument(span.clone()).await;
        let answer = answer.unwrap_or_else(|panic| Err(panicked(&*panic)));
        let mut response = answer.unwrap_or_else(|error| {
            span.in_scope(|| log(&error));
            reply::error(dialect, &error, &asked)
        });
        self.finish(&asked, origin, &mut response);
        let accepted = asked.headers.get(header::ACCEPT_ENCODING);
        response = compress::compressed(accepted, self.config.compress_from.0, response).await;
        counted.status = response.status().as_u16();
        entry.answered(response, &asked.who)
    }

    async fn answer(&self, found: Option<Found<'_>>, asked: &Asked, body: Body) -> Answer {
        if let Some(response) = self.cors.preflight(&asked.method, &asked.headers) {
            return Ok(response);
        }
        let Some(Found { endpoint, id, .. }) = found else {
            return Err(Error::new(Code::NotFound, "there is nothing at this path"));
        };
        if !endpoint.methods().contains(&asked.method) {
            // What stands behind the colon may be a tag as well: only who asks in this way means a method.
            if endpoint == Endpoint::GeminiModel && asked.method == Method::POST && id.contains(':') {
                return Err(Error::new(Code::NotFound, "models have no such method here"));
            }
            return Ok(wrong_method(endpoint, asked));
        }
        let body = inflate::decoded(asked, body, self.config.max_body.as_usize()).await?;
        match endpoint {
            Endpoint::ChatCompletions => chat::complete(self, asked, body, Spoken::OpenAi).await,
            Endpoint::Messages => chat::complete(self, asked, body, Spoken::Anthropic).await,
            Endpoint::Responses => chat::complete(self, asked, body, Spoken::Responses).await,
            Endpoint::Gemini(Verb::Generate) => gemini::generate(self, asked, body, id, false).await,
            Endpoint::Gemini(Verb::Stream) => gemini::generate(self, asked, body, id, true).await,
            // These are not on the hot path: boxing keeps the future of the one that is small.
            endpoint => Box::pin(self.answer_rest(endpoint, id, asked, body)).await,
        }
    }

    async fn answer_rest(&self, endpoint: Endpoint, id: &str, asked: &Asked, body: Body) -> Answer {
        if endpoint == Endpoint::ChatSocket {
            return websocket::hand_over(self, asked).await;
        }
        match endpoint {
            Endpoint::Models => models::list(self, asked).await,
            Endpoint::Model => models::get(self, asked, id).await,
            Endpoint::Embeddings => embeddings::create(self, asked, body).await,
            Endpoint::Tokenize => tokenize::tokenize(self, asked, body).await,
            Endpoint::CountTokens => chat::count_tokens(self, asked, body).await,
            Endpoint::Gemini(Verb::Count) => gemini::count_tokens(self, asked, body, id).await,
            Endpoint::Gemini(Verb::Embed) => gemini::embed(self, asked, body, id, false).await,
            Endpoint::Gemini(Verb::BatchEmbed) => gemini::embed(self, asked, body, id, true).await,
            Endpoint::GeminiModels => gemini::list(self, asked).await,
            Endpoint::GeminiModel => gemini::get(self, asked, id).await,
            Endpoint::InputTokens => chat::count_input(self, asked, body).await,
            Endpoint::Compact => chat::compact(self, asked, body).await,
            Endpoint::Response => responses::one(self, asked, id).await,
            Endpoint::CancelResponse => responses::cancel(self, asked, id).await,
            Endpoint::InputItems => responses::input_items(self, asked, id).await,
            Endpoint::Rest(route) => rest::serve(self, asked, route, body).await,
            Endpoint::Index => index(),
            Endpoint::OpenApi => docs::openapi(),
            Endpoint::Docs => docs::page(asked, id),
            Endpoint::Errors => docs::errors(asked),
            Endpoint::ErrorCode => docs::error(asked, id),
            _ => Err(Error::new(Code::NotImplemented, "this endpoint is not there yet")),
        }
    }

    /// What every response carries.
    fn finish(&self, asked: &Asked, origin: Option<HeaderValue>, response: &mut Response<Body>) {
        let code = response.extensions_mut().remove::<Code>();
        if let Some(code) = code {
            self.errors.count(code.as_str());
        }
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(asked.request_id.as_str()) {
            if asked.is_anthropic() {
                headers.insert(ANTHROPIC_REQUEST_ID, value.clone());
            }
            headers.insert(REQUEST_ID, value);
        }
        if let Some(value) = asked.trace.and_then(|t| HeaderValue::from_str(&t.to_string()).ok()) {
            headers.insert(TRACEPARENT, value);
        }
        if let Some(rate) = asked.rate.get() {
            reply::rate_headers(headers, rate);
        }
        headers.insert(NO_SNIFF.0, NO_SNIFF.1);
        self.cors.mark(origin, headers);
    }
}

/// Some paths are two vendors'; Anthropic's SDKs name their version.
fn dialect(endpoint: Endpoint, asked: &Asked) -> Dialect {
    match endpoint {
        Endpoint::Models | Endpoint::Model | Endpoint::Absent(Dialect::OpenAi) if asked.is_anthropic() => {
            Dialect::Anthropic
        }
        endpoint => endpoint.dialect(),
    }
}

fn wrong_method(endpoint: Endpoint, asked: &Asked) -> Response<Body> {
    let allow = endpoint.methods().iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let mut response = if asked.method == Method::OPTIONS {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    } else {
        let error = Error::new(Code::MethodNotAllowed, format!("this path takes {allow}"));
        reply::error(dialect(endpoint, asked), &error, asked)
    };
    if let Ok(allow) = HeaderValue::from_str(&allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

fn index() -> Answer {
    reply::json(
        StatusCode::OK,
        &json!({
            "name": "weir",
            "chat": "/v1/chat/completions",
            "messages": "/v1/messages",
            "responses": "/v1/responses",
            "embeddings": "/v1/embeddings",
            "gemini": "/v1beta/models",
            "tokenize": "/v1/tokenize",
            "models": "/v1/models",
            "websocket": "/ws/chat",
            "docs": "/docs",
            "openapi": "/openapi.json",
            "errors": "/errors",
            "live": "/live",
            "ready": "/ready",
        }),
    )
}

/// The panic's own text goes to the log only.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text =
        text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("of unknown kind");
    Error::internal(std::io::Error::other(format!("panicked: {text}")))
}

fn log(error: &Error) {
    match error.code().http().as_u16() {
        500 => tracing::error!(error = error.chain(), "request failed"),
        501 | 503 => tracing::info!(error = error.chain(), "request refused"),
        502.. => tracing::warn!(error = error.chain(), "request failed"),
        _ => tracing::debug!(error = error.chain(), "request refused"),
    }
}

/// Counts when dropped: a request whose client went away before the answer counts too, as 499.
struct Counted<'a> {
    metrics: &'a HttpMetrics,
    route: &'static str,
    method: MethodLabel,
    trace: Option<TraceContext>,
    started: Instant,
    status: u16,
}

impl<'a> Counted<'a> {
    fn new(metrics: &'a HttpMetrics, found: Option<Found<'_>>, asked: &Asked) -> Self {
        Self {
            metrics,
            route: found.map_or(UNMATCHED, |f| f.route),
            method: MethodLabel::of(asked.method.as_str()),
            trace: asked.trace,
            started: Instant::now(),
            status: CLIENT_CLOSED,
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.record(self.route, self.method, self.status, self.started.elapsed(), self.trace);
    }
}
