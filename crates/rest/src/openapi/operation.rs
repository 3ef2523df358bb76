//! One method on one path.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use weir_error::Code;
use weir_proto::api::Caller;

use super::{
    object,
    schema::{Schemas, Side},
};
use crate::{Api, Binding, Operation, api::Body, shape::Field};

pub(super) fn describe(api: &Api, binding: &Binding, schemas: &mut Schemas<'_>, id: String) -> Value {
    let operation = api.operation(binding);
    let scopes = &operation.rules.scopes;
    object([
        ("operationId", Some(id.into())),
        ("tags", Some(json!([operation.method.parent_service().name()]))),
        ("summary", Some(operation.summary.clone().into())),
        ("deprecated", deprecated(operation).then(|| true.into())),
        ("description", Some(description(operation).into())),
        ("parameters", Some(parameters(api, binding, schemas))),
        ("requestBody", body(api, binding, schemas)),
        ("responses", Some(responses(api, binding, schemas))),
        ("security", Some(json!([{ "key": scopes }, { "key_header": scopes }]))),
        ("x-weir-caller", Some(caller(operation).into())),
    ])
}

fn deprecated(operation: &Operation) -> bool {
    let of = |options: &prost_types::MethodOptions| options.deprecated();
    operation.method.method_descriptor_proto().options.as_ref().is_some_and(of)
}

/// Whose credentials are let through, for programs.
fn caller(operation: &Operation) -> &'static str {
    match operation.rules.caller() {
        Caller::Unspecified => "tenant",
        Caller::Any => "any",
        Caller::Platform => "platform",
    }
}

fn description(operation: &Operation) -> String {
    let scopes: Vec<_> = operation.rules.scopes.iter().map(|s| format!("`{s}`")).collect();
    let who = match (operation.rules.caller(), scopes.is_empty()) {
        (Caller::Platform, _) => "Platform keys only.".to_owned(),
        (_, false) => format!("Needs the scope {}.", scopes.join(" and ")),
        (_, true) => String::new(),
    };
    // A comment of one sentence says no more than the summary.
    let same = operation.description.trim_end_matches('.') == operation.summary;
    let text = if same { "" } else { &operation.description };
    [text, &who].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn parameters(api: &Api, binding: &Binding, schemas: &Schemas<'_>) -> Value {
    let mut parameters = Vec::new();
    let shape = api.input(binding);
    for name in &binding.template.fields {
        parameters.extend(shape.field(name).map(|field| parameter(field, "path", schemas)));
    }
    let open = shape.fields.iter().filter(|f| binding.in_query(f));
    parameters.extend(open.map(|field| parameter(field, "query", schemas)));
    if api.operation(binding).rules.caller() == Caller::Unspecified {
        parameters.push(json!({ "$ref": "#/components/parameters/Tenant" }));
    }
    parameters.into()
}

fn parameter(field: &Field, place: &str, schemas: &Schemas<'_>) -> Value {
    let required = place == "path" || field.rules.required;
    object([
        ("name", Some(field.name.clone().into())),
        ("in", Some(place.into())),
        ("required", required.then(|| true.into())),
        ("deprecated", field.deprecated().then(|| true.into())),
        ("description", (!field.doc.is_empty()).then(|| field.doc.clone().into())),
        ("schema", Some(schemas.parameter(field))),
        ("example", example(field)),
    ])
}

fn example(field: &Field) -> Option<Value> {
    serde_json::from_str(&field.rules.example).ok()
}

fn body(api: &Api, binding: &Binding, schemas: &mut Schemas<'_>) -> Option<Value> {
    let shape = api.input(binding);
    let (schema, fields) = match &binding.body {
        Body::None => return None,
        Body::Field(name) => match shape.field(name)?.kind {
            crate::shape::Kind::Message(inner) => {
                (schemas.reference(inner, Side::Input), &api.shapes.get(inner).fields)
            }
            _ => return None,
        },
        Body::Whole if binding.template.fields.is_empty() => {
            (schemas.reference(api.operation(binding).input, Side::Input), &shape.fields)
        }
        // Without what the path has taken, it is another object.
        Body::Whole => (schemas.input_without(shape, &binding.template.fields), &shape.fields),
    };
    let given = fields.iter().filter(|f| !binding.template.fields.contains(&f.name));
    let example: Map<_, _> = given.filter_map(|f| Some((f.name.clone(), example(f)?))).collect();
    let example = (!example.is_empty()).then_some(Value::Object(example));
    let media = object([("schema", Some(schema)), ("example", example)]);
    Some(json!({ "required": true, "content": { "application/json": media } }))
}

fn responses(api: &Api, binding: &Binding, schemas: &mut Schemas<'_>) -> Value {
    let operation = api.operation(binding);
    let created = (!operation.rules.location.is_empty()).then(|| {
        ("location", json!({ "description": "Where it is found.", "schema": { "type": "string" } }))
    });
    let mut headers = Map::new();
    headers.insert("x-request-id".to_owned(), json!({ "$ref": "#/components/headers/RequestId" }));
    headers.extend(created.map(|(name, header)| (name.to_owned(), header)));
    let mut responses = Map::new();
    let success = json!({
        "description": operation.status.canonical_reason().unwrap_or("Success"),
        "headers": headers,
        "content": { "application/json": { "schema": schemas.reference(operation.output, Side::Output) } },
    });
    responses.insert(operation.status.as_u16().to_string(), success);
    for status in statuses(operation, binding) {
        let response = json!({ "$ref": format!("#/components/responses/Problem{status}") });
        responses.insert(status.to_string(), response);
    }
    responses.insert("default".to_owned(), json!({ "$ref": "#/components/responses/Problem" }));
    responses.into()
}

/// What every operation may answer, and what this one says of itself.
fn statuses(operation: &Operation, binding: &Binding) -> BTreeSet<u16> {
    let mut statuses = BTreeSet::from([400, 401, 403, 429, 503]);
    if binding.takes_body() {
        statuses.extend([408, 413, 415]);
    }
    if !binding.template.fields.is_empty() {
        statuses.insert(404);
    }
    statuses.extend(operation.rules.errors.iter().filter_map(|c| Some(Code::parse(c)?.http().as_u16())));
    statuses
}
