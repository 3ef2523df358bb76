//! What Google's SDKs ask for: methods of models (`models/{model}:generateContent`), and the list of them.

mod embed;
mod generate;
mod listed;
mod models;

use std::borrow::Cow;

pub(crate) use embed::embed;
pub(crate) use generate::{count_tokens, generate};
pub(crate) use models::{get, list};

use crate::{
    asked::Asked,
    endpoint::{Dialect, Endpoint, Found},
};

/// A method of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Generate,
    Stream,
    Count,
    Embed,
    BatchEmbed,
}

/// Described, and known to metrics, as.
pub(crate) const TABLE: &[(&str, Endpoint)] = &[
    ("/v1beta/models/{model}:generateContent", Endpoint::Gemini(Verb::Generate)),
    ("/v1beta/models/{model}:streamGenerateContent", Endpoint::Gemini(Verb::Stream)),
    ("/v1beta/models/{model}:countTokens", Endpoint::Gemini(Verb::Count)),
    ("/v1beta/models/{model}:embedContent", Endpoint::Gemini(Verb::Embed)),
    ("/v1beta/models/{model}:batchEmbedContents", Endpoint::Gemini(Verb::BatchEmbed)),
    ("/v1beta/models", Endpoint::GeminiModels),
    ("/v1beta/models/{model}", Endpoint::GeminiModel),
];
/// Google's other methods and collections.
const ABSENT: (&str, Endpoint) = ("/v1beta/{*id}", Endpoint::Absent(Dialect::Gemini));
const ABSENT_VERBS: [&str; 6] = [
    "predict",
    "predictLongRunning",
    "batchGenerateContent",
    "asyncBatchEmbedContent",
    "generateAnswer",
    "countTextTokens",
];

/// What stands behind a path: below `/v1beta` and `/v1alpha`, with `/genai` before it or not, or below `/genai/v1`.
/// Below `/v1` alone, methods of models only.
pub(crate) fn find(path: &str) -> Option<Found<'_>> {
    let own = path.strip_prefix("/genai");
    let path = own.or_else(|| path.strip_prefix("/api").filter(|p| !p.starts_with("/v1/"))).unwrap_or(path);
    let beta = ["/v1beta/", "/v1alpha/"].iter().find_map(|version| path.strip_prefix(version));
    if let Some(below) = beta.or_else(|| path.strip_prefix("/v1/").filter(|_| own.is_some())) {
        return Some(collection(below));
    }
    let below = path.strip_prefix("/v1/").filter(|below| below.starts_with("models/"))?;
    let (model, endpoint) = method(below)?;
    Some(found(endpoint, model))
}

fn collection(below: &str) -> Found<'_> {
    if below == "models" {
        return found(Endpoint::GeminiModels, "");
    }
    let named =
        ["models/", "tunedModels/"].iter().any(|c| below.strip_prefix(c).is_some_and(|m| !m.is_empty()));
    match method(below) {
        // Vercel's SDK leaves `models/` out where there is a slash in the name.
        Some((model, endpoint)) if named || model.contains('/') => found(endpoint, model),
        _ if named => found(Endpoint::GeminiModel, bare(below)),
        _ => found(ABSENT.1, below),
    }
}

/// A model and what is asked of it.
fn method(below: &str) -> Option<(&str, Endpoint)> {
    let (model, verb) = below.rsplit_once(':')?;
    let endpoint = match verb {
        "generateContent" => Endpoint::Gemini(Verb::Generate),
        "streamGenerateContent" => Endpoint::Gemini(Verb::Stream),
        "countTokens" => Endpoint::Gemini(Verb::Count),
        "embedContent" => Endpoint::Gemini(Verb::Embed),
        "batchEmbedContents" => Endpoint::Gemini(Verb::BatchEmbed),
        verb if ABSENT_VERBS.contains(&verb) => ABSENT.1,
        _ => return None,
    };
    Some((bare(model), endpoint))
}

/// Those that were tuned keep their collection in their name.
fn bare(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

fn found(endpoint: Endpoint, id: &str) -> Found<'_> {
    let row = TABLE.iter().find(|(_, known)| *known == endpoint);
    Found { endpoint, id, route: row.map_or(ABSENT.0, |(route, _)| route) }
}

/// The value of a member of the query, as it was meant.
pub(crate) fn query<'a>(asked: &'a Asked, name: &str) -> Option<Cow<'a, str>> {
    let pairs = asked.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value).next()?;
    if !value.contains(['%', '+']) {
        return Some(value.into());
    }
    let decoded = crate::models::percent_decoded(&value.replace('+', " "));
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_models_are_told_apart() {
        let at = |path: &'static str| find(path).map(|f| (f.endpoint, f.id));
        let generate = Endpoint::Gemini(Verb::Generate);
        for (path, expected) in [
            ("/v1beta/models/gemini-3:generateContent", Some((generate, "gemini-3"))),
            (
                "/genai/v1beta/models/meta/llama:3:streamGenerateContent",
                Some((Endpoint::Gemini(Verb::Stream), "meta/llama:3")),
            ),
            ("/genai/v1/models/m:countTokens", Some((Endpoint::Gemini(Verb::Count), "m"))),
            ("/api/v1beta/models/m:generateContent", Some((generate, "m"))),
            ("/v1alpha/models/m:generateContent", Some((generate, "m"))),
            ("/v1beta/tunedModels/t:generateContent", Some((generate, "tunedModels/t"))),
            ("/v1/models/m:generateContent", Some((generate, "m"))),
            ("/v1beta/models", Some((Endpoint::GeminiModels, ""))),
            ("/genai/v1/models", Some((Endpoint::GeminiModels, ""))),
            ("/v1beta/models/meta/llama:3", Some((Endpoint::GeminiModel, "meta/llama:3"))),
            ("/v1beta/models/", Some((Endpoint::Absent(Dialect::Gemini), "models/"))),
            ("/v1beta/anthropic/claude-4:generateContent", Some((generate, "anthropic/claude-4"))),
            ("/v1beta/m:generateContent", Some((Endpoint::Absent(Dialect::Gemini), "m:generateContent"))),
            ("/v1beta/corpora/c:query", Some((Endpoint::Absent(Dialect::Gemini), "corpora/c:query"))),
            ("/v1beta/models/m:predict", Some((Endpoint::Absent(Dialect::Gemini), "m"))),
            ("/v1beta/cachedContents", Some((Endpoint::Absent(Dialect::Gemini), "cachedContents"))),
            ("/v1/models/meta/llama:3", None),
            ("/v1/models", None),
            ("/api/v1/models", None),
            ("/v1/chat/x:generateContent", None),
            ("/genai/chat", None),
        ] {
            assert_eq!(at(path), expected, "{path}");
        }
    }
}
