//! `weir.control.v1.DeadLetters`.

use tonic::{Request, Response, Status};
use weir_events::{Bulk, DeadLetter as Letter, Deed, Filter, Payloads};
use weir_proto::control::{
    DeadLetter, DeadLettersHandled, DropDeadLetterRequest, DropDeadLettersRequest, GetDeadLetterRequest,
    ListDeadLettersRequest, ListDeadLettersResponse, ReplayDeadLetterRequest, ReplayDeadLettersRequest,
    dead_letter::Header, dead_letters_handled::Failed, dead_letters_server,
};

use crate::app;

pub(crate) struct DeadLetters {
    app: std::sync::Arc<app::DeadLetters>,
    payloads: Payloads,
}

impl DeadLetters {
    pub(crate) fn new(app: std::sync::Arc<app::DeadLetters>) -> Self {
        Self { app, payloads: Payloads::default() }
    }

    fn shown(&self, letter: Letter) -> DeadLetter {
        let payload = self.payloads.json(&letter).map(|json| json.to_string());
        DeadLetter {
            id: letter.id.to_string(),
            payload_raw: if payload.is_some() { Default::default() } else { letter.payload },
            payload: payload.unwrap_or_default(),
            reason: letter.reason_code,
            reason_text: weir_telemetry::redact(&letter.reason).into_owned(),
            stream: letter.stream,
            sequence: letter.sequence,
            consumer: letter.consumer,
            subject: letter.subject,
            tenant_id: letter.tenant.map(|t| t.to_string()).unwrap_or_default(),
            event_id: letter.event_id.map(|id| id.to_string()).unwrap_or_default(),
            deliveries: letter.deliveries,
            failures: letter.failures,
            first_failure_at_ms: letter.first_failure_ms,
            last_failure_at_ms: letter.last_failure_ms,
            dead_at_ms: letter.stored_at_ms,
            headers: letter.headers.into_iter().map(header).collect(),
        }
    }
}

fn header((name, value): (String, String)) -> Header {
    let value = weir_telemetry::redact(&value).into_owned();
    Header { name, value }
}

fn handled(bulk: Bulk) -> DeadLettersHandled {
    let failed = |(id, error): (weir_events::LetterId, weir_events::DeadLetterError)| Failed {
        id: id.to_string(),
        text: error.to_string(),
    };
    DeadLettersHandled {
        handled: bulk.done,
        failed: bulk.failed.into_iter().map(failed).collect(),
        has_more: bulk.has_more,
    }
}

#[tonic::async_trait]
impl dead_letters_server::DeadLetters for DeadLetters {
    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let ListDeadLettersRequest { limit, after, stream, consumer, tenant_id, reason } =
            request.into_inner();
        let filter = Filter { stream, consumer, reason, tenant: tenant_id };
        let page = self.app.list(&ctx, &filter, &after, limit).await?;
        let last = page.letters.last().filter(|_| page.has_more);
        let next_cursor = last.map(|l| l.id.to_string()).unwrap_or_default();
        let data = page.letters.into_iter().map(|letter| self.shown(letter)).collect();
        Ok(Response::new(ListDeadLettersResponse { data, has_more: page.has_more, next_cursor }))
    }

    async fn get_dead_letter(
        &self,
        request: Request<GetDeadLetterRequest>,
    ) -> Result<Response<DeadLetter>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let letter = self.app.get(&ctx, &request.get_ref().id).await?;
        Ok(Response::new(self.shown(letter)))
    }

    async fn replay_dead_letter(
        &self,
        request: Request<ReplayDeadLetterRequest>,
    ) -> Result<Response<DeadLetter>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let letter = self.app.one(&ctx, Deed::Replay, &request.get_ref().id).await?;
        Ok(Response::new(self.shown(letter)))
    }

    async fn drop_dead_letter(
        &self,
        request: Request<DropDeadLetterRequest>,
    ) -> Result<Response<DeadLetter>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let letter = self.app.one(&ctx, Deed::Drop, &request.get_ref().id).await?;
        Ok(Response::new(self.shown(letter)))
    }

    async fn replay_dead_letters(
        &self,
        request: Request<ReplayDeadLettersRequest>,
    ) -> Result<Response<DeadLettersHandled>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let ReplayDeadLettersRequest { limit, stream, consumer, tenant_id, reason } = request.into_inner();
        let filter = Filter { stream, consumer, reason, tenant: tenant_id };
        Ok(Response::new(handled(self.app.many(&ctx, Deed::Replay, &filter, limit).await?)))
    }

    async fn drop_dead_letters(
        &self,
        request: Request<DropDeadLettersRequest>,
    ) -> Result<Response<DeadLettersHandled>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let DropDeadLettersRequest { limit, stream, consumer, tenant_id, reason } = request.into_inner();
        let filter = Filter { stream, consumer, reason, tenant: tenant_id };
        Ok(Response::new(handled(self.app.many(&ctx, Deed::Drop, &filter, limit).await?)))
    }
}
