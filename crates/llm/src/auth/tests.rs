//! The sources against fakes of who gives credentials: real HTTP on loopback.
