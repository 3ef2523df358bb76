//! Work that would hold a thread which serves everybody: bodies that are large, and answers held against schemas.

use std::sync::{Arc, LazyLock};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use weir_llm::tokens;

/// Beyond it a body is worked on apart: to leave the thread costs more than to read a few bytes.
const LARGE: usize = 64 * 1024;
/// Bodies understood and translated at once, in the whole process.
static BODIES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(processors())));
/// Checks at once: what is asked of them is up to clients, so they get half of the processors.
static CHECKS: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(processors().div_ceil(2))));

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(super) fn is_large(bytes: usize) -> bool {
    bytes > LARGE
}

/// Work on so many bytes. More than a few are worked on apart from everybody, and not more of them at once than there
/// are processors.
pub(super) async fn body<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if is_large(bytes) { in_turn(work).await } else { work() }
}

/// Tokens of so many bytes are counted. The first count of a process builds tables, too.
pub(super) async fn count<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if tokens::is_quick(bytes) { work() } else { in_turn(work).await }
}

async fn in_turn<T>(work: impl FnOnce() -> T) -> T {
    // Nobody closes it.
    let _place = BODIES.acquire().await;
    apart(work)
}

/// A place for a check.
pub(super) async fn check() -> Option<OwnedSemaphorePermit> {
    CHECKS.clone().acquire_owned().await.ok()
}

/// What this thread serves beside is served by another one meanwhile.
pub(super) fn apart<T>(work: impl FnOnce() -> T) -> T {
    let several = |runtime: Handle| runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
    if Handle::try_current().is_ok_and(several) { tokio::task::block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const BYTES: usize = LARGE + 1;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    #[expect(clippy::disallowed_methods, reason = "no service")]
    async fn large_bodies_leave_the_thread_to_others() {
        let (serve, served) = mpsc::channel();
        let other = tokio::spawn(async move {
            tokio::task::yield_now().await;
            serve.send(()).unwrap();
        });
        // The only thread waits for what others do on it.
        let work = tokio::spawn(body(BYTES, move || served.recv().is_ok()));
        assert!(work.await.unwrap());
        other.await.unwrap();
    }

    #[tokio::test]
    async fn there_is_one_thread_where_the_runtime_has_no_other() {
        assert_eq!(body(BYTES, || 7).await, 7);
    }
}
