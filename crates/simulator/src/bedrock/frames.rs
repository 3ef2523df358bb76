//! Messages of AWS's event streams: <https://smithy.io/2.0/aws/amazon-eventstream.html>.

use serde_json::Value;

/// Of headers that are text.
const STRING: u8 = 7;

/// Writes a message.
pub(super) fn push(out: &mut Vec<u8>, kind: &str, name: &str, payload: &Value) {
    let named = if kind == "event" { ":event-type" } else { ":exception-type" };
    let mut headers = Vec::with_capacity(96);
    for (key, value) in [(named, name), (":content-type", "application/json"), (":message-type", kind)] {
        headers.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
        headers.extend_from_slice(key.as_bytes());
        headers.push(STRING);
        headers.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    let start = out.len();
    out.extend_from_slice(&number(16 + headers.len() + payload.len()));
    out.extend_from_slice(&number(headers.len()));
    out.extend_from_slice(&crc32fast::hash(&out[start..]).to_be_bytes());
    out.extend_from_slice(&headers);
    out.extend_from_slice(payload.as_bytes());
    out.extend_from_slice(&crc32fast::hash(&out[start..]).to_be_bytes());
}
