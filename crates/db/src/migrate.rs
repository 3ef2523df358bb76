//! The embedded migrations, and the role that services log in as.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, migrate::Migrator,
};

use crate::{DbError, Refusal, config::parse_url, scram};

/// Every schema of ours. `weir` holds what all share: the migrations' record and the declarations of privileges.
pub const SCHEMAS: &[&str] =
    &["weir", "control", "routing", "chat", "flow", "knowledge", "analytics", "billing"];

pub(crate) const RECORD: &str = "weir.migrations";

/// Roles belong to the whole cluster: migrations of two databases may meet there.
const ROLE_ATTEMPTS: u32 = 20;
const ROLE_PAUSE: Duration = Duration::from_millis(50);

/// The role that services log in as.
#[derive(Debug, Clone)]
pub struct AppRole {
    pub name: String,
    /// `None`: the role is made and kept by somebody else, and only gets its grants here.
    pub password: Option<SecretString>,
}

impl AppRole {
    #[must_use]
    pub fn new(name: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self { name: name.into(), password: Some(password.into()) }
    }
}

pub(crate) fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../../migrations");
    migrator.create_schema("weir");
    migrator.dangerous_set_table_name(RECORD);
    migrator
}

/// Changes whenever a migration does.
#[must_use]
pub fn fingerprint() -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for migration in migrator().iter() {
        let _ = write!(text, "{}:", migration.version);
        for byte in migration.checksum.iter().take(8) {
            let _ = write!(text, "{byte:02x}");
        }
        text.push(' ');
    }
    text
}

/// Applies pending migrations, makes the services' role or sets its password, and gives it exactly the declared
/// privileges. Safe to run again, and by several at once.
///
/// # Errors
/// The migrator's role may not bypass row-level security, the app's role is the migrator, an applied migration was
/// changed, a statement failed, or the database is away.
pub async fn migrate(admin_url: &str, app: &AppRole) -> Result<(), DbError> {
    let options = parse_url(admin_url, "the migrator's database URL")?.application_name("weir-migrate");
    // Statements would be logged with the password's verifier in them.
    let mut conn = options.disable_statement_logging().connect().await?;
    check_migrator(&mut conn, app).await?;
    migrator().run_direct(None, &mut conn, false).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(error) => DbError::from(error),
        other => DbError::Migrate(other),
    })?;
    ensure_role(&mut conn, app).await?;
    grant(&mut conn, app).await?;
    tracing::info!(db.role = app.name, "the database is migrated");
    Ok(conn.close().await?)
}

async fn check_migrator(conn: &mut PgConnection, app: &AppRole) -> Result<(), DbError> {
    let (name, bypasses): (String, bool) = sqlx::query_as(
        "SELECT rolname::text, rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user",
    )
    .fetch_one(&mut *conn)
    .await?;
    if !bypasses {
        return Err(DbError::Refused(Refusal::MigratorMayNotBypass { role: name }));
    }
    if name == app.name {
        return Err(DbError::Refused(Refusal::SameRole { role: name }));
    }
    Ok(())
}

async fn ensure_role(conn: &mut PgConnection, app: &AppRole) -> Result<(), DbError> {
    let Some(password) = &app.password else { return Ok(()) };
    let verifier = scram::verifier(password.expose_secret())
        .ok_or_else(|| sqlx::Error::Io(std::io::Error::other("no random numbers for a password's salt")))?;
    let mut attempts = ROLE_ATTEMPTS;
    loop {
        let statement: String = sqlx::query_scalar(
            "SELECT format(CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1) \
             THEN 'ALTER ROLE %I LOGIN PASSWORD %L' \
             ELSE 'CREATE ROLE %I LOGIN PASSWORD %L NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOINHERIT' END, \
             $1::text, $2::text)",
        )
        .bind(&app.name)
        .bind(&verifier)
        .fetch_one(&mut *conn)
        .await?;
        match conn.execute(AssertSqlSafe(statement)).await {
            Ok(_) => return Ok(()),
            Err(error) if attempts > 0 && is_role_race(&error) => attempts -= 1,
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(ROLE_PAUSE).await;
    }
}

/// Two sessions made or changed the role at once: `duplicate_object`, `unique_violation`, or XX000 ("tuple
/// concurrently updated").
fn is_role_race(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code().map(|c| c.into_owned()));
    code.is_some_and(|code| ["42710", "23505", "XX000"].contains(&&*code))
}

async fn grant(conn: &mut PgConnection, app: &AppRole) -> Result<(), DbError> {
    let mut tx = conn.begin().await?;
    // One at a time: concurrent changes of the same privileges fail.
    tx.execute("LOCK TABLE weir.grants IN EXCLUSIVE MODE").await?;
    sqlx::query("CALL weir.grant_to($1::text::name)").bind(&app.name).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert!(!format!("{:?}", AppRole::new("weir_app", "hunter2")).contains("hunter2"));
    }

    #[test]
    fn the_migrations_are_embedded_in_order() {
        let versions: Vec<i64> = migrator().iter().map(|m| m.version).collect();
        assert_eq!(versions.first(), Some(&1));
        assert!(versions.is_sorted(), "{versions:?}");
        assert!(fingerprint().starts_with("1:"));
    }
}
