//! Every path the gateway knows, in one table.

use http::Method;
use weir_rest::Route;

use crate::gemini::{self, Verb};

/// The shape errors are answered in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
    Gemini,
    /// RFC 9457.
    Problem,
}

impl From<weir_llm::Dialect> for Dialect {
    fn from(dialect: weir_llm::Dialect) -> Self {
        match dialect {
            weir_llm::Dialect::Anthropic => Self::Anthropic,
            weir_llm::Dialect::Gemini => Self::Gemini,
            // Clients speak no others.
            _ => Self::OpenAi,
        }
    }
}

/// What stands behind a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    ChatCompletions,
    Messages,
    CountTokens,
    Embeddings,
    Tokenize,
    Responses,
    /// One that is kept.
    Response,
    CancelResponse,
    InputItems,
    InputTokens,
    /// A conversation made shorter.
    Compact,
    Models,
    Model,
    /// A method of a model, in Google's dialect.
    Gemini(Verb),
    GeminiModels,
    GeminiModel,
    ChatSocket,
    /// Described in `/proto`.
    Rest(&'static Route),
    Index,
    OpenApi,
    /// The interactive page, and its files.
    Docs,
    Errors,
    ErrorCode,
    /// Known to clients, not there yet.
    Absent(Dialect),
}

/// An endpoint, the part of the path that names an object, and the route as metrics know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) id: &'a str,
    pub(crate) route: &'static str,
}

const GET: &[Method] = &[Method::GET, Method::HEAD];
const POST: &[Method] = &[Method::POST];
const ANY: &[Method] = &[Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

impl Endpoint {
    /// `HEAD` where there is `GET`: the connection leaves the body out.
    pub(crate) fn methods(self) -> &'static [Method] {
        match self {
            Self::ChatCompletions
            | Self::Messages
            | Self::CountTokens
            | Self::Embeddings
            | Self::Tokenize
            | Self::Responses
            | Self::CancelResponse
            | Self::InputTokens
            | Self::Compact
            | Self::Gemini(_) => POST,
            Self::Response => &[Method::GET, Method::HEAD, Method::DELETE],
            Self::Models
            | Self::Model
            | Self::GeminiModels
            | Self::GeminiModel
            | Self::InputItems
            | Self::Index
            | Self::OpenApi
            | Self::Docs
            | Self::Errors
            | Self::ErrorCode => GET,
            Self::ChatSocket => &[Method::GET],
            Self::Rest(route) => route.methods(),
            Self::Absent(_) => ANY,
        }
    }

    /// What the access line of a success says has happened to the business.
    pub(crate) fn business_event(self) -> Option<&'static str> {
        let chat = matches!(
            self,
            Self::ChatCompletions
                | Self::Messages
                | Self::Responses
                | Self::Compact
                | Self::Gemini(Verb::Generate | Verb::Stream)
        );
        chat.then_some("chat_completed")
    }

    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Self::ChatCompletions
            | Self::Models
            | Self::Model
            | Self::Responses
            | Self::Response
            | Self::CancelResponse
            | Self::InputItems
            | Self::InputTokens
            | Self::Compact
            | Self::Embeddings => Dialect::OpenAi,
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            Self::Gemini(_) | Self::GeminiModels | Self::GeminiModel => Dialect::Gemini,
            Self::Absent(dialect) => dialect,
            _ => Dialect::Problem,
        }
    }
}

const ROOT: &[(&str, Endpoint)] = &[
    ("/", Endpoint::Index),
    ("/ws/chat", Endpoint::ChatSocket),
    ("/openapi.json", Endpoint::OpenApi),
    ("/docs", Endpoint::Docs),
    ("/docs/{id}", Endpoint::Docs),
    ("/errors", Endpoint::Errors),
    ("/errors/{id}", Endpoint::ErrorCode),
];

/// Written by hand, below `/v1`, and below `/api/v1` alike; the rest is what `/proto` says. `{id}` takes one segment, a
/// trailing `{*id}` any number.
const TABLE: &[(&str, Endpoint)] = &[
    ("/v1/chat/completions", Endpoint::ChatCompletions),
    ("/v1/messages", Endpoint::Messages),
    ("/v1/messages/count_tokens", Endpoint::CountTokens),
    ("/v1/responses", Endpoint::Responses),
    ("/v1/responses/input_tokens", Endpoint::InputTokens),
    ("/v1/responses/compact", Endpoint::Compact),
    ("/v1/responses/{id}", Endpoint::Response),
    ("/v1/responses/{id}/cancel", Endpoint::CancelResponse),
    ("/v1/responses/{id}/input_items", Endpoint::InputItems),
    ("/v1/embeddings", Endpoint::Embeddings),
    ("/v1/tokenize", Endpoint::Tokenize),
    ("/v1/models", Endpoint::Models),
    ("/v1/models/{*id}", Endpoint::Model),
    ("/v1/chat/ws", Endpoint::ChatSocket),
    ("/v1/ws/chat", Endpoint::ChatSocket),
    ("/v1/docs", Endpoint::Docs),
    ("/v1/openapi.json", Endpoint::OpenApi),
];

