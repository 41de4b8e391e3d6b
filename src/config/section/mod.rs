//! The sections of a configuration. A section is a file or a folder: its type, how it is read, how `check` describes it,
//! and, where a reload compares more than a digest of it, how it is compared. [`crate::config::settings`] has their order.

pub mod access_log;
pub mod admin;
pub mod audit;
pub mod engine_address;
pub mod inbox;
pub mod inbox_keys;
pub mod limits;
pub mod listener;
pub mod log;
pub mod published;
pub mod ranges;
pub mod ready;
pub mod reload;
pub mod route;
pub mod secret_file;
pub mod server;
pub mod shared;
pub mod shared_tls;
pub mod upstream;
pub mod upstream_tls;
