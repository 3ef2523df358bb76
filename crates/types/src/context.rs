//! Who asks, for whom, until when: the first argument of every app and store function.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{KeyId, RequestId, TenantId, UserId};

/// The scopes a key can carry.
pub mod scope {
    pub const CHAT_WRITE: &str = "chat:write";
    pub const MODELS_READ: &str = "models:read";
    pub const USAGE_READ: &str = "usage:read";
    pub const KEYS_MANAGE: &str = "keys:manage";
    /// Names that stand for models.
    pub const ROUTING_WRITE: &str = "routing:write";
    /// Tenants and everything in them; platform keys only.
    pub const PLATFORM_ADMIN: &str = "platform:admin";

    /// Scopes a tenant's key may be given.
    pub const TENANT: &[&str] = &[CHAT_WRITE, MODELS_READ, USAGE_READ, KEYS_MANAGE, ROUTING_WRITE];
    /// What a key gets when none are named.
    pub const DEFAULT: &[&str] = &[CHAT_WRITE, MODELS_READ, USAGE_READ];
}

/// Who is acting.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// An API key, possibly acting for a user.
    Key { id: KeyId, user: Option<UserId> },
    /// The platform's operator.
    Platform,
    /// Another service on its own behalf: a consumer, a timer, a gateway that looks up a key.
    Service(Arc<str>),
}

/// W3C trace context: the 16-byte trace id, this caller's 8-byte span id, and the flags.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceContext {
    pub trace_id: u128,
    pub span_id: u64,
    pub flags: u8,
}

impl TraceContext {
    /// A `traceparent` header of version 00, as <https://www.w3.org/TR/trace-context/> defines it.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if version.len() != 2
            || !hex(version)
            || version == "ff"
            || (version == "00" && parts.next().is_some())
        {
            return None;
        }
        if trace.len() != 32
            || span.len() != 16
            || flags.len() != 2
            || ![trace, span, flags].iter().all(|s| hex(s))
        {
            return None;
        }
        let context = Self {
            trace_id: u128::from_str_radix(trace, 16).ok()?,
            span_id: u64::from_str_radix(span, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (context.trace_id != 0 && context.span_id != 0).then_some(context)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// When the caller stops waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(pub Instant);

impl Deadline {
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now() + timeout)
    }

    /// Zero once passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Who asks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RequestContext {
    pub principal: Principal,
    /// The tenant acted for; `None` for platform and service principals outside any tenant.
    pub tenant: Option<TenantId>,
    pub scopes: Arc<[Arc<str>]>,
    pub request_id: RequestId,
    pub trace: Option<TraceContext>,
    pub deadline: Option<Deadline>,
}

impl RequestContext {
    /// A consumer, timer or gateway acting for itself.
    #[must_use]
    pub fn service(name: &str) -> Self {
        Self {
            principal: Principal::Service(name.into()),
            tenant: None,
            scopes: Arc::from([]),
            request_id: RequestId::new(),
            trace: None,
            deadline: None,
        }
    }

    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|s| &**s == scope)
    }

    /// The key, when an API key acts.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        match &self.principal {
            Principal::Key { id, .. } => Some(*id),
            Principal::Platform | Principal::Service(_) => None,
        }
    }

    /// The user, when a key acts for one.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        match &self.principal {
            Principal::Key { user, .. } => *user,
            Principal::Platform | Principal::Service(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_round_trips_and_rejects_what_the_standard_rejects() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceContext::parse(good).map(|t| t.to_string()).as_deref(), Some(good));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }
}
