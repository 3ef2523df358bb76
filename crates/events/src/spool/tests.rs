//! What the spool promises, with crashes at every byte and damage at every byte.

mod broken;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;
use weir_proto::events::OpenAttempt;
use weir_types::AttemptId;

use super::{Durability, Open, Spool, SpoolConfig, SpoolError, publisher, segment};
use crate::{Event, EventMetrics};

fn config(segment_bytes: u64) -> SpoolConfig {
    SpoolConfig { segment_bytes, ..SpoolConfig::default() }
}

fn open(dir: &Path, segment_bytes: u64) -> (Spool, Vec<Open>) {
    Spool::open(dir, config(segment_bytes), EventMetrics::default()).unwrap()
}

fn attempt(id: Uuid, request: Uuid) -> OpenAttempt {
    OpenAttempt {
        attempt_id: id.to_string(),
        request_event_id: request.to_string(),
        model: "m".into(),
        ..OpenAttempt::default()
    }
}

fn event(id: Uuid) -> Event {
    Event {
        id,
        subject: "weir.usage.t.attempt_closed".into(),
        time_ms: 1,
        payload: Bytes::from_static(b"payload"),
    }
}

/// Everything there is to publish, as the publisher would see it.
fn drain(spool: &Spool) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let taken = spool.inner.log.lock().take(1_000);
        if !taken.is_empty() {
            events.extend(taken.into_iter().flat_map(|c| c.events));
            continue;
        }
        let Some((from, limit)) = spool.inner.log.lock().read_from() else { return events };
        let (records, to) = publisher::read(&spool.inner, from, limit).unwrap();
        events.extend(records.into_iter().flat_map(|c| c.events));
        spool.inner.log.lock().read_to(to);
    }
}

fn ids(events: &[Event]) -> Vec<Uuid> {
    let mut ids: Vec<_> = events.iter().map(|e| e.id).collect();
    ids.sort_unstable();
    ids
}

fn sorted(mut ids: Vec<Uuid>) -> Vec<Uuid> {
    ids.sort_unstable();
    ids
}

#[derive(Debug, Clone, Copy)]
enum Op {
    /// A new request's first attempt.
    Open,
    /// Of the n-th open one: it and its request.
    Close(usize),
    /// Of the n-th open one: itself; its request goes on.
    CloseAttempt(usize),
    /// The next attempt of the n-th request that waits for one.
    Next(usize),
    /// Another attempt of the request of the n-th open one.
    Beside(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => Just(Op::Open),
        3 => any::<usize>().prop_map(Op::Close),
        2 => any::<usize>().prop_map(Op::CloseAttempt),
        1 => any::<usize>().prop_map(Op::Next),
        1 => any::<usize>().prop_map(Op::Beside),
    ];
    prop::collection::vec(op, 1..40)
}

/// What should be known after some operations.
#[derive(Debug, Clone, Default, PartialEq)]
struct Truth {
    /// Attempt to request and whether only the request is open.
    open: BTreeMap<Uuid, (Uuid, bool)>,
    newest: BTreeMap<Uuid, Uuid>,
    events: Vec<Uuid>,
}

impl Truth {
    fn nth(&self, n: usize, closed: bool) -> Option<(Uuid, Uuid)> {
        let fitting: Vec<_> = self.open.iter().filter(|(_, (_, c))| *c == closed).collect();
        (!fitting.is_empty()).then(|| fitting[n % fitting.len()]).map(|(id, (request, _))| (*id, *request))
    }

    /// Does it, and notes what should now be known.
    fn apply(&mut self, spool: &Spool, op: Op) {
        match op {
            Op::Open => self.open(spool, Uuid::now_v7()),
            Op::Next(n) => {
                if let Some((id, request)) = self.nth(n, true) {
                    self.open.remove(&id);
                    self.open(spool, request);
                }
            }
            Op::Beside(n) => {
                if let Some((_, request)) = self.nth(n, false) {
                    self.drop_closed(request);
                    self.open(spool, request);
                }
            }
            Op::Close(n) => {
                if let Some((id, request)) = self.nth(n, false) {
                    let finished = Uuid::now_v7();
                    spool.closed(AttemptId(id), &[event(id), event(finished)]);
                    self.open.remove(&id);
                    self.drop_closed(request);
                    self.newest.remove(&request);
                    self.events.extend([id, finished]);
                }
            }
            Op::CloseAttempt(n) => {
                if let Some((id, request)) = self.nth(n, false) {
                    spool.attempt_closed(AttemptId(id), &[event(id)]);
                    self.open.remove(&id);
                    if self.newest.get(&request) == Some(&id) {
                        self.open.insert(id, (request, true));
                    }
                    self.events.push(id);
                }
            }
        }
    }

