//! How Claude is told to think, and to call its tools: by Anthropic itself, and by who passes its words on.

use serde::Serialize;

use super::request_out::calls_without_thoughts;
use crate::{
    canonical::{Losses, Reasoning, Request, ToolChoice},
    dialect::Target,
    models::{Effort, Efforts, Thinks, ThinksOff, facts},
};

/// Anthropic takes no less: <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>.
const MIN_BUDGET: u64 = 1_024;
/// Room for the answer beside the thoughts, where nobody gave a bound.
const ANSWER_ROOM: u64 = 4_096;
/// The most that a model takes that was told not to think.
const MOST_UNTHOUGHT: Effort = Effort::High;
const EFFORTS: [Effort; 5] = [Effort::Low, Effort::Medium, Effort::High, Effort::Xhigh, Effort::Max];

/// A model of Anthropic's, as far as requests differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claude {
    /// It decides itself how much to think.
    pub(crate) adaptive: bool,
    /// It thinks within a budget.
    pub(crate) budgets: bool,
    efforts: Efforts,
    thinks_off: Option<ThinksOff>,
    omits_thoughts: bool,
    forced_tools: bool,
}

impl Claude {
    pub(crate) fn of(target: &Target<'_>) -> Self {
        let facts = facts(target.model);
        let thinks = facts.and_then(|facts| facts.thinks);
        Self {
            adaptive: target.adaptive_thinking,
            budgets: !target.adaptive_thinking && thinks != Some(Thinks::None),
            efforts: facts.and_then(|facts| facts.efforts).unwrap_or_else(|| Efforts::of(&EFFORTS)),
            thinks_off: facts.and_then(|facts| facts.thinks_off),
            omits_thoughts: facts.is_some_and(|facts| facts.omits_thoughts),
            forced_tools: facts.is_none_or(|facts| facts.forced_tools),
        }
    }
}

#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Thinking {
    Adaptive {
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<&'static str>,
    },
    Enabled {
        budget_tokens: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<&'static str>,
    },
    Disabled,
    BetweenTools,
}

/// What a request's wish to think comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) thinking: Option<Thinking>,
    pub(crate) effort: Option<&'static str>,
    /// The bound that a budget must have.
    pub(crate) max_tokens: Option<u64>,
}

impl Asked {
    /// Sampling parameters are refused then.
    pub(crate) fn thinks(&self) -> bool {
        matches!(self.thinking, Some(Thinking::Adaptive { .. } | Thinking::Enabled { .. }))
    }
}

/// Levels become what the model takes: a level, or a budget. `declared`: tools
/// are. `most`: the bound of the whole answer, if there is one.
pub(crate) fn asked(
    request: &Request,
    claude: Claude,
    (declared, most): (bool, Option<u64>),
    losses: &mut Losses,
) -> Asked {
    let Some(reasoning) = &request.reasoning else {
        // What the model says between two calls is a thought as well, and it thinks in any case.
        let told = claude.thinks_off.is_some() && !request.tools.is_empty();
        let thinking = display(request, claude).filter(|_| told);
        let thinking = thinking.map(|display| Thinking::Adaptive { display: Some(display) });
        return Asked { thinking, ..Asked::default() };
    };
    if reasoning.enabled == Some(false) {
        return off(reasoning, claude, losses);
    }
    if claude.adaptive && (reasoning.budget.is_none() || !claude.budgets) {
        if reasoning.budget.is_some() {
            losses.altered("thinking.budget_tokens");
        }
        let display = display(request, claude);
        let effort = effort(reasoning, claude, losses).map(Effort::name);
        return Asked { thinking: Some(Thinking::Adaptive { display }), effort, max_tokens: None };
    }
    if claude.budgets {
        return within_budget(request, reasoning, (declared, most), losses);
    }
    losses.dropped("reasoning_effort");
    Asked::default()
}

