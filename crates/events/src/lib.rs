//! Spool, JetStream, dead letters.
