//! An answer as server-sent events: tapped, and transformed only where client and provider speak different dialects.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tonic::Status;
use weir_error::{Code, Error};
use weir_llm::{
    Dialect, Follower, FrameKind, Listener, Tap, Told, Translator,
    framing::Splitter,
    openai::{self, usage_chunk},
    upstream::{Answer, AnswerBody, UpstreamError},
};
use weir_proto::{
    chat::{CompleteFrame, Data, End, complete_frame::Frame},
    events::{Outcome, Tokens},
};

use super::{
    chat::{Relaying, head, upstream_error},
    meter::{Ending, Metered},
    pricing::{llm_usage, wire_usage},
    refusal,
    structured::replace_text,
};

pub(super) const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
/// Longest wait for the end of a body whose last event is there.
const RELEASE: Duration = Duration::from_millis(20);
/// Most that is kept of a stream, for the opaque state of its turn.
const LISTENED: usize = 64 * 1024;
/// Longest wait for more of a stream that has finished, in a dialect whose streams end with their bodies.
const LINGER: Duration = Duration::from_secs(2);
/// Events of a stream that are looked at for opaque state.
const SUSPECTS: u32 = 64;

type Item = Result<CompleteFrame, Status>;

struct Relay {
    body: AnswerBody,
    splitter: Splitter,
    /// Taken when the request is closed; dropping the relay before means that the client went away.
    metered: Option<Box<Metered>>,
    client: Dialect,
    /// None when the provider speaks the client's dialect.
    translator: Option<Translator>,
    /// None when there is a translator, which knows, or nothing to know.
    follower: Option<Follower>,
    include_usage: bool,
    /// Provider and model.
    served: (String, String),
    /// A text is not what was asked for, and went on all the same.
    off_schema: bool,
    /// An event with data: where a usage chunk of our own takes its id from.
    sample: Option<Bytes>,
    /// It carries a piece of the answer: a platform's own events before those have no id.
    sampled: bool,
    /// What a platform said of the prompt in an event that is no chunk, for the first that is one.
    remarks: Option<Bytes>,
    /// Listens to a stream that goes on as it came, where its provider is known to send what clients drop.
    listener: Option<Listener>,
    /// Events that are looked at for whether it does.
    suspects: u32,
    relaying: Relaying,
    queue: VecDeque<CompleteFrame>,
}

/// Head, then whole events as they come, then End.
pub(crate) fn relay(
    answer: Answer,
    mut metered: Box<Metered>,
    relaying: Relaying,
) -> impl Stream<Item = Item> + Send + use<> {
    let mut head = head(&answer, &relaying);
    head.content_type = EVENT_STREAM.to_owned();
    let head = CompleteFrame { frame: Some(Frame::Head(head)) };
    let (client, include_usage) = (relaying.client, relaying.call.include_usage);
    let provider = relaying.spoken();
    let translator = (client != provider).then(|| {
        let translator = Translator::new(provider, client, &relaying.call);
        let translator = if relaying.keeper.is_some() { translator.keeping(LISTENED) } else { translator };
        if relaying.structure.is_some() { translator.holding() } else { translator }
    });
    let choices = relaying.choices;
    metered.watch(if translator.is_some() {
        Tap::beside(provider, choices)
    } else {
        Tap::new(provider, choices)
    });
    let kept = translator.is_none() && provider == Dialect::OpenAi && relaying.keeper.is_some();
    let carries = kept && relaying.provider.quirks.carries_state.holds(&relaying.call.model);
    // Whole items tell all of a response, and are few.
    let items = translator.is_none() && provider == Dialect::Responses && relaying.keeper.is_some();
    let signed = translator.is_none() && provider == Dialect::Gemini && relaying.keeper.is_some();
    // It is moved for every frame.
    let relay = Box::new(Relay {
        body: answer.body,
        splitter: Splitter::of(provider.provider().framing()).up_to(provider.provider().max_event()),
        metered: Some(metered),
        client,
        include_usage: include_usage && translator.is_none(),
        follower: translator.is_none().then(|| Follower::new(client)),
        translator,
        served: (relaying.provider.name.clone(), relaying.call.model.clone()),
        off_schema: false,
        sample: None,
        sampled: false,
        remarks: None,
        listener: (carries || items || signed).then(|| Listener::new(provider, LISTENED)),
        suspects: if kept && !carries { SUSPECTS } else { 0 },
        relaying,
        queue: VecDeque::from([head]),
    });
    stream::unfold(relay, |mut relay| async move { relay.next().await.map(|frame| (Ok(frame), relay)) })
}

