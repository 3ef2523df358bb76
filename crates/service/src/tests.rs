//! What a process decides before it serves.
