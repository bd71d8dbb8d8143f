//! Nacos: names, instances as registered, and which of them are believed. Whatever comes from a server or from other
//! registrants is taken as it is: nothing here panics, and what is wrong is said with the name of the thing.

pub mod book;
pub mod disk;
pub mod guard;
pub mod instance;
pub mod list;
pub mod name;
pub mod policies;
pub mod registration;
pub mod service;

pub use book::Book;
pub use guard::Guard;
pub use list::{Host, Listing};
pub use name::Name;

/// Name of the source, for people.
pub const SOURCE: &str = "nacos";
