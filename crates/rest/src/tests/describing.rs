//! OpenAPI of the contract that has everything.

use serde_json::{Value, json};

use super::*;
use crate::openapi;

fn document() -> Value {
    openapi::document(
        &shop(),
        json!({ "info": {}, "tags": [{ "name": "Other" }], "paths": { "/live": { "get": {} } } }),
    )
}

#[test]
fn operations_are_described_by_their_protos() {
    let document = document();
    let endpoints: Vec<_> = openapi::endpoints(&document).map(|(name, _)| name).collect();
    assert_eq!(
        endpoints,
        [
            "GET /live",
            "GET /v1/shops/{shop}/things",
            "POST /v1/shops/{shop}/things",
            "PATCH /v1/shops/{shop}/things/{id}",
            "POST /v1/shops/{shop}/things/{id}/sell",
        ]
    );
    let create = &document["paths"]["/v1/shops/{shop}/things"]["post"];
    assert_eq!(
        (&create["summary"], &create["description"]),
        (&json!("Put a thing up for sale"), &json!("It can be bought at once."))
    );
    assert_eq!(create["operationId"], "Shop.CreateThing");
    assert!(create["responses"]["201"]["headers"]["location"].is_object());
    assert_eq!(
        create["parameters"][0],
        json!({ "name": "shop", "in": "path", "required": true, "schema": { "type": "string" } })
    );
    let sell = &document["paths"]["/v1/shops/{shop}/things/{id}/sell"]["post"];
    assert_eq!((&sell["requestBody"], &sell["deprecated"]), (&Value::Null, &json!(true)));
    let patch = &document["paths"]["/v1/shops/{shop}/things/{id}"]["patch"];
    let schema = &patch["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["$ref"], "#/components/schemas/CreateThingRequest");
    assert_eq!(patch["parameters"][2]["name"], "dry_run");
    assert_eq!(document["tags"][1], json!({ "name": "Shop", "description": "Where things are sold." }));
}

#[test]
fn what_is_read_and_what_is_written_have_schemas_of_their_own() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let read =
        &document["paths"]["/v1/shops/{shop}/things"]["post"]["requestBody"]["content"]["application/json"];
    let properties = &read["schema"]["properties"];
    // The path has it.
    assert_eq!(properties["shop"], Value::Null);
    assert_eq!(
        (&read["schema"]["required"], &read["schema"]["additionalProperties"]),
        (&json!(["name"]), &json!(false))
    );
    assert_eq!(properties["name"]["type"], "string");
    assert_eq!(
        (&properties["name"]["maxLength"], properties["name"]["pattern"].is_string()),
        (&json!(5), true)
    );
    assert_eq!(
        properties["colour"],
        json!({ "type": ["string", "null"], "enum": ["red", "dark_blue", null] })
    );
    assert_eq!(properties["stock"]["maximum"], 10);
    assert_eq!(
        (&properties["tags"]["minItems"], &properties["tags"]["items"]["enum"]),
        (&json!(1), &json!(["a", "b"]))
    );
    assert_eq!(properties["counts"]["additionalProperties"]["minimum"], 0);
    assert_eq!(properties["owner"]["format"], "uuid");
    assert_eq!(properties["by_car"]["deprecated"], true);
    assert_eq!(properties["nested"]["anyOf"][0]["$ref"], "#/components/schemas/NestedInput");
    assert_eq!(
        schemas["NestedInput"]["properties"]["more"]["items"]["$ref"],
        "#/components/schemas/NestedInput"
    );

    let thing = &schemas["Thing"];
    assert_eq!(thing["required"].as_array().unwrap().len(), thing["properties"].as_object().unwrap().len());
    assert_eq!(thing["additionalProperties"], Value::Null);
    assert_eq!(thing["properties"]["made_at"], json!({ "type": "string", "format": "date-time" }));
    assert_eq!(thing["properties"]["owner"]["type"], json!(["string", "null"]));
    assert_eq!(thing["properties"]["extra"]["type"], json!(["object", "null"]));
    assert_eq!(thing["properties"]["size"]["$ref"], "#/components/schemas/Size");
    assert_eq!(thing["properties"]["picture"]["contentEncoding"], "base64");
    let codes = schemas["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
    assert_eq!(codes.len(), weir_error::Code::ALL.len());
    assert!(document["components"]["responses"]["Problem404"].is_object());
}
