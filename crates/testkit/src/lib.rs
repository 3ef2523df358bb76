//! Real PostgreSQL, NATS and Redis for tests.
