//! Walks PostgreSQL's catalogue: every table of ours keeps tenants apart, or stands below with a reason.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use weir_db::SCHEMAS;
use weir_testkit::APP_ROLE;

use crate::{admin, database, run};

/// Tables without a tenant, and why.
const SHARED_TABLES: &[(&str, &str)] = &[
    ("weir.migrations", "what was applied to this database"),
    ("weir.grants", "declarations of privileges; services cannot read it"),
];

/// Indexes that do not lead with the tenant, and why.
const GLOBAL_INDEXES: &[(&str, &str)] = &[
    ("control.api_keys_sha256", "a presented key names no tenant; only control.resolve_key searches it"),
    ("billing.inbox_received", "old rows of all tenants go together; only billing.prune_inbox searches it"),
    (
        "analytics.inbox_received",
        "old rows of all tenants go together; only analytics.prune_inbox searches it",
    ),
    (
        "control.outbox_seq",
        "a relay takes the oldest of all tenants; only control.outbox_take and _settle search it",
    ),
    (
        "routing.outbox_seq",
        "a relay takes the oldest of all tenants; only routing.outbox_take and _settle search it",
    ),
    ("control.outbox_order", "as control.outbox_seq, those that were refused behind the others"),
    ("routing.outbox_order", "as routing.outbox_seq, those that were refused behind the others"),
    ("chat.responses_lease", "runs of all tenants are taken over; only chat.take_responses searches it"),
    ("chat.responses_owner", "an instance runs for all tenants; only chat.renew_responses searches it"),
    ("chat.responses_expiry", "old rows of all tenants go together; only chat.prune_responses searches it"),
    (
        "chat.responses_ended",
        "events of all tenants' runs go together; only chat.prune_response_events searches it",
    ),
];

/// Functions with their owner's rights that answer whoever may call them, and why.
const OPEN_FUNCTIONS: &[(&str, &str)] = &[
    (
        "control.resolve_key(bytea,bigint)",
        "the older control.key_grant, until no version of the services calls it",
    ),
    (
        "control.list_tenants(uuid,integer)",
        "the older control.tenants_page, until no version of the services calls it",
    ),
    (
        "billing.prune_inbox(integer,integer)",
        "shows nothing; forgets only what is older than anything redelivered",
    ),
    (
        "analytics.prune_inbox(integer,integer)",
        "shows nothing; forgets only what is older than anything redelivered",
    ),
];

const POLICY: &str = "(tenant_id = (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid)";

async fn strings(conn: &mut PgConnection, sql: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .bind(SCHEMAS)
        .bind(APP_ROLE)
        .fetch_all(conn)
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"))
}

fn listed(list: &[(&str, &str)], name: &str) -> bool {
    list.iter().any(|(entry, reason)| *entry == name && !reason.is_empty())
}

/// Each query names what breaks the rule. `$1` are our schemas, `$2` is the services' role.
const RULES: &[(&str, &str)] = &[
    (
        "row-level security is not enabled and forced",
        "SELECT name FROM tenant_tables WHERE NOT (relrowsecurity AND relforcerowsecurity)",
    ),
    (
        "tenant_id is not a uuid that is never null",
        "SELECT name FROM tenant_tables WHERE NOT (atttypid = 'uuid'::regtype AND attnotnull)",
    ),
    (
        "there is not exactly one policy, for everyone and every command",
        "SELECT name FROM tenant_tables t WHERE 1 <> (SELECT count(*) FROM pg_policy p WHERE p.polrelid = t.oid \
         AND p.polcmd = '*' AND p.polpermissive AND p.polroles = '{0}') \
         OR 1 <> (SELECT count(*) FROM pg_policy p WHERE p.polrelid = t.oid)",
    ),
    (
        "the policy is not the one expression, on reading and on writing",
        "SELECT name FROM tenant_tables t JOIN pg_policy p ON p.polrelid = t.oid \
         WHERE pg_get_expr(p.polqual, t.oid) IS DISTINCT FROM $POLICY \
         OR pg_get_expr(p.polwithcheck, t.oid) IS DISTINCT FROM $POLICY",
    ),
    (
        "the primary key does not lead with tenant_id",
        "SELECT name FROM tenant_tables t WHERE NOT EXISTS (SELECT FROM pg_constraint c \
         WHERE c.conrelid = t.oid AND c.contype = 'p' AND c.conkey[1] = t.attnum)",
    ),
    (
        "a foreign key does not lead with tenant_id on both sides",
        "SELECT name || ' ' || c.conname FROM tenant_tables t JOIN pg_constraint c ON c.conrelid = t.oid \
         WHERE c.contype = 'f' AND EXISTS (SELECT FROM pg_attribute a \
         WHERE a.attrelid = c.confrelid AND a.attname = 'tenant_id') \
         AND NOT (c.conkey[1] = t.attnum AND c.confkey[1] = (SELECT a.attnum FROM pg_attribute a \
         WHERE a.attrelid = c.confrelid AND a.attname = 'tenant_id'))",
    ),
    (
        "services may do more than read and write rows",
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
         AND has_table_privilege($2::name, c.oid, 'TRUNCATE, REFERENCES, TRIGGER')",
    ),
    (
        "services have a privilege that no migration declares",
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
         AND has_table_privilege($2::name, c.oid, 'SELECT, INSERT, UPDATE, DELETE') \
         AND NOT EXISTS (SELECT FROM weir.grants g WHERE g.object = c.oid::regclass::text)",
    ),
    ("services may create", "SELECT s FROM unnest($1) s WHERE has_schema_privilege($2::name, s, 'CREATE')"),
    (
        "a view does not ask with its reader's rights",
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = ANY ($1) AND c.relkind = 'v' \
         AND NOT ('security_invoker=true' = ANY (coalesce(c.reloptions, '{}')))",
    ),
    (
        "a materialised view or foreign table knows no row-level security",
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = ANY ($1) AND c.relkind IN ('m', 'f')",
    ),
    (
        "a function with its owner's rights does not fix its search path",
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
         WHERE n.nspname = ANY ($1) AND p.prosecdef \
         AND NOT ('search_path=pg_catalog, pg_temp' = ANY (coalesce(p.proconfig, '{}')))",
    ),
    (
        "a function can be called without having been exposed",
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
         WHERE n.nspname = ANY ($1) AND p.prorettype <> 'trigger'::regtype \
         AND has_function_privilege($2::name, p.oid, 'EXECUTE') \
         AND NOT EXISTS (SELECT FROM weir.grants g WHERE g.object = p.oid::regprocedure::text)",
    ),
];

