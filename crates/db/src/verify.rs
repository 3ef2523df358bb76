//! What a service checks before it serves: that its role cannot see round row-level security, and that the schema
//! is the one it was built for.

use std::{collections::BTreeMap, fmt};

use sqlx::PgConnection;

use crate::{
    DbError,
    migrate::{RECORD, SCHEMAS, migrator},
};

/// Why a service does not start, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The role, or one it may become, is a superuser, has `BYPASSRLS`, or may grant itself roles.
    Privileged {
        role: String,
        through: String,
        privilege: &'static str,
    },
    /// The role, or one it may become, owns something of ours, so it could switch row-level security off.
    Owner {
        role: String,
        through: String,
        object: String,
    },
    NeverMigrated,
    /// The migrations' record cannot be read.
    NoGrants {
        role: String,
    },
    Pending {
        versions: Vec<i64>,
    },
    Changed {
        versions: Vec<i64>,
    },
    MigratorMayNotBypass {
        role: String,
    },
    SameRole {
        role: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const OWN: &str =
            "services log in as a role of their own that `weir migrate` makes; put that role in database.url";
        match self {
            Self::Privileged { role, through, privilege } => {
                write!(
                    f,
                    "the role {role} {}has {privilege}, so tenants would not be kept apart: {OWN}",
                    via(role, through)
                )
            }
            Self::Owner { role, through, object } => {
                write!(
                    f,
                    "the role {role} {}owns {object}, so it could lift row-level security: {OWN}",
                    via(role, through)
                )
            }
            Self::NeverMigrated => f.write_str("the database has no schema yet: run `weir migrate`"),
            Self::NoGrants { role } => {
                write!(
                    f,
                    "the role {role} may not read {RECORD}: run `weir migrate` with this role's name, which grants what services need"
                )
            }
            Self::Pending { versions } => {
                write!(f, "migrations {versions:?} are pending: run `weir migrate` of this version")
            }
            Self::Changed { versions } => write!(
                f,
                "migrations {versions:?} were applied in another form than this version has: run the version that applied them, or restore a backup"
            ),
            Self::MigratorMayNotBypass { role } => write!(
                f,
                "the migrator's role {role} may not bypass row-level security, so lookups and backfills would see no rows: ALTER ROLE {role} BYPASSRLS, or migrate as a superuser"
            ),
            Self::SameRole { role } => {
                write!(
                    f,
                    "the services' role {role} is the migrator itself: give services a role of their own"
                )
            }
        }
    }
}

fn via(role: &str, through: &str) -> String {
    if role == through { String::new() } else { format!("(through the role {through}) ") }
}

pub(crate) async fn verify(conn: &mut PgConnection) -> Result<(), DbError> {
    let role: String = sqlx::query_scalar("SELECT current_user::text").fetch_one(&mut *conn).await?;
    let refusal = match privileged(conn, &role).await? {
        Some(refusal) => Some(refusal),
        None => match owner(conn, &role).await? {
            Some(refusal) => Some(refusal),
            None => migrations(conn, &role).await?,
        },
    };
    refusal.map_or(Ok(()), |refusal| Err(DbError::Refused(refusal)))
}

/// `MEMBER`: a role that may become another has the other's powers for the asking. The session's role counts too.
const OURS: &str = "(pg_has_role(current_user, oid, 'MEMBER') OR pg_has_role(session_user, oid, 'MEMBER'))";

async fn privileged(conn: &mut PgConnection, role: &str) -> Result<Option<Refusal>, DbError> {
    let sql = format!(
        "SELECT rolname::text, rolsuper, rolbypassrls FROM pg_catalog.pg_roles \
         WHERE (rolsuper OR rolbypassrls OR rolcreaterole) AND {OURS} \
         ORDER BY rolname = current_user DESC, rolname LIMIT 1"
    );
    let found: Option<(String, bool, bool)> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_optional(&mut *conn).await?;
    Ok(found.map(|(through, superuser, bypass)| Refusal::Privileged {
        role: role.to_owned(),
        through,
        privilege: match (superuser, bypass) {
            (true, _) => "SUPERUSER",
            (_, true) => "BYPASSRLS",
            _ => "CREATEROLE",
        },
    }))
}

async fn owner(conn: &mut PgConnection, role: &str) -> Result<Option<Refusal>, DbError> {
    let sql = format!(
        "SELECT rolname::text, object FROM ( \
           SELECT n.nspowner AS owner, 'schema ' || n.nspname AS object, n.nspname FROM pg_catalog.pg_namespace n \
           UNION ALL \
           SELECT c.relowner, n.nspname || '.' || c.relname, n.nspname \
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           UNION ALL \
           SELECT p.proowner, n.nspname || '.' || p.proname || '()', n.nspname \
           FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
         ) owned JOIN pg_catalog.pg_roles r ON r.oid = owned.owner \
         WHERE nspname = ANY ($1) AND {OURS} ORDER BY object LIMIT 1"
    );
    let found: Option<(String, String)> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(SCHEMAS).fetch_optional(&mut *conn).await?;
    Ok(found.map(|(through, object)| Refusal::Owner { role: role.to_owned(), through, object }))
}

async fn migrations(conn: &mut PgConnection, role: &str) -> Result<Option<Refusal>, DbError> {
    let (exists, readable): (bool, bool) = sqlx::query_as(
        "SELECT c.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'USAGE') AND \
         has_table_privilege(c.oid, 'SELECT'), false) \
         FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'weir' \
         LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'migrations'",
    )
    .fetch_one(&mut *conn)
    .await?;
    if !exists {
        return Ok(Some(Refusal::NeverMigrated));
    }
    if !readable {
        return Ok(Some(Refusal::NoGrants { role: role.to_owned() }));
    }
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM weir.migrations WHERE success")
            .fetch_all(&mut *conn)
            .await?;
    Ok(compare(rows.into_iter().collect()))
}

fn compare(mut applied: BTreeMap<i64, Vec<u8>>) -> Option<Refusal> {
    let (mut pending, mut changed) = (Vec::new(), Vec::new());
    for migration in migrator().iter() {
        match applied.remove(&migration.version) {
            None => pending.push(migration.version),
            Some(checksum) if checksum != *migration.checksum => changed.push(migration.version),
            Some(_) => {}
        }
    }
    if !applied.is_empty() {
        // A newer version is being rolled out, or was rolled back: its migrations leave room for this one.
        let versions: Vec<i64> = applied.into_keys().collect();
        tracing::warn!(db.migrations = ?versions, "the database has migrations that this version does not know");
    }
    if !changed.is_empty() {
        Some(Refusal::Changed { versions: changed })
    } else if !pending.is_empty() {
        Some(Refusal::Pending { versions: pending })
    } else {
        None
    }
}
