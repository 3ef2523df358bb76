//! What becomes of schemas, and of answers.

use serde_json::{Value, json, value::to_raw_value};

use super::{Check, Compiled, Flavor, Invalid, Room, compile};
use crate::canonical::Format;

fn compiled(schema: &Value, flavor: Flavor) -> (Value, bool, bool) {
    let Compiled { schema, altered, supported } = compile(&to_raw_value(schema).unwrap(), flavor);
    (serde_json::from_str(schema.get()).unwrap(), altered, supported)
}

const ALL: [Flavor; 5] =
    [Flavor::OpenAi, Flavor::Anthropic, Flavor::Gemini, Flavor::GeminiOpenApi, Flavor::Ollama];

#[test]
fn what_every_provider_takes_stays_the_bytes_it_was() {
    let text = r#"{"type":"object",  "properties":{"z":{"type":"string","enum":["b","a"]},"a":{"type":"array","items":{"type":"boolean"}}},"required":["z","a"],"additionalProperties":false}"#;
    let raw = serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
    for flavor in ALL.into_iter().filter(|f| *f != Flavor::GeminiOpenApi) {
        let Compiled { schema, altered, supported } = compile(&raw, flavor);
        assert_eq!((schema.get(), altered, supported), (text, false, true), "{flavor:?}");
    }
}

#[test]
fn order_of_members_is_kept() {
    let text = r#"{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"string"}}}"#;
    let raw = serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
    let got = compile(&raw, Flavor::Anthropic).schema;
    assert!(got.get().find("\"z\"").unwrap() < got.get().find("\"a\"").unwrap(), "{got}");
}

#[test]
fn each_provider_gets_what_it_takes() {
    let loose = json!({"$schema": "x", "type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "minLength": 3, "description": "A."}, "n": {"type": "integer", "minimum": 1}}});
    for (flavor, schema, expected, altered, supported) in [
        (
            Flavor::OpenAi,
            &loose,
            json!({"type": "object", "required": ["a", "n"], "additionalProperties": false, "properties": {
                "a": {"type": "string", "description": "A.\n\n{minLength: 3}"}, "n": {"type": ["integer", "null"], "minimum": 1}}}),
            true,
            true,
        ),
        (
            Flavor::Anthropic,
            &loose,
            json!({"type": "object", "required": ["a"], "additionalProperties": false, "properties": {
                "a": {"type": "string", "description": "A.\n\n{minLength: 3}"},
                "n": {"type": "integer", "description": "{minimum: 1}"}}}),
            true,
            true,
        ),
        (
            Flavor::GeminiOpenApi,
            &loose,
            json!({"type": "OBJECT", "required": ["a"], "properties": {
                "a": {"type": "STRING", "minLength": 3, "description": "A."}, "n": {"type": "INTEGER", "minimum": 1}}}),
            false,
            true,
        ),
        // Closed objects mean less, not other: nothing is lost.
        (
            Flavor::Anthropic,
            &json!({"type": "object", "properties": {"a": {"type": "null"}}}),
            json!({"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": false}),
            false,
            true,
        ),
        (
            Flavor::OpenAi,
            &json!({"type": "array", "items": {"type": "string"}}),
            json!({"type": "object", "properties": {"value": {"type": "array", "items": {"type": "string"}}},
                "required": ["value"], "additionalProperties": false}),
            true,
            true,
        ),
        (
            Flavor::GeminiOpenApi,
            &json!({"type": "object", "additionalProperties": false, "properties": {
                "e": {"$ref": "#/$defs/E"}, "o": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "c": {"const": "x"}, "t": {"type": ["string", "null"]}, "i": {"type": "integer", "enum": [1, 2]}},
                "$defs": {"E": {"enum": ["a", "b"]}}}),
            json!({"type": "OBJECT", "properties": {
                "e": {"type": "STRING", "enum": ["a", "b"]}, "o": {"nullable": true, "type": "STRING"},
                "c": {"type": "STRING", "enum": ["x"]}, "t": {"type": "STRING", "nullable": true},
                "i": {"type": "INTEGER", "description": "{enum: [1,2]}"}}}),
            true,
            true,
        ),
        (
            Flavor::GeminiOpenApi,
            &json!({"type": "object", "properties": {"l": {"type": "array"}, "b": {"type": "array", "items": true},
                "n": {"type": ["array", "null"]}, "s": {"type": ["array", "string"], "items": {"type": "integer"}}}}),
            json!({"type": "OBJECT", "properties": {"l": {"type": "ARRAY", "items": {}},
                "b": {"type": "ARRAY", "items": {}}, "n": {"type": "ARRAY", "nullable": true, "items": {}},
                "s": {"anyOf": [{"type": "ARRAY", "items": {"type": "INTEGER"}}, {"type": "STRING"}]}}}),
            false,
            true,
        ),
        (
            Flavor::GeminiOpenApi,
            &json!({"type": "array", "prefixItems": [{"type": "string"}], "items": false}),
            json!({"type": "ARRAY", "description": "{prefixItems: [{\"type\":\"string\"}]}", "items": {}}),
            true,
            true,
        ),
        (
            Flavor::Gemini,
            &json!({"type": "object", "properties": {"c": {"const": 1}, "p": {"type": "string", "pattern": "^a$"}}}),
            json!({"type": "object", "properties": {"c": {"enum": [1]},
                "p": {"type": "string", "description": "{pattern: \"^a$\"}"}}}),
            true,
            true,
        ),
        (
            Flavor::Ollama,
            &json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}}),
            json!({"type": "array", "items": {"type": "string"}, "description": "{uniqueItems: true}"}),
            true,
            true,
        ),
        (
            Flavor::OpenAi,
            &json!({"allOf": [{"$ref": "#/$defs/B"}, {"properties": {"x": {"type": "string"}}, "required": ["x"]}],
                "$defs": {"B": {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}}}),
            json!({"type": "object", "properties": {"b": {"type": "string"}, "x": {"type": "string"}},
                "required": ["b", "x"], "additionalProperties": false, "$defs": {"B": {"type": "object",
                    "properties": {"b": {"type": "string"}}, "required": ["b"], "additionalProperties": false}}}),
            false,
            true,
        ),
    ] {
        assert_eq!(compiled(schema, flavor), (expected, altered, supported), "{flavor:?} {schema}");
    }
}

