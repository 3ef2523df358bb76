//! Gemini and Claude on Vertex AI: their dialects at longer paths, for those who show a token of Google's, and where such
//! tokens are given.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use crate::{
    Simulator, anthropic,
    chat::Posted,
    error::ApiError,
    gemini,
    seed::{hash, id},
};

/// What tokens begin with.
const TOKEN: &str = "ya29.";
const LIFETIME_S: i64 = 3_600;
const GRANT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";

/// `POST /v1/projects/{project}/locations/{location}/publishers/google/models/{model}:{method}`
pub(crate) async fn call(
    sim: State<Simulator>,
    Path((_, _, target)): Path<(String, String, String)>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    if let Err(error) = authorize(&headers) {
        return gemini::error_response(&error, false);
    }
    if let Some((model, method @ ("predict" | "embedContent"))) = target.rsplit_once(':') {
        return gemini::predict(&sim, model, method == "predict", &headers, &uri, body).await;
    }
    gemini::call(sim, Path(target), headers, uri, body).await
}

/// Whether it is shown a token of Google's.
pub(crate) fn authorize(headers: &HeaderMap) -> Result<(), ApiError> {
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if shown.strip_prefix("Bearer ").is_some_and(|token| token.starts_with(TOKEN)) {
        return Ok(());
    }
    let text = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other \
                valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.";
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "", text))
}

/// `POST /v1/projects/{project}/locations/{location}/publishers/anthropic/models/{model}:{method}`: Claude.
pub(crate) async fn claude(
    State(sim): State<Simulator>,
    Path((_, _, target)): Path<(String, String, String)>,
    headers: HeaderMap,
    uri: Uri,
    body: Posted,
) -> Response {
    match target.rsplit_once(':') {
        Some(("count-tokens", "rawPredict")) => match (authorize(&headers), body) {
            (Ok(()), Ok(body)) => anthropic::count_on_vertex(&sim, &body),
            (Err(error), _) => gemini::error_response(&error, false),
            (_, Err(rejected)) => rejected.into_response(),
        },
        Some((model, method @ ("rawPredict" | "streamRawPredict"))) => {
            let stream = method == "streamRawPredict";
            anthropic::on_vertex(&sim, model, stream, &headers, &uri, body).await
        }
        _ => gemini::error_response(&ApiError::new(StatusCode::NOT_FOUND, "", "Method not found."), false),
    }
}

/// `POST /token`: for a service account's signed statement, whose signature is taken on trust.
pub(crate) async fn token(State(sim): State<Simulator>, body: Bytes) -> Response {
    let form = String::from_utf8_lossy(&body);
    let field = |name: &str| form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let now_s = sim.0.clock.now_ms().div_euclid(1_000);
    let claims = field("assertion").and_then(claims);
    let good = claims.is_some_and(|claims| {
        let (from, to) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
        claims["iss"].is_string()
            && claims["scope"].is_string()
            && from <= now_s + 300
            && now_s < to
            && to - from <= LIFETIME_S
    });
    if field("grant_type") != Some(GRANT) || !good {
        let text =
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.";
        let refusal = json!({"error": "invalid_grant", "error_description": text});
        return (StatusCode::BAD_REQUEST, Json(refusal)).into_response();
    }
    let token = id(TOKEN, 60, hash(sim.0.origin, &sim.next_call().to_le_bytes()));
    Json(json!({"access_token": token, "expires_in": LIFETIME_S - 1, "token_type": "Bearer"})).into_response()
}

/// Of a JWT that says it is signed with RSA.
fn claims(jwt: &str) -> Option<Value> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    let mut parts = jwt.split('.');
    let (header, claims) = (part(parts.next()?)?, part(parts.next()?)?);
    let signed = parts.next().is_some_and(|signature| !signature.is_empty());
    (header["alg"] == "RS256" && signed).then_some(claims)
}
