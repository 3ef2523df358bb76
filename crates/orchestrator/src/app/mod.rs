//! What the orchestrator does, apart from how it is called.

mod attempt;
mod catalog;
mod chat;
mod count;
mod meter;
mod plain;
mod pricing;
mod recover;
mod stream;

pub(crate) use attempt::ANTHROPIC_VERSION;
pub(crate) use catalog::Catalog;
pub(crate) use chat::{Chat, Frames};
pub(crate) use meter::{Ending, Meter};
pub(crate) use pricing::Pricing;
pub(crate) use recover::recover;