#[test]
fn what_a_provider_can_t_enforce_is_known() {
    let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let tree = json!({"$ref": "#/$defs/N", "$defs": {"N": {"type": "object", "required": ["next"],
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]}}}}});
    let supported = |schema: &Value, flavor| compiled(schema, flavor).2;
    assert!(!supported(&map, Flavor::OpenAi) && !supported(&map, Flavor::Anthropic));
    assert!(supported(&map, Flavor::Gemini) && supported(&map, Flavor::Ollama));
    assert!(supported(&tree, Flavor::OpenAi) && supported(&tree, Flavor::Ollama));
    assert!(!supported(&tree, Flavor::Anthropic) && !supported(&tree, Flavor::GeminiOpenApi));
    let far = json!({"type": "object", "properties": {"x": {"$ref": "https://evil/x.json"}}});
    assert!(ALL[..4].iter().all(|f| !supported(&far, *f)));
}

#[test]
fn no_schema_takes_long_or_overflows() {
    // Each definition twice the last: exponential when followed.
    let mut definitions = serde_json::Map::new();
    for n in 0..40 {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        definitions.insert(format!("d{n}"), json!({"type": "object", "properties": {"a": next, "b": next}}));
    }
    definitions.insert("d40".to_owned(), json!({"type": "string"}));
    let bomb = json!({"$ref": "#/$defs/d0", "$defs": definitions});
    let around = json!({"allOf": [{"$ref": "#"}]});
    let deep = (0..100).fold(json!({"type": "string"}), |inner, _| json!({"type": "array", "items": inner}));
    let odd = json!({"properties": 3, "items": [1, {"$ref": 4}], "anyOf": {}, "required": "x", "enum": 1, "type": {}});
    let all: Vec<_> = (0..8_000).map(|n| json!({"properties": {format!("p{n}"): {}}})).collect();
    let all = json!({"allOf": all});
    for schema in [bomb, around, deep, odd, all, json!(true), json!([]), json!("x")] {
        for flavor in ALL {
            compiled(&schema, flavor);
        }
    }
}

#[test]
fn references_do_not_blow_schemas_up() {
    let words: Vec<_> = (0..20_000).map(|n| format!("w{n:05}")).collect();
    let refer = |n: usize| {
        let said = json!({"$ref": "#/$defs/E", "description": ""});
        let names = (0..n).map(|n| (format!("p{n}"), said.clone()));
        json!({"type": "object", "properties": names.collect::<serde_json::Map<_, _>>(), "$defs": {"E": {"enum": words}}})
    };
    let (many, few) = (to_raw_value(&refer(1_200)).unwrap(), to_raw_value(&refer(1)).unwrap());
    for flavor in [Flavor::OpenAi, Flavor::Anthropic, Flavor::GeminiOpenApi] {
        let got = compile(&many, flavor);
        assert!(got.schema.get().len() < 2 << 20 && got.altered && !got.supported, "{flavor:?}");
        assert!(compile(&few, flavor).supported, "{flavor:?}");
        // Nor do those of many tools.
        let mut room = Room::default();
        let all: Vec<_> = (0..20).map(|_| room.compile(&few, flavor)).collect();
        assert!(all[0].supported && !all[19].supported, "{flavor:?}");
    }
    // To see where a reference leads is no copy.
    let refer =
        |n: usize| json!({"anyOf": vec![json!({"$ref": "#/$defs/E"}); n], "$defs": {"E": {"enum": words}}});
    assert!(compile(&to_raw_value(&refer(1_000)).unwrap(), Flavor::Anthropic).supported);
}