const TENANT_TABLES: &str = "WITH tenant_tables AS ( \
     SELECT c.oid, n.nspname || '.' || c.relname AS name, c.relrowsecurity, c.relforcerowsecurity, \
       a.attnum, a.atttypid, a.attnotnull \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' \
     WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p')) ";

/// Everything that breaks a rule, in words.
async fn violations(conn: &mut PgConnection) -> Vec<String> {
    run(conn, "SET search_path = pg_catalog").await;
    let mut found = Vec::new();
    for (what, sql) in RULES {
        let policy = format!("'{}'", POLICY.replace('\'', "''"));
        // Naming both parameters gives them types even where a rule uses neither.
        let types = format!("{TENANT_TABLES}, types AS (SELECT $1::text[], $2::text) ");
        let sql = format!("{types}{}", sql.replace("$POLICY", &policy));
        found.extend(strings(conn, &sql).await.into_iter().map(|name| format!("{name}: {what}")));
    }
    let indexes = "SELECT n.nspname || '.' || i.relname FROM tenant_tables t \
         JOIN pg_index x ON x.indrelid = t.oid JOIN pg_class i ON i.oid = x.indexrelid \
         JOIN pg_namespace n ON n.oid = i.relnamespace WHERE x.indkey[0] <> t.attnum";
    let types = format!("{TENANT_TABLES}, types AS (SELECT $1::text[], $2::text) ");
    for index in strings(conn, &format!("{types}{indexes}")).await {
        if !listed(GLOBAL_INDEXES, &index) {
            found.push(format!("{index}: the index does not lead with tenant_id"));
        }
    }
    let others = "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p') AND c.oid NOT IN (SELECT oid FROM tenant_tables)";
    for table in strings(conn, &format!("{types}{others}")).await {
        if !listed(SHARED_TABLES, &table) {
            found.push(format!("{table}: has no tenant_id and no reason for that"));
        }
    }
    let open = "SELECT p.oid::regprocedure::text FROM pg_proc p \
         JOIN weir.grants g ON g.kind = 'function' AND g.object = p.oid::regprocedure::text \
         WHERE p.prosecdef AND p.prosrc !~ '\\mPERFORM weir\\.require\\('";
    for function in strings(conn, &format!("{types}{open}")).await {
        if !listed(OPEN_FUNCTIONS, &function) {
            found.push(format!("{function}: asks not who calls, without a reason for that"));
        }
    }
    found
}

