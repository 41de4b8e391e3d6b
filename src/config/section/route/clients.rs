//! `allow`, `allow_file` and `deny` of a route: the addresses that may call.

use core::fmt;
use std::path::PathBuf;

use crate::config::lines::{line, listed};
use crate::config::networks;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::gate::networks::Network;

/// Who may call a route.
#[derive(Clone, Debug, Default)]
pub struct ClientSettings {
    /// Who is let in; everyone, if there is neither a network nor a file. [`crate::config::load()`] adds what the file
    /// holds.
    pub allow: Vec<Network>,
    /// Further networks that are let in.
    pub allow_file: Option<ListFile>,
    /// Who is not let in, even so.
    pub deny: Vec<Network>,
}

impl ClientSettings {
    /// Whether no client is refused.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.allow.is_empty() && self.allow_file.is_none() && self.deny.is_empty()
    }
}

/// A reference to a file with a list in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFile {
    /// Relative to the directory of the configuration file.
    pub path: PathBuf,
    /// Where it is written.
    pub place: Place,
}

/// Who may call a route.
pub(super) fn read(route: &Reader<'_>) -> ClientSettings {
    let allow = networks::list(route, "allow");
    let deny = networks::list(route, "deny");
    let allow_file = match route.string("allow_file") {
        Some("") => {
            route.error("allow_file", "is empty", "name the file, relative to the configuration file");
            None
        }
        path => path.map(|path| ListFile { path: PathBuf::from(path), place: route.place("allow_file") }),
    };
    ClientSettings { allow, allow_file, deny }
}

/// For `check`. `observed` is whether they are only counted.
pub(super) fn describe(out: &mut String, clients: &ClientSettings, observed: bool) -> fmt::Result {
    let counts = if observed { " (only counted)" } else { "" };

    match &clients.allow_file {
        None if clients.allow.is_empty() => line(out, "clients", "everyone")?,
        None => line(out, "clients", format_args!("{}{counts}", listed(&clients.allow)))?,
        Some(file) => {
            let file = file.path.display();
            line(out, "clients", format_args!("{}, with those in {file}{counts}", listed(&clients.allow)))?;
        }
    }
    if !clients.deny.is_empty() {
        line(out, "", format_args!("never {}{counts}", listed(&clients.deny)))?;
    }

    Ok(())
}
