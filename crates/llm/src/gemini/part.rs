//! Parts of a content, which requests and answers share: what each is, and how it is written.

use std::borrow::Cow;

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use serde::Serialize;
use serde_json::value::RawValue;
use weir_error::Error;

use crate::{
    anthropic::object,
    canonical::{Content, Media, Opaque, Part, Source, Vendor},
    members::Members,
};

/// Some clients write the other alphabet, or no padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A part as Google writes it, but for functions, which are told by name and in order rather than by id.
pub(super) enum Read<'a> {
    Content(Content),
    /// Nothing is in it but what proves it.
    Bare,
    Call(Members<'a>),
    Response(Members<'a>),
}

/// A part, what its vendor wants back with it, and its members that nobody took.
pub(super) struct Piece<'a> {
    pub(super) read: Read<'a>,
    pub(super) opaque: Option<Opaque>,
    pub(super) rest: Vec<String>,
}

/// Of an answer, whose members cost no more than themselves when they can't be read.
///
/// # Errors
/// It is no part.
pub(super) fn told(raw: &RawValue) -> Result<Piece<'_>, Error> {
    let mut from = Members::of(raw, "parts")?.camel();
    let thought = from.take::<bool>("thought").unwrap_or_default();
    let signature = from.take::<String>("thoughtSignature").unwrap_or_default();
    piece(from, raw, thought, signature)
}

/// Of a request.
///
/// # Errors
/// `InvalidType` by the path.
pub(super) fn read<'a>(raw: &'a RawValue, path: &str) -> Result<Piece<'a>, Error> {
    let mut from = Members::of(raw, path)?.camel();
    let (thought, signature) = (from.take::<bool>("thought")?, from.take::<String>("thoughtSignature")?);
    piece(from, raw, thought, signature)
}

fn piece<'a>(
    mut from: Members<'a>,
    raw: &'a RawValue,
    thought: Option<bool>,
    signature: Option<String>,
) -> Result<Piece<'a>, Error> {
    let thought = thought.unwrap_or(false);
    let signature = signature.filter(|s| !s.is_empty());
    let opaque = signature.map(|s| open(&s));
    let read = if let Some(text) = from.take::<String>("text")? {
        Read::Content(if thought { Content::Thinking(text) } else { Content::Text(text) })
    } else if let Some(call) = from.object("functionCall")? {
        Read::Call(call.camel())
    } else if let Some(response) = from.object("functionResponse")? {
        Read::Response(response.camel())
    } else if let Some(blob) = from.object("inlineData")? {
        Read::Content(inline(blob.camel(), raw)?)
    } else if let Some(file) = from.object("fileData")? {
        Read::Content(file_data(file.camel(), raw)?)
    } else if let Some((kind, _)) = from.rest().next() {
        // Code that the vendor ran, and the like.
        let read = Read::Content(Content::Foreign { kind, value: raw.to_owned() });
        return Ok(Piece { read, opaque, rest: Vec::new() });
    } else {
        let read = if thought { Read::Content(Content::RedactedThinking) } else { Read::Bare };
        return Ok(Piece { read, opaque, rest: Vec::new() });
    };
    Ok(Piece { read, opaque, rest: from.rest().map(|(name, _)| name).collect() })
}

/// # Errors
/// `InvalidType` or `MissingParameter` by the path.
pub(super) fn inline(mut blob: Members<'_>, raw: &RawValue) -> Result<Content, Error> {
    let media_type = blob.need::<String>("mimeType")?;
    let (data, name) = (blob.need::<String>("data")?, blob.take("displayName").unwrap_or_default());
    if media_type.starts_with("text/")
        && let Some(text) = decode(&data).and_then(|bytes| String::from_utf8(bytes).ok())
    {
        return Ok(Content::File(Media { source: Source::Text(text), name, detail: None }));
    }
    let media = Media { source: Source::Data { media_type: media_type.clone(), data }, name, detail: None };
    Ok(by_type(&media_type, media, raw))
}

fn file_data(mut file: Members<'_>, raw: &RawValue) -> Result<Content, Error> {
    let media_type = file.take::<String>("mimeType").unwrap_or_default().unwrap_or_default();
    let (uri, name) = (file.need::<String>("fileUri")?, file.take("displayName").unwrap_or_default());
    // Google's own stores are open to nobody else.
    let own = uri.starts_with("gs://") || uri.starts_with("https://generativelanguage.googleapis.com/");
    let source = if own { Source::Id(uri) } else { Source::Url(uri) };
    Ok(by_type(&media_type, Media { source, name, detail: None }, raw))
}

