//! Streams as strict clients of each dialect read them, and a provider that never ends its bodies.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Body,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

/// Longer than a keep-alive's interval in these tests.
const SILENCE: Duration = Duration::from_millis(1_200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    Chat,
    Responses,
    Messages,
    Gemini,
}

pub(super) const CLIENTS: [Client; 4] = [Client::Chat, Client::Responses, Client::Messages, Client::Gemini];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    Failed,
}

impl Client {
    pub(super) fn path(self, model: &str) -> String {
        match self {
            Self::Chat => "/v1/chat/completions".to_owned(),
            Self::Responses => "/v1/responses".to_owned(),
            Self::Messages => "/v1/messages".to_owned(),
            Self::Gemini => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
        }
    }

    pub(super) fn body(self, model: &str, wish: &Value) -> Value {
        let question = format!("Which rivers flow through Vienna? [x_sim {wish}]");
        let messages = json!([{"role": "user", "content": question}]);
        match self {
            Self::Chat => json!({"model": model, "stream": true, "stream_options": {"include_usage": true},
                "messages": messages}),
            Self::Responses => json!({"model": model, "stream": true, "store": false, "input": question}),
            Self::Messages => {
                json!({"model": model, "stream": true, "max_tokens": 250_000, "messages": messages})
            }
            Self::Gemini => json!({"contents": [{"role": "user", "parts": [{"text": question}]}]}),
        }
    }
}

impl Client {
    /// The same question, asked of a model that is to think about it.
    pub(super) fn thinking(self, model: &str, wish: &Value) -> Value {
        let mut body = self.body(model, wish);
        let (member, value) = match self {
            Self::Chat => ("reasoning_effort", json!("low")),
            Self::Responses => ("reasoning", json!({"effort": "low"})),
            Self::Messages => ("thinking", json!({"type": "enabled", "budget_tokens": 1_024})),
            Self::Gemini => ("generationConfig", json!({"thinkingConfig": {"thinkingBudget": 1_024}})),
        };
        body[member] = value;
        body
    }

    /// The same question, to be answered in one piece.
    pub(super) fn whole(self, model: &str, wish: &Value) -> (String, Value) {
        let path = self.path(model).replace(":streamGenerateContent?alt=sse", ":generateContent");
        let mut body = self.body(model, wish);
        if let Some(members) = body.as_object_mut() {
            members.retain(|name, _| !name.starts_with("stream"));
        }
        (path, body)
    }

    /// Whether an error says, in its dialect's words, that it took too long.
    pub(super) fn is_timeout(self, error: &Value) -> bool {
        match self {
            Self::Chat => error["error"]["code"] == "upstream_timeout",
            // It has few words of its own.
            Self::Responses => {
                error["error"]["code"] == "upstream_timeout"
                    || error["response"]["error"]["code"] == "server_error"
                        && error["response"]["error"]["message"].as_str().unwrap().contains("fell silent")
            }
            Self::Messages => error["error"]["type"] == "timeout_error",
            Self::Gemini => error["error"]["status"] == "DEADLINE_EXCEEDED",
        }
    }
}

/// A stream without its keep-alives.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Their names, where they have one, and their data.
    events: Vec<(String, Value)>,
    pub(super) kept: usize,
}

impl Seen {
    /// Reads as strictly as the strictest client: whole events of known lines, data of JSON, nothing after the last one.
    pub(super) fn of(text: &str, pair: &str) -> Self {
        let mut seen = Self::default();
        let (mut name, mut data) = (String::new(), String::new());
        let mut comment = false;
        for line in text.split_inclusive('\n') {
            let line =
                line.strip_suffix('\n').unwrap_or_else(|| panic!("half a line at the end of {pair}: {text}"));
            // Google's own end with both.
            let line = line.strip_suffix('\r').unwrap_or(line);
            let inside = !name.is_empty() || !data.is_empty();
            if line.starts_with(':') {
                assert!(!inside, "a comment inside an event: {pair}: {text}");
                (comment, seen.kept) = (true, seen.kept + 1);
            } else if let Some(kind) = line.strip_prefix("event: ") {
                assert!(!inside, "two events in one: {pair}: {text}");
                kind.clone_into(&mut name);
            } else if let Some(json) = line.strip_prefix("data: ") {
                data.push_str(json);
            } else {
                assert!(line.is_empty(), "{line:?} is no line of an event: {pair}: {text}");
                match (inside, comment) {
                    (true, _) => seen.event(&std::mem::take(&mut name), &std::mem::take(&mut data), pair),
                    (false, true) => comment = false,
                    (false, false) => seen.kept += 1,
                }
            }
        }
        assert!(name.is_empty() && data.is_empty(), "half an event at the end of {pair}: {text}");
        seen
    }

