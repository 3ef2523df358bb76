//! Ids as newtypes over UUIDs. New ones are version 7, so they sort by time.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind}: expected a UUID")]
pub struct ParseIdError {
    kind: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $kind:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id, sortable by time.
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| ParseIdError { kind: $kind })
            }
        }
    )+};
}

ids! {
    /// An organisation.
    TenantId, "tenant id";
    /// A person or machine inside a tenant.
    UserId, "user id";
    /// An API key.
    KeyId, "key id";
    /// One call to a provider; also the id of the event that closes it.
    AttemptId, "attempt id";
}

/// One request at the edge, as clients see it: `req_` and 1 to 60 of `[A-Za-z0-9_-]`, or the client's own
/// `x-request-id` when it fits `[A-Za-z0-9_-]{1,64}`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(std::sync::Arc<str>);

impl RequestId {
    #[must_use]
    pub fn new() -> Self {
        let mut buffer = [0u8; uuid::fmt::Simple::LENGTH];
        let id = Uuid::now_v7();
        Self(["req_", id.simple().encode_lower(&mut buffer)].concat().into())
    }

    /// A client's own id, when it is of the allowed form. A key sent here by mistake is none: ids are logged.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
            && !["pk_live_", "pk_admin_", "sk-"].iter().any(|key| text.starts_with(key));
        fits.then(|| Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_of_clients_are_checked() {
        assert_eq!(RequestId::parse("req-12_A").map(|r| r.to_string()), Some("req-12_A".into()));
        for bad in ["", "a b", "a\nb", &"x".repeat(65), "ä", "pk_live_0123", "sk-0123"] {
            assert_eq!(RequestId::parse(bad), None, "{bad:?}");
        }
        assert!(RequestId::parse(RequestId::new().as_str()).is_some());
    }

    #[test]
    fn an_id_survives_text() {
        let id = TenantId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("x".parse::<TenantId>().unwrap_err().to_string(), "not a tenant id: expected a UUID");
    }
}
