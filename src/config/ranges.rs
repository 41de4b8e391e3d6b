//! The networks of senders: those that are built in, the same text as `[ranges.NAME]` of a configuration file, and how such
//! a table is read.

use core::cell::Cell;
use std::sync::{Arc, LazyLock};

use crate::config::document::Document;
use crate::config::networks;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::suggest::did_you_mean;
use crate::config::units::shorten;
use crate::gate::range_feed::RangeForm;
use crate::gate::ranges::{RangeFeed, RangeSource};

/// The text of what is built in.
const TEXT: &str = include_str!("ranges.toml");

/// The most `[ranges.NAME]` of a file, and the most places in JSON.
const TABLES: usize = 64;
const PLACES: usize = 16;

/// The longest name.
const NAME: usize = 64;

static BUILT_IN: LazyLock<Vec<Arc<RangeSource>>> = LazyLock::new(|| {
    let Ok(document) = Document::parse("ranges.toml", TEXT) else { return Vec::new() };
    let root = Reader::root(&document);
    let Some(tables) = root.table("ranges") else { return Vec::new() };
    let mut sources: Vec<_> =
        tables.named_tables().iter().filter_map(|(name, table)| read(name, table)).map(Arc::new).collect();
    sources.sort_by(|one, other| one.name.cmp(&other.name));
    sources
});

/// The networks of senders that are built in, by name.
#[must_use]
pub fn built_in() -> &'static [Arc<RangeSource>] {
    &BUILT_IN
}

/// A `[ranges.NAME]` of the file. Without a source when it has errors, so that routes can name it all the same.
pub(crate) struct OwnRanges {
    name: String,
    source: Option<Arc<RangeSource>>,
    place: Place,
    used: Cell<bool>,
}

/// Reads every `[ranges.NAME]`.
pub(crate) fn read_own(root: &Reader<'_>) -> Vec<OwnRanges> {
    let Some(tables) = root.table("ranges") else { return Vec::new() };
    let named = tables.named_tables();
    if named.len() > TABLES {
        root.error("ranges", format!("has more than {TABLES} tables"), "remove those that no route allows");
    }
    let mut own = Vec::new();
    for (name, table) in named.into_iter().take(TABLES) {
        let is_taken = built_in().iter().any(|it| it.name == name);
        if !is_name(name) {
            let message = format!("\"{}\" is no name for networks", shorten(name));
            tables.error(name, message, "begin with a small letter; then small letters, digits and dashes");
        } else if is_taken {
            let message = "this name belongs to networks that are built in";
            tables.error(name, message, format!("choose another name: [ranges.my-{name}]"));
        }
        let place = table.here();
        let source = read(name, &table).map(Arc::new);
        if is_name(name) && !is_taken {
            own.push(OwnRanges { name: name.to_owned(), source, place, used: Cell::new(false) });
        }
        table.finish();
    }
    tables.finish();
    own
}

/// Warns about tables that no route names.
pub(crate) fn warn_of_unused(root: &Reader<'_>, own: &[OwnRanges]) {
    for unused in own.iter().filter(|own| !own.used.get()) {
        let fix = "remove them, or name them in a route: allow = [\"…\"]";
        root.warning_at(unused.place.clone(), "no route allows these networks", fix);
    }
}

/// Whether a text in a list of networks is meant as a name.
pub(super) fn is_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    first && text.len() <= NAME && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The networks that a route names. Nothing where there are none of this name, which is reported, or where they have errors.
pub(crate) fn find(reader: &Reader<'_>, own: &[OwnRanges], name: &str, place: &Place) -> Option<Arc<RangeSource>> {
    if let Some(own) = own.iter().find(|own| own.name == name) {
        own.used.set(true);
        return own.source.clone();
    }
    let found = built_in().iter().find(|source| source.name == name);
    if found.is_none() {
        let built_in = built_in().iter().map(|source| source.name.as_str());
        let names: Vec<&str> = own.iter().map(|own| own.name.as_str()).chain(built_in).collect();
        let message = format!("\"{}\" is not a network, nor a sender whose networks are known", shorten(name));
        let meant = did_you_mean(name, &names);
        let fix = format!(
            "{meant}write an address and its bits (\"192.0.2.0/24\", \"2001:db8::/32\"), or one of the names of docs/ranges.md, \
             or describe it in [ranges.{}]",
            shorten(name)
        );
        reader.error_at(place.clone(), message, fix);
    }
    found.cloned()
}

