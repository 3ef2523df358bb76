//! Bodies under way: how many one tenant sends at once, and the memory that all of them may take. Without these, one
//! key that sends its bodies drop by drop, or large ones, would take what everybody needs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use weir_error::{Code, Error};
use weir_types::TenantId;

/// Memory is counted in these, as bodies came; what is below one is free, so that most bodies cost nothing. A body that
/// is translated takes up to four times as much for a moment: itself, what it means, and the body that is sent, which
/// stays for as long as its answer takes.
const PIECE: usize = 64 * 1024;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Uploads {
    /// Uploads at once and tenant.
    max_open: u32,
    /// Pieces of memory in all; a quarter of them for one tenant.
    max_pieces: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    pieces: usize,
    tenants: HashMap<TenantId, Share>,
}

#[derive(Default)]
struct Share {
    open: u32,
    pieces: usize,
}

impl Uploads {
    pub(crate) fn new(max_open: u32, max_bytes: usize) -> Self {
        Self { max_open, max_pieces: max_bytes / PIECE, state: Arc::default() }
    }

    /// Counts an upload in; the platform's own, of no tenant, are not bounded in number.
    ///
    /// # Errors
    /// `RateLimited` when the tenant has too many under way.
    pub(crate) fn begin(&self, tenant: Option<TenantId>) -> Result<Upload, Error> {
        if let Some(tenant) = tenant {
            let mut state = self.state.lock();
            let share = state.tenants.entry(tenant).or_default();
            // An entry that was there for nothing else has a count, so none is left behind by a refusal.
            if share.open >= self.max_open {
                return Err(limited("too many request bodies of this tenant are under way"));
            }
            share.open += 1;
        }
        Ok(Upload { uploads: self.clone(), tenant, open: tenant.is_some(), pieces: 0 })
    }
}

/// One body and its memory, until dropped.
pub(crate) struct Upload {
    uploads: Uploads,
    tenant: Option<TenantId>,
    /// Still counts as under way.
    open: bool,
    pieces: usize,
}

impl Upload {
    /// Makes room for a body of so many bytes in all.
    ///
    /// # Errors
    /// `RateLimited` when the tenant, `Overloaded` when all together take too much memory.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        let more = (bytes / PIECE).saturating_sub(self.pieces);
        if more == 0 {
            return Ok(());
        }
        let mut state = self.uploads.state.lock();
        if state.pieces + more > self.uploads.max_pieces {
            return Err(Error::new(Code::Overloaded, "this instance holds as many request bodies as it can")
                .with_retry_after(RETRY_AFTER));
        }
        if let Some(tenant) = self.tenant {
            let share = state.tenants.entry(tenant).or_default();
            if share.pieces + more > self.uploads.max_pieces / 4 {
                return Err(limited("the request bodies of this tenant are too large together"));
            }
            share.pieces += more;
        }
        state.pieces += more;
        self.pieces += more;
        Ok(())
    }

    /// The body has arrived; its memory stays taken.
    pub(crate) fn arrived(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.give_back(open, 0);
    }

    fn give_back(&self, open: bool, pieces: usize) {
        if !open && pieces == 0 {
            return;
        }
        let mut state = self.uploads.state.lock();
        state.pieces -= pieces;
        let Some(tenant) = self.tenant else { return };
        let Some(share) = state.tenants.get_mut(&tenant) else { return };
        share.open -= u32::from(open);
        share.pieces -= pieces;
        if share.open == 0 && share.pieces == 0 {
            state.tenants.remove(&tenant);
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.give_back(self.open, self.pieces);
    }
}

fn limited(text: &'static str) -> Error {
    Error::new(Code::RateLimited, text).with_retry_after(RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T>(result: Result<T, Error>) -> Code {
        result.err().unwrap().code()
    }

    #[test]
    fn uploads_are_counted_until_they_have_arrived() {
        let uploads = Uploads::new(2, 100 * PIECE);
        let (one, other) = (Some(TenantId::new()), Some(TenantId::new()));
        let (mut first, second) = (uploads.begin(one).unwrap(), uploads.begin(one).unwrap());
        assert_eq!(code(uploads.begin(one)), Code::RateLimited);
        assert!(uploads.begin(other).is_ok() && uploads.begin(None).is_ok());
        first.arrived();
        let third = uploads.begin(one).unwrap();
        assert_eq!(code(uploads.begin(one)), Code::RateLimited);
        drop((first, second, third));
        assert!(uploads.state.lock().tenants.is_empty());
    }

    #[test]
    fn memory_is_bounded_for_a_tenant_and_for_all() {
        let uploads = Uploads::new(100, 8 * PIECE);
        let mut held = Vec::new();
        for _ in 0..4 {
            let tenant = Some(TenantId::new());
            let mut upload = uploads.begin(tenant).unwrap();
            upload.grow(PIECE).unwrap();
            upload.grow(2 * PIECE + 1).unwrap();
            upload.arrived();
            let mut next = uploads.begin(tenant).unwrap();
            next.grow(PIECE - 1).unwrap();
            assert!(matches!(code(next.grow(PIECE)), Code::RateLimited | Code::Overloaded));
            held.push(upload);
        }
        let mut late = uploads.begin(None).unwrap();
        assert_eq!(code(late.grow(PIECE)), Code::Overloaded);
        held.pop();
        late.grow(2 * PIECE).unwrap();
        drop((held, late));
        let state = uploads.state.lock();
        assert!(state.pieces == 0 && state.tenants.is_empty());
    }
}
