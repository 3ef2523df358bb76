//! What images cost in tokens, by the rule that each vendor documents. The size is read from the image itself.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Sizes stand near the beginning; a JPEG may have its camera's notes before it.
const LOOK_AT: usize = 256 * 1024;
/// Not even a vendor takes larger ones.
const MAX_SIDE: u32 = 100_000;

/// In pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

/// What is taken for an image whose size can't be seen.
pub const UNSEEN: Size = Size { width: 1_024, height: 1_024 };

/// Of an image in Base64, or of a `data:` URL with one. `None` for what is somewhere else, or no image.
#[must_use]
pub fn size(data: &str) -> Option<Size> {
    let data = match data.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,")?.1,
        None => data,
    };
    let end = data.len().min(LOOK_AT) / 4 * 4;
    let start = STANDARD.decode(data.get(..end)?).ok()?;
    let size = png(&start).or_else(|| gif(&start)).or_else(|| webp(&start)).or_else(|| jpeg(&start))?;
    let sound = |side: u32| (1..=MAX_SIDE).contains(&side);
    (sound(size.width) && sound(size.height)).then_some(size)
}

fn big(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    Some(bytes.get(at..at + length)?.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
}

fn little(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    Some(bytes.get(at..at + length)?.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b)))
}

fn png(bytes: &[u8]) -> Option<Size> {
    bytes.starts_with(b"\x89PNG\r\n\x1a\n").then_some(())?;
    Some(Size { width: big(bytes, 16, 4)?, height: big(bytes, 20, 4)? })
}

fn gif(bytes: &[u8]) -> Option<Size> {
    bytes.starts_with(b"GIF8").then_some(())?;
    Some(Size { width: little(bytes, 6, 2)?, height: little(bytes, 8, 2)? })
}

fn webp(bytes: &[u8]) -> Option<Size> {
    (bytes.get(..4)? == b"RIFF" && bytes.get(8..12)? == b"WEBP").then_some(())?;
    match bytes.get(12..16)? {
        b"VP8X" => Some(Size { width: little(bytes, 24, 3)? + 1, height: little(bytes, 27, 3)? + 1 }),
        b"VP8L" => {
            let bits = little(bytes, 21, 4)?;
            Some(Size { width: (bits & 0x3fff) + 1, height: (bits >> 14 & 0x3fff) + 1 })
        }
        b"VP8 " => {
            Some(Size { width: little(bytes, 26, 2)? & 0x3fff, height: little(bytes, 28, 2)? & 0x3fff })
        }
        _ => None,
    }
}

/// The first frame's header is what counts; everything before it says how long it is.
fn jpeg(bytes: &[u8]) -> Option<Size> {
    bytes.starts_with(b"\xff\xd8").then_some(())?;
    let mut at = 2;
    loop {
        let marker = loop {
            match (bytes.get(at)?, bytes.get(at + 1)?) {
                (0xff, 0xff) => at += 1,
                (0xff, marker) => break *marker,
                _ => return None,
            }
        };
        match marker {
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xcf => {
                return Some(Size { width: big(bytes, at + 7, 2)?, height: big(bytes, at + 5, 2)? });
            }
            0x01 | 0xd0..=0xd8 => {
                at += 2;
                continue;
            }
            _ => {}
        }
        at += 2 + usize::try_from(big(bytes, at + 2, 2)?.max(2)).ok()?;
    }
}

/// OpenAI's: <https://developers.openai.com/api/docs/guides/images-vision#calculating-costs>. Models that are newer than
/// what is told there are taken for the family they are of.
#[must_use]
pub fn openai(model: &str, size: Size, low_detail: bool) -> u64 {
    let model = model.rsplit('/').next().unwrap_or(model);
    let is = |family: &str| model.starts_with(family);
    let patched = |percent: u64| (patches(size, 1_536) * percent).div_ceil(100);
    match () {
        () if is("gpt-4.1-mini") || is("gpt-5-mini") => patched(162),
        () if is("gpt-4.1-nano") || is("gpt-5-nano") => patched(246),
        () if is("o4-mini") => patched(172),
        () => {
            let (base, tile) = match () {
                () if is("gpt-4o-mini") => (2_833, 5_667),
                () if is("gpt-5") || is("gpt-6") => (70, 140),
                () if is("o1") || is("o3") => (75, 150),
                () if is("computer-use") => (65, 129),
                () => (85, 170),
            };
            if low_detail { base } else { base + tile * tiles(size) }
        }
    }
}