    fn event(&mut self, name: &str, data: &str, pair: &str) {
        let json = match data {
            "[DONE]" => json!("[DONE]"),
            data => serde_json::from_str(data).unwrap_or_else(|e| panic!("{pair}: {data:?}: {e}")),
        };
        if name == "ping" {
            self.kept += 1;
        } else {
            self.events.push((name.to_owned(), json));
        }
    }

    pub(super) fn is_longer_than(&self, events: u64) -> bool {
        self.events.len() as u64 > events
    }

    /// Whether it ended with an error that says that it took too long.
    pub(super) fn timed_out(&self, client: Client) -> bool {
        self.events.iter().rev().take(2).any(|(_, json)| client.is_timeout(json))
    }

    /// What it tells at its end besides its dialect's own.
    pub(super) fn told(&self) -> Value {
        let told = self.events.iter().rev().find_map(|(_, json)| json.get("weir"));
        told.cloned().unwrap_or_default()
    }

    fn count(&self, is: impl Fn(&str, &Value) -> bool) -> usize {
        self.events.iter().filter(|(name, json)| is(name, json)).count()
    }

    fn at(&self, is: impl Fn(&str, &Value) -> bool) -> Option<usize> {
        self.events.iter().position(|(name, json)| is(name, json))
    }

    pub(super) fn is_sound(&self, client: Client, end: End, says: &str) {
        assert!(self.events.len() > 1, "{says}");
        match client {
            Client::Chat => self.is_sound_chat(end, says),
            Client::Responses => self.is_sound_response(end, says),
            Client::Messages => self.is_sound_message(end, says),
            Client::Gemini => self.is_sound_content(end, says),
        }
    }

    fn is_sound_chat(&self, end: End, says: &str) {
        let finishes = |_: &str, json: &Value| json["choices"][0]["finish_reason"].is_string();
        let usage = |_: &str, json: &Value| json["usage"].is_object();
        let errors = |_: &str, json: &Value| json["error"].is_object();
        let last = self.events.len() - 1;
        assert_eq!(self.at(|_, json| json == "[DONE]"), Some(last), "{says}");
        match end {
            End::Whole => {
                assert_eq!(
                    (self.count(finishes), self.count(usage), self.count(errors)),
                    (1, 1, 0),
                    "{says}"
                );
                assert!(self.at(finishes) < self.at(usage) && self.at(usage) == Some(last - 1), "{says}");
            }
            End::Failed => {
                assert_eq!((self.count(finishes), self.count(errors)), (0, 1), "{says}");
                assert_eq!(self.at(errors), Some(last - 1), "{says}");
                let error = &self.events[last - 1].1["error"];
                assert!(error["message"].is_string() && error["type"].is_string(), "{says}");
            }
        }
    }

    fn is_sound_response(&self, end: End, says: &str) {
        let ends = ["response.completed", "response.incomplete", "response.failed"];
        assert_eq!(self.count(|name, _| ends.contains(&name)), 1, "{says}");
        let (name, last) = &self.events[self.events.len() - 1];
        for (n, (name, json)) in self.events.iter().enumerate() {
            assert_eq!((&json["sequence_number"], &json["type"]), (&json!(n), &json!(name)), "{says}");
        }
        let count = |wanted: &str| self.count(|name, _| name == wanted);
        assert_eq!(count("response.created"), 1, "{says}");
        match end {
            End::Whole => {
                assert_eq!(name, "response.completed", "{says}");
                assert!(last["response"]["usage"]["output_tokens"].as_u64() > Some(0), "{says}");
                assert_eq!(count("response.output_item.added"), count("response.output_item.done"), "{says}");
            }
            End::Failed => {
                assert_eq!(name, "response.failed", "{says}");
                assert!(last["response"]["error"]["message"].is_string(), "{says}");
            }
        }
    }

    fn is_sound_message(&self, end: End, says: &str) {
        let count = |wanted: &str| self.count(|name, _| name == wanted);
        for (name, json) in &self.events {
            assert_eq!(json["type"], *name, "{says}");
        }
        assert_eq!((self.events[0].0.as_str(), count("message_start")), ("message_start", 1), "{says}");
        let last = self.events.len() - 1;
        assert_eq!(self.at(|name, _| name == "message_stop"), Some(last), "{says}");
        assert_eq!(count("content_block_start"), count("content_block_stop"), "{says}");
        match end {
            End::Whole => {
                assert_eq!((count("message_delta"), count("error")), (1, 0), "{says}");
                let (name, delta) = &self.events[last - 1];
                assert_eq!(name, "message_delta", "{says}");
                assert!(delta["delta"]["stop_reason"].is_string(), "{says}");
                assert!(delta["usage"]["output_tokens"].as_u64() > Some(0), "{says}");
            }
            End::Failed => {
                assert_eq!((count("message_delta"), count("error")), (0, 1), "{says}");
                let (name, error) = &self.events[last - 1];
                assert_eq!(name, "error", "{says}");
                assert!(error["error"]["type"].is_string(), "{says}");
            }
        }
    }

