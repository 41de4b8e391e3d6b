//! Reads `client_names`, of a listener or of a route: the names in certificates of clients.

use std::collections::HashSet;

use crate::config::reader::Reader;
use crate::config::units::shorten;
use crate::gate::identity::{CallerList, NamePattern, NotAPattern};

const NAME_LIMIT: usize = 1024;

/// `client_names`, of a listener or of a route.
pub(super) fn read(reader: &Reader<'_>) -> CallerList {
    let Some(written) = reader.placed_strings("client_names") else { return CallerList::default() };
    if written.is_empty() || written.len() > NAME_LIMIT {
        let fix =
            format!("name 1 to {NAME_LIMIT} of them, or leave it out: then every certificate of client_ca will do");
        reader.error("client_names", format!("has {} names", written.len()), fix);
    }
    let mut seen = HashSet::new();
    let mut patterns = Vec::with_capacity(written.len());
    for (text, place) in written.into_iter().take(NAME_LIMIT) {
        match NamePattern::parse(text) {
            Ok(pattern) if seen.insert(pattern.to_string()) => patterns.push(pattern),
            Ok(pattern) => reader.warning_at(place, format!("{pattern} is given twice"), "remove one of the two"),
            Err(NotAPattern::Wildcard) => {
                let message = format!("\"{}\" has a wildcard where none is understood", shorten(text));
                reader.error_at(
                    place,
                    message,
                    "\"*.\" in front of a domain stands for one label; URIs are written out",
                );
            }
            Err(NotAPattern::Form) => {
                let message = format!("\"{}\" is neither a host name nor a URI", shorten(text));
                let fix = "write \"hooks.example.com\", \"*.hooks.example.com\" or \"spiffe://example.com/sender\"";
                reader.error_at(place, message, fix);
            }
        }
    }
    CallerList::new(patterns)
}
