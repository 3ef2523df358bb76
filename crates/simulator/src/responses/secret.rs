//! Reasoning that is sent along unread, and checked when it comes back.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    error::ApiError,
    seed::{hash, id},
};

const KEY: u64 = 0x7265_6173_6f6e_696e;
/// What a Fernet token, which the real one is, begins with.
const PREFIX: &str = "gAAAAABp";

fn mac(item: &str) -> String {
    id("", 96, hash(KEY, item.as_bytes()))
}

/// The reasoning of an item, for the client to keep.
pub(super) fn encrypted(item: &str) -> String {
    let sealed = URL_SAFE_NO_PAD.encode(format!("{item}|{}", mac(item)));
    format!("{PREFIX}{sealed}==")
}

/// Whether it is one of ours, and of this item, if the item says which it is.
pub(super) fn check(secret: &str, item: Option<&str>) -> Result<(), ApiError> {
    let opened = secret.strip_prefix(PREFIX).and_then(|secret| secret.strip_suffix("=="));
    let opened = opened.and_then(|sealed| String::from_utf8(URL_SAFE_NO_PAD.decode(sealed).ok()?).ok());
    let owner = opened.as_deref().and_then(|opened| opened.split_once('|'));
    let (what, why) = match owner.filter(|(owner, sign)| *sign == mac(owner)) {
        Some((owner, _)) if item.is_none_or(|item| item == owner) => return Ok(()),
        Some(_) => (
            format!("for item {}", item.unwrap_or_default()),
            "Encrypted content item_id did not match the target item id.",
        ),
        None => {
            let shown: String = secret.chars().take(4).collect();
            (format!("{shown}..."), "Encrypted content could not be decrypted or parsed.")
        }
    };
    let message = format!("The encrypted content {what} could not be verified. Reason: {why}");
    Err(ApiError {
        code: Some("invalid_encrypted_content"),
        ..ApiError::new(http::StatusCode::BAD_REQUEST, "invalid_request_error", message)
    })
}
