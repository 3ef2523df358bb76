//! Input tokens of a request that is not made.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use weir_error::{Error, require_scope};
use weir_llm::{
    Dialect,
    anthropic::{self, MessagesView},
    canonical::Losses,
    gemini, tokens,
    upstream::Answer,
};
use weir_proto::chat::{CountTokensRequest, CountTokensResponse};
use weir_types::{RequestContext, scope};

use super::{attempt::forward, catalog::Candidate, chat::Chat};

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

impl Chat {
    /// By the provider where it counts, else here.
    pub(crate) async fn count_tokens(
        &self,
        ctx: &RequestContext,
        request: CountTokensRequest,
    ) -> Result<CountTokensResponse, Error> {
        require_scope(ctx, scope::CHAT_WRITE)?;
        let dialect = super::chat::dialect(request.dialect())?;
        let candidates = self.resolve(ctx, &request.model).await?;
        if let Some(question) = Question::of(dialect, &request.body)? {
            for candidate in candidates.iter().filter(|c| c.provider.dialect == dialect) {
                if let Some(input_tokens) = ask(ctx, &request, &question, candidate).await {
                    let provider = candidate.provider.name.clone();
                    return Ok(CountTokensResponse { input_tokens, provider });
                }
            }
        }
        let body = request.body;
        let input_tokens = if tokens::is_quick(body.len()) {
            dialect.provider().count_prompt(&body)
        } else {
            let count = move || dialect.provider().count_prompt(&body);
            tokio::task::spawn_blocking(count).await.map_err(Error::internal)?
        };
        Ok(CountTokensResponse { input_tokens, provider: String::new() })
    }
}

/// The provider's count; `None` when it gives none, whatever the reason.
async fn ask(
    ctx: &RequestContext,
    request: &CountTokensRequest,
    question: &Question,
    candidate: &Candidate,
) -> Option<u64> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    forward(&request.headers, &mut headers);
    candidate.provider.only_its_headers(&mut headers);
    let (path, body) = question.put(&request.body, candidate)?;
    let sent = candidate.provider.upstream.send(&path, headers, body, ctx.deadline).await;
    let Answer { status, body, .. } = sent.ok()?;
    let body = body.collect().await.ok()?;
    let counted: Option<Counted> = serde_json::from_slice(&body).ok().filter(|_| status.is_success());
    if counted.is_none() {
        tracing::debug!(provider = candidate.provider.name, status = status.as_u16(), "did not count tokens");
    }
    counted.map(|c| c.input_tokens)
}
