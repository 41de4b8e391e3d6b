//! Reads networks: the lists of a listener and of a route, and the files that hold more of them.

use std::collections::HashSet;

use crate::config::problem::{Place, Problems};
use crate::config::reader::Reader;
use crate::config::units::shorten;
use crate::gate::networks::{Network, NotANetwork};

/// So many mistakes of one file are told one by one.
const MISTAKES: usize = 20;

/// A list of networks under `key`.
pub(super) fn list(reader: &Reader<'_>, key: &str) -> Vec<Network> {
    list_beside(reader, key, |_, _| false)
}

/// The same, of which `takes` takes what is something else than a network.
pub(super) fn list_beside(reader: &Reader<'_>, key: &str, mut takes: impl FnMut(&str, &Place) -> bool) -> Vec<Network> {
    let mut networks = Vec::new();
    let mut seen = HashSet::new();
    for (text, place) in reader.placed_strings(key).unwrap_or_default() {
        match Network::parse(text) {
            Err(NotANetwork::Form) if takes(text, &place) => {}
            Ok(network) if seen.insert(network) => networks.push(network),
            Ok(network) => reader.warning_at(place, format!("{network} is given twice"), "remove one of the two"),
            Err(why) => {
                let (message, fix) = explain(text, why);
                reader.error_at(place, message, fix);
            }
        }
    }
    networks
}

/// Reads a file of networks: one a line, `#` begins a comment. What is wrong is added to `problems` with its line.
pub(super) fn read_text(file: &str, text: &str, problems: &mut Problems) -> Vec<Network> {
    let mut networks = Vec::new();
    let mut seen = HashSet::new();
    let mut mistakes = 0;
    for (position, line) in text.lines().enumerate() {
        let written = line.split('#').next().unwrap_or_default().trim();
        if written.is_empty() {
            continue;
        }
        let column = line.find(written).map_or(1, |bytes| bytes + 1);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let place = || Place { line: number(position + 1), column: number(column), ..Place::file(file) };
        let problem = match Network::parse(written) {
            Ok(network) if seen.insert(network) => {
                networks.push(network);
                continue;
            }
            Ok(network) => Err(format!("{network} is given twice")),
            Err(why) => Ok(explain(written, why)),
        };
        mistakes += 1;
        match problem {
            // Errors must stay errors, however many there are.
            _ if mistakes == MISTAKES + 1 => {
                let message = "there are more mistakes behind this one";
                problems.error(place(), message, "correct these first");
                break;
            }
            Ok((message, fix)) => problems.error(place(), message, fix),
            Err(message) => problems.warning(place(), message, "remove one of the two"),
        }
    }
    if networks.is_empty() && mistakes == 0 {
        let message = "there is no network in this file: no client could call the route";
        problems.error(Place::file(file), message, "write one network a line, or remove allow_file to let in everyone");
    }
    networks
}

/// What to say, and what to do.
fn explain(text: &str, why: NotANetwork) -> (String, String) {
    let shown = shorten(text);
    match why {
        NotANetwork::Form => {
            let message = format!("\"{shown}\" is not a network");
            (message, "write an address and its bits: \"192.0.2.0/24\", \"2001:db8::/32\"".to_owned())
        }
        NotANetwork::Prefix(width) => {
            (format!("\"{shown}\" has more bits than the address"), format!("choose from 0 to {width}"))
        }
        NotANetwork::HostBits(meant) => {
            let message = format!("\"{shown}\" is an address inside a network, not a network");
            (message, format!("write \"{meant}\", or the address alone for itself"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn read(text: &str) -> (Vec<String>, Vec<String>) {
        let mut problems = Problems::default();
        let networks = read_text("ranges", text, &mut problems);
        (networks.iter().map(ToString::to_string).collect(), problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_file_has_one_network_a_line() {
        let (networks, problems) = read("# ours\n\n192.0.2.0/24  # office\r\n\t2001:db8::/32\n203.0.113.7");
        assert_eq!(networks, ["192.0.2.0/24", "2001:db8::/32", "203.0.113.7/32"]);
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn every_mistake_of_a_file_has_its_line() {
        let (_, problems) = read("192.0.2.0/24\n  192.0.2.1/24\nx\n10.0.0.0/40\n192.0.2.0/24\n");
        let starts = [
            "ranges:2:3: error: \"192.0.2.1/24\" is an address inside a network, not a network\n    fix: write \"192.0.2.0/24\"",
            "ranges:3:1: error: \"x\" is not a network",
            "ranges:4:1: error: \"10.0.0.0/40\" has more bits than the address\n    fix: choose from 0 to 32",
            "ranges:5:1: warning: 192.0.2.0/24 is given twice",
        ];
        assert_eq!(problems.len(), starts.len(), "{problems:#?}");
        assert!(problems.iter().zip(starts).all(|(problem, start)| problem.starts_with(start)), "{problems:#?}");
    }

    #[test]
    fn an_empty_file_and_an_endless_list_of_mistakes_are_errors() {
        let (networks, problems) = read("# nothing\n");
        assert!(networks.is_empty() && problems.len() == 1 && problems[0].contains("no client could call"));
        let (_, problems) = read(&"x\n".repeat(1000));
        assert_eq!(problems.len(), MISTAKES + 1);
    }
}
