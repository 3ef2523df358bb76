//! `/v1/ingestion/…`: documents. A posted one is handed to the service, whose word counts: for now that it stores
//! none. The other methods have no call to make yet.

use axum::body::Body;
use http::{Method, StatusCode};
use serde::Serialize;
use weir_error::{Code, Error};
use weir_proto::ingestion::{CreateDocumentRequest, ingestion_client::IngestionClient};

use crate::{House, asked::Asked, edge::Answer, reply};

#[derive(Serialize)]
struct Document {
    id: String,
}

pub(crate) async fn documents(house: &House, asked: &Asked, body: Body, path: &str) -> Answer {
    let grant = house.tenant_grant(asked).await?;
    if asked.method != Method::POST {
        return Err(Error::new(Code::NotImplemented, "documents cannot be looked at yet"));
    }
    let (content, _upload) = house.read_body(&grant, body).await?;
    let ctx = asked.context(&grant, house.config.call_timeout);
    let mut client = IngestionClient::new(house.ingestion.clone());
    let message = CreateDocumentRequest { name: path.to_owned(), content };
    let document = client.create_document(weir_rpc::request(&ctx, message)).await?.into_inner();
    reply::json(StatusCode::CREATED, &Document { id: document.id })
}
