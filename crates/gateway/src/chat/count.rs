//! `POST /v1/messages/count_tokens` and `POST /v1/responses/input_tokens`: by the provider when it counts in this dialect, else by the orchestrator.

use std::collections::HashMap;

use axum::body::Body;
use http::StatusCode;
use serde::Serialize;
use weir_error::{Error, require_scope};
use weir_llm::{Dialect, View, anthropic::MessagesView, gemini};
use weir_proto::chat::{CountTokensRequest, chat_client::ChatClient};
use weir_types::scope;

use super::{forwarded, wire_dialect};
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
    let input_tokens = count(house, asked, body, Dialect::Responses, None).await?;
    reply::json(StatusCode::OK, &CountedInput { object: "response.input_tokens", input_tokens })
}

/// Anthropic's.
pub(crate) async fn count_tokens(house: &House, asked: &Asked, body: Body) -> Answer {
    let input_tokens = count(house, asked, body, Dialect::Anthropic, None).await?;
    reply::json(StatusCode::OK, &Counted { input_tokens })
}

/// It costs no tokens, but counts among the tenant's requests. The path may name the model.
pub(crate) async fn count(
    house: &House,
    asked: &Asked,
    body: Body,
    dialect: Dialect,
    named: Option<String>,
) -> Result<u64, Error> {
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
    let _permit = house.access.admit(&grant, 0)?;
    let request = CountTokensRequest {
        dialect: wire_dialect(dialect).into(),
        model,
        headers: if dialect == Dialect::Anthropic { forwarded(asked) } else { HashMap::new() },
        body,
    };
    let mut client = ChatClient::new(house.orchestrator.clone());
    let counted = client.count_tokens(weir_rpc::request(&ctx, request)).await?.into_inner();
    Ok(counted.input_tokens)
}
