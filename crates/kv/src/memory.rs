//! Values in this process: bounded in number and size, each with its end.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{Key, metrics::KvMetrics};

/// How long a deletion made while Redis was away is remembered for it.
const REMEMBER_DELETED: Duration = Duration::from_secs(3600);
/// The bookkeeping of an entry, roughly.
const OVERHEAD: usize = 160;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Bytes(Bytes),
    Counter(i64),
    /// For Redis to hear of when it is back.
    Deleted,
}

impl Value {
    fn size(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Counter(_) | Self::Deleted => 0,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Memory {
    max_entries: usize,
    max_bytes: usize,
    metrics: KvMetrics,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    map: HashMap<Key, Entry>,
    /// The same entries by their end.
    by_end: BTreeSet<(Instant, u64, Key)>,
    bytes: usize,
    /// Counts writes: tells what changed since a snapshot.
    written: u64,
}

#[derive(Debug)]
struct Entry {
    value: Value,
    end: Instant,
    written: u64,
}

/// A value as it is handed over to Redis.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) key: Key,
    pub(crate) value: Value,
    pub(crate) ttl: Duration,
}

impl Memory {
    pub(crate) fn new(max_entries: usize, max_bytes: usize, metrics: KvMetrics) -> Self {
        Self { max_entries: max_entries.max(1), max_bytes, metrics, inner: Mutex::default() }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Bytes> {
        match self.inner.lock().alive(key)? {
            Value::Bytes(bytes) => Some(bytes.clone()),
            Value::Counter(n) => Some(n.to_string().into()),
            Value::Deleted => None,
        }
    }

    pub(crate) fn set(&self, key: &Key, value: Bytes, ttl: Duration) {
        self.change(|inner| self.put_bytes(inner, key, value, ttl));
    }

    pub(crate) fn set_new(&self, key: &Key, value: Bytes, ttl: Duration) -> bool {
        self.change(|inner| {
            let free = matches!(inner.alive(key), None | Some(Value::Deleted));
            if free {
                self.put_bytes(inner, key, value, ttl);
            }
            free
        })
    }

    /// `remember`: Redis may have the value, and is to hear of this when it is back.
    pub(crate) fn delete(&self, key: &Key, remember: bool) {
        self.change(|inner| match remember {
            true => inner.put(key, Value::Deleted, Instant::now() + REMEMBER_DELETED),
            false => inner.remove(key),
        });
    }

    pub(crate) fn incr(&self, key: &Key, by: i64, ttl: Duration) -> i64 {
        self.change(|inner| {
            let old = match inner.alive(key) {
                Some(Value::Counter(n)) => Some(*n),
                Some(Value::Bytes(text)) => std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()),
                Some(Value::Deleted) | None => None,
            };
            let new = old.and_then(|n: i64| n.checked_add(by)).unwrap_or(by);
            let kept = matches!(inner.alive(key), Some(Value::Counter(_) | Value::Bytes(_)));
            let end = inner.map.get(key).filter(|_| kept).map_or_else(|| Instant::now() + ttl, |e| e.end);
            inner.put(key, Value::Counter(new), end);
            new
        })
    }

    /// What is here, and a mark for [`Self::take_since`].
    pub(crate) fn snapshot(&self) -> (Vec<Handed>, u64) {
        let inner = self.inner.lock();
        (inner.handed(0), inner.written)
    }

    /// Empties the memory and returns what was written after the mark.
    pub(crate) fn take_since(&self, mark: u64) -> Vec<Handed> {
        self.change(|inner| {
            let newer = inner.handed(mark);
            *inner = Inner { written: inner.written, ..Inner::default() };
            newer
        })
    }

    pub(crate) fn clear(&self) {
        self.take_since(u64::MAX);
    }

    /// A value larger than all there is would only drive out the others.
    fn put_bytes(&self, inner: &mut Inner, key: &Key, value: Bytes, ttl: Duration) {
        let value = Value::Bytes(value);
        if size(key, &value) > self.max_bytes {
            inner.remove(key);
            self.metrics.evictions.inc();
            return;
        }
        inner.put(key, value, Instant::now() + ttl);
    }

    fn change<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock();
        inner.expire();
        let result = f(&mut inner);
        while inner.map.len() > self.max_entries || inner.bytes > self.max_bytes {
            let Some((_, _, key)) = inner.by_end.first().cloned() else { break };
            inner.remove(&key);
            self.metrics.evictions.inc();
        }
        self.metrics.entries.set(i64::try_from(inner.map.len()).unwrap_or(i64::MAX));
        result
    }
}

