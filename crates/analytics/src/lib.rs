//! Read-only KPIs.
