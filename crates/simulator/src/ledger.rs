//! What the provider did, call by call: what Weir's own books are compared with.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;
use weir_types::Clock;

use crate::answer::Answer;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The whole answer was handed to the connection.
    Finished,
    /// An error was answered, or a malformed answer, or the connection was refused.
    Failed,
    /// The simulator broke the connection within the answer.
    Cut,
    /// The client hung up before the end.
    Cancelled,
}

/// One call of the chat endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The header `x-client-request-id`; empty if there was none.
    pub id: String,
    /// As it was asked for; empty if the call could not be read.
    pub model: Arc<str>,
    pub stream: bool,
    /// HTTP status; 0 if the call ended before there was one.
    pub status: u16,
    pub outcome: Outcome,
    /// 0 for failed calls that got no answer.
    pub prompt_tokens: u64,
    /// Of the whole answer, whether or not all of it was sent; with hidden reasoning.
    pub completion_tokens: u64,
    /// Of the prompt, read from the cache.
    pub cached_tokens: u64,
    /// Of the prompt, written to the cache.
    pub cache_write_tokens: u64,
    /// Of the answer, shown or not.
    pub reasoning_tokens: u64,
    /// Completion tokens handed to the connection. Hidden reasoning counts once the usage was sent.
    pub sent: u64,
    /// Unix milliseconds.
    pub started_ms: i64,
    /// Unix milliseconds.
    pub ended_ms: i64,
}

/// Sums over calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    pub calls: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub sent: u64,
}

impl Sums {
    fn add(&mut self, entry: &Entry) {
        self.calls += 1;
        self.prompt_tokens += entry.prompt_tokens;
        self.completion_tokens += entry.completion_tokens;
        self.sent += entry.sent;
    }
}

/// The ledger in short: sums over every call since the last clearing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Calls that have not ended.
    pub running: u64,
    /// Entries forgotten, the oldest ones, because there were too many. They are in the sums.
    pub dropped: u64,
    pub finished: Sums,
    pub failed: Sums,
    pub cut: Sums,
    pub cancelled: Sums,
}

#[derive(Debug, Default)]
struct State {
    summary: Summary,
    entries: VecDeque<Entry>,
}

/// Entries of calls that have ended, and their sums.
#[derive(Debug)]
pub struct Ledger {
    clock: Arc<dyn Clock>,
    bound: usize,
    state: Mutex<State>,
}

impl Ledger {
    pub(crate) fn new(bound: usize, clock: Arc<dyn Clock>) -> Self {
        Self { clock, bound, state: Mutex::default() }
    }

    #[must_use]
    pub fn summary(&self) -> Summary {
        self.state.lock().summary
    }

    /// Calls that have ended, in the order of their ends.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.state.lock().entries.iter().cloned().collect()
    }

    /// Calls that have ended and carried this `x-client-request-id`. Looks at every entry.
    #[must_use]
    pub fn find(&self, id: &str) -> Vec<Entry> {
        self.state.lock().entries.iter().filter(|entry| entry.id == id).cloned().collect()
    }

    /// Forgets everything but the calls that still run, which are entered when they end.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        let running = state.summary.running;
        *state = State::default();
        state.summary.running = running;
    }

    pub(crate) fn begin(self: &Arc<Self>, id: String) -> Call {
        self.state.lock().summary.running += 1;
        let started_ms = self.clock.now_ms();
        let entry = Entry {
            id,
            model: Arc::default(),
            stream: false,
            status: 0,
            outcome: Outcome::Cancelled,
            prompt_tokens: 0,
            completion_tokens: 0,
            cached_tokens: 0,
            cache_write_tokens: 0,
            reasoning_tokens: 0,
            sent: 0,
            started_ms,
            ended_ms: started_ms,
        };
        Call { ledger: self.clone(), entry, ended: false }
    }

    fn enter(&self, entry: Entry) {
        let mut state = self.state.lock();
        state.summary.running -= 1;
        let sums = match entry.outcome {
            Outcome::Finished => &mut state.summary.finished,
            Outcome::Failed => &mut state.summary.failed,
            Outcome::Cut => &mut state.summary.cut,
            Outcome::Cancelled => &mut state.summary.cancelled,
        };
        sums.add(&entry);
        if state.entries.len() >= self.bound {
            state.entries.pop_front();
            state.summary.dropped += 1;
        }
        if self.bound > 0 {
            state.entries.push_back(entry);
        }
    }
}

