//! Reading rows. What a row may not say is refused, not skipped.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Effort, Efforts, Facts, Known, Maker, Retired, Thinks, ThinksOff, undated, without_version};
use crate::prices::day_ms;

const MAX_TOKENS: u64 = 100_000_000;

/// Why the rows can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ModelError {
    #[error("models: {0}")]
    Form(#[source] toml::de::Error),
    #[error("models: {name}: {wrong}")]
    Row { name: String, wrong: &'static str },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    family: Vec<Family>,
    #[serde(default)]
    retired: Vec<Gone>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Family {
    vendor: Maker,
    models: Vec<String>,
    context: Option<u64>,
    max_output: Option<u64>,
    thinks: Option<Thinks>,
    efforts: Option<Vec<Effort>>,
    thinks_off: Option<ThinksOff>,
    #[serde(default)]
    omits_thoughts: bool,
    #[serde(default = "yes")]
    forced_tools: bool,
    #[serde(default)]
    fixed_sampling: bool,
    #[serde(default)]
    max_completion_tokens: bool,
    source: String,
    reviewed: String,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gone {
    vendor: Maker,
    models: Vec<String>,
    from: String,
    successor: Vec<String>,
    source: String,
    reviewed: String,
}

pub(super) fn load(text: &str) -> Result<Known, ModelError> {
    let file: File = toml::from_str(text).map_err(ModelError::Form)?;
    let mut known = Known::default();
    for row in &file.family {
        family(row, &mut known).map_err(|wrong| error(&row.models, wrong))?;
    }
    for parts in [&mut known.beginnings, &mut known.parts] {
        parts.sort_by_key(|(part, _)| std::cmp::Reverse(part.len()));
    }
    let mut retired = HashMap::new();
    for row in &file.retired {
        gone(row, &known, &mut retired).map_err(|wrong| error(&row.models, wrong))?;
    }
    known.retired = retired;
    for (name, row) in &known.retired {
        if known.successors(name, i64::MAX).contains(&name.as_str()) {
            return Err(error(&row.successor, "it comes back to itself"));
        }
    }
    Ok(known)
}

fn error(models: &[String], wrong: &'static str) -> ModelError {
    ModelError::Row { name: models.first().cloned().unwrap_or_default(), wrong }
}

fn family(row: &Family, known: &mut Known) -> Result<(), &'static str> {
    checked(&row.models, &row.source, &row.reviewed)?;
    let wrong = |tokens: &u64| !(1..=MAX_TOKENS).contains(tokens);
    if row.context.iter().chain(&row.max_output).any(wrong) {
        return Err("context, max_output: no number of tokens");
    }
    if matches!((row.context, row.max_output), (Some(context), Some(most)) if most > context) {
        return Err("max_output: more than context");
    }
    if row.efforts.is_some() && !matches!(row.thinks, Some(Thinks::Level | Thinks::Adaptive)) {
        return Err("efforts: of models that are told in words only");
    }
    if (row.thinks_off.is_some() || row.omits_thoughts) && row.thinks != Some(Thinks::Adaptive) {
        return Err("thinks_off, omits_thoughts: of models that decide themselves how much to think");
    }
    let facts = Facts {
        maker: row.vendor,
        context: row.context,
        max_output: row.max_output,
        thinks: row.thinks,
        efforts: row.efforts.as_deref().map(Efforts::of),
        thinks_off: row.thinks_off,
        omits_thoughts: row.omits_thoughts,
        forced_tools: row.forced_tools,
        fixed_sampling: row.fixed_sampling,
        max_completion_tokens: row.max_completion_tokens,
    };
    for model in &row.models {
        let anywhere = model.strip_prefix('*');
        let open = anywhere.unwrap_or(model).strip_suffix('*');
        let parts = match (anywhere, open) {
            (Some(_), Some(part)) => Some((&mut known.parts, part)),
            (None, Some(part)) => Some((&mut known.beginnings, part)),
            (Some(_), None) => return Err("models: a name that begins with `*` ends with it"),
            (None, None) => None,
        };
        let twice = match parts {
            Some((parts, part)) => {
                if part.len() < 2 || part.contains('*') {
                    return Err("models: `*` stands at the ends of a name");
                }
                let twice = parts.iter().any(|(other, _)| other == part);
                parts.push((part.to_owned(), facts));
                twice
            }
            None if model.contains('*') => return Err("models: `*` stands at the ends of a name"),
            None => known.names.insert(model.clone(), facts).is_some(),
        };
        if twice {
            return Err("models: a name that another row has");
        }
    }
    Ok(())
}

fn gone(row: &Gone, known: &Known, retired: &mut HashMap<String, Retired>) -> Result<(), &'static str> {
    checked(&row.models, &row.source, &row.reviewed)?;
    checked(&row.successor, &row.source, &row.reviewed)?;
    let from_ms = day_ms(&row.from).ok_or("from: no day")?;
    for model in row.models.iter().chain(&row.successor) {
        if model.contains('*') {
            return Err("models: names only");
        }
        if known.facts(model).is_none_or(|facts| facts.maker != row.vendor) {
            return Err("models: no family of this vendor has such a name");
        }
    }
    for model in &row.models {
        if row.successor.contains(model) || undated(without_version(model)).is_some() {
            return Err("models: a successor of its own, or a snapshot that its name stands for");
        }
        let row = Retired { from_ms, successor: row.successor.clone() };
        if retired.insert(model.clone(), row).is_some() {
            return Err("models: a name that another row has");
        }
    }
    Ok(())
}

fn checked(models: &[String], source: &str, reviewed: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_graphic() && !b.is_ascii_uppercase() && b != b'/';
    let sound = |name: &String| (1..=128).contains(&name.len()) && name.bytes().all(plain);
    if models.is_empty() || !models.iter().all(sound) {
        return Err("names in lower case, without spaces and slashes");
    }
    if !source.starts_with("https://") || source.len() < 12 {
        return Err("source: where it is published, an https URL");
    }
    day_ms(reviewed).ok_or("reviewed: no day")?;
    Ok(())
}
