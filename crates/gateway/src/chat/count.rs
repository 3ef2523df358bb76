//! `POST /v1/messages/count_tokens` and `POST /v1/responses/input_tokens`: by the provider when it counts in this dialect, else by the orchestrator.

use std::collections::HashMap;

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use weir_error::{Code, Error, require_scope};
use weir_llm::{
    Dialect, View,
    anthropic::MessagesView,
    canonical::{Content, Losses, Tool},
    gemini, tokens,
};
use weir_proto::chat::{CountTokensRequest, Head, chat_client::ChatClient};
use weir_types::scope;

use super::{forwarded, served, wire_dialect};
use crate::{House, asked::Asked, edge::Answer, reply};

#[derive(Serialize)]
struct Counted {
    input_tokens: u64,
}

#[derive(Serialize)]
struct CountedInput {
    object: &'static str,
    input_tokens: u64,
}

/// OpenAI's.
pub(crate) async fn count_input(house: &House, asked: &Asked, body: Body) -> Answer {
    count(house, asked, body, Dialect::Responses, None, |input_tokens| CountedInput {
        object: "response.input_tokens",
        input_tokens,
    })
    .await
}

/// Anthropic's.
pub(crate) async fn count_tokens(house: &House, asked: &Asked, body: Body) -> Answer {
    count(house, asked, body, Dialect::Anthropic, None, |input_tokens| Counted { input_tokens }).await
}

/// It costs no tokens, but counts among the tenant's requests. The path may name the model.
pub(crate) async fn count<T: Serialize>(
    house: &House,
    asked: &Asked,
    body: Body,
    dialect: Dialect,
    named: Option<String>,
    shown: impl FnOnce(u64) -> T,
) -> Answer {
    asked.check_json_head(house.config.max_body.as_usize())?;
    let grant = house.tenant_grant(asked).await?;
    let ctx = asked.context(&grant, house.config.call_timeout);
    require_scope(&ctx, scope::CHAT_WRITE)?;
    let (body, _upload) = house.read_body(&grant, body).await?;
    let _slot = house.access.enter()?;
    let model = match (dialect, named) {
        (_, Some(named)) => {
            gemini::count_body(&body, &named)?;
            named
        }
        (Dialect::Anthropic, _) => MessagesView::scan_for_count(&body)?.model,
        (dialect, _) => View::scan(dialect, &body)?.into_model(),
    };
    // First: reading all of a body is work, also of one that is refused.
    let _permit = house.admit(asked, &grant, 0)?;
    let body = checked(dialect, body).await?;
    let request = CountTokensRequest {
        dialect: wire_dialect(dialect).into(),
        model,
        headers: if dialect == Dialect::Anthropic { forwarded(asked) } else { HashMap::new() },
        body,
    };
    let mut client = ChatClient::new(house.orchestrator.clone());
    let counted = client.count_tokens(weir_rpc::request(&ctx, request)).await?.into_inner();
    let mut response = reply::json(StatusCode::OK, &shown(counted.input_tokens))?;
    // Nobody, where Weir counted itself.
    let head = Head { provider: counted.provider, ..Head::default() };
    served(&head, None, response.headers_mut());
    Ok(response)
}

/// What a call with this body would refuse, counting refuses: members that are not of their type.
///
/// # Errors
/// The member, as the dialect names it.
async fn checked(dialect: Dialect, body: Bytes) -> Result<Bytes, Error> {
    if tokens::is_quick(body.len()) {
        return check(dialect, &body).map(|()| body);
    }
    let checked = move || check(dialect, &body).map(|()| body);
    tokio::task::spawn_blocking(checked).await.map_err(Error::internal)?
}

fn check(dialect: Dialect, body: &[u8]) -> Result<(), Error> {
    /// Google's may stand one level deeper.
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow, alias = "generate_content_request", rename = "generateContentRequest")]
        request: Option<&'a RawValue>,
    }
    let inner = match dialect {
        Dialect::Gemini => {
            serde_json::from_slice::<Wrapped<'_>>(body).ok().and_then(|wrapped| wrapped.request)
        }
        _ => None,
    };
    let body = inner.map_or(body, |inner| inner.get().as_bytes());
    let request = dialect.decode_request(body, &mut Losses::default())?;
    let schemas = request.tools.iter().filter_map(|tool| match tool {
        Tool::Function(function) => function.schema.as_ref(),
        Tool::Foreign { .. } => None,
    });
    let is_no_object = |json: &str| !json.trim_start().starts_with('{');
    if schemas.into_iter().any(|schema| is_no_object(schema.get()) && schema.get() != "null") {
        return Err(no_object(dialect, "tools.parameters", "tools"));
    }
    // In OpenAI's dialects arguments are what the model wrote, which may be anything.
    if matches!(dialect, Dialect::OpenAi | Dialect::Responses) {
        return Ok(());
    }
    for part in request.messages.iter().flat_map(|message| &message.parts) {
        if let Content::ToolUse(call) = &part.content
            && is_no_object(&call.arguments)
        {
            let field = "messages.tool_calls.function.arguments";
            let param = if dialect == Dialect::Gemini { "contents" } else { "messages" };
            return Err(no_object(dialect, field, param));
        }
    }
    Ok(())
}

fn no_object(dialect: Dialect, field: &str, param: &str) -> Error {
    let name = dialect.client().field(field);
    Error::new(Code::InvalidType, format!("{name}: expected an object")).with_param(param)
}
