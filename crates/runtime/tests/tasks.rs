//! Tasks: what happens when they fail, panic, or will not stop.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;
use weir_runtime::{OnFailure, Tasks};

const LONG: Duration = Duration::from_secs(60);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects what this thread logs; the tests' runtimes have one thread.
    fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

async fn broken(text: &str) {
    assert!(text.is_empty(), "{text}");
}

#[tokio::test]
async fn a_panic_is_logged_by_name_and_the_others_go_on_or_stop_as_it_says() {
    let (log, _guard) = Log::start();
    let tasks = Tasks::new();
    let shutdown = tasks.shutdown();
    tasks.spawn("bystander", OnFailure::Log, async move { shutdown.cancelled().await });
    tasks.spawn("harmless", OnFailure::Log, broken("oh no"));
    tasks.spawn("failing", OnFailure::Log, async { Err::<(), _>("disk is full") });
    while tasks.running() != ["bystander"] {
        tokio::task::yield_now().await;
    }
    assert!(!tasks.failed() && !tasks.shutdown().is_cancelled());
    let text = log.text();
    assert!(text.contains("task.name=\"harmless\"") && text.contains("panicked: oh no"), "{text}");
    assert!(text.contains("task.name=\"failing\"") && text.contains("disk is full"), "{text}");

    tasks.spawn("vital", OnFailure::Shutdown, broken("gone"));
    tokio::time::timeout(LONG, tasks.shutdown().cancelled()).await.expect("all are told to stop");
    assert!(tasks.failed());
    assert!(tasks.stop(LONG).await);
    assert!(log.text().contains("task.name=\"vital\""));
}

#[tokio::test]
async fn a_task_that_ends_well_stops_nobody() {
    let tasks = Tasks::new();
    tasks.spawn("done", OnFailure::Shutdown, async {});
    tasks.spawn("fine", OnFailure::Shutdown, async { Ok::<(), String>(()) });
    while !tasks.running().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!tasks.failed() && !tasks.shutdown().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_will_not_stop_is_ended_and_named() {
    let (log, _guard) = Log::start();
    let tasks = Tasks::new();
    tasks.spawn("stubborn", OnFailure::Log, std::future::pending::<()>());
    let shutdown = tasks.shutdown();
    tasks.spawn("polite", OnFailure::Log, async move { shutdown.cancelled().await });
    assert!(!tasks.stop(Duration::from_secs(5)).await);
    assert!(tasks.running().is_empty());
    let text = log.text();
    assert!(text.contains("stubborn") && !text.contains("polite"), "{text}");
}
