//! `weir.analytics.v1.Analytics`.

use tonic::{Request, Response, Status};
use weir_proto::analytics::{HourlyKpisRequest, HourlyKpisResponse, analytics_server};

use crate::app::Kpis;

pub(crate) struct Grpc {
    kpis: Kpis,
}

impl Grpc {
    pub(crate) fn new(kpis: Kpis) -> Self {
        Self { kpis }
    }
}

#[tonic::async_trait]
impl analytics_server::Analytics for Grpc {
    async fn hourly_kpis(
        &self,
        request: Request<HourlyKpisRequest>,
    ) -> Result<Response<HourlyKpisResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let HourlyKpisRequest { from_ms, to_ms, model } = request.into_inner();
        let data = self.kpis.hourly(&ctx, from_ms, to_ms, &model).await?;
        Ok(Response::new(HourlyKpisResponse { data }))
    }
}
