//! The only way to SQL. Every statement runs in a transaction of one of three kinds, so that row-level security
//! always knows for whom:
//!
//! - [`TenantTx`]: one tenant's rows, for requests.
//! - [`BatchTx`]: one tenant after another within one transaction, for consumers.
//! - [`LookupTx`]: no tenant's rows, only narrow functions, for before a tenant is known.
//!
//! Dropping one rolls it back, wherever its future was cancelled. [`Inbox`] makes the effects of events happen once;
//! [`Outbox`] holds what a change has to tell until it is told.

mod config;
mod db;
mod error;
mod inbox;
mod late;
mod listen;
mod migrate;
mod outbox;
mod scram;
mod tx;
mod verify;

pub use config::DbConfig;
pub use db::{Db, PoolUsage};
pub use error::DbError;
pub use inbox::{Effect, Inbox, Item};
pub use late::LateDb;
pub use listen::Listener;
pub use migrate::{AppRole, SCHEMAS, fingerprint, migrate};
pub use outbox::{Letter, Outbox, OutboxState, Scoped, Taken};
pub use tx::{BatchTx, LookupTx, TenantTx};
pub use verify::Refusal;
