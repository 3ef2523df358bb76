//! The launcher as a process, and the workspace's rules.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod house;
mod layers;
mod users;
