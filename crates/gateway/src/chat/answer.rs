//! Heads, and answers that go out in one piece.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use weir_access::Permit;
use weir_error::{Code, Error};
use weir_llm::prices;
use weir_proto::chat::{Head, Usage, complete_frame::Frame};

use super::{Frames, Held};
use crate::{edge::Answer, reply};

const PROVIDER: HeaderName = HeaderName::from_static("x-weir-provider");
/// In US dollars.
const COST: HeaderName = HeaderName::from_static("x-weir-cost-usd");
const MODEL: HeaderName = HeaderName::from_static("x-weir-model");

/// Collects the answer, settles, and only then says where the tenant stands.
pub(super) async fn whole(head: &Head, mut frames: Frames, mut held: Held, max: usize) -> Answer {
    let mut body = Collected::default();
    let mut cost = None;
    while let Some(frame) = frames.message().await? {
        match frame.frame {
            Some(Frame::Data(data)) => body.push(data.bytes, max)?,
            Some(Frame::End(end)) => {
                settle(&mut held.permit, end.usage);
                cost = end.cost_nano_usd;
            }
            Some(Frame::Head(_)) | None => {}
        }
    }
    let mut response = reply::bytes(status(head), content_type(head, reply::JSON), body.into_bytes());
    served(head, cost, response.headers_mut());
    reply::rate_headers(response.headers_mut(), &held.permit.headers());
    Ok(response)
}

/// Pieces of a body; a single one is not copied.
#[derive(Debug, Default)]
pub(super) struct Collected {
    first: Bytes,
    rest: BytesMut,
}

impl Collected {
    /// # Errors
    /// `UpstreamFailed` beyond `max` bytes.
    pub(super) fn push(&mut self, piece: Bytes, max: usize) -> Result<(), Error> {
        if self.first.len() + self.rest.len() + piece.len() > max {
            return Err(Error::new(Code::UpstreamFailed, "the provider's answer is too large"));
        }
        if self.first.is_empty() && self.rest.is_empty() {
            self.first = piece;
            return Ok(());
        }
        if self.rest.is_empty() {
            self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.rest.extend_from_slice(&piece);
        Ok(())
    }

    pub(super) fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.freeze() }
    }
}

pub(super) fn settle(permit: &mut Permit, usage: Option<Usage>) {
    if let Some(usage) = usage {
        permit.settle(usage.input_tokens.saturating_add(usage.output_tokens));
    }
}

pub(super) fn is_event_stream(head: &Head) -> bool {
    head.content_type.starts_with("text/event-stream")
}

pub(super) fn status(head: &Head) -> StatusCode {
    u16::try_from(head.status)
        .ok()
        .and_then(|s| StatusCode::from_u16(s).ok())
        .unwrap_or(StatusCode::BAD_GATEWAY)
}

pub(super) fn content_type(head: &Head, fallback: HeaderValue) -> HeaderValue {
    HeaderValue::from_str(&head.content_type).ok().filter(|v| !v.is_empty()).unwrap_or(fallback)
}

/// Who served, and what the provider says to SDKs about retrying.
pub(super) fn head_headers(head: &Head, headers: &mut HeaderMap) {
    for (name, value) in [(PROVIDER, &head.provider), (MODEL, &head.model)] {
        if let Ok(value) = HeaderValue::from_str(value)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
    for (name, value) in &head.headers {
        let name = name.to_ascii_lowercase();
        let passes = matches!(name.as_str(), "retry-after" | "retry-after-ms" | "x-should-retry")
            || name.starts_with("x-weir-");
        if let (true, Ok(name), Ok(value)) =
            (passes, HeaderName::try_from(name.as_str()), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
    }
}

/// Who served an answer, and what it cost.
pub(crate) fn served(head: &Head, cost_nano_usd: Option<u64>, headers: &mut HeaderMap) {
    head_headers(head, headers);
    cost_header(headers, cost_nano_usd);
}

/// What the answer cost; nothing where that is not known.
fn cost_header(headers: &mut HeaderMap, cost_nano_usd: Option<u64>) {
    let cost = cost_nano_usd.and_then(|cost| HeaderValue::from_str(&prices::usd(cost)).ok());
    if let Some(cost) = cost {
        headers.insert(COST, cost);
    }
}

/// Headers of an event stream: nobody may store or hold it back on the way.
pub(super) fn stream_headers(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_put_together_within_the_bound() {
        let mut body = Collected::default();
        for piece in ["", "ab", "", "c", "de"] {
            body.push(Bytes::from_static(piece.as_bytes()), 5).unwrap();
        }
        assert_eq!(body.push(Bytes::from_static(b"f"), 5).unwrap_err().code(), Code::UpstreamFailed);
        assert_eq!(body.into_bytes(), "abcde");
        let one = Bytes::from(vec![7u8; 10]);
        let mut body = Collected::default();
        body.push(one.clone(), 10).unwrap();
        assert_eq!(body.into_bytes().as_ptr(), one.as_ptr());
    }

    #[test]
    fn only_headers_meant_for_clients_pass() {
        let mut head =
            Head { status: 200, provider: "sim".into(), model: "a\nb".into(), ..Default::default() };
        for (name, value) in
            [("Retry-After", "3"), ("set-cookie", "x"), ("x-weir-cache", "miss"), ("x-request-id", "theirs")]
        {
            head.headers.insert(name.into(), value.into());
        }
        let mut headers = HeaderMap::new();
        head_headers(&head, &mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["retry-after", "x-weir-cache", "x-weir-provider"]);
    }

    #[test]
    fn a_status_that_is_none_is_a_bad_gateway() {
        for bad in [0, 99, 1_000, 70_000] {
            assert_eq!(status(&Head { status: bad, ..Default::default() }), StatusCode::BAD_GATEWAY);
        }
        assert_eq!(status(&Head { status: 429, ..Default::default() }), StatusCode::TOO_MANY_REQUESTS);
    }
}