    fn is_sound_content(&self, end: End, says: &str) {
        let finishes = |_: &str, json: &Value| json["candidates"][0]["finishReason"].is_string();
        let errors = |_: &str, json: &Value| json["error"].is_object();
        let last = self.events.len() - 1;
        match end {
            End::Whole => {
                assert_eq!((self.count(finishes), self.count(errors)), (1, 0), "{says}");
                assert_eq!(self.at(finishes), Some(last), "{says}");
                let usage = &self.events[last].1["usageMetadata"];
                assert!(usage["candidatesTokenCount"].as_u64() > Some(0), "{says}");
            }
            End::Failed => {
                assert_eq!((self.count(finishes), self.count(errors)), (0, 1), "{says}");
                assert_eq!(self.at(errors), Some(last), "{says}");
                assert!(self.events[last].1["error"]["status"].is_string(), "{says}");
            }
        }
    }
}

/// Says what it has to say in each dialect, as `say` has it.
pub(super) fn saying(say: fn(&'static str) -> Response) -> Router {
    let models = json!({"data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}],
        "models": [{"name": "models/m"}], "has_more": false});
    let list = move || async move { Json(models) };
    Router::new()
        .route("/v1/models", get(list.clone()))
        .route("/v1beta/models", get(list))
        .route("/v1/chat/completions", post(move || async move { say(CHAT) }))
        .route("/v1/responses", post(move || async move { say(RESPONSES) }))
        .route("/v1/messages", post(move || async move { say(MESSAGES) }))
        .route("/v1beta/models/{call}", post(move || async move { say(GEMINI) }))
}

type Piece = Result<Bytes, std::io::Error>;

/// And leaves its bodies open.
pub(super) fn endless(text: &'static str) -> Response {
    let first = stream::iter([Piece::Ok(Bytes::from_static(text.as_bytes()))]);
    ([("content-type", "text/event-stream")], Body::from_stream(first.chain(stream::pending())))
        .into_response()
}

/// And is silent once half of it is said, in the middle of an event.
pub(super) fn halting(text: &'static str) -> Response {
    let (first, rest) = text.as_bytes().split_at(text.len() / 2);
    let rest = stream::once(async move {
        tokio::time::sleep(SILENCE).await;
        Piece::Ok(Bytes::from_static(rest))
    });
    let whole = stream::iter([Piece::Ok(Bytes::from_static(first))]).chain(rest);
    ([("content-type", "text/event-stream")], Body::from_stream(whole)).into_response()
}

const CHAT: &str = concat!(
    r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"Danube"},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    "\n\n",
    r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#,
    "\n\ndata: [DONE]\n\n"
);

const MESSAGES: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#,
    "\n\nevent: content_block_start\n",
    r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Danube"}}"#,
    "\n\nevent: content_block_stop\n",
    r#"data: {"type":"content_block_stop","index":0}"#,
    "\n\nevent: message_delta\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}"#,
    "\n\nevent: message_stop\n",
    r#"data: {"type":"message_stop"}"#,
    "\n\n"
);

const GEMINI: &str = concat!(
    r#"data: {"candidates":[{"content":{"role":"model","parts":[{"text":"Dan"}]},"index":0}],"modelVersion":"m","responseId":"r"}"#,
    "\n\n",
    r#"data: {"candidates":[{"content":{"role":"model","parts":[{"text":"u"}]},"index":0}],"modelVersion":"m","responseId":"r"}"#,
    "\n\n",
    r#"data: {"candidates":[{"content":{"role":"model","parts":[{"text":"be"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5},"modelVersion":"m","responseId":"r"}"#,
    "\n\n"
);

const RESPONSES: &str = concat!(
    "event: response.created\n",
    r#"data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":1,"status":"in_progress","model":"m","output":[]}}"#,
    "\n\nevent: response.output_item.added\n",
    r#"data: {"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}"#,
    "\n\nevent: response.content_part.added\n",
    r#"data: {"type":"response.content_part.added","sequence_number":2,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}"#,
    "\n\nevent: response.output_text.delta\n",
    r#"data: {"type":"response.output_text.delta","sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"Danube"}"#,
    "\n\nevent: response.output_text.done\n",
    r#"data: {"type":"response.output_text.done","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"text":"Danube"}"#,
    "\n\nevent: response.content_part.done\n",
    r#"data: {"type":"response.content_part.done","sequence_number":5,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"Danube","annotations":[]}}"#,
    "\n\nevent: response.output_item.done\n",
    r#"data: {"type":"response.output_item.done","sequence_number":6,"output_index":0,"item":{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Danube","annotations":[]}]}}"#,
    "\n\nevent: response.completed\n",
    r#"data: {"type":"response.completed","sequence_number":7,"response":{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"m","output":[{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Danube","annotations":[]}]}],"usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":0},"output_tokens":2,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":5}}}"#,
    "\n\n"
);