    fn open(&mut self, spool: &Spool, request: Uuid) {
        let id = Uuid::now_v7();
        spool.opened(&attempt(id, request)).unwrap();
        self.open.insert(id, (request, false));
        self.newest.insert(request, id);
    }

    /// The request's closed attempt no longer stands for it.
    fn drop_closed(&mut self, request: Uuid) {
        self.open.retain(|_, (of, closed)| *of != request || !*closed);
    }

    fn check(&self, spool: &Spool, found: &[Open]) {
        let found: BTreeMap<Uuid, (Uuid, bool)> = found
            .iter()
            .map(|o| {
                let id = |t: &str| Uuid::try_parse(t).unwrap();
                (id(&o.attempt.attempt_id), (id(&o.attempt.request_event_id), o.attempt_closed))
            })
            .collect();
        assert_eq!(found, self.open);
        assert_eq!(ids(&drain(spool)), sorted(self.events.clone()));
    }
}

/// Segment numbers with their bytes.
type History = Vec<(u64, Vec<u8>)>;

/// The segments as one sequence of bytes, in the order they were written.
fn history(dir: &Path) -> History {
    let segments = segment::list(dir).unwrap();
    segments.into_iter().map(|(n, _)| (n, fs::read(segment::path(dir, n)).unwrap())).collect()
}

fn total(history: &[(u64, Vec<u8>)]) -> usize {
    history.iter().map(|(_, bytes)| bytes.len()).sum()
}

/// The folder as it was when only the first `cut` bytes had been written.
fn restore(history: &[(u64, Vec<u8>)], mut cut: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (number, bytes) in history {
        let kept = cut.min(bytes.len());
        fs::write(segment::path(dir.path(), *number), &bytes[..kept]).unwrap();
        cut -= kept;
        if cut == 0 {
            break;
        }
    }
    dir
}

/// Runs the operations; gives what was written, and the truth from each byte count on.
fn play(ops: &[Op], segment_bytes: u64) -> (History, BTreeMap<usize, Truth>) {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), segment_bytes);
    let mut truth = Truth::default();
    let mut truths = BTreeMap::from([(0, truth.clone())]);
    for op in ops {
        truth.apply(&spool, *op);
        truths.insert(total(&history(dir.path())), truth.clone());
    }
    (history(dir.path()), truths)
}

fn crash_at(history: &History, truths: &BTreeMap<usize, Truth>, cut: usize, segment_bytes: u64) {
    let dir = restore(history, cut);
    let (spool, found) = open(dir.path(), segment_bytes);
    let (_, truth) = truths.range(..=cut).next_back().unwrap();
    truth.check(&spool, &found);
    assert!(!dir.path().join("quarantine").exists(), "a crash is not damage");
}

/// What comes after such a crash: everything is published, and what was open is closed.
fn life_after(history: &History, truths: &BTreeMap<usize, Truth>, cut: usize, segment_bytes: u64) {
    let dir = restore(history, cut);
    let (_, truth) = truths.range(..=cut).next_back().unwrap();
    drop(open(dir.path(), segment_bytes));
    // Once everything is published, the newest segment alone knows what is open.
    let (newest, _) = segment::list(dir.path()).unwrap().pop().unwrap();
    for (number, _) in segment::list(dir.path()).unwrap() {
        if number != newest {
            fs::remove_file(segment::path(dir.path(), number)).unwrap();
        }
    }
    let (spool, found) = open(dir.path(), segment_bytes);
    Truth { events: Vec::new(), ..truth.clone() }.check(&spool, &found);
    // What was open is closed by its owner, and then nothing is open any more, and nothing comes twice.
    let late: Vec<_> = found.iter().map(|_| Uuid::now_v7()).collect();
    for (open, id) in found.iter().zip(&late) {
        spool.closed(open.attempt.attempt_id.parse().unwrap(), &[event(*id)]);
    }
    drop(spool);
    let (spool, found) = open(dir.path(), segment_bytes);
    Truth { events: late, ..Truth::default() }.check(&spool, &found);
}

