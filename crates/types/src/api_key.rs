//! The form of API keys: `pk_live_<id>_<secret>`.
//!
//! `<id>` is the key's UUID as 32 hex digits, so a key can be named without its secret. `<secret>` is 43 base62
//! characters (256 bits) and 6 more of a CRC-32 over everything before them, so that a typo or a made-up key is
//! refused without a lookup. Keys of the platform's operator begin with `pk_admin_` instead.

use uuid::Uuid;

use crate::KeyId;

const LIVE: &str = "pk_live_";
const ADMIN: &str = "pk_admin_";
const ID: usize = 32;
const SECRET: usize = 43;
const CHECKSUM: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whom a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// A tenant.
    Live,
    /// The platform's operator.
    Admin,
}

impl KeyKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Live => LIVE,
            Self::Admin => ADMIN,
        }
    }
}

/// What a well-formed key says about itself. Whether it exists is another matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyForm {
    pub kind: KeyKind,
    pub id: KeyId,
}

/// What may be shown of a key: all but its secret.
#[must_use]
pub fn public_part(kind: KeyKind, id: KeyId) -> String {
    format!("{}{}", kind.prefix(), id.0.simple())
}

/// The whole key with this id whose secret is these 256 random bits.
#[must_use]
pub fn assemble(kind: KeyKind, id: KeyId, entropy: &[u8; 32]) -> String {
    let mut key = public_part(kind, id);
    key.push('_');
    push_base62(&mut key, *entropy, SECRET);
    let sum = crc32fast::hash(key.as_bytes());
    let mut wide = [0; 32];
    wide[28..].copy_from_slice(&sum.to_be_bytes());
    push_base62(&mut key, wide, CHECKSUM);
    key
}

/// Reads a presented key; `None` when it is not of the form or its checksum is wrong.
#[must_use]
pub fn parse(text: &str) -> Option<KeyForm> {
    let (kind, rest) = match (text.strip_prefix(LIVE), text.strip_prefix(ADMIN)) {
        (Some(rest), _) => (KeyKind::Live, rest),
        (_, Some(rest)) => (KeyKind::Admin, rest),
        _ => return None,
    };
    let (id, secret) = rest.split_once('_')?;
    if id.len() != ID || secret.len() != SECRET + CHECKSUM {
        return None;
    }
    if id.bytes().any(|b| b.is_ascii_uppercase()) || !secret.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let id = Uuid::try_parse(id).ok()?;
    let (signed, sum) = text.split_at(text.len() - CHECKSUM);
    (read_base62(sum)? == u64::from(crc32fast::hash(signed.as_bytes())))
        .then_some(KeyForm { kind, id: KeyId(id) })
}

/// The number in `digits` base62 characters, most significant first.
fn push_base62(out: &mut String, mut number: [u8; 32], digits: usize) {
    let mut reversed = [0u8; SECRET];
    for slot in reversed.iter_mut().take(digits) {
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = remainder << 8 | u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *slot = BASE62[remainder as usize];
    }
    out.extend(reversed[..digits].iter().rev().map(|&b| char::from(b)));
}

fn read_base62(text: &str) -> Option<u64> {
    text.bytes().try_fold(0u64, |sum, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'a'..=b'z' => byte - b'a' + 36,
            _ => return None,
        };
        sum.checked_mul(62)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_any_typo_is_seen() {
        for (kind, entropy) in
            [(KeyKind::Live, [0xff; 32]), (KeyKind::Admin, [0; 32]), (KeyKind::Live, [7; 32])]
        {
            let id = KeyId::new();
            let key = assemble(kind, id, &entropy);
            assert_eq!(parse(&key), Some(KeyForm { kind, id }), "{key}");
            assert!(key.starts_with(&public_part(kind, id)));
            assert_eq!(key.len(), kind.prefix().len() + ID + 1 + SECRET + CHECKSUM);
            for at in 0..key.len() {
                let mut typo = key.clone().into_bytes();
                typo[at] = if typo[at] == b'x' { b'y' } else { b'x' };
                assert_eq!(parse(std::str::from_utf8(&typo).unwrap()), None, "at {at}");
            }
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let key = assemble(KeyKind::Live, KeyId::new(), &[3; 32]);
        for bad in
            ["", "pk_live_", "pk_live__", "sk-proj-abc", &key[1..], &key[..key.len() - 1], &format!("{key}0")]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse(&key.to_uppercase()), None);
        assert_eq!(parse("pk_live_ää"), None);
    }

    #[test]
    fn different_entropy_gives_different_secrets() {
        let id = KeyId::new();
        let mut other = [0; 32];
        other[31] = 1;
        assert_ne!(assemble(KeyKind::Live, id, &[0; 32]), assemble(KeyKind::Live, id, &other));
    }
}