/// Of 512 pixels a side, once it is fitted into 2,048 and its shorter side into 768.
fn tiles(size: Size) -> u64 {
    let (mut long, mut short) = sides(size);
    if long > 2_048 {
        (short, long) = (scaled(short, 2_048, long), 2_048);
    }
    if short > 768 {
        (long, short) = (scaled(long, 768, short), 768);
    }
    long.div_ceil(512) * short.div_ceil(512)
}

/// Of 32 pixels a side; an image with more than the most is made smaller until it has no more.
fn patches(size: Size, most: u64) -> u64 {
    let (width, height) = (u64::from(size.width), u64::from(size.height));
    let all = width.div_ceil(32) * height.div_ceil(32);
    if all <= most {
        return all;
    }
    // The largest whole number of patches across whose proportion keeps within the most.
    let across = (most * width / height.max(1)).isqrt().max(1);
    (across * (across * height / width.max(1)).max(1)).min(most)
}

/// Anthropic's: <https://platform.claude.com/docs/en/build-with-claude/vision#evaluate-image-size>.
#[must_use]
pub fn anthropic(size: Size) -> u64 {
    const LONGEST: u64 = 1_568;
    const MOST: u64 = 1_600;
    let (long, short) = sides(size);
    let (long, short) = if long > LONGEST { (LONGEST, scaled(short, LONGEST, long)) } else { (long, short) };
    (long * short).div_ceil(750).clamp(1, MOST)
}

/// Google's: <https://ai.google.dev/gemini-api/docs/tokens#multimodal-tokens>.
#[must_use]
pub fn gemini(size: Size) -> u64 {
    const TILE: u64 = 258;
    let (long, short) = sides(size);
    if long <= 384 {
        return TILE;
    }
    let unit = (short * 2 / 3).clamp(256, 768);
    TILE * long.div_ceil(unit) * short.div_ceil(unit)
}

/// The longer one first.
fn sides(size: Size) -> (u64, u64) {
    let (width, height) = (u64::from(size.width), u64::from(size.height));
    (width.max(height), width.min(height))
}

fn scaled(side: u64, to: u64, from: u64) -> u64 {
    (side * to).div_ceil(from.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    #[test]
    fn sizes_are_read_from_the_images() {
        let png = [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &[0, 0, 4, 0, 0, 0, 3, 0], &[8, 6]].concat();
        let gif = [&b"GIF89a"[..], &[0x40, 1, 0xf0, 0]].concat();
        let jpeg = [
            &b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"[..],
            b"\xff\xff\xdb\x00\x03\0",
            b"\xff\xc2\x00\x11\x08\x01\xe0\x02\x80\x03",
        ]
        .concat();
        let vp8x =
            [&b"RIFF\0\0\0\0WEBPVP8X"[..], &[10, 0, 0, 0, 0, 0, 0, 0], &[0x7f, 7, 0], &[0x37, 4, 0]].concat();
        for (bytes, expected) in
            [(png, of(1_024, 768)), (gif, of(320, 240)), (jpeg, of(640, 480)), (vp8x, of(1_920, 1_080))]
        {
            let mut bytes = bytes;
            bytes.extend([0; 64]);
            let data = STANDARD.encode(&bytes);
            assert_eq!(size(&data), Some(expected));
            assert_eq!(size(&format!("data:image/x;base64,{data}")), Some(expected));
        }
        for none in ["", "https://example.com/a.png", "data:image/png,raw", "AAAA", "/9j/", "not base64!"] {
            assert_eq!(size(none), None, "{none}");
        }
    }

    /// The examples are the vendors' own.
    #[test]
    fn images_count_as_the_vendors_say() {
        assert_eq!(openai("gpt-4o", of(1_024, 1_024), false), 765);
        assert_eq!(openai("gpt-4o", of(2_048, 4_096), false), 1_105);
        assert_eq!(openai("gpt-4o", of(4_096, 8_192), true), 85);
        assert_eq!(openai("gpt-4.1-mini", of(1_024, 1_024), false), 1_659);
        assert_eq!(patches(of(1_024, 1_024), 1_536), 1_024);
        assert_eq!(patches(of(1_800, 2_400), 1_536), 1_452);
        assert_eq!(anthropic(of(200, 200)), 54);
        assert_eq!(anthropic(of(1_000, 1_000)), 1_334);
        assert_eq!(anthropic(of(10_000, 10_000)), 1_600);
        assert_eq!(gemini(of(384, 200)), 258);
        assert_eq!(gemini(of(960, 540)), 258 * 6);
    }
}
