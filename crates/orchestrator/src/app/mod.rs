//! What the orchestrator does, apart from how it is called.

mod attempt;
mod catalog;
mod chat;
mod cipher;
mod closing;
mod compact;
mod count;
mod decided;
mod embed;
mod heavy;
mod learned;
mod listing;
mod meter;
mod plain;
mod pricing;
mod recover;
mod refusal;
mod responses;
mod send;
mod stream;
mod structured;
mod tokenize;
mod vault;

pub(crate) use attempt::ANTHROPIC_VERSION;
pub(crate) use catalog::Catalog;
pub(crate) use chat::{Chat, Frames};
pub(crate) use closing::Closing;
pub(crate) use compact::Compacted;
pub(crate) use embed::Embedder;
pub(crate) use meter::{Ending, Meter};
pub(crate) use pricing::Pricing;
pub(crate) use recover::recover;
pub use responses::ResponsesConfig;
pub(crate) use responses::{Hub, Responses, Shared};
pub(crate) use vault::Vault;
