//! `weir.realtime.v1.Realtime`.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use weir_error::{require_scope, require_tenant};
use weir_proto::realtime::{CountSessionsRequest, CountSessionsResponse, realtime_server::Realtime};
use weir_types::scope;

use crate::Shared;

pub(crate) struct Grpc {
    pub(crate) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl Realtime for Grpc {
    async fn count_sessions(
        &self,
        request: Request<CountSessionsRequest>,
    ) -> Result<Response<CountSessionsResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        require_scope(&ctx, scope::USAGE_READ)?;
        let active = self.shared.registry.count(require_tenant(&ctx)?);
        Ok(Response::new(CountSessionsResponse { active }))
    }
}
