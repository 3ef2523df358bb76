//! Real servers for tests: PostgreSQL, PgBouncer, NATS with JetStream, Redis. A development dependency only.
//!
//! Binaries come from `.weir/` (made by `make setup`), from the system, or from `WEIR_PG_BIN`, `WEIR_NATS_BIN`,
//! `WEIR_REDIS_BIN`. Servers listen on ports of their own on the loopback and end with the tests that use them.

mod find;
mod nats;
mod pgbouncer;
pub mod ports;
mod postgres;
mod process;
mod redis;
mod wait;

pub use nats::Nats;
pub use pgbouncer::PgBouncer;
pub use postgres::{APP_PASSWORD, APP_ROLE, Database, Postgres};
pub use redis::Redis;
pub use wait::until;
