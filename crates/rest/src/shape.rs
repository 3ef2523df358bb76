//! Messages as JSON shows them: made once from the descriptors, used for reading, writing and describing alike.

use std::collections::HashMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind as ProtoKind, MessageDescriptor};
use regex::Regex;
use weir_proto::api::{Field as Rules, Format};

use crate::{BuildError, options};

/// A list that says nothing else may have so many elements.
pub(crate) const MAX_ITEMS: u32 = 1_000;

/// A message's place among the [`Shapes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ShapeId(usize);

#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) message: MessageDescriptor,
    pub(crate) doc: String,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) field: FieldDescriptor,
    /// Its name in JSON and queries.
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) many: Many,
    pub(crate) kind: Kind,
    pub(crate) rules: Rules,
    pub(crate) pattern: Option<Regex>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Many {
    One,
    List,
    /// By text keys.
    Map,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Bool,
    I32,
    I64,
    U32,
    U64,
    F32,
    F64,
    Text,
    Bytes,
    Enum(EnumDescriptor),
    Message(ShapeId),
    /// `google.protobuf.Timestamp`: RFC 3339.
    Timestamp,
    /// `google.protobuf.Duration`: `"1.5s"`.
    Duration,
    /// int64 as in `FORMAT_TIME`.
    TimeMs,
    /// int64 as in `FORMAT_USD`.
    Usd,
    /// Text as in `FORMAT_OBJECT`.
    Object,
}

impl Field {
    /// Whether `null` is a value of it in JSON: what it is when absent.
    pub(crate) fn nullable(&self) -> bool {
        if self.many != Many::One || self.rules.required {
            return false;
        }
        self.rules.nullable
            || self.field.supports_presence()
            || matches!(self.kind, Kind::Enum(_) | Kind::Message(_) | Kind::Timestamp | Kind::Duration)
    }

    pub(crate) fn deprecated(&self) -> bool {
        self.field.field_descriptor_proto().options.as_ref().is_some_and(|options| options.deprecated())
    }

    pub(crate) fn format(&self) -> Format {
        self.rules.format()
    }

    fn new(field: FieldDescriptor, shapes: &mut Shapes) -> Result<Self, BuildError> {
        let rules = options::field(&field)?;
        let (many, value) = if field.is_map() {
            let ProtoKind::Message(entry) = field.kind() else {
                return Err(BuildError(format!("{} is a map of nothing", field.full_name())));
            };
            if entry.map_entry_key_field().kind() != ProtoKind::String {
                return Err(BuildError(format!("{}: JSON has text keys only", field.full_name())));
            }
            (Many::Map, entry.map_entry_value_field().kind())
        } else {
            (if field.is_list() { Many::List } else { Many::One }, field.kind())
        };
        let kind = Kind::of(&value, rules.format(), shapes)
            .map_err(|e| BuildError(format!("{}: {}", field.full_name(), e.0)))?;
        let pattern = (!rules.pattern.is_empty())
            .then(|| Regex::new(&rules.pattern))
            .transpose()
            .map_err(|e| BuildError(format!("{}: {e}", field.full_name())))?;
        let name = if rules.json.is_empty() { field.name().to_owned() } else { rules.json.clone() };
        let doc = options::comment(field.parent_file().file_descriptor_proto(), field.path());
        Ok(Self { name, doc: options::flowing(&doc), many, kind, rules, pattern, field })
    }
}

