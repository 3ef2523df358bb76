//! What is answered: composed from the request alone, whole, before any of it is sent.

use crate::tokens::count_text;

use crate::{
    faults::{Faults, Often},
    models::Model,
    request::{Choice as ToolChoice, Conversation, Format, Request, Thinking, Thoughts, Tool, mentioned},
    schema,
    seed::{Rng, hash, id, mix},
    text::{Length, Piece, generate, limit, limit_within, opening, split, stop_at},
};

/// Tokens of an answer whose length nobody said: from, and how many more at most.
const SHORTEST: u64 = 24;
const SPREAD: u64 = 32;
/// Tokens of all choices of a call together, whatever `x_sim` wants.
const MOST_TOKENS: u64 = 1 << 18;
/// Words of the string in a JSON answer without a schema.
const JSON_TOKENS: u64 = 12;
/// Hidden reasoning comes in blocks of so many tokens, as OpenAI's does.
const REASONING_BLOCK: u64 = 64;
/// Seeds thoughts, so that the answer is the same with them and without.
const THINKING: u64 = 0x7468_6f75_6768_7473;
const PREAMBLE_TOKENS: u64 = 8;
const MOST_CALLS: usize = 128;
const REFUSAL: &str = "I'm sorry, but I can't help with that.";

#[derive(Debug, PartialEq)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) name_tokens: u64,
    /// JSON; of a custom tool, the text that it takes.
    pub(crate) arguments: Vec<Piece>,
    pub(crate) custom: bool,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Choice {
    /// What was thought, where it is shown.
    pub(crate) thinking: Vec<Piece>,
    /// Thinking that is not shown, in tokens.
    pub(crate) hidden: u64,
    /// With tools called, what is said before.
    pub(crate) content: Vec<Piece>,
    pub(crate) tool_calls: Vec<ToolCall>,
    pub(crate) finish: &'static str,
    /// The stop sequence that ended it.
    pub(crate) stopped: Option<String>,
    /// The content says no.
    pub(crate) refused: bool,
    /// The thoughts are not to be read.
    pub(crate) redacted: bool,
    /// Seeds the log probabilities.
    pub(crate) seed: u64,
}

/// Of the prompt's tokens.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) read: u64,
    /// For five minutes.
    pub(crate) written: u64,
    pub(crate) written_1h: u64,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) choices: Vec<Choice>,
    pub(crate) prompt_tokens: u64,
    /// With the reasoning.
    pub(crate) completion_tokens: u64,
    /// Shown or not.
    pub(crate) reasoning_tokens: u64,
    pub(crate) cache: Cache,
}

impl Answer {
    pub(crate) fn compose(request: &Request<'_>, model: &Model, prompt_tokens: u64, faults: &Faults) -> Self {
        let mut seed = hash(0, model.id.as_bytes());
        seed = hash(seed, &request.conversation.digest.to_le_bytes());
        if let Some(own) = request.seed {
            seed = hash(seed, &own.to_le_bytes());
        }
        let most = request.max_tokens.unwrap_or(u64::MAX).min(MOST_TOKENS / request.n);
        let mut answer = Self { prompt_tokens, ..Self::default() };
        for index in 0..request.n {
            let seed = mix(seed.wrapping_add(index));
            let (thinking, hidden) = thinking(request, model, &mut Rng::new(mix(seed ^ THINKING)), most);
            let shown = sum(&thinking);
            let made = choice(request, faults, seed, most - hidden - shown);
            let redacted = faults.redacted == Some(true) && !thinking.is_empty();
            let choice = Choice { thinking, hidden, redacted, ..made };
            answer.reasoning_tokens += hidden + shown;
            answer.completion_tokens += hidden + choice.tokens();
            answer.choices.push(choice);
        }
        answer
    }

    /// Tokens of the longest choice: what a paced answer takes the time of.
    pub(crate) fn rounds(&self) -> u64 {
        self.choices.iter().map(Choice::pieces).max().unwrap_or(0)
    }
}

