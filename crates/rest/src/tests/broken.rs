//! What a proto may not say is refused by name, before anything is served.

use super::*;

fn why(change: (&str, &str)) -> String {
    let text = shop_proto();
    assert_eq!(text.matches(change.0).count(), 1, "{}", change.0);
    built(&text.replace(change.0, change.1)).err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn what_cannot_be_served_is_named() {
    for (from, to, reason) in [
        (
            "get: \"/v1/shops/{shop}/things\"",
            "get: \"/v1/shops/{shop}/sizes/{size}\"",
            "ListThings: there is no field size",
        ),
        ("get: \"/v1/shops/{shop}/things\"", "get: \"/v1/shops/{colours}\"", "no single value"),
        ("get: \"/v1/shops/{shop}/things\"", "get: \"/shops\"", "must begin with /v1/"),
        ("get: \"/v1/shops/{shop}/things\"", "get: \"/v1/x\" body: \"*\"", "GET takes no body"),
        ("get: \"/v1/shops/{shop}/things\"", "post: \"/v1/shops/{shop}/things\"", "is there already"),
        ("get: \"/v1/shops/{shop}/things\"", "get: \"/v1/shops/{shop}/things/{after=**}\"", "onflict"),
        ("get: \"/v1/shops/{shop}/things\"", "custom: {kind: \"X\" path: \"/v1/x\"}", "must be get, put"),
        ("body: \"thing\"", "body: \"id\"", "no single message"),
        ("body: \"thing\"", "", "thing is an object"),
        ("returns (ListThingsResponse)", "returns (stream ListThingsResponse)", "streams"),
        ("{status: 201 location", "{status: 404 location", "status"),
        (
            "things/{id}\"};\n  }\n  rpc UpdateThing",
            "things/{nobody}\"};\n  }\n  rpc UpdateThing",
            "no field nobody",
        ),
        ("{status: 201 location", "{scopes: \"all\" location", "no scope all"),
        ("{status: 201 location", "{errors: \"oops\" location", "no error code oops"),
        ("  bool has_more = 2;\n", "", "a page has"),
        (
            "bool new = 15;",
            "bool new = 15 [(weir.api.v1.field).json = \"name\"];",
            "two fields are called name",
        ),
        ("\"^[A-Z]{2}$\"", "\"^[A-Z\"", "CreateThingRequest.code"),
        ("bool new = 15;", "bool new = 15 [(weir.api.v1.field).format = FORMAT_USD];", "does not fit"),
        ("map<string, uint32> counts", "map<uint32, uint32> counts", "text keys"),
    ] {
        let reason_given = why((from, to));
        assert!(reason_given.contains(reason), "{to}: {reason_given:?}");
    }
}
