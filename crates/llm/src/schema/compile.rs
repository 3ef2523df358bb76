//! A schema rewritten for its provider.

use std::collections::HashSet;

use serde_json::{Value, value::RawValue};

use super::{Compiled, Flavor, MAX_BYTES, Room, bounds::MAX_DEPTH, flavor::Rules, open_api, tree::Node};

/// So many schemas within one, references followed.
const MAX_NODES: usize = 10_000;
/// Names of two lists that are held against each other.
const MAX_PAIRS: usize = 1_000_000;
/// Keywords of one schema, however many it is made of.
const MAX_KEYWORDS: usize = 1_000;
/// Keywords that only describe: leaving them out means nothing.
const ANNOTATIONS: [&str; 12] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "$schema",
    "$id",
    "$anchor",
    "$comment",
    "deprecated",
    "readOnly",
    "writeOnly",
];
/// Keywords that hold a list of schemas.
const LISTS: [&str; 3] = ["anyOf", "oneOf", "prefixItems"];
const MAPS: [&str; 3] = ["properties", "$defs", "definitions"];
/// Where a root that is no object stands for providers that want one.
pub(super) const WRAPPED: &str = "value";

pub(super) fn compile(schema: &RawValue, flavor: Flavor, room: &mut Room) -> Compiled {
    let unchanged = |supported: bool| Compiled { schema: schema.to_owned(), altered: !supported, supported };
    let rules = flavor.rules();
    if schema.get().len() > MAX_BYTES {
        return unchanged(false);
    }
    let Ok(original) = serde_json::from_str::<Node>(schema.get()) else { return unchanged(false) };
    let mut work = Work {
        rules,
        root: &original,
        nodes: 0,
        depth: 0,
        room,
        within: Vec::new(),
        seen: HashSet::new(),
        altered: false,
        supported: true,
    };
    let mut compiled = work.rewrite(original.clone());
    if rules.object_root {
        compiled = work.object_root(compiled);
    }
    let (altered, supported) = (work.altered, work.supported);
    if compiled == original {
        return unchanged(supported);
    }
    match serde_json::value::to_raw_value(&compiled) {
        Ok(schema) => Compiled { schema, altered, supported },
        Err(_) => unchanged(false),
    }
}

struct Work<'a> {
    rules: &'static Rules,
    root: &'a Node,
    nodes: usize,
    depth: usize,
    room: &'a mut Room,
    /// References being followed.
    within: Vec<String>,
    /// Those that were, to see where they lead.
    seen: HashSet<String>,
    altered: bool,
    supported: bool,
}

