//! Whether a contract can replace another without breaking who uses it.
