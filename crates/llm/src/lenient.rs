//! Members that nothing depends on: one that can't be read is as good as absent, and costs no more than itself.

use std::borrow::Cow;

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use serde_json::value::RawValue;

/// What it holds, or nothing.
pub(crate) fn read<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    let raw = <&RawValue>::deserialize(from)?;
    Ok(serde_json::from_str(raw.get()).unwrap_or_default())
}

/// As [`read`], of an object: an array would be taken for its members in their order.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(from)?;
    Ok(raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten())
}

/// The items that can be read.
pub(crate) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let items: Vec<&'de RawValue> = read(from)?;
    Ok(items.into_iter().filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect())
}

/// A text, if it is one.
pub(crate) fn text<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<Cow<'a, str>>, D::Error> {
    Ok(string(<&RawValue>::deserialize(from)?))
}

/// Also one that is cut in the middle of a pair of surrogates, which JSON can say and UTF-8 can't.
pub(crate) fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    let whole = serde_json::from_str::<String>(raw.get());
    whole.or_else(|_| serde_json::from_str::<Lossy>(raw.get()).map(|text| text.0)).ok().map(Cow::Owned)
}

struct Lossy(String);

impl<'de> Deserialize<'de> for Lossy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Lossy;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Lossy, E> {
                Ok(Lossy(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_is() {
        let of = |json: &str| {
            let raw: &RawValue = serde_json::from_str(json).unwrap();
            string(raw).map(Cow::into_owned)
        };
        assert_eq!(of(r#""a b""#).as_deref(), Some("a b"));
        assert_eq!(of(r#""\u00e9\n""#).as_deref(), Some("\u{e9}\n"));
        assert_eq!(of(r#""a\ud83d""#).map(|text| text.starts_with("a\u{fffd}")), Some(true));
        for none in ["null", "5", "[\"a\"]"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
