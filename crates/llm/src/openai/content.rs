//! Content parts of OpenAI's messages.

use std::borrow::Cow;

use serde_json::value::RawValue;
use weir_error::Error;

use crate::{
    canonical::{Content, Losses, Media, Opaque, Part, Source},
    members::{Members, string, wrong},
    responses::content_part,
};

/// A string, or an array of parts; nothing for null.
pub(super) fn parts(from: &mut Members<'_>, name: &str, losses: &mut Losses) -> Result<Vec<Part>, Error> {
    let index = |at: &str, i| format!("{at}[{i}]");
    from.parts(name, "a string or an array of parts", index, |raw, path| part(raw, path, losses))
}

pub(super) fn part(raw: &RawValue, path: &str, losses: &mut Losses) -> Result<Part, Error> {
    let mut from = Members::of(raw, path)?;
    let kind: Cow<'_, str> = from.need("type")?;
    // Not OpenAI's, but what its clients write for Anthropic's models.
    let cache = from.raw("cache_control").map(ToOwned::to_owned);
    let content = match kind.as_ref() {
        // The others as Responses has them; what was found on the way to it is for people to read.
        "text" | "input_text" | "output_text" => {
            from.ignore(&["annotations", "logprobs"]);
            Content::Text(from.need("text")?)
        }
        "input_image" | "input_file" => return content_part(raw, path, losses),
        "refusal" => Content::Refusal(from.need("refusal")?),
        "image_url" => Content::Image(image(&mut from)?),
        "input_audio" => {
            let at = from.at("input_audio");
            let mut audio = from.object("input_audio")?.ok_or_else(|| wrong(&at, "an object"))?;
            let format: String = audio.need("format")?;
            let source = Source::Data { media_type: format!("audio/{format}"), data: audio.need("data")? };
            Content::Audio(Media { source, name: None, detail: None })
        }
        "file" => {
            let at = from.at("file");
            let mut file = from.object("file")?.ok_or_else(|| wrong(&at, "an object"))?;
            let name: Option<String> = file.take("filename")?;
            let source = match (file.take::<String>("file_data")?, file.take::<String>("file_id")?) {
                (Some(data), _) => of_file(data, name.as_deref()),
                (None, Some(id)) => Source::Id(id),
                (None, None) => return Err(wrong(&file.at("file_data"), "a string")),
            };
            Content::File(Media { source, name, detail: None })
        }
        other => return Ok(Content::Foreign { kind: other.to_owned(), value: raw.to_owned() }.into()),
    };
    for (name, _) in from.rest() {
        losses.dropped(&format!("messages.content.{name}"));
    }
    Ok(Part { cache, ..content.into() })
}

fn image(from: &mut Members<'_>) -> Result<Media, Error> {
    let at = from.at("image_url");
    // Some say it as Responses does.
    if let Some(url) = from.peek("image_url").and_then(string) {
        from.ignore(&["image_url"]);
        return Ok(Media { source: by_url(url), name: None, detail: from.take("detail")? });
    }
    let mut image = from.object("image_url")?.ok_or_else(|| wrong(&at, "an object"))?;
    Ok(Media { source: by_url(image.need("url")?), name: None, detail: image.take("detail")? })
}

/// A `data:` URL holds what it names.
pub(crate) fn by_url(url: String) -> Source {
    let data = url.strip_prefix("data:").and_then(|rest| rest.split_once(','));
    match data.and_then(|(head, data)| Some((head.strip_suffix(";base64")?, data))) {
        Some((media_type, data)) => Source::Data { media_type: media_type.to_owned(), data: data.to_owned() },
        None => Source::Url(url),
    }
}

/// What a file's `file_data` holds: a `data:` URL, or its Base64 alone, whose type its name tells.
pub(crate) fn of_file(data: String, name: Option<&str>) -> Source {
    match by_url(data) {
        Source::Url(data) if !data.contains(':') => {
            Source::Data { media_type: media_type(name).to_owned(), data }
        }
        source => source,
    }
}

fn media_type(name: Option<&str>) -> &'static str {
    let extension = name.and_then(|name| name.rsplit_once('.')).map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "txt" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "json" => "application/json",
        "html" => "text/html",
        _ => "application/pdf",
    }
}

/// OpenAI's word for what a sound is in.
pub(crate) fn audio_format(media_type: &str) -> &str {
    let kind = media_type.split(';').next().unwrap_or_default().trim();
    match kind.strip_prefix("audio/").unwrap_or(kind) {
        "mpeg" | "mpeg3" | "x-mpeg" | "x-mp3" => "mp3",
        "x-wav" | "wave" | "vnd.wave" | "x-pn-wav" => "wav",
        "x-flac" => "flac",
        format => format,
    }
}

/// An empty text beside thoughts or calls says nothing, and not every provider takes it.
pub(super) fn without_empty(parts: &mut Vec<Part>) {
    if parts.len() > 1 {
        parts.retain(|p| p.opaque.is_some() || !matches!(&p.content, Content::Text(text) if text.is_empty()));
    }
}

/// State of what was said, on the last text; on an empty one if there is none.
pub(super) fn prove_text(parts: &mut Vec<Part>, opaque: Opaque) {
    match parts.iter_mut().rfind(|p| matches!(p.content, Content::Text(_))) {
        Some(text) => text.opaque = Some(opaque),
        None => parts.push(Part::text("").with_opaque(Some(opaque))),
    }
}
