//! Documents to knowledge.
