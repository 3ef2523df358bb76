//! Errors: one shape, and what each status means here.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_error::Code;

/// RFC 9457, with what Weir adds.
pub(super) fn schema() -> Value {
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "type": "object",
        "description": "RFC 9457. `code` is stable and what programs should look at; /errors explains each.",
        "required": ["type", "title", "status", "detail", "code", "request_id"],
        "properties": {
            "type": { "type": "string", "format": "uri-reference", "description": "A page that explains the code." },
            "title": { "type": "string", "description": "The same for every occurrence." },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string", "description": "What went wrong here." },
            "code": { "type": "string", "enum": codes },
            "param": {
                "type": "string",
                "description": "What is to blame: a JSON pointer into the body, or a parameter's or header's name.",
            },
            "errors": {
                "type": "array",
                "description": "All that is to blame, where it is more than one.",
                "items": {
                    "type": "object",
                    "required": ["param", "detail"],
                    "properties": { "param": { "type": "string" }, "detail": { "type": "string" } },
                },
            },
            "request_id": { "type": "string", "description": "Name it when you ask for help." },
            "trace_id": { "type": "string", "description": "Of the trace that shows it, where there is one." },
        },
    })
}

/// One response for each status, `Problem404`, and `Problem` for any other.
pub(super) fn responses() -> BTreeMap<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<&Code>> = BTreeMap::new();
    for code in Code::ALL {
        by_status.entry(code.http().as_u16()).or_default().push(code);
    }
    let mut responses: BTreeMap<_, _> = by_status
        .into_iter()
        .map(|(status, codes)| {
            let what: Vec<_> = codes.iter().map(|c| format!("{} (`{}`)", c.title(), c.as_str())).collect();
            (format!("Problem{status}"), response(&what.join("; ")))
        })
        .collect();
    responses.insert("Problem".to_owned(), response("Any other error."));
    responses
}

fn response(description: &str) -> Value {
    json!({
        "description": description,
        "headers": {
            "x-request-id": { "$ref": "#/components/headers/RequestId" },
            "retry-after": { "$ref": "#/components/headers/RetryAfter" },
        },
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    })
}
