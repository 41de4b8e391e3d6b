//! Lines of the summary that `check` prints.

use core::fmt::{self, Write};

use crate::gate::networks::Network;

/// A line with its label; a line without one continues that before it.
pub(super) fn line(out: &mut String, label: &str, text: impl fmt::Display) -> fmt::Result {
    writeln!(out, "  {label:<11} {text}")
}

/// Networks, as far as a line can hold them.
pub(super) fn listed(networks: &[Network]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = networks.iter().take(SHOWN).map(ToString::to_string).collect();
    match networks.len().checked_sub(SHOWN) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}
