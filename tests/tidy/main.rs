//! The house rules that no compiler knows: which room may use which, how long files and functions may be, and which
//! words are not used as names. A rule that is not checked is a wish.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod circles;
mod lengths;
mod names;
mod tuples;
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms that it may use. What is not listed, it may not.
const ARROWS: [(&str, &[&str]); 15] = [
    ("now", &[]),
    ("outcome", &[]),
    ("wire", &["outcome", "now"]),
    ("gate", &["wire", "outcome", "now"]),
    ("explain", &["gate", "wire", "outcome", "now"]),
    ("ledger", &["gate", "wire", "outcome", "now"]),
    ("inbox", &["wire", "outcome", "now"]),
    ("telemetry", &["wire", "outcome", "now"]),
    ("config", &["inbox", "ledger", "gate", "wire", "outcome", "now"]),
    ("inject", &[]),
    ("edge", &["inbox", "telemetry", "ledger", "gate", "wire", "outcome", "now"]),
    ("admin", &["inbox", "telemetry", "wire", "outcome", "now"]),
    (
        "control",
        &["admin", "edge", "explain", "config", "inbox", "telemetry", "ledger", "gate", "wire", "outcome", "now"],
    ),
    (
        "cli",
        &[
            "inject",
            "explain",
            "control",
            "admin",
            "edge",
            "config",
            "inbox",
            "telemetry",
            "ledger",
            "gate",
            "wire",
            "outcome",
            "now",
        ],
    ),
    ("main", &["cli"]),
];

