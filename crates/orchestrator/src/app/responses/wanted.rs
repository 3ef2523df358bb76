//! What a client asks of the store, and the body that a provider gets: with the conversation so far in `input`, and
//! nothing in it that only a store understands.

use std::collections::HashSet;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use weir_error::{Code, Error};

use super::{
    json::{AtMost, Object, Raw},
    object::ENCRYPTED,
};

/// The most items of a request, with those of its conversation.
pub(super) const MAX_ITEMS: usize = 20_000;

#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) body: Object,
    pub(super) store: bool,
    pub(super) background: bool,
    pub(super) previous: Option<String>,
    pub(super) include: Vec<String>,
    /// This turn's items.
    pub(super) input: Vec<Raw>,
    /// Some of them the client only referred to.
    pub(super) referred: bool,
}

impl Wanted {
    /// # Errors
    /// A member that is not of its type, or asks for what can't be had.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Error> {
        let body: Object = serde_json::from_slice(body)
            .map_err(|e| Error::new(Code::InvalidJson, "The body is not valid JSON.").with_source(e))?;
        if body.get("conversation").is_some() {
            let text = "Conversations are not supported yet: go on from a response with 'previous_response_id', or send the \
                        earlier items in 'input'.";
            return Err(Error::invalid("conversation", text));
        }
        let wanted = Self {
            store: read(&body, "store", "a boolean")?.unwrap_or(true),
            background: read(&body, "background", "a boolean")?.unwrap_or(false),
            previous: read(&body, "previous_response_id", "a string")?,
            include: read(&body, "include", "an array of strings")?.unwrap_or_default(),
            input: input(&body)?,
            referred: false,
            body,
        };
        if wanted.background && !wanted.store {
            let text = "Background mode requires store to be true.";
            return Err(Error::invalid("background", text));
        }
        Ok(wanted)
    }

    pub(super) fn shows_encrypted(&self) -> bool {
        self.include.iter().any(|name| name == ENCRYPTED)
    }

    /// The body for a provider. `before` is the conversation so far; `input`, this turn's items as they are to be said,
    /// where those differ from what the client wrote.
    ///
    /// # Errors
    /// An item refers to one that is not there; there are too many.
    pub(super) fn upstream(
        &self,
        before: &[Raw],
        input: Option<&[Raw]>,
        stream: bool,
    ) -> Result<Bytes, Error> {
        let mut body = self.body.clone();
        ["previous_response_id", "background", "conversation"].iter().for_each(|name| body.remove(name));
        body.set("store", &false);
        if stream {
            body.set("stream", &true);
        }
        if let Some(all) = self.items(before, input)? {
            body.set("input", &all);
        }
        Ok(body.to_vec().into())
    }

    /// All that is said, the conversation so far first. `None` where that is what the client wrote.
    ///
    /// # Errors
    /// As [`Wanted::upstream`].
    pub(super) fn items<'a>(
        &'a self,
        before: &'a [Raw],
        input: Option<&'a [Raw]>,
    ) -> Result<Option<Vec<&'a Raw>>, Error> {
        if before.len() + self.input.len() > MAX_ITEMS {
            return Err(too_many());
        }
        let (changed, input) = (self.referred || input.is_some(), input.unwrap_or(&self.input));
        let referred = input.iter().any(is_reference);
        if before.is_empty() && !referred && !changed {
            return Ok(None);
        }
        let known: HashSet<String> =
            if referred { before.iter().filter_map(item_id).collect() } else { HashSet::new() };
        let unanswered = unanswered(before, input);
        let mut all: Vec<&Raw> =
            before.iter().zip(unanswered).filter(|(_, gone)| !gone).map(|(item, _)| item).collect();
        for item in input {
            match reference(item) {
                None => all.push(item),
                // What the conversation has already need not be said again.
                Some(id) if known.contains(&id) => {}
                Some(id) => {
                    let text = format!("Item with id '{id}' not found.");
                    return Err(Error::new(Code::NotFound, text).with_param("input"));
                }
            }
        }
        Ok(Some(all))
    }
}

