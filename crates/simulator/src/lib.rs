//! A model provider for development and tests.
