//! Event payloads as people read them.

use bytes::Bytes;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;
use weir_telemetry::redact;

use super::DeadLetter;

const PACKAGE: &str = "weir.events.v1";

/// The events this version knows.
#[derive(Debug, Clone)]
pub struct Payloads(DescriptorPool);

impl Default for Payloads {
    fn default() -> Self {
        // A test sees that it can be read.
        Self(DescriptorPool::decode(weir_proto::DESCRIPTORS).unwrap_or_default())
    }
}

impl Payloads {
    /// The letter's payload as JSON: fields as in the proto file, secrets masked. `None` when it cannot be read as
    /// what its subject says it is.
    #[must_use]
    pub fn json(&self, letter: &DeadLetter) -> Option<Value> {
        self.decoded(letter.kind(), letter.payload.clone()).filter(|_| !letter.payload_left_behind)
    }

    fn decoded(&self, kind: &str, payload: Bytes) -> Option<Value> {
        let message = DynamicMessage::decode(self.message(kind)?, payload).ok()?;
        let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
        let value = message.serialize_with_options(serde_json::value::Serializer, &options).ok()?;
        Some(masked(value))
    }

    /// `attempt_closed` is a `weir.events.v1.AttemptClosed`.
    fn message(&self, kind: &str) -> Option<MessageDescriptor> {
        let camel: String = kind
            .split('_')
            .filter_map(|word| {
                let (first, rest) = word.split_at_checked(1)?;
                Some(first.to_ascii_uppercase() + rest)
            })
            .collect();
        self.0.get_message_by_name(&format!("{PACKAGE}.{camel}"))
    }
}

fn masked(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(redact(&text).into_owned()),
        Value::Array(values) => values.into_iter().map(masked).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, v)| (name, masked(v))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::json;
    use weir_proto::events::{Caller, RequestFinished};

    use super::*;

    #[test]
    fn events_are_read_by_their_kind_and_secrets_masked() {
        let event = RequestFinished {
            id: "7".into(),
            caller: Some(Caller { tenant_id: "t".into(), ..Caller::default() }),
            requested_model: "pk_live_abcdefghijklmnop".into(),
            finished_at_ms: 5,
            ..RequestFinished::default()
        };
        let payloads = Payloads::default();
        let bytes = Bytes::from(event.encode_to_vec());
        let shown = payloads.decoded("request_finished", bytes.clone()).unwrap();
        assert_eq!((&shown["id"], &shown["caller"]["tenant_id"]), (&json!("7"), &json!("t")));
        assert_eq!(shown["finished_at_ms"], json!(5));
        assert!(!shown.to_string().contains("abcdefghijklmnop"), "{shown}");
        for (kind, bytes) in
            [("unheard_of", bytes), ("request_finished", Bytes::from_static(&[0xff])), ("", Bytes::new())]
        {
            assert_eq!(payloads.decoded(kind, bytes), None, "{kind}");
        }
    }
}
