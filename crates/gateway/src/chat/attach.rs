//! A stream that goes on without whoever looks on. When the way to it breaks, or whoever makes it ends, it is taken up
//! again where it was, wherever it goes on: what ends such a stream is its own last event.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use tokio::time::{Instant, sleep, timeout};
use weir_error::{Code, Error, require_scope};
use weir_proto::chat::{
    AttachResponseRequest, CompleteFrame, CompleteRequest, complete_frame::Frame,
    responses_client::ResponsesClient,
};
use weir_rpc::Transport;
use weir_telemetry::StreamGuard;
use weir_types::{RequestContext, scope};

use super::{Frames, Held, Rpc, answer, open};
use crate::{House, asked::Asked, edge::Answer, reply};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");
/// Longest time without the stream after which the client is told, by the end of the connection.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(200);

struct Attached {
    client: ResponsesClient<Transport>,
    ctx: RequestContext,
    id: String,
    /// The number of the last event that was passed on.
    after: Option<u64>,
    frames: Option<Frames>,
    /// Since when there is none.
    lost: Option<Instant>,
    keep_alive: Duration,
    ended: bool,
    /// What it used is charged here, at its end.
    pays: bool,
    held: Held,
    _streaming: StreamGuard,
}

/// `GET /v1/responses/{id}?stream=true`. It costs no tokens: they are charged where it began.
pub(crate) async fn attach(house: &House, asked: &Asked, id: &str, after: Option<u64>) -> Answer {
    let grant = house.tenant_grant(asked).await?;
    let ctx = asked.context(&grant, house.config.stream_timeout);
    require_scope(&ctx, scope::CHAT_WRITE)?;
    let (_, upload) = house.read_body(&grant, Body::empty()).await?;
    let slot = house.access.enter()?;
    let permit = house.access.admit(&grant, 0)?;
    let held = Held { permit, _slot: slot, _upload: upload };
    watch(house, ctx, held, id.to_owned(), Looks { after, pays: false }).await
}

/// A request that runs in the background: begun, and attached to where its client looks on.
///
/// It is charged by what it is expected to use: the whole conversation, which the orchestrator has put together, and
/// `output` tokens. Who looks on to its end pays what it really used.
pub(super) async fn background(
    house: &House,
    ctx: RequestContext,
    mut held: Held,
    message: CompleteRequest,
    output: u64,
) -> Answer {
    let looks_on = message.stream;
    let max = house.config.max_answer.as_usize();
    let message = CompleteRequest { stream: false, ..message };
    let (head, mut frames) = match open(house, &ctx, message, Rpc::Complete).await {
        Ok(opened) => opened,
        Err(error) => return Err(held.failed(error)),
    };
    if head.status != 200 {
        return answer::whole(&head, frames, held, max).await;
    }
    let mut body = answer::Collected::default();
    while let Some(frame) = frames.message().await? {
        match frame.frame {
            Some(Frame::Data(data)) => body.push(data.bytes, max)?,
            Some(Frame::End(end)) => {
                if let Some(expected) = end.usage {
                    held.permit.settle(expected.input_tokens.saturating_add(output));
                }
            }
            Some(Frame::Head(_)) | None => {}
        }
    }
    let body = body.into_bytes();
    if !looks_on {
        let mut response =
            reply::bytes(answer::status(&head), answer::content_type(&head, reply::JSON), body);
        answer::served(&head, None, response.headers_mut());
        reply::rate_headers(response.headers_mut(), &held.permit.headers());
        return Ok(response);
    }
    #[derive(serde::Deserialize)]
    struct Begun {
        id: String,
    }
    let begun: Begun = serde_json::from_slice(&body).map_err(Error::internal)?;
    watch(house, ctx, held, begun.id, Looks { after: None, pays: true }).await
}

struct Looks {
    after: Option<u64>,
    pays: bool,
}

