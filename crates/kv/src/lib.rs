//! Short-lived shared state: Redis, or memory.
