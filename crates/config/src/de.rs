//! Serde over the merged tree: text from the environment is read as its target type, and every error carries the
//! key and the origin of its value, without the value.

use std::{borrow::Cow, collections::btree_map, fmt, slice};

use serde::{
    Deserialize,
    de::{
        self, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess, SeqAccess,
        Unexpected, VariantAccess, Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

use crate::tree::{Node, Table, Value, parse_inline};

#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) message: String,
    /// Key and origin, once known.
    pub(crate) at: Option<(String, String)>,
}

impl Error {
    fn new(message: String) -> Self {
        Self { message, at: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(format!("is wrong: {message}"))
    }

    // The provided methods would print the value.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("has the wrong type: expected {expected}, found {}", kind(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("has a value out of range: expected {expected}, found another {}", kind(found)))
    }

    fn invalid_length(len: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("has {len} items, expected {expected}"))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("has a value that is not known: expected one of {}", known.join(", ")))
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("is not a known key here: expected one of {}", known.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("lacks the key `{field}`"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("has `{field}` twice"))
    }
}

fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "whole number",
        Unexpected::Float(_) => "number",
        Unexpected::Str(_) | Unexpected::Char(_) => "text",
        Unexpected::Seq => "array",
        Unexpected::Map => "table",
        _ => "value",
    }
}

/// Reads the tree from a node on; `key` is the node's own.
pub(crate) fn read<T: de::DeserializeOwned>(node: &Node, key: &str) -> Result<T, Error> {
    T::deserialize(Cursor { node, key: Cow::Borrowed(key) })
}

/// A value and its dotted key.
struct Cursor<'a> {
    node: &'a Node,
    key: Cow<'a, str>,
}

impl<'a> Cursor<'a> {
    fn child<'b>(&self, part: &dyn fmt::Display, node: &'b Node) -> Cursor<'b> {
        let key = if self.key.is_empty() { part.to_string() } else { format!("{}.{part}", self.key) };
        Cursor { node, key: Cow::Owned(key) }
    }

    /// Gives an error its place, unless one further down has.
    fn locate<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| self.place(error))
    }

    fn place(&self, mut error: Error) -> Error {
        error.at.get_or_insert_with(|| (self.key.to_string(), self.node.origin.to_string()));
        error
    }

    fn wrong_type<T>(&self, expected: &str) -> Result<T, Error> {
        let found = self.node.kind();
        self.locate(Err(Error::new(format!("has the wrong type: expected {expected}, found {found}"))))
    }

    fn visit_items<'de, V: Visitor<'de>>(&self, items: &[Node], visitor: V) -> Result<V::Value, Error> {
        let mut access = Items { parent: self, items: items.iter().enumerate() };
        let value = self.locate(visitor.visit_seq(&mut access))?;
        match access.items.next() {
            None => Ok(value),
            Some(_) => self.locate(Err(Error::new(format!("has too many items: {}", items.len())))),
        }
    }

    fn visit_table<'de, V: Visitor<'de>>(&self, table: &Table, visitor: V) -> Result<V::Value, Error> {
        self.locate(visitor.visit_map(Entries { parent: self, entries: table.iter(), value: None }))
    }

    /// A number from a variable's text.
    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Raw(text) = &self.node.value else { return self.deserialize_any(visitor) };
        let text = text.trim().replace('_', "");
        if let Ok(n) = text.parse::<u64>() {
            return self.locate(visitor.visit_u64(n));
        }
        match text.parse::<i64>() {
            Ok(n) => self.locate(visitor.visit_i64(n)),
            Err(_) => self.wrong_type("a whole number"),
        }
    }

    fn float<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Raw(text) => match text.trim().parse::<f64>() {
                Ok(n) => self.locate(visitor.visit_f64(n)),
                Err(_) => self.wrong_type("a number"),
            },
            _ => self.deserialize_any(visitor),
        }
    }
}

macro_rules! forward {
    ($($method:ident => $to:ident,)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> { self.$to(visitor) })+
    };
}