/// The event as it goes on; `None` of Azure's remarks on the prompt, which go with the first chunk.
fn remarked(
    kept: &mut Option<Bytes>,
    event: Bytes,
    kind: Option<FrameKind>,
    is_azure: bool,
) -> Option<Bytes> {
    if is_azure && kept.is_none() && matches!(kind, Some(FrameKind::Other)) {
        *kept = openai::prompt_remarks(&event);
        return kept.is_none().then_some(event);
    }
    match kept.take_if(|_| event.starts_with(b"data:")) {
        Some(remarks) => Some(openai::with_prompt_remarks(&event, &remarks)),
        None => Some(event),
    }
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
            match self.chunk().await {
                Some(Ok(bytes)) => self.take(bytes).await,
                // The end comes once, and is large beside what goes before it.
                Some(Err(_)) | None if self.told_failure() => {
                    Box::pin(self.done(self.client.terminal())).await;
                }
                Some(Err(error)) => Box::pin(self.cut(&upstream_error(error))).await,
                None => Box::pin(self.ended()).await,
            }
        }
    }

    /// What comes next. A provider that has said all may leave its body open.
    async fn chunk(&mut self) -> Option<Result<Bytes, UpstreamError>> {
        let finished = || self.metered.as_deref().and_then(Metered::tap_ref).is_some_and(Tap::finished);
        if self.relaying.spoken() == Dialect::Gemini && finished() {
            return tokio::time::timeout(LINGER, self.body.chunk()).await.unwrap_or_default();
        }
        self.body.chunk().await
    }

    /// The client has the provider's own error already, and needs no second one.
    fn told_failure(&self) -> bool {
        let failed = || self.metered.as_deref().and_then(Metered::tap_ref).is_some_and(Tap::failed);
        self.translator.is_none() && matches!(self.client, Dialect::OpenAi | Dialect::Gemini) && failed()
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
                    return Box::pin(self.cut(&error)).await;
                }
            };
            if self.translator.is_none() && is_torn(&event) {
                self.queue.extend(out.frame());
                let error = Error::new(Code::UpstreamFailed, "the model provider sent a malformed stream");
                return Box::pin(self.cut(&error)).await;
            }
            let Some(metered) = &mut self.metered else { break };
            let (kind, translated) = observe(metered, self.translator.as_mut(), &event, &mut out);
            if kind == Some(FrameKind::Delta) {
                metered.first_token();
            }
            let may =
                matches!(kind, Some(FrameKind::Delta | FrameKind::Other)) && event.starts_with(b"data:");
            if self.include_usage && !self.sampled && may {
                self.sampled = kind == Some(FrameKind::Delta);
                self.sample = Some(event.clone());
            }
            if let Err(error) = translated {
                self.queue.extend(out.frame());
                return Box::pin(self.cut(&refusal::in_stream(error))).await;
            }
            if self.translator.is_some() && kind != Some(FrameKind::Done) {
                continue;
            }
            if self.translator.is_none() {
                self.listen(&event, kind);
            }
            let Some(metered) = &mut self.metered else { break };
            let event = if kind == Some(FrameKind::Error) { refusal::without_accounts(event) } else { event };
            match kind {
                Some(FrameKind::Done) => {
                    self.queue.extend(out.frame());
                    return Box::pin(self.done(event)).await;
                }
                Some(FrameKind::Usage) if !self.include_usage => {}
                Some(FrameKind::Usage) if self.client == Dialect::OpenAi => out.push(metered.tell(&event)),
                // OpenAI's chat streams go on to `[DONE]`; others end here.
                Some(FrameKind::Error) if self.client != Dialect::OpenAi => {
                    self.queue.extend(out.frame());
                    return Box::pin(self.broke_off(event)).await;
                }
                _ => {
                    if let Some(follower) = &mut self.follower {
                        follower.observe(&event);
                    }
                    match remarked(&mut self.remarks, event, kind, self.relaying.provider.is_azure()) {
                        Some(event) => out.push(event),
                        None => continue,
                    }
                }
            }
        }
        self.queue.extend(out.frame());
    }

    /// Opaque state may pass in a stream that goes on as it came.
    fn listen(&mut self, event: &[u8], kind: Option<FrameKind>) {
        if let Some(listener) = &mut self.listener {
            match (self.client, self.metered.as_deref().and_then(Metered::tap_ref)) {
                // The tap has decoded it.
                (Dialect::Gemini, Some(tap)) => listener.told(tap.steps()),
                (Dialect::Responses, _) if kind == Some(FrameKind::Delta) => {}
                _ => listener.observe(event),
            }
        } else if self.suspects > 0 {
            self.suspects -= 1;
            if openai::carries_state(event) {
                self.relaying.provider.quirks.carries_state.learn(&self.relaying.call.model);
            }
        }
    }

    /// The terminal event leaves only after the request is in the spool.
    async fn done(&mut self, terminal: Bytes) {
        let Some(mut metered) = self.metered.take() else { return };
        let (tokens, source) = metered.tokens().await;
        let failed = metered.tap_ref().is_some_and(Tap::failed);
        // In one dialect the event that ends a stream says itself what went wrong.
        let terminal = if failed { refusal::without_accounts(terminal) } else { terminal };
        let told = metered.tap_ref().is_some_and(Tap::told_usage);
        let outcome = if failed { Outcome::Cut } else { Outcome::Succeeded };
        let mut ending = Ending { outcome, provider_status: 200, status: 200, tokens, source };
        if !failed {
            let sent = metered.sent().clone();
            let mended = self.settle(&mut ending, &mut metered).await;
            self.keep(sent, mended).await;
        }
        let tokens = metered.told(ending);
        let cost = metered.finish(ending).await;
        let usage = llm_usage(tokens);
        if let Some(sample) = self.sample.take().filter(|_| !told && !failed) {
            let chunk = usage_chunk(&sample, usage);
            self.push(if cost.is_some() { self.told(cost, "").into_usage(&chunk) } else { chunk });
        }
        let end = self.translator.as_mut().map(|translator| translator.end(usage));
        // What is not written here passes as it is.
        let terminal = match end {
            Some(end) => self.told(cost, &self.lost()).into_end(&end, self.client),
            None => terminal,
        };
        self.push_end(terminal, tokens, cost);
    }

    /// Opaque state stays here for clients that drop it: of the turn as they know it.
    async fn keep(&mut self, sent: Bytes, mended: Vec<(u64, String)>) {
        let mut said = match (&mut self.translator, self.listener.take()) {
            (Some(translator), _) => translator.said(),
            (None, Some(listener)) => listener.said(),
            (None, None) => return,
        };
        for (choice, text) in mended {
            if let Some(parts) = usize::try_from(choice).ok().and_then(|at| said.get_mut(at)) {
                replace_text(parts, text);
            }
        }
        let carried = self.relaying.keep(said.iter().map(Vec::as_slice), &sent).await;
        if carried && self.translator.is_none() && self.client == Dialect::OpenAi {
            self.relaying.provider.quirks.carries_state.learn(&self.relaying.call.model);
        }
    }

    /// Text that was held back goes on once it is what was asked for, or can't be made so. The choices of which another
    /// text went on, and those.
    async fn settle(&mut self, ending: &mut Ending, metered: &mut Metered) -> Vec<(u64, String)> {
        let mut mended = Vec::new();
        let (Some(translator), Some(structure)) = (&mut self.translator, &self.relaying.structure) else {
            return mended;
        };
        if translator.overflown() {
            structure.metrics.unseen.inc();
        }
        let mut out = BytesMut::new();
        for held in translator.held() {
            let mut text = None;
            let said = held.text();
            if held.whole && !said.is_empty() {
                let checked = structure.settle(said, *ending, metered).await;
                *ending = checked.ending;
                self.off_schema |= !checked.fits;
                text = checked.text;
            }
            mended.extend(text.clone().map(|text| (held.choice, text)));
            translator.release(held, text, &mut out);
        }
        if !out.is_empty() {
            self.push(out.freeze());
        }
        mended
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
        if let Some(rest) = self.splitter.last_event() {
            return self.take([&rest[..], b"\n"].concat().into()).await;
        }
        let finished = self.metered.as_deref().and_then(Metered::tap_ref).is_some_and(Tap::finished);
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

    fn told<'a>(&'a self, cost_nano_usd: Option<u64>, warnings: &'a str) -> Told<'a> {
        Told { cost_nano_usd, provider: &self.served.0, model: &self.served.1, warnings }
    }

    /// What was lost on either way. The header named that of the request, if the answer did not begin without it.
    fn lost(&self) -> String {
        let client = self.client.client();
        let answer = self.translator.as_ref().map(|translator| translator.losses().told(client).header());
        let off = self.off_schema.then(|| format!("invalid;{}", client.field("response_format")));
        let all = [Some(self.relaying.warnings.clone()), off, answer];
        all.into_iter().flatten().filter(|named| !named.is_empty()).collect::<Vec<_>>().join(", ")
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

/// What an event is. Where the stream is translated, it is written as the client has it, too, and decoded only once.
fn observe(
    metered: &mut Metered,
    translator: Option<&mut Translator>,
    event: &[u8],
    out: &mut Outgoing,
) -> (Option<FrameKind>, Result<(), Error>) {
    let Some(translator) = translator else {
        return (metered.tap().map(|tap| tap.observe(event)), Ok(()));
    };
    let translated = translator.event(event, out.translated());
    let look = |tap: &mut Tap| {
        if tap.is_told() { tap.told(translator.steps(), translator.ended()) } else { tap.observe(event) }
    };
    (metered.tap().map(look), translated)
}

/// Whether an event's JSON stops in its middle. Clients that read strictly would break at it, and never see our error.
fn is_torn(event: &[u8]) -> bool {
    let event = event.trim_ascii_end();
    let line = event.iter().rposition(|&b| b == b'\n').map_or(event, |at| &event[at + 1..]);
    let data = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii_start);
    data.is_some_and(|data| data.starts_with(b"{") && !data.ends_with(b"}"))
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

#[cfg(test)]
mod tests {
    use super::is_torn;

    #[test]
    fn an_event_that_stops_in_its_middle_is_known() {
        for whole in [
            "data: {\"a\":1}\n\n",
            "data:{}\r\n\r\n",
            "event: ping\ndata: {\"type\": \"ping\"}\n\n",
            "data: [DONE]\n\n",
            ": comment\n\n",
            "data: {\ndata: }\n\n",
            "data: {\"a\":\nid: 5\n\n",
            "\n",
            "",
        ] {
            assert!(!is_torn(whole.as_bytes()), "{whole:?}");
        }
        for torn in ["data: {\"a\":\n\n", "data:{\r\n\r\n", "event: x\ndata: {\"a\": {}\",\n\n"] {
            assert!(is_torn(torn.as_bytes()), "{torn:?}");
        }
    }
}
