//! What is remembered of keys: grants, unknown keys, revocations. All bounded.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use weir_types::{
    KeyId,
    api_key::{KeyForm, KeyKind},
};

use crate::{
    Config, Grant,
    ticker::{ms, nanos},
};

/// Revocations remembered so that an answer that was under way cannot bring the key back. The control plane answers
/// NOT_FOUND for all of them anyway.
const MAX_REVOKED: usize = 100_000;

/// A well-formed presented key: what it says of itself, and the SHA-256 of all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Presented {
    pub(crate) kind: KeyKind,
    pub(crate) id: KeyId,
    pub(crate) hash: [u8; 32],
}

impl Presented {
    pub(crate) fn new(form: KeyForm, text: &str) -> Self {
        Self { kind: form.kind, id: form.id, hash: Sha256::digest(text.as_bytes()).into() }
    }
}

#[derive(Debug)]
pub(crate) struct Entry {
    hash: [u8; 32],
    pub(crate) grant: Grant,
    /// When the control plane last confirmed it.
    confirmed: AtomicU64,
    /// When that was last tried in the background.
    tried: AtomicU64,
}

impl Entry {
    pub(crate) fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.confirmed.load(Ordering::Relaxed))
    }

    /// Whether this caller is the one to check again; true at most once in a second.
    pub(crate) fn claim_refresh(&self, now: u64) -> bool {
        let tried = self.tried.load(Ordering::Relaxed);
        now.saturating_sub(tried) >= ms(1_000)
            && self.tried.compare_exchange(tried, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[derive(Debug)]
pub(crate) struct Memory {
    entries: Cache<KeyId, Arc<Entry>>,
    /// By hash, not by id: a made-up secret must not lock out the real key. The value is when to ask again.
    unknown: Cache<[u8; 32], u64>,
    revoked: Cache<KeyId, ()>,
    unknown_for: u64,
    /// Whatever was confirmed before this may have changed unnoticed.
    doubted: AtomicU64,
}

impl Memory {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            entries: Cache::new(config.max_keys),
            unknown: Cache::new(config.max_unknown_keys),
            revoked: Cache::new(MAX_REVOKED),
            unknown_for: nanos(config.unknown_for),
            doubted: AtomicU64::new(0),
        }
    }

    pub(crate) fn get(&self, key: &Presented) -> Option<Arc<Entry>> {
        self.entries.get(&key.id).filter(|entry| bool::from(entry.hash.ct_eq(&key.hash)))
    }

    pub(crate) fn is_known_bad(&self, key: &Presented, now: u64) -> bool {
        self.revoked.get(&key.id).is_some() || self.unknown.get(&key.hash).is_some_and(|until| now < until)
    }

    /// The control plane confirmed a key. False when it was revoked meanwhile: then nothing is remembered.
    pub(crate) fn confirm(&self, key: &Presented, grant: &Grant, now: u64) -> bool {
        match self.get(key) {
            Some(entry) if entry.grant.same_as(grant) => entry.confirmed.store(now, Ordering::Relaxed),
            _ => {
                let (confirmed, tried) = (AtomicU64::new(now), AtomicU64::new(now));
                let entry = Entry { hash: key.hash, grant: grant.clone(), confirmed, tried };
                self.entries.insert(key.id, Arc::new(entry));
            }
        }
        // After the insertion: `revoke` marks before it removes, so one of the two sees the other.
        if self.revoked.get(&key.id).is_some() {
            self.entries.remove(&key.id);
            return false;
        }
        true
    }

    /// The control plane does not know the key, or no longer.
    pub(crate) fn forget(&self, key: &Presented, now: u64) {
        self.unknown.insert(key.hash, now.saturating_add(self.unknown_for));
        self.entries.remove_if(&key.id, |entry| entry.hash == key.hash);
    }

    pub(crate) fn revoke(&self, id: KeyId) {
        self.revoked.insert(id, ());
        self.entries.remove(&id);
    }

    /// Changes may have been missed: every key is checked again beside its next use.
    pub(crate) fn doubt_all(&self, now: u64) {
        self.doubted.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn is_doubted(&self, entry: &Entry) -> bool {
        entry.confirmed.load(Ordering::Relaxed) < self.doubted.load(Ordering::Relaxed)
    }

    /// Keys that were unknown may be known again.
    pub(crate) fn forget_unknown(&self) {
        self.unknown.clear();
    }

    /// Something about the key changed: treats it as last confirmed at `then`.
    pub(crate) fn doubt(&self, id: KeyId, then: u64) {
        if let Some(entry) = self.entries.get(&id) {
            entry.confirmed.fetch_min(then, Ordering::Relaxed);
        }
    }
}
