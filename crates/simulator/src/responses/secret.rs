//! Reasoning that is sent along unread, and checked when it comes back.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    error::ApiError,
    seed::{hash, id},
};

const KEY: u64 = 0x7265_6173_6f6e_696e;
/// What a Fernet token, which the real one is, begins with.
const PREFIX: &str = "gAAAAABp";
/// What stands before a conversation in one, in an item's place.
const COMPACTED: &str = "compacted:";

fn mac(item: &str) -> String {
    id("", 96, hash(KEY, item.as_bytes()))
}

/// The reasoning of an item, for the client to keep.
pub(super) fn encrypted(item: &str) -> String {
    let sealed = URL_SAFE_NO_PAD.encode(format!("{item}|{}", mac(item)));
    format!("{PREFIX}{sealed}==")
}

/// What a compaction keeps of a conversation, for the client to bring along.
pub(super) fn compacted(said: &str) -> String {
    encrypted(&format!("{COMPACTED}{}", URL_SAFE_NO_PAD.encode(said)))
}

/// What a compaction kept, if it is one of ours.
pub(super) fn uncompacted(secret: &str) -> Result<String, ApiError> {
    check(secret, None)?;
    let said = open(secret).and_then(|opened| {
        let said = opened.split_once('|')?.0.strip_prefix(COMPACTED)?.to_owned();
        String::from_utf8(URL_SAFE_NO_PAD.decode(said).ok()?).ok()
    });
    said.ok_or_else(|| unverified("of a compaction", "It is not one of a compaction."))
}

fn open(secret: &str) -> Option<String> {
    let sealed = secret.strip_prefix(PREFIX)?.strip_suffix("==")?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(sealed).ok()?).ok()
}

/// Whether it is one of ours, and of this item, if the item says which it is.
pub(super) fn check(secret: &str, item: Option<&str>) -> Result<(), ApiError> {
    let opened = open(secret);
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
    Err(unverified(&what, why))
}

fn unverified(what: &str, why: &str) -> ApiError {
    let message = format!("The encrypted content {what} could not be verified. Reason: {why}");
    ApiError {
        code: Some("invalid_encrypted_content"),
        ..ApiError::new(http::StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }
}
