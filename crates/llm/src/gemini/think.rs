//! How much to think: <https://ai.google.dev/gemini-api/docs/thinking>. Gemini 2.5 takes tokens, later models levels;
//! what becomes what is as Google's own endpoint for OpenAI's clients does it:
//! <https://ai.google.dev/gemini-api/docs/openai#thinking>.

use serde::Serialize;
use weir_error::Error;

use crate::{
    canonical::{Losses, Reasoning, Request},
    members::Members,
};

#[derive(Debug, Serialize, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    include_thoughts: bool,
}

/// # Errors
/// `InvalidType`.
pub(super) fn read(from: &mut Members<'_>, request: &mut Request) -> Result<(), Error> {
    let Some(mut config) = from.object("thinkingConfig")?.map(Members::camel) else { return Ok(()) };
    let budget = config.take::<i64>("thinkingBudget")?;
    let level = config.take::<String>("thinkingLevel")?.map(|level| level.to_ascii_lowercase());
    request.thoughts = config.take::<bool>("includeThoughts")?;
    let shown = request.thoughts == Some(true);
    let effort = level.filter(|level| level != "thinking_level_unspecified");
    let reasoning = Reasoning {
        // A budget of -1 leaves it to the model.
        enabled: match budget {
            Some(0) => Some(false),
            Some(_) => Some(true),
            None => (shown || effort.is_some()).then_some(true),
        },
        budget: budget.and_then(|budget| u64::try_from(budget).ok()).filter(|budget| *budget > 0),
        effort,
    };
    request.reasoning = Some(reasoning).filter(|r| *r != Reasoning::default());
    Ok(())
}

/// Google's models by what they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u32, u32);

impl Version {
    /// Gemma up to the third, which takes neither instructions nor JSON mode, and does not think.
    pub(super) const GEMMA: Self = Self(0, 0);
    pub(super) const TWO_FIVE: Self = Self(2, 5);
    pub(super) const THREE: Self = Self(3, 0);

    /// Names that don't say it are of the newest: `gemini-flash-latest`.
    pub(super) fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        if ["gemma-2", "gemma-3", "gemma2", "gemma3"].iter().any(|older| name.starts_with(older)) {
            return Self::GEMMA;
        }
        let number = name.strip_prefix("gemini-").and_then(|rest| rest.split('-').next()).unwrap_or_default();
        let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
        match (major.parse(), minor.parse()) {
            (Ok(major), Ok(minor)) => Self(major, minor),
            _ => Self(u32::MAX, 0),
        }
    }
}

/// `None` where nothing is to be said, or can be.
pub(super) fn write(reasoning: &Reasoning, model: &str, losses: &mut Losses) -> Option<Config> {
    let version = Version::of(model);
    if version < Version::TWO_FIVE {
        if reasoning.enabled != Some(false) {
            losses.dropped("reasoning_effort");
        }
        return None;
    }
    let pro = model.contains("-pro");
    if reasoning.enabled == Some(false) {
        return Some(off(version, pro, losses));
    }
    let shown = Config { include_thoughts: true, ..Config::default() };
    let effort = reasoning.effort.as_deref();
    if version < Version::THREE {
        let asked = match (reasoning.budget, effort) {
            (Some(budget), _) => Some(budget),
            (None, None) => None,
            (None, Some(effort)) => {
                losses.altered("reasoning_effort");
                Some(match effort {
                    "minimal" | "low" => 1_024,
                    "high" | "xhigh" | "max" => 24_576,
                    _ => 8_192,
                })
            }
        };
        let within = asked.map(|asked| within_bounds(asked, model, pro));
        if reasoning.budget.is_some() && within != asked {
            losses.altered("thinking.budget_tokens");
        }
        return Some(Config { thinking_budget: within, ..shown });
    }
    let Some(effort) = effort else {
        return Some(Config { thinking_budget: reasoning.budget, ..shown });
    };
    let level = match effort {
        "minimal" if pro => "LOW",
        "minimal" => "MINIMAL",
        "low" => "LOW",
        // The first of the third has two levels only.
        "medium" if pro && version == Version::THREE => "HIGH",
        "medium" => "MEDIUM",
        _ => "HIGH",
    };
    if !level.eq_ignore_ascii_case(effort) {
        losses.altered("reasoning_effort");
    }
    Some(Config { thinking_level: Some(level), ..shown })
}

/// Not every model can leave off thinking: those think as little as they can.
fn off(version: Version, pro: bool, losses: &mut Losses) -> Config {
    if version < Version::THREE {
        if pro {
            losses.altered("reasoning_effort");
        }
        return Config { thinking_budget: Some(if pro { 128 } else { 0 }), ..Config::default() };
    }
    losses.altered("reasoning_effort");
    Config { thinking_level: Some(if pro { "LOW" } else { "MINIMAL" }), ..Config::default() }
}

/// <https://ai.google.dev/gemini-api/docs/thinking#set-budget>
fn within_bounds(budget: u64, model: &str, pro: bool) -> u64 {
    if pro {
        budget.clamp(128, 32_768)
    } else if model.contains("-lite") {
        budget.clamp(512, 24_576)
    } else {
        budget.min(24_576)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_is_told_in_its_own_way() {
        let asked = |effort: Option<&str>, budget, enabled, model: &str| {
            let mut losses = Losses::default();
            let reasoning = Reasoning { enabled, effort: effort.map(str::to_owned), budget };
            let config = write(&reasoning, model, &mut losses);
            (serde_json::to_value(config).unwrap().to_string(), losses.header())
        };
        for (effort, budget, enabled, model, json, lost) in [
            (
                Some("low"),
                None,
                Some(true),
                "gemini-2.5-flash",
                r#"{"includeThoughts":true,"thinkingBudget":1024}"#,
                "altered;reasoning_effort",
            ),
            (
                None,
                Some(50_000),
                Some(true),
                "gemini-2.5-pro",
                r#"{"includeThoughts":true,"thinkingBudget":32768}"#,
                "altered;thinking.budget_tokens",
            ),
            (None, None, Some(false), "gemini-2.5-flash", r#"{"thinkingBudget":0}"#, ""),
            (
                Some("high"),
                None,
                Some(true),
                "gemini-3-pro-preview",
                r#"{"includeThoughts":true,"thinkingLevel":"HIGH"}"#,
                "",
            ),
            (
                Some("medium"),
                None,
                Some(true),
                "gemini-3-pro-preview",
                r#"{"includeThoughts":true,"thinkingLevel":"HIGH"}"#,
                "altered;reasoning_effort",
            ),
            (
                Some("medium"),
                None,
                Some(true),
                "gemini-3.1-pro",
                r#"{"includeThoughts":true,"thinkingLevel":"MEDIUM"}"#,
                "",
            ),
            (
                None,
                None,
                Some(false),
                "gemini-flash-latest",
                r#"{"thinkingLevel":"MINIMAL"}"#,
                "altered;reasoning_effort",
            ),
            (
                None,
                Some(2_000),
                Some(true),
                "gemini-3-flash",
                r#"{"includeThoughts":true,"thinkingBudget":2000}"#,
                "",
            ),
            (Some("low"), None, Some(true), "models/gemini-2.0-flash", "null", "dropped;reasoning_effort"),
            (Some("low"), None, Some(true), "gemma-3-27b-it", "null", "dropped;reasoning_effort"),
        ] {
            assert_eq!(asked(effort, budget, enabled, model), (json.to_owned(), lost.to_owned()), "{model}");
        }
    }
}
