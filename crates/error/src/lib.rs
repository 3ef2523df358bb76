//! One closed set of error codes, on the wire of gRPC (`google.rpc.Status` details) and HTTP alike.
//!
//! An [`Error`]'s message is public: it may reach a client. Internal causes go into its source, which is
//! logged once where the error is handled and never crosses the wire.

mod code;
mod registry;
mod status;

use std::{error::Error as StdError, fmt, time::Duration};

pub use code::Code;
pub use registry::{Explanation, Retry};
use weir_types::{RequestContext, TenantId};

type Source = Box<dyn StdError + Send + Sync>;

/// An error that may cross a service border.
#[derive(Debug)]
pub struct Error {
    code: Code,
    message: String,
    param: Option<String>,
    retry_after: Option<Duration>,
    violations: Vec<(String, String)>,
    source: Option<Source>,
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            param: None,
            retry_after: None,
            violations: Vec::new(),
            source: None,
        }
    }

    /// `InvalidArgument` for the named field.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message).with_param(param)
    }

    /// `Internal`, with the cause for the log and nothing for the client.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self::new(Code::Internal, "internal error").with_source(source)
    }

    /// `Unavailable`: try again in a moment.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message).with_retry_after(Duration::from_secs(1))
    }

    /// The request's field that is to blame, as the client named it.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// One of several fields that are to blame, with what is wrong with it.
    #[must_use]
    pub fn with_violation(mut self, param: impl Into<String>, message: impl Into<String>) -> Self {
        self.violations.push((param.into(), message.into()));
        self
    }

    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The public text.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// Fields that are to blame, where there may be more than one.
    #[must_use]
    pub fn violations(&self) -> &[(String, String)] {
        &self.violations
    }

    /// The same with every named field called otherwise: as whoever is answered knows it.
    #[must_use]
    pub fn renamed(mut self, name: impl Fn(&str) -> Option<String>) -> Self {
        let named = self.param.iter_mut().chain(self.violations.iter_mut().map(|(param, _)| param));
        for param in named {
            if let Some(renamed) = name(param) {
                *param = renamed;
            }
        }
        self
    }

    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The whole chain of causes, for the log.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = format!("{}: {}", self.code.as_str(), self.message);
        let mut next = self.source();
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }

    /// An RFC 9457 `application/problem+json` body.
    #[must_use]
    pub fn problem(&self, request_id: &str) -> serde_json::Value {
        let mut body = serde_json::json!({
            "type": format!("/errors/{}", self.code.as_str()),
            "title": self.code.title(),
            "status": self.code.http().as_u16(),
            "detail": self.message,
            "code": self.code.as_str(),
            "request_id": request_id,
        });
        if let Some(param) = &self.param {
            body["param"] = param.as_str().into();
        }
        if !self.violations.is_empty() {
            let all = self.violations.iter();
            let all = all.map(|(param, detail)| serde_json::json!({ "param": param, "detail": detail }));
            body["errors"] = all.collect();
        }
        body
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}

/// The tenant a call acts for.
///
/// # Errors
/// `TenantRequired` when the caller named none.
pub fn require_tenant(ctx: &RequestContext) -> Result<TenantId, Error> {
    ctx.tenant.ok_or_else(|| {
        Error::new(Code::TenantRequired, "this credential belongs to no tenant: name one in X-Tenant-ID")
            .with_param("X-Tenant-ID")
    })
}

/// # Errors
/// `PermissionDenied` naming the scope that is missing.
pub fn require_scope(ctx: &RequestContext, scope: &str) -> Result<(), Error> {
    if ctx.has_scope(scope) {
        return Ok(());
    }
    Err(Error::new(Code::PermissionDenied, format!("this credential lacks the scope {scope}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_logged_but_not_shown() {
        let error = Error::internal(std::io::Error::other("secret path /x"));
        assert!(error.chain().contains("secret path"));
        assert!(!error.problem("req_1").to_string().contains("secret"));
        assert_eq!(error.problem("req_1")["status"], 500);
    }
}
