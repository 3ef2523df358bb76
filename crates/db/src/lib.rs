//! PostgreSQL behind tenant-scoped transactions.
