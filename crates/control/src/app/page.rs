//! Pages of a list that is ordered by id, newest first.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;
use weir_error::Error;

use super::validate;

/// Cursors are opaque to clients; this lets their form change.
const VERSION: u8 = 1;

#[derive(Debug, Clone)]
pub(crate) struct Page<T> {
    pub(crate) data: Vec<T>,
    pub(crate) has_more: bool,
    /// Empty on the last page.
    pub(crate) next_cursor: String,
}

/// Which page somebody asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    limit: usize,
    pub(super) before: Option<Uuid>,
}

impl Wanted {
    pub(super) fn new(limit: u32, after: &str) -> Result<Self, Error> {
        let before = if after.is_empty() { None } else { Some(read(after)?) };
        Ok(Self { limit: validate::limit(limit)?, before })
    }

    /// One more than wanted, to see whether there are more.
    pub(super) fn rows(self) -> i32 {
        i32::try_from(self.limit + 1).unwrap_or(i32::MAX)
    }

    pub(super) fn page<T>(self, mut rows: Vec<T>, id: impl Fn(&T) -> Uuid) -> Page<T> {
        let has_more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next_cursor = rows.last().filter(|_| has_more).map(|row| write(id(row))).unwrap_or_default();
        Page { data: rows, has_more, next_cursor }
    }
}

fn write(id: Uuid) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read(cursor: &str) -> Result<Uuid, Error> {
    let id = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| match bytes.split_first() {
        Some((&VERSION, id)) => Uuid::from_slice(id).ok(),
        _ => None,
    });
    id.ok_or_else(|| Error::invalid("after", "after must be the next_cursor of an earlier page"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_chain_and_made_up_cursors_are_refused() {
        let ids: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
        let first = Wanted::new(2, "").unwrap().page(ids.clone(), |id| *id);
        assert!(first.has_more);
        assert_eq!(Wanted::new(2, &first.next_cursor).unwrap().before, Some(ids[1]));
        let last = Wanted::new(3, "").unwrap().page(ids, |id| *id);
        assert_eq!((last.has_more, last.next_cursor.as_str(), last.data.len()), (false, "", 3));
        for bad in ["x", "!", "AQ", &write(Uuid::nil())[1..], &Uuid::nil().to_string()] {
            assert_eq!(Wanted::new(2, bad).unwrap_err().param(), Some("after"), "{bad}");
        }
    }
}
