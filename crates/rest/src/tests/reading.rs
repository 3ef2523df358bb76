//! Requests: what is taken, and what is refused by which name.

use prost_reflect::Value;
use serde_json::{Value as Json, json};

use super::*;

const THINGS: &str = "/v1/shops/berlin/things";

fn create(body: &Json) -> Result<DynamicMessage, Error> {
    request(&shop(), &Method::POST, THINGS, &body.to_string())
}

#[test]
fn a_body_is_read_with_every_kind_of_field() {
    let message = create(&json!({
        "name": "ab ä", "colour": "dark_blue", "price_usd": "0.25", "tags": ["a"], "counts": { "x": 1 },
        "nested": { "deep": -3.0, "more": [{ "deep": 4 }] }, "by_car": 7, "weight": 2, "code": "DE",
        "sold_at": "2023-11-14T22:13:20Z", "warranty": "1.5s", "picture": "aGk=", "new": true, "stock": 10,
        "owner": null,
    }))
    .unwrap();
    let get = |name: &str| message.get_field_by_name(name).unwrap().into_owned();
    assert_eq!(get("shop"), Value::String("berlin".into()));
    assert_eq!(get("name"), Value::String("ab ä".into()));
    assert_eq!(get("colour"), Value::EnumNumber(2));
    assert_eq!(get("price_nano_usd"), Value::I64(250_000_000));
    assert_eq!(get("by_car"), Value::U32(7));
    assert_eq!(get("weight"), Value::F64(2.0));
    assert_eq!(get("picture"), Value::Bytes("hi".into()));
    assert_eq!(get("new"), Value::Bool(true));
    assert_eq!(get("stock"), Value::U64(10));
    assert_eq!(get("owner"), Value::String(String::new()));
    let nested = get("nested");
    let nested = nested.as_message().unwrap();
    assert_eq!(nested.get_field_by_name("deep").unwrap().as_i32(), Some(-3));
    let sold: prost_types::Timestamp = get("sold_at").as_message().unwrap().transcode_to().unwrap();
    assert_eq!(sold.seconds, 1_700_000_000);
    let warranty: prost_types::Duration = get("warranty").as_message().unwrap().transcode_to().unwrap();
    assert_eq!((warranty.seconds, warranty.nanos), (1, 500_000_000));
}

