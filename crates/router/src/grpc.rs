//! `weir.router.v1.Router` and `Aliases`, and the first one's tests over a transport.

use tonic::{Request, Response, Status};
use uuid::Uuid;
use weir_error::require_scope;
use weir_proto::router::{
    Alias, DecideRequest, DecideResponse, DeleteAliasRequest, ListAliasesRequest, ListAliasesResponse,
    ListNamesRequest, ListNamesResponse, PutAliasRequest, aliases_server::Aliases, router_server::Router,
};
use weir_types::scope;

use crate::app::App;

pub(crate) struct Grpc {
    pub(crate) app: App,
}

#[tonic::async_trait]
impl Router for Grpc {
    async fn decide(&self, request: Request<DecideRequest>) -> Result<Response<DecideResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        let decision = self.app.decide(&ctx, &request.get_ref().model)?;
        Ok(Response::new(DecideResponse {
            model: decision.model,
            provider: decision.provider.unwrap_or_default(),
            reasons: decision.reasons,
            decision_id: Uuid::now_v7().to_string(),
        }))
    }

    async fn list_names(
        &self,
        request: Request<ListNamesRequest>,
    ) -> Result<Response<ListNamesResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        require_scope(&ctx, scope::MODELS_READ)?;
        Ok(Response::new(ListNamesResponse { names: self.app.catalogue.names(ctx.tenant) }))
    }
}

#[tonic::async_trait]
impl Aliases for Grpc {
    async fn list_aliases(
        &self,
        request: Request<ListAliasesRequest>,
    ) -> Result<Response<ListAliasesResponse>, Status> {
        let ctx = weir_rpc::context(&request)?;
        Ok(Response::new(self.app.list_aliases(&ctx, request.get_ref()).await?))
    }

    async fn put_alias(&self, request: Request<PutAliasRequest>) -> Result<Response<Alias>, Status> {
        let ctx = weir_rpc::context(&request)?;
        Ok(Response::new(self.app.put_alias(&ctx, request.get_ref()).await?))
    }

    async fn delete_alias(&self, request: Request<DeleteAliasRequest>) -> Result<Response<Alias>, Status> {
        let ctx = weir_rpc::context(&request)?;
        Ok(Response::new(self.app.delete_alias(&ctx, request.get_ref()).await?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_error::{Code, Error};
    use weir_proto::router::router_client::RouterClient;
    use weir_rpc::Transport;
    use weir_telemetry::Metrics;
    use weir_types::{RequestContext, scope};

    use super::*;
    use crate::{AliasTarget, Config, Deps, build};

    fn caller(scopes: &[&str]) -> RequestContext {
        RequestContext {
            scopes: scopes.iter().map(|s| Arc::from(*s)).collect(),
            ..RequestContext::service("orchestrator")
        }
    }

    fn deps(metrics: &Metrics) -> Deps {
        Deps { db: None, bus: None, clock: Arc::new(weir_types::SystemClock), metrics: metrics.clone() }
    }

    fn client(config: Config, metrics: &Metrics) -> RouterClient<Transport> {
        let service = build(config, deps(metrics)).unwrap();
        RouterClient::new(Transport::local("router", service.routes()))
    }

    async fn decide(client: &mut RouterClient<Transport>, model: &str) -> Result<DecideResponse, Error> {
        let request =
            weir_rpc::request(&caller(&[scope::CHAT_WRITE]), DecideRequest { model: model.to_owned() });
        Ok(client.decide(request).await?.into_inner())
    }

    #[tokio::test]
    async fn names_are_decided_the_same_way_every_time() {
        let mut config = Config::default();
        let pinned = AliasTarget { model: "m1".to_owned(), provider: Some("azure".to_owned()) };
        config.aliases.insert("pinned".to_owned(), pinned);
        let metrics = Metrics::new();
        let mut client = client(config, &metrics);
        for (name, model, provider, reason) in [
            ("smart-model", "gpt-4o", "", "alias smart-model"),
            ("auto", "gpt-4o-mini", "", "auto: default model"),
            ("pinned", "m1", "azure", "alias pinned"),
            ("gpt-4o", "gpt-4o", "", "named outright"),
            ("openai/gpt-4o", "openai/gpt-4o", "", "named outright"),
        ] {
            let first = decide(&mut client, name).await.unwrap();
            let second = decide(&mut client, name).await.unwrap();
            assert_eq!((first.model.as_str(), first.provider.as_str()), (model, provider), "{name}");
            assert_eq!(first.reasons, [reason], "{name}");
            assert_ne!(first.decision_id, second.decision_id, "{name}");
            assert_eq!(DecideResponse { decision_id: first.decision_id.clone(), ..second }, first, "{name}");
        }
        let text = metrics.encode();
        assert!(text.contains("router_decision_latency_ms_count 10"), "{text}");
        assert!(text.contains("router_decisions_total{reason=\"alias\"} 4"), "{text}");
        assert!(text.contains("router_decisions_total{reason=\"named\"} 4"), "{text}");
    }

    #[tokio::test]
    async fn names_are_told_to_whoever_may_read_models() {
        let mut client = client(Config::default(), &Metrics::new());
        let asked = weir_rpc::request(&caller(&[scope::MODELS_READ]), ListNamesRequest {});
        let names = client.list_names(asked).await.unwrap().into_inner().names;
        let known: Vec<_> = names.iter().map(|n| (n.name.as_str(), n.kind.as_str())).collect();
        assert!(
            known.contains(&("auto", "router")) && known.contains(&("smart-model", "alias")),
            "{known:?}"
        );
        let asked = weir_rpc::request(&caller(&[scope::CHAT_WRITE]), ListNamesRequest {});
        let error = Error::from(client.list_names(asked).await.unwrap_err());
        assert_eq!(error.code(), Code::PermissionDenied);
    }

    #[tokio::test]
    async fn what_cannot_be_a_name_is_refused() {
        let mut client = client(Config::default(), &Metrics::new());
        assert!(decide(&mut client, &"ä".repeat(256)).await.is_ok());
        for bad in [String::new(), "x".repeat(257)] {
            let error = decide(&mut client, &bad).await.unwrap_err();
            assert_eq!((error.code(), error.param()), (Code::InvalidArgument, Some("model")));
        }
    }

    #[tokio::test]
    async fn chat_write_is_required() {
        let mut client = client(Config::default(), &Metrics::new());
        let request =
            weir_rpc::request(&caller(&[scope::MODELS_READ]), DecideRequest { model: "auto".to_owned() });
        let error = Error::from(client.decide(request).await.unwrap_err());
        assert_eq!(error.code(), Code::PermissionDenied);
    }

    #[test]
    fn an_unsound_configuration_builds_nothing() {
        let config = Config { default_model: "auto".to_owned(), ..Config::default() };
        let error = build(config, deps(&Metrics::new())).err().unwrap();
        assert_eq!((error.code(), error.param()), (Code::InvalidArgument, Some("default_model")));
    }
}
