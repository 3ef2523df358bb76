//! Telling a stream's client what it cost, where the dialect leaves room.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde::Serialize;

use super::usd;

/// What clients are told besides what they asked for.
#[derive(Debug, Serialize)]
struct Told<'a> {
    cost_usd: String,
    provider: &'a str,
    model: &'a str,
}

/// The same events, the last of which that tells usage with a member `weir` more. OpenAI's chunk with the usage is the
/// one event of a chat that strict clients take members in which they don't know.
#[must_use]
pub fn tell(events: &Bytes, cost_nano_usd: u64, provider: &str, model: &str) -> Bytes {
    let told = Told { cost_usd: usd(cost_nano_usd), provider, model };
    let place = memmem::rfind(events, b"\"usage\":{").and_then(|at| {
        let line = memchr::memchr(b'\n', events.get(at..)?).map_or(events.len(), |end| at + end);
        memchr::memrchr(b'}', events.get(at..line)?).map(|end| at + end)
    });
    match (place, serde_json::to_vec(&told)) {
        (Some(place), Ok(told)) => {
            let (before, after) = events.split_at(place);
            let mut more = BytesMut::with_capacity(events.len() + told.len() + 16);
            for piece in [before, b",\"weir\":", &told, after] {
                more.extend_from_slice(piece);
            }
            more.freeze()
        }
        _ => events.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_chunk_tells_the_cost() {
        let done = "data: [DONE]\n\n";
        let chunk =
            "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"details\":{}}}\r\n\r\n";
        let told = tell(&Bytes::from(format!("{chunk}{done}")), 1_500, "a\"b", "m");
        assert_eq!(
            told,
            "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"details\":{}},\
             \"weir\":{\"cost_usd\":\"0.0000015\",\"provider\":\"a\\\"b\",\"model\":\"m\"}}\r\n\r\ndata: [DONE]\n\n"
        );
        for untouched in [done, "data: {\"usage\":null}\n\n", ""] {
            assert_eq!(tell(&untouched.into(), 1, "p", "m"), untouched);
        }
    }
}
