//! When PostgreSQL is away, slow, or back again.

use std::time::Duration;

use weir_db::{Db, DbConfig, DbError};
use weir_error::{Code, Error};
use weir_testkit::{Postgres, until};
use weir_types::{Deadline, TenantId};

use crate::{ctx, database, migrated, pool, service};

#[tokio::test]
async fn a_restart_is_survived_and_an_outage_is_unavailable() {
    let postgres = Postgres::private().await.unwrap();
    let database = migrated(&postgres).await;
    let db = pool(&database.app_url, 4);
    // Several pooled connections, all of which the restart kills.
    let caller = service();
    let open = futures_util::future::join_all((0..4).map(|_| db.lookup(&caller))).await;
    drop(open);
    for tx in futures_util::future::join_all((0..4).map(|_| db.lookup(&caller))).await {
        tx.unwrap();
    }
    postgres.kill().await.unwrap();
    postgres.start().await.unwrap();
    db.lookup(&service()).await.unwrap().commit().await.unwrap();
    db.ping().await.unwrap();

    postgres.stop().await.unwrap();
    let error = db.tenant(&ctx(TenantId::new())).await.unwrap_err();
    assert!(matches!(error, DbError::Unavailable(_)), "{error:?}");
    assert!(db.ping().await.is_err());
    let shown = Error::from(error);
    assert_eq!((shown.code(), shown.retry_after()), (Code::Unavailable, Some(Duration::from_secs(1))));
    assert!(!shown.message().contains("127.0.0.1"), "{}", shown.message());

    postgres.start().await.unwrap();
    db.tenant(&ctx(TenantId::new())).await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn a_transaction_the_server_ended_is_unavailable() {
    let database = database().await;
    let db = pool(&database.app_url, 1);
    let mut tx = db.lookup(&service()).await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(tx.conn()).await.unwrap();
    let mut admin = crate::admin(&database).await;
    crate::run(&mut admin, format!("SELECT pg_terminate_backend({pid}, 30000)")).await;
    let error = DbError::from(sqlx::query("SELECT 1").execute(tx.conn()).await.unwrap_err());
    assert!(matches!(error, DbError::Unavailable(_)), "{error:?}");
    drop(tx);
    db.lookup(&service()).await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn no_statement_outlives_its_caller_or_the_limit() {
    let database = database().await;
    let patient = DbConfig {
        statement_timeout_ms: 120_000,
        acquire_timeout_ms: 30_000,
        ..DbConfig::new(database.app_url.as_str())
    };
    let db = Db::connect_lazy(&DbConfig { statement_timeout_ms: 100, ..patient.clone() }).unwrap();
    let sleep = "SELECT pg_sleep(60)";
    let mut tx = db.lookup(&service()).await.unwrap();
    let error = DbError::from(sqlx::query(sleep).execute(tx.conn()).await.unwrap_err());
    assert!(matches!(error, DbError::Unavailable(_)), "{error:?}");

    let db = Db::connect_lazy(&patient).unwrap();
    let mut hurried = service();
    hurried.deadline = Some(Deadline::after(Duration::from_secs(60)));
    let mut tx = db.lookup(&hurried).await.unwrap();
    let limit = "SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout'";
    let limit: i64 = sqlx::query_scalar(limit).fetch_one(tx.conn()).await.unwrap();
    assert!((1..=60_000).contains(&limit), "{limit}");
}

#[tokio::test]
async fn an_exhausted_pool_is_unavailable_and_a_short_deadline_is_its_own_fault() {
    let database = database().await;
    let mut config = DbConfig::new(database.app_url.as_str());
    (config.max_connections, config.acquire_timeout_ms) = (1, 50);
    let db = Db::connect_lazy(&config).unwrap();
    // Also on a machine that is too busy to connect so soon.
    let held = until("the one connection", async || db.lookup(&service()).await.ok()).await;
    assert!(matches!(db.lookup(&service()).await, Err(DbError::Unavailable(_))));
    let mut hurried = service();
    hurried.deadline = Some(Deadline::after(Duration::from_millis(10)));
    assert!(matches!(db.lookup(&hurried).await, Err(DbError::DeadlineExceeded)));
    drop(held);
    assert_eq!(db.usage().max, 1);
}

#[tokio::test]
async fn a_constraint_is_named_and_its_text_is_not_shown() {
    let database = database().await;
    crate::notes(&database).await;
    let tenant = TenantId::new();
    let db = pool(&database.app_url, 1);
    let mut tx = db.tenant(&ctx(tenant)).await.unwrap();
    let insert = "INSERT INTO chat.notes VALUES ($1, $1, $1), ($1, $1, $1)";
    let error = DbError::from(sqlx::query(insert).bind(tenant.0).execute(tx.conn()).await.unwrap_err());
    assert_eq!(error.constraint(), Some("notes_pkey"));
    let shown = Error::from(error);
    assert_eq!((shown.code(), shown.message()), (Code::Internal, "internal error"));
    assert!(shown.chain().contains("notes_pkey"), "{}", shown.chain());
}

#[tokio::test]
async fn the_servers_trouble_is_not_put_down_to_the_values() {
    let database = database().await;
    let db = pool(&database.app_url, 1);
    // A damaged page, a transaction that had failed, what a pooler mixed up, what somebody else uses.
    for code in ["XX001", "25P02", "25001", "26000", "55000", "55006"] {
        let error = raised(&db, code).await;
        assert!(matches!(error, DbError::Unavailable(_)) && !error.is_about_values(), "{code}: {error:?}");
    }
    for code in ["22003", "23505", "P0001"] {
        assert!(raised(&db, code).await.is_about_values(), "{code}");
    }
}

async fn raised(db: &Db, code: &str) -> DbError {
    let mut tx = db.lookup(&service()).await.unwrap();
    let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = '{code}'; END $$");
    sqlx::query(sqlx::AssertSqlSafe(raise)).execute(tx.conn()).await.unwrap_err().into()
}
