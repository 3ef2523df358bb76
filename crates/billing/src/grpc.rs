//! `weir.billing.v1.Usage`.

use tonic::{Request, Response, Status};
use weir_proto::billing::{GetMyUsageRequest, UsageReport, usage_server};

use crate::app::Usage;

pub(crate) struct Grpc {
    usage: Usage,
}

impl Grpc {
    pub(crate) fn new(usage: Usage) -> Self {
        Self { usage }
    }
}

#[tonic::async_trait]
impl usage_server::Usage for Grpc {
    async fn get_my_usage(
        &self,
        request: Request<GetMyUsageRequest>,
    ) -> Result<Response<UsageReport>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let GetMyUsageRequest { from_ms, to_ms } = *request.get_ref();
        Ok(Response::new(self.usage.mine(&ctx, from_ms, to_ms).await?))
    }
}
