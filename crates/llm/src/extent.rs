//! How many messages and parts a body has. Each takes many times its bytes once it is understood.

use std::{borrow::Cow, cell::Cell, fmt};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use weir_error::{Code, Error};

use crate::Dialect;

/// Most messages of a body, and most of what they are made of.
pub(crate) const MOST: usize = 20_000;
/// What tools are given, and objects that they give, stay as they are, in one piece.
const WHOLE: [&str; 5] = ["arguments", "args", "input", "response", "json"];
/// Lists and objects within one another: what is deeper nobody takes apart.
const MAX_DEPTH: usize = 64;

/// # Errors
/// `InvalidArgument` with the member of which there are too many.
pub(crate) fn check(dialect: Dialect, body: &[u8]) -> Result<(), Error> {
    // Each takes two bytes at least, and stands behind a bracket or a comma.
    if body.len() <= 2 * MOST || marks(body) <= MOST {
        return Ok(());
    }
    let members: &[&str] = match dialect {
        Dialect::Responses => &["input"],
        Dialect::Anthropic => &["messages", "system"],
        Dialect::Gemini => &["contents", "systemInstruction", "system_instruction"],
        _ => &["messages"],
    };
    let seen = Seen::default();
    let mut json = serde_json::Deserializer::from_slice(body);
    // What isn't JSON is told by who reads it.
    drop(Body { seen: &seen, members }.deserialize(&mut json));
    let Some((member, what)) = seen.too_many.get() else { return Ok(()) };
    let text = format!("Too many {what} in '{member}': at most {MOST}.");
    Err(Error::new(Code::InvalidArgument, text).with_param(member))
}

/// Brackets and commas, wherever they stand: in pieces whose count a byte has room for, of which many are counted at once.
fn marks(body: &[u8]) -> usize {
    let within = |piece: &[u8]| piece.iter().map(|byte| u8::from(matches!(byte, b'[' | b','))).sum::<u8>();
    body.chunks(255).map(|piece| usize::from(within(piece))).sum()
}

#[derive(Default)]
struct Seen<'a> {
    messages: Cell<usize>,
    parts: Cell<usize>,
    too_many: Cell<Option<(&'a str, &'static str)>>,
}

struct Body<'s, 'a> {
    seen: &'s Seen<'a>,
    members: &'s [&'a str],
}

impl<'de> DeserializeSeed<'de> for Body<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            match self.members.iter().find(|member| **member == key) {
                Some(member) => map.next_value_seed(Within { seen: self.seen, member, depth: 0 })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A member's name, copied only where it is written with escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(name))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(name.to_owned()))
            }
        }
        deserializer.deserialize_str(Name).map(Self)
    }
}

