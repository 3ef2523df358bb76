//! Keeps secrets out of log lines: by the name of the field, and by the look of the text.
//!
//! A net under the code, not a licence: secrets are held in types that do not print themselves.

use std::borrow::Cow;

const MASK: &str = "***";

/// The last part of a field's name (`db.password`) that marks its text as secret.
const SECRET_FIELDS: [&str; 10] = [
    "password",
    "passwd",
    "secret",
    "client_secret",
    "token",
    "api_key",
    "authorization",
    "cookie",
    "private_key",
    "credential",
];

/// Beginnings of secrets, and how many characters a secret has at least after them.
const PREFIXES: [(&str, usize); 5] =
    [("pk_live_", 8), ("pk_admin_", 8), ("sk-", 16), ("Bearer ", 8), ("bearer ", 8)];

pub(crate) fn is_secret_field(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    SECRET_FIELDS.iter().any(|s| last.eq_ignore_ascii_case(s))
}

/// The text with API keys, bearer tokens and passwords in URLs masked.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    for (prefix, least) in PREFIXES {
        if text.contains(prefix) {
            text = Cow::Owned(mask_after(&text, prefix, least));
        }
    }
    if text.contains("://") && text.contains('@') {
        text = Cow::Owned(mask_userinfo(&text));
    }
    text
}

fn mask_after(text: &str, prefix: &str, least: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(prefix) {
        let (before, found) = rest.split_at(at);
        let inside_word =
            before.chars().next_back().or(out.chars().next_back()).is_some_and(char::is_alphanumeric);
        let after = &found[prefix.len()..];
        let len = after.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"-_.~+/=".contains(b)).count();
        out.push_str(before);
        out.push_str(prefix);
        if !inside_word && len >= least {
            out.push_str(MASK);
            rest = &after[len..];
        } else {
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// `scheme://user:password@host` becomes `scheme://user:***@host`.
fn mask_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "/?#\"'<>,".contains(c)).unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rfind('@') {
            Some(host) => {
                let user = authority[..host].split(':').next().unwrap_or_default();
                // Without a colon the whole may be a token (`https://ghp_x@host`).
                let (user, colon) = if authority[..host].contains(':') { (user, ":") } else { ("", "") };
                for part in [user, colon, MASK, &authority[host..]] {
                    out.push_str(part);
                }
            }
            None => out.push_str(authority),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_the_rest_stays() {
        for (text, want) in [
            ("key pk_live_0123456789abcdef_S3cr3t, sent", "key pk_live_***, sent"),
            ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
            ("sk-proj-abcdefghijklmnop!", "sk-***!"),
            ("task-aaaaaaaaaaaaaaaaaaaaaa", "task-aaaaaaaaaaaaaaaaaaaaaa"),
            ("postgres://weir:p@ss:w@db:5432/x?y", "postgres://weir:***@db:5432/x?y"),
            ("https://token@example.org/a and redis://:pw@h", "https://***@example.org/a and redis://:***@h"),
            ("see https://example.org/@name", "see https://example.org/@name"),
            ("nothing here", "nothing here"),
        ] {
            assert_eq!(redact(text), want);
        }
    }

    #[test]
    fn fields_are_known_by_their_last_part() {
        assert!(is_secret_field("db.password") && is_secret_field("Authorization"));
        assert!(!is_secret_field("usage.tokens") && !is_secret_field("key.id"));
    }
}
