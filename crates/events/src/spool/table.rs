//! The attempts that are open. The same rules hold while writing a spool and while reading one that was left.

use std::collections::HashMap;

use uuid::Uuid;

const SPARE_BUFFERS: usize = 1_024;

/// An attempt that is open, or closed and the last to stand for its request.
#[derive(Debug)]
pub(super) struct Attempt {
    /// An encoded `OpenAttempt`.
    pub(super) payload: Vec<u8>,
    /// Id of its request's event.
    request: Uuid,
    pub(super) closed: bool,
    /// That it was closed has been written, with its events.
    pub(super) stored: bool,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    attempts: HashMap<Uuid, Attempt>,
    /// The newest attempt of each request that is not done.
    newest: HashMap<Uuid, Uuid>,
    spare: Vec<Vec<u8>>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.attempts.len()
    }

    /// An empty buffer for a payload, used before where possible.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// From now on it stands for its request; one that was closed before no longer does. Of one that is known
    /// already nothing changes.
    pub(super) fn opened(&mut self, id: Uuid, request: Uuid, payload: Vec<u8>) {
        if self.attempts.contains_key(&id) {
            return;
        }
        self.attempts.insert(id, Attempt { payload, request, closed: false, stored: false });
        if let Some(previous) = self.newest.insert(request, id) {
            self.forget_closed(previous);
        }
    }

    /// The attempt is done, its request is not. It stays if no newer attempt stands for the request.
    pub(super) fn attempt_closed(&mut self, id: Uuid) {
        let Some(attempt) = self.attempts.get_mut(&id) else { return };
        if self.newest.get(&attempt.request) == Some(&id) {
            attempt.closed = true;
        } else {
            self.forget(id);
        }
    }

    pub(super) fn stored(&mut self, id: Uuid) {
        if let Some(attempt) = self.attempts.get_mut(&id) {
            attempt.stored = attempt.closed;
        }
    }

    /// The attempt and its request are done.
    pub(super) fn closed(&mut self, id: Uuid) {
        let Some(request) = self.forget(id) else { return };
        if let Some(newest) = self.newest.remove(&request) {
            self.forget_closed(newest);
        }
    }

    /// In the order they were opened, as far as their ids tell.
    pub(super) fn sorted(&self) -> Vec<(&Uuid, &Attempt)> {
        let mut all: Vec<_> = self.attempts.iter().collect();
        all.sort_unstable_by_key(|(id, _)| **id);
        all
    }

    fn forget_closed(&mut self, id: Uuid) {
        if self.attempts.get(&id).is_some_and(|a| a.closed) {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: Uuid) -> Option<Uuid> {
        let mut old = self.attempts.remove(&id)?;
        if self.spare.len() < SPARE_BUFFERS {
            old.payload.clear();
            self.spare.push(old.payload);
        }
        Some(old.request)
    }
}
