//! A stream that goes on without whoever looks on. When the way to it breaks, or whoever makes it ends, it is taken up
//! again where it was, wherever it goes on: what ends such a stream is its own last event.

use std::{pin::Pin, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use weir_error::{Code, Error, require_scope};
use weir_llm::{Dialect, Follower, responses};
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
/// No empty line after it: that ends an event, and OpenAI's Python SDK takes one without data for an event once it has
/// seen an `id`.
const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n");
/// Longest time without the stream after which the client is told, by the end of the connection.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(200);
/// Longest wait for the head of a stream that is asked for: it comes before anything is looked up.
const ASK: Duration = Duration::from_secs(10);

type Again = Pin<Box<dyn Future<Output = Result<Frames, Error>> + Send>>;

struct Attached {
    client: ResponsesClient<Transport>,
    ctx: RequestContext,
    id: String,
    /// The number of the last event that was passed on.
    after: Option<u64>,
    frames: Option<Frames>,
    /// The way back, while there are none. It goes on between two signs of life.
    again: Option<Again>,
    /// Since when there are none.
    lost: Option<Instant>,
    /// Should we have to end the stream.
    follower: Follower,
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
    let permit = house.admit(asked, &grant, 0)?;
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
    let mut response = watch(house, ctx, held, begun.id, Looks { after: None, pays: true }).await?;
    answer::served(&head, None, response.headers_mut());
    Ok(response)
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
        again: None,
        lost: None,
        follower: Follower::new(Dialect::Responses),
        keep_alive: house.config.keep_alive,
        ended: false,
        pays,
        held,
        _streaming: house.streams.enter(),
    };
    // Now, so that what is not there is said by the status.
    attached.frames = Some(ask(attached.client.clone(), &attached.ctx, attached.request()).await?);
    let events = stream::unfold(attached, |mut attached| async move {
        attached.next().await.map(|piece| (Ok::<_, Error>(piece), attached))
    });
    *response.body_mut() = Body::from_stream(events);
    Ok(response)
}

impl Attached {
    fn request(&self) -> AttachResponseRequest {
        AttachResponseRequest { id: self.id.clone(), starting_after: self.after }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            if self.frames.is_none() && self.again.is_none() {
                self.again = Some(self.way_back());
            }
            if let Some(again) = &mut self.again {
                match timeout(self.keep_alive, again).await {
                    Ok(Ok(frames)) => (self.again, self.frames) = (None, Some(frames)),
                    Ok(Err(error)) => return Some(self.fail(&error)),
                    Err(_) => return Some(KEEP_ALIVE),
                }
            }
            let Some(frames) = &mut self.frames else { continue };
            match timeout(self.keep_alive, frames.message()).await {
                Ok(Ok(Some(CompleteFrame { frame: Some(Frame::Data(data)) }))) => {
                    self.lost = None;
                    self.after = last_id(&data.bytes).or(self.after);
                    self.follower.observe(&data.bytes);
                    return Some(data.bytes);
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
                    if is_settled(&error) {
                        return Some(self.fail(&error));
                    }
                    tracing::info!(error = error.chain(), "the way to a response broke, taking it up again");
                    self.frames = None;
                }
                Err(_) => {
                    // It is silent, and there.
                    self.lost = None;
                    return Some(KEEP_ALIVE);
                }
            }
        }
    }

    /// Takes the stream up where it was.
    fn way_back(&mut self) -> Again {
        let since = *self.lost.get_or_insert_with(Instant::now);
        let (client, ctx, request) = (self.client.clone(), self.ctx.clone(), self.request());
        Box::pin(async move {
            let way = async {
                loop {
                    sleep(RETRY).await;
                    match ask(client.clone(), &ctx, request.clone()).await {
                        Err(error) if !is_settled(&error) => {}
                        settled => return settled,
                    }
                }
            };
            let lost = |_| Err(Error::unavailable("the way to the response is lost"));
            timeout_at(since + PATIENCE, way).await.unwrap_or_else(lost)
        })
    }

    /// The stream's last event: the response may have ended well, but nobody can tell.
    fn fail(&mut self, error: &Error) -> Bytes {
        self.ended = true;
        tracing::info!(
            error = error.chain(),
            response.id = self.id,
            "a response can't be looked on any longer"
        );
        // Who has seen nothing of it yet hears whose end this is.
        let response = responses::queued(&self.id, "", 0, b"{}");
        let mut known = String::from("event: response.queued\ndata: {");
        if let Some(after) = self.after {
            known.push_str(&format!("\"sequence_number\":{after},"));
        }
        known.push_str(&format!("\"response\":{}}}\n\n", response.get()));
        self.follower.observe(known.as_bytes());
        self.follower.fail(error)
    }
}

async fn ask(
    mut client: ResponsesClient<Transport>,
    ctx: &RequestContext,
    request: AttachResponseRequest,
) -> Result<Frames, Error> {
    let asked = async {
        let mut frames = client.attach(weir_rpc::request(ctx, request)).await?.into_inner();
        match frames.message().await?.and_then(|first| first.frame) {
            Some(Frame::Head(_)) => Ok(frames),
            _ => Err(Error::new(Code::Unavailable, "an answer without a head")),
        }
    };
    let late = |_| Err(Error::unavailable("the response is not there in time"));
    timeout(ASK, asked).await.unwrap_or_else(late)
}

/// Gone, or nobody's to see: no time changes that.
fn is_settled(error: &Error) -> bool {
    (400..500).contains(&error.code().http().as_u16()) && error.retry_after().is_none()
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
