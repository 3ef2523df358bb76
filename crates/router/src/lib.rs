//! Which model a request should go to.
