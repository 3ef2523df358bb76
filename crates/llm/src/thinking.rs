//! Whether a body asks its model to think, in whatever words: whoever waits for the answer waits longer then.

use serde::Deserialize;
use serde_json::value::RawValue;

/// `reasoning_effort`, `reasoning`, `thinking` or `thinkingConfig`, but for one that says not to.
pub(crate) fn asks_to_think(raw: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Said<'a> {
        #[serde(borrow, default)]
        effort: Option<&'a RawValue>,
        #[serde(borrow, default)]
        r#type: Option<&'a RawValue>,
        #[serde(borrow, default)]
        enabled: Option<&'a RawValue>,
        #[serde(borrow, default, rename = "thinkingBudget", alias = "thinking_budget")]
        budget: Option<&'a RawValue>,
    }
    let text = raw.get();
    if !text.starts_with('{') {
        return text.starts_with('"') && text != r#""none""#;
    }
    let Ok(Said { effort, r#type, enabled, budget }) = serde_json::from_str(text) else { return false };
    let says = |raw: Option<&RawValue>, no: &str| raw.is_some_and(|raw| raw.get() == no);
    let off = says(effort, r#""none""#) || says(r#type, r#""disabled""#);
    !off && !says(enabled, "false") && !says(budget, "0") && text.contains(':')
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::asks_to_think;

    #[test]
    fn what_says_not_to_think_is_no_wish_to() {
        let asks = |json: &str| asks_to_think(&RawValue::from_string(json.to_owned()).unwrap());
        for yes in [
            r#""low""#,
            r#"{"effort":"high"}"#,
            r#"{"summary":"auto"}"#,
            r#"{"type":"enabled","budget_tokens":1024}"#,
            r#"{"type": "adaptive"}"#,
            r#"{"thinkingBudget":-1}"#,
            r#"{"thinking_level":"low"}"#,
            r#"{"enabled":true}"#,
        ] {
            assert!(asks(yes), "{yes}");
        }
        for no in [
            "null",
            r#""none""#,
            "{}",
            "3",
            "[]",
            r#"{"effort":"none"}"#,
            r#"{"type":"disabled"}"#,
            r#"{"thinkingBudget":0}"#,
            r#"{"thinking_budget": 0}"#,
            r#"{"enabled":false}"#,
        ] {
            assert!(!asks(no), "{no}");
        }
    }
}