fn read<T: DeserializeOwned>(body: &Object, name: &str, expected: &str) -> Result<Option<T>, Error> {
    let Some(raw) = body.get(name) else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| {
        let text = format!("Invalid type for '{name}': expected {expected}.");
        Error::new(Code::InvalidType, text).with_param(name)
    })
}

/// Which of these are calls that were cut, and that nobody answered: no provider takes them back, nor what the model
/// thought before them alone.
fn unanswered(before: &[Raw], input: &[Raw]) -> Vec<bool> {
    let cut: Vec<Option<String>> = before.iter().map(cut_call).collect();
    if cut.iter().all(Option::is_none) {
        return vec![false; before.len()];
    }
    let answered: HashSet<String> = before.iter().chain(input).filter_map(answered).collect();
    let mut gone: Vec<bool> =
        cut.into_iter().map(|id| id.is_some_and(|id| !answered.contains(&id))).collect();
    let mut after = false;
    for (gone, item) in gone.iter_mut().zip(before).rev() {
        *gone |= after && is_thought(item);
        after = *gone;
    }
    gone
}

fn is_thought(item: &Raw) -> bool {
    Object::of(item).and_then(|item| item.read::<String>("type")).as_deref() == Some("reasoning")
}

/// The id of a call that was not told to its end.
fn cut_call(item: &Raw) -> Option<String> {
    let item = item.get().contains("incomplete").then(|| Object::of(item))??;
    let kind: String = item.read("type")?;
    let cut = matches!(kind.as_str(), "function_call" | "custom_tool_call");
    (cut && item.read::<String>("status")? == "incomplete").then(|| item.read("call_id"))?
}

fn answered(item: &Raw) -> Option<String> {
    let item = item.get().contains("_call_output").then(|| Object::of(item))??;
    item.read("call_id")
}

/// The items of `input`, which may also be a text.
fn input(body: &Object) -> Result<Vec<Raw>, Error> {
    let Some(raw) = body.get("input") else { return Ok(Vec::new()) };
    if let Ok(text) = serde_json::from_str::<String>(raw.get()) {
        let mut message = Object::default();
        message.set("type", "message");
        message.set("role", "user");
        message.set("content", &[serde_json::json!({ "type": "input_text", "text": text })]);
        return Ok(vec![message.into_raw()]);
    }
    let items: Option<AtMost<MAX_ITEMS>> = read(body, "input", "a string or an array")?;
    items.unwrap_or_default().0.ok_or_else(too_many)
}

fn too_many() -> Error {
    let text = format!("A request may have {MAX_ITEMS} items, those of its conversation included.");
    Error::invalid("input", text)
}

pub(super) fn is_reference(item: &Raw) -> bool {
    reference(item).is_some()
}

pub(super) fn reference(item: &Raw) -> Option<String> {
    // Nearly all items are none, and need not be taken apart.
    let item = item.get().contains("item_reference").then(|| Object::of(item))??;
    let kind: String = item.read("type")?;
    (kind == "item_reference").then(|| item.read("id"))?
}

