//! Input tokens of a body, counted here. Google publishes no tokenizer for what it serves: texts are counted as
//! `o200k_base` does it, usually within 15 %, media by Google's rules: <https://ai.google.dev/gemini-api/docs/tokens>.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::view::counted;
use crate::tokens::{count_text, estimate, image};

/// An image, if small, or a tile of a larger one; and a page of a document.
const PER_IMAGE: u64 = 258;
/// Bytes of a second of sound, compressed as usual (128 kbit/s), and its tokens.
const SECOND: usize = 16_000;
const PER_SECOND: u64 = 32;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Prompt<'a> {
    #[serde(borrow, default, alias = "system_instruction")]
    system_instruction: Option<Content<'a>>,
    #[serde(borrow, default)]
    contents: Vec<Content<'a>>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Vec<Part<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default, alias = "inline_data")]
    inline_data: Option<Blob<'a>>,
    #[serde(borrow, default, alias = "file_data")]
    file_data: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "function_call")]
    function_call: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "function_response")]
    function_response: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    #[serde(borrow, default, alias = "mime_type")]
    mime_type: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Cow<'a, str>,
}

/// Of a request, or of what is given to be counted. What is odd enough not to be read is estimated from its size.
pub(super) fn count_prompt(body: &[u8]) -> u64 {
    if !body.trim_ascii_start().starts_with(b"{") {
        return 0;
    }
    let request = counted(body).map_or(body, |request| request.get().as_bytes());
    let Ok(prompt) = serde_json::from_slice::<Prompt<'_>>(request) else { return estimate(request.len()) };
    let contents = prompt.contents.iter().chain(&prompt.system_instruction);
    let tools = prompt.tools.map(RawValue::get).filter(|t| !matches!(*t, "null" | "[]"));
    contents.flat_map(|content| &content.parts).map(count_part).sum::<u64>() + tools.map_or(0, count_text)
}

fn count_part(part: &Part<'_>) -> u64 {
    let json = [part.function_call, part.function_response].into_iter().flatten();
    part.text.as_ref().map_or(0, |text| count_text(text))
        + json.map(|raw| count_text(raw.get())).sum::<u64>()
        + part.inline_data.as_ref().map_or(0, blob)
        + part.file_data.map_or(0, |_| PER_IMAGE)
}

fn blob(blob: &Blob<'_>) -> u64 {
    let bytes = blob.data.len() / 4 * 3;
    match blob.mime_type.split('/').next().unwrap_or_default() {
        "audio" | "video" => (bytes.div_ceil(SECOND) as u64).saturating_mul(PER_SECOND),
        "text" => estimate(bytes),
        "image" => image::size(&blob.data).map_or(PER_IMAGE, image::gemini),
        // Its pages are not looked at.
        _ => PER_IMAGE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_said_counts() {
        let count = |text: &str| count_prompt(text.as_bytes());
        let hello = count(r#"{"contents":[{"parts":[{"text":"Hello"}]}]}"#);
        assert_eq!(hello, 1);
        for same in [
            r#"{"contents":[{"role":"user","parts":[{"text":"Hello"}]}],"x_sim":{}}"#,
            r#"{"generateContentRequest":{"model":"models/m","contents":[{"parts":[{"text":"Hello"}]}]}}"#,
        ] {
            assert_eq!(count(same), hello, "{same}");
        }
        for more in [
            r#"{"system_instruction":{"parts":[{"text":"Hello"}]},"contents":[{"parts":[{"text":"Hello"}]}]}"#,
            r#"{"contents":[{"parts":[{"functionCall":{"name":"f","args":{"a":1}}}]}]}"#,
            r#"{"contents":[{"parts":[{"functionResponse":{"name":"f","response":{"a":1}}}]}]}"#,
            r#"{"contents":[{"parts":[{"text":"Hello"}]}],"tools":[{"functionDeclarations":[{"name":"f"}]}]}"#,
        ] {
            assert!(count(more) > hello, "{more}");
        }
        let image = r#"{"contents":[{"parts":[{"inline_data":{"mime_type":"image/png","data":"AAAA"}}]}]}"#;
        assert_eq!(count(image), PER_IMAGE);
        assert_eq!(count("[]"), 0);
        let odd =
            format!(r#"{{"contents":[{{"parts":[{{"text":7}},{{"text":"{}"}}]}}]}}"#, "word ".repeat(1_000));
        assert!(count(&odd) >= 1_000);
    }
}
