//! What the gateway says of itself: `/openapi.json`, the interactive page over it at `/docs`, and the error codes at
//! `/errors`. All of it is the same for everybody and needs no key.

mod pages;

use std::sync::LazyLock;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use weir_error::{Code, Error, Retry};

use crate::{asked::Asked, edge::Answer, reply};

const BY_HAND: &str = include_str!("openapi.json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const SCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
/// Nothing but what this gateway serves itself.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=300");

static OPENAPI: LazyLock<Result<Bytes, String>> = LazyLock::new(|| {
    let document = document().map_err(|e| e.to_string())?;
    Ok(document.to_string().into())
});

/// The whole description.
///
/// # Errors
/// When `/proto` or the part written by hand cannot be read, which tests see first.
pub(crate) fn document() -> Result<Value, Error> {
    let mut by_hand: Value = serde_json::from_str(BY_HAND).map_err(Error::internal)?;
    by_hand["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    let api = weir_rest::api().map_err(Error::internal)?;
    Ok(weir_rest::openapi::document(api, by_hand))
}

pub(crate) fn openapi() -> Answer {
    let document = OPENAPI.as_ref().map_err(|e| Error::internal(e.clone()))?;
    Ok(public(reply::bytes(StatusCode::OK, reply::JSON, document.clone())))
}

/// A page or one of its files: `/docs` is `name` of nothing.
pub(crate) fn page(asked: &Asked, name: &str) -> Answer {
    let plain = |kind, text: &'static str| Ok(public(reply::bytes(StatusCode::OK, kind, text.into())));
    match name {
        "" => plain(HTML, pages::DOCS),
        "initializer.js" => plain(SCRIPT, include_str!("initializer.js")),
        "page.css" => plain(CSS, include_str!("page.css")),
        "swagger-ui-bundle.js" => {
            packed(asked, SCRIPT, include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz")))
        }
        "swagger-ui.css" => {
            packed(asked, CSS, include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz")))
        }
        _ => Err(Error::new(Code::NotFound, "there is nothing at this path")),
    }
}

/// Kept packed only: every browser takes it.
fn packed(asked: &Asked, kind: HeaderValue, file: &'static [u8]) -> Answer {
    let accepted = asked.header("accept-encoding").is_none_or(|a| a.contains("gzip") || a.contains('*'));
    if !accepted {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
        return Ok(response);
    }
    let mut response = public(reply::bytes(StatusCode::OK, kind, Bytes::from_static(file)));
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    Ok(response)
}

/// `/errors`, for people, or for programs that ask for JSON.
pub(crate) fn errors(asked: &Asked) -> Answer {
    if wants_json(asked) {
        let data: Vec<_> = Code::ALL.iter().copied().map(shown).collect();
        return Ok(public(negotiated(reply::json(StatusCode::OK, &json!({ "data": data }))?)));
    }
    Ok(public(negotiated(reply::bytes(StatusCode::OK, HTML, pages::errors().into()))))
}

pub(crate) fn error(asked: &Asked, code: &str) -> Answer {
    let code = Code::parse(code).ok_or_else(|| Error::new(Code::NotFound, "there is no such error code"))?;
    if wants_json(asked) {
        return Ok(public(negotiated(reply::json(StatusCode::OK, &shown(code))?)));
    }
    Ok(public(negotiated(reply::bytes(StatusCode::OK, HTML, pages::error(code).into()))))
}

fn wants_json(asked: &Asked) -> bool {
    asked.header("accept").is_some_and(|accept| accept.contains("application/json"))
}

fn shown(code: Code) -> Value {
    let explained = code.explanation();
    json!({
        "code": code.as_str(),
        "title": code.title(),
        "status": code.http().as_u16(),
        "meaning": explained.meaning,
        "remedy": explained.remedy,
        "retry": word(explained.retry),
    })
}

fn word(retry: Retry) -> &'static str {
    match retry {
        Retry::No => "no",
        Retry::Later => "later",
        Retry::Unsure => "unsure",
    }
}

/// Nobody's secret: to be kept for a while by whoever wants.
fn public(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, CACHED);
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    if headers.get(header::VARY).is_some_and(|v| v == "authorization") {
        headers.remove(header::VARY);
    }
    response
}

fn negotiated(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}
