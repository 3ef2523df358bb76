//! State of a vendor that a client carries without reading it.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};

/// Before state that stands in another vendor's field.
pub(crate) const SEAL: &str = "weir1.";

/// Whose state it is. Claude's is the same on every platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vendor {
    Anthropic,
    Google,
    OpenAi,
}

impl Vendor {
    pub const ALL: [Self; 3] = [Self::Anthropic, Self::Google, Self::OpenAi];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Google => "google",
            Self::OpenAi => "openai",
        }
    }
}

/// A thought's signature, a redacted thought, encrypted reasoning: only its vendor understands it, and wants it back
/// byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Opaque {
    pub vendor: Vendor,
    pub data: String,
    /// The vendor's id of the item it belongs to, if it has one.
    pub id: Option<String>,
}

impl Opaque {
    #[must_use]
    pub fn new(vendor: Vendor, data: impl Into<String>) -> Self {
        Self { vendor, data: data.into(), id: None }
    }

    /// As it stands in the field that `native` has for its own state: its own as it is, others' under a seal of
    /// letters, digits, `.`, `-` and `_` that [`Opaque::open`] knows.
    #[must_use]
    pub fn seal(&self, native: Vendor) -> Cow<'_, str> {
        if self.vendor == native {
            return Cow::Borrowed(&self.data);
        }
        let id = BASE64.encode(self.id.as_deref().unwrap_or_default());
        Cow::Owned(format!("{SEAL}{}.{id}.{}", self.vendor.name(), BASE64.encode(&self.data)))
    }

    /// What a client brought back in the field of `native`.
    #[must_use]
    pub fn open(text: &str, native: Vendor) -> Self {
        Self::unseal(text).unwrap_or_else(|| Self::new(native, text))
    }

    fn unseal(text: &str) -> Option<Self> {
        let mut fields = text.strip_prefix(SEAL)?.split('.');
        let (name, id, data) = (fields.next()?, fields.next()?, fields.next()?);
        let decode = |field: &str| String::from_utf8(BASE64.decode(field).ok()?).ok();
        Some(Self {
            vendor: Vendor::ALL.into_iter().find(|v| v.name() == name)?,
            data: decode(data)?,
            id: Some(decode(id)?).filter(|id| !id.is_empty()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anothers_state_comes_back_as_it_was() {
        for vendor in Vendor::ALL {
            for id in [None, Some("rs_1".to_owned())] {
                let state = Opaque { vendor, data: "a+/=.\u{e9}".to_owned(), id };
                for native in Vendor::ALL.into_iter().filter(|n| *n != vendor) {
                    assert_eq!(Opaque::open(&state.seal(native), native), state);
                }
            }
        }
    }

    #[test]
    fn what_bears_no_seal_is_the_vendors_own() {
        for text in ["EqQB", "", "weir1.", "weir1.acme..YQ", "weir1.openai.!.YQ", "weir1.openai.."] {
            let opened = Opaque::open(text, Vendor::Anthropic);
            let sealed_nothing = text == "weir1.openai..";
            assert_eq!(opened.vendor == Vendor::OpenAi, sealed_nothing, "{text}");
            assert!(sealed_nothing || opened.data == text);
        }
        let own = Opaque::new(Vendor::Google, "x");
        assert_eq!(own.seal(Vendor::Google), "x");
    }
}
