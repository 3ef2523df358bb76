//! What a connection is doing, and by when it has to do something else.
//!
//! The socket and the request handling note a few moments here; the connection's task looks from time to time.
//! Nothing is re-armed per request.

use std::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use crate::ListenConfig;

/// Why a connection was closed by us; the label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// The head of a request did not arrive in time.
    Header,
    /// Nothing was asked for a while.
    Idle,
    /// The client does not read our answer.
    Write,
}

impl Overdue {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header_timeout",
            Self::Idle => "idle_timeout",
            Self::Write => "write_timeout",
        }
    }
}

const UNKNOWN: u8 = 0;
const HTTP1: u8 = 1;
const HTTP2: u8 = 2;
/// How HTTP/2 begins; no method of HTTP/1 does.
const PREFACE: &[u8] = b"PRI";

/// Moments are milliseconds since the start, plus one; zero is "no such moment".
#[derive(Debug)]
pub(crate) struct Watch {
    start: Instant,
    header: Duration,
    idle: Duration,
    write: Duration,
    protocol: AtomicU8,
    preface: AtomicU8,
    asked: AtomicBool,
    upgraded: AtomicBool,
    in_flight: AtomicU32,
    idle_since: AtomicU64,
    head_since: AtomicU64,
    blocked_since: AtomicU64,
}

impl Watch {
    pub(crate) fn new(config: &ListenConfig) -> Self {
        Self {
            start: Instant::now(),
            header: config.header_timeout,
            idle: config.idle_timeout,
            write: config.write_timeout,
            protocol: AtomicU8::new(UNKNOWN),
            preface: AtomicU8::new(0),
            asked: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
        }
    }

    /// This moment.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn at(&self, moment: u64) -> Instant {
        self.start + Duration::from_millis(moment.saturating_sub(1))
    }

    pub(crate) fn on_read(&self, bytes: &[u8]) {
        if self.protocol.load(Relaxed) == UNKNOWN {
            self.sniff(bytes);
        }
        if self.in_flight.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    fn sniff(&self, bytes: &[u8]) {
        let seen = usize::from(self.preface.load(Relaxed));
        let expected = &PREFACE[seen.min(PREFACE.len())..];
        let n = expected.len().min(bytes.len());
        if bytes[..n] != expected[..n] {
            self.protocol.store(HTTP1, Relaxed);
            return;
        }
        if n == expected.len() {
            // The time to the first request counts as idle.
            self.idle_since.store(self.now(), Relaxed);
            self.protocol.store(HTTP2, Relaxed);
        }
        self.preface.store(u8::try_from(seen + n).unwrap_or(u8::MAX), Relaxed);
    }

    pub(crate) fn on_write_blocked(&self) {
        if self.blocked_since.load(Relaxed) == 0 {
            self.blocked_since.store(self.now(), Relaxed);
        }
    }

    pub(crate) fn on_written(&self) {
        if self.blocked_since.load(Relaxed) != 0 {
            self.blocked_since.store(0, Relaxed);
        }
    }

    pub(crate) fn on_request(&self) {
        self.asked.store(true, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
    }

    /// The answer was handed over, or given up.
    pub(crate) fn on_answered(&self) {
        self.idle_since.store(self.now(), Relaxed);
        self.head_since.store(0, Relaxed);
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// What was handed over at this moment or before should have gone by now.
    pub(crate) fn handed_over_by(&self) -> u64 {
        self.now().saturating_sub(u64::try_from(self.write.as_millis()).unwrap_or(u64::MAX))
    }

    /// Whether requests are in flight.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.load(Relaxed) != 0
    }

    pub(crate) fn on_upgrade(&self) {
        self.upgraded.store(true, Relaxed);
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Relaxed)
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.protocol.load(Relaxed) == HTTP2
    }

    /// What is overdue now, or when to look again.
    pub(crate) fn due(&self, now: Instant) -> Result<Instant, Overdue> {
        let least = self.header.min(self.idle).min(self.write).max(Duration::from_millis(1));
        let mut next = now + least;
        if let Some((deadline, why)) = self.deadline() {
            if deadline <= now {
                return Err(why);
            }
            next = next.min(deadline);
        }
        Ok(next)
    }

    fn deadline(&self) -> Option<(Instant, Overdue)> {
        let blocked = self.blocked_since.load(Relaxed);
        let write = (blocked != 0).then(|| (self.at(blocked) + self.write, Overdue::Write));
        let read = (self.in_flight.load(Relaxed) == 0).then(|| self.read_deadline());
        match (write, read) {
            (Some(w), Some(r)) => Some(if w.0 <= r.0 { w } else { r }),
            (one, other) => one.or(other),
        }
    }

    fn read_deadline(&self) -> (Instant, Overdue) {
        let idle = (self.at(self.idle_since.load(Relaxed)) + self.idle, Overdue::Idle);
        // Frames of HTTP/2 arrive without anything being asked (pings, windows): only idleness counts there.
        if self.is_http2() {
            return idle;
        }
        if !self.asked.load(Relaxed) {
            return (self.start + self.header, Overdue::Header);
        }
        match self.head_since.load(Relaxed) {
            0 => idle,
            head => (self.at(head) + self.header, Overdue::Header),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        Watch::new(&ListenConfig {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            ..ListenConfig::default()
        })
    }

    async fn pass(seconds: u64) -> Instant {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_must_arrive_and_idleness_has_its_own_time() {
        let watch = watch();
        assert!(watch.due(pass(9).await).is_ok());
        watch.on_read(b"GET");
        assert_eq!(watch.due(pass(2).await), Err(Overdue::Header), "from the first moment of the connection");
        watch.on_request();
        assert!(watch.due(pass(3600).await).is_ok(), "a request may take its time");
        watch.on_answered();
        assert!(watch.due(pass(59).await).is_ok());
        watch.on_read(b"G");
        assert!(watch.due(pass(9).await).is_ok());
        assert_eq!(watch.due(pass(2).await), Err(Overdue::Header));
        watch.on_request();
        watch.on_answered();
        assert_eq!(watch.due(pass(61).await), Err(Overdue::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn pings_of_http2_are_no_slow_head_and_no_work() {
        let watch = watch();
        watch.on_read(b"P");
        watch.on_read(b"RI * HTTP/2.0");
        assert!(watch.is_http2());
        for _ in 0..5 {
            assert!(watch.due(pass(11).await).is_ok());
            watch.on_read(b"ping");
        }
        assert_eq!(watch.due(pass(11).await), Err(Overdue::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_closed_also_while_a_request_runs() {
        let watch = watch();
        watch.on_read(b"POST");
        watch.on_request();
        watch.on_write_blocked();
        assert!(watch.due(pass(29).await).is_ok());
        watch.on_written();
        watch.on_write_blocked();
        assert!(watch.due(pass(29).await).is_ok());
        assert_eq!(watch.due(pass(2).await), Err(Overdue::Write));
    }
}
