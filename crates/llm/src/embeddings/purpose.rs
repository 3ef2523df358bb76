//! What vectors are for: Google's `taskType` and Cohere's `input_type` say the same in other words.

use serde_json::{Map, Value};

use crate::canonical::Losses;

/// What Google alone has, as its clients name it.
pub(super) const GOOGLES: [&str; 2] = ["taskType", "title"];
/// Whatever says what vectors are for.
pub(super) const NAMES: [&str; 3] = ["taskType", "task_type", "input_type"];

/// Google's, Cohere's, and whether that is exactly what Google's says. The first of several is the one meant.
const SAME: [(&str, &str, bool); 8] = [
    ("RETRIEVAL_QUERY", "search_query", true),
    ("RETRIEVAL_DOCUMENT", "search_document", true),
    ("CLASSIFICATION", "classification", true),
    ("CLUSTERING", "clustering", true),
    ("SEMANTIC_SIMILARITY", "clustering", false),
    ("QUESTION_ANSWERING", "search_query", false),
    ("FACT_VERIFICATION", "search_query", false),
    ("CODE_RETRIEVAL_QUERY", "search_query", false),
];

fn said(extra: &Map<String, Value>) -> Option<(&'static str, &str)> {
    NAMES.into_iter().find_map(|name| Some((name, extra.get(name)?.as_str()?)))
}

/// As Google names it.
pub(super) fn google(extra: &Map<String, Value>, losses: &mut Losses) -> Option<String> {
    let (name, said) = said(extra)?;
    if name != "input_type" {
        return Some(said.to_owned());
    }
    let same = SAME.iter().find(|(_, cohere, _)| *cohere == said);
    if same.is_none() {
        losses.dropped(name);
    }
    same.map(|(google, ..)| (*google).to_owned())
}

/// As Cohere names it.
pub(super) fn cohere(extra: &Map<String, Value>, losses: &mut Losses) -> Option<String> {
    let (name, said) = said(extra)?;
    if name == "input_type" {
        return Some(said.to_owned());
    }
    match SAME.iter().find(|(google, ..)| *google == said) {
        Some((_, cohere, exact)) => {
            if !exact {
                losses.altered(name);
            }
            Some((*cohere).to_owned())
        }
        None => {
            losses.dropped(name);
            None
        }
    }
}
