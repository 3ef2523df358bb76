//! Whether a contract can take another's place without breaking who uses it: services of the last version, events that
//! are stored, and clients of the REST API.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    ServiceDescriptor,
};
use weir_proto::{api::Field as Rules, http::HttpRule};

use crate::{BuildError, options};

/// One thing that would break somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    pub what: String,
    /// Not even on purpose: what was removed must be reserved, or it will be taken again for something else.
    pub never: bool,
}

/// What `new` breaks of `old`, both encoded `FileDescriptorSet`s. Additions break nothing.
///
/// # Errors
/// When one of them cannot be read.
pub fn breaks(old: &[u8], new: &[u8]) -> Result<Vec<Break>, BuildError> {
    let pool = |bytes| DescriptorPool::decode(bytes).map_err(|e| BuildError(e.to_string()));
    let (old, new) = (pool(old)?, pool(new)?);
    let mut found = Found::default();
    for message in old.all_messages().filter(|m| ours(m.package_name()) && !m.is_map_entry()) {
        match new.get_message_by_name(message.full_name()) {
            Some(now) => found.message(&message, &now)?,
            None => found.add(format!("message {} is gone", message.full_name())),
        }
    }
    for before in old.all_enums().filter(|e| ours(e.package_name())) {
        match new.get_enum_by_name(before.full_name()) {
            Some(now) => found.values(&before, &now),
            None => found.add(format!("enum {} is gone", before.full_name())),
        }
    }
    for service in old.services().filter(|s| ours(s.package_name())) {
        match new.get_service_by_name(service.full_name()) {
            Some(now) => found.service(&service, &now)?,
            None => found.add(format!("service {} is gone", service.full_name())),
        }
    }
    found.routes(&old, &new)?;
    Ok(found.0)
}

fn ours(package: &str) -> bool {
    !package.starts_with("google.protobuf")
}

#[derive(Default)]
struct Found(Vec<Break>);

impl Found {
    fn add(&mut self, what: String) {
        self.0.push(Break { what, never: false });
    }

    fn never(&mut self, what: String) {
        self.0.push(Break { what, never: true });
    }

    fn message(&mut self, old: &MessageDescriptor, new: &MessageDescriptor) -> Result<(), BuildError> {
        let name = old.full_name();
        for field in old.fields() {
            match new.get_field(field.number()) {
                Some(now) => self.field(&field, &now)?,
                None => {
                    self.add(format!("field {} is gone", field.full_name()));
                    let number = new.reserved_ranges().any(|range| range.contains(&field.number()));
                    if !number || !new.reserved_names().any(|n| n == field.name()) {
                        let (number, field) = (field.number(), field.name());
                        self.never(format!("{name} must reserve {number} and \"{field}\", which are gone"));
                    }
                }
            }
        }
        for now in new.fields().filter(|f| old.get_field(f.number()).is_none()) {
            if options::field(&now)?.required {
                self.add(format!("field {} is new and required", now.full_name()));
            }
        }
        for range in old.reserved_ranges() {
            if range.clone().any(|n| !new.reserved_ranges().any(|r| r.contains(&n))) {
                self.never(format!("{name} no longer reserves {} to {}", range.start, range.end - 1));
            }
        }
        let kept: BTreeSet<_> = new.reserved_names().collect();
        for gone in old.reserved_names().filter(|n| !kept.contains(n)) {
            self.never(format!("{name} no longer reserves \"{gone}\""));
        }
        Ok(())
    }

    fn field(&mut self, old: &FieldDescriptor, new: &FieldDescriptor) -> Result<(), BuildError> {
        let name = old.full_name();
        if old.name() != new.name() {
            self.add(format!("field {name} is called {} now", new.name()));
        }
        if kind(old) != kind(new) {
            self.add(format!("field {name} was {}, is {}", kind(old), kind(new)));
        }
        let group = |f: &FieldDescriptor| {
            f.containing_oneof().filter(|o| !o.is_synthetic()).map(|o| o.name().to_owned())
        };
        if group(old) != group(new) {
            self.add(format!("field {name} has moved into or out of a oneof"));
        }
        let (before, now) = (options::field(old)?, options::field(new)?);
        for what in tightened(&before, &now) {
            self.add(format!("field {name} {what}"));
        }
        Ok(())
    }

    fn values(&mut self, old: &EnumDescriptor, new: &EnumDescriptor) {
        let name = old.full_name();
        for value in old.values() {
            match new.get_value(value.number()) {
                Some(now) if now.name() == value.name() => {}
                Some(now) => {
                    let number = value.number();
                    self.add(format!("{name} {number} was {}, is {}", value.name(), now.name()));
                }
                None => {
                    self.add(format!("enum value {} is gone", value.full_name()));
                    let number = new.reserved_ranges().any(|range| range.contains(&value.number()));
                    if !number || !new.reserved_names().any(|n| n == value.name()) {
                        self.never(format!("{name} must reserve {} {}", value.number(), value.name()));
                    }
                }
            }
        }
        let kept: BTreeSet<_> = new.reserved_names().collect();
        for gone in old.reserved_names().filter(|n| !kept.contains(n)) {
            self.never(format!("{name} no longer reserves \"{gone}\""));
        }
        for range in old.reserved_ranges() {
            if !new.reserved_ranges().any(|r| r.contains(range.start()) && r.contains(range.end())) {
                self.never(format!("{name} no longer reserves {} to {}", range.start(), range.end()));
            }
        }
    }