fn check(schema: &Value) -> Check {
    let schema = to_raw_value(schema).unwrap();
    Check::new(&Format::Schema { name: None, description: None, schema, strict: None }).unwrap()
}

#[test]
fn answers_are_held_against_the_original() {
    let schema = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "minLength": 3}, "n": {"type": "integer"}, "o": {"type": ["string", "null"]},
        "deep": {"type": "array", "items": {"$ref": "#/$defs/D"}}},
        "$defs": {"D": {"type": "object", "properties": {"x": {"type": "string"}}}}});
    let check = check(&schema);
    assert_eq!(check.answer(r#" {"a":"abc"} "#), Ok(None));
    assert_eq!(check.answer("```json\n{\"a\":\"abc\"}\n```"), Ok(Some(r#"{"a":"abc"}"#.to_owned())));
    assert_eq!(
        check.answer(r#"{"n":null,"a":"abc","o":null,"deep":[{"x":null}]}"#),
        Ok(Some(r#"{"a":"abc","o":null,"deep":[{}]}"#.to_owned()))
    );
    let Err(Invalid(errors)) = check.answer(r#"{"a":"ab","n":"x"}"#) else { panic!("it fits") };
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().any(|e| e.starts_with("at `/a`:")), "{errors:?}");
    assert!(check.answer("Sure! Here it is:").is_err());
}

#[test]
fn a_wrapped_root_is_unwrapped_and_nothing_is_fetched() {
    let list = check(&json!({"type": "array", "items": {"type": "string"}}));
    assert_eq!(list.answer(r#"{"value":["a"]}"#), Ok(Some(r#"["a"]"#.to_owned())));
    assert!(list.answer(r#"{"value":[1]}"#).is_err());
    assert_eq!(check(&json!({"$ref": "https://example.invalid/x.json"})).answer("1"), Ok(None));
    assert_eq!(check(&json!({"type": 7})).answer("1"), Ok(None));
    let json = Check::new(&Format::Json).unwrap();
    assert_eq!(json.answer("```json\n{\"a\": 1}\n```"), Ok(Some("{\"a\": 1}".to_owned())));
    assert_eq!((json.answer("{\"a\": 1}"), json.answer("[1]")), (Ok(None), Ok(None)));
    assert!(json.answer("Here it is: {}").is_err() && json.answer("no").is_err());
}

#[test]
fn no_check_takes_long_or_overflows() {
    let definitions = |n: usize, of: &dyn Fn(Value) -> Value| {
        let next = |n: usize| json!({"$ref": format!("#/$defs/d{}", n + 1)});
        let mut all: serde_json::Map<_, _> = (0..n).map(|n| (format!("d{n}"), of(next(n)))).collect();
        all.insert(format!("d{n}"), json!({"type": "string"}));
        json!({"type": "object", "required": ["x"], "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": all})
    };
    let doubled = definitions(40, &|next| json!({"anyOf": [next, next]}));
    let all = definitions(10, &|next| json!({"allOf": vec![next; 10]}));
    let mut pinned = all.clone();
    pinned["oneOf"] = json!(vec![json!({"$ref": "#/$defs/d0"}); 3]);
    let chain = definitions(5_000, &|next| next);
    let within = json!({"type": "object", "required": ["x"], "allOf": vec![json!({"properties": {"a": {"$ref": "#"}}}); 4]});
    let deep = (0..30).fold("null".to_owned(), |inner, _| format!(r#"{{"a":{inner}}}"#));
    let around = json!({"type": "object", "required": ["x"], "anyOf": [{"$ref": "#"}]});
    let elsewhere =
        json!({"type": "object", "required": ["x"], "properties": {"a": {"$id": "y:z", "$ref": "#"}}});
    for schema in [doubled, all, pinned, chain, within, around, elsewhere] {
        assert_eq!(check(&schema).answer(&deep), Ok(None), "{:.300}", schema.to_string());
        let nothing = check(&schema).answer(r#"{"a":null}"#);
        assert!(nothing.is_ok() || nothing.is_err_and(|e| e.0.len() <= 8));
    }
    // Keywords that read all of a value, once for each way that leads to them.
    let (text, list) = ("x".repeat(60 << 10), json!((0..5_000).collect::<Vec<_>>()));
    let tower = |keyword: &str, of: &Value| {
        let mut all: serde_json::Map<_, _> = (0..4)
            .map(|n| {
                (format!("d{n}"), json!({"allOf": vec![json!({"$ref": format!("#/$defs/d{}", n + 1)}); 20]}))
            })
            .collect();
        all.insert("d4".to_owned(), json!({keyword: of}));
        json!({"type": "object", "required": ["x"], "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": all})
    };
    for (keyword, of, value) in [
        ("format", json!("iri"), json!(text)),
        ("format", json!("regex"), json!(text)),
        ("const", json!(text), json!(text)),
        ("const", list.clone(), list.clone()),
        ("enum", json!([list.clone()]), list.clone()),
        ("const", json!({"a": list}), json!({"a": list})),
        ("uniqueItems", json!(true), list),
        ("maxLength", json!(5), json!(text)),
    ] {
        let schema = tower(keyword, &of);
        assert_eq!(check(&schema).answer(&json!({"a": value}).to_string()), Ok(None), "{keyword}");
    }
    let mails = json!({"type": "array", "items": {"type": "string", "format": "email"}, "uniqueItems": true, "maxItems": 9_000});
    let many: Vec<String> = (0..20_000).map(|n| format!("somebody-{n}@example.org")).collect();
    assert!(check(&mails).answer(&json!(many).to_string()).is_err());
    assert!(check(&mails).answer(&json!(["a@b.c", "none"]).to_string()).is_err());
    // What means well is still looked at.
    let tree = json!({"type": "object", "required": ["n"], "properties": {
        "n": {"type": "integer"}, "a": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}});
    assert!(check(&tree).answer(&deep).is_err());
    assert_eq!(check(&tree).answer(r#"{"n":1,"a":{"n":2,"a":null}}"#), Ok(None));
}

#[test]
fn patterns_and_what_is_said_of_them_are_bounded() {
    let one = |pattern: &str| check(&json!({"type": "string", "pattern": pattern}));
    assert!(one("^[^x]{1,200}$").answer("\"\"").is_err());
    assert_eq!(one("^((a{50}){20}){20}$").answer("\"b\""), Ok(None));
    let many = |n: usize| {
        let all = (0..n).map(|n| (format!("p{n}"), json!({"pattern": format!("^{n}$")})));
        check(&json!({"type": "object", "properties": all.collect::<serde_json::Map<_, _>>()}))
    };
    assert!(many(256).answer(r#"{"p1":"x"}"#).is_err());
    assert_eq!(many(257).answer(r#"{"p1":"x"}"#), Ok(None));
    let long = "x".repeat(1 << 20);
    assert_eq!(one("^a$").answer(&format!("{long:?}")), Ok(None));

    let long = to_raw_value(&json!({"description": "x".repeat(300 << 10)})).unwrap();
    assert!(
        Check::new(&Format::Schema { name: None, description: None, schema: long, strict: None }).is_none()
    );
    // An error holds a copy of what must not be: here 100 KiB, 2,000 times.
    let not = check(&json!({"items": {"not": {"description": "x".repeat(100 << 10)}}}));
    let Err(Invalid(errors)) = not.answer(&format!("{:?}", [1].repeat(2_000))) else { panic!("it fits") };
    assert_eq!(errors.len(), 1);

    let light = check(&json!({"type": "object"}));
    assert!(light.is_light("{}") && !light.is_light(&"x".repeat(5_000)));
    assert!(!one("a").is_light("") && !check(&json!({"$ref": "#"})).is_light(""));
}

#[test]
fn schemas_of_many_keywords_are_not_merged() {
    let keywords = |n: usize| -> Value {
        (0..n).map(|n| (format!("a{n}"), json!(0))).collect::<serde_json::Map<_, _>>().into()
    };
    let all = |n: usize| json!({"type": "object", "properties": {}, "allOf": [keywords(n)]});
    assert!(!compiled(&all(10_000), Flavor::Gemini).2);
    let once = |n: usize| {
        json!({"type": "object", "properties": {"a": {"allOf": [{"$ref": "#/$defs/a"}, keywords(n)]}},
        "$defs": {"a": keywords(5)}})
    };
    assert!(!compiled(&once(10_000), Flavor::Anthropic).2);
}
