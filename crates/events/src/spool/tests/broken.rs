//! A disk that takes no writes for a while.

use std::{path::PathBuf, sync::Arc};

use secrecy::SecretString;
use tempfile::TempDir;

use super::*;
use crate::{Bus, NatsConfig, spool::publisher::Publisher};

/// A spool's folder that can be taken away.
struct Disk {
    dir: PathBuf,
    away: PathBuf,
    _parent: TempDir,
}

impl Disk {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        Self { dir: parent.path().join("spool"), away: parent.path().join("away"), _parent: parent }
    }

    fn spool(&self, config: SpoolConfig) -> (Spool, EventMetrics) {
        let metrics = EventMetrics::default();
        (Spool::open(&self.dir, config, metrics.clone()).unwrap().0, metrics)
    }

    fn fail(&self, spool: &Spool) {
        spool.inner.log.lock().sabotage();
        fs::rename(&self.dir, &self.away).unwrap();
    }

    /// The next call to the spool finds it well again.
    fn recover(&self, spool: &Spool) {
        fs::rename(&self.away, &self.dir).unwrap();
        spool.inner.log.lock().retry_now();
    }

    fn segments(&self) -> Vec<u64> {
        segment::list(&self.dir).unwrap().into_iter().map(|(number, _)| number).collect()
    }
}

#[test]
fn a_broken_disk_is_bridged_by_memory_and_caught_up_with() {
    let disk = Disk::new();
    let (spool, metrics) = disk.spool(SpoolConfig { max_stranded: 2, ..config(1 << 20) });
    let [before, during, after] = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
    spool.opened(&attempt(before, Uuid::now_v7())).unwrap();
    disk.fail(&spool);

    spool.closed(AttemptId(before), &[event(before)]);
    assert_eq!(metrics.spool_broken.get(), 1);
    assert!(spool.check().unwrap_err().contains("cannot be written"));
    spool.opened(&attempt(during, Uuid::now_v7())).expect("requests go on");
    spool.closed(AttemptId(during), &[event(during)]);
    let full = spool.opened(&attempt(after, Uuid::now_v7())).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "memory is bounded");

    disk.recover(&spool);
    spool.opened(&attempt(after, Uuid::now_v7())).unwrap();
    assert_eq!((metrics.spool_broken.get(), spool.check()), (0, Ok(())));
    drop(spool);
    let (spool, found) = open(&disk.dir, 1 << 20);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].attempt.attempt_id, after.to_string());
    assert_eq!(ids(&drain(&spool)), sorted(vec![before, during]));
}

/// A publisher without NATS.
async fn publisher(spool: &Spool) -> Publisher {
    let config = NatsConfig { url: SecretString::from("nats://127.0.0.1:1"), ..NatsConfig::default() };
    let bus = Bus::connect(&config, EventMetrics::default()).await.unwrap();
    Publisher::new(Arc::clone(&spool.inner), bus)
}

/// Closes an attempt whose events only the publisher's memory has, on a disk that is well again since.
async fn close_in_memory(disk: &Disk, spool: &Spool, id: Uuid) -> Publisher {
    spool.opened(&attempt(id, Uuid::now_v7())).unwrap();
    let mut publisher = publisher(spool).await;
    disk.fail(spool);
    spool.closed(AttemptId(id), &[event(id)]);
    assert!(publisher.take().await.unwrap());
    disk.recover(spool);
    while publisher.take().await.unwrap() {}
    publisher.housekeeping().await;
    assert_eq!(disk.segments().last(), Some(&2), "it is written again");
    publisher
}

#[tokio::test]
async fn segments_stay_while_a_close_mark_is_in_memory_alone() {
    let disk = Disk::new();
    let (spool, _) = disk.spool(config(1 << 20));
    let id = Uuid::now_v7();
    let publisher = close_in_memory(&disk, &spool, id).await;
    // The process dies with them.
    drop((publisher, spool));
    let (_, found) = open(&disk.dir, 1 << 20);
    assert_eq!(found.iter().map(|o| &o.attempt.attempt_id).collect::<Vec<_>>(), [&id.to_string()]);
}

#[tokio::test]
async fn segments_go_once_what_was_in_memory_alone_is_acknowledged() {
    let disk = Disk::new();
    let (spool, _) = disk.spool(config(1 << 20));
    let mut publisher = close_in_memory(&disk, &spool, Uuid::now_v7()).await;
    publisher.all_acked();
    publisher.housekeeping().await;
    assert_eq!(disk.segments(), [2]);
}

#[tokio::test]
async fn disk_durability_says_when_the_disk_refused() {
    for (durability, known) in [(Durability::Disk, false), (Durability::Process, true)] {
        let disk = Disk::new();
        let (spool, _) = disk.spool(SpoolConfig { durability, ..config(1 << 20) });
        let id = Uuid::now_v7();
        disk.fail(&spool);
        let opened = spool.opened(&attempt(id, Uuid::now_v7())).unwrap();
        let closed = spool.closed(AttemptId(id), &[event(id)]);
        for commit in [opened, closed] {
            assert_eq!(commit.is_done(), known, "{durability:?}");
            assert_eq!(commit.wait().await.is_ok(), known, "{durability:?}");
        }
    }
}

#[test]
fn new_attempts_are_refused_when_the_disk_stays_broken_unless_jetstream_counts() {
    for durability in [Durability::Process, Durability::Disk, Durability::Cluster] {
        let disk = Disk::new();
        let (spool, _) = disk.spool(SpoolConfig { durability, ..config(1 << 20) });
        let open = || spool.opened(&attempt(Uuid::now_v7(), Uuid::now_v7())).map(drop).map_err(|e| e.kind());
        disk.fail(&spool);
        assert_eq!((open(), open()), (Ok(()), Ok(())), "{durability:?}: it may be short");
        spool.inner.log.lock().lose_patience();
        let expected =
            if durability == Durability::Cluster { Ok(()) } else { Err(std::io::ErrorKind::StorageFull) };
        assert_eq!(open(), expected, "{durability:?}");
        disk.recover(&spool);
        assert_eq!(open(), Ok(()), "{durability:?}");
    }
}