/// Whatever a member holds. Entries of the list that it is are messages, of all lists within them parts.
#[derive(Clone, Copy)]
struct Within<'s, 'a> {
    seen: &'s Seen<'a>,
    member: &'a str,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Within<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > MAX_DEPTH {
            return IgnoredAny::deserialize(deserializer).map(drop);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Within<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let (count, what) = if self.depth == 0 {
            (&self.seen.messages, "messages")
        } else {
            (&self.seen.parts, "parts of messages")
        };
        while list.next_element_seed(Self { depth: self.depth + 1, ..self })?.is_some() {
            count.set(count.get() + 1);
            if count.get() > MOST {
                self.seen.too_many.set(Some((self.member, what)));
                return Err(A::Error::custom("too many"));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            if WHOLE.contains(&&*key) {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Self { depth: self.depth + 1, ..self })?;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Target, canonical::Losses};

    fn refused(dialect: Dialect, body: &str) -> Option<String> {
        check(dialect, body.as_bytes()).err().map(|error| error.message().to_owned())
    }

    #[test]
    fn messages_and_parts_are_bounded_in_every_dialect() {
        let many = |what: &str, count: usize| vec![what; count].join(",");
        let message = r#"{"role":"user","content":""}"#;
        for (dialect, member, whole) in [
            (Dialect::OpenAi, "messages", r#"{"role":"user","content":[PARTS]}"#),
            (Dialect::OpenAi, "messages", r#"{"role":"assistant","tool_calls":[PARTS]}"#),
            (
                Dialect::Anthropic,
                "messages",
                r#"{"role":"user","content":[{"type":"tool_result","content":[PARTS]}]}"#,
            ),
            (Dialect::Gemini, "contents", r#"{"parts":[PARTS]}"#),
            (Dialect::Responses, "input", r#"{"role":"user","content":[PARTS]}"#),
            (Dialect::Responses, "input", r#"{"type":"function_call_output","output":[PARTS]}"#),
        ] {
            let body = |count| format!(r#"{{"model":"m","{member}":[{}]}}"#, many(message, count));
            assert_eq!(refused(dialect, &body(MOST)), None);
            let text = refused(dialect, &body(MOST + 1)).unwrap();
            assert_eq!(text, format!("Too many messages in '{member}': at most 20000."));
            let within = whole.replace("PARTS", &many("{}", MOST + 1));
            let text = refused(dialect, &format!(r#"{{"{member}":[{within}]}}"#)).unwrap();
            assert_eq!(text, format!("Too many parts of messages in '{member}': at most 20000."));
        }
        let one = format!(r#"{{"contents":{{"parts":[{}]}}}}"#, many("{}", MOST + 1));
        assert!(refused(Dialect::Gemini, &one).unwrap().contains("'contents'"));
        // What nobody reads is no reason to stop counting.
        let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
        let after = format!(r#"{{"messages":[{{"x":{deep}}},{}]}}"#, many("{}", MOST));
        assert!(refused(Dialect::OpenAi, &after).is_some());
        let escaped = format!(r#"{{"mess\u0061ges":[{}]}}"#, many("{}", MOST + 1));
        assert!(refused(Dialect::OpenAi, &escaped).is_some());
    }

    #[test]
    fn what_tools_are_given_and_what_is_no_json_is_not_counted() {
        let list = vec!["1"; 3 * MOST].join(",");
        for body in [
            format!(r#"{{"messages":[{{"content":[{{"type":"tool_use","input":[{list}]}}]}}]}}"#),
            format!(r#"{{"messages":[],"metadata":[{list}]}}"#),
            format!(r#"{{"messages":[null,true,1,-1,1.5,"x",{{"a":null}}],"x":[{list}"#),
            format!("[{list}]"),
            list,
        ] {
            assert_eq!(refused(Dialect::Anthropic, &body), None);
        }
    }

    /// Each level is read by a call within a call: without a bound a body could end the process.
    #[test]
    fn what_is_nested_without_end_is_refused_or_left_as_it_is() {
        let ask =
            |content: &str| format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#);
        let decode =
            |dialect: Dialect, body: &str| dialect.decode_request(body.as_bytes(), &mut Losses::default());
        let result =
            |within: &str| format!(r#"[{{"type":"tool_result","tool_use_id":"t","content":{within}}}]"#);
        let document =
            r#"[{"type":"document","source":{"type":"content","content":[{"type":"text","text":"x"}]}}]"#;
        assert!(decode(Dialect::Anthropic, &ask(&result(document))).is_ok());
        let (open, close) = (r#"[{"type":"tool_result","tool_use_id":"t","content":"#, "}]");
        let search = r#"[{"type":"search_result","title":"t","content":"#;
        let source = r#"[{"type":"document","source":{"type":"content","content":"#;
        for (open, close) in [(open, close), (search, close), (source, "}}]")] {
            let body = ask(&format!("{}\"x\"{}", open.repeat(50_000), close.repeat(50_000)));
            let error = decode(Dialect::Anthropic, &body).unwrap_err();
            assert!(error.param().is_some_and(|at| at.starts_with("messages.0.content.0.")), "{error:?}");
            assert!(error.message().ends_with("nested too deep"), "{error:?}");
            assert!(Dialect::Anthropic.provider().count_prompt(body.as_bytes()) > 0);
        }
        let deep = format!("{}{{}}{}", r#"{"items":"#.repeat(50_000), "}".repeat(50_000));
        for config in [
            format!(r#""tools":[{{"functionDeclarations":[{{"name":"f","parameters":{deep}}}]}}]"#),
            format!(
                r#""generationConfig":{{"responseMimeType":"application/json","responseSchema":{deep}}}"#
            ),
        ] {
            let body = format!(r#"{{"contents":[{{"parts":[{{"text":"Hi"}}]}}],{config}}}"#);
            let request = decode(Dialect::Gemini, &body).unwrap();
            for into in
                [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini, Dialect::Bedrock, Dialect::Ollama]
            {
                assert!(
                    into.encode_request(&request, &Target::known("m"), &mut Losses::default()).len()
                        > deep.len()
                );
            }
        }
    }
}