impl Work<'_> {
    fn rewrite(&mut self, schema: Node) -> Node {
        self.nodes += 1;
        if self.nodes > MAX_NODES || self.depth > MAX_DEPTH || self.room.is_spent() {
            self.unsupported();
            return Node::Object(Vec::new());
        }
        self.depth += 1;
        let schema = self.within_bounds(schema);
        self.depth -= 1;
        schema
    }

    fn within_bounds(&mut self, mut schema: Node) -> Node {
        if !matches!(schema, Node::Object(_)) {
            // `true` and `false` are schemas, but to nobody here.
            self.unsupported();
            return Node::Object(Vec::new());
        }
        if schema.get("$ref").is_some() {
            return self.reference(schema);
        }
        if !self.knows("allOf")
            && let Some(Node::Array(all)) = schema.take("allOf")
        {
            self.merge(&mut schema, all);
            // What was merged may be a reference, or hold another list.
            return self.rewrite(schema);
        }
        if !self.knows("oneOf")
            && let Some(one) = schema.take("oneOf")
        {
            self.altered = true;
            schema.set("anyOf", one);
        }
        if !self.knows("const")
            && let Some(value) = schema.take("const")
        {
            schema.set("enum", Node::Array(vec![value]));
        }
        self.limits(&mut schema);
        self.children(&mut schema);
        self.object(&mut schema);
        if self.rules.open_api {
            self.altered |= open_api::rewrite(&mut schema);
        }
        schema
    }

    fn knows(&self, keyword: &str) -> bool {
        self.rules.keywords.contains(&keyword)
    }

    fn unsupported(&mut self) {
        self.altered = true;
        self.supported = false;
    }

    /// Keywords beside a reference are refused by most: such a reference is replaced by what it names.
    fn reference(&mut self, mut schema: Node) -> Node {
        let name = schema.get("$ref").and_then(Node::as_str).unwrap_or_default().to_owned();
        let beside = schema.members().len() > 1 && !self.only_definitions(&schema);
        let root = self.root;
        let Some(target) = root.pointer(&name) else {
            // Elsewhere, or nowhere: never fetched.
            self.unsupported();
            return Node::Object(Vec::new());
        };
        if self.within.contains(&name) || self.within.len() > 64 {
            if self.rules.flat {
                self.unsupported();
                return Node::object([("type", Node::text("object"))]);
            }
            return if beside && self.rules.closed {
                Node::object([("$ref", Node::text(name))])
            } else {
                schema
            };
        }
        let inlined = self.rules.inline || beside;
        if inlined || (self.rules.flat && self.seen.insert(name.clone())) {
            let Some(target) = self.copy(target) else { return Node::Object(Vec::new()) };
            self.within.push(name);
            let schema = if inlined {
                schema.take("$ref");
                self.merge(&mut schema, vec![target]);
                self.rewrite(schema)
            } else {
                // Only to see whether it refers to itself; what it says stands with its definition.
                self.rewrite(target);
                schema
            };
            self.within.pop();
            return schema;
        }
        schema
    }

    fn copy(&mut self, node: &Node) -> Option<Node> {
        if self.room.spend(node) {
            return Some(node.clone());
        }
        self.unsupported();
        None
    }

    /// A root that is a reference stands beside what it refers to.
    fn only_definitions(&self, schema: &Node) -> bool {
        !self.rules.object_root
            && schema
                .members()
                .iter()
                .all(|(name, _)| matches!(name.as_str(), "$ref" | "$defs" | "definitions" | "$schema"))
    }

    /// All of several schemas as one. Those that contradict each other are not resolved.
    fn merge(&mut self, schema: &mut Node, all: Vec<Node>) {
        for mut part in all {
            let mut follow = 0;
            while let Some(name) = part.get("$ref").and_then(Node::as_str).map(str::to_owned) {
                let root = self.root;
                let target = root.pointer(&name).filter(|_| follow < 8 && !self.within.contains(&name));
                let Some(target) = target.and_then(|target| self.copy(target)) else {
                    return self.unsupported();
                };
                follow += 1;
                part.take("$ref");
                let beside = std::mem::replace(&mut part, target);
                if part.members().len() + beside.members().len() > MAX_KEYWORDS {
                    return self.unsupported();
                }
                beside.members().iter().for_each(|(keyword, value)| part.set(keyword, value.clone()));
            }
            let Node::Object(members) = part else { return self.unsupported() };
            if schema.members().len() + members.len() > MAX_KEYWORDS {
                return self.unsupported();
            }
            for (keyword, value) in members {
                let old = schema.get(&keyword);
                let pairs = old.map_or(0, |old| old.len() * value.len());
                if pairs > MAX_PAIRS || old.is_some_and(|old| !self.room.spend(old)) {
                    return self.unsupported();
                }
                let merged = match (keyword.as_str(), schema.get(&keyword)) {
                    (_, None) => value,
                    (_, Some(old)) if *old == value => value,
                    ("properties", Some(Node::Object(old))) => {
                        let mut both = old.clone();
                        for (name, property) in value.members() {
                            if old.iter().any(|(known, other)| known == name && other != property) {
                                self.altered = true;
                            } else if !old.iter().any(|(known, _)| known == name) {
                                both.push((name.clone(), property.clone()));
                            }
                        }
                        Node::Object(both)
                    }
                    ("required", Some(Node::Array(old))) => {
                        let more = value.items().iter().filter(|name| !old.contains(name)).cloned();
                        Node::Array(old.iter().cloned().chain(more).collect())
                    }
                    ("title" | "description" | "$defs" | "definitions", Some(old)) => old.clone(),
                    (_, Some(old)) => {
                        self.altered = true;
                        old.clone()
                    }
                };
                schema.set(&keyword, merged);
            }
        }
    }

    /// Leaves out what the provider doesn't know, and says it in the description: models read it.
    fn limits(&mut self, schema: &mut Node) {
        let Node::Object(members) = schema else { return };
        let mut said = Vec::new();
        let (rules, mut lost) = (self.rules, false);
        members.retain(|(keyword, value)| {
            let known = rules.keywords.contains(&keyword.as_str());
            let kept = match keyword.as_str() {
                "format" if known => {
                    rules.formats.is_none_or(|known| value.as_str().is_some_and(|f| known.contains(&f)))
                }
                "minItems" if known && rules.small_min_items => value.as_u64().is_some_and(|n| n <= 1),
                // They stand at the root; whoever needs them has them inlined.
                "$defs" | "definitions" => return known,
                _ => known,
            };
            // Whoever can't say it writes no others anyway.
            let closes = keyword == "additionalProperties" && matches!(value, Node::Leaf(_));
            if !kept && !closes && !ANNOTATIONS.contains(&keyword.as_str()) {
                lost = true;
                if !matches!(value, Node::Object(_)) {
                    said.extend(serde_json::to_string(value).ok().map(|value| format!("{keyword}: {value}")));
                }
            }
            kept
        });
        self.altered |= lost;
        if !said.is_empty() {
            let described = schema.get("description").and_then(Node::as_str).map(|d| format!("{d}\n\n"));
            let text = format!("{}{{{}}}", described.unwrap_or_default(), said.join(", "));
            schema.set("description", Node::text(text));
        }
    }

    fn children(&mut self, schema: &mut Node) {
        let Node::Object(members) = schema else { return };
        for (keyword, value) in members {
            match value {
                Node::Object(children) if MAPS.contains(&keyword.as_str()) => {
                    for (_, child) in children {
                        *child = self.rewrite(std::mem::replace(child, Node::Array(Vec::new())));
                    }
                }
                Node::Array(children) if LISTS.contains(&keyword.as_str()) || keyword == "allOf" => {
                    for child in children {
                        *child = self.rewrite(std::mem::replace(child, Node::Array(Vec::new())));
                    }
                }
                Node::Object(_) if matches!(keyword.as_str(), "items" | "additionalProperties") => {
                    *value = self.rewrite(std::mem::replace(value, Node::Array(Vec::new())));
                }
                // One schema an item, as older drafts have it.
                Node::Array(_) if keyword == "items" => {
                    self.unsupported();
                    *value = Node::Object(Vec::new());
                }
                _ => {}
            }
        }
    }

    /// Closes what is open, and requires what may be absent, where the provider insists on it.
    fn object(&mut self, schema: &mut Node) {
        if !self.rules.closed {
            return;
        }
        let is = |name: &str| match schema.get("type") {
            Some(Node::Array(types)) => types.iter().any(|t| t.as_str() == Some(name)),
            Some(kind) => kind.as_str() == Some(name),
            None => false,
        };
        if is("array") && schema.get("items").is_none() {
            self.unsupported();
        }
        // Anything at all can't be enforced.
        if !["type", "enum", "const", "anyOf", "properties"].iter().any(|k| schema.get(k).is_some()) {
            self.unsupported();
        }
        if !is("object") && schema.get("properties").is_none() {
            return;
        }
        let shut = schema.get("additionalProperties").and_then(Node::as_bool) == Some(false);
        let free = schema.get("properties").is_none_or(|p| p.members().is_empty());
        if !shut {
            // A map of any names can't be said.
            if free || matches!(schema.get("additionalProperties"), Some(Node::Object(_))) {
                self.unsupported();
            }
            schema.set("additionalProperties", Node::Leaf(false.into()));
        }
        if self.rules.all_required {
            self.require_all(schema);
        }
    }

    fn require_all(&mut self, schema: &mut Node) {
        let names = schema.get("required").map(Node::items).unwrap_or_default();
        let required: HashSet<String> = names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect();
        let Some(Node::Object(members)) = schema.get_mut("properties") else { return };
        if members.iter().all(|(name, _)| required.contains(name)) {
            return;
        }
        self.altered = true;
        for (_, property) in members.iter_mut().filter(|(name, _)| !required.contains(name)) {
            nullable(property);
        }
        let names = members.iter().map(|(name, _)| Node::text(name.as_str())).collect();
        schema.set("required", Node::Array(names));
    }

    /// The root as an object's only member, where it is none.
    fn object_root(&mut self, mut schema: Node) -> Node {
        if schema.get("type").and_then(Node::as_str) == Some("object") && schema.get("anyOf").is_none() {
            return schema;
        }
        self.altered = true;
        let definitions = ["$defs", "definitions"].map(|name| (name, schema.take(name)));
        let mut root = Node::object([
            ("type", Node::text("object")),
            ("properties", Node::object([(WRAPPED, schema)])),
            ("required", Node::Array(vec![Node::text(WRAPPED)])),
            ("additionalProperties", Node::Leaf(false.into())),
        ]);
        for (name, definitions) in definitions {
            if let Some(definitions) = definitions {
                root.set(name, definitions);
            }
        }
        root
    }
}