#[test]
fn mistakes_in_a_body_are_named_by_their_pointer() {
    let api = shop();
    for (body, code, param) in [
        (r#"{"name":"x","color":"red"}"#, "invalid_argument", "/color"),
        (r#"{"name":"x","name":"y"}"#, "invalid_argument", "/name"),
        (r#"{"name":"x","shop":"other"}"#, "invalid_argument", "/shop"),
        (
            r#"{"name":"x","nested":{"more":[{"deep":1},{"deeper":1}]}}"#,
            "invalid_argument",
            "/nested/more/1/deeper",
        ),
        (r#"{"name":"x","nested":{"deep":"1"}}"#, "invalid_type", "/nested/deep"),
        (r#"{"name":"x","nested":[]}"#, "invalid_type", "/nested"),
        (r#"{"name":"x","tags":["a",1]}"#, "invalid_type", "/tags/1"),
        (r#"{"name":"x","tags":[null]}"#, "invalid_type", "/tags/0"),
        (r#"{"name":"x","tags":["a","c"]}"#, "invalid_argument", "/tags/1"),
        (r#"{"name":"x","tags":"a"}"#, "invalid_type", "/tags"),
        (r#"{"name":"x","tags":[]}"#, "invalid_argument", "/tags"),
        (r#"{"name":"x","tags":["a","b","a"]}"#, "invalid_argument", "/tags"),
        (r#"{"name":"x","counts":{"a/b~":-1}}"#, "invalid_type", "/counts/a~1b~0"),
        (r#"{"name":"x","counts":{"a":1,"a":2}}"#, "invalid_argument", "/counts/a"),
        (r#"{"name":"x","stock":0}"#, "invalid_argument", "/stock"),
        (r#"{"name":"x","stock":11}"#, "invalid_argument", "/stock"),
        (r#"{"name":"x","stock":1.5}"#, "invalid_type", "/stock"),
        (r#"{"name":"x","stock":99999999999999999999999}"#, "invalid_type", "/stock"),
        (r#"{"name":"x","new":1}"#, "invalid_type", "/new"),
        (r#"{"name":"x","colour":"green"}"#, "invalid_argument", "/colour"),
        (r#"{"name":"x","colour":"unspecified"}"#, "invalid_argument", "/colour"),
        (r#"{"name":"x","price_usd":0.25}"#, "invalid_type", "/price_usd"),
        (r#"{"name":"x","price_nano_usd":1}"#, "invalid_argument", "/price_nano_usd"),
        (r#"{"name":"x","price_usd":"1e9"}"#, "invalid_argument", "/price_usd"),
        (r#"{"name":"x","sold_at":"2023-11-14"}"#, "invalid_argument", "/sold_at"),
        (r#"{"name":"x","code":"DEU"}"#, "invalid_argument", "/code"),
        (r#"{"name":"x","owner":"me"}"#, "invalid_argument", "/owner"),
        (r#"{"name":"x","picture":"?"}"#, "invalid_argument", "/picture"),
        (r#"{"name":"x","by_car":1,"by_post":"y"}"#, "invalid_argument", "/by_post"),
        (r#"{"name":"x","by_post":"a\u0000b"}"#, "invalid_argument", "/by_post"),
        (r#"{"name":"äöüßxy"}"#, "invalid_argument", "/name"),
        (r#"{"name":"a\nb"}"#, "invalid_argument", "/name"),
        (r#"{"name":"  "}"#, "invalid_argument", "/name"),
        (r#"{"name":null}"#, "missing_required_parameter", "/name"),
        ("{}", "missing_required_parameter", "/name"),
        ("[1]", "invalid_type", "-"),
        ("7", "invalid_type", "-"),
        ("", "invalid_json", "-"),
        (r#"{"name":"x""#, "invalid_json", "-"),
        (r#"{"name":"x"} {}"#, "invalid_json", "-"),
        (r#"{"name":"\ud800"}"#, "invalid_json", "-"),
    ] {
        let refusal = refused(&api, &Method::POST, THINGS, body);
        assert_eq!((refusal.0.as_str(), refusal.1.as_str()), (code, param), "{body}");
    }
    let binary = api.request(binding(&api, &Method::POST, THINGS), THINGS, "", b"{\"name\":\"\xff\"}");
    assert_eq!(binary.unwrap_err().code().as_str(), "invalid_json");
}

#[test]
fn nesting_and_lists_are_bounded() {
    let api = shop();
    let deep =
        format!(r#"{{"name":"x","nested":{}1{}}}"#, r#"{"more":["#.repeat(50_000), "]}".repeat(50_000));
    assert_eq!(refused(&api, &Method::POST, THINGS, &deep).0, "invalid_json");
    let open = "[".repeat(500_000);
    assert_eq!(refused(&api, &Method::POST, THINGS, &open).0, "invalid_type");
    let many = format!(r#"{{"name":"x","nested":{{"more":[{}]}}}}"#, vec!["{}"; 1_001].join(","));
    assert_eq!(refused(&api, &Method::POST, THINGS, &many).1, "/nested/more");
    let counts: Vec<_> = (0..1_001).map(|n| format!(r#""{n}":1"#)).collect();
    let many = format!(r#"{{"name":"x","counts":{{{}}}}}"#, counts.join(","));
    assert_eq!(refused(&api, &Method::POST, THINGS, &many).1, "/counts");
}

#[test]
fn queries_are_known_typed_and_single() {
    let api = shop();
    let list = |query: &str| request(&api, &Method::GET, &format!("{THINGS}?{query}"), "");
    let message = list("limit=100&after=a%2Bb+c&colour=red&colour=dark_blue&since=1700000000").unwrap();
    let get = |name: &str| message.get_field_by_name(name).unwrap().into_owned();
    assert_eq!(get("limit"), Value::U32(100));
    assert_eq!(get("after"), Value::String("a+b c".into()));
    assert_eq!(get("colours"), Value::List(vec![Value::EnumNumber(1), Value::EnumNumber(2)]));
    assert_eq!(get("since_ms"), Value::I64(1_700_000_000_000));
    let since = list("since=2023-11-14T23:13:20+01:00").unwrap();
    assert_eq!(since.get_field_by_name("since_ms").unwrap().as_i64(), Some(1_700_000_000_000));
    assert!(list("").is_ok() && list("&").is_ok());
    for (query, code, param) in [
        ("limit=0", "invalid_argument", "limit"),
        ("limit=101", "invalid_argument", "limit"),
        ("limit=x", "invalid_type", "limit"),
        ("limit=", "invalid_type", "limit"),
        ("limit=-1", "invalid_type", "limit"),
        ("limit=1&limit=1", "invalid_argument", "limit"),
        ("since_ms=1", "invalid_argument", "since_ms"),
        ("shop=other", "invalid_argument", "shop"),
        ("since=noon", "invalid_argument", "since"),
        ("colour=green", "invalid_argument", "colour"),
        ("after=%ff", "invalid_argument", "query"),
        ("after=%00", "invalid_argument", "after"),
    ] {
        let refusal = refused(&api, &Method::GET, &format!("{THINGS}?{query}"), "");
        assert_eq!((refusal.0.as_str(), refusal.1.as_str()), (code, param), "{query}");
    }
    let error = list("limit=0").unwrap_err();
    assert_eq!(error.message(), "must be between 1 and 100");
    let error = list("since_ms=1").unwrap_err();
    assert_eq!(error.message(), "unknown parameter: there are limit, after, colour, since");
    let many = vec!["colour=red"; 1_001].join("&");
    assert_eq!(refused(&api, &Method::GET, &format!("{THINGS}?{many}"), "").1, "colour");
}

#[test]
fn paths_are_decoded_and_bodies_may_be_one_field() {
    let api = shop();
    let patched =
        request(&api, &Method::PATCH, "/v1/shops/a%2Fb/things/%C3%A4?dry_run=true", r#"{"name":"x"}"#);
    let message = patched.unwrap();
    let get = |name: &str| message.get_field_by_name(name).unwrap().into_owned();
    assert_eq!((get("shop"), get("id")), (Value::String("a/b".into()), Value::String("ä".into())));
    assert_eq!(get("dry_run"), Value::Bool(true));
    assert_eq!(get("thing").as_message().unwrap().get_field_by_name("name").unwrap().as_str(), Some("x"));
    assert_eq!(refused(&api, &Method::PATCH, "/v1/shops/a/things/%ff", r#"{"name":"x"}"#).0, "not_found");
    assert_eq!(refused(&api, &Method::PATCH, "/v1/shops/a/things/%00", r#"{"name":"x"}"#).0, "not_found");
    assert_eq!(refused(&api, &Method::PATCH, "/v1/shops/a/things/1", r#"{"thing":{}}"#).1, "/thing");
}

#[test]
fn an_operation_without_a_body_takes_none() {
    let api = shop();
    let sell = "/v1/shops/a/things/1/sell";
    for nothing in ["", "{}", " { } \n"] {
        assert!(request(&api, &Method::POST, sell, nothing).is_ok(), "{nothing:?}");
    }
    for something in ["{\"a\":1}", "[]", "x"] {
        assert_eq!(refused(&api, &Method::POST, sell, something).0, "invalid_argument", "{something}");
    }
}
