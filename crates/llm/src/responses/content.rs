//! Content parts of messages and of tools' results.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use weir_error::Error;

use crate::{
    canonical::{Content, Losses, Media, Opaque, Part, Source, Vendor},
    members::{Members, wrong},
    openai::{by_url, of_file},
};

/// What an item, a part or a tool is; empty when it doesn't say.
pub(super) fn kind(raw: &RawValue) -> Cow<'_, str> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, rename = "type", default)]
        kind: Cow<'a, str>,
    }
    serde_json::from_str::<Typed<'_>>(raw.get()).map(|typed| typed.kind).unwrap_or_default()
}

/// A string, or an array of parts.
pub(super) fn parts(from: &mut Members<'_>, name: &str, losses: &mut Losses) -> Result<Vec<Part>, Error> {
    let index = |at: &str, i| format!("{at}[{i}]");
    from.parts(name, "a string or an array of parts", index, |raw, path| part(raw, path, losses))
}

pub(crate) fn part(raw: &RawValue, path: &str, losses: &mut Losses) -> Result<Part, Error> {
    let mut from = Members::of(raw, path)?;
    let kind: Cow<'_, str> = from.need("type")?;
    let cache = from.raw("cache_control").map(ToOwned::to_owned);
    let opaque = extra(&mut from)?;
    let content = match kind.as_ref() {
        "input_text" | "output_text" | "text" => {
            // What was found on the way to it is for people to read.
            from.ignore(&["annotations", "logprobs"]);
            Content::Text(from.need("text")?)
        }
        "refusal" => Content::Refusal(from.need("refusal")?),
        "input_image" => Content::Image(image(&mut from)?),
        "input_file" => Content::File(file(&mut from)?),
        "input_audio" => {
            let at = from.at("input_audio");
            let mut audio = from.object("input_audio")?.ok_or_else(|| wrong(&at, "an object"))?;
            let format: String = audio.need("format")?;
            let source = Source::Data { media_type: format!("audio/{format}"), data: audio.need("data")? };
            Content::Audio(Media { source, name: None, detail: None })
        }
        other => return Ok(Content::Foreign { kind: other.to_owned(), value: raw.to_owned() }.into()),
    };
    for (name, _) in from.rest() {
        losses.dropped(&format!("input.content.{name}"));
    }
    Ok(Part { cache, opaque, ..content.into() })
}

/// A thought's signature on what is no thought.
pub(super) fn extra(from: &mut Members<'_>) -> Result<Option<Opaque>, Error> {
    let Some(mut extra) = from.object("extra_content")? else { return Ok(None) };
    let Some(mut google) = extra.object("google")? else { return Ok(None) };
    let signature: Option<String> = google.take("thought_signature")?;
    Ok(signature.filter(|s| !s.is_empty()).map(|s| Opaque::open(&s, Vendor::Google)))
}

fn image(from: &mut Members<'_>) -> Result<Media, Error> {
    let source = match (from.take::<String>("image_url")?, from.take::<String>("file_id")?) {
        (Some(url), _) => by_url(url),
        (None, Some(id)) => Source::Id(id),
        (None, None) => return Err(wrong(&from.at("image_url"), "a string")),
    };
    Ok(Media { source, name: None, detail: from.take("detail")? })
}

fn file(from: &mut Members<'_>) -> Result<Media, Error> {
    let name: Option<String> = from.take("filename")?;
    let data = from.take::<String>("file_data")?;
    let source = match (data, from.take("file_url")?, from.take("file_id")?) {
        (Some(data), _, _) => of_file(data, name.as_deref()),
        (None, Some(url), _) => Source::Url(url),
        (None, None, Some(id)) => Source::Id(id),
        (None, None, None) => return Err(wrong(&from.at("file_data"), "a string")),
    };
    Ok(Media { source, name, detail: from.take("detail")? })
}