impl Kind {
    fn of(kind: &ProtoKind, format: Format, shapes: &mut Shapes) -> Result<Self, BuildError> {
        Ok(match (kind, format) {
            (ProtoKind::Int64 | ProtoKind::Sint64 | ProtoKind::Sfixed64, Format::Time) => Self::TimeMs,
            (ProtoKind::Int64 | ProtoKind::Sint64 | ProtoKind::Sfixed64, Format::Usd) => Self::Usd,
            (ProtoKind::String, Format::Object) => Self::Object,
            (ProtoKind::String, Format::Uuid | Format::Line | Format::Unspecified) => Self::Text,
            (_, Format::Unspecified) => match kind {
                ProtoKind::Bool => Self::Bool,
                ProtoKind::Int32 | ProtoKind::Sint32 | ProtoKind::Sfixed32 => Self::I32,
                ProtoKind::Int64 | ProtoKind::Sint64 | ProtoKind::Sfixed64 => Self::I64,
                ProtoKind::Uint32 | ProtoKind::Fixed32 => Self::U32,
                ProtoKind::Uint64 | ProtoKind::Fixed64 => Self::U64,
                ProtoKind::Float => Self::F32,
                ProtoKind::Double => Self::F64,
                ProtoKind::String => Self::Text,
                ProtoKind::Bytes => Self::Bytes,
                ProtoKind::Enum(e) => Self::Enum(e.clone()),
                ProtoKind::Message(m) => match m.full_name() {
                    "google.protobuf.Timestamp" => Self::Timestamp,
                    "google.protobuf.Duration" => Self::Duration,
                    name if name.starts_with("google.protobuf.") && name != "google.protobuf.Empty" => {
                        return Err(BuildError(format!("{name} has no form in JSON here")));
                    }
                    _ => Self::Message(shapes.add(m)?),
                },
            },
            (_, format) => return Err(BuildError(format!("{} does not fit its type", format.as_str_name()))),
        })
    }
}

/// An enum's values in JSON: `OUTCOME_CUT` of `Outcome` is `cut`. The zero value stands for absent.
pub(crate) fn words(of: &EnumDescriptor) -> impl Iterator<Item = (String, i32)> + use<> {
    let prefix = screaming(of.name());
    let values: Vec<_> = of.values().map(|v| (v.name().to_owned(), v.number())).collect();
    values.into_iter().filter(|(_, number)| *number != 0).map(move |(name, number)| {
        let bare = name.strip_prefix(&prefix).and_then(|n| n.strip_prefix('_')).unwrap_or(&name);
        (bare.to_ascii_lowercase(), number)
    })
}

fn screaming(camel: &str) -> String {
    let mut out = String::new();
    for (at, c) in camel.chars().enumerate() {
        if c.is_ascii_uppercase() && at > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

/// Every message that public RPCs reach.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    shapes: Vec<Shape>,
    by_name: HashMap<String, ShapeId>,
}

impl Shapes {
    /// Adds a message and what it is made of, once.
    pub(crate) fn add(&mut self, message: &MessageDescriptor) -> Result<ShapeId, BuildError> {
        if let Some(known) = self.by_name.get(message.full_name()) {
            return Ok(*known);
        }
        let id = ShapeId(self.shapes.len());
        self.by_name.insert(message.full_name().to_owned(), id);
        let doc = options::comment(message.parent_file().file_descriptor_proto(), message.path());
        let doc = options::flowing(&doc);
        self.shapes.push(Shape { message: message.clone(), doc, fields: Vec::new() });
        let fields = message.fields().map(|field| Field::new(field, self)).collect::<Result<_, _>>()?;
        if let Some(shape) = self.shapes.get_mut(id.0) {
            shape.fields = fields;
        }
        Ok(id)
    }

    /// A message's name, with its service's before it where two services have one of that name.
    pub(crate) fn name(&self, shape: &Shape) -> String {
        let of = &shape.message;
        let twin =
            |other: &Shape| other.message.name() == of.name() && other.message.full_name() != of.full_name();
        if !self.shapes.iter().any(twin) {
            return of.name().to_owned();
        }
        let service = of.package_name().split('.').nth(1).unwrap_or_default();
        let (first, rest) = service.split_at(service.len().min(1));
        format!("{}{rest}{}", first.to_ascii_uppercase(), of.name())
    }

    pub(crate) fn get(&self, id: ShapeId) -> &Shape {
        // Ids come from `add` alone, and shapes are never removed.
        &self.shapes[id.0]
    }
}

impl Shape {
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }
}
