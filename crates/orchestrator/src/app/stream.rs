//! An answer as server-sent events: tapped, and transformed only where client and provider speak different dialects.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tonic::Status;
use weir_error::{Code, Error};
use weir_llm::{
    Dialect, Follower, FrameKind, Tap, Translator,
    openai::usage_chunk,
    prices,
    sse::Splitter,
    upstream::{Answer, AnswerBody},
};
use weir_proto::{
    chat::{CompleteFrame, Data, End, complete_frame::Frame},
    events::{Outcome, Tokens},
};

use super::{
    chat::{Relaying, head, upstream_error},
    meter::{Ending, Metered},
    pricing::{llm_usage, wire_usage},
};

const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
/// Longest wait for the end of a body whose last event is there.
const RELEASE: Duration = Duration::from_millis(20);

type Item = Result<CompleteFrame, Status>;

struct Relay {
    body: AnswerBody,
    splitter: Splitter,
    /// Taken when the request is closed; dropping the relay before means that the client went away.
    metered: Option<Metered>,
    client: Dialect,
    /// None when the provider speaks the client's dialect.
    translator: Option<Translator>,
    /// None when there is a translator, which knows, or nothing to know.
    follower: Option<Follower>,
    include_usage: bool,
    /// Provider and model.
    served: (String, String),
    /// The first event with data: where a usage chunk of our own takes its id from.
    sample: Option<Bytes>,
    queue: VecDeque<CompleteFrame>,
}

/// Head, then whole events as they come, then End.
pub(crate) fn relay(
    answer: Answer,
    mut metered: Metered,
    relaying: &Relaying,
) -> impl Stream<Item = Item> + Send + use<> {
    let mut head = head(&answer, relaying);
    head.content_type = EVENT_STREAM.to_owned();
    let head = CompleteFrame { frame: Some(Frame::Head(head)) };
    let (client, include_usage) = (relaying.client, relaying.call.include_usage);
    let provider = relaying.provider.dialect;
    metered.watch(Tap::new(provider, relaying.choices));
    let translator = (client != provider).then(|| Translator::new(provider, client, &relaying.call));
    let relay = Relay {
        body: answer.body,
        splitter: Splitter::new(),
        metered: Some(metered),
        client,
        include_usage: include_usage && translator.is_none(),
        follower: translator.is_none().then(|| Follower::new(client)),
        translator,
        served: (relaying.provider.name.clone(), relaying.call.model.clone()),
        sample: None,
        queue: VecDeque::from([head]),
    };
    stream::unfold(relay, |mut relay| async move { relay.next().await.map(|frame| (Ok(frame), relay)) })
}

impl Relay {
    async fn next(&mut self) -> Option<CompleteFrame> {
        loop {
            if let Some(frame) = self.queue.pop_front() {
                return Some(frame);
            }
            if self.metered.is_none() {
                self.release().await;
                return None;
            }
            match self.body.chunk().await {
                Some(Ok(bytes)) => self.take(bytes).await,
                Some(Err(error)) => self.cut(&upstream_error(error)).await,
                None => self.ended().await,
            }
        }
    }

    /// A connection whose body was not read to its end is thrown away. The client has all it waits for by now.
    async fn release(&mut self) {
        drop(tokio::time::timeout(RELEASE, self.body.chunk()).await);
    }

