//! Ids that must look as a dialect's do.

/// The id under another vendor's prefix: `msg_01ab` becomes `chatcmpl-01ab`.
#[must_use]
pub(crate) fn with_prefix(prefix: &str, id: &str) -> String {
    const KNOWN: [&str; 3] = ["chatcmpl-", "msg_", "resp_"];
    let bare = KNOWN.iter().find_map(|known| id.strip_prefix(known)).unwrap_or(id);
    format!("{prefix}{bare}")
}

/// An answer's id as a part of others; one that nothing else has where the provider gave none.
#[must_use]
pub(crate) fn plain_or_random(id: &str) -> String {
    if !id.is_empty() {
        return plain(id).into_owned();
    }
    let random = ring::rand::generate::<[u8; 8]>(&ring::rand::SystemRandom::new());
    // Without randomness there is no TLS to providers either.
    format!("{:016x}", random.map_or(0, |random| u64::from_be_bytes(random.expose())))
}

/// An id of a tool call that Anthropic takes: letters, digits, `_` and `-`. Others are changed the same way wherever
/// they stand, so calls and results still meet.
#[must_use]
pub(crate) fn plain(id: &str) -> std::borrow::Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !id.is_empty() && id.chars().all(fits) {
        return id.into();
    }
    let changed: String = id.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if changed.is_empty() { "call".into() } else { changed.into() }
}
