//! Billing on real PostgreSQL and NATS.
#![cfg(test)]

mod faults;
mod house;
mod metering;
mod report;
