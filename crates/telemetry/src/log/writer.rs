//! Lines on their way out: appended to a bounded buffer, written by a thread of its own. Nobody who logs ever waits
//! for a disk or a terminal; what does not fit is dropped and counted.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// Bytes that may wait.
const CAPACITY: usize = 4 << 20;
/// Lines are gathered this long, so that a busy process makes few system calls, and one wake-up for all of them.
const GATHER: Duration = Duration::from_millis(10);
/// More than this is written without waiting for more.
const ENOUGH: usize = 64 << 10;

/// Lines dropped by all writers of the process.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Log lines that found no room, since the process began.
pub(crate) fn lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Lines that an output did not take.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Log lines that the log file did not take, since the process began.
pub(crate) fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

pub(crate) fn lost(lines: &[u8]) {
    let count = lines.iter().filter(|&&byte| byte == b'\n').count();
    LOST.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Where a writer's bytes go. What it cannot take is lost: logging must not fail a request.
pub(crate) trait Output: Send + 'static {
    /// Whole lines.
    fn write(&mut self, lines: &[u8]);
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There is something to write, or enough of it.
    wake: Condvar,
    /// Everything is written.
    idle: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
    /// Somebody waits for `idle`: no gathering.
    urgent: bool,
}

impl Writer {
    pub(crate) fn start(name: &str, output: impl Output) -> io::Result<Self> {
        Self::with_capacity(name, output, CAPACITY)
    }

    fn with_capacity(name: &str, mut output: impl Output, capacity: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            idle: Condvar::new(),
            capacity,
        });
        let theirs = Arc::downgrade(&shared);
        // A thread, not a task: a runtime that is busy or stopped must not keep lines from coming out.
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut lines = Vec::new();
            while let Some(shared) = theirs.upgrade() {
                if shared.take(&mut lines) {
                    output.write(&lines);
                    lines.clear();
                    shared.written();
                }
            }
        })?;
        Ok(Self(shared))
    }

    /// Never waits for the output.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.0.state.lock();
        if state.waiting.len() + line.len() > self.0.capacity {
            drop(state);
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was = state.waiting.len();
        state.waiting.extend_from_slice(line);
        let now = state.waiting.len();
        drop(state);
        if was == 0 || (was < ENOUGH && now >= ENOUGH) {
            self.0.wake.notify_one();
        }
    }

    /// Waits until everything pushed before is written, or `patience` is over.
    pub(crate) fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.0.state.lock();
        while !state.waiting.is_empty() || state.writing {
            state.urgent = true;
            self.0.wake.notify_one();
            if self.0.idle.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }
}

impl Shared {
    /// Waits for lines and moves them into `lines`; false when there were none for a while.
    fn take(&self, lines: &mut Vec<u8>) -> bool {
        let mut state = self.state.lock();
        if state.waiting.is_empty() {
            self.wake.wait_for(&mut state, Duration::from_secs(1));
        }
        if state.waiting.is_empty() {
            return false;
        }
        let until = Instant::now() + GATHER;
        while state.waiting.len() < ENOUGH && !state.urgent {
            if self.wake.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        std::mem::swap(&mut state.waiting, lines);
        state.writing = true;
        true
    }

    fn written(&self) {
        let mut state = self.state.lock();
        state.writing = false;
        if state.waiting.is_empty() {
            state.urgent = false;
            self.idle.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Writes only when it is let.
    struct Slow {
        let_through: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Output for Slow {
        fn write(&mut self, lines: &[u8]) {
            let _ = self.let_through.recv();
            drop(self.written.send(lines.to_vec()));
        }
    }

    #[test]
    fn an_output_that_hangs_costs_lines_and_never_time() {
        let (go, let_through) = channel();
        let (written, seen) = channel();
        let writer = Writer::with_capacity("test", Slow { let_through, written }, 100).unwrap();
        let before = lines_dropped();
        // The first is with the output, which hangs; ten fit into the buffer meanwhile.
        writer.push(b"0123456789");
        while !writer.0.state.lock().writing {
            thread::yield_now();
        }
        for _ in 0..25 {
            writer.push(b"abcdefghi\n");
        }
        assert_eq!(lines_dropped() - before, 15);
        go.send(()).unwrap();
        go.send(()).unwrap();
        writer.flush(PATIENCE);
        assert_eq!(seen.recv().unwrap(), b"0123456789");
        assert_eq!(seen.recv().unwrap(), b"abcdefghi\n".repeat(10));
    }

    #[test]
    fn a_flush_returns_although_the_output_hangs() {
        let (_go, let_through) = channel();
        let (written, _seen) = channel();
        let writer = Writer::with_capacity("test", Slow { let_through, written }, 100).unwrap();
        writer.push(b"x");
        writer.flush(Duration::from_millis(1));
    }
}
