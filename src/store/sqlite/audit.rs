//! Checks the laws.
