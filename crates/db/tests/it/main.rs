//! `weir-db` on a real PostgreSQL.
#![cfg(test)]

mod catalogue;
mod faults;
mod isolation;
mod pooler;
mod refusals;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use weir_db::{AppRole, Db, DbConfig, migrate};
use weir_testkit::{APP_PASSWORD, APP_ROLE, Database, Postgres};
use weir_types::{RequestContext, TenantId};

fn role() -> AppRole {
    AppRole::new(APP_ROLE, APP_PASSWORD)
}

async fn migrated(postgres: &Postgres) -> Database {
    let apply = |url: String| async move { migrate(&url, &role()).await };
    postgres.database(&weir_db::fingerprint(), apply).await.unwrap()
}

/// A migrated database of this test's own.
async fn database() -> Database {
    migrated(Postgres::shared().await.unwrap()).await
}

async fn admin(database: &Database) -> PgConnection {
    PgConnection::connect(&database.admin_url).await.unwrap()
}

async fn run(conn: &mut PgConnection, sql: impl Into<String>) {
    conn.execute(AssertSqlSafe(sql.into())).await.unwrap();
}

fn pool(url: &str, max_connections: u32) -> Db {
    Db::connect_lazy(&DbConfig { max_connections, acquire_timeout_ms: 30_000, ..DbConfig::new(url) }).unwrap()
}

fn ctx(tenant: TenantId) -> RequestContext {
    RequestContext { tenant: Some(tenant), ..service() }
}

fn service() -> RequestContext {
    RequestContext::service("test")
}

/// A table of tenants' rows, as a migration would make one.
async fn notes(database: &Database) {
    let mut admin = admin(database).await;
    run(
        &mut admin,
        "CREATE TABLE chat.notes (tenant_id uuid NOT NULL, id uuid NOT NULL, writer uuid NOT NULL, \
         PRIMARY KEY (tenant_id, id)); CALL weir.protect('chat.notes')",
    )
    .await;
    run(&mut admin, format!("CALL weir.grant_to('{APP_ROLE}')")).await;
    admin.close().await.unwrap();
}
