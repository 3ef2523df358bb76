//! JSON objects member by member: in their order, their values untouched.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap as _,
};
use serde_json::value::{RawValue, to_raw_value};

pub(super) type Raw = Box<RawValue>;

#[derive(Debug, Clone, Default)]
pub(super) struct Object(Vec<(String, Raw)>);

impl Object {
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    pub(super) fn of(raw: &RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    /// The last one of that name, as readers of JSON have it; `null` is absence.
    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        let raw = self.0.iter().rev().find(|(key, _)| key == name).map(|(_, raw)| &**raw);
        raw.filter(|raw| raw.get() != "null")
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, raw)| (name.as_str(), &**raw))
    }

    /// A member of that type.
    pub(super) fn read<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Option<T> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// Without a member.
    pub(super) fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|(key, _)| key != name).cloned().collect())
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| key != name);
    }

    pub(super) fn set(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        // Nothing of ours fails to be JSON.
        if let Ok(raw) = to_raw_value(value) {
            self.set_raw(name, raw);
        }
    }

    /// At the place of the first of that name, or at the end.
    pub(super) fn set_raw(&mut self, name: &str, raw: Raw) {
        let at = self.0.iter().position(|(key, _)| key == name).unwrap_or(self.0.len());
        self.remove(name);
        self.0.insert(at.min(self.0.len()), (name.to_owned(), raw));
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn into_raw(self) -> Raw {
        to_raw_value(&self).unwrap_or_else(|_| null())
    }
}

fn null() -> Raw {
    RawValue::NULL.to_owned()
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, raw) in &self.0 {
            map.serialize_entry(name, raw)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// An array of values untouched; `None` when there are more than so many, of which none are kept.
#[derive(Debug)]
pub(super) struct AtMost<const MOST: usize>(pub(super) Option<Vec<Raw>>);

impl<const MOST: usize> Default for AtMost<MOST> {
    fn default() -> Self {
        Self(Some(Vec::new()))
    }
}

impl<'de, const MOST: usize> Deserialize<'de> for AtMost<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<const MOST: usize>;
        impl<'de, const MOST: usize> Visitor<'de> for Items<MOST> {
            type Value = AtMost<MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AtMost<MOST>, A::Error> {
                let mut items = Vec::new();
                while items.len() < MOST {
                    match seq.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(AtMost(Some(items))),
                    }
                }
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(AtMost(Some(items)));
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(AtMost(None))
            }
        }
        deserializer.deserialize_seq(Items::<MOST>)
    }
}

/// An array of values untouched.
pub(super) fn array(json: &[u8]) -> Vec<Raw> {
    serde_json::from_slice(json).unwrap_or_default()
}

pub(super) fn array_bytes(items: &[Raw]) -> Vec<u8> {
    serde_json::to_vec(items).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_bytes() {
        let mut object = Object::parse(br#"{"b":1.50,"a":{"z": 1,"y":[ ]},"b":2,"c":null}"#).unwrap();
        assert_eq!(object.read::<u64>("b"), Some(2));
        assert!(object.get("c").is_none());
        object.set("b", "x");
        object.set("d", &true);
        object.remove("c");
        assert_eq!(object.to_vec(), br#"{"b":"x","a":{"z": 1,"y":[ ]},"d":true}"#);
        assert!(Object::parse(b"[1]").is_none() && Object::parse(b"{").is_none());
    }
}