/// Known to clients, not there yet: looked at after everything else, below `/v1` and `/api/v1`.
const ABSENT: &[(&str, Endpoint)] = &[
    ("/v1/ingestion/{*id}", Endpoint::Absent(Dialect::Problem)),
    ("/v1/completions", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/responses/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/moderations", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/images/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/audio/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/rerank", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/realtime", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/realtime/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/files", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/files/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/batches", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/batches/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/conversations", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/conversations/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/vector_stores", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/vector_stores/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/fine_tuning/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/assistants", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/assistants/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/threads", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/threads/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/uploads", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/uploads/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/evals", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/evals/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/containers", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/containers/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/videos", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/videos/{*id}", Endpoint::Absent(Dialect::OpenAi)),
    ("/v1/messages/{*id}", Endpoint::Absent(Dialect::Anthropic)),
];

/// What stands behind a path, if anything.
pub(crate) fn find(path: &str) -> Option<Found<'_>> {
    if let Some(found) = gemini::find(path) {
        return Some(found);
    }
    let path = canonical(path);
    if let Some(below) = path.strip_prefix("/openai").filter(|below| below.starts_with('/')) {
        // OpenAI's SDKs have the `/v1` in their base URL, which is this one then.
        let openai = |table: &[(&'static str, Endpoint)], below| {
            table.iter().filter(|(_, e)| e.dialect() == Dialect::OpenAi).find_map(|&(pattern, endpoint)| {
                matches(pattern.strip_prefix("/v1")?, below).map(|id| Found { endpoint, id, route: pattern })
            })
        };
        let both = |table| openai(table, below).or_else(|| openai(table, unslashed(below)?));
        return both(TABLE).or_else(|| both(ABSENT));
    }
    if path.starts_with("/v1/") {
        let both = |table| in_table(table, path).or_else(|| in_table(table, unslashed(path)?));
        return both(TABLE).or_else(|| in_contract(path)).or_else(|| both(ABSENT));
    }
    in_table(ROOT, path)
}

/// Without what may stand before `/v1`: `/api`, or the name of a vendor whose SDK is to need another base URL only.
pub(crate) fn canonical(path: &str) -> &str {
    let below = ["/api", "/openai", "/anthropic"].iter().find_map(|before| path.strip_prefix(before));
    below.filter(|below| below.starts_with("/v1/")).unwrap_or(path)
}

/// As SDKs with a base URL of their own making may ask: with a slash behind.
fn unslashed(path: &str) -> Option<&str> {
    path.strip_suffix('/')
}

fn in_table<'a>(table: &[(&'static str, Endpoint)], path: &'a str) -> Option<Found<'a>> {
    table.iter().find_map(|&(pattern, endpoint)| {
        matches(pattern, path).map(|id| Found { endpoint, id, route: pattern })
    })
}

fn in_contract(path: &str) -> Option<Found<'_>> {
    let route = weir_rest::api().ok()?.find(path)?;
    Some(Found { endpoint: Endpoint::Rest(route), id: "", route: route.pattern() })
}

/// The part of the path that the pattern leaves open: empty when it leaves nothing open.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    if let Some(stem) = pattern.strip_suffix("{*id}") {
        return path.strip_prefix(stem).filter(|rest| !rest.is_empty());
    }
    match pattern.split_once("{id}") {
        Some((stem, after)) => {
            let id = path.strip_prefix(stem)?.strip_suffix(after)?;
            (!id.is_empty() && !id.contains('/')).then_some(id)
        }
        None => (pattern == path).then_some(""),
    }
}

