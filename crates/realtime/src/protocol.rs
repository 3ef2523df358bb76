//! The messages on the wire, as the README describes them.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use weir_error::{Code, Error};
use weir_proto::chat::Usage;

/// A client's name for a turn is at most this long.
const MAX_ID_CHARS: usize = 128;

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
}

impl Close {
    /// Terminal: the same key will be refused again.
    pub(crate) const AUTH_FAILED: Self = Self { code: 4401, reason: "authentication failed" };
    /// Terminal: the client does not speak this protocol.
    pub(crate) const AUTH_TIMEOUT: Self = Self { code: 4408, reason: "no authentication in time" };
    pub(crate) const TRY_AGAIN: Self = Self { code: 1013, reason: "too many connections" };
    pub(crate) const UNAVAILABLE: Self = Self { code: 1013, reason: "temporarily unavailable" };
    pub(crate) const SLOW: Self = Self { code: 4008, reason: "slow consumer" };
    pub(crate) const NO_PONG: Self = Self { code: 4009, reason: "no answer to a ping" };
    pub(crate) const GOING_AWAY: Self = Self { code: 1001, reason: "going away" };
    pub(crate) const TOO_BIG: Self = Self { code: 1009, reason: "message too big" };
    pub(crate) const PROTOCOL: Self = Self { code: 1002, reason: "protocol error" };
}

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClientMessage {
    Auth {
        token: String,
        /// For keys that belong to no tenant.
        tenant: Option<String>,
    },
    Chat {
        id: String,
        /// An `OpenAI` chat body: the message's other fields as they were written, streamed.
        body: Bytes,
    },
    Cancel {
        id: String,
    },
    Ping,
}

/// A message that can't be acted on, with the turn it names, if it names one.
#[derive(Debug)]
pub(crate) struct BadMessage {
    pub(crate) id: Option<String>,
    pub(crate) error: Box<Error>,
}

impl From<Error> for BadMessage {
    fn from(error: Error) -> Self {
        Self { id: None, error: Box::new(error) }
    }
}

impl ClientMessage {
    pub(crate) fn parse(text: &str) -> Result<Self, BadMessage> {
        let fields = serde_json::from_str::<Fields<'_>>(text)
            .map_err(|e| Error::new(Code::InvalidJson, format!("not a JSON object: {e}")))?;
        let kind = fields.string("type")?;
        let id = || fields.string("id").and_then(check_id);
        match &*kind {
            "auth" => {
                Ok(Self::Auth { token: fields.string("token")?, tenant: fields.optional("tenant_id")? })
            }
            "chat" => Ok(Self::Chat { id: id()?, body: fields.chat_body() }),
            "cancel" => Ok(Self::Cancel { id: id()? }),
            "ping" => Ok(Self::Ping),
            _ => {
                let error = Error::invalid("type", "expected auth, chat, cancel or ping");
                Err(BadMessage { id: fields.string("id").ok(), error: Box::new(error) })
            }
        }
    }
}

fn check_id(id: String) -> Result<String, Error> {
    if id.is_empty() || id.chars().count() > MAX_ID_CHARS {
        return Err(Error::invalid("id", format!("a turn's id has 1 to {MAX_ID_CHARS} characters")));
    }
    Ok(id)
}

