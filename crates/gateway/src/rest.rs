//! What `/proto` describes, served generically: who may ask, the body, the call. Errors are `application/problem+json`.

use axum::body::Body;
use http::{HeaderValue, header};
use weir_access::{Grant, Permit, Visit};
use weir_error::{Code, Error, require_scope};
use weir_proto::api::Caller;
use weir_rest::{Answer as Answered, Operation, Route};
use weir_rpc::Transport;
use weir_types::{RequestContext, scope};

use crate::{House, asked::Asked, edge::Answer, endpoint, reply};

/// The largest body; chat has a bound of its own.
const MAX_BODY: usize = 1024 * 1024;

pub(crate) async fn serve(house: &House, asked: &Asked, route: &'static Route, body: Body) -> Answer {
    let api = weir_rest::api().map_err(Error::internal)?;
    let binding =
        route.binding(&asked.method).ok_or_else(|| Error::internal("a method without a binding"))?;
    let operation = api.operation(binding);
    let grant = match operation.caller() {
        Caller::Unspecified => house.tenant_grant(asked).await?,
        Caller::Any | Caller::Platform => house.grant(asked).await?,
    };
    let _visit = house.admit_rest(asked, &grant)?;
    let ctx = asked.context(&grant, house.config.call_timeout);
    may(&ctx, operation)?;
    let limit = MAX_BODY.min(house.config.max_body.as_usize());
    let (body, _upload) = if binding.reads_body() {
        if binding.takes_body() {
            asked.check_json_head(limit)?;
        }
        let (body, upload) = house.read_body_within(&grant, body, limit).await?;
        (body, Some(upload))
    } else {
        Default::default()
    };
    // Taken only now: a body that comes slowly keeps nobody else waiting.
    let _slot = house.access.enter()?;
    let path = endpoint::canonical(asked.uri.path());
    let message = api.request(binding, path, asked.uri.query().unwrap_or_default(), &body)?;
    let transport = house.transport(operation.service()).ok_or_else(|| {
        Error::new(Code::NotImplemented, format!("there is no service {}", operation.service()))
    })?;
    let answer = api.call(binding, transport.clone(), &ctx, message).await?;
    house.heard(operation, &answer);
    let mut response = reply::bytes(answer.status, reply::JSON, answer.body);
    if let Some(location) = answer.location.and_then(|l| HeaderValue::from_str(&l).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// What the contract asks of the caller, before anything of theirs is read. The service decides again.
fn may(ctx: &RequestContext, operation: &Operation) -> Result<(), Error> {
    if ctx.has_scope(scope::PLATFORM_ADMIN) {
        return Ok(());
    }
    if operation.caller() == Caller::Platform {
        return Err(Error::new(Code::PermissionDenied, "only the platform's operator may do that"));
    }
    operation.scopes().iter().try_for_each(|scope| require_scope(ctx, scope))
}

impl House {
    /// A tenant's place and request for a call that is no model call, and the headers that tell of it.
    ///
    /// # Errors
    /// `RateLimited`.
    pub(crate) fn admit_rest(&self, asked: &Asked, grant: &Grant) -> Result<Option<Visit>, Error> {
        let admitted = self.access.admit_rest(grant);
        if !grant.is_platform() {
            let _ = asked.rate.set(self.access.rate(grant));
        }
        admitted
    }

    /// The place of a call that is paid by tokens; a refusal's headers tell where the tenant stands.
    ///
    /// # Errors
    /// `RateLimited`.
    pub(crate) fn admit(&self, asked: &Asked, grant: &Grant, tokens: u64) -> Result<Permit, Error> {
        let admitted = self.access.admit(grant, tokens);
        if admitted.is_err() {
            let _ = asked.rate.set(self.access.rate(grant));
        }
        admitted
    }

    /// The way to a service by its name in the contract's packages.
    pub(crate) fn transport(&self, service: &str) -> Option<&Transport> {
        Some(match service {
            "analytics" => &self.analytics,
            "billing" => &self.billing,
            "chat" | "flow" => &self.orchestrator,
            "control" => &self.control,
            "ingestion" => &self.ingestion,
            "router" => &self.router,
            _ => return None,
        })
    }

    /// A key that was revoked through here is refused here at once; other instances hear of it by push.
    fn heard(&self, operation: &Operation, answer: &Answered) {
        if operation.name() == "weir.control.v1.ApiKeys.RevokeApiKey"
            && let Some(id) = answer.text("id").and_then(|id| id.parse().ok())
        {
            self.access.revoked(id);
        }
    }
}
