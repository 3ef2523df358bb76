//! `POST /v1/messages/count_tokens`: by the provider when it counts in this dialect, else by the orchestrator.

use axum::body::Body;
use http::StatusCode;
use serde::Serialize;
use weir_error::require_scope;
use weir_llm::anthropic::MessagesView;
use weir_proto::chat::{CountTokensRequest, Dialect as WireDialect, chat_client::ChatClient};
use weir_types::scope;

use super::forwarded;
use crate::{House, asked::Asked, edge::Answer, reply};

#[derive(Serialize)]
struct Counted {
    input_tokens: u64,
}

/// It costs no tokens, but counts among the tenant's requests.
pub(crate) async fn count_tokens(house: &House, asked: &Asked, body: Body) -> Answer {
    asked.check_json_head(house.config.max_body.as_usize())?;
    let grant = house.tenant_grant(asked).await?;
    let ctx = asked.context(&grant, house.config.call_timeout);
    require_scope(&ctx, scope::CHAT_WRITE)?;
    let (body, _upload) = house.read_body(&grant, body).await?;
    let _slot = house.access.enter()?;
    let view = MessagesView::scan_for_count(&body)?;
    let _permit = house.access.admit(&grant, 0)?;
    let request = CountTokensRequest {
        dialect: WireDialect::AnthropicMessages.into(),
        model: view.model,
        headers: forwarded(asked),
        body,
    };
    let mut client = ChatClient::new(house.orchestrator.clone());
    let counted = client.count_tokens(weir_rpc::request(&ctx, request)).await?.into_inner();
    reply::json(StatusCode::OK, &Counted { input_tokens: counted.input_tokens })
}