impl Inner {
    fn alive(&self, key: &Key) -> Option<&Value> {
        self.map.get(key).filter(|e| e.end > Instant::now()).map(|e| &e.value)
    }

    fn put(&mut self, key: &Key, value: Value, end: Instant) {
        self.remove(key);
        self.written += 1;
        self.bytes += size(key, &value);
        self.by_end.insert((end, self.written, key.clone()));
        self.map.insert(key.clone(), Entry { value, end, written: self.written });
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.map.remove(key) {
            self.bytes -= size(key, &entry.value);
            self.by_end.remove(&(entry.end, entry.written, key.clone()));
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((end, _, key)) = self.by_end.first()
            && *end <= now
        {
            let key = key.clone();
            self.remove(&key);
        }
    }

    fn handed(&self, since: u64) -> Vec<Handed> {
        let now = Instant::now();
        let alive = self.map.iter().filter(|(_, e)| e.written > since && e.end > now);
        alive.map(|(key, e)| Handed { key: key.clone(), value: e.value.clone(), ttl: e.end - now }).collect()
    }
}

fn size(key: &Key, value: &Value) -> usize {
    OVERHEAD + key.as_str().len() + value.size()
}

#[cfg(test)]
mod tests {
    use weir_telemetry::Metrics;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn memory(max_entries: usize, max_bytes: usize) -> (Memory, Metrics) {
        let metrics = Metrics::new();
        (Memory::new(max_entries, max_bytes, KvMetrics::new(&metrics)), metrics)
    }

    fn key(id: u32) -> Key {
        Key::global("test", id)
    }

    #[tokio::test(start_paused = true)]
    async fn values_end_and_a_counter_keeps_its_window() {
        let (memory, _) = memory(10, 1 << 20);
        memory.set(&key(1), "a".into(), MINUTE);
        assert_eq!(memory.incr(&key(2), 2, MINUTE), 2);
        tokio::time::advance(MINUTE / 2).await;
        assert_eq!(memory.get(&key(1)), Some("a".into()));
        assert_eq!(memory.incr(&key(2), 3, MINUTE), 5);
        assert!(!memory.set_new(&key(1), "b".into(), MINUTE));
        tokio::time::advance(MINUTE / 2).await;
        assert_eq!(memory.get(&key(1)), None);
        assert!(memory.set_new(&key(1), "b".into(), MINUTE));
        assert_eq!(memory.incr(&key(2), 1, MINUTE), 1, "the window was not moved by the second call");
        assert_eq!(memory.get(&key(2)), Some("1".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn number_and_size_are_bounded_and_what_ends_first_goes_first() {
        let (memory, metrics) = memory(3, 10_000);
        for id in 1..=4 {
            memory.set(&key(id), "x".into(), MINUTE * id);
        }
        assert_eq!((memory.get(&key(1)), memory.get(&key(4))), (None, Some("x".into())));
        memory.set(&key(5), vec![0; 9_700].into(), MINUTE * 9);
        assert_eq!((memory.get(&key(4)), memory.get(&key(5)).map(|v| v.len())), (None, Some(9_700)));
        memory.set(&key(6), vec![0; 20_000].into(), MINUTE * 99);
        assert_eq!(memory.get(&key(6)), None, "larger than all there is");
        let text = metrics.encode();
        assert!(
            text.contains("kv_memory_evictions_total 5\n") && text.contains("kv_memory_entries 1\n"),
            "{text}"
        );
        let inner = memory.inner.lock();
        assert_eq!((inner.map.len(), inner.by_end.len()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_handover_takes_each_write_once() {
        let (memory, _) = memory(10, 1 << 20);
        memory.set(&key(1), "a".into(), MINUTE);
        memory.delete(&key(2), true);
        let (all, mark) = memory.snapshot();
        assert_eq!(all.len(), 2);
        memory.set(&key(3), "c".into(), MINUTE);
        let newer = memory.take_since(mark);
        assert_eq!((newer.len(), &newer[0].value), (1, &Value::Bytes("c".into())));
        assert!(memory.snapshot().0.is_empty());
        memory.set(&key(4), "d".into(), MINUTE);
        memory.delete(&key(4), false);
        assert!(memory.snapshot().0.is_empty());
    }
}
