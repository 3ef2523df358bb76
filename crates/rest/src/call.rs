//! The call itself, and its answer in JSON.

use bytes::Bytes;
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use prost_reflect::{DynamicMessage, Value};
use weir_error::Error;
use weir_rpc::Transport;
use weir_types::RequestContext;

use crate::{Api, Binding, build::location_fields, codec::DynamicCodec, write};

/// What stays as it is in a path's segment, RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What a client is answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// Where the object that was made is found.
    pub location: Option<String>,
    /// JSON.
    pub body: Bytes,
    message: DynamicMessage,
}

impl Answer {
    /// A text of the answer by the proto's names: `api_key.id`.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        text(&self.message, path)
    }
}

fn text(message: &DynamicMessage, path: &str) -> Option<String> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let value = message.get_field_by_name(name)?;
    match (value.as_ref(), rest) {
        (Value::Message(inner), Some(rest)) => text(inner, rest),
        (Value::String(text), None) => Some(text.clone()),
        _ => None,
    }
}

impl Api {
    /// Calls the operation's service.
    ///
    /// # Errors
    /// The service's own, its `param` as this request's client knows the field; `Unavailable` when it is not there.
    pub async fn call(
        &self,
        binding: &Binding,
        transport: Transport,
        ctx: &RequestContext,
        message: DynamicMessage,
    ) -> Result<Answer, Error> {
        let operation = self.operation(binding);
        let mut client = tonic::client::Grpc::new(transport);
        client.ready().await.map_err(|e| Error::unavailable("the service is not there").with_source(e))?;
        let codec = DynamicCodec(operation.method.output());
        let request = weir_rpc::request(ctx, message);
        let answered = client.unary(request, operation.path.clone(), codec).await;
        let message = answered
            .map_err(|status| Error::from(status).renamed(|named| self.param(binding, named)))?
            .into_inner();
        let shown = write::Object { shapes: &self.shapes, shape: operation.output, message: Some(&message) };
        let body = serde_json::to_vec(&shown).map_err(Error::internal)?.into();
        let location = location(&operation.rules.location, &message);
        Ok(Answer { status: operation.status, location, body, message })
    }
}

fn location(template: &str, message: &DynamicMessage) -> Option<String> {
    if template.is_empty() {
        return None;
    }
    let mut location = template.to_owned();
    for path in location_fields(template) {
        let value = text(message, path)?;
        let value = utf8_percent_encode(&value, SEGMENT).to_string();
        location = location.replace(&format!("{{{path}}}"), &value);
    }
    Some(location)
}
