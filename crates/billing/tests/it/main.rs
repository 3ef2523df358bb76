//! Billing on real PostgreSQL and NATS.

mod faults;
mod house;
mod metering;
mod report;
