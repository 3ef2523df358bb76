//! Tasks, listeners, health and shutdown.
