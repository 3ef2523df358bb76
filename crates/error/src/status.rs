//! [`Error`] as a gRPC status with `google.rpc` details, and back.

use std::{collections::HashMap, time::Duration};

use tonic::{Code as GrpcCode, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{Code, Error};

const DOMAIN: &str = "weir";
const PARAM: &str = "param";

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut details = ErrorDetails::new();
        let metadata = error.param.iter().map(|p| (PARAM.to_owned(), p.clone())).collect::<HashMap<_, _>>();
        details.set_error_info(error.code.as_str(), DOMAIN, metadata);
        if let Some(after) = error.retry_after {
            details.set_retry_info(Some(after));
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
            let code = foreign(status.code());
            return Error::new(code, code.title()).with_source(status);
        };
        Error {
            code,
            message: status.message().to_owned(),
            param: info.metadata.get(PARAM).cloned(),
            retry_after: details
                .retry_info()
                .and_then(|r| r.retry_delay)
                .map(|d| d.min(Duration::from_secs(86_400))),
            source: None,
        }
    }
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
    fn a_foreign_status_keeps_its_text_from_clients() {
        let back = Error::from(Status::unavailable("tcp connect error: 10.0.0.7"));
        assert_eq!(back.code(), Code::Unavailable);
        assert!(!back.message().contains("10.0.0.7"));
    }
}
