//! What a service needs around its logic: tasks, shutdown, health, listening, retry delays.

mod bind;
mod body;
mod catch;
mod conn;
mod health;
mod http_metrics;
mod info;
mod io;
mod limits;
mod listen;
mod ops;
mod owed;
mod owner;
mod proxy;
pub mod retry;
mod signal;
mod system;
mod tasks;
mod watch;

pub use bind::{BindError, bind};
pub use body::{BodyIdle, body_idle_timeout};
pub use catch::{CatchPanic, catch_panic, internal_problem};
pub use health::{CheckReport, CheckStatus, Criticality, Health, Readiness, Report, Status};
pub use http_metrics::{HttpMetricsLayer, http_metrics};
pub use info::Info;
pub use listen::{ListenConfig, ListenMetrics, OpsAddr, PeerAddr, serve, serve_with};
pub use ops::{ops_router, probe_router};
pub use proxy::{Network, NotANetwork, client_ip};
pub use signal::{Signals, hangup_is_ignored};
pub use system::{disk_check, memory_check, resident_bytes};
pub use tasks::{OnFailure, Outcome, Shutdown, Tasks};
