//! What a service refuses to start on.

use sqlx::{Connection as _, PgConnection};
use weir_db::{AppRole, DbError, Refusal, migrate};
use weir_testkit::{APP_ROLE, Database, Postgres};

use crate::{admin, database, pool, role, run};

/// A login role of this test's own.
struct Role {
    name: String,
    url: String,
}

async fn login(database: &Database, attributes: &str) -> Role {
    let name = format!("r_{}", uuid::Uuid::new_v4().simple());
    let mut admin = admin(database).await;
    run(&mut admin, format!("CREATE ROLE {name} LOGIN PASSWORD 'x' {attributes}")).await;
    let (_, address) = database.app_url.split_once('@').unwrap();
    Role { url: format!("postgres://{name}:x@{address}"), name }
}

/// Roles belong to the cluster, which outlives the test.
async fn drop_role(database: &Database, role: &Role) {
    let mut admin = admin(database).await;
    run(
        &mut admin,
        format!("REASSIGN OWNED BY {0} TO CURRENT_USER; DROP OWNED BY {0}; DROP ROLE {0}", role.name),
    )
    .await;
    admin.close().await.unwrap();
}

async fn refusal(url: &str) -> Refusal {
    match pool(url, 1).verify().await {
        Err(DbError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_services_role_is_accepted() {
    pool(&database().await.app_url, 1).verify().await.unwrap();
}

#[tokio::test]
async fn a_superuser_is_refused() {
    let database = database().await;
    let text = refusal(&database.admin_url).await.to_string();
    assert!(text.contains("SUPERUSER") && text.contains("database.url"), "{text}");
}

#[tokio::test]
async fn a_role_that_bypasses_or_could_is_refused() {
    let database = database().await;
    for (attributes, privilege) in [("BYPASSRLS", "BYPASSRLS"), ("CREATEROLE", "CREATEROLE")] {
        let powerful = login(&database, attributes).await;
        assert!(refusal(&powerful.url).await.to_string().contains(privilege));
        let member = login(&database, "NOINHERIT").await;
        let mut admin = admin(&database).await;
        run(&mut admin, format!("GRANT {} TO {}", powerful.name, member.name)).await;
        let text = refusal(&member.url).await.to_string();
        assert!(text.contains(privilege) && text.contains(&powerful.name), "{text}");
        drop_role(&database, &member).await;
        drop_role(&database, &powerful).await;
    }
}

#[tokio::test]
async fn an_owner_is_refused() {
    let database = database().await;
    let owner = login(&database, "").await;
    let member = login(&database, "").await;
    let mut admin = admin(&database).await;
    for object in ["TABLE control.api_keys", "SCHEMA chat", "FUNCTION control.resolve_key(bytea, bigint)"] {
        run(
            &mut admin,
            format!("GRANT {} TO {}; ALTER {object} OWNER TO {}", owner.name, member.name, owner.name),
        )
        .await;
        for role in [&owner, &member] {
            let refusal = refusal(&role.url).await;
            assert!(matches!(&refusal, Refusal::Owner { .. }), "{object}: {refusal}");
            assert!(refusal.to_string().contains(&owner.name), "{refusal}");
        }
        run(&mut admin, format!("ALTER {object} OWNER TO CURRENT_USER")).await;
    }
    drop_role(&database, &member).await;
    drop_role(&database, &owner).await;
}

#[tokio::test]
async fn another_schema_is_refused() {
    let database = database().await;
    let mut admin = admin(&database).await;
    let url = &database.app_url;
    run(&mut admin, "UPDATE weir.migrations SET checksum = 'x' WHERE version = 10").await;
    assert_eq!(refusal(url).await, Refusal::Changed { versions: vec![10] });
    run(&mut admin, "DELETE FROM weir.migrations WHERE version = 10").await;
    assert_eq!(refusal(url).await, Refusal::Pending { versions: vec![10] });
    assert!(refusal(url).await.to_string().contains("weir migrate"));
    run(&mut admin, "INSERT INTO weir.migrations SELECT 10, '', now(), false, '', 0").await;
    assert_eq!(refusal(url).await, Refusal::Pending { versions: vec![10] });
    run(&mut admin, format!("REVOKE SELECT ON weir.migrations FROM {APP_ROLE}")).await;
    assert_eq!(refusal(url).await, Refusal::NoGrants { role: APP_ROLE.into() });
}

#[tokio::test]
async fn a_newer_schema_is_served_until_one_of_ours_is_missing() {
    let database = database().await;
    let mut admin = admin(&database).await;
    run(&mut admin, "INSERT INTO weir.migrations SELECT 9999, '', now(), true, '', 0").await;
    pool(&database.app_url, 1).verify().await.unwrap();
    run(&mut admin, "DELETE FROM weir.migrations WHERE version = 10").await;
    assert_eq!(refusal(&database.app_url).await, Refusal::Pending { versions: vec![10] });
}

#[tokio::test]
async fn an_empty_database_is_refused_until_migrated() {
    // The services' role has to be there already.
    database().await;
    let empty = Postgres::shared().await.unwrap().empty().await.unwrap();
    assert_eq!(refusal(&empty.app_url).await, Refusal::NeverMigrated);
    migrate(&empty.admin_url, &role()).await.unwrap();
    pool(&empty.app_url, 1).verify().await.unwrap();
}

#[tokio::test]
async fn migrating_twice_and_at_once_is_fine() {
    let postgres = Postgres::shared().await.unwrap();
    let (one, two) = (postgres.empty().await.unwrap(), postgres.empty().await.unwrap());
    let name = format!("r_{}", uuid::Uuid::new_v4().simple());
    // The same new role, from two databases of one cluster, twice each.
    let role = AppRole::new(name.as_str(), "it's \\ \"quoted\"");
    let all = [&one, &two, &one, &two].map(|database| migrate(&database.admin_url, &role));
    for result in futures_util::future::join_all(all).await {
        result.unwrap();
    }
    let options: sqlx::postgres::PgConnectOptions = one.app_url.parse().unwrap();
    let options = options.username(&name).password("it's \\ \"quoted\"");
    PgConnection::connect_with(&options).await.unwrap().close().await.unwrap();
    let login = Role { name, url: String::new() };
    let mut admin_two = admin(&two).await;
    run(&mut admin_two, format!("DROP OWNED BY {}", login.name)).await;
    drop_role(&one, &login).await;
}

#[tokio::test]
async fn a_migrator_that_could_not_see_rows_is_refused() {
    let database = database().await;
    let weak = login(&database, "").await;
    let result = migrate(&weak.url, &role()).await;
    assert!(matches!(result, Err(DbError::Refused(Refusal::MigratorMayNotBypass { .. }))), "{result:?}");
    drop_role(&database, &weak).await;
    let mut same = role();
    let mut admin = admin(&database).await;
    same.name = sqlx::query_scalar("SELECT current_user::text").fetch_one(&mut admin).await.unwrap();
    let result = migrate(&database.admin_url, &same).await;
    assert!(matches!(result, Err(DbError::Refused(Refusal::SameRole { .. }))), "{result:?}");
}

#[tokio::test]
async fn services_cannot_change_the_schema() {
    let database = database().await;
    let db = pool(&database.app_url, 1);
    for sql in [
        "CREATE TABLE control.x (n int)",
        "CREATE SCHEMA x",
        "ALTER TABLE control.api_keys DISABLE ROW LEVEL SECURITY",
        "DROP TABLE control.api_keys",
        "TRUNCATE control.api_keys",
        "DELETE FROM control.tenants",
        "CALL weir.protect('control.api_keys')",
        "SELECT * FROM weir.grants",
        "SET row_security = off; SELECT * FROM control.api_keys",
        "SET ROLE weir_admin",
    ] {
        let mut tx = db.lookup(&crate::service()).await.unwrap();
        let result = sqlx::raw_sql(sql).execute(tx.conn()).await;
        let code = result.unwrap_err().as_database_error().and_then(|e| e.code().map(|c| c.into_owned()));
        // Insufficient privilege; no such role; must be owner.
        assert!(["42501", "22023"].contains(&code.as_deref().unwrap_or_default()), "{sql}: {code:?}");
    }
}

#[tokio::test]
async fn the_server_never_sees_the_services_password() {
    let database = database().await;
    let mut admin = admin(&database).await;
    // A password that came as it is would now be stored as its MD5.
    run(&mut admin, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET password_encryption = md5', current_database()); END $$").await;
    let name = format!("r_{}", uuid::Uuid::new_v4().simple());
    for password in ["it's $1", "pa\u{df}w\u{f6}rt\u{aa}"] {
        migrate(&database.admin_url, &AppRole::new(&name, password)).await.unwrap();
        let stored: String = sqlx::query_scalar("SELECT rolpassword FROM pg_authid WHERE rolname = $1")
            .bind(&name)
            .fetch_one(&mut admin)
            .await
            .unwrap();
        assert!(stored.starts_with("SCRAM-SHA-256$"), "{stored}");
        let options: sqlx::postgres::PgConnectOptions = database.app_url.parse().unwrap();
        sqlx::ConnectOptions::connect(&options.username(&name).password(password)).await.unwrap();
    }
    drop_role(&database, &Role { url: String::new(), name }).await;
}