const SCRIPT: [Op; 18] = [
    Op::Open,
    Op::Open,
    Op::Close(0),
    Op::Open,
    Op::CloseAttempt(0),
    Op::Open,
    Op::Close(1),
    Op::Next(0),
    Op::Open,
    Op::CloseAttempt(1),
    Op::Close(0),
    Op::Open,
    Op::Next(0),
    Op::Beside(1),
    Op::CloseAttempt(1),
    Op::Beside(0),
    Op::Close(0),
    Op::Close(2),
];

#[test]
fn a_crash_at_any_byte_loses_and_doubles_nothing() {
    for segment_bytes in [300, 1 << 20] {
        let (history, truths) = play(&SCRIPT, segment_bytes);
        assert!((history.len() > 2) == (segment_bytes == 300), "{} segments", history.len());
        // Every byte of one segment; of many, a prime apart.
        let step = if history.len() > 2 { 7 } else { 1 };
        for cut in (0..=total(&history)).step_by(step) {
            crash_at(&history, &truths, cut, segment_bytes);
        }
        for cut in (0..=total(&history)).step_by(31) {
            life_after(&history, &truths, cut, segment_bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_survives_any_crash(ops in ops(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 4)) {
        let (history, truths) = play(&ops, 400);
        for cut in cuts {
            let cut = cut.index(total(&history) + 1);
            crash_at(&history, &truths, cut, 400);
            life_after(&history, &truths, cut, 400);
        }
    }

    #[test]
    fn noise_in_the_folder_is_no_reason_to_fail(noise in prop::collection::vec(any::<u8>(), 0..600)) {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path(), 1 << 20);
        let mut truth = Truth::default();
        SCRIPT.iter().for_each(|op| truth.apply(&spool, *op));
        drop(spool);
        let file = segment::path(dir.path(), 1);
        let bytes = [fs::read(&file).unwrap(), noise].concat();
        fs::write(&file, bytes).unwrap();
        let (spool, found) = open(dir.path(), 1 << 20);
        truth.check(&spool, &found);
    }
}

#[test]
fn a_damaged_byte_costs_one_record_and_is_kept() {
    let (history, _) = play(&SCRIPT, 1 << 20);
    let (number, clean) = &history[0];
    let whole = {
        let dir = restore(&history, clean.len());
        let (spool, found) = open(dir.path(), 1 << 20);
        (ids(&drain(&spool)), found.len())
    };
    let last_record = {
        let mut reader =
            segment::Reader::open(restore(&history, clean.len()).path(), *number, 0, clean.len() as u64)
                .unwrap()
                .unwrap();
        let mut last = 0;
        while let segment::Next::Record { at, .. } = reader.next().unwrap() {
            last = usize::try_from(at).unwrap();
        }
        last
    };
    for at in (16..clean.len()).step_by(3) {
        let mut broken = clean.clone();
        broken[at] ^= 0x20;
        let dir = restore(&[(*number, broken)], clean.len());
        let metrics = EventMetrics::default();
        let (spool, found) = Spool::open(dir.path(), config(1 << 20), metrics.clone()).unwrap();
        let events = ids(&drain(&spool));
        assert!(events.iter().all(|id| whole.0.contains(id)), "nothing is invented, byte {at}");
        assert!(events.windows(2).all(|w| w[0] != w[1]), "nothing is doubled, byte {at}");
        assert!(events.len() + 2 >= whole.0.len(), "one record at most, byte {at}");
        assert!(found.len().abs_diff(whole.1) <= 1, "byte {at}");
        // A damaged length of the very last record looks like a record cut short.
        if at < last_record {
            assert_eq!(metrics.quarantined.get(), 1, "byte {at}");
            assert_eq!(fs::read_dir(dir.path().join("quarantine")).unwrap().count(), 1, "byte {at}");
        }
    }
}

#[test]
fn a_segment_without_its_header_is_kept_aside() {
    let (mut broken, _) = play(&SCRIPT, 300);
    broken[1].1[10] ^= 1;
    let dir = restore(&broken, total(&broken));
    let metrics = EventMetrics::default();
    let (spool, _) = Spool::open(dir.path(), config(300), metrics.clone()).unwrap();
    assert_eq!(metrics.quarantined.get(), 1);
    assert!(!drain(&spool).is_empty());
    let kept = fs::read_dir(dir.path().join("quarantine")).unwrap().next().unwrap().unwrap();
    assert_eq!(fs::read(kept.path()).unwrap(), broken[1].1);
}

#[test]
fn a_folder_has_one_owner_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 1 << 20);
    let second = Spool::open(dir.path(), config(1 << 20), EventMetrics::default());
    let Err(SpoolError::Locked { pid, .. }) = second else { panic!("{second:?}") };
    assert_eq!(pid, std::process::id().to_string());
    drop(spool);
    drop(open(dir.path(), 1 << 20));
}

