//! Tenants in turn on ONE connection, with futures dropped half-way, panics and aborted transactions: nobody ever
//! sees another's rows, and no setting stays behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    task::Poll,
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use sqlx::Connection as _;
use uuid::Uuid;
use weir_db::{BatchTx, Db, DbConfig, DbError, TenantTx};
use weir_types::TenantId;

use crate::{admin, ctx, database, notes, pool, service};

const TENANTS: usize = 3;
pub(crate) const CASES: u32 = 48;

/// What somebody does with the connection. `usize` is a tenant; `u8` says after how many polls a future is dropped.
#[derive(Debug, Clone)]
enum Op {
    Write(usize),
    Read(usize),
    /// Writes, then drops the transaction.
    Forget(usize),
    /// Writes, then panics.
    Panic(usize),
    /// Writes, then runs into an error, then commits all the same.
    Abort(usize),
    /// Writes a row in another tenant's name.
    Forge(usize, usize),
    /// Sets the other tenant for the whole session, then commits or not.
    Poison(usize, usize, bool),
    Batch(Vec<usize>),
    CancelBegin(usize, u8),
    CancelQuery(usize, u8),
    CancelCommit(usize, u8),
    CancelSwitch(usize, usize, u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let t = || 0..TENANTS;
    let polls = || 0u8..6;
    vec(
        prop_oneof![
            t().prop_map(Op::Write),
            t().prop_map(Op::Read),
            t().prop_map(Op::Forget),
            t().prop_map(Op::Panic),
            t().prop_map(Op::Abort),
            (t(), t()).prop_map(|(a, b)| Op::Forge(a, b)),
            (t(), t(), any::<bool>()).prop_map(|(a, b, c)| Op::Poison(a, b, c)),
            vec(t(), 1..4).prop_map(Op::Batch),
            (t(), polls()).prop_map(|(a, n)| Op::CancelBegin(a, n)),
            (t(), polls()).prop_map(|(a, n)| Op::CancelQuery(a, n)),
            (t(), polls()).prop_map(|(a, n)| Op::CancelCommit(a, n)),
            (t(), t(), polls()).prop_map(|(a, b, n)| Op::CancelSwitch(a, b, n)),
        ],
        1..24,
    )
}

/// What must, and what may, be there in the end.
#[derive(Debug, Default)]
struct Model {
    committed: BTreeMap<Uuid, usize>,
    unknown: BTreeSet<Uuid>,
}

struct World {
    db: Db,
    tenants: Vec<TenantId>,
    model: Model,
}

async fn insert(conn: &mut sqlx::PgConnection, tenant: TenantId, writer: TenantId) -> Result<Uuid, DbError> {
    let id = Uuid::new_v4();
    sqlx::query("INSERT INTO chat.notes VALUES ($1, $2, $3)")
        .bind(tenant.0)
        .bind(id)
        .bind(writer.0)
        .execute(conn)
        .await?;
    Ok(id)
}

/// Polls so many times, giving the runtime a turn in between, then drops the future. `None` when it was dropped.
async fn cut<F: Future>(polls: u8, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(done) = polled {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

impl World {
    async fn tx(&self, tenant: usize) -> TenantTx {
        self.db.tenant(&ctx(self.tenants[tenant])).await.unwrap()
    }

    async fn written(&self, tenant: usize) -> (TenantTx, Uuid) {
        let mut tx = self.tx(tenant).await;
        let id = insert(tx.conn(), self.tenants[tenant], self.tenants[tenant]).await.unwrap();
        (tx, id)
    }

    async fn read(&self, tenant: usize) {
        let mut tx = self.tx(tenant).await;
        let rows: Vec<(Uuid, Uuid)> =
            sqlx::query_as("SELECT tenant_id, id FROM chat.notes").fetch_all(tx.conn()).await.unwrap();
        for (owner, _) in &rows {
            assert_eq!(*owner, self.tenants[tenant].0, "a row of another tenant");
        }
        let seen: BTreeSet<Uuid> = rows.into_iter().map(|(_, id)| id).collect();
        for (id, owner) in &self.model.committed {
            assert_eq!(seen.contains(id), *owner == tenant, "row {id} of tenant {owner}");
        }
        for id in &seen {
            assert!(
                self.model.committed.contains_key(id) || self.model.unknown.contains(id),
                "an uncommitted row"
            );
        }
    }

    /// Outside any tenant there is nothing: no row, no setting.
    async fn nothing_left(&self) {
        let mut tx = self.db.lookup(&service()).await.unwrap();
        let (tenant, rows): (Option<String>, i64) = sqlx::query_as(
            "SELECT current_setting('app.tenant_id', true), (SELECT count(*) FROM chat.notes)",
        )
        .fetch_one(tx.conn())
        .await
        .unwrap();
        assert_eq!((tenant.as_deref(), rows), (Some(""), 0));
    }

    async fn batch(&mut self, tenants: &[usize]) {
        let mut tx = self.db.batch(&service()).await.unwrap();
        let mut ids = Vec::new();
        for &t in tenants {
            tx.switch(self.tenants[t]).await.unwrap();
            ids.push((insert(tx.conn(), self.tenants[t], self.tenants[t]).await.unwrap(), t));
        }
        tx.commit().await.unwrap();
        self.model.committed.extend(ids);
    }

    async fn cancel_switch(&mut self, from: usize, to: usize, polls: u8) {
        let mut tx: BatchTx = self.db.batch(&service()).await.unwrap();
        tx.switch(self.tenants[from]).await.unwrap();
        let done = cut(polls, tx.switch(self.tenants[to])).await.is_some();
        assert!(done || polls == 0 || from == to || tx.tenant().is_none());
        // Whoever goes on has to switch again.
        tx.switch(self.tenants[to]).await.unwrap();
        let id = insert(tx.conn(), self.tenants[to], self.tenants[to]).await.unwrap();
        tx.commit().await.unwrap();
        self.model.committed.insert(id, to);
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Write(t) => {
                let (tx, id) = self.written(t).await;
                tx.commit().await.unwrap();
                self.model.committed.insert(id, t);
            }
            Op::Read(t) => self.read(t).await,
            Op::Forget(t) => drop(self.written(t).await),
            Op::Panic(t) => {
                let panicking = AssertUnwindSafe(async {
                    let _held = self.written(t).await;
                    std::panic::resume_unwind(Box::new("on purpose"));
                });
                assert!(panicking.catch_unwind().await.is_err());
            }
            Op::Abort(t) => {
                let (mut tx, _) = self.written(t).await;
                assert!(sqlx::query("SELECT 1 / 0").execute(tx.conn()).await.is_err());
                // PostgreSQL answers the COMMIT of an aborted transaction with a rollback.
                let _ = tx.commit().await;
            }
            Op::Forge(t, other) => {
                let mut tx = self.tx(t).await;
                let forged = insert(tx.conn(), self.tenants[other], self.tenants[t]).await;
                assert_eq!(forged.is_ok(), t == other, "wrote in another tenant's name");
            }
            Op::Poison(t, other, commit) => {
                let mut tx = self.tx(t).await;
                let poison = sqlx::query("SELECT set_config('app.tenant_id', $1, false)");
                poison.bind(self.tenants[other].to_string()).execute(tx.conn()).await.unwrap();
                if commit {
                    tx.commit().await.unwrap();
                }
            }
            Op::Batch(tenants) => self.batch(&tenants).await,
            Op::CancelBegin(t, polls) => drop(cut(polls, self.db.tenant(&ctx(self.tenants[t]))).await),
            Op::CancelQuery(t, polls) => {
                let (mut tx, _) = self.written(t).await;
                cut(polls, insert(tx.conn(), self.tenants[t], self.tenants[t])).await;
            }
            Op::CancelCommit(t, polls) => {
                let (tx, id) = self.written(t).await;
                cut(polls, tx.commit()).await;
                self.model.unknown.insert(id);
            }
            Op::CancelSwitch(from, to, polls) => self.cancel_switch(from, to, polls).await,
        }
    }
}

pub(crate) async fn fuzz(config: DbConfig, cases: u32, seed: &[u8; 32]) {
    let db = Db::connect_lazy(&config).unwrap();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, seed);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let handle = tokio::runtime::Handle::current();
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&ops(), |ops| {
            handle.block_on(async {
                let tenants = (0..TENANTS).map(|_| TenantId::new()).collect();
                let mut world = World { db: db.clone(), tenants, model: Model::default() };
                for op in ops {
                    world.step(op).await;
                    world.nothing_left().await;
                }
                for tenant in 0..TENANTS {
                    world.read(tenant).await;
                }
            });
            Ok(())
        })
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Which a busy machine may take its time to make.
fn one_connection(database: &weir_testkit::Database) -> DbConfig {
    DbConfig { max_connections: 1, acquire_timeout_ms: 30_000, ..DbConfig::new(database.app_url.as_str()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_many_tenants() {
    let database = database().await;
    notes(&database).await;
    fuzz(one_connection(&database), CASES, b"weir-db: one connection for all.").await;
    nothing_forged(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_many_tenants_without_prepared_statements() {
    let database = database().await;
    notes(&database).await;
    let config = DbConfig { pooler: true, ..one_connection(&database) };
    fuzz(config, CASES, b"weir-db: one pooler between us..").await;
    nothing_forged(&database).await;
}

pub(crate) async fn nothing_forged(database: &weir_testkit::Database) {
    let mut admin = admin(database).await;
    let (all, forged): (i64, i64) =
        sqlx::query_as("SELECT count(*), count(*) FILTER (WHERE writer <> tenant_id) FROM chat.notes")
            .fetch_one(&mut admin)
            .await
            .unwrap();
    assert!(all > 0, "nothing was written at all");
    assert_eq!(forged, 0);
    admin.close().await.unwrap();
}

/// The same at once: more tenants than connections, a third of the callers gone half-way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crowds_do_not_mix() {
    let database = database().await;
    notes(&database).await;
    let mut config = DbConfig::new(database.app_url.as_str());
    (config.max_connections, config.acquire_timeout_ms) = (2, 30_000);
    let db = Db::connect_lazy(&config).unwrap();
    let caller = |n: u16| {
        let db = db.clone();
        async move {
            let tenant = TenantId::new();
            let work = async {
                for _ in 0..5 {
                    let mut tx = db.tenant(&ctx(tenant)).await.unwrap();
                    insert(tx.conn(), tenant, tenant).await.unwrap();
                    let owners: Vec<Uuid> = sqlx::query_scalar("SELECT tenant_id FROM chat.notes")
                        .fetch_all(tx.conn())
                        .await
                        .unwrap();
                    assert!(!owners.is_empty() && owners.iter().all(|o| *o == tenant.0), "{owners:?}");
                    tx.commit().await.unwrap();
                }
            };
            if n.is_multiple_of(3) {
                cut(u8::try_from(n).unwrap(), work).await;
            } else {
                work.await;
            }
        }
    };
    join_all((0..60).map(caller)).await;
    nothing_forged(&database).await;
}

#[tokio::test]
async fn each_kind_asks_for_its_caller() {
    let database = database().await;
    let db = pool(&database.app_url, 1);
    assert!(matches!(db.tenant(&service()).await, Err(DbError::TenantRequired)));
    let mut platform = service();
    platform.principal = weir_types::Principal::Platform;
    assert!(matches!(db.batch(&platform).await, Err(DbError::ServiceRequired)));
    let mut late = ctx(TenantId::new());
    late.deadline = Some(weir_types::Deadline::after(std::time::Duration::ZERO));
    assert!(matches!(db.tenant(&late).await, Err(DbError::DeadlineExceeded)));
}

#[tokio::test]
async fn a_connection_is_kept_after_use() {
    let database = database().await;
    for pooler in [false, true] {
        let config = DbConfig { pooler, ..one_connection(&database) };
        let db = Db::connect_lazy(&config).unwrap();
        let mut pids = BTreeSet::new();
        for commit in [true, false, true] {
            let mut tx = db.tenant(&ctx(TenantId::new())).await.unwrap();
            let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(tx.conn()).await.unwrap();
            pids.insert(pid);
            if commit {
                tx.commit().await.unwrap();
            }
        }
        assert_eq!(pids.len(), 1, "a setting stayed behind, so the connection was thrown away");
    }
}

#[tokio::test]
async fn a_begin_dropped_half_way_leaves_no_transaction_open() {
    let database = database().await;
    let mut config = DbConfig::new(database.app_url.as_str());
    (config.idle_in_transaction_timeout_ms, config.acquire_timeout_ms) = (3_600_000, 30_000);
    let db = Db::connect_lazy(&config).unwrap();
    let callers: Vec<_> = (0..config.max_connections).map(|_| ctx(TenantId::new())).collect();
    let mut admin = admin(&database).await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";
    for polls in 1..6 {
        // First all connections are there and idle, so that all begin at once.
        drop(join_all(callers.iter().map(|c| db.tenant(c))).await);
        let idle = async {
            while db.usage().idle < config.max_connections {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), idle).await.expect("connections do not come back");
        join_all(callers.iter().map(|c| cut(polls, db.tenant(c)))).await;
        let closed = async {
            while sqlx::query_scalar::<_, i64>(open).fetch_one(&mut admin).await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), closed).await.expect("a transaction stays open");
    }
}
