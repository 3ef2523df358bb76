//! A stream that goes on without whoever looks on.

use axum::body::Body;
use weir_error::require_scope;
use weir_llm::Dialect;
use weir_types::{RequestContext, scope};

use super::{Frames, Held, opening, stream};
use crate::{House, asked::Asked, edge::Answer};

/// Relays what `ask` gets. It costs no tokens: they are whose who began it.
pub(crate) async fn attach<F>(
    house: &House,
    asked: &Asked,
    dialect: Dialect,
    ask: impl FnOnce(&RequestContext) -> F,
) -> Answer
where
    F: Future<Output = Result<Frames, tonic::Status>> + Send + 'static,
{
    let grant = house.tenant_grant(asked).await?;
    let ctx = asked.context(&grant, house.config.stream_timeout);
    require_scope(&ctx, scope::CHAT_WRITE)?;
    let (_, upload) = house.read_body(&grant, Body::empty()).await?;
    let slot = house.access.enter()?;
    let permit = house.access.admit(&grant, 0)?;
    let held = Held { permit, _slot: slot, _upload: upload };
    stream::answer(house, held, opening(ask(&ctx)), asked.request_id.clone(), dialect).await
}