/// The same or null.
fn nullable(schema: &mut Node) {
    let null = || Node::text("null");
    let has_null = |types: &[Node]| types.iter().any(|t| t.as_str() == Some("null"));
    match (schema.get("type").cloned(), schema.get("enum").cloned(), schema.get("const")) {
        (Some(Node::Array(mut types)), None, None) => {
            if !has_null(&types) {
                types.push(null());
                schema.set("type", Node::Array(types));
            }
        }
        (Some(kind), None, None) if kind.as_str() == Some("null") => {}
        (Some(kind), None, None) => schema.set("type", Node::Array(vec![kind, null()])),
        _ => {
            let is_null = |n: &Node| n.get("type").and_then(Node::as_str) == Some("null");
            if let (None, Some(Node::Array(any))) = (schema.get("type"), schema.get("anyOf")) {
                if !any.iter().any(is_null) {
                    let mut any = any.clone();
                    any.push(Node::object([("type", null())]));
                    schema.set("anyOf", Node::Array(any));
                }
                return;
            }
            let description = schema.take("description");
            let inner = std::mem::replace(schema, Node::Leaf(Value::Null));
            *schema = Node::object([("anyOf", Node::Array(vec![inner, Node::object([("type", null())])]))]);
            if let Some(description) = description {
                schema.set("description", description);
            }
        }
    }
}
