//! What Azure's filters say of a prompt comes before the first chunk, in an event that has an empty id and object:
//! <https://learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter-annotations>. Clients that read every event
//! as a chunk fail on it, so it goes on as a member of the first one.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::sse;

/// Longer remarks than any prompt's are left where they are.
const MAX: usize = 64 * 1024;

#[derive(Deserialize)]
struct Remarks<'a> {
    id: &'a str,
    object: &'a str,
    #[serde(borrow)]
    choices: Vec<&'a RawValue>,
    #[serde(borrow)]
    prompt_filter_results: &'a RawValue,
}

/// The remarks of an event that has nothing else.
#[must_use]
pub fn prompt_remarks(event: &Bytes) -> Option<Bytes> {
    if event.len() > MAX || memchr::memmem::find(event, b"\"prompt_filter_results\"").is_none() {
        return None;
    }
    let data = sse::data(event)?;
    let remarks: Remarks<'_> = serde_json::from_slice(&data).ok()?;
    let alone = remarks.choices.is_empty() && remarks.id.is_empty() && remarks.object.is_empty();
    alone.then(|| Bytes::copy_from_slice(remarks.prompt_filter_results.get().as_bytes()))
}

/// The same chunk, with the remarks that came before it.
#[must_use]
pub fn with_prompt_remarks(event: &Bytes, remarks: &[u8]) -> Bytes {
    let Some(end) = memchr::memrchr(b'}', event) else { return event.clone() };
    let (before, after) = event.split_at(end);
    let mut whole = BytesMut::with_capacity(event.len() + remarks.len() + 32);
    for piece in [before, b",\"prompt_filter_results\":", remarks, after] {
        whole.extend_from_slice(piece);
    }
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_go_on_with_the_first_chunk() {
        let alone = br#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"a":1}]}"#;
        let remarks = prompt_remarks(&Bytes::from_static(alone)).unwrap();
        let chunk = Bytes::from_static(b"data: {\"id\":\"x\",\"choices\":[{}]}\n\n");
        assert_eq!(
            with_prompt_remarks(&chunk, &remarks),
            "data: {\"id\":\"x\",\"choices\":[{}],\"prompt_filter_results\":[{\"a\":1}]}\n\n"
        );
        for other in [
            r#"data: {"choices":[{}],"id":"x","object":"o","prompt_filter_results":[]}"#,
            r#"data: {"choices":[],"id":"x","object":"chat.completion.chunk","prompt_filter_results":[]}"#,
            r#"data: {"choices":[],"id":"","object":""}"#,
            "data: prompt_filter_results",
        ] {
            assert_eq!(prompt_remarks(&Bytes::from(other)), None, "{other}");
        }
    }
}
