//! The committed contract, and every rule that guards it.

use super::*;
use crate::compat::breaks;

/// What a change of the test contract breaks: the words of it.
fn broken(change: &[(&str, &str)]) -> Vec<(String, bool)> {
    let (mut old, mut new) = (shop_proto(), shop_proto());
    for (from, to) in change {
        // A leading `<` changes the contract of before.
        let (text, from) = match from.strip_prefix('<') {
            Some(from) => (&mut old, from),
            None => (&mut new, *from),
        };
        assert_eq!(text.matches(from).count(), 1, "{from}");
        *text = text.replace(from, to);
    }
    let (old, new) = (descriptors(&old).unwrap(), descriptors(&new).unwrap());
    breaks(&old, &new).unwrap().into_iter().map(|b| (b.what, b.never)).collect()
}

#[test]
fn the_committed_contract_is_the_one_of_the_protos() {
    let committed = std::fs::read(folder("../../proto/descriptor.binpb")).unwrap();
    let found = breaks(&committed, weir_proto::CONTRACT).unwrap();
    assert!(found.is_empty(), "this breaks others; docs/adding-an-rpc.md says what to do: {found:#?}");
    assert!(
        committed == weir_proto::CONTRACT,
        "/proto has grown: run `make proto` and commit proto/descriptor.binpb"
    );
}

#[test]
fn a_planted_break_is_found() {
    for (change, expected) in [
        (&[("  double weight = 12;\n", "")][..], "field weir.shop.v1.Thing.weight is gone"),
        (&[("double weight = 12;", "double weight = 20;")], "weight is gone"),
        (&[("double weight = 12;", "float weight = 12;")], "was double, is float"),
        (&[("double weight = 12;", "repeated double weight = 12;")], "is a list of double"),
        (&[("double weight = 12;", "double mass = 12;")], "weight is called mass now"),
        (
            &[(
                "Colour colour = 3;\n  int64 price_nano_usd = 4 [(weir.api.v1.field) = {json: \"price_usd\" format: FORMAT_USD}];\n  int64 made_ms",
                "Size colour = 3;\n  int64 price_nano_usd = 4 [(weir.api.v1.field) = {json: \"price_usd\" format: FORMAT_USD}];\n  int64 made_ms",
            )],
            "is weir.shop.v1.Size",
        ),
        (&[("map<string, uint32> counts", "map<string, uint64> counts")], "a map of uint64"),
        (
            &[(
                "  oneof way {\n    string by_post = 8;\n    uint32 by_car = 9 [deprecated = true];\n  }",
                "  string by_post = 8;\n  uint32 by_car = 9 [deprecated = true];",
            )],
            "by_post has moved",
        ),
        (
            &[
                ("message Nested {", "message Nest {"),
                ("Nested nested", "Nest nested"),
                ("repeated Nested more", "repeated Nest more"),
            ],
            "message weir.shop.v1.Nested is gone",
        ),
        (&[("  COLOUR_DARK_BLUE = 2;\n", "")], "COLOUR_DARK_BLUE is gone"),
        (&[("COLOUR_RED = 1;", "COLOUR_CRIMSON = 1;")], "1 was COLOUR_RED, is COLOUR_CRIMSON"),
        (&[("COLOUR_RED = 1;", "COLOUR_RED = 5;")], "COLOUR_RED is gone"),
        (&[("  // Not public.\n  rpc Inspect(SellThingRequest) returns (Thing);\n", "")], "Inspect is gone"),
        (
            &[(
                "rpc Inspect(SellThingRequest) returns (Thing)",
                "rpc Inspect(SellThingRequest) returns (stream Thing)",
            )],
            "streams otherwise",
        ),
        (
            &[(
                "rpc Inspect(SellThingRequest) returns (Thing)",
                "rpc Inspect(stream SellThingRequest) returns (Thing)",
            )],
            "streams otherwise",
        ),
        (
            &[("rpc Inspect(SellThingRequest) returns (Thing)", "rpc Inspect(Size) returns (Thing)")],
            "takes weir.shop.v1.Size now",
        ),
        (
            &[(
                "rpc Inspect(SellThingRequest) returns (Thing)",
                "rpc Inspect(SellThingRequest) returns (Size)",
            )],
            "returns weir.shop.v1.Size now",
        ),
        (&[("service Shop {", "service Store {")], "service weir.shop.v1.Shop is gone"),
        (&[("/things/{id}/sell\"", "/things/{id}/buy\"")], "POST /v1/shops/{}/things/{}/sell is gone"),
        (
            &[("post: \"/v1/shops/{shop}/things/{id}/sell\"", "put: \"/v1/shops/{shop}/things/{id}/sell\"")],
            "POST /v1/shops/{}/things/{}/sell is gone",
        ),
        (
            &[(
                "  rpc SellThing(SellThingRequest) returns (Thing) {\n    option deprecated = true;\n    option (google.api.http) = {post: \"/v1/shops/{shop}/things/{id}/sell\"};\n  }",
                "  rpc SellThing(SellThingRequest) returns (Thing);",
            )],
            "sell is gone",
        ),
        (&[("body: \"thing\"", "body: \"*\"")], "reads its body otherwise"),
        (&[("{status: 201 location", "{location")], "another status"),
        (&[("{status: 201 location", "{caller: CALLER_PLATFORM status: 201 location")], "lets others in"),
        (
            &[("{status: 201 location", "{scopes: \"chat:write\" status: 201 location")],
            "needs the scope chat:write",
        ),
        (&[("{min_items: 1 max_items: 2", "{min_items: 1 max_items: 1")], "other numbers of elements"),
        (&[("one_of: [\"a\", \"b\"]", "one_of: [\"a\"]")], "takes fewer words"),
        (&[("{min: 1 max: 10}", "{min: 2 max: 10}")], "narrower bounds"),
        (&[("max_len: 5", "max_len: 4")], "narrower lengths"),
        (
            &[("string owner = 15 [(weir.api.v1.field).nullable = true]", "string owner = 15")],
            "no longer null",
        ),
        (&[("json: \"made_at\"", "json: \"made\"")], "another name in JSON"),
        (
            &[("  uint32 width = 1;\n", "  uint32 width = 1 [(weir.api.v1.field).required = true];\n")],
            "is required now",
        ),
        (
            &[(
                "  sint32 offset = 2;",
                "  sint32 offset = 2;\n  bool big = 3 [(weir.api.v1.field).required = true];",
            )],
            "new and required",
        ),
    ] {
        let found = broken(change);
        assert!(found.iter().any(|(what, _)| what.contains(expected)), "{change:?}: {found:?}");
    }
}