    fn service(&mut self, old: &ServiceDescriptor, new: &ServiceDescriptor) -> Result<(), BuildError> {
        for method in old.methods() {
            let name = method.full_name();
            let Some(now) = new.methods().find(|m| m.name() == method.name()) else {
                self.add(format!("method {name} is gone"));
                continue;
            };
            if method.input().full_name() != now.input().full_name() {
                self.add(format!("method {name} takes {} now", now.input().full_name()));
            }
            if method.output().full_name() != now.output().full_name() {
                self.add(format!("method {name} returns {} now", now.output().full_name()));
            }
            let streams = |m: &MethodDescriptor| (m.is_client_streaming(), m.is_server_streaming());
            if streams(&method) != streams(&now) {
                self.add(format!("method {name} streams otherwise"));
            }
            self.operation(&method, &now)?;
        }
        Ok(())
    }

    fn operation(&mut self, old: &MethodDescriptor, new: &MethodDescriptor) -> Result<(), BuildError> {
        if options::http(old)?.is_none() {
            return Ok(());
        }
        let (before, now) = (options::operation(old)?, options::operation(new)?);
        let name = old.full_name();
        if (before.status, before.location.is_empty()) != (now.status, now.location.is_empty()) {
            self.add(format!("method {name} succeeds with another status or location"));
        }
        if before.caller != now.caller {
            self.add(format!("method {name} lets others in"));
        }
        for scope in now.scopes.iter().filter(|s| !before.scopes.contains(s)) {
            self.add(format!("method {name} needs the scope {scope} now"));
        }
        Ok(())
    }

    fn routes(&mut self, old: &DescriptorPool, new: &DescriptorPool) -> Result<(), BuildError> {
        let now = routes(new)?;
        for (route, before) in routes(old)? {
            match now.get(&route) {
                Some(now) if *now == before => {}
                Some(_) => self.add(format!("{route} is another method, or reads its body otherwise")),
                None => self.add(format!("{route} is gone")),
            }
        }
        Ok(())
    }
}

/// A field's type as the wire and JSON see it.
fn kind(field: &FieldDescriptor) -> String {
    let many = if field.is_map() {
        "a map of "
    } else if field.is_list() {
        "a list of "
    } else {
        ""
    };
    match field.kind() {
        Kind::Message(of) if field.is_map() => {
            format!("{many}{:?} by {:?}", of.map_entry_value_field().kind(), of.map_entry_key_field().kind())
        }
        Kind::Message(of) => format!("{many}{}", of.full_name()),
        Kind::Enum(of) => format!("{many}{}", of.full_name()),
        kind => format!("{many}{kind:?}"),
    }
}

/// What of a field's rules a request that was fine may no longer meet, or an answer no longer keeps.
fn tightened(old: &Rules, new: &Rules) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |broken: bool, what: &str| {
        if broken {
            found.push(what.to_owned());
        }
    };
    let raised = |a: Option<i64>, b: Option<i64>| b.is_some_and(|b| a.is_none_or(|a| b > a));
    let lowered = |a: Option<i64>, b: Option<i64>| b.is_some_and(|b| a.is_none_or(|a| b < a));
    let wide = |n: Option<u32>| n.map(i64::from);
    say(new.required && !old.required, "is required now");
    say(old.json != new.json, "has another name in JSON");
    say(old.format != new.format, "has another format");
    say(old.nullable && !new.nullable, "is no longer null when absent");
    say(raised(old.min, new.min) || lowered(old.max, new.max), "has narrower bounds");
    let shorter = lowered(wide(old.max_len), wide(new.max_len));
    say(shorter || raised(wide(old.min_len), wide(new.min_len)), "has narrower lengths");
    let fewer = lowered(wide(old.max_items), wide(new.max_items));
    say(fewer || raised(wide(old.min_items), wide(new.min_items)), "takes other numbers of elements");
    say(old.pattern != new.pattern && !new.pattern.is_empty(), "has another pattern");
    let gone = old.one_of.iter().any(|w| !new.one_of.contains(w));
    say(!new.one_of.is_empty() && (old.one_of.is_empty() || gone), "takes fewer words");
    found
}

/// Method and path, with the RPC and the body's field behind it.
fn routes(pool: &DescriptorPool) -> Result<BTreeMap<String, (String, String)>, BuildError> {
    let mut found = BTreeMap::new();
    for method in pool.services().flat_map(|s| s.methods().collect::<Vec<_>>()) {
        let Some(rule) = options::http(&method)? else { continue };
        let bindings: Vec<&HttpRule> = std::iter::once(&rule).chain(&rule.additional_bindings).collect();
        for binding in bindings {
            let (verb, path) = options::pattern(binding)?;
            let behind = (method.full_name().to_owned(), binding.body.clone());
            found.insert(format!("{verb} {}", unnamed(path)), behind);
        }
    }
    Ok(found)
}

/// What a variable is called is nobody's business but the proto's.
fn unnamed(path: &str) -> String {
    let segment = |s: &str| match s.strip_prefix('{') {
        Some(open) if open.ends_with("=**}") => "{**}".to_owned(),
        Some(_) => "{}".to_owned(),
        None => s.to_owned(),
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}
