//! `POST /v1/router/decide`: which model and provider a request would go to.

use axum::body::Body;
use http::StatusCode;
use serde::Serialize;
use weir_proto::router::{DecideRequest, router_client::RouterClient};

use super::{fields, present};
use crate::{House, asked::Asked, edge::Answer, reply};

#[derive(Serialize)]
struct Decision {
    model: String,
    /// `null`: any provider that serves the model.
    provider: Option<String>,
    reasons: Vec<String>,
    decision_id: String,
}

pub(crate) async fn decide(house: &House, asked: &Asked, body: Body) -> Answer {
    let grant = house.tenant_grant(asked).await?;
    let mut body = fields(house, asked, &grant, body).await?;
    let message = DecideRequest { model: body.required_text("model")? };
    body.finish()?;
    let ctx = asked.context(&grant, house.config.call_timeout);
    let mut client = RouterClient::new(house.router.clone());
    let decision = client.decide(weir_rpc::request(&ctx, message)).await?.into_inner();
    reply::json(
        StatusCode::OK,
        &Decision {
            model: decision.model,
            provider: present(decision.provider),
            reasons: decision.reasons,
            decision_id: decision.decision_id,
        },
    )
}
