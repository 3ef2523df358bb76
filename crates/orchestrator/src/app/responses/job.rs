//! What it takes to run a request again, anywhere: as it is kept in `chat.responses.job`.

use std::{sync::Arc, time::Duration};

use prost::Message;
use weir_proto::chat::CompleteRequest;
use weir_types::{Deadline, Principal, RequestContext, RequestId, TenantId};

/// Fields are added, never renumbered: the last version may have written it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Job {
    /// With the body that providers get.
    #[prost(message, optional, tag = "1")]
    pub(super) request: Option<CompleteRequest>,
    #[prost(string, tag = "2")]
    pub(super) key: String,
    #[prost(string, tag = "3")]
    pub(super) user: String,
    #[prost(string, repeated, tag = "4")]
    pub(super) scopes: Vec<String>,
    #[prost(string, tag = "5")]
    pub(super) request_id: String,
    #[prost(bool, tag = "6")]
    pub(super) shows_encrypted: bool,
}

impl Job {
    pub(super) fn new(ctx: &RequestContext, request: CompleteRequest) -> Self {
        Self {
            request: Some(request),
            key: ctx.key().map(|k| k.to_string()).unwrap_or_default(),
            user: ctx.user().map(|u| u.to_string()).unwrap_or_default(),
            scopes: ctx.scopes.iter().map(|s| s.to_string()).collect(),
            request_id: ctx.request_id.to_string(),
            shows_encrypted: false,
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok().filter(|job| job.request.is_some())
    }

    /// Its caller, who is charged for it.
    pub(super) fn context(&self, tenant: TenantId, timeout: Duration) -> RequestContext {
        let principal = match self.key.parse() {
            Ok(id) => Principal::Key { id, user: self.user.parse().ok() },
            Err(_) => Principal::Platform,
        };
        RequestContext {
            principal,
            tenant: Some(tenant),
            scopes: self.scopes.iter().map(|s| Arc::from(s.as_str())).collect(),
            request_id: RequestId::parse(&self.request_id).unwrap_or_default(),
            trace: None,
            deadline: Some(Deadline::after(timeout)),
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_types::{KeyId, UserId};

    use super::*;

    #[test]
    fn a_job_knows_its_caller() {
        let tenant = TenantId::new();
        for principal in [Principal::Platform, Principal::Key { id: KeyId::new(), user: Some(UserId::new()) }]
        {
            let ctx = RequestContext {
                principal,
                tenant: Some(tenant),
                scopes: Arc::from(["chat:write".into()]),
                ..RequestContext::service("x")
            };
            let job = Job::parse(&Job::new(&ctx, CompleteRequest::default()).encode_to_vec()).unwrap();
            let back = job.context(tenant, Duration::from_secs(9));
            assert_eq!((back.principal, back.request_id), (ctx.principal, ctx.request_id));
            assert_eq!((back.tenant, back.scopes), (ctx.tenant, ctx.scopes));
        }
        assert!(Job::parse(b"").is_none());
    }
}
