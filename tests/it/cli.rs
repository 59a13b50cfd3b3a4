//! The command line: what it prints, what it refuses, and that it finds the server that runs.

mod commands;
mod dlq;
mod doctor;
mod import;
mod refusals;