#[tokio::test]
async fn every_table_keeps_tenants_apart() {
    let database = database().await;
    let mut conn = admin(&database).await;
    let tables =
        strings(&mut conn, &format!("{TENANT_TABLES} SELECT name FROM tenant_tables WHERE $2 <> ''")).await;
    assert!(tables.contains(&"control.api_keys".to_owned()), "the walk sees no tables: {tables:?}");
    assert_eq!(violations(&mut conn).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_walk_sees_what_is_wrong() {
    let database = database().await;
    let good = "CREATE TABLE chat.t (tenant_id uuid NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
                CALL weir.protect('chat.t');";
    let bad: &[(&str, &str)] = &[
        ("CREATE TABLE chat.t (id int PRIMARY KEY)", "no tenant_id"),
        ("CREATE TABLE chat.t (tenant_id uuid NOT NULL PRIMARY KEY)", "not enabled"),
        ("$GOOD ALTER TABLE chat.t NO FORCE ROW LEVEL SECURITY", "not enabled and forced"),
        ("$GOOD ALTER TABLE chat.t DISABLE ROW LEVEL SECURITY", "not enabled and forced"),
        ("$GOOD DROP POLICY tenant_isolation ON chat.t", "exactly one policy"),
        ("$GOOD CREATE POLICY more ON chat.t USING (true)", "exactly one policy"),
        ("$GOOD ALTER POLICY tenant_isolation ON chat.t TO weir_app", "exactly one policy"),
        ("$GOOD ALTER POLICY tenant_isolation ON chat.t USING (true)", "not the one expression"),
        ("$GOOD ALTER POLICY tenant_isolation ON chat.t WITH CHECK (true)", "not the one expression"),
        ("$GOOD CREATE INDEX i ON chat.t (id)", "the index does not lead"),
        ("$GOOD CREATE INDEX i ON chat.t ((id + 1))", "the index does not lead"),
        (
            "CREATE TABLE chat.t (tenant_id uuid NOT NULL, id int PRIMARY KEY); CALL weir.protect('chat.t')",
            "the primary key does not lead",
        ),
        ("CREATE TABLE chat.t (tenant_id uuid NOT NULL); CALL weir.protect('chat.t')", "the primary key"),
        (
            "CREATE TABLE chat.t (tenant_id text NOT NULL, PRIMARY KEY (tenant_id)); \
             ALTER TABLE chat.t ENABLE ROW LEVEL SECURITY",
            "not a uuid",
        ),
        (
            "$GOOD CREATE TABLE chat.u (tenant_id uuid NOT NULL, id int, other uuid, n int, PRIMARY KEY (tenant_id, id), \
             FOREIGN KEY (other, n) REFERENCES chat.t (tenant_id, id)); CALL weir.protect('chat.u')",
            "a foreign key",
        ),
        ("$GOOD GRANT TRUNCATE ON chat.t TO weir_app", "more than read and write"),
        ("GRANT SELECT ON weir.grants TO weir_app", "no migration declares"),
        ("GRANT CREATE ON SCHEMA chat TO weir_app", "may create"),
        ("$GOOD CREATE VIEW chat.v AS SELECT * FROM chat.t", "a view"),
        ("$GOOD CREATE MATERIALIZED VIEW chat.m AS SELECT * FROM chat.t", "a materialised view"),
        (
            "CREATE FUNCTION chat.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
            "does not fix its search path",
        ),
        ("CREATE FUNCTION chat.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "without having been exposed"),
        (
            "CREATE FUNCTION chat.f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp \
             AS 'SELECT 1'; CALL weir.expose('chat.f()')",
            "asks not who calls",
        ),
    ];
    let mut conn = admin(&database).await;
    for (sql, expected) in bad {
        let mut tx = conn.begin().await.unwrap();
        run(&mut tx, sql.replace("$GOOD", good)).await;
        let found = violations(&mut tx).await;
        assert!(found.iter().any(|v| v.contains(expected)), "{sql}: {found:?}");
        tx.rollback().await.unwrap();
    }
    let mut tx = conn.begin().await.unwrap();
    run(&mut tx, good).await;
    assert_eq!(violations(&mut tx).await, Vec::<String>::new(), "what protect() makes is fine");
}

#[tokio::test]
async fn functions_that_could_be_led_astray_are_not_exposed() {
    let mut conn = admin(&database().await).await;
    run(&mut conn, "CREATE FUNCTION chat.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'").await;
    let error = sqlx::query("CALL weir.expose('chat.f()')").execute(&mut conn).await.unwrap_err();
    assert!(error.to_string().contains("search_path"), "{error}");
}

#[tokio::test]
async fn old_inbox_rows_are_found_through_a_tree() {
    let database = database().await;
    let mut conn = admin(&database).await;
    // Page ranges stop being sorted by time once pruned pages are filled again.
    let methods = "SELECT n.nspname || ' ' || a.amname FROM pg_class i JOIN pg_am a ON a.oid = i.relam \
         JOIN pg_namespace n ON n.oid = i.relnamespace \
         WHERE n.nspname = ANY ($1) AND i.relname = 'inbox_received' AND $2 <> '' ORDER BY 1";
    assert_eq!(strings(&mut conn, methods).await, ["analytics btree", "billing btree"]);
}
