//! `guard` of a scheme table: what the sender's values never contain.

use crate::config::reader::Reader;
use crate::gate::verify::{ByteSet, Exactly, Guards, Part, Without};

/// Reads the table, or nothing where anything in it is wrong.
pub(super) fn read_guards(reader: &Reader<'_>) -> Option<Guards> {
    if !reader.has("guard") {
        return Some(Guards::default());
    }
    let table = reader.table("guard")?;
    let mut guards = Guards::default();
    for (token, rules) in table.named_tables() {
        match Part::named(token) {
            Some(Part::Body) => {
                guards.begins = read_bytes(&rules, "begins");
                guards.ends = read_bytes(&rules, "ends");
            }
            Some(part) => {
                if let Some(length) = rules.count("length", 1..=4096) {
                    guards.exactly.push(Exactly { part: part.clone(), length });
                }
                if let Some(bytes) = read_bytes(&rules, "without") {
                    guards.without.push(Without { part: part.clone(), bytes });
                }
                if matches!(part, Part::NamedHeaders(_)) {
                    guards.dotted = rules.string("dotted").map(str::to_owned);
                }
            }
            None => {
                let fix = "write the token of `content` without its braces, for instance id or \"header:X-Id\"";
                table.error(token, format!("there is no token `{{{token}}}`"), fix);
                continue;
            }
        }
        if rules.failed() {
            table.mark_failed();
        }
        rules.finish();
    }
    let sound = !table.failed();
    table.finish();
    sound.then_some(guards)
}

fn read_bytes(rules: &Reader<'_>, key: &str) -> Option<ByteSet> {
    let text = rules.string(key)?;
    if text.is_empty() || !text.is_ascii() {
        rules.error(key, "is not one or more ASCII characters", format!("write for instance {key} = \"{{\""));
        return None;
    }
    Some(ByteSet::of(text.as_bytes()))
}