/// Crates that one room owns.
const OWNERS: [(&str, &[&str]); 33] = [
    ("ureq", &["control"]),
    ("httparse", &["wire"]),
    ("itoa", &["wire", "telemetry"]),
    ("ring", &["gate", "ledger", "inbox", "admin", "config", "telemetry", "control", "cli"]),
    // control: the cryptography for the client of publishers.
    ("rustls", &["config", "edge", "control"]),
    ("rustls_pki_types", &["config"]),
    ("x509_parser", &["gate", "config"]),
    ("subtle", &["gate"]),
    ("matchit", &["gate"]),
    // gate: keys that senders publish.
    ("arc_swap", &["gate", "ledger", "edge", "control"]),
    ("dashmap", &["gate", "ledger"]),
    ("foldhash", &["gate", "ledger"]),
    ("const_hex", &["gate"]),
    ("serde_json", &["gate", "explain", "admin", "telemetry", "cli"]),
    ("toml", &["config"]),
    ("strsim", &["config"]),
    ("metrics", &["telemetry"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("monoio", &["edge"]),
    ("notify", &["control"]),
    ("redb", &["control"]),
    ("rustix", &["control"]),
    ("io_uring", &["edge"]),
    ("httpdate", &["edge"]),
    ("listenfd", &["edge"]),
    ("signal_hook", &["control"]),
    ("clap", &["cli"]),
    ("miniz_oxide", &["gate", "explain"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    // edge: tests alone.
    ("rcgen", &["cli", "edge"]),
    ("saphyr_parser", &["inject"]),
    ("similar", &["cli"]),
];

/// Circles of files that were there when the rule came: room and number of files. They may only become smaller.
const KNOWN_CIRCLES: [(&str, usize); 0] = [];

const FILE_LIMIT: usize = 500;
const FUNCTION_LIMIT: usize = 70;
const PARAMETER_LIMIT: usize = 5;

const BANNED_NAMES: [&str; 12] = [
    "manager", "handler", "helper", "helpers", "util", "utils", "common", "context", "process", "data", "misc", "base",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut files = texts(&root().join("src"));
    files.retain(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"));
    assert!(files.len() > 30, "the sources are where they are expected");
    files
}

/// All text files below a folder, without those that are built or hidden.
fn texts(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, kind, name) = (entry.path(), entry.file_type().unwrap(), entry.file_name());
            if name == "target" || name == "node_modules" || name.to_string_lossy().starts_with('.') {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file()
                && let Ok(text) = String::from_utf8(fs::read(&path).unwrap())
            {
                files.push((path, text));
            }
        }
    }
    files.sort();
    files
}

fn room(path: &Path) -> String {
    let relative = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The text without the trailing test module, comments and blank lines.
fn production(text: &str) -> impl Iterator<Item = &str> {
    let end = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn arrows_point_one_way() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let room = room(&path);
        if room == "lib" {
            continue;
        }
        let allowed = arrows.get(room.as_str()).unwrap_or_else(|| panic!("{room} is not a room of the house"));
        for line in text.lines() {
            let used =
                line.split("crate::").skip(1).chain(line.split("countersign::").skip(1).filter(|_| room == "main"));
            for rest in used {
                let target: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_room = arrows.contains_key(target.as_str());
                if is_room && target != room && !allowed.contains(&target.as_str()) {
                    wrong.push(format!("{}: {room} must not use {target}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_dependency_stays_in_its_room() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let room = room(&path);
        for line in production(&text) {
            for (name, owners) in OWNERS {
                let prefix = format!("{name}::");
                let starts_word =
                    |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
                if line.match_indices(&prefix).any(|(at, _)| starts_word(at)) && !owners.contains(&room.as_str()) {
                    wrong.push(format!("{}: {name} belongs to {owners:?}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tags_are_compared_in_one_file_and_bytes_awaited_in_one() {
    for (path, text) in sources() {
        let name = path
            .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let compares = production(&text).any(|line| line.contains("subtle::") || line.contains(".ct_eq("));
        assert!(
            !compares || name == "gate/verify/mac.rs",
            "{name} compares in constant time; only gate/verify/mac.rs may"
        );
        let names_driver = production(&text).any(|line| line.contains("io_uring::") || line.contains("LegacyDriver"));
        assert!(
            !names_driver || name == "edge/runtime/driver.rs",
            "{name} names a driver; only edge/runtime/driver.rs may"
        );
    }
}

/// What is printed anywhere else may have in it what a terminal obeys.
#[test]
fn terminals_are_written_to_in_one_file() {
    const WAYS: [&str; 8] =
        ["::stdout()", "::stderr()", "println!", "print!(", "eprint!(", "dbg!(", "/dev/tty", "Arguments::parse()"];
    for (path, text) in sources() {
        let name = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap().to_string_lossy();
        // The lines of the access log are ASCII by themselves, and are not flushed one by one.
        if ["control/terminal.rs", "control/access_log.rs"].contains(&&*name) {
            continue;
        }
        let found = production(&text).find(|line| WAYS.iter().any(|way| line.contains(way)));
        assert!(found.is_none(), "{name}: only control/terminal.rs writes to a terminal: {found:?}");
    }
}

#[test]
fn files_and_functions_stay_readable() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = production(&text).count();
        if lines > FILE_LIMIT {
            wrong.push(format!("{}: {lines} lines, at most {FILE_LIMIT}", path.display()));
        }
        for (name, length, parameters) in functions(&text) {
            if length > FUNCTION_LIMIT {
                wrong.push(format!("{}: fn {name} has {length} lines, at most {FUNCTION_LIMIT}", path.display()));
            }
            if parameters > PARAMETER_LIMIT {
                wrong.push(format!(
                    "{}: fn {name} has {parameters} parameters, at most {PARAMETER_LIMIT}",
                    path.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Name, lines and parameters of each function, by indentation: rustfmt makes that reliable.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let length = |start: usize| {
        let indent = lines[start].len() - lines[start].trim_start().len();
        let close = format!("{}}}", " ".repeat(indent));
        lines[start..].iter().position(|line| *line == close).map(|length| length + 1)
    };
    let found = starts(&lines).into_iter();
    found.filter_map(|(at, name)| Some((name, length(at)?, parameters(&signature(&lines[at..]))))).collect()
}

/// Name and signature of each function with a body.
fn signatures(text: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    starts(&lines).into_iter().map(|(at, name)| (name, signature(&lines[at..]))).collect()
}

/// The lines at which functions begin, with their names.
fn starts(lines: &[&str]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let words = line.trim_start();
        let begins = |at: &usize| {
            words[..*at]
                .split(' ')
                .all(|word| word.is_empty() || ["pub", "const", "async"].contains(&word) || word.starts_with("pub("))
        };
        if let Some(name) = words.find("fn ").filter(begins) {
            let name = words[name + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.push((at, name));
        }
    }
    found
}

/// The signature that begins at the first line, as one line.
fn signature(lines: &[&str]) -> String {
    let more = |line: &&&str| !line.ends_with('{') && !line.ends_with(';') && !line.ends_with('}');
    let whole: String = lines.iter().take_while(more).chain(lines.iter().find(|line| !more(line))).copied().collect();
    whole
}

/// Parameters of a signature, not counting `self`.
fn parameters(signature: &str) -> usize {
    parameter_list(signature).len()
}

/// The parameters of a signature, without `self`.
fn parameter_list(signature: &str) -> Vec<String> {
    let Some(open) = signature.find("fn ").and_then(|at| list_start(&signature[at..]).map(|list| at + list)) else {
        return Vec::new();
    };
    let (mut depth, mut before) = (1, ' ');
    let close = signature[open..].char_indices().find(|(_, c)| {
        depth += i32::from("([<".contains(*c)) - i32::from(")]>".contains(*c) && !(*c == '>' && before == '-'));
        before = *c;
        depth == 0
    });
    let list = &signature[open..close.map_or(signature.len(), |(at, _)| open + at)];
    let is_self = |part: &String| {
        let name = part.split(':').next().unwrap_or_default();
        name.split([' ', '&']).any(|word| word == "self")
    };
    tuples::split(list).into_iter().filter(|part| !is_self(part)).collect()
}

/// Where the list of parameters begins: after the type parameters, which may have brackets of their own.
fn list_start(signature: &str) -> Option<usize> {
    let (mut angles, mut before) = (0, ' ');
    for (at, c) in signature.char_indices() {
        angles += i32::from(c == '<') - i32::from(c == '>' && before != '-');
        if c == '(' && angles == 0 {
            return Some(at + 1);
        }
        before = c;
    }
    None
}

#[test]
fn no_files_use_one_another() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let circles = circles::Imports::of(&sources(), &root).circles();
    let show = |circle: &Vec<PathBuf>| {
        let names: Vec<_> = circle.iter().map(|file| file.strip_prefix(&root).unwrap().to_string_lossy()).collect();
        format!("{} files use one another: {}", names.len(), names.join(", "))
    };
    let found: Vec<(String, usize)> = circles.iter().map(|circle| (room(&circle[0]), circle.len())).collect();
    let known = KNOWN_CIRCLES.map(|(room, files)| (room.to_owned(), files));
    assert!(found == known, "{}", circles.iter().map(show).collect::<Vec<_>>().join("\n"));
}

#[test]
fn names_say_something() {
    for (path, text) in sources() {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(!BANNED_NAMES.contains(&stem.as_str()), "{} is a name that says nothing", path.display());
        for line in production(&text) {
            let words = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            if let Some(rest) = words.strip_prefix("mod ").or_else(|| words.strip_prefix("struct ")) {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(
                    !BANNED_NAMES.contains(&name.to_lowercase().as_str()),
                    "{}: {name} says nothing",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_parameter_counter_counts() {
    assert_eq!(parameters("fn a(&self, b: u8, (c, d): (u8, Vec<(u8, u8)>)) -> u8 {"), 2);
    assert_eq!(parameters("fn a() {"), 0);
    assert_eq!(parameters("fn a(    x: u8,    y: &mut Vec<u8>,) -> Result<(), u8> {"), 2);
}
