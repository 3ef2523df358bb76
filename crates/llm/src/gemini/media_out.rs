//! Images, sounds and documents of a request as Google takes them.

use super::part::{FileData, Out};
use crate::canonical::{Content, Losses, Media, Source};

pub(super) fn write<'a>(content: &'a Content, losses: &mut Losses) -> Option<Out<'a>> {
    match content {
        Content::Image(media) => {
            if media.detail.as_deref().is_some_and(|d| d != "auto") {
                losses.dropped("messages.content.image_url.detail");
            }
            source(media, "image", losses)
        }
        Content::Audio(media) => source(media, "input_audio", losses),
        Content::File(media) => source(media, "file", losses),
        other => {
            losses.dropped(&format!("messages.content.{}", other.kind()));
            None
        }
    }
}

fn source<'a>(media: &'a Media, kind: &str, losses: &mut Losses) -> Option<Out<'a>> {
    match &media.source {
        Source::Data { media_type, data } => Some(Out::blob(media_type, data)),
        Source::Url(url) => {
            let mime_type = by_ending(url, kind);
            Some(Out { file_data: Some(FileData { mime_type, file_uri: url }), ..Out::default() })
        }
        Source::Text(text) => {
            losses.emulated("messages.content.document");
            Some(Out::text(text))
        }
        Source::Id(_) => {
            losses.dropped(&format!("messages.content.{kind}.file_id"));
            None
        }
    }
}

/// What a URL names, by its ending: Google wants to be told.
fn by_ending(url: &str, kind: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let ending = path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    Some(match ending.as_str() {
        "png" => "image/png",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "jpg" | "jpeg" => "image/jpeg",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "wav" => "audio/wav",
        "mp3" => "audio/mp3",
        _ if kind == "image" => "image/jpeg",
        _ => return None,
    })
}
