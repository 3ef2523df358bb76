//! Spool, consumers and push against a real NATS server, stopped and started again in between.
#![cfg(test)]

mod consumer;
mod dead_letters;
mod push;
mod spool;
mod streams;
mod support;