impl Choice {
    /// Without hidden reasoning.
    pub(crate) fn tokens(&self) -> u64 {
        let calls = self.tool_calls.iter().map(|call| call.name_tokens + sum(&call.arguments));
        sum(&self.thinking) + sum(&self.content) + calls.sum::<u64>()
    }

    fn pieces(&self) -> u64 {
        let calls = self.tool_calls.iter().map(|call| 1 + call.arguments.len());
        (self.thinking.len() + self.content.len() + calls.sum::<usize>()) as u64
    }
}

pub(crate) fn sum(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| piece.tokens).sum()
}

pub(crate) fn joined(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| &*piece.text).collect()
}

fn choice(request: &Request<'_>, faults: &Faults, seed: u64, most: u64) -> Choice {
    let mut rng = Rng::new(seed);
    let own_text = faults.text.as_deref();
    let refused = faults.refusal == Some(true);
    let tools = if own_text.is_none() && !refused { called_tools(request) } else { Vec::new() };
    if !tools.is_empty() {
        // As OpenAI documents it, a call the client forced by name ends with `stop`.
        let forced = matches!(request.tool_choice, ToolChoice::Named(_));
        let mut content = match faults.preamble {
            Some(true) => generate(&mut rng, &[], Length::About(PREAMBLE_TOKENS)),
            _ => Vec::new(),
        };
        limit(&mut rng, &mut content, most);
        let most = most - sum(&content);
        return Choice { content, ..calls(&tools, seed, most, if forced { "stop" } else { "tool_calls" }) };
    }
    let (content, cut, stopped) = match (own_text, &request.format) {
        (Some(own), _) => said(split(own), request, most),
        (None, _) if refused => said(split(REFUSAL), request, most),
        (None, Format::Text) => match request.conversation.recital().filter(|_| faults.tokens.is_none()) {
            Some(recital) => said(split(&recital), request, most),
            None => text(request, &mut rng, faults.tokens, most),
        },
        (None, Format::Json) if off_schema(request, faults) => json("no object, this", most),
        (None, Format::Json) => json(&json_answer(request, &mut rng), most),
        (None, Format::Schema(schema)) if off_schema(request, faults) => {
            json(&schema::written(&schema::broken(schema)), most)
        }
        (None, Format::Schema(schema)) => json(&schema::written(&schema::minimal(schema)), most),
    };
    let finish = if cut { "length" } else { "stop" };
    let stopped = stopped.filter(|_| !cut);
    Choice { content, finish, stopped, refused, seed, ..Choice::default() }
}

fn off_schema(request: &Request<'_>, faults: &Faults) -> bool {
    match faults.off_schema {
        None => false,
        Some(Often::Always) => true,
        Some(Often::Once) => !request.conversation.answered,
    }
}

/// Thoughts that are shown, and the tokens of those that are not. Shown whole they leave half of the room.
fn thinking(request: &Request<'_>, model: &Model, rng: &mut Rng, most: u64) -> (Vec<Piece>, u64) {
    let (effort, budget) = match request.thinking {
        Thinking::Off => return (Vec::new(), 0),
        Thinking::Usual if !model.reasons => return (Vec::new(), 0),
        Thinking::Usual => (1, None),
        Thinking::On { effort, budget } => (effort, budget),
    };
    let budget = budget.unwrap_or(u64::MAX);
    let whole = request.thoughts == Thoughts::Whole;
    let all = REASONING_BLOCK * effort * (1 + rng.below(4));
    let all = all.min(budget).min(if whole { most / 2 } else { most });
    let room = match request.thoughts {
        Thoughts::Hidden => return (Vec::new(), all),
        Thoughts::Summary | Thoughts::Whole => all.min(SHORTEST + rng.below(SPREAD)),
    };
    let mut thoughts = generate(rng, &[], Length::Exact(room));
    limit(rng, &mut thoughts, room);
    let hidden = if whole { 0 } else { all - sum(&thoughts) };
    (thoughts, hidden)
}

