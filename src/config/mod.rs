//! From a TOML file to the gate. The cold path: everything is checked here so that nothing has to be checked later.
//!
//! [`document`] and [`reader`] turn text into values with places. A file of [`section`] says what one section means, and
//! [`settings`] has the order of the sections. [`mod@load`] reads the files that a configuration names, [`compile`] makes the
//! gate of them. Every problem of a configuration is reported at once, with file, line, key path and what to do about it; a
//! configuration with an error in it is never applied in part. Only [`files`] opens files, and only [`mod@load`] reads the
//! environment.

pub mod address;
mod caller_names;
pub mod certificates;
pub mod compile;
mod differences;
mod digest;
pub mod document;
mod exposure;
pub mod files;
mod guard;
pub mod handshake;
mod hints;
mod inbox_keys;
mod lines;
pub mod load;
mod memory;
pub mod moment;
pub(crate) mod named_key;
mod networks;
pub mod other_names;
pub mod outline;
pub mod presets;
pub mod problem;
pub mod ranges;
mod rates;
pub mod reader;
pub mod records;
pub mod scheme;
pub mod secret;
pub mod section;
pub mod settings;
mod shared_files;
pub mod shown;
pub mod source;
pub mod suggest;
pub mod summary;
mod token;
pub mod units;

pub use load::{Loaded, load};
pub use memory::worst_case;
pub use problem::{Place, Problem, Problems, Severity};
pub use section::admin::{CAPTURED_BODY, CAPTURED_HEAD, admin_address};
pub use settings::{Settings, parse_str};