impl<'de> Deserializer<'de> for Cursor<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match &self.node.value {
            Value::Table(table) => return self.visit_table(table, visitor),
            Value::Array(items) => return self.visit_items(items, visitor),
            Value::Text(text) | Value::Raw(text) => visitor.visit_str(text),
            Value::Integer(n) => visitor.visit_i64(*n),
            Value::Float(n) => visitor.visit_f64(*n),
            Value::Bool(b) => visitor.visit_bool(*b),
        };
        self.locate(result)
    }

    forward! {
        deserialize_i8 => number, deserialize_i16 => number, deserialize_i32 => number, deserialize_i64 => number,
        deserialize_u8 => number, deserialize_u16 => number, deserialize_u32 => number, deserialize_u64 => number,
        deserialize_i128 => number, deserialize_u128 => number,
        deserialize_f32 => float, deserialize_f64 => float,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Raw(text) = &self.node.value else { return self.deserialize_any(visitor) };
        let value = match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => return self.wrong_type("true or false"),
        };
        self.locate(visitor.visit_bool(value))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let at = Cursor { node: self.node, key: self.key.clone() };
        at.locate(visitor.visit_newtype_struct(self))
    }

    /// In a variable: `a,b`, or a TOML (and so a JSON) array. In a table: keys that are indices.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Array(items) => self.visit_items(items, visitor),
            Value::Raw(text) if text.trim_start().starts_with('[') => {
                match parse_inline(text.trim(), &self.node.origin).map(|n| n.value) {
                    Some(Value::Array(items)) => self.visit_items(&items, visitor),
                    _ => self.wrong_type("a list such as a,b or [\"a\", \"b\"]"),
                }
            }
            Value::Raw(text) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                let items: Vec<_> = parts.map(|part| Node::raw(part, &self.node.origin)).collect();
                self.visit_items(&items, visitor)
            }
            _ => self.wrong_type("an array"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    /// In a variable: a TOML inline table.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Table(table) => self.visit_table(table, visitor),
            Value::Raw(text) => match parse_inline(text.trim(), &self.node.origin).map(|n| n.value) {
                Some(Value::Table(table)) => self.visit_table(&table, visitor),
                _ => self.wrong_type("a table"),
            },
            _ => self.wrong_type("a table"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let result = match &self.node.value {
            Value::Text(text) | Value::Raw(text) => {
                let variant: StrDeserializer<'_, Error> = text.trim().into_deserializer();
                visitor.visit_enum(variant)
            }
            Value::Table(table) if table.len() == 1 => match table.iter().next() {
                Some((name, node)) => visitor.visit_enum(Variant { name, content: self.child(name, node) }),
                None => return self.wrong_type("a variant"),
            },
            _ => return self.wrong_type("text"),
        };
        self.locate(result)
    }

    /// A key nothing reads is a mistake, whether or not the struct says so.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        self.locate(Err(Error::new("is not a known key".to_owned())))
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct identifier
    }
}

struct Items<'a, 'p> {
    parent: &'p Cursor<'p>,
    items: std::iter::Enumerate<slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((i, node)) = self.items.next() else { return Ok(None) };
        let at = self.parent.child(&i, node);
        seed.deserialize(self.parent.child(&i, node)).map(Some).map_err(|e| at.place(e))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'a, 'p> {
    parent: &'p Cursor<'p>,
    entries: btree_map::Iter<'a, String, Node>,
    value: Option<(&'a str, &'a Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, node)) = self.entries.next() else { return Ok(None) };
        self.value = Some((name, node));
        let key: StrDeserializer<'_, Error> = name.as_str().into_deserializer();
        // An unknown key is the fault of the one that has it, not of the table around.
        seed.deserialize(key).map(Some).map_err(|e| self.parent.child(name, node).place(e))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((name, node)) = self.value.take() else {
            return Err(Error::new("is read out of order".to_owned()));
        };
        // Checks that run after the value was read (a range, a parser) fail outside of the cursor.
        seed.deserialize(self.parent.child(&name, node)).map_err(|e| self.parent.child(&name, node).place(e))
    }
}

struct Variant<'a> {
    name: &'a str,
    content: Cursor<'a>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = Cursor<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Cursor<'a>), Error> {
        let name: StrDeserializer<'_, Error> = self.name.into_deserializer();
        match seed.deserialize(name) {
            Ok(variant) => Ok((variant, self.content)),
            Err(error) => Err(self.content.place(error)),
        }
    }
}

impl<'de> VariantAccess<'de> for Cursor<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        <()>::deserialize(self)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }
}
