//! The orchestrator's gRPC.

use tonic::{Request, Response, Status};
use weir_error::require_scope;
use weir_proto::chat::{
    CompleteRequest, CountTokensRequest, CountTokensResponse, Dialect, EmbedRequest, EmbedResponse,
    ListModelsRequest, ListModelsResponse, Model, TokenizeRequest, TokenizeResponse, chat_server,
};
use weir_types::scope;

use crate::app::{Chat, Embedder, Frames, Responses};

mod responses;

#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) chat: Chat,
    pub(crate) embedder: Embedder,
    pub(crate) responses: Responses,
}

#[tonic::async_trait]
impl chat_server::Chat for Handler {
    async fn complete(&self, request: Request<CompleteRequest>) -> Result<Response<Frames>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let request = request.into_inner();
        // The one dialect with a memory.
        if request.dialect() == Dialect::OpenaiResponses {
            return Ok(Response::new(Box::pin(self.responses.create(&ctx, request)).await?));
        }
        Ok(Response::new(self.chat.complete(&ctx, request).await?))
    }

    async fn compact(&self, request: Request<CompleteRequest>) -> Result<Response<Frames>, Status> {
        let ctx = weir_rpc::context(&request)?;
        Ok(Response::new(Box::pin(self.responses.compact(&ctx, request.into_inner())).await?))
    }

    async fn count_tokens(
        &self,
        request: Request<CountTokensRequest>,
    ) -> Result<Response<CountTokensResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let mut request = request.into_inner();
        if request.dialect() == Dialect::OpenaiResponses {
            request.body = self.responses.expanded(&ctx, &request.body).await?;
        }
        Ok(Response::new(self.chat.count_tokens(&ctx, request).await?))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        Ok(Response::new(self.embedder.embed(&ctx, request.into_inner()).await?))
    }

    async fn tokenize(
        &self,
        request: Request<TokenizeRequest>,
    ) -> Result<Response<TokenizeResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        Ok(Response::new(self.chat.tokenize(&ctx, request.into_inner()).await?))
    }

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        require_scope(&ctx, scope::MODELS_READ)?;
        let name = &request.get_ref().name;
        let models = if name.is_empty() {
            self.chat.catalog.models()
        } else {
            self.chat.catalog.named(name).into_iter().collect()
        };
        let models = models.into_iter();
        let models = models.map(|(provider, model)| Model {
            id: model.id,
            created: model.created,
            owned_by: if model.owned_by.is_empty() { provider.clone() } else { model.owned_by },
            provider,
        });
        Ok(Response::new(ListModelsResponse { models: models.collect() }))
    }
}
