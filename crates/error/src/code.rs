//! The registry of error codes.

use http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $http:ident, $grpc:ident, $title:literal;)+) => {
        /// What went wrong, as machines read it. Stable: codes are added, never renamed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)+ }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name,)+];

            /// The code on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)+ }
            }

            /// A few words for people; the same for every occurrence.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)+ }
            }

            #[must_use]
            pub fn http(self) -> StatusCode {
                match self { $(Code::$name => StatusCode::$http,)+ }
            }

            #[must_use]
            pub fn grpc(self) -> tonic::Code {
                match self { $(Code::$name => tonic::Code::$grpc,)+ }
            }

            /// The code with this text.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Code::$name),)+ _ => None }
            }
        }
    };
}

codes! {
    /// A field's value is out of range or unknown; `param` names it.
    InvalidArgument = "invalid_argument", BAD_REQUEST, InvalidArgument, "Invalid request";
    MissingParameter = "missing_required_parameter", BAD_REQUEST, InvalidArgument, "A required field is missing";
    InvalidType = "invalid_type", BAD_REQUEST, InvalidArgument, "A field is of the wrong type";
    /// The body is not JSON.
    InvalidJson = "invalid_json", BAD_REQUEST, InvalidArgument, "The body is not valid JSON";
    InvalidApiKey = "invalid_api_key", UNAUTHORIZED, Unauthenticated, "Invalid API key";
    PermissionDenied = "permission_denied", FORBIDDEN, PermissionDenied, "Not allowed";
    TenantRequired = "tenant_required", BAD_REQUEST, FailedPrecondition, "A tenant is required";
    TenantMismatch = "tenant_mismatch", FORBIDDEN, PermissionDenied, "The credential may not act for that tenant";
    NotFound = "not_found", NOT_FOUND, NotFound, "Not found";
    /// As OpenAI names it, with its status.
    PreviousResponseNotFound = "previous_response_not_found", BAD_REQUEST, NotFound, "No such earlier response";
    /// As OpenAI names it: only a shorter conversation helps.
    ContextLengthExceeded = "context_length_exceeded", BAD_REQUEST, OutOfRange, "The conversation is too long for the model";
    ModelNotFound = "model_not_found", NOT_FOUND, NotFound, "No such model";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, Unimplemented, "Method not allowed";
    Conflict = "conflict", CONFLICT, AlreadyExists, "Conflict";
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, OutOfRange, "The body is too large";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, InvalidArgument, "Unsupported content type";
    /// A rate limit: waiting helps.
    RateLimited = "rate_limit_exceeded", TOO_MANY_REQUESTS, ResourceExhausted, "Rate limit exceeded";
    /// As OpenAI names it: waiting doesn't help.
    InsufficientQuota = "insufficient_quota", TOO_MANY_REQUESTS, ResourceExhausted, "The model provider's account is empty";
    /// Too much at once on this instance: waiting helps.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, Unavailable, "Overloaded";
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, DeadlineExceeded, "The request did not arrive in time";
    DeadlineExceeded = "deadline_exceeded", GATEWAY_TIMEOUT, DeadlineExceeded, "Timed out";
    /// The provider could not be reached or broke off.
    UpstreamFailed = "upstream_failed", BAD_GATEWAY, Unavailable, "The model provider failed";
    UpstreamTimeout = "upstream_timeout", GATEWAY_TIMEOUT, DeadlineExceeded, "The model provider did not answer in time";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, Unavailable, "Temporarily unavailable";
    NotImplemented = "not_implemented", NOT_IMPLEMENTED, Unimplemented, "Not implemented";
    /// The caller went away.
    Cancelled = "cancelled", REQUEST_TIMEOUT, Cancelled, "Cancelled";
    Internal = "internal_error", INTERNAL_SERVER_ERROR, Internal, "Internal error";
}
