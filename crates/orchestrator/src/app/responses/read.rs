//! What is kept, as clients read it.

use serde::Deserialize;
use serde_json::json;
use weir_error::Error;
use weir_proto::chat::{ListInputItemsRequest, Usage};
use weir_types::RequestContext;

use super::{
    Responses, events,
    json::{Object, Raw, array},
    not_found,
    object::{self, Shape},
    wanted::item_id,
};
use crate::store::Kept;

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

/// The object as clients get it.
pub(super) fn body(kept: &Kept, shows_encrypted: bool) -> Vec<u8> {
    let mut object = Object::parse(&kept.object).unwrap_or_default();
    let shape = Shape {
        id: kept.id.clone(),
        previous: kept.previous.clone(),
        store: true,
        background: kept.background,
        shows_encrypted,
    };
    shape.claim(&mut object);
    object.set("status", &kept.status);
    object::with_output(&mut object, &shape.shown_all(&array(&kept.output)));
    object.to_vec()
}

/// The last event of one whose events are forgotten.
pub(super) fn last_event(kept: &Kept, number: u64) -> Vec<u8> {
    let name = events::terminal(&kept.status);
    let object = Object::parse(&body(kept, false)).unwrap_or_default();
    events::numbered(name, events::of_response(name, object.into_raw()), number)
}

/// What one that has ended used, if that is known.
pub(super) fn usage(kept: &Kept) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Used {
        input_tokens: u64,
        output_tokens: u64,
    }
    let Used { input_tokens, output_tokens } = Object::parse(&kept.object)?.read("usage")?;
    Some(Usage { input_tokens, output_tokens, ..Usage::default() })
}

pub(super) fn deleted(id: &str) -> Vec<u8> {
    json!({"id": id, "object": "response", "deleted": true}).to_string().into_bytes()
}

impl Responses {
    /// All that the response was made from, the turns before included, a page at a time.
    pub(super) async fn items(
        &self,
        ctx: &RequestContext,
        request: &ListInputItemsRequest,
    ) -> Result<Vec<u8>, Error> {
        let chain = self.shared.store.chain(ctx, &request.id, self.page()).await?;
        let Some((last, before)) = chain.turns.split_last() else { return Err(not_found(&request.id)) };
        let mut items: Vec<Raw> = Vec::new();
        for turn in before {
            items.extend(named(&turn.id, array(&turn.input)).map(|item| listed(&item)));
            items.extend(array(&turn.output).iter().map(object::hidden));
        }
        items.extend(named(&last.id, array(&last.input)).map(|item| listed(&item)));
        if !request.ascending {
            items.reverse();
        }
        let limit = match request.limit {
            0 => DEFAULT_LIMIT,
            limit => usize::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT),
        };
        let from = match request.after.as_str() {
            "" => 0,
            after => {
                let at = items.iter().position(|item| item_id(item).as_deref() == Some(after));
                let unknown = || Error::invalid("after", format!("Item with id '{after}' not found."));
                at.ok_or_else(unknown)? + 1
            }
        };
        let page = items.get(from..).unwrap_or_default();
        let has_more = page.len() > limit;
        let page = page.get(..limit).unwrap_or(page);
        let ids = (page.first().and_then(item_id), page.last().and_then(item_id));
        Ok(events::list(page, has_more, (ids.0.as_deref(), ids.1.as_deref())))
    }
}

/// An item as lists have it: a message's content is a list, and it has a status.
fn listed(item: &Raw) -> Raw {
    let item = object::hidden(item);
    let Some(mut object) = Object::of(&item) else { return item };
    if object.read::<String>("type").as_deref() != Some("message") {
        return item;
    }
    if let Some(text) = object.read::<String>("content") {
        let part = if object.read::<String>("role").as_deref() == Some("assistant") {
            json!({"type": "output_text", "text": text, "annotations": []})
        } else {
            json!({"type": "input_text", "text": text})
        };
        object.set("content", &[part]);
    }
    if object.get("status").is_none() {
        object.set("status", "completed");
    }
    object.into_raw()
}

/// Items with ids: those without get one of their response's and their place in it.
pub(super) fn named(response: &str, items: Vec<Raw>) -> impl Iterator<Item = Raw> {
    let response = response.strip_prefix("resp_").unwrap_or(response).to_owned();
    items.into_iter().enumerate().map(move |(at, item)| {
        let Some(mut object) = Object::of(&item) else { return item };
        let kind: String = object.read("type").unwrap_or_else(|| "message".to_owned());
        object.set("type", &kind);
        if object.get("id").is_some() {
            return object.into_raw();
        }
        let prefix = match kind.as_str() {
            "message" => "msg",
            "function_call" => "fc",
            "function_call_output" => "fco",
            "reasoning" => "rs",
            _ => "item",
        };
        object.set("id", &format!("{prefix}_{response}{at:04}"));
        object.into_raw()
    })
}
