//! Events as they are written.

use bytes::{BufMut as _, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;

use super::item::{self, Extra, Item, Piece, Summary, WireLogprob};
use crate::canonical::{Custom, Delta};

/// An event: each has some of these.
#[derive(Serialize, Default)]
pub(super) struct Out<'a> {
    pub(super) r#type: &'static str,
    pub(super) sequence_number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) item_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<&'a [WireLogprob]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<OutPart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) item: Option<&'a Item>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum OutPart<'a> {
    Piece(&'a Piece),
    Summary(&'a Summary),
}

/// Numbers events as they are written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    next: u64,
}

impl Writer {
    pub(super) fn write(&mut self, event: Out<'_>, out: &mut BytesMut) {
        let event = Out { sequence_number: self.next, ..event };
        self.next += 1;
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.r#type.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        // Serializing into memory can't fail.
        drop(serde_json::to_writer(out.writer(), &event));
        out.extend_from_slice(b"\n\n");
    }

    /// A piece of an item's part that goes on. What stands at its end only, says nothing yet.
    pub(super) fn said(
        &mut self,
        item: &mut Item,
        place: usize,
        content: usize,
        delta: &Delta,
        out: &mut BytesMut,
    ) {
        let at = Out { output_index: Some(place), ..Out::default() };
        match (item, delta) {
            (Item::Message { id, content: pieces, .. }, delta) => {
                let at = Out { item_id: Some(id), content_index: Some(content), ..at };
                if let Some(piece) = pieces.get_mut(content) {
                    self.piece_said(piece, at, delta, out);
                }
            }
            (Item::Reasoning { id, summary, .. }, Delta::Thinking(said)) => {
                let Some(Summary::SummaryText { text }) = summary.first_mut() else { return };
                text.push_str(said);
                let r#type = "response.reasoning_summary_text.delta";
                let (item_id, summary_index, delta) = (Some(id.as_str()), Some(0), Some(said.as_str()));
                self.write(Out { r#type, item_id, summary_index, delta, ..at }, out);
            }
            (Item::Reasoning { encrypted_content, .. }, Delta::Opaque(opaque)) => {
                *encrypted_content = item::sealed(opaque);
            }
            (Item::FunctionCall { id, arguments, .. }, Delta::Arguments(said)) => {
                arguments.push_str(said);
                let r#type = "response.function_call_arguments.delta";
                self.write(Out { r#type, item_id: Some(id), delta: Some(said), ..at }, out);
            }
            // Its text is known when its JSON is whole.
            (Item::CustomToolCall { input, .. }, Delta::Arguments(said)) => input.push_str(said),
            (
                Item::FunctionCall { extra_content, .. } | Item::CustomToolCall { extra_content, .. },
                Delta::Opaque(opaque),
            ) => *extra_content = Some(Extra::of(opaque)),
            _ => {}
        }
    }

    fn piece_said(&mut self, piece: &mut Piece, at: Out<'_>, delta: &Delta, out: &mut BytesMut) {
        let text_delta = "response.output_text.delta";
        match (piece, delta) {
            (Piece::OutputText { text, .. }, Delta::Text(said) | Delta::Refusal(said)) => {
                text.push_str(said);
                self.write(Out { r#type: text_delta, delta: Some(said), logprobs: Some(&[]), ..at }, out);
            }
            (Piece::OutputText { logprobs, .. }, Delta::Logprobs(more)) => {
                let more: Vec<_> = more.iter().map(WireLogprob::from).collect();
                self.write(Out { r#type: text_delta, delta: Some(""), logprobs: Some(&more), ..at }, out);
                logprobs.extend(more);
            }
            (Piece::OutputText { extra_content, .. }, Delta::Opaque(opaque)) => {
                *extra_content = Some(Extra::of(opaque));
            }
            (Piece::Refusal { refusal }, Delta::Text(said) | Delta::Refusal(said)) => {
                refusal.push_str(said);
                self.write(Out { r#type: "response.refusal.delta", delta: Some(said), ..at }, out);
            }
            _ => {}
        }
    }

    /// The end of a part: what was said, all of it.
    pub(super) fn done(&mut self, item: &mut Item, place: usize, content: usize, out: &mut BytesMut) {
        let at = Out { output_index: Some(place), ..Out::default() };
        match item {
            Item::Message { id, content: pieces, .. } => {
                if let Some(piece) = pieces.get(content) {
                    self.piece_done(piece, id, place, content, out);
                }
            }
            Item::Reasoning { id, summary, .. } => {
                let Some(said @ Summary::SummaryText { text }) = summary.first() else { return };
                let at = || Out {
                    item_id: Some(id),
                    output_index: Some(place),
                    summary_index: Some(0),
                    ..Out::default()
                };
                let r#type = "response.reasoning_summary_text.done";
                self.write(Out { r#type, text: Some(text), ..at() }, out);
                let r#type = "response.reasoning_summary_part.done";
                self.write(Out { r#type, part: Some(OutPart::Summary(said)), ..at() }, out);
            }
            Item::ImageGenerationCall { .. } => {}
            Item::FunctionCall { id, name, arguments, .. } => {
                if arguments.trim().is_empty() {
                    "{}".clone_into(arguments);
                    let r#type = "response.function_call_arguments.delta";
                    let (output_index, delta) = (Some(place), Some(arguments.as_str()));
                    self.write(Out { r#type, item_id: Some(id), output_index, delta, ..Out::default() }, out);
                }
                let r#type = "response.function_call_arguments.done";
                let (item_id, name, arguments) =
                    (Some(id.as_str()), Some(name.as_str()), Some(arguments.as_str()));
                self.write(Out { r#type, item_id, name, arguments, ..at }, out);
            }
            Item::CustomToolCall { id, input, .. } => {
                *input = Custom::input(input).into_owned();
                let r#type = "response.custom_tool_call_input.delta";
                let (output_index, delta) = (Some(place), Some(input.as_str()));
                self.write(Out { r#type, item_id: Some(id), output_index, delta, ..Out::default() }, out);
                let r#type = "response.custom_tool_call_input.done";
                self.write(Out { r#type, item_id: Some(id), input: Some(input), ..at }, out);
            }
        }
    }

    fn piece_done(&mut self, piece: &Piece, id: &str, place: usize, content: usize, out: &mut BytesMut) {
        let at = || Out {
            item_id: Some(id),
            output_index: Some(place),
            content_index: Some(content),
            ..Out::default()
        };
        let said = match piece {
            Piece::OutputText { text, logprobs, .. } => {
                let r#type = "response.output_text.done";
                Out { r#type, text: Some(text), logprobs: Some(logprobs), ..at() }
            }
            Piece::Refusal { refusal } => {
                Out { r#type: "response.refusal.done", refusal: Some(refusal), ..at() }
            }
        };
        self.write(said, out);
        let r#type = "response.content_part.done";
        self.write(Out { r#type, part: Some(OutPart::Piece(piece)), ..at() }, out);
    }
}