type Said = (Vec<Piece>, bool, Option<String>);

fn text(request: &Request<'_>, rng: &mut Rng, tokens: Option<u64>, most: u64) -> Said {
    let length = match tokens {
        // One more than fits, so that it is known to be cut.
        Some(tokens) => Length::Exact(tokens.min(most.saturating_add(1))),
        None => Length::About(SHORTEST + rng.below(SPREAD)),
    };
    let mut content = generate(rng, &opening(&request.conversation), length);
    let stopped = match request.stops.is_empty() {
        true => None,
        false => stop_at(&mut content, &request.stops),
    };
    let cut = limit(rng, &mut content, most);
    (content, cut, stopped)
}

/// What was to be said word by word.
fn said(mut content: Vec<Piece>, request: &Request<'_>, most: u64) -> Said {
    let stopped = if request.stops.is_empty() { None } else { stop_at(&mut content, &request.stops) };
    let cut = limit_within(&mut content, most);
    (content, cut, stopped)
}

fn json(text: &str, most: u64) -> Said {
    let mut content = split(text);
    let cut = limit_within(&mut content, most);
    (content, cut, None)
}

fn json_answer(request: &Request<'_>, rng: &mut Rng) -> String {
    let words = generate(rng, &opening(&request.conversation), Length::About(JSON_TOKENS));
    let text: String = words.iter().map(|piece| &*piece.text).collect();
    schema::written(&serde_json::json!({ "answer": text }))
}

/// A tool to call, with the arguments the user wants.
type Called<'a> = (&'a Tool, Option<&'a str>);

/// The tools to call: the forced one, or those the user names; of several all, unless parallel calls are off.
fn called_tools<'a>(request: &'a Request<'_>) -> Vec<Called<'a>> {
    let tools = &request.tools;
    let named = || named_tools(&request.conversation, tools);
    let mut calls: Vec<Called<'_>> = match &request.tool_choice {
        ToolChoice::None => Vec::new(),
        ToolChoice::Named(name) => {
            let tool = tools.iter().find(|tool| tool.name == *name);
            let mut calls: Vec<_> =
                tool.into_iter().flat_map(|tool| calls_of(&request.conversation, tool)).collect();
            if calls.is_empty() {
                calls.extend(tool.map(|tool| (tool, None)));
            }
            calls
        }
        ToolChoice::Auto => named(),
        ToolChoice::Required => match named() {
            named if named.is_empty() => tools.iter().take(1).map(|tool| (tool, None)).collect(),
            named => named,
        },
    };
    if !request.parallel_tool_calls {
        calls.truncate(1);
    }
    calls.truncate(MOST_CALLS);
    calls
}

fn named_tools<'a>(conversation: &'a Conversation, tools: &'a [Tool]) -> Vec<Called<'a>> {
    if !conversation.users_turn {
        return Vec::new();
    }
    tools.iter().flat_map(|tool| calls_of(conversation, tool)).collect()
}

/// One for each object of arguments, or one without.
fn calls_of<'a>(conversation: &'a Conversation, tool: &'a Tool) -> Vec<Called<'a>> {
    let mentions = mentioned(&conversation.question, &tool.name);
    let with: Vec<_> = mentions.iter().flatten().map(|arguments| (tool, Some(*arguments))).collect();
    if with.is_empty() { mentions.first().map(|_| (tool, None)).into_iter().collect() } else { with }
}

