//! `weir.ingestion.v1.Ingestion`.

use tonic::{Request, Response, Status};
use weir_error::{Code, Error, require_tenant};
use weir_proto::ingestion::{CreateDocumentRequest, Document, ingestion_server::Ingestion};

pub(crate) struct Grpc;

#[tonic::async_trait]
impl Ingestion for Grpc {
    async fn create_document(
        &self,
        request: Request<CreateDocumentRequest>,
    ) -> Result<Response<Document>, Status> {
        let ctx = weir_rpc::context(&request)?;
        require_tenant(&ctx)?;
        Err(Error::new(Code::NotImplemented, "documents are not stored yet").into())
    }
}

#[cfg(test)]
mod tests {
    use weir_proto::ingestion::ingestion_client::IngestionClient;
    use weir_rpc::Transport;
    use weir_types::{RequestContext, TenantId};

    use super::*;
    use crate::{Config, Deps, build};

    async fn create(ctx: &RequestContext) -> Error {
        let service = build(Config::default(), Deps::default()).unwrap();
        let mut client = IngestionClient::new(Transport::local("ingestion", service.routes()));
        let request = weir_rpc::request(ctx, CreateDocumentRequest::default());
        client.create_document(request).await.unwrap_err().into()
    }

    #[tokio::test]
    async fn creating_a_document_says_that_it_is_not_there_yet() {
        let ctx = RequestContext { tenant: Some(TenantId::new()), ..RequestContext::service("gateway") };
        let error = create(&ctx).await;
        assert_eq!((error.code(), error.message()), (Code::NotImplemented, "documents are not stored yet"));
        assert_eq!(error.code().http(), 501);
    }

    #[tokio::test]
    async fn a_tenant_is_required() {
        assert_eq!(create(&RequestContext::service("gateway")).await.code(), Code::TenantRequired);
    }
}
