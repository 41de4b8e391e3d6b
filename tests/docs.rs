//! The documents: links lead somewhere, what they name exists, and what an operator meets is documented.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use countersign::config::presets::preset_names;
use countersign::config::settings::vocabulary;
use countersign::outcome::{ConnectionEnd, Fault, Rejection};
use countersign::telemetry::advice;
use countersign::telemetry::names::{self, MetricKind};
use toml::de::DeTable;

#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/metrics.rs"]
mod metrics;
#[path = "docs/ranges.rs"]
mod ranges;
#[path = "docs/senders.rs"]
mod senders;

/// A newcomer reads these from the beginning to the end.
const SHORT: [(&str, usize); 2] = [("README.md", 200), ("ARCHITECTURE.md", 200)];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every document outside of build folders, with its path from the root.
fn documents() -> Vec<(String, String)> {
    let mut folders = vec![PathBuf::new()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = folder.join(&name);
            if entry.file_type().unwrap().is_dir() {
                if !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                let path = path.to_str().unwrap().to_owned();
                found.push((path.clone(), read(&path)));
            }
        }
    }
    found.sort();
    assert!(found.len() > 12);
    found
}

/// The lines outside of code blocks, and each block with the language behind its fence.
fn prose_and_blocks(text: &str) -> (Vec<&str>, Vec<(&str, String)>) {
    let (mut prose, mut blocks) = (Vec::new(), Vec::new());
    let mut open: Option<(&str, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, block))) => block.extend([line, "\n"]),
            (None, None) => prose.push(line),
        }
    }
    assert!(open.is_none(), "a code block has no end");
    (prose, blocks)
}