/// A call that runs. Dropped before [`Call::end`], as when hyper drops the answer of a client that hung up, it was
/// cancelled.
#[derive(Debug)]
pub(crate) struct Call {
    ledger: Arc<Ledger>,
    entry: Entry,
    ended: bool,
}

impl Call {
    pub(crate) fn asked(&mut self, model: Arc<str>, stream: bool) {
        (self.entry.model, self.entry.stream) = (model, stream);
    }

    pub(crate) fn prompt(&mut self, tokens: u64) {
        self.entry.prompt_tokens = tokens;
    }

    pub(crate) fn planned(&mut self, answer: &Answer) {
        self.entry.completion_tokens = answer.completion_tokens;
        self.entry.reasoning_tokens = answer.reasoning_tokens;
        self.entry.cached_tokens = answer.cache.read;
        self.entry.cache_write_tokens = answer.cache.written + answer.cache.written_1h;
    }

    pub(crate) fn answering(&mut self) {
        self.entry.status = 200;
    }

    /// Of the prompt, and of the whole answer.
    pub(crate) fn tokens(&self) -> (u64, u64) {
        (self.entry.prompt_tokens, self.entry.completion_tokens)
    }

    pub(crate) fn sent(&mut self, tokens: u64) {
        self.entry.sent += tokens;
    }

    pub(crate) fn sent_all(&mut self) {
        self.entry.sent = self.entry.completion_tokens;
    }

    /// Answered with an error, or with nothing.
    pub(crate) fn refused(&mut self, status: u16) {
        self.entry.status = status;
        (self.entry.prompt_tokens, self.entry.completion_tokens) = (0, 0);
        self.end(Outcome::Failed);
    }

    /// The first outcome counts.
    pub(crate) fn end(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.entry.outcome = outcome;
        self.entry.ended_ms = self.ledger.clock.now_ms();
        self.ledger.enter(self.entry.clone());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Outcome::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use weir_types::ManualClock;

    use super::*;

    #[test]
    fn calls_are_entered_once_with_their_times() {
        let clock = ManualClock::at(1_000);
        let ledger = Arc::new(Ledger::new(10, Arc::new(clock.clone())));
        let mut call = ledger.begin("a".into());
        assert_eq!(ledger.summary().running, 1);
        call.prompt(7);
        call.planned(&Answer { completion_tokens: 20, ..Answer::default() });
        call.answering();
        call.sent(5);
        clock.advance(30);
        call.end(Outcome::Cut);
        call.end(Outcome::Finished);
        drop(call);
        drop(ledger.begin("b".into()));
        let summary = ledger.summary();
        assert_eq!(summary.running, 0);
        assert_eq!(summary.cut, Sums { calls: 1, prompt_tokens: 7, completion_tokens: 20, sent: 5 });
        assert_eq!(summary.cancelled.calls, 1);
        let entry = &ledger.find("a")[0];
        assert_eq!((entry.started_ms, entry.ended_ms, entry.status), (1_000, 1_030, 200));
    }

    #[test]
    fn entries_are_bounded_and_sums_are_not() {
        let ledger = Arc::new(Ledger::new(3, Arc::new(ManualClock::default())));
        for i in 0..5 {
            ledger.begin(i.to_string()).refused(500);
        }
        let summary = ledger.summary();
        assert_eq!((summary.failed.calls, summary.dropped), (5, 2));
        let ids: Vec<_> = ledger.entries().into_iter().map(|e| e.id).collect();
        assert_eq!(ids, ["2", "3", "4"]);
        let running = ledger.begin("runs".into());
        ledger.clear();
        assert_eq!(ledger.summary(), Summary { running: 1, ..Summary::default() });
        drop(running);
        assert_eq!(ledger.summary().cancelled.calls, 1);
    }
}
