//! One chat turn: admitted like a request at the gateway, run by the orchestrator, relayed event by event.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tonic::Streaming;
use weir_access::Permit;
use weir_error::{Code, Error, require_scope};
use weir_llm::{
    openai::ChatView,
    sse::{self, Splitter},
    tokens,
};
use weir_proto::chat::{CompleteFrame, CompleteRequest, Dialect, End, Head, complete_frame::Frame};
use weir_telemetry::Span;
use weir_types::{Deadline, RequestId, TraceContext, scope};

use super::outbound::Outbound;
use crate::{
    Shared,
    caller::Caller,
    metrics::{RealtimeMetrics, TurnOutcome},
    protocol::{ErrorBody, ServerMessage},
};

/// A provider's refusal is text for people; more of it than this is cut off by saying so in its place.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// Whether the session goes on after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    GoOn,
    /// The key was revoked or has expired.
    KeyRefused,
}

pub(crate) struct Turn {
    pub(crate) shared: Arc<Shared>,
    pub(crate) caller: Caller,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) id: String,
    /// An `OpenAI` chat body.
    pub(crate) body: Bytes,
    pub(crate) out: Outbound,
}

/// What ends a turn early: an error of ours, or one a provider worded, already sent.
enum Failure {
    Ours(Error),
    Relayed,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// Counts a turn that is dropped as cancelled.
struct Counted {
    metrics: RealtimeMetrics,
    outcome: TurnOutcome,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.turn(self.outcome);
    }
}

impl Turn {
    /// Sends everything the client hears of this turn. Dropping the future cancels the turn upstream.
    pub(crate) async fn run(self) -> After {
        let mut counted = Counted { metrics: self.shared.metrics.clone(), outcome: TurnOutcome::Cancelled };
        let request_id = RequestId::new();
        let bound = self.shared.config.turn_timeout;
        let ran = timeout(bound, self.answer(&request_id)).await.unwrap_or_else(|_| {
            Err(Error::new(Code::DeadlineExceeded, "the turn took longer than a turn may").into())
        });
        counted.outcome = TurnOutcome::Failed;
        match ran {
            Ok(()) => counted.outcome = TurnOutcome::Done,
            Err(Failure::Relayed) => {}
            Err(Failure::Ours(error)) => {
                tracing::info!(request_id = %request_id, error = error.chain(), "turn failed");
                self.send_error((&error).into()).await;
                if error.code() == Code::InvalidApiKey {
                    return After::KeyRefused;
                }
            }
        }
        After::GoOn
    }

