//! What each code means and what to do about it: the pages under `/errors`.

use crate::Code;

/// Whether the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Change the request first.
    No,
    /// Yes, after `Retry-After` where the answer has it, else with growing pauses.
    Later,
    /// Yes, but it may have had an effect already.
    Unsure,
}

/// A code in words.
#[derive(Debug, Clone, Copy)]
pub struct Explanation {
    pub meaning: &'static str,
    pub remedy: &'static str,
    pub retry: Retry,
}

impl Code {
    #[must_use]
    pub fn explanation(self) -> Explanation {
        let (meaning, remedy, retry) = match self {
            Self::InvalidArgument
            | Self::MissingParameter
            | Self::InvalidType
            | Self::InvalidJson
            | Self::UnsupportedMediaType
            | Self::PayloadTooLarge => return of_request(self),
            Self::InvalidApiKey | Self::PermissionDenied | Self::TenantRequired | Self::TenantMismatch => {
                return of_caller(self);
            }
            Self::NotFound => (
                "There is no such object, or none that this credential may see; or nothing is at this path.",
                "Check the id, and that the credential belongs to the object's tenant.",
                Retry::No,
            ),
            Self::PreviousResponseNotFound => (
                "The response that this one is to go on from is not kept, or is none that this credential may see.",
                "Send the conversation in input, or name a response that was stored.",
                Retry::No,
            ),
            Self::ModelNotFound => (
                "No configured provider serves a model of this name, and it is no alias.",
                "List the models: GET /v1/models.",
                Retry::No,
            ),
            Self::ContextLengthExceeded => (
                "The conversation, or it and the answer, are longer than the model's context.",
                "Send less of it, or name a model with a longer context.",
                Retry::No,
            ),
            Self::InsufficientQuota => (
                "The account at the model provider has no credit left.",
                "Name another model, or tell the operator; waiting doesn't help.",
                Retry::No,
            ),
            Self::MethodNotAllowed => (
                "The path is known, but not with this method.",
                "The Allow header names the methods it takes.",
                Retry::No,
            ),
            Self::Conflict => (
                "The object is not in the state that the request expects, or there is one of this name.",
                "Read the object again and decide anew.",
                Retry::No,
            ),
            Self::NotImplemented => (
                "The endpoint is known, but this version does not have it.",
                "See the status table of the README.",
                Retry::No,
            ),
            _ => return of_moment(self),
        };
        Explanation { meaning, remedy, retry }
    }
}

fn of_request(code: Code) -> Explanation {
    let (meaning, remedy) = match code {
        Code::MissingParameter => {
            ("A field that must be given is absent or null.", "Give it: param names it.")
        }
        Code::InvalidType => (
            "A field is of another JSON type than it should be.",
            "param points at it and the detail says what it takes.",
        ),
        Code::InvalidJson => {
            ("The body is not valid JSON, or is nested too deep.", "The detail has the line and column.")
        }
        Code::UnsupportedMediaType => (
            "The body is sent as something that the endpoint does not read.",
            "Send JSON, with Content-Type: application/json.",
        ),
        Code::PayloadTooLarge => ("The body is larger than the endpoint takes.", "Send less at once."),
        _ => (
            "A value is out of its bounds, unknown, or given twice.",
            "param names it: a JSON pointer into the body, or a parameter's name. The detail names the bound.",
        ),
    };
    Explanation { meaning, remedy, retry: Retry::No }
}

fn of_caller(code: Code) -> Explanation {
    let (meaning, remedy) = match code {
        Code::InvalidApiKey => (
            "No API key was given, or it is unknown, mistyped, expired or revoked, or its tenant is suspended.",
            "Send a valid one as Authorization: Bearer, or as x-api-key.",
        ),
        Code::TenantRequired => (
            "A platform key belongs to no tenant, and this endpoint works inside one.",
            "Name the tenant: X-Tenant-ID.",
        ),
        Code::TenantMismatch => (
            "X-Tenant-ID names another tenant than the credential's own.",
            "Leave the header out, or use a credential of that tenant.",
        ),
        _ => (
            "The credential is valid, but may not do this.",
            "The detail names the scope that is missing; a key can be created with it.",
        ),
    };
    Explanation { meaning, remedy, retry: Retry::No }
}

fn of_moment(code: Code) -> Explanation {
    let (meaning, remedy, retry) = match code {
        Code::RateLimited => (
            "A limit of the tenant, the key or the address is used up for now.",
            "Wait as long as Retry-After says; x-ratelimit-* show the limits. x-should-retry: false means that waiting \
             does not help.",
            Retry::Later,
        ),
        Code::Overloaded => (
            "This instance has as much to do as it takes at once.",
            "Wait as long as Retry-After says.",
            Retry::Later,
        ),
        Code::RequestTimeout => (
            "The request's body did not arrive in time.",
            "Send it again over a better connection.",
            Retry::Later,
        ),
        Code::DeadlineExceeded => (
            "The request took longer than it may.",
            "Ask for less at once. What changes something may have happened: look before you repeat it.",
            Retry::Unsure,
        ),
        Code::UpstreamFailed => (
            "The model provider could not be reached, broke off or answered what it should not.",
            "Try again, or name another model. Tokens that were generated are counted.",
            Retry::Later,
        ),
        Code::UpstreamTimeout => (
            "The model provider did not answer in time.",
            "Try again, ask for less output, or name another model.",
            Retry::Later,
        ),
        Code::Unavailable => (
            "Something that this request needs is down for the moment.",
            "Wait as long as Retry-After says.",
            Retry::Later,
        ),
        Code::Cancelled => {
            ("The caller went away before the answer.", "Nothing, if that was meant.", Retry::Unsure)
        }
        _ => (
            "Something is wrong here that the request is not to blame for.",
            "Try again; if it stays, tell the operator the request_id.",
            Retry::Unsure,
        ),
    };
    Explanation { meaning, remedy, retry }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_for_itself() {
        let fallback = Code::Internal.explanation().meaning;
        let mut meanings = std::collections::HashSet::new();
        for code in Code::ALL {
            let explained = code.explanation();
            assert!(
                meanings.insert(explained.meaning),
                "{code:?} is explained like another: give it words here"
            );
            assert!(*code == Code::Internal || explained.meaning != fallback, "{code:?}");
            assert!(!explained.remedy.is_empty());
        }
    }
}
