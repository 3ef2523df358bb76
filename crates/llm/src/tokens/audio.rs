//! How long a sound is, and what it costs in tokens: vendors count by the second.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// A header and what may stand before the sound.
const LOOK_AT: usize = 4 * 1024;
/// Bytes a second where nothing says how many: MP3 at 128 kbit/s.
const USUAL_RATE: u64 = 16_000;
/// OpenAI's, of input: <https://developers.openai.com/api/docs/guides/realtime-costs>.
pub const OPENAI_A_SECOND: u64 = 10;

/// Of a sound in Base64, rounded up.
#[must_use]
pub fn seconds(data: &str) -> u64 {
    let bytes = data.len() as u64 / 4 * 3;
    let end = data.len().min(LOOK_AT) / 4 * 4;
    let start = data.get(..end).and_then(|start| STANDARD.decode(start).ok()).unwrap_or_default();
    bytes.div_ceil(wav(&start).unwrap_or(USUAL_RATE))
}

/// Bytes a second, as the header of a WAV says.
fn wav(bytes: &[u8]) -> Option<u64> {
    (bytes.get(..4)? == b"RIFF" && bytes.get(8..16)? == b"WAVEfmt ").then_some(())?;
    let rate = u32::from_le_bytes(bytes.get(28..32)?.try_into().ok()?);
    (rate > 0).then_some(rate.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sounds_are_as_long_as_their_headers_say() {
        let mut sound =
            [&b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0"[..], &24_000u32.to_le_bytes()].concat();
        sound.extend(48_000u32.to_le_bytes());
        sound.resize(480_000, 0);
        assert_eq!(seconds(&STANDARD.encode(&sound)), 10);
        assert_eq!(seconds(&STANDARD.encode(vec![7; 32_001])), 3);
        assert_eq!((seconds(""), seconds("not base64!!")), (0, 1));
    }
}
