//! What can go wrong with the database, and what of it clients see.

use weir_error::{Code, Error};

use crate::Refusal;

#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// A setting cannot be used; the text names it.
    #[error("{0}")]
    Config(String),
    /// The database or the role is not fit for a service; the text says what to do.
    #[error("{0}")]
    Refused(Refusal),
    /// A tenant's transaction was asked for by a caller outside any tenant.
    #[error("the caller names no tenant")]
    TenantRequired,
    /// Only services switch between tenants.
    #[error("only a service may work on several tenants at once")]
    ServiceRequired,
    /// The caller's deadline has passed.
    #[error("the caller's deadline has passed")]
    DeadlineExceeded,
    /// No connection, or the server gave up on us: the same call may succeed in a moment.
    #[error("the database is unavailable")]
    Unavailable(#[source] Option<sqlx::Error>),
    /// A statement failed: ours to fix.
    #[error("a statement failed")]
    Query(#[source] sqlx::Error),
    #[error("a migration failed")]
    Migrate(#[source] sqlx::migrate::MigrateError),
}

impl DbError {
    /// The name of the constraint that a row would break, if that is what happened.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Query(sqlx::Error::Database(error)) => error.constraint(),
            _ => None,
        }
    }

    /// Whether the values were to blame: out of range, not storable, or against a constraint.
    #[must_use]
    pub fn is_about_data(&self) -> bool {
        match self {
            // Classes: data exception, integrity constraint, program limit (a key too long for its index, say).
            Self::Query(sqlx::Error::Database(error)) => error
                .code()
                .is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class))),
            Self::Query(sqlx::Error::Encode(_)) => true,
            _ => false,
        }
    }

    /// Whether these values made a statement fail that works for others, or may have: theirs to blame, or a
    /// function's or trigger's that refused them. Not so when the server is away, or the schema is not ours
    /// (class 42: nothing works then, whatever the values).
    #[must_use]
    pub fn is_about_values(&self) -> bool {
        let refused = match self {
            Self::Query(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| !code.starts_with("42") && !code.starts_with("0A"))
            }
            _ => false,
        };
        refused || self.is_about_data()
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        if is_transient(&error) { Self::Unavailable(Some(error)) } else { Self::Query(error) }
    }
}

/// Whether the trouble lies with the connection or the server rather than the statement.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            // Classes: connection, the state of the transaction (read-only after a failover, or a pooler gave us
            // somebody else's), a prepared statement that a pooler lost, wrong credentials, wrong database,
            // resources, something in use or locked, operator intervention (restart, statement timeout), I/O of the
            // server, its own damage. Single codes: serialization failure, deadlock.
            ["08", "25", "26", "28", "3D", "53", "55", "57", "58", "XX"]
                .iter()
                .any(|class| code.starts_with(class))
                || ["40001", "40P01"].contains(&&*code)
        }
        _ => false,
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        match error {
            DbError::TenantRequired => Self::new(
                Code::TenantRequired,
                "this credential belongs to no tenant: name one in X-Tenant-ID",
            )
            .with_param("X-Tenant-ID"),
            DbError::ServiceRequired => Self::new(Code::PermissionDenied, "not allowed").with_source(error),
            DbError::DeadlineExceeded => Self::new(Code::DeadlineExceeded, "timed out"),
            DbError::Unavailable(_) => Self::unavailable("the database is unavailable").with_source(error),
            DbError::Config(_) | DbError::Refused(_) | DbError::Query(_) | DbError::Migrate(_) => {
                Self::internal(error)
            }
        }
    }
}
