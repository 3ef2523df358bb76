//! The orchestrator's gRPC.

use tonic::{Request, Response, Status};
use weir_error::require_scope;
use weir_proto::chat::{
    CompleteRequest, CountTokensRequest, CountTokensResponse, ListModelsRequest, ListModelsResponse, Model,
    chat_server,
};
use weir_types::scope;

use crate::app::{Chat, Frames};

pub(crate) struct Handler(pub(crate) Chat);

#[tonic::async_trait]
impl chat_server::Chat for Handler {
    async fn complete(&self, request: Request<CompleteRequest>) -> Result<Response<Frames>, Status> {
        let ctx = weir_rpc::context(&request)?;
        Ok(Response::new(self.0.complete(&ctx, request.into_inner()).await?))
    }

    async fn count_tokens(
        &self,
        request: Request<CountTokensRequest>,
    ) -> Result<Response<CountTokensResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        Ok(Response::new(self.0.count_tokens(&ctx, request.into_inner()).await?))
    }

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        require_scope(&ctx, scope::MODELS_READ)?;
        let models = self.0.catalog.models().into_iter();
        let models = models.map(|(provider, model)| Model {
            id: model.id,
            created: model.created,
            owned_by: if model.owned_by.is_empty() { provider.clone() } else { model.owned_by },
            provider,
        });
        Ok(Response::new(ListModelsResponse { models: models.collect() }))
    }
}
