//! Called in process.