pub(super) fn item_id(item: &Raw) -> Option<String> {
    Object::of(item)?.read("id")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(body: &Value) -> Result<Wanted, Error> {
        Wanted::parse(body.to_string().as_bytes())
    }

    fn sent(wanted: &Wanted, before: &[Value]) -> Value {
        let before: Vec<Raw> = before.iter().map(|v| serde_json::value::to_raw_value(v).unwrap()).collect();
        serde_json::from_slice(&wanted.upstream(&before, None, false).unwrap()).unwrap()
    }

    #[test]
    fn the_provider_is_told_nothing_of_the_store() {
        let asked = json!({"model": "m", "input": "Hi", "previous_response_id": "resp_1", "store": true,
            "background": true, "vendor_thing": {"a": 1}});
        let before = [json!({"type": "message", "role": "user", "content": "one"})];
        let body = sent(&parse(&asked).unwrap(), &before);
        assert_eq!(
            body,
            json!({"model": "m", "store": false, "vendor_thing": {"a": 1}, "input": [before[0],
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]})
        );
        // Nothing before: as the client wrote it.
        let asked = json!({"model": "m", "input": "Hi"});
        assert_eq!(sent(&parse(&asked).unwrap(), &[]), json!({"model": "m", "input": "Hi", "store": false}));
    }

    #[test]
    fn a_call_that_was_cut_is_not_gone_on_from() {
        let said = |text: &str| json!({"type": "message", "role": "user", "content": text});
        let thought = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"});
        let call = |id: &str, status: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{\"a\":\"tru", "status": status});
        let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "x"});
        let before = [
            said("one"),
            thought.clone(),
            call("a", "completed"),
            output("a"),
            thought,
            call("b", "incomplete"),
        ];
        let asked = |input: Value| {
            parse(&json!({"model": "m", "input": input, "previous_response_id": "resp_1"})).unwrap()
        };
        let input = json!([said("two")]);
        let all = [&before[..4], &[said("two")]].concat();
        assert_eq!(sent(&asked(input), &before)["input"], json!(all));
        // Whoever ran it all the same is heard.
        let all = [&before[..], &[output("b")]].concat();
        assert_eq!(sent(&asked(json!([output("b")])), &before)["input"], json!(all));
    }

    #[test]
    fn items_are_referred_to_by_id() {
        let before = [json!({"type": "message", "id": "msg_1", "role": "assistant", "content": []})];
        let asked = json!({"model": "m", "input": [{"type": "item_reference", "id": "msg_1"}]});
        assert_eq!(sent(&parse(&asked).unwrap(), &before)["input"], json!(before));
        let unknown = parse(&asked).unwrap().upstream(&[], None, false).unwrap_err();
        assert_eq!((unknown.code(), unknown.param()), (Code::NotFound, Some("input")));
    }

    /// As many references as there may be, to as many items: found among them one by one, it would not end.
    #[test]
    fn many_references_are_many_look_ups() {
        let half = MAX_ITEMS / 2;
        let id = |n: usize| format!("msg_{n}");
        let before: Vec<_> = (0..half).map(|n| json!({"id": id(n), "content": "x".repeat(200)})).collect();
        let references = (0..half).map(|n| json!({"type": "item_reference", "id": id(half - 1 - n)}));
        let asked = json!({"model": "m", "input": references.collect::<Vec<_>>()});
        assert_eq!(sent(&parse(&asked).unwrap(), &before)["input"], json!(before));
        // One more, in the request or with what was before.
        let many = |n: usize| json!({"model": "m", "input": vec![1; n]});
        let error = parse(&many(MAX_ITEMS + 1)).unwrap_err();
        assert_eq!((error.code(), error.param()), (Code::InvalidArgument, Some("input")));
        let whole = parse(&many(MAX_ITEMS)).unwrap();
        assert!(whole.upstream(&[], None, false).is_ok());
        let one = serde_json::value::to_raw_value(&1).unwrap();
        assert_eq!(whole.upstream(&[one], None, false).unwrap_err().param(), Some("input"));
    }

    #[test]
    fn wrong_members_are_named() {
        for (body, param) in [
            (json!({"store": 1}), "store"),
            (json!({"background": "yes"}), "background"),
            (json!({"background": true, "store": false}), "background"),
            (json!({"previous_response_id": 7}), "previous_response_id"),
            (json!({"include": "x"}), "include"),
            (json!({"input": 5}), "input"),
            (json!({"conversation": "conv_1"}), "conversation"),
        ] {
            assert_eq!(parse(&body).unwrap_err().param(), Some(param), "{body}");
        }
        let nulls = json!({"store": null, "background": null, "previous_response_id": null, "input": null});
        assert!(parse(&nulls).unwrap().store);
    }
}