/// What is written by hand and has to be described by hand: each endpoint by its first path.
#[cfg(test)]
pub(crate) fn described() -> Vec<(String, &'static [Method])> {
    let rows: Vec<_> = ROOT.iter().chain(TABLE).chain(gemini::TABLE).collect();
    let first = rows.iter().enumerate().filter(|(at, (_, endpoint))| {
        let known = rows.iter().take(*at).any(|(_, earlier)| earlier == endpoint);
        !known && !matches!(endpoint, Endpoint::Index | Endpoint::Docs | Endpoint::Absent(_))
    });
    // What a path leaves open has names of its own in the description.
    let named = |p: &str| {
        let p = p.replace("models/{*id}", "models/{model}").replace("errors/{id}", "errors/{code}");
        p.replace("responses/{id}", "responses/{response_id}")
    };
    first.map(|(_, (pattern, endpoint))| (named(pattern), endpoint.methods())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Option<(Endpoint, &str)> {
        find(path).map(|f| (f.endpoint, f.id))
    }

    #[test]
    fn paths_stand_below_both_prefixes() {
        for prefix in ["/v1", "/api/v1", "/openai/v1", "/anthropic/v1"] {
            let at = |path: &str| find(&format!("{prefix}{path}")).map(|f| (f.endpoint, f.id.to_owned()));
            assert_eq!(at("/chat/completions"), Some((Endpoint::ChatCompletions, String::new())));
            assert_eq!(at("/models"), Some((Endpoint::Models, String::new())));
            assert_eq!(at("/models/meta/llama:3"), Some((Endpoint::Model, "meta/llama:3".into())));
            for rest in ["/api-keys/7", "/users/me/api-keys", "/ingestion/documents"] {
                assert!(matches!(at(rest), Some((Endpoint::Rest(_), _))), "{rest}");
            }
            assert_eq!(at("/ingestion/documents/7").map(|f| f.0), Some(Endpoint::Absent(Dialect::Problem)));
            assert_eq!(at("/responses"), Some((Endpoint::Responses, String::new())));
            assert_eq!(at("/responses/resp_1"), Some((Endpoint::Response, "resp_1".into())));
            assert_eq!(at("/responses/resp_1/cancel"), Some((Endpoint::CancelResponse, "resp_1".into())));
            assert_eq!(at("/responses/input_tokens").map(|f| f.0), Some(Endpoint::InputTokens));
            assert_eq!(at("/responses/compact").map(|f| f.0), Some(Endpoint::Compact));
            assert_eq!(at("/responses/a/b").map(|f| f.0), Some(Endpoint::Absent(Dialect::OpenAi)));
            assert_eq!(at("/chat/ws"), Some((Endpoint::ChatSocket, String::new())));
            assert_eq!(at("/messages"), Some((Endpoint::Messages, String::new())));
            assert_eq!(at("/messages/count_tokens"), Some((Endpoint::CountTokens, String::new())));
            assert_eq!(at("/chat/completions/"), Some((Endpoint::ChatCompletions, String::new())));
            assert_eq!(at("/responses/input_tokens/").map(|f| f.0), Some(Endpoint::InputTokens));
            assert_eq!(at("/messages/count_tokens/").map(|f| f.0), Some(Endpoint::CountTokens));
            assert_eq!(at("/models/"), Some((Endpoint::Models, String::new())));
            for absent in ["/conversations", "/vector_stores/vs_1/files", "/fine_tuning/jobs"] {
                assert_eq!(at(absent).map(|f| f.0), Some(Endpoint::Absent(Dialect::OpenAi)), "{absent}");
            }
            assert_eq!(at("/messages/batches").map(|f| f.0), Some(Endpoint::Absent(Dialect::Anthropic)));
        }
        assert_eq!(found("/openai/chat/completions"), Some((Endpoint::ChatCompletions, "")));
        assert_eq!(found("/openai/models/a/b"), Some((Endpoint::Model, "a/b")));
        assert_eq!(found("/openai/chat/completions/"), Some((Endpoint::ChatCompletions, "")));
        assert_eq!(found("/openai/messages"), None);
        assert_eq!(found("/ws/chat"), Some((Endpoint::ChatSocket, "")));
        assert_eq!(found("/"), Some((Endpoint::Index, "")));
        for path in [
            "/v1beta/models/m:generateContent",
            "/genai/v1beta/models/m:generateContent",
            "/v1/models/m:generateContent",
        ] {
            assert_eq!(found(path), Some((Endpoint::Gemini(Verb::Generate), "m")), "{path}");
        }
        for path in ["/v1/rerank", "/v1/images/generations", "/v1/audio/speech", "/openai/v1/realtime"] {
            assert_eq!(found(path).map(|f| f.0), Some(Endpoint::Absent(Dialect::OpenAi)), "{path}");
        }
    }

    #[test]
    fn other_paths_are_unknown() {
        for path in ["/v1", "/v1/", "/v2/models", "/v1x/models", "/models", "/v1/tenants/a/b", "//v1/models"]
        {
            assert_eq!(found(path), None, "{path}");
        }
    }
}
