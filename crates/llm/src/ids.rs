//! Ids that must look as a dialect's do.

use std::borrow::Cow;

use ring::digest::{SHA256, digest};

use crate::canonical::Losses;

/// The longest that OpenAI takes: <https://platform.openai.com/docs/guides/safety-best-practices#safety-identifiers>.
const MAX_USER: usize = 64;

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
pub(crate) fn plain(id: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !id.is_empty() && id.chars().all(fits) {
        return id.into();
    }
    let changed: String = id.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if changed.is_empty() { "call".into() } else { changed.into() }
}

/// Whom the client asks for, as OpenAI takes it. What is longer (Claude Code's) is told apart by its hash.
#[must_use]
pub(crate) fn user<'a>(user: &'a str, losses: &mut Losses) -> Cow<'a, str> {
    if user.chars().count() <= MAX_USER && !user.chars().any(char::is_control) {
        return user.into();
    }
    losses.altered("user");
    let hash = digest(&SHA256, user.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_of_users_are_hashed_the_same_way_each_time() {
        let long = format!("user_{}_account_1_session_2", "a".repeat(64));
        let mut losses = Losses::default();
        let hashed = user(&long, &mut losses);
        assert_eq!((hashed.len(), losses.header().as_str()), (64, "altered;user"));
        assert_eq!(hashed, user(&long, &mut losses));
        assert_ne!(hashed, user(&format!("{long}3"), &mut losses));
        assert_eq!(user("a\nb", &mut losses).len(), 64);
        let (fits, mut losses) = ("é".repeat(64), Losses::default());
        assert_eq!(user(&fits, &mut losses), fits);
        assert!(losses.is_empty());
    }
}
