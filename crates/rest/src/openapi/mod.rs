//! OpenAPI 3.1 of an [`Api`], laid over what was written by hand for endpoints that are no plain RPCs.

mod operation;
mod problem;
mod schema;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use self::schema::Schemas;
use crate::{Api, Binding, Route, options};

/// The whole document: `by_hand` with `info`, `paths`, `components` and so on of its own, and all of the API.
#[must_use]
pub fn document(api: &Api, by_hand: Value) -> Value {
    let mut document = by_hand;
    document["openapi"] = json!("3.1.0");
    let mut schemas = Schemas::new(&api.shapes);
    let mut named = BTreeMap::new();
    for route in &api.routes {
        for binding in &route.bindings {
            let operation = operation::describe(api, binding, &mut schemas, id(api, binding, &mut named));
            let verb = binding.verb.as_str().to_ascii_lowercase();
            document["paths"][path(route)][verb] = operation;
        }
    }
    for (name, schema) in schemas.finish() {
        document["components"]["schemas"][name] = schema;
    }
    document["components"]["schemas"]["Problem"] = problem::schema();
    for (name, response) in problem::responses() {
        document["components"]["responses"][name] = response;
    }
    add_tags(api, &mut document);
    document
}

/// Every method and path of a document, `GET /v1/tenants/{id}`.
pub fn endpoints(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().into_iter().flatten();
        let methods = methods.filter(|(verb, _)| *verb != "parameters");
        methods.map(move |(verb, operation)| (format!("{} {path}", verb.to_ascii_uppercase()), operation))
    })
}

/// OpenAPI's paths have no form for the rest of a path; a slash in a value is escaped there.
fn path(route: &Route) -> String {
    route.pattern.replace("{*", "{")
}

/// An RPC may be bound twice; ids may not.
fn id(api: &Api, binding: &Binding, named: &mut BTreeMap<String, u32>) -> String {
    let method = &api.operation(binding).method;
    let name = format!("{}.{}", method.parent_service().name(), method.name());
    let count = named.entry(name.clone()).or_default();
    *count += 1;
    if *count == 1 { name } else { format!("{name}.{count}") }
}

fn add_tags(api: &Api, document: &mut Value) {
    let mut seen = BTreeSet::new();
    let mut tags = document["tags"].as_array().cloned().unwrap_or_default();
    for operation in &api.operations {
        let service = operation.method.parent_service();
        if seen.insert(service.full_name().to_owned()) {
            let file = service.parent_file();
            let comment = options::comment(file.file_descriptor_proto(), service.path());
            tags.push(json!({ "name": service.name(), "description": options::flowing(&comment) }));
        }
    }
    document["tags"] = tags.into();
}

/// An object of what is there.
fn object<const N: usize>(entries: [(&str, Option<Value>); N]) -> Value {
    let given = entries.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}
