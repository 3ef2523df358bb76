//! A response in one piece, for a client whose stream began before that could be known.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use weir_llm::{Follower, responses::told_code};

/// Its whole stream: what clients wait for is its terminal event.
pub(super) fn response(body: &[u8], status: StatusCode, follower: &Follower) -> Bytes {
    let whole: Value = serde_json::from_slice(body).unwrap_or_default();
    if status.is_success() && whole["output"].is_array() {
        return streamed(&whole);
    }
    let message = whole["error"]["message"].as_str().unwrap_or("The model provider failed.");
    let error = json!({ "code": told_code(status.as_u16(), body), "message": message });
    let event: Bytes =
        format!("event: error\ndata: {}\n\n", json!({ "type": "error", "error": error })).into();
    // The error is in the response that failed.
    follower.end_with(&event).slice(event.len()..)
}

fn streamed(whole: &Value) -> Bytes {
    let mut begun = whole.clone();
    begun["status"] = "in_progress".into();
    begun["output"] = json!([]);
    let last = match whole["status"].as_str() {
        Some("failed") => "response.failed",
        Some("incomplete" | "cancelled") => "response.incomplete",
        _ => "response.completed",
    };
    let mut told = vec![("response.created", json!({ "response": begun }))];
    for (at, item) in whole["output"].as_array().into_iter().flatten().enumerate() {
        for name in ["response.output_item.added", "response.output_item.done"] {
            told.push((name, json!({ "output_index": at, "item": item })));
        }
    }
    told.push((last, json!({ "response": whole })));
    let mut out = String::new();
    for (number, (name, mut data)) in told.into_iter().enumerate() {
        data["type"] = name.into();
        data["sequence_number"] = number.into();
        out.push_str(&format!("event: {name}\ndata: {data}\n\n"));
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use weir_llm::Dialect;

    use super::*;

    fn names(bytes: &[u8]) -> Vec<String> {
        let text = std::str::from_utf8(bytes).unwrap();
        text.lines().filter_map(|line| line.strip_prefix("event: response.")).map(str::to_owned).collect()
    }

    #[test]
    fn what_came_in_one_piece_ends_like_a_stream() {
        let follower = Follower::new(Dialect::Responses);
        let of = |status: u16, body: Value| {
            response(body.to_string().as_bytes(), StatusCode::from_u16(status).unwrap(), &follower)
        };
        let refused = of(429, json!({"error": {"message": "slow down", "code": "insufficient_quota"}}));
        assert_eq!(names(&refused), ["created", "failed"]);
        let text = std::str::from_utf8(&refused).unwrap();
        assert!(text.contains("insufficient_quota") && text.contains("slow down"), "{text}");
        assert_eq!(names(&of(502, json!("<html>"))), ["created", "failed"]);
        let item = json!({"type": "message", "id": "msg_1"});
        let whole = json!({"id": "resp_1", "status": "completed", "output": [item]});
        let all = of(200, whole.clone());
        assert_eq!(names(&all), ["created", "output_item.added", "output_item.done", "completed"]);
        let last = std::str::from_utf8(&all).unwrap().lines().rev().find(|line| line.starts_with("data: "));
        let last: Value = serde_json::from_str(last.unwrap().strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((&last["response"], &last["sequence_number"]), (&whole, &json!(3)));
    }
}
