//! Items that call tools: functions, and custom tools, which take a text.

use super::{
    items::REASONED,
    wire::{Form, ended, quoted, reasoned},
};
use crate::{
    answer::{Choice, ToolCall},
    wire::{Meter, push, push_escaped, push_string},
};

/// How a kind of call is written.
struct Way {
    prefix: &'static str,
    kind: &'static str,
    /// The member with what is passed to the tool, and the events of it.
    member: &'static str,
    delta: &'static str,
    done: &'static str,
}

const FUNCTION: Way = Way {
    prefix: "fc_",
    kind: "function_call",
    member: "arguments",
    delta: "response.function_call_arguments.delta",
    done: "response.function_call_arguments.done",
};
const CUSTOM: Way = Way {
    prefix: "ctc_",
    kind: "custom_tool_call",
    member: "input",
    delta: "response.custom_tool_call_input.delta",
    done: "response.custom_tool_call_input.done",
};

fn way(made: &ToolCall) -> &'static Way {
    if made.custom { &CUSTOM } else { &FUNCTION }
}

impl Form {
    fn call_id(&self, choice: &Choice, call: usize) -> String {
        let way = way(&choice.tool_calls[call]);
        let prefix = if reasoned(choice) && way.prefix == FUNCTION.prefix { REASONED } else { way.prefix };
        format!("{prefix}{}{call}", self.item)
    }

    /// Up to what is passed.
    fn call_head(&self, out: &mut Vec<u8>, choice: &Choice, call: usize, status: &str) {
        let made = &choice.tool_calls[call];
        let way = way(made);
        push(
            out,
            &format!(r#"{{"id":"{}","type":"{}","status":"{status}""#, self.call_id(choice, call), way.kind),
        );
        push(out, r#","call_id":"#);
        push_string(out, &made.id);
        push(out, r#","name":"#);
        push_string(out, &made.name);
        push(out, &format!(r#","{}":""#, way.member));
    }

    pub(super) fn call(&self, out: &mut Vec<u8>, choice: &Choice, call: usize, meter: &mut Meter) {
        let made = &choice.tool_calls[call];
        let last = call + 1 == choice.tool_calls.len();
        self.call_head(out, choice, call, if last { ended(choice) } else { "completed" });
        meter.pass(out, made.name_tokens);
        for piece in &made.arguments {
            push_escaped(out, &piece.text);
            meter.pass(out, piece.tokens);
        }
        push(out, r#""}"#);
    }

    pub(super) fn call_added(&mut self, out: &mut Vec<u8>, choice: &Choice, call: usize) {
        let mut item = Vec::new();
        self.call_head(&mut item, choice, call, "in_progress");
        push(&mut item, r#""}"#);
        self.of_item(out, "response.output_item.added", &item);
        if choice.tool_calls[call].arguments.is_empty() {
            self.call_done(out, choice, call);
        }
    }

    pub(super) fn argument(&mut self, out: &mut Vec<u8>, choice: &Choice, call: usize, piece: usize) {
        let made = &choice.tool_calls[call];
        let (id, way) = (self.call_id(choice, call), way(made));
        self.delta(out, way.delta, &id, "", &made.arguments[piece].text);
        push(out, "}\n\n");
        if piece + 1 == made.arguments.len() {
            self.call_done(out, choice, call);
        }
    }

    fn call_done(&mut self, out: &mut Vec<u8>, choice: &Choice, call: usize) {
        let made = &choice.tool_calls[call];
        let (id, way) = (self.call_id(choice, call), way(made));
        let passed: String = made.arguments.iter().map(|piece| &*piece.text).collect();
        self.within(out, way.done, &id, "", way.member, &quoted(&passed));
        push(out, "}\n\n");
        let mut item = Vec::new();
        self.call(&mut item, choice, call, &mut Meter::new(u64::MAX));
        self.item_done(out, &item);
    }
}