/// The targets of all links `[text](target)` of a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// The anchor that hosting pages give a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let (prose, _) = prose_and_blocks(text);
    prose.iter().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    for (name, text) in documents() {
        let folder = Path::new(&name).parent().unwrap();
        // Links may be broken into two lines; their targets are not.
        for link in prose_and_blocks(&text).0.iter().flat_map(|line| links(line)) {
            if link.contains("://") {
                continue;
            }
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let file = if path.is_empty() { PathBuf::from(&name) } else { folder.join(path) };
            if !root().join(&file).exists() {
                broken.push(format!("{name}: {link}"));
            } else if !fragment.is_empty() && !anchors(&read(file.to_str().unwrap())).contains(fragment) {
                broken.push(format!("{name}: {link}: no such heading"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_path_that_is_named_exists() {
    let mut missing = Vec::new();
    for (name, text) in documents() {
        let prose = prose_and_blocks(&text).0.join("\n");
        for quoted in prose.split('`').skip(1).step_by(2) {
            let path = quoted.split_whitespace().next().unwrap_or_default();
            let is_path = ["src/", "tests/", "benches/", "config/", "loadtest/", "docs/", ".ci/"]
                .iter()
                .any(|folder| path.starts_with(folder));
            if is_path && !path.contains(['*', '…']) && !root().join(path).exists() {
                missing.push(format!("{name}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn documents_that_are_read_whole_are_short() {
    for (name, limit) in SHORT {
        let lines = read(name).lines().count();
        assert!(lines <= limit, "{name} has {lines} lines, at most {limit}");
    }
}

/// The text below the heading that names the longest part of `path`, up to the next heading; how much of the path that
/// is. Without such a heading, nothing.
fn section<'p>(page: &'p str, path: &'p str) -> Option<(&'p str, &'p str)> {
    let mut part = path;
    loop {
        let name = part.rsplit('.').next().unwrap_or(part);
        let forms = [format!("`[{part}]`"), format!("`[[{part}]]`"), format!("`{name}`")];
        let mut pieces = page.split("\n#");
        if let Some(piece) = pieces.find(|piece| {
            let heading = piece.lines().next().unwrap_or_default();
            forms.iter().any(|form| heading.contains(form.as_str()))
        }) {
            return Some((piece, part));
        }
        part = part.rsplit_once('.')?.0;
    }
}

#[test]
fn every_key_is_documented_in_its_section() {
    let configuration = read("docs/configuration.md");
    let (schemes, handshakes) = (read("docs/schemes.md"), read("docs/handshakes.md"));
    let ranges = read("docs/ranges.md");
    let vocabulary = vocabulary(&read("config/example.toml"));
    assert!(vocabulary.len() > 80);
    let is_missing = |key: &&String| {
        let name = key.rsplit('.').next().unwrap();
        if let Some(first @ ("scheme" | "handshake" | "ranges")) = key.split('.').next() {
            let page = match first {
                "scheme" => &schemes,
                "handshake" => &handshakes,
                _ => &ranges,
            };
            return name != "mycompany" && key.as_str() != first && !words(page).contains(name);
        }
        match section(&configuration, key) {
            None => true,
            Some((_, part)) if part == key.as_str() => false,
            Some((text, part)) if Some(part) == key.rsplit_once('.').map(|(table, _)| table) => {
                !text.contains(&format!("`{name}`"))
            }
            // A key of a table in a row, as burst: the words of the section have it, or those about all such tables.
            Some(_) => !words(&configuration).contains(name),
        }
    };
    let missing: Vec<_> = vocabulary.iter().filter(is_missing).collect();
    assert!(
        missing.is_empty(),
        "not in its section of docs/configuration.md, or not in docs/schemes.md, docs/handshakes.md or docs/ranges.md: {missing:?}"
    );
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect()
}

#[test]
fn every_row_of_the_configuration_is_a_key() {
    let vocabulary = vocabulary(&read("config/example.toml"));
    let names: BTreeSet<&str> = vocabulary.iter().flat_map(|key| key.rsplit('.').next()).collect();
    let page = read("docs/configuration.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let unknown: Vec<&str> = rows.filter(|row| !names.contains(row)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_reason_code_is_documented() {
    let page = read("docs/schemes.md");
    let codes = Rejection::ALL.iter().map(|it| it.code()).chain(Fault::ALL.iter().map(|it| it.code()));
    let codes: Vec<&str> = codes.chain(ConnectionEnd::ALL.iter().map(|it| it.code())).collect();
    assert!(codes.len() > 70);
    let missing: Vec<_> = codes.iter().filter(|code| !page.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "not in docs/schemes.md: {missing:?}");
}

/// Headers that applications believe: the table in the source, and the one for operators.
#[test]
fn every_believed_header_is_documented() {
    let (source, page) = (read("src/wire/believed.rs"), read("docs/operating.md").to_lowercase());
    let tables = source.split("const ").filter(|table| table.contains(": &[&str] = &["));
    let names: Vec<&str> = tables
        .filter_map(|table| table.split("];").next())
        .flat_map(|table| table.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\",")))
        .collect();
    assert!(names.len() > 100, "the tables are where they are expected");
    let is_named = |name: &&&str| page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}*`"));
    let missing: Vec<_> = names.iter().filter(|name| !is_named(name)).collect();
    assert!(missing.is_empty(), "docs/operating.md does not name {missing:?}");
}

#[test]
fn every_metric_that_is_named_exists() {
    let mut unknown = Vec::new();
    for (name, text) in documents() {
        for word in
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|it| it.starts_with("countersign_"))
        {
            let known = names::ALL.iter().any(|metric| {
                let of_histogram = metric.kind == MetricKind::Histogram && word.starts_with(metric.name);
                metric.name == word || of_histogram
            });
            if !known {
                unknown.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn the_number_of_schemes_is_right() {
    let count = preset_names().count();
    for (name, text) in documents().iter().filter(|(name, _)| !name.starts_with("CHANGELOG")) {
        for (at, _) in text.match_indices(" built-in schemes") {
            let number = text[..at].rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            assert!(
                number.is_empty() || number.parse() == Ok(count),
                "{name}: {number} built-in schemes; there are {count}"
            );
        }
    }
    assert!(read("README.md").contains(&format!("**{count} built-in schemes**")));
}

#[test]
fn every_piece_of_configuration_is_toml() {
    let mut count = 0;
    for (name, text) in documents() {
        for (_, block) in prose_and_blocks(&text).1.iter().filter(|(language, _)| *language == "toml") {
            DeTable::parse(block).unwrap_or_else(|error| panic!("{name}: {error}\n{block}"));
            count += 1;
        }
    }
    assert!(count > 5);
}

/// The page with an entry for each reason code, as the tables of the program have them.
fn troubleshooting() -> String {
    let mut page = "# Troubleshooting: every reason code\n\nMade of the program's own tables; `BLESS=1 cargo test --test docs` writes \
                    it.\n`countersign explain REQUEST-ID` says the same of one request, with what is wrong in it.\n"
        .to_owned();
    let mut entry = |code: &str, how: String, meaning: &str, advice: &str| {
        page += &format!(
            "\n### `{code}`\n\n{how}{meaning}\n\n**What to do:** {advice}{}\n",
            if advice.ends_with('?') { "" } else { "." }
        );
    };
    let answered = |status: u16| format!("Answered {status}. ");
    let bare = |text: &'static str| text.trim_end_matches('.').to_owned();
    for it in Rejection::ALL.iter().filter(|it| !it.is_only_noted()) {
        entry(it.code(), answered(it.answer().status), it.meaning(), &bare(advice::of(it.code())));
    }
    for it in Fault::ALL {
        entry(it.code(), answered(it.answer().status), it.meaning(), &bare(advice::of(it.code())));
    }
    for it in ConnectionEnd::ALL {
        let how = "The connection ended without a request. ".to_owned();
        entry(it.code(), how, it.meaning(), &bare(advice::of_connection(it.code())));
    }
    page
}

#[test]
fn the_page_of_reasons_is_that_of_the_program() {
    let (path, page) = (root().join("docs/troubleshooting.md"), troubleshooting());
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/troubleshooting.md is not as the program has it: BLESS=1 cargo test --test docs");
}