/// A JSON object's members in order, values untouched.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl Fields<'_> {
    fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    fn optional(&self, name: &str) -> Result<Option<String>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        serde_json::from_str(value.get())
            .map_err(|_| Error::invalid(name, format!("{name} must be a string")))
    }

    fn string(&self, name: &str) -> Result<String, Error> {
        self.optional(name)?.ok_or_else(|| Error::invalid(name, format!("{name} is missing")))
    }

    fn chat_body(&self) -> Bytes {
        let mut body = Vec::with_capacity(self.0.iter().map(|(k, v)| k.len() + v.get().len() + 8).sum());
        body.push(b'{');
        for (key, value) in self.0.iter().filter(|(key, _)| !matches!(&**key, "type" | "id" | "stream")) {
            body.extend_from_slice(serde_json::Value::from(&**key).to_string().as_bytes());
            body.push(b':');
            body.extend_from_slice(value.get().as_bytes());
            body.push(b',');
        }
        body.extend_from_slice(br#""stream":true}"#);
        body.into()
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    members.push((key, value));
                }
                Ok(Fields(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// What the server says.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ServerMessage<'a> {
    Ready {
        session_id: &'a str,
    },
    Chunk {
        id: &'a str,
        data: &'a RawValue,
    },
    Done {
        id: &'a str,
        request_id: &'a str,
        provider: &'a str,
        model: &'a str,
        usage: UsageBody,
    },
    Cancelled {
        id: &'a str,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        error: ErrorBody<'a>,
    },
    Pong,
}

impl ServerMessage<'_> {
    /// Serialising these cannot fail: keys are strings and raw values were parsed.
    pub(crate) fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Either a provider's own error object, relayed, or one of ours.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum ErrorBody<'a> {
    Relayed(&'a RawValue),
    Own {
        code: &'static str,
        message: &'a str,
        param: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
}

impl<'a> From<&'a Error> for ErrorBody<'a> {
    fn from(error: &'a Error) -> Self {
        Self::Own {
            code: error.code().as_str(),
            message: error.message(),
            param: error.param(),
            retry_after_ms: error.retry_after().map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// `usage` as `OpenAI` writes it.
#[derive(Serialize)]
pub(crate) struct UsageBody {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<&Usage> for UsageBody {
    fn from(usage: &Usage) -> Self {
        Self {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.input_tokens.saturating_add(usage.output_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cache_read_tokens },
            completion_tokens_details: CompletionDetails { reasoning_tokens: usage.reasoning_tokens },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(text: &str) -> (Option<String>, Code, Option<String>) {
        let bad = ClientMessage::parse(text).unwrap_err();
        (bad.id, bad.error.code(), bad.error.param().map(str::to_owned))
    }

    #[test]
    fn a_chat_message_becomes_a_streamed_body_with_its_values_untouched() {
        let text = r#"{"type":"chat","stream":false,"id":"a","model":"m","seed":1.0e2,"x\"y":[ {"k":9007199254740993} ]}"#;
        let ClientMessage::Chat { id, body } = ClientMessage::parse(text).unwrap() else {
            panic!("not a chat")
        };
        assert_eq!(id, "a");
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"model":"m","seed":1.0e2,"x\"y":[ {"k":9007199254740993} ],"stream":true}"#
        );
    }

    #[test]
    fn the_other_messages_are_understood() {
        let auth = ClientMessage::Auth { token: "k".to_owned(), tenant: None };
        assert_eq!(ClientMessage::parse(r#"{"type":"auth","token":"k"}"#).unwrap(), auth);
        let cancel = ClientMessage::Cancel { id: "a".to_owned() };
        assert_eq!(ClientMessage::parse(r#"{"id":"a","type":"cancel"}"#).unwrap(), cancel);
        assert_eq!(ClientMessage::parse(r#"{"type":"ping"}"#).unwrap(), ClientMessage::Ping);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let invalid = |id: Option<&str>, param: &str| {
            (id.map(str::to_owned), Code::InvalidArgument, Some(param.to_owned()))
        };
        assert_eq!(bad("{"), (None, Code::InvalidJson, None));
        assert_eq!(bad("[]"), (None, Code::InvalidJson, None));
        assert_eq!(bad("{}"), invalid(None, "type"));
        assert_eq!(bad(r#"{"type":7}"#), invalid(None, "type"));
        assert_eq!(bad(r#"{"type":"dance","id":"a"}"#), invalid(Some("a"), "type"));
        assert_eq!(bad(r#"{"type":"chat"}"#), invalid(None, "id"));
        assert_eq!(bad(r#"{"type":"chat","id":""}"#), invalid(None, "id"));
        assert_eq!(bad(r#"{"type":"chat","id":7}"#), invalid(None, "id"));
        assert_eq!(bad(r#"{"type":"auth"}"#), invalid(None, "token"));
    }

    #[test]
    fn chunks_carry_the_provider_s_json() {
        let data =
            RawValue::from_string(r#"{"choices":[{"delta":{"content":"é"}}],"n":1.50}"#.to_owned()).unwrap();
        let text = ServerMessage::Chunk { id: "a\"b", data: &data }.encode();
        assert_eq!(text, format!(r#"{{"type":"chunk","id":"a\"b","data":{}}}"#, data.get()));
    }
}
