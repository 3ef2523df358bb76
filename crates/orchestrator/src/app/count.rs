//! Input tokens of a request that is not made.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::value::RawValue;
use weir_error::{Error, require_scope};
use weir_llm::{
    Dialect,
    anthropic::{self, MessagesView},
    canonical::Losses,
    gemini,
    upstream::Answer,
};
use weir_proto::chat::{CountTokensRequest, CountTokensResponse};
use weir_types::{RequestContext, scope};

use super::{
    attempt::{forward, target},
    catalog::{Candidate, Model},
    chat::Chat,
    heavy,
};

#[derive(Deserialize)]
struct Counted {
    /// Google calls them so.
    #[serde(alias = "totalTokens")]
    input_tokens: u64,
}

/// How a provider of a dialect is asked: its path and body for a model of its own.
enum Question {
    Messages(MessagesView),
    Gemini,
}

impl Question {
    /// `None` in dialects in which nothing can be counted.
    ///
    /// # Errors
    /// What is wrong with the body.
    fn of(dialect: Dialect, body: &Bytes) -> Result<Option<Self>, Error> {
        Ok(match dialect {
            Dialect::Anthropic => Some(Self::Messages(MessagesView::scan_for_count(body)?)),
            Dialect::Gemini => gemini::count_body(body, "any").map(|_| Some(Self::Gemini))?,
            _ => None,
        })
    }

    fn put<'a>(&self, body: &Bytes, candidate: &'a Candidate) -> Option<(Cow<'a, str>, Bytes)> {
        let Candidate { provider, model, .. } = candidate;
        match self {
            Self::Messages(view) => {
                let body = anthropic::upstream_body(view, body, model, &mut Losses::default());
                Some((provider.count_path(), body))
            }
            Self::Gemini => {
                let path = provider.path(gemini::method(model, "countTokens").into(), model);
                Some((path, gemini::count_body(body, model).ok()?))
            }
        }
    }
}

/// What Anthropic's endpoint takes of a body.
const COUNTED: [&str; 6] = ["model", "messages", "system", "tools", "tool_choice", "thinking"];

/// The body as a dialect has it that the model's provider speaks: what is counted is what the model would get. `None`
/// for what can't be understood.
fn translated(
    from: Dialect,
    into: Dialect,
    body: &Bytes,
    candidate: &Candidate,
    model: Option<&Model>,
) -> Option<Bytes> {
    /// Google's may stand one level deeper.
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow, alias = "generate_content_request", rename = "generateContentRequest")]
        request: Option<&'a RawValue>,
    }
    let wrapped = serde_json::from_slice::<Wrapped<'_>>(body).ok().filter(|_| from == Dialect::Gemini);
    let inner = wrapped.and_then(|wrapped| wrapped.request).map_or(&body[..], |raw| raw.get().as_bytes());
    let mut unseen = Losses::default();
    let request = from.decode_request(inner, &mut unseen).ok()?;
    let body = into.encode_request(&request, &target(candidate, model), &mut unseen);
    if into != Dialect::Anthropic {
        return Some(body);
    }
    let mut members: BTreeMap<&str, &RawValue> = serde_json::from_slice(&body).ok()?;
    members.retain(|name, _| COUNTED.contains(name));
    serde_json::to_vec(&members).ok().map(Bytes::from)
}

impl Chat {
    /// By the provider where it counts, else here, as its dialect has it.
    pub(crate) async fn count_tokens(
        &self,
        ctx: &RequestContext,
        request: CountTokensRequest,
    ) -> Result<CountTokensResponse, Error> {
        require_scope(ctx, scope::CHAT_WRITE)?;
        let dialect = super::chat::dialect(request.dialect())?;
        let candidates = self.resolve(ctx, &request.model).await?;
        // What is wrong with the body is told in its own dialect.
        Question::of(dialect, &request.body)?;
        let mut counted = None;
        for candidate in &candidates {
            let spoken = candidate.provider.dialect;
            let body = if spoken == dialect {
                Some(request.body.clone())
            } else {
                self.as_spoken(dialect, spoken, &request.body, candidate).await
            };
            let Some(body) = body else { continue };
            if let Some(question) = Question::of(spoken, &body).unwrap_or_default() {
                let headers = if spoken == dialect { &request.headers } else { &HashMap::new() };
                if let Some(input_tokens) = ask(ctx, headers, &body, &question, candidate).await {
                    let provider = candidate.provider.name.clone();
                    return Ok(CountTokensResponse { input_tokens, provider });
                }
            }
            counted.get_or_insert((candidate, spoken, body));
        }
        let (dialect, body) = match counted {
            // Both of OpenAI's dialects are counted by one rule.
            Some((candidate, Dialect::Responses, body)) => {
                let chat = self.as_spoken(Dialect::Responses, Dialect::OpenAi, &body, candidate).await;
                chat.map_or((Dialect::Responses, body), |chat| (Dialect::OpenAi, chat))
            }
            Some((_, spoken, body)) => (spoken, body),
            None => (dialect, request.body),
        };
        let count = || dialect.provider().count_prompt(&body);
        let input_tokens = heavy::count(body.len(), count).await;
        Ok(CountTokensResponse { input_tokens, provider: String::new() })
    }

    async fn as_spoken(
        &self,
        from: Dialect,
        into: Dialect,
        body: &Bytes,
        candidate: &Candidate,
    ) -> Option<Bytes> {
        let model = self.catalog.model(&candidate.provider.name, &candidate.model);
        heavy::body(body.len(), || translated(from, into, body, candidate, model.as_ref())).await
    }
}

/// The provider's count; `None` when it gives none, whatever the reason.
async fn ask(
    ctx: &RequestContext,
    theirs: &HashMap<String, String>,
    body: &Bytes,
    question: &Question,
    candidate: &Candidate,
) -> Option<u64> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    forward(theirs, &mut headers);
    candidate.provider.only_its_headers(&mut headers);
    let (path, body) = question.put(body, candidate)?;
    let sent = candidate.provider.upstream.send(&path, headers, body, ctx.deadline).await;
    let Answer { status, body, .. } = sent.ok()?;
    let body = body.collect().await.ok()?;
    let counted: Option<Counted> = serde_json::from_slice(&body).ok().filter(|_| status.is_success());
    if counted.is_none() {
        tracing::debug!(provider = candidate.provider.name, status = status.as_u16(), "did not count tokens");
    }
    counted.map(|c| c.input_tokens)
}
