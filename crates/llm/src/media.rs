//! Bytes of images, sounds and documents as clients write them.

use crate::canonical::{Content, Media, Part, Request, Source};

/// All in the standard alphabet, padded: Google's SDK for Python writes the other one, and no vendor but Google reads it.
pub(crate) fn standard(request: &mut Request) {
    request.messages.iter_mut().flat_map(|message| &mut message.parts).for_each(of_part);
}

fn of_part(part: &mut Part) {
    match &mut part.content {
        Content::Image(Media { source: Source::Data { data, .. }, .. })
        | Content::Audio(Media { source: Source::Data { data, .. }, .. })
        | Content::File(Media { source: Source::Data { data, .. }, .. }) => {
            if let Some(mended) = mended(data) {
                *data = mended;
            }
        }
        Content::ToolResult(result) => result.parts.iter_mut().for_each(of_part),
        _ => {}
    }
}

/// `None` where nothing is to be mended, or can be.
fn mended(data: &str) -> Option<String> {
    let url_safe = memchr::memchr2(b'-', b'_', data.as_bytes()).is_some();
    if !url_safe && data.len().is_multiple_of(4) {
        return None;
    }
    let mut mended = if url_safe { data.replace('-', "+").replace('_', "/") } else { data.to_owned() };
    mended.truncate(mended.trim_end_matches('=').len());
    let missing = mended.len().next_multiple_of(4) - mended.len();
    mended.push_str(["", "=", "=="].get(missing)?);
    Some(mended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_alphabet_padded_or_not_becomes_the_standard_one() {
        for (said, meant) in [
            ("-_-_", Some("+/+/")),
            ("-_8", Some("+/8=")),
            ("-_8=", Some("+/8=")),
            ("_w", Some("/w==")),
            ("AAE", Some("AAE=")),
            ("AA", Some("AA==")),
            ("AAAA", None),
            ("+/8=", None),
            ("", None),
            // No base64: whoever gets it says so.
            ("AAAAA", None),
        ] {
            assert_eq!(mended(said).as_deref(), meant, "{said}");
        }
    }
}