/// Reads one table: nothing where anything in it is wrong.
fn read(name: &str, table: &Reader<'_>) -> Option<RangeSource> {
    // For people.
    let _ = table.string("source");
    let networks = networks::list(table, "networks");
    let date = table.datetime("date").and_then(|seconds| u64::try_from(seconds).ok());
    let feed = read_feed(table);
    if networks.is_empty() && feed.is_none() && !table.failed() {
        let message = "there is neither a list of networks nor a place to fetch it from";
        table.error_at(
            table.here(),
            message,
            "add networks = [\"192.0.2.0/24\"], or url = \"https://…\" with json or lines",
        );
    }
    let source = RangeSource { name: name.to_owned(), networks, as_of: date.unwrap_or(0), feed };
    (!table.failed()).then_some(source)
}

fn read_feed(table: &Reader<'_>) -> Option<RangeFeed> {
    let url = table.string("url");
    let (places, lines) = (table.one_or_more("json"), table.bool("lines"));
    let url = url?;
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic()) && !rest.contains(['@', '#', '\\']);
    if rest.is_empty() || rest.starts_with('/') || !is_plain || url.len() > 2048 {
        table.error("url", "is not a place at which a list can be fetched", "write https:// with a host and a path");
        return None;
    }
    let form = match (places, lines) {
        (Some(places), None | Some(false)) if !places.is_empty() && places.len() <= PLACES => {
            if let Some(wrong) = places.iter().find(|place| !place.is_empty() && !place.starts_with('/')) {
                let message = format!("\"{}\" is no place in JSON", shorten(wrong));
                table.error("json", message, "write it like \"/hooks\", with * for every member: \"/*/ip_ranges\"");
            }
            RangeForm::Json(places.into_iter().map(str::to_owned).collect())
        }
        (None, Some(true)) => RangeForm::Lines,
        _ => {
            let message = "it is not said how the list at the URL is written";
            table.error("url", message, "add json = [\"/place\"], or lines = true for a network a line");
            return None;
        }
    };
    Some(RangeFeed { url: url.to_owned(), form })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;
    use crate::gate::range_feed::judge;

    #[test]
    fn every_copy_reads_and_could_have_been_fetched() {
        let document = Document::parse("ranges.toml", TEXT).unwrap();
        let root = Reader::root(&document);
        let tables = root.table("ranges").unwrap();
        let mut names = BTreeSet::new();
        for (name, table) in tables.named_tables() {
            let source = read(name, &table).unwrap();
            assert!(is_name(name) && table.string("source").unwrap().starts_with("https://"), "{name}");
            assert_eq!(source.networks.is_empty(), source.as_of == 0, "{name}: a copy has its day");
            assert!(source.networks.is_empty() || judge(&source.networks).is_ok(), "{name}");
            assert!(names.insert(name.to_owned()));
            table.finish();
        }
        tables.finish();
        root.finish();
        assert_eq!(document.into_problems().to_string(), "");
        assert_eq!(built_in().len(), names.len());
        assert!(names.len() > 15);
    }

    #[test]
    fn names_are_told_from_networks() {
        for name in ["github", "paddle-sandbox", "a1", "localhost"] {
            assert!(is_name(name), "{name}");
        }
        for other in ["", "1.2.3.4", "fe80::1", "::1", "10.0.0.0/8", "GitHub", "a.b", "a b", &"a".repeat(65)] {
            assert!(!is_name(other), "{other}");
        }
    }
}
