//! The network's side: a service's `Routes` behind verified identity.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderName, Request, Response, StatusCode, header};
use tonic::{Status, body::Body, service::Routes};
use tower::Service;
use weir_types::RequestContext;

use crate::{Identity, context::read_headers, room::Room};

/// `routes` for callers over the network, as a fallback service of an HTTP router. A call without a valid identity
/// token is answered `UNAUTHENTICATED`; what is not gRPC at all, 404.
#[must_use]
pub fn server(name: &'static str, routes: Routes, identity: Arc<Identity>) -> Server {
    Server { room: Room::new(name, routes), identity }
}

#[derive(Clone)]
pub struct Server {
    room: Room,
    identity: Arc<Identity>,
}

impl<B> Service<Request<B>> for Server
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<crate::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let is_grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
        if !is_grpc {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Box::pin(async move { Ok(response) });
        }
        let verified = match self.identity.verify(request.headers().get(header::AUTHORIZATION)) {
            Ok(verified) => verified,
            Err(error) => {
                tracing::warn!(rpc.service = self.room.name, error = %error, "refused a call");
                let response = Status::unauthenticated("a valid identity token is required").into_http();
                return Box::pin(async move { Ok(response) });
            }
        };
        let ctx: RequestContext = read_headers(&verified, request.headers());
        let headers = request.headers_mut();
        headers.remove(header::AUTHORIZATION);
        // Applied by our own layer; tonic would apply it a second time with its own status.
        headers.remove(HeaderName::from_static("grpc-timeout"));
        request.extensions_mut().insert(ctx);
        let call = self.room.call(request.map(Body::new));
        Box::pin(async move { Ok(call.await) })
    }
}
