//! The floor: a bare hyper reverse proxy. No JSON, no authentication, no limits.

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;

pub(crate) type HttpClient = Client<HttpConnector, Incoming>;

pub(crate) fn client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Serves until the runtime ends.
pub(crate) async fn serve(listener: TcpListener, upstream: Uri) {
    let client = client();
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        drop(socket.set_nodelay(true));
        let (client, upstream) = (client.clone(), upstream.clone());
        let service = service_fn(move |request| forward(client.clone(), upstream.clone(), request));
        crate::background(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

pub(crate) async fn forward(
    client: HttpClient,
    upstream: Uri,
    mut request: Request<Incoming>,
) -> Result<Response<Either<Incoming, Full<Bytes>>>, hyper::Error> {
    let mut parts = upstream.into_parts();
    parts.path_and_query = request.uri().path_and_query().cloned();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    match client.request(request).await {
        Ok(response) => Ok(response.map(Either::Left)),
        Err(_) => {
            let mut response = Response::new(Either::Right(Full::default()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            Ok(response)
        }
    }
}