/// Said where it is not what the model does by itself.
fn display(request: &Request, claude: Claude) -> Option<&'static str> {
    match request.thoughts? {
        true => claude.omits_thoughts.then_some("summarized"),
        false => (!claude.omits_thoughts).then_some("omitted"),
    }
}

/// One that thinks only if it is asked to is not told anything.
fn off(reasoning: &Reasoning, claude: Claude, losses: &mut Losses) -> Asked {
    let thinking = match claude.thinks_off {
        None => None,
        Some(ThinksOff::Disabled) => Some(Thinking::Disabled),
        Some(ThinksOff::BetweenTools) => Some(Thinking::BetweenTools),
        Some(ThinksOff::Never) => {
            losses.altered("reasoning_effort");
            return Asked { effort: Some(Effort::Low.name()), ..Asked::default() };
        }
    };
    let named = reasoning.effort.as_deref().filter(|word| *word != Effort::None.name());
    let effort =
        effort(&Reasoning { effort: named.map(str::to_owned), ..Reasoning::default() }, claude, losses);
    if thinking.is_some() && effort > Some(MOST_UNTHOUGHT) {
        losses.altered("reasoning_effort");
    }
    let effort = effort.filter(|_| claude.adaptive).map(|effort| match thinking {
        Some(_) => effort.min(MOST_UNTHOUGHT),
        None => effort,
    });
    Asked { thinking, effort: effort.map(Effort::name), max_tokens: None }
}

fn effort(reasoning: &Reasoning, claude: Claude, losses: &mut Losses) -> Option<Effort> {
    let asked = Effort::named(reasoning.effort.as_deref()?).unwrap_or(Effort::Medium);
    let effort = claude.efforts.nearest(asked)?;
    // There is nothing below low, and so nothing that was meant otherwise.
    if effort != asked && asked != Effort::Minimal {
        losses.altered("reasoning_effort");
    }
    Some(effort)
}

/// Left out, and named, where Anthropic would refuse it.
fn within_budget(
    request: &Request,
    reasoning: &Reasoning,
    (declared, most): (bool, Option<u64>),
    losses: &mut Losses,
) -> Asked {
    let forced = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    if declared && (forced || calls_without_thoughts(&request.messages)) {
        losses.dropped("reasoning_effort");
        return Asked::default();
    }
    let budget = reasoning.budget.unwrap_or(match reasoning.effort.as_deref() {
        Some("minimal" | "low") => MIN_BUDGET,
        Some("high") => 16_384,
        Some("xhigh" | "max") => 32_768,
        _ => 4_096,
    });
    let bound = most.unwrap_or(budget.saturating_add(ANSWER_ROOM));
    let fitting = match (reasoning.budget, most) {
        // A level does not mean that nothing may be answered.
        (None, Some(most)) => budget.min(most / 2),
        _ => budget.min(bound.saturating_sub(1)),
    };
    if fitting < MIN_BUDGET {
        losses.dropped("reasoning_effort");
        return Asked::default();
    }
    if reasoning.budget != Some(fitting) {
        losses.altered("reasoning_effort");
    }
    let display = request.thoughts.filter(|shown| !shown).map(|_| "omitted");
    let thinking = Some(Thinking::Enabled { budget_tokens: fitting, display });
    Asked { thinking, effort: None, max_tokens: Some(bound) }
}

/// What stands for a call that must be made, where the model refuses to be told so; and the one tool that is left then.
pub(crate) fn must_call(request: &Request, claude: Claude) -> Option<(String, Option<&str>)> {
    match &request.tool_choice {
        _ if claude.forced_tools => None,
        Some(ToolChoice::Required) => {
            Some(("Answer by calling at least one of the tools, and not with a text alone.".to_owned(), None))
        }
        Some(ToolChoice::Named(name)) => Some((
            format!("Answer by calling the tool `{name}`, and not with a text alone."),
            Some(name.as_str()),
        )),
        _ => None,
    }
}