fn by_type(media_type: &str, media: Media, raw: &RawValue) -> Content {
    match media_type.split('/').next().unwrap_or_default() {
        "image" => Content::Image(media),
        "audio" => Content::Audio(media),
        "video" => Content::Foreign { kind: "video".to_owned(), value: raw.to_owned() },
        _ => Content::File(media),
    }
}

/// Adds a part to those of a model. What was streamed comes back in the pieces it was streamed in: they are one part
/// again, which ends with its signature.
pub(super) fn join(parts: &mut Vec<Part>, part: Part) {
    if let Some(last) = parts.last_mut().filter(|last| last.opaque.is_none()) {
        match (&mut last.content, &part.content) {
            (Content::Text(said), Content::Text(more))
            | (Content::Thinking(said), Content::Thinking(more)) => {
                said.push_str(more);
                last.opaque = part.opaque;
                return;
            }
            _ => {}
        }
    }
    parts.push(part);
}

/// Stands for the signature of a call that Gemini did not make itself, which it else asks for:
/// <https://ai.google.dev/gemini-api/docs/thought-signatures#faqs>.
pub(super) const NOT_GEMINIS: &str = "skip_thought_signature_validator";

/// Whether a signature is another vendor's, under seal.
pub(super) fn is_foreign(signature: &str) -> bool {
    open(signature).vendor != Vendor::Google
}

/// The field holds bytes: Google's state stays the text that it is on the wire, another's seal is what is in it.
pub(super) fn open(signature: &str) -> Opaque {
    let sealed = decode(signature).and_then(|bytes| String::from_utf8(bytes).ok());
    let opened = sealed.map(|text| Opaque::open(&text, Vendor::Google));
    opened.filter(|o| o.vendor != Vendor::Google).unwrap_or_else(|| Opaque::new(Vendor::Google, signature))
}

pub(super) fn sealed(opaque: &Opaque) -> Cow<'_, str> {
    match opaque.seal(Vendor::Google) {
        own @ Cow::Borrowed(_) => own,
        Cow::Owned(seal) => STANDARD.encode(seal).into(),
    }
}

/// Google's own state alone, for Google.
pub(super) fn own(part: &Part) -> Option<&str> {
    let opaque = part.opaque.as_ref().filter(|o| o.vendor == Vendor::Google)?;
    Some(opaque.data.as_str()).filter(|data| !data.is_empty())
}

fn decode(text: &str) -> Option<Vec<u8>> {
    LENIENT.decode(text.replace('+', "-").replace('/', "_")).ok()
}

/// A part as it is written.
#[derive(Debug, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Out<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) thought: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inline_data: Option<Blob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file_data: Option<FileData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) function_call: Option<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) function_response: Option<Response<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thought_signature: Option<Cow<'a, str>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blob<'a> {
    pub(super) mime_type: Cow<'a, str>,
    pub(super) data: Cow<'a, str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mime_type: Option<&'static str>,
    pub(super) file_uri: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct Call<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    name: &'a str,
    args: Cow<'a, RawValue>,
}

#[derive(Debug, Serialize)]
pub(super) struct Response<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) response: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) parts: Vec<Out<'a>>,
}

impl<'a> Out<'a> {
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    pub(super) fn thought(text: &'a str) -> Self {
        Self { thought: true, ..Self::text(text) }
    }

    pub(super) fn call(id: &'a str, name: &'a str, arguments: &'a str) -> Self {
        let call = Call { id, name, args: object(arguments) };
        Self { function_call: Some(call), ..Self::default() }
    }

    pub(super) fn blob(media_type: &'a str, data: &'a str) -> Self {
        let blob = Blob { mime_type: media_type.into(), data: data.into() };
        Self { inline_data: Some(blob), ..Self::default() }
    }

    pub(super) fn signed(mut self, signature: Option<Cow<'a, str>>) -> Self {
        self.thought_signature = signature;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anothers_state_is_bytes_in_base64_whichever_alphabet_it_comes_back_in() {
        let own = open("CiQB+/8=");
        assert_eq!(
            (own.vendor, own.data.as_str(), sealed(&own).as_ref()),
            (Vendor::Google, "CiQB+/8=", "CiQB+/8=")
        );
        let state = Opaque { id: Some("rs_1".to_owned()), ..Opaque::new(Vendor::OpenAi, "gAAA\u{e9}?>") };
        let wire = sealed(&state).into_owned();
        assert!(STANDARD.decode(&wire).is_ok());
        let url_safe = wire.replace('+', "-").replace('/', "_");
        for text in [&wire, &url_safe, url_safe.trim_end_matches('=')] {
            assert_eq!(open(text), state, "{text}");
        }
    }
}