/// `end`: the finish reason of calls that have room.
fn calls(tools: &[Called<'_>], seed: u64, most: u64, end: &'static str) -> Choice {
    let mut left = most;
    let mut finish = end;
    let mut tool_calls = Vec::with_capacity(tools.len());
    for (index, (tool, arguments)) in tools.iter().enumerate() {
        let name_tokens = count_text(&tool.name);
        if name_tokens > left {
            finish = "length";
            break;
        }
        let arguments = match arguments {
            Some(wanted) => (*wanted).to_owned(),
            None if tool.parameters.is_null() => "{}".to_owned(),
            None if tool.custom => {
                schema::minimal(&tool.parameters).as_str().map(str::to_owned).unwrap_or_default()
            }
            None => schema::written(&schema::minimal(&tool.parameters)),
        };
        let mut arguments = split(&arguments);
        let cut = limit_within(&mut arguments, left - name_tokens);
        left -= name_tokens + sum(&arguments);
        let id = id("call_", 24, mix(seed ^ mix(index as u64)));
        tool_calls.push(ToolCall {
            id,
            name: tool.name.clone(),
            name_tokens,
            arguments,
            custom: tool.custom,
        });
        if cut {
            finish = "length";
            break;
        }
    }
    Choice { tool_calls, finish, seed, ..Choice::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Catalogue;

    fn compose(fields: &str, tokens: Option<u64>) -> Answer {
        wished(fields, &Faults { tokens, ..Faults::default() })
    }

    fn wished(fields: &str, faults: &Faults) -> Answer {
        let body = format!(r#"{{"model":"gpt-4o",{fields}}}"#);
        let request = Request::parse(body.as_bytes()).unwrap();
        Answer::compose(&request, Catalogue::new(&[]).get("gpt-4o").unwrap(), 10, faults)
    }

    fn said(choice: &Choice) -> String {
        choice.content.iter().map(|piece| &*piece.text).collect()
    }

    const HELLO: &str = r#""messages":[{"role":"user","content":"Hello big world"}]"#;

    #[test]
    fn the_same_question_has_the_same_answer_and_another_has_another() {
        let with = |more: &str| compose(&format!("{HELLO}{more}"), None);
        assert_eq!(with(""), with(""));
        assert_eq!(with(""), with(r#","x_sim":{"token_ms":3},"user":"x""#));
        assert_ne!(said(&with("").choices[0]), said(&with(r#","seed":7"#).choices[0]));
        let other = compose(r#""messages":[{"role":"user","content":"Hello big planet"}]"#, None);
        assert_ne!(said(&with("").choices[0]), said(&other.choices[0]));
        let two = with(r#","n":2"#);
        assert_eq!(said(&two.choices[0]), said(&with("").choices[0]));
        assert_ne!(said(&two.choices[0]), said(&two.choices[1]));
        assert_eq!(two.completion_tokens, two.choices.iter().map(Choice::tokens).sum::<u64>());
    }

    #[test]
    fn lengths_are_obeyed_and_told() {
        let with = |more: &str, tokens| {
            let answer = compose(&format!("{HELLO}{more}"), tokens);
            (answer.completion_tokens, answer.choices[0].finish)
        };
        assert_eq!(with(r#","max_tokens":5"#, None), (5, "length"));
        assert_eq!(with("", Some(100)), (100, "stop"));
        assert_eq!(with(r#","max_completion_tokens":100"#, Some(100)), (100, "stop"));
        assert_eq!(with(r#","max_completion_tokens":99"#, Some(100)), (99, "length"));
        assert_eq!(with("", Some(0)), (0, "stop"));
        assert_eq!(with("", Some(u64::MAX)), (MOST_TOKENS, "length"));
    }

    #[test]
    fn tools_are_called_when_named_or_forced() {
        let tools = r#""tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}},
            {"type":"function","function":{"name":"get_time"}}]"#;
        let ask = |question: &str, more: &str| {
            let fields = format!(r#""messages":[{{"role":"user","content":"{question}"}}],{tools}{more}"#);
            let answer = compose(&fields, None);
            let choice = &answer.choices[0];
            let names: Vec<_> = choice.tool_calls.iter().map(|call| call.name.clone()).collect();
            assert_eq!(choice.content.is_empty(), !names.is_empty());
            (names.join(" "), choice.finish)
        };
        assert_eq!(ask("Hello", ""), (String::new(), "stop"));
        assert_eq!(ask("Use get_weather", ""), ("get_weather".into(), "tool_calls"));
        assert_eq!(ask("Use get_time, get_weather", ""), ("get_weather get_time".into(), "tool_calls"));
        let single = r#","parallel_tool_calls":false"#;
        assert_eq!(ask("Use get_time, get_weather", single), ("get_weather".into(), "tool_calls"));
        assert_eq!(ask("Use get_weather", r#","tool_choice":"none""#), (String::new(), "stop"));
        assert_eq!(ask("Hello", r#","tool_choice":"required""#), ("get_weather".into(), "tool_calls"));
        let forced = r#","tool_choice":{"type":"function","function":{"name":"get_time"}}"#;
        assert_eq!(ask("Hello", forced), ("get_time".into(), "stop"));
        assert_eq!(ask("Use get_weather", r#","max_tokens":3"#).1, "length");
    }

    #[test]
    fn custom_tools_are_called_with_a_text() {
        let tools = r#""tools":[{"type":"custom","custom":{"name":"patch"}},{"type":"function","function":{"name":"get_time"}}]"#;
        let ask = |question: &str, more: &str| {
            let question = serde_json::Value::from(question);
            let fields = format!(r#""messages":[{{"role":"user","content":{question}}}],{tools}{more}"#);
            let answer = compose(&fields, None);
            let call = answer.choices[0].tool_calls.first()?;
            let text: String = call.arguments.iter().map(|piece| &*piece.text).collect();
            Some((call.name.clone(), call.custom, text))
        };
        assert_eq!(ask("Hello", ""), None);
        assert_eq!(ask("patch", ""), Some(("patch".into(), true, "text".into())));
        assert_eq!(ask(r#"patch({"a":1})"#, ""), Some(("patch".into(), true, r#"{"a":1}"#.into())));
        let forced = r#","tool_choice":{"type":"custom","custom":{"name":"patch"}}"#;
        assert_eq!(ask("Hello", forced), Some(("patch".into(), true, "text".into())));
        assert_eq!(
            ask("get_time", "").map(|(name, custom, _)| (name, custom)),
            Some(("get_time".into(), false))
        );
    }

    #[test]
    fn a_tools_result_is_used_and_the_tool_not_called_again() {
        let answer = compose(
            r#""messages":[{"role":"user","content":"Use get_time"},
               {"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"get_time","arguments":"{}"}}]},
               {"role":"tool","tool_call_id":"1","content":"half past nine"}],
               "tools":[{"type":"function","function":{"name":"get_time"}}]"#,
            None,
        );
        assert!(said(&answer.choices[0]).starts_with("The result says half past nine:"), "{answer:?}");
    }

    #[test]
    fn json_is_json_and_fits_its_schema() {
        let asked = r#""messages":[{"role":"user","content":"Some json please"}]"#;
        let json = compose(&format!(r#"{asked},"response_format":{{"type":"json_object"}}"#), None);
        let value: serde_json::Value = serde_json::from_str(&said(&json.choices[0])).unwrap();
        assert!(value["answer"].is_string());
        assert_eq!(count_text(&said(&json.choices[0])), json.completion_tokens);
        let schema = r#"{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}}}"#;
        let json = compose(&format!(r#"{asked},"response_format":{schema}"#), None);
        assert_eq!(said(&json.choices[0]), r#"{"n": 0}"#);
    }

    #[test]
    fn reasoning_is_part_of_the_tokens_and_of_the_limit() {
        let compose = |more: &str| {
            let body = format!(r#"{{"model":"o3-mini",{HELLO}{more}}}"#);
            let request = Request::parse(body.as_bytes()).unwrap();
            Answer::compose(&request, Catalogue::new(&[]).get("o3-mini").unwrap(), 10, &Faults::default())
        };
        let answer = compose("");
        assert!(answer.reasoning_tokens >= REASONING_BLOCK);
        assert_eq!(answer.completion_tokens, answer.reasoning_tokens + answer.choices[0].tokens());
        let cut = compose(r#","max_completion_tokens":10"#);
        assert_eq!((cut.completion_tokens, cut.reasoning_tokens, cut.choices[0].finish), (10, 10, "length"));
    }
}
