//! [`Error`] as a gRPC status with `google.rpc` details, and back.

use std::{collections::HashMap, time::Duration};

use tonic::{Code as GrpcCode, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{Code, Error};

const DOMAIN: &str = "weir";
const PARAM: &str = "param";
/// Nobody reads more.
const MAX_VIOLATIONS: usize = 100;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut details = ErrorDetails::new();
        let metadata = error.param.iter().map(|p| (PARAM.to_owned(), p.clone())).collect::<HashMap<_, _>>();
        details.set_error_info(error.code.as_str(), DOMAIN, metadata);
        if let Some(after) = error.retry_after {
            details.set_retry_info(Some(after));
        }
        for (param, message) in error.violations {
            details.add_bad_request_violation(param, message);
        }
        let mut status = Self::with_error_details(error.code.grpc(), error.message, details);
        if let Some(source) = error.source {
            status.set_source(source.into());
        }
        status
    }
}

/// A status of a peer. One without our details (a proxy's, an older version's) is mapped by its gRPC code, and
/// its text is kept as a cause only: it may not be fit for clients.
impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|i| i.domain == DOMAIN);
        let Some((info, code)) = info.and_then(|i| Code::parse(&i.reason).map(|c| (i, c))) else {
            return unknown(status);
        };
        Error {
            code,
            message: status.message().to_owned(),
            param: info.metadata.get(PARAM).cloned(),
            retry_after: retry_after(&details),
            violations: violations(&details),
            source: None,
        }
    }
}

/// `google.rpc.BadRequest` and `RetryInfo` are meant for whoever asked; the status's own text may not be.
fn unknown(status: Status) -> Error {
    let details = status.get_error_details();
    let violations = violations(&details);
    let code = if violations.is_empty() { foreign(status.code()) } else { Code::InvalidArgument };
    let mut error = match violations.first() {
        Some((param, message)) => Error::invalid(param, message),
        None => Error::new(code, code.title()),
    };
    error.retry_after = retry_after(&details);
    error.violations = violations;
    error.with_source(status)
}

fn violations(details: &ErrorDetails) -> Vec<(String, String)> {
    let bad = details.bad_request().map(|b| b.field_violations.as_slice()).unwrap_or_default();
    bad.iter().take(MAX_VIOLATIONS).map(|v| (v.field.clone(), v.description.clone())).collect()
}

fn retry_after(details: &ErrorDetails) -> Option<Duration> {
    details.retry_info().and_then(|r| r.retry_delay).map(|d| d.min(Duration::from_secs(86_400)))
}

fn foreign(code: GrpcCode) -> Code {
    match code {
        GrpcCode::Cancelled => Code::Cancelled,
        GrpcCode::InvalidArgument | GrpcCode::FailedPrecondition => Code::InvalidArgument,
        GrpcCode::OutOfRange => Code::PayloadTooLarge,
        GrpcCode::DeadlineExceeded => Code::DeadlineExceeded,
        GrpcCode::NotFound => Code::NotFound,
        GrpcCode::AlreadyExists | GrpcCode::Aborted => Code::Conflict,
        GrpcCode::PermissionDenied => Code::PermissionDenied,
        GrpcCode::ResourceExhausted => Code::RateLimited,
        GrpcCode::Unimplemented => Code::NotImplemented,
        GrpcCode::Unavailable => Code::Unavailable,
        GrpcCode::Unauthenticated
        | GrpcCode::Ok
        | GrpcCode::Unknown
        | GrpcCode::Internal
        | GrpcCode::DataLoss => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for &code in Code::ALL {
            let sent = Error::new(code, "text").with_param("a.b").with_retry_after(Duration::from_secs(3));
            let back = Error::from(Status::from(sent));
            assert_eq!((back.code(), back.message(), back.param()), (code, "text", Some("a.b")));
            assert_eq!(back.retry_after(), Some(Duration::from_secs(3)));
        }
    }

    #[test]
    fn google_s_details_of_anybody_are_understood() {
        let mut details = ErrorDetails::new();
        details
            .add_bad_request_violation("a.b", "must be odd")
            .add_bad_request_violation("c", "must be even");
        details.set_retry_info(Some(Duration::from_secs(2)));
        let status = Status::with_error_details(GrpcCode::InvalidArgument, "internal words", details);
        let back = Error::from(status);
        assert_eq!(
            (back.code(), back.param(), back.message()),
            (Code::InvalidArgument, Some("a.b"), "must be odd")
        );
        assert_eq!((back.violations().len(), back.retry_after()), (2, Some(Duration::from_secs(2))));
        let problem = back.renamed(|name| (name == "c").then(|| "/c".to_owned())).problem("req_1");
        assert_eq!(problem["errors"][1], serde_json::json!({ "param": "/c", "detail": "must be even" }));
        let again = Error::from(Status::from(Error::invalid("x", "y").with_violation("x", "y")));
        assert_eq!(again.violations(), [("x".to_owned(), "y".to_owned())]);
    }

    #[test]
    fn a_foreign_status_keeps_its_text_from_clients() {
        let back = Error::from(Status::unavailable("tcp connect error: 10.0.0.7"));
        assert_eq!(back.code(), Code::Unavailable);
        assert!(!back.message().contains("10.0.0.7"));
    }
}
