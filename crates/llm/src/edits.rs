//! Changes to an object's bytes: what they don't name stays as it was.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Where a value stands in the body it was borrowed from.
pub(crate) fn place(body: &[u8], raw: &RawValue) -> Range<usize> {
    let start = (raw.get().as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
    start..start + raw.get().len()
}

/// A member's value, also where it is `null`, which has a place as well.
pub(crate) fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// An object without these members; the others keep their bytes and their order. `None` for what is no object.
pub(crate) fn without(object: &RawValue, names: &[&str]) -> Option<String> {
    let kept = members(object)?.into_iter().filter(|(name, _)| !names.contains(&name.as_str()));
    let kept: Vec<_> =
        kept.map(|(name, raw)| format!("{}:{}", serde_json::Value::from(name), raw.get())).collect();
    Some(format!("{{{}}}", kept.join(",")))
}

/// An object's members in their order. `None` for what is no object.
pub(crate) fn members(object: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    serde_json::from_str(object.get()).ok().map(|Members(members)| members)
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(All)
    }
}

/// Changes to one object, which don't overlap.
#[derive(Debug)]
pub(crate) struct Edits {
    /// Just after the opening brace.
    members_at: usize,
    /// The object has members, so that another needs a comma after it.
    members: bool,
    edits: Vec<(Range<usize>, String)>,
}

impl Edits {
    pub(crate) fn of(object: &[u8]) -> Self {
        let members_at = memchr::memchr(b'{', object).map_or(0, |at| at + 1);
        let rest = object.get(members_at..).unwrap_or_default().trim_ascii_start();
        Self { members_at, members: !rest.starts_with(b"}"), edits: Vec::new() }
    }

    pub(crate) fn replace(&mut self, at: Range<usize>, text: String) {
        self.edits.push((at, text));
    }

    pub(crate) fn insert(&mut self, at: usize, text: String) {
        self.edits.push((at..at, text));
    }

    /// A member's value: in the place of the old one, else at the beginning.
    pub(crate) fn set(&mut self, name: &str, at: Option<Range<usize>>, value: String) {
        let start = self.members_at;
        self.edits.push(match at {
            Some(at) => (at, value),
            None if self.members => (start..start, format!("\"{name}\":{value},")),
            None => (start..start, format!("\"{name}\":{value}")),
        });
    }

    /// Shares the bytes when nothing changes.
    pub(crate) fn apply_to(self, body: &Bytes) -> Bytes {
        if self.edits.is_empty() { body.clone() } else { self.apply(body) }
    }

    pub(crate) fn apply(mut self, body: &[u8]) -> Bytes {
        self.edits.sort_by_key(|(at, _)| at.start);
        let grown: usize = self.edits.iter().map(|(_, text)| text.len()).sum();
        let mut out = BytesMut::with_capacity(body.len() + grown);
        let mut from = 0;
        for (at, text) in self.edits {
            out.extend_from_slice(body.get(from..at.start).unwrap_or_default());
            out.extend_from_slice(text.as_bytes());
            from = at.end;
        }
        out.extend_from_slice(body.get(from..).unwrap_or_default());
        out.freeze()
    }
}
