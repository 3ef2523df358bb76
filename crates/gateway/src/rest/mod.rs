//! REST in front of the services' gRPC: one endpoint, one file. Errors are `application/problem+json`.

pub(crate) mod api_keys;
pub(crate) mod decide;
mod fields;
pub(crate) mod ingestion;
pub(crate) mod kpis;
mod query;
pub(crate) mod tenants;
pub(crate) mod usage;

use axum::body::Body;
use weir_access::Grant;
use weir_error::Error;

use self::fields::Fields;
use crate::{House, asked::Asked};

/// The fields of the request's JSON body.
async fn fields(house: &House, asked: &Asked, grant: &Grant, body: Body) -> Result<Fields, Error> {
    asked.check_json_head(house.config.max_body.as_usize())?;
    let (body, _upload) = house.read_body(grant, body).await?;
    Fields::parse(&body)
}

/// Our zero and empty mean absent; in JSON that is `null`.
fn present<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}
