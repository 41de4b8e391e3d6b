//! From a TOML file to the gate. The cold path: everything is checked here so that nothing has to be checked later.
//!
//! [`document`] and [`reader`] turn text into values with places, [`settings`] says what they mean, [`mod@load`] reads the
//! files that they name, [`compile`] makes the gate of them. Every problem of a configuration is reported at once,
//! with file, line, key path and what to do about it; a configuration with an error in it is never applied in part.
//! Only [`files`] opens files, and only [`mod@load`] reads the environment.

pub mod address;
mod admin;
mod admission;
pub mod certificates;
pub mod compile;
pub mod document;
pub mod files;
mod guard;
pub mod inbox;
mod kept;
mod keys;
pub mod load;
mod memory;
mod networks;
mod observe;
pub mod outline;
pub mod problem;
pub mod reader;
pub mod readiness;
pub mod records;
mod reload;
mod replay;
mod routes;
pub mod scheme;
pub mod secret;
mod sections;
pub mod settings;
pub mod shown;
pub mod suggest;
pub mod summary;
mod tls;
mod tls_outline;
mod tls_summary;
pub mod units;

pub use admin::{CAPTURED_BODY, CAPTURED_HEAD, admin_address};
pub use load::{Loaded, load};
pub use problem::{Place, Problem, Problems, Severity};
pub use settings::{Settings, parse_str};