    async fn answer(&self, request_id: &RequestId) -> Result<(), Failure> {
        let caller = self.caller.renewed(&self.shared, request_id).await?;
        let mut ctx = caller.grant().context(request_id.clone());
        // Each turn is let in by itself: what the connection's client asked for once is not granted for good.
        let span = Span::root("realtime", "WS turn", weir_telemetry::admit(self.trace), self.trace);
        ctx.trace = span.context();
        ctx.deadline = Some(Deadline::after(self.shared.config.turn_timeout));
        require_scope(&ctx, scope::CHAT_WRITE)?;
        let view = ChatView::scan(&self.body)?;
        let _slot = self.shared.access.enter()?;
        let (prompt, limits) = (tokens::estimate(self.body.len()), caller.grant().limits());
        let default_output = self.shared.config.default_output_tokens;
        let expected = limits.expected_tokens(prompt, view.max_output, view.n, default_output);
        let mut permit = self.shared.access.admit(caller.grant(), expected)?;
        permit.used(prompt);
        let request = CompleteRequest {
            dialect: Dialect::OpenaiChat.into(),
            model: view.model.to_string(),
            stream: true,
            body: self.body.clone(),
            include_usage: view.include_usage,
            ..CompleteRequest::default()
        };
        let mut chat = self.shared.chat.clone();
        let answer = match chat.complete(weir_rpc::request(&ctx, request)).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                let error = Error::from(status);
                permit.failed(error.code());
                return Err(error.into());
            }
        };
        let (head, end) = self.relay(answer, &mut permit).await?;
        let usage = end.usage.unwrap_or_default();
        permit.settle(usage.input_tokens.saturating_add(usage.output_tokens));
        let Some(head) = head else { return Err(Failure::Relayed) };
        let done = ServerMessage::Done {
            id: &self.id,
            request_id: request_id.as_str(),
            provider: &head.provider,
            model: &head.model,
            usage: (&usage).into(),
        };
        self.out.send(done.encode()).await;
        Ok(())
    }

    /// Relays the answer to its end. No head: it was an error, which the client has been told.
    async fn relay(
        &self,
        mut frames: Streaming<CompleteFrame>,
        permit: &mut Permit,
    ) -> Result<(Option<Head>, End), Failure> {
        let broken = |what: &'static str| Error::new(Code::UpstreamFailed, what);
        let Some(Frame::Head(head)) = next(&mut frames).await? else {
            return Err(broken("the answer had no beginning").into());
        };
        let (max_answer, mut failed) = (self.shared.config.max_answer.as_usize(), false);
        let streamed = head.content_type.starts_with("text/event-stream");
        let (mut splitter, mut whole) = (Splitter::new(), BytesMut::new());
        loop {
            match next(&mut frames).await? {
                Some(Frame::Data(data)) if streamed => {
                    splitter.feed(data.bytes);
                    while let Some(event) = splitter.next_event().map_err(malformed)? {
                        // About a token each, for a turn that is cancelled.
                        permit.used(1);
                        failed |= self.relay_event(&event).await?;
                    }
                }
                Some(Frame::Data(data)) if whole.len() + data.bytes.len() > max_answer => {
                    return Err(broken("the answer is larger than a turn's may be").into());
                }
                Some(Frame::Data(data)) => whole.extend_from_slice(&data.bytes),
                Some(Frame::End(end)) => {
                    if !streamed {
                        failed |= self.relay_whole(&head, &whole).await?;
                    }
                    return Ok(((!failed).then_some(head), end));
                }
                Some(Frame::Head(_)) => return Err(broken("the answer began twice").into()),
                None => return Err(broken("the answer broke off").into()),
            }
        }
    }

    /// One event. True when it was an error in the middle of the stream.
    async fn relay_event(&self, event: &[u8]) -> Result<bool, Error> {
        let Some(data) = sse::data(event).filter(|data| **data != *b"[DONE]") else { return Ok(false) };
        let (data, error) = parse(&data)?;
        if let Some(error) = error {
            self.send_error(ErrorBody::Relayed(error)).await;
            return Ok(true);
        }
        self.out.send(ServerMessage::Chunk { id: &self.id, data }.encode()).await;
        Ok(false)
    }

    /// An answer in one piece: a refusal, or a provider that does not stream. True when it was a refusal.
    async fn relay_whole(&self, head: &Head, body: &[u8]) -> Result<bool, Error> {
        let refused = !(200..300).contains(&head.status);
        let body = (!refused || body.len() <= MAX_REFUSAL_BYTES).then_some(body);
        match body.map(parse) {
            Some(Ok((_, Some(error)))) => {
                self.send_error(ErrorBody::Relayed(error)).await;
                Ok(true)
            }
            Some(Ok((data, None))) if !refused => {
                self.out.send(ServerMessage::Chunk { id: &self.id, data }.encode()).await;
                Ok(false)
            }
            _ => {
                Err(Error::new(Code::UpstreamFailed, format!("the model provider answered {}", head.status)))
            }
        }
    }

    async fn send_error(&self, error: ErrorBody<'_>) {
        self.out.send(ServerMessage::Error { id: Some(&self.id), error }.encode()).await;
    }
}

async fn next(frames: &mut Streaming<CompleteFrame>) -> Result<Option<Frame>, Error> {
    Ok(frames.message().await?.and_then(|f| f.frame))
}

/// A provider's JSON, untouched, and the `error` in it if there is one.
fn parse(data: &[u8]) -> Result<(&RawValue, Option<&RawValue>), Error> {
    #[derive(Deserialize)]
    struct Probe<'a> {
        #[serde(borrow, default)]
        error: Option<&'a RawValue>,
    }
    let raw = serde_json::from_slice::<&RawValue>(data).map_err(malformed)?;
    // What is valid but no object has no error in it either.
    let error = serde_json::from_slice::<Probe<'_>>(data).ok().and_then(|p| p.error);
    Ok((raw, error))
}

fn malformed(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::UpstreamFailed, "the model provider sent a malformed stream").with_source(cause)
}
