//! What is written down of exchanges: `[access_log]` and `[audit]`, under the names that the writers use.

use core::fmt::{self, Write};

use crate::config::lines::line;
use crate::config::section::{access_log, audit};
use crate::config::units::show_size;

pub use access_log::{AccessLogSettings as AccessLog, Format, Output};
pub use audit::{AuditSettings as Audit, Fsync, WhenBlocked};

/// Bytes of lines that wait to be written, for each worker; the writer has as many in its hands. Records likewise.
pub const BUFFER: usize = 1 << 20;

/// For `check`.
pub(super) fn describe(out: &mut String, log: &AccessLog, trail: Option<&Audit>) -> fmt::Result {
    writeln!(out, "\nrecords")?;
    access_log::describe(out, log)?;
    audit::describe(out, trail)?;
    let files = usize::from(log.output != Output::Off) + usize::from(trail.is_some());
    let memory = show_size(2 * (files * BUFFER) as u64);
    line(out, "buffers", format_args!("at most {memory} per worker; with requests in flight a few KiB each on top"))
}