    async fn take(&mut self, bytes: Bytes) {
        let mut out = Outgoing::default();
        self.splitter.feed(bytes);
        loop {
            let event = match self.splitter.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    self.queue.extend(out.frame());
                    let error =
                        Error::new(Code::UpstreamFailed, "the model provider sent a malformed stream")
                            .with_source(error);
                    return self.cut(&error).await;
                }
            };
            let Some(metered) = &mut self.metered else { break };
            if self.include_usage && self.sample.is_none() && event.starts_with(b"data:") {
                self.sample = Some(event.clone());
            }
            let kind = metered.tap().map(|tap| tap.observe(&event));
            if kind == Some(FrameKind::Delta) {
                metered.first_token();
            }
            if let Some(translator) = &mut self.translator {
                if let Err(error) = translator.event(&event, out.translated()) {
                    self.queue.extend(out.frame());
                    return self.cut(&error).await;
                }
                if kind != Some(FrameKind::Done) {
                    continue;
                }
            }
            match kind {
                Some(FrameKind::Done) => {
                    self.queue.extend(out.frame());
                    return self.done(event).await;
                }
                Some(FrameKind::Usage) if !self.include_usage => {}
                Some(FrameKind::Usage) if self.client == Dialect::OpenAi => out.push(metered.tell(&event)),
                // OpenAI's own streams go on to `[DONE]`; Anthropic's end here.
                Some(FrameKind::Error) if self.client == Dialect::Anthropic => {
                    self.queue.extend(out.frame());
                    return self.broke_off(event).await;
                }
                _ => {
                    if let Some(follower) = &mut self.follower {
                        follower.observe(&event);
                    }
                    out.push(event);
                }
            }
        }
        self.queue.extend(out.frame());
    }

    /// The terminal event leaves only after the request is in the spool.
    async fn done(&mut self, terminal: Bytes) {
        let Some(metered) = self.metered.take() else { return };
        let (tokens, source) = metered.tokens().await;
        let failed = metered.tap_ref().is_some_and(Tap::failed);
        let told = metered.tap_ref().is_some_and(|tap| tap.usage().is_some());
        let outcome = if failed { Outcome::Cut } else { Outcome::Succeeded };
        let cost =
            metered.finish(Ending { outcome, provider_status: 200, status: 200, tokens, source }).await;
        let usage = llm_usage(tokens);
        if let Some(sample) = self.sample.take().filter(|_| !told && !failed) {
            self.push(self.tell(usage_chunk(&sample, usage), cost));
        }
        let end = self.translator.as_mut().map(|translator| translator.end(usage));
        let terminal = match end {
            Some(end) if self.client == Dialect::OpenAi => self.tell(end, cost),
            Some(end) => end,
            None => terminal,
        };
        self.push_end(terminal, tokens, cost);
    }

    /// The provider's own error ends a stream of Anthropic's dialect: its open blocks are closed before it, and what
    /// clients wait for comes after it.
    async fn broke_off(&mut self, event: Bytes) {
        let Some(metered) = self.metered.take() else { return };
        let (tokens, source) = metered.tokens().await;
        let ending = Ending { outcome: Outcome::Cut, provider_status: 200, status: 200, tokens, source };
        let cost = metered.finish(ending).await;
        let end = self.follower.as_ref().map_or(event.clone(), |follower| follower.end_with(&event));
        self.push_end(end, tokens, cost);
    }

    /// The body ended without its terminal event: complete if every choice had finished, else cut.
    async fn ended(&mut self) {
        let finished = self.metered.as_ref().and_then(Metered::tap_ref).is_some_and(Tap::finished);
        if finished {
            return self.done(self.client.terminal()).await;
        }
        self.cut(&Error::new(
            Code::UpstreamFailed,
            "the model provider broke off in the middle of its answer",
        ))
        .await;
    }

    async fn cut(&mut self, error: &Error) {
        let Some(metered) = self.metered.take() else { return };
        tracing::warn!(error = %error.chain(), "stream cut");
        let (tokens, source) = metered.tokens().await;
        let ending = Ending { outcome: Outcome::Cut, provider_status: 200, status: 200, tokens, source };
        let cost = metered.finish(ending).await;
        let end = match (&mut self.translator, &self.follower) {
            (Some(translator), _) => translator.fail(error),
            (None, Some(follower)) => follower.fail(error),
            (None, None) => self.client.error_frames(error),
        };
        self.push_end(end, tokens, cost);
    }

    /// The chunk with the usage, and in it what the request cost, if that is known.
    fn tell(&self, events: Bytes, cost: Option<u64>) -> Bytes {
        cost.map_or(events.clone(), |cost| prices::tell(&events, cost, &self.served.0, &self.served.1))
    }

    fn push(&mut self, bytes: Bytes) {
        self.queue.push_back(CompleteFrame { frame: Some(Frame::Data(Data { bytes })) });
    }

    fn push_end(&mut self, terminal: Bytes, tokens: Tokens, cost_nano_usd: Option<u64>) {
        self.push(terminal);
        let usage = Some(wire_usage(tokens));
        self.queue.push_back(CompleteFrame { frame: Some(Frame::End(End { usage, cost_nano_usd })) });
    }
}

/// Events that arrived together leave together, so a fast provider costs one frame, not many.
#[derive(Default)]
struct Outgoing {
    first: Option<Bytes>,
    more: Option<BytesMut>,
}

impl Outgoing {
    fn push(&mut self, event: Bytes) {
        match (&mut self.more, &self.first) {
            (Some(more), _) => more.extend_from_slice(&event),
            (None, Some(first)) => {
                let mut more = BytesMut::with_capacity((first.len() + event.len()) * 2);
                more.extend_from_slice(first);
                more.extend_from_slice(&event);
                self.more = Some(more);
            }
            (None, None) => self.first = Some(event),
        }
    }

    /// Where translated events are written: nothing else is, then.
    fn translated(&mut self) -> &mut BytesMut {
        self.more.get_or_insert_default()
    }

    fn frame(self) -> Option<CompleteFrame> {
        let bytes = self.more.filter(|more| !more.is_empty()).map(BytesMut::freeze).or(self.first)?;
        Some(CompleteFrame { frame: Some(Frame::Data(Data { bytes })) })
    }
}