#[test]
fn what_is_gone_stays_reserved() {
    let gone = ("  double weight = 12;\n", "  reserved 12;\n  reserved \"weight\";\n");
    assert_eq!(broken(&[gone]), [("field weir.shop.v1.Thing.weight is gone".to_owned(), false)]);
    for half in ["", "  reserved 12;\n", "  reserved \"weight\";\n"] {
        assert!(broken(&[(gone.0, half)]).iter().any(|(_, never)| *never), "{half:?}");
    }
    for (before, after) in
        [("reserved 12, 40 to 44;", "reserved 12, 40 to 43;"), ("reserved \"weight\";", "")]
    {
        let old = format!("<{}", gone.0);
        let found = broken(&[(&old, &format!("  {before}\n")), (gone.0, &format!("  {after}\n"))]);
        assert!(found.iter().any(|(what, never)| *never && what.contains("no longer reserves")), "{found:?}");
    }
    let value = ("  COLOUR_DARK_BLUE = 2;\n", "  reserved 2;\n  reserved \"COLOUR_DARK_BLUE\";\n");
    assert!(broken(&[value]).iter().all(|(_, never)| !never));
    assert!(broken(&[("<  COLOUR_DARK_BLUE = 2;\n", value.1)]).iter().any(|(_, never)| *never));
}

#[test]
fn growing_breaks_nothing() {
    for addition in [
        ("  double weight = 12;\n", "  double weight = 12;\n  string note = 30;\n"),
        ("  COLOUR_RED = 1;\n", "  COLOUR_RED = 1;\n  COLOUR_GREEN = 3;\n"),
        (
            "  // Not public.\n",
            "  rpc Look(SellThingRequest) returns (Thing) {\n    option (google.api.http) = {get: \"/v1/x\"};\n  }\n",
        ),
        ("one_of: [\"a\", \"b\"]", "one_of: [\"a\", \"b\", \"c\"]"),
        ("{min: 1 max: 10}", "{min: 0 max: 100}"),
        ("{shop}/things/{id}/sell", "{shop}/things/{id=*}/sell"),
        ("  double weight = 10;\n", "  optional double weight = 10;\n"),
    ] {
        assert_eq!(broken(&[addition]), [], "{}", addition.1);
    }
}
