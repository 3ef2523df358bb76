//! Who asks: AWS's signature, checked with a secret that only tests use, or a Bedrock API key.
//!
//! Written apart from the side that signs: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.

use http::{HeaderMap, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::{digest, hmac};
use secrecy::ExposeSecret as _;

use crate::{Simulator, dialect::Asked, error::ApiError};

/// The one pair of keys that is good here.
pub const ACCESS_KEY_ID: &str = "AKIASIMULATOR";
/// Of [`ACCESS_KEY_ID`].
pub const SECRET_ACCESS_KEY: &str = "simulator/secret+access/key";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const PATHS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

fn denied(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "", message)
}

pub(super) fn authorize(sim: &Simulator, asked: &Asked<'_>) -> Result<(), ApiError> {
    let Some(shown) = header(asked.headers, "authorization") else {
        return Err(denied("Missing Authentication Token"));
    };
    if let Some(presented) = shown.strip_prefix("Bearer ") {
        return match &sim.0.config.api_key {
            Some(key) if key.expose_secret() != presented => {
                Err(denied("Authentication failed: Please make sure your API Key is valid."))
            }
            _ => Ok(()),
        };
    }
    let Some(claims) = shown.strip_prefix(ALGORITHM) else {
        return Err(denied("The request signature is not of a known algorithm."));
    };
    verify(asked, claims)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn verify(asked: &Asked<'_>, claims: &str) -> Result<(), ApiError> {
    let field = |name: &str| {
        claims.split(',').map(str::trim).find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    let wrong = || {
        denied(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
             Key and signing method. Consult the service documentation for details.",
        )
    };
    let (Some(credential), Some(names), Some(signature)) =
        (field("Credential"), field("SignedHeaders"), field("Signature"))
    else {
        return Err(denied(
            "Authorization header requires 'Credential', 'Signature' and 'SignedHeaders' parameters.",
        ));
    };
    let (id, scope) = credential.split_once('/').ok_or_else(wrong)?;
    if id != ACCESS_KEY_ID {
        return Err(denied("The security token included in the request is invalid."));
    }
    let date = header(asked.headers, "x-amz-date").ok_or_else(wrong)?;
    let [day, region, service, end] = scope.split('/').collect::<Vec<_>>()[..] else { return Err(wrong()) };
    if !date.starts_with(day) || service != "bedrock" || end != "aws4_request" {
        return Err(denied(format!(
            "Credential should be scoped to correct service: 'bedrock', not '{service}'."
        )));
    }
    for must in ["host", "x-amz-date"] {
        if !names.split(';').any(|name| name == must) {
            return Err(denied(format!("'{must}' must be a 'SignedHeader' in the AWS Authorization.")));
        }
    }
    if asked.headers.contains_key("x-amz-security-token") && !names.contains("x-amz-security-token") {
        return Err(denied("'X-Amz-Security-Token' must be a 'SignedHeader' in the AWS Authorization."));
    }
    let canonical = canonical(asked, names).ok_or_else(wrong)?;
    let text = format!(
        "{ALGORITHM}\n{date}\n{scope}\n{}",
        hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
    );
    let mut key = format!("AWS4{SECRET_ACCESS_KEY}").into_bytes();
    for part in [day, region, service, end, text.as_str()] {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    if hex(&key) == signature { Ok(()) } else { Err(wrong()) }
}

/// Without a query, which Converse has none of.
fn canonical(asked: &Asked<'_>, names: &str) -> Option<String> {
    let path = utf8_percent_encode(asked.uri.path(), PATHS);
    let mut text = format!("POST\n{path}\n\n");
    for name in names.split(';') {
        let value = header(asked.headers, name)?.split_whitespace().collect::<Vec<_>>().join(" ");
        text.push_str(&format!("{name}:{value}\n"));
    }
    let body = hex(digest::digest(&digest::SHA256, asked.body).as_ref());
    Some(format!("{text}\n{names}\n{body}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
