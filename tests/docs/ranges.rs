//! The table of the networks that are built in.

use std::fmt::Write as _;
use std::fs;

use countersign::config::ranges::built_in;
use time::OffsetDateTime;

use super::{read, root};

const PAGE: &str = "docs/ranges.md";
const BEGIN: &str = "<!-- made of src/config/ranges.toml: BLESS=1 cargo test --test docs -->\n";
const END: &str = "<!-- end -->";

fn table() -> String {
    let mut table = "| name | networks | as of | fetched from |\n|---|---|---|---|\n".to_owned();
    for source in built_in() {
        let day = OffsetDateTime::from_unix_timestamp(i64::try_from(source.as_of).unwrap()).unwrap().date();
        let (count, day) = match source.networks.len() {
            0 => ("none; fetched only".to_owned(), "–".to_owned()),
            count => (count.to_string(), day.to_string()),
        };
        let url =
            source.feed.as_ref().map_or("nowhere: the list is for people".to_owned(), |it| format!("`{}`", it.url));
        let _ = writeln!(table, "| `{}` | {count} | {day} | {url} |", source.name);
    }
    table
}

#[test]
fn the_table_of_networks_is_that_of_the_program() {
    let page = read(PAGE);
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (made, after) = rest.split_once(END).unwrap();
    let table = format!("\n{}\n", table());
    if std::env::var_os("BLESS").is_some() {
        fs::write(root().join(PAGE), format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert!(made == table, "{PAGE} is not as the program has it: BLESS=1 cargo test --test docs");
}
