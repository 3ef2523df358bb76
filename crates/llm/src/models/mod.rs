//! Reviewed facts about model families, where a provider's own list doesn't tell, and whom a retired model's vendor names in
//! its place: `data/models.toml`.

mod load;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

use serde::Deserialize;

use crate::prices::undated;

const BUILT_IN: &str = include_str!("../../data/models.toml");
/// A retired model's successor may be retired itself, and so on.
const MAX_HOPS: usize = 4;

/// Empty only if a test failed to see that the file is wrong.
static KNOWN: LazyLock<Known> = LazyLock::new(|| load::load(BUILT_IN).unwrap_or_default());

/// Who made a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Maker {
    OpenAi,
    Anthropic,
    Google,
    Mistral,
    Meta,
}

/// How a model is told how much to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thinks {
    None,
    /// In tokens.
    Budget,
    /// It decides itself.
    Adaptive,
    /// In words: low, high.
    Level,
}

/// How a model that thinks of its own accord is told not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThinksOff {
    Disabled,
    /// It still says a little between two calls of tools.
    BetweenTools,
    /// It can't be.
    Never,
}

/// How much a model may be told to think, in OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    const ALL: [(Self, &'static str); 7] = [
        (Self::None, "none"),
        (Self::Minimal, "minimal"),
        (Self::Low, "low"),
        (Self::Medium, "medium"),
        (Self::High, "high"),
        (Self::Xhigh, "xhigh"),
        (Self::Max, "max"),
    ];

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, word)| *word == name).map(|(effort, _)| effort)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(effort, _)| *effort == self).map_or("medium", |(_, word)| word)
    }
}

/// Those that a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Efforts(u8);

impl Efforts {
    #[must_use]
    pub fn of(efforts: &[Effort]) -> Self {
        Self(efforts.iter().fold(0, |all, effort| all | 1 << *effort as u8))
    }

    /// The one asked for, else the nearest: the less of two. To think and not to think are never near to each other.
    #[must_use]
    pub fn nearest(self, asked: Effort) -> Option<Effort> {
        let takes = |effort: &Effort| self.0 & (1 << *effort as u8) != 0;
        let mut taken = Effort::ALL.into_iter().map(|(effort, _)| effort).filter(takes);
        if asked == Effort::None {
            return taken.find(|effort| *effort <= Effort::Minimal);
        }
        taken
            .filter(|effort| *effort != Effort::None)
            .min_by_key(|effort| (*effort as u8).abs_diff(asked as u8))
    }
}

/// What is known of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub maker: Maker,
    /// Prompt and answer together, in tokens.
    pub context: Option<u64>,
    /// The most it answers, in tokens.
    pub max_output: Option<u64>,
    pub thinks: Option<Thinks>,
    pub efforts: Option<Efforts>,
    /// It thinks unless it is told not to.
    pub thinks_off: Option<ThinksOff>,
    /// What it thought it tells if it is asked to.
    pub omits_thoughts: bool,
    /// It may be told that it must call a tool.
    pub forced_tools: bool,
    /// It refuses sampling parameters.
    pub fixed_sampling: bool,
    /// It refuses `max_tokens` for it, as OpenAI's models that reason do.
    pub max_completion_tokens: bool,
}

#[derive(Debug)]
struct Retired {
    /// Unix milliseconds.
    from_ms: i64,
    /// Names of one model.
    successor: Vec<String>,
}

#[derive(Debug, Default)]
struct Known {
    names: HashMap<String, Facts>,
    /// Parts of names, the longest first; those at the beginning, and those anywhere.
    beginnings: Vec<(String, Facts)>,
    parts: Vec<(String, Facts)>,
    retired: HashMap<String, Retired>,
}

/// What is known of a model by its name with whoever serves it.
#[must_use]
pub fn facts(model: &str) -> Option<&'static Facts> {
    KNOWN.facts(model)
}

/// The names under which a retired model's successors are asked for, the nearest first; none for a model that its vendor
/// still served then.
#[must_use]
pub fn successors(model: &str, now_ms: i64) -> Vec<&'static str> {
    KNOWN.successors(model, now_ms)
}

impl Known {
    fn facts(&self, model: &str) -> Option<&Facts> {
        let name = name(model);
        if let Some(facts) = tails(&name).find_map(|tail| entry(&self.names, tail)) {
            return Some(facts);
        }
        let begins = |tail: &str| self.beginnings.iter().find(|(part, _)| tail.starts_with(part.as_str()));
        let begins = tails(&name).find_map(begins);
        begins
            .or_else(|| self.parts.iter().find(|(part, _)| name.contains(part.as_str())))
            .map(|(_, facts)| facts)
    }

    fn successors(&self, model: &str, now_ms: i64) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        let mut at = name(model);
        for _ in 0..MAX_HOPS {
            let gone = tails(&at).find_map(|tail| entry(&self.retired, tail));
            let Some(gone) = gone.filter(|gone| gone.from_ms <= now_ms) else { break };
            all.extend(gone.successor.iter().map(String::as_str));
            match gone.successor.first() {
                Some(next) => at = name(next),
                None => break,
            }
        }
        all
    }
}

/// Without who serves it, in lower case: `publishers/google/models/gemini-2.5-pro`, an ARN.
fn name(model: &str) -> Cow<'_, str> {
    let name = model.rsplit('/').next().unwrap_or(model);
    if name.bytes().any(|b| b.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
}

/// A name, and what is left of it without what stands before its points: Bedrock's `us.anthropic.claude-…`.
fn tails(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |rest| rest.split_once('.').map(|(_, after)| after))
}

/// By its name, or as a version or a dated snapshot of it.
fn entry<'a, T>(names: &'a HashMap<String, T>, name: &str) -> Option<&'a T> {
    names.get(name).or_else(|| {
        let unversioned = without_version(name);
        names.get(unversioned).or_else(|| names.get(undated(unversioned)?))
    })
}

/// Bedrock's `-v1:0`, `-v1`, `-v2:0:200k`.
fn without_version(name: &str) -> &str {
    let Some((before, version)) = name.rsplit_once("-v") else { return name };
    let version = version.split(':').next().unwrap_or(version);
    let number = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
    if number { before } else { name }
}
