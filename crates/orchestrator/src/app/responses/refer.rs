//! Items that a request refers to instead of repeating them.

use std::collections::{HashMap, HashSet};

use weir_error::Error;
use weir_types::RequestContext;

use super::{
    Responses,
    json::{Raw, array},
    object::is_mute,
    read::named,
    wanted::{Wanted, item_id, reference},
};

impl Responses {
    /// Puts in what the request refers to and the conversation before it hasn't: of any response that is kept and the
    /// caller's. What is not found stays a reference.
    ///
    /// # Errors
    /// `Unavailable` without the database.
    pub(super) async fn refer(
        &self,
        ctx: &RequestContext,
        before: &[Raw],
        wanted: &mut Wanted,
    ) -> Result<(), Error> {
        let mut sought: HashSet<String> = wanted.input.iter().filter_map(reference).collect();
        if sought.is_empty() {
            return Ok(());
        }
        for id in before.iter().filter_map(item_id) {
            sought.remove(&id);
        }
        if sought.is_empty() {
            return Ok(());
        }
        let responses: HashSet<String> = sought.iter().filter_map(|id| response_of(id)).collect();
        let responses: Vec<String> = responses.into_iter().collect();
        let ids: Vec<String> = sought.iter().cloned().collect();
        let turns = self.shared.store.with_items(ctx, &ids, &responses, self.page().bytes).await?;
        let mut found: HashMap<String, Raw> = HashMap::new();
        for turn in turns {
            for item in array(&turn.output).into_iter().chain(named(&turn.id, array(&turn.input))) {
                if let Some(id) = item_id(&item).filter(|id| sought.contains(id)) {
                    // The newest of that name.
                    found.entry(id).or_insert(item);
                }
            }
        }
        let input = std::mem::take(&mut wanted.input);
        wanted.input = input
            .into_iter()
            .filter_map(|item| {
                let named = reference(&item).and_then(|id| found.get(&id));
                match named {
                    Some(named) if is_mute(named) => None,
                    Some(named) => Some(named.clone()),
                    None => Some(item),
                }
            })
            .collect();
        wanted.referred |= !found.is_empty();
        Ok(())
    }
}

/// The response of an item whose id we made: `msg_` and the response's own 32 digits, then its place.
fn response_of(item: &str) -> Option<String> {
    let (_, rest) = item.split_once('_')?;
    let hex = rest.get(..32)?;
    hex.bytes().all(|b| b.is_ascii_hexdigit()).then(|| format!("resp_{hex}"))
}
