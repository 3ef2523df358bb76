//! Requests that wait for others to share a call with.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use weir_llm::Dialect;
use weir_runtime::{OnFailure, Tasks};
use weir_types::TenantId;

use super::{MAX_INPUTS, Member, call::Call};

/// A call's inputs together, in bytes: far below what any vendor takes in one call.
const MAX_BYTES: usize = 128 * 1024;
/// Longer than this nobody is kept waiting for others.
const LONGEST_WAIT_MS: u64 = 1_000;

/// Requests that agree in this may share a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) tenant: Option<TenantId>,
    /// As the client named it.
    pub(super) model: String,
    pub(super) dimensions: Option<u32>,
    pub(super) extra: Bytes,
    pub(super) tokens: bool,
    pub(super) strict: bool,
    pub(super) client: Dialect,
}

struct Open {
    call: Call,
    members: Vec<Member>,
    inputs: usize,
    bytes: usize,
    /// Told when there is no more room.
    full: Arc<Notify>,
}

pub(super) struct Batches {
    wait: Duration,
    open: Mutex<HashMap<Key, Open>>,
    /// Where shared calls run: no one request's wait is theirs.
    tasks: OnceLock<Tasks>,
}

impl Batches {
    pub(super) fn new(wait_ms: u64) -> Self {
        let wait = Duration::from_millis(wait_ms.min(LONGEST_WAIT_MS));
        Self { wait, open: Mutex::default(), tasks: OnceLock::new() }
    }

    pub(super) fn run_on(&self, tasks: &Tasks) {
        drop(self.tasks.set(tasks.clone()));
    }

    /// Gives a request back that is not to be shared.
    pub(super) fn join(
        self: &Arc<Self>,
        key: Key,
        member: Member,
        call: Call,
    ) -> Option<Box<(Call, Member)>> {
        let (inputs, bytes) = (member.inputs.len(), member.bytes());
        let shares = !self.wait.is_zero() && inputs < MAX_INPUTS && bytes < MAX_BYTES && call.takes_several();
        let tasks = self.tasks.get().filter(|_| shares);
        let Some(tasks) = tasks else { return Some(Box::new((call, member))) };
        let mut open = self.open.lock();
        let fits = |o: &Open| o.inputs + inputs <= MAX_INPUTS && o.bytes + bytes <= MAX_BYTES;
        if let Some(at) = open.get_mut(&key).filter(|open| fits(open)) {
            at.inputs += inputs;
            at.bytes += bytes;
            at.members.push(member);
            return None;
        }
        let full = Arc::new(Notify::new());
        let next = Open { call, members: vec![member], inputs, bytes, full: full.clone() };
        if let Some(before) = open.insert(key.clone(), next) {
            before.full.notify_one();
            tasks.spawn("orchestrator.embed", OnFailure::Log, before.call.make(before.members, None));
        }
        drop(open);
        let this = self.clone();
        tasks.spawn("orchestrator.embed", OnFailure::Log, async move {
            tokio::select! {
                () = tokio::time::sleep(this.wait) => {}
                // Somebody took what was collected.
                () = full.notified() => return,
            }
            let mine = {
                let mut open = this.open.lock();
                match open.get(&key).filter(|open| Arc::ptr_eq(&open.full, &full)) {
                    Some(_) => open.remove(&key),
                    None => None,
                }
            };
            if let Some(open) = mine {
                open.call.make(open.members, None).await;
            }
        });
        None
    }
}