#[test]
fn a_full_spool_refuses_new_attempts_and_still_closes_old_ones() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig { segment_bytes: 500, max_bytes: 4_000, ..SpoolConfig::default() };
    let (spool, _) = Spool::open(dir.path(), config, EventMetrics::default()).unwrap();
    let mut opened = Vec::new();
    let refused = loop {
        let id = Uuid::now_v7();
        match spool.opened(&attempt(id, Uuid::now_v7())) {
            Ok(_) => opened.push(id),
            Err(error) => break error,
        }
        assert!(opened.len() < 1_000, "never full");
    };
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
    assert!(spool.check().unwrap_err().contains("of 4000 bytes"));
    for id in &opened {
        spool.closed(AttemptId(*id), &[event(*id)]);
    }
    assert_eq!(ids(&drain(&spool)), sorted(opened));
}

#[test]
fn ids_that_are_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 1 << 20);
    let error = spool.opened(&OpenAttempt { attempt_id: "x".into(), ..OpenAttempt::default() }).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn an_event_too_large_goes_to_quarantine_and_takes_no_other_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), 1 << 20);
    let (id, other) = (Uuid::now_v7(), Uuid::now_v7());
    spool.opened(&attempt(id, Uuid::now_v7())).unwrap();
    let huge = Event { payload: vec![7; 2 << 20].into(), ..event(id) };
    spool.closed(AttemptId(id), &[huge, event(other)]);
    assert_eq!(ids(&drain(&spool)), [other]);
    assert!(dir.path().join(format!("quarantine/event-{id}.bin")).exists());
}

#[tokio::test]
async fn disk_durability_is_awaited_in_groups() {
    let dir = tempfile::tempdir().unwrap();
    let config = SpoolConfig { durability: Durability::Disk, ..config(600) };
    let (spool, _) = Spool::open(dir.path(), config, EventMetrics::default()).unwrap();
    let mut commits = Vec::new();
    for _ in 0..50 {
        let id = Uuid::now_v7();
        spool.opened(&attempt(id, Uuid::now_v7())).unwrap().wait().await.unwrap();
        commits.push(spool.closed(AttemptId(id), &[event(id)]));
    }
    for commit in commits {
        assert!(!commit.is_done());
        commit.wait().await.unwrap();
    }
    let (_, found) = {
        drop(spool);
        open(dir.path(), 600)
    };
    assert_eq!(found, []);
}

#[test]
fn the_queue_overflows_to_disk_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = EventMetrics::default();
    let (spool, _) = Spool::open(dir.path(), config(50_000), metrics.clone()).unwrap();
    assert_eq!(drain(&spool), [], "reads on from memory now");
    let mut all = HashMap::new();
    for n in 0..10_000 {
        let id = Uuid::now_v7();
        spool.closed(AttemptId(id), &[event(id)]);
        all.insert(id, n);
    }
    assert_eq!(metrics.spool_overflows.get(), 1);
    let events = drain(&spool);
    assert!(events.windows(2).all(|w| all[&w[0].id] + 1 == all[&w[1].id]), "in order");
    assert_eq!(events.len(), all.len());
    let id = Uuid::now_v7();
    spool.closed(AttemptId(id), &[event(id)]);
    assert_eq!(ids(&drain(&spool)), [id]);
}
