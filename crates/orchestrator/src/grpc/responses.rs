//! Stored responses.

use tonic::{Request, Response, Status};
use weir_proto::chat::{
    AttachResponseRequest, CancelResponseRequest, DeleteResponseRequest, GetResponseRequest,
    ListInputItemsRequest, ResponseBody, responses_server,
};

use super::Handler;
use crate::app::Frames;

type Answer = Result<Response<ResponseBody>, Status>;

fn answer(body: Vec<u8>) -> Answer {
    Ok(Response::new(ResponseBody { body: body.into() }))
}

#[tonic::async_trait]
impl responses_server::Responses for Handler {
    async fn get(&self, request: Request<GetResponseRequest>) -> Answer {
        let ctx = weir_rpc::context(&request)?;
        answer(self.responses.get(&ctx, request.get_ref()).await?)
    }

    async fn delete(&self, request: Request<DeleteResponseRequest>) -> Answer {
        let ctx = weir_rpc::context(&request)?;
        answer(self.responses.delete(&ctx, request.get_ref()).await?)
    }

    async fn cancel(&self, request: Request<CancelResponseRequest>) -> Answer {
        let ctx = weir_rpc::context(&request)?;
        answer(self.responses.cancel(&ctx, request.get_ref()).await?)
    }

    async fn input_items(&self, request: Request<ListInputItemsRequest>) -> Answer {
        let ctx = weir_rpc::context(&request)?;
        answer(self.responses.input_items(&ctx, request.get_ref()).await?)
    }

    async fn attach(&self, request: Request<AttachResponseRequest>) -> Result<Response<Frames>, Status> {
        let ctx = weir_rpc::context(&request)?;
        Ok(Response::new(self.responses.attach(&ctx, request.into_inner()).await?))
    }
}
