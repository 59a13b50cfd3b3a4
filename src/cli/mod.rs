//! The command line.

pub mod basket_csv;
pub mod catalogue_csv;
pub mod demo;
pub mod replay;
pub mod table;