async fn watch(house: &House, ctx: RequestContext, held: Held, id: String, looks: Looks) -> Answer {
    let Looks { after, pays } = looks;
    let client = ResponsesClient::new(house.orchestrator.clone())
        .max_decoding_message_size(house.config.max_answer.as_usize());
    let mut response = Response::new(Body::empty());
    answer::stream_headers(response.headers_mut());
    reply::rate_headers(response.headers_mut(), &held.permit.headers());
    response.headers_mut().insert(header::CONTENT_TYPE, EVENT_STREAM);
    let mut attached = Attached {
        client,
        ctx,
        id,
        after,
        frames: None,
        lost: None,
        keep_alive: house.config.keep_alive,
        ended: false,
        pays,
        held,
        _streaming: house.streams.enter(),
    };
    // Now, so that what is not there is said by the status.
    attached.frames = Some(attached.ask().await?);
    let events = stream::unfold(attached, |mut attached| async move {
        attached.next().await.map(|piece| (piece, attached))
    });
    *response.body_mut() = Body::from_stream(events);
    Ok(response)
}

impl Attached {
    async fn ask(&mut self) -> Result<Frames, Error> {
        let request = AttachResponseRequest { id: self.id.clone(), starting_after: self.after };
        let mut frames = self.client.attach(weir_rpc::request(&self.ctx, request)).await?.into_inner();
        match frames.message().await?.and_then(|first| first.frame) {
            Some(Frame::Head(_)) => Ok(frames),
            _ => Err(Error::new(Code::Unavailable, "an answer without a head")),
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            if self.ended {
                return None;
            }
            let Some(frames) = &mut self.frames else {
                match timeout(self.keep_alive, self.again()).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => {
                        self.ended = true;
                        return Some(Err(error));
                    }
                    Err(_) => return Some(Ok(KEEP_ALIVE)),
                }
            };
            match timeout(self.keep_alive, frames.message()).await {
                Ok(Ok(Some(CompleteFrame { frame: Some(Frame::Data(data)) }))) => {
                    self.lost = None;
                    self.after = last_id(&data.bytes).or(self.after);
                    return Some(Ok(data.bytes));
                }
                Ok(Ok(Some(CompleteFrame { frame: Some(Frame::End(end)) }))) => {
                    self.ended = true;
                    if self.pays {
                        answer::settle(&mut self.held.permit, end.usage);
                    }
                }
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None)) => self.frames = None,
                Ok(Err(status)) => {
                    let error = Error::from(status);
                    tracing::info!(error = error.chain(), "the way to a response broke, taking it up again");
                    self.frames = None;
                }
                Err(_) => return Some(Ok(KEEP_ALIVE)),
            }
        }
    }

    /// Takes the stream up where it was.
    async fn again(&mut self) -> Result<(), Error> {
        let since = *self.lost.get_or_insert_with(Instant::now);
        loop {
            sleep(RETRY).await;
            let error = match self.ask().await {
                Ok(frames) => {
                    self.frames = Some(frames);
                    return Ok(());
                }
                Err(error) => error,
            };
            // Gone, or nobody's to see: no time changes that.
            let settled = (400..500).contains(&error.code().http().as_u16()) && error.retry_after().is_none();
            if settled || since.elapsed() > PATIENCE {
                return Err(error);
            }
        }
    }
}

/// The id of the last event: each has a line of its own for it.
fn last_id(events: &[u8]) -> Option<u64> {
    let lines = events.split(|b| *b == b'\n').rev();
    let mut ids = lines.filter_map(|line| line.strip_prefix(b"id: "));
    std::str::from_utf8(ids.next()?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_id_is_found() {
        let events = b"event: a\nid: 7\ndata: {\"x\":\"id: 9\"}\n\nevent: b\nid: 8\ndata: {}\n\n";
        assert_eq!((last_id(events), last_id(b"data: id: 4\n\n")), (Some(8), None));
    }
}
