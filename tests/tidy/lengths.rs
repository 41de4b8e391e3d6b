//! Lengths of whole files, comments and tests included. A file that is too long to read at once is split by subject.

use std::path::Path;

use crate::{root, texts};

const FOLDERS: [&str; 4] = ["src", "tests", "benches", "loadtest"];
/// Python files obey the rule as it is.
const PYTHON_LIMIT: usize = 500;
/// Rust files may be this long today. Those that are longer than `GOAL` are printed.
const RUST_LIMIT: usize = 800;
const GOAL: usize = 500;

/// The limit for a file, if its kind has one. Commands in Python have no ending, but a first line that says so.
fn limit(path: &Path, text: &str) -> Option<usize> {
    let first = text.lines().next().unwrap_or_default();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("rs") => Some(RUST_LIMIT),
        Some("py") => Some(PYTHON_LIMIT),
        None if first.starts_with("#!") && first.contains("python") => Some(PYTHON_LIMIT),
        _ => None,
    }
}

#[test]
fn whole_files_stay_readable() {
    let (mut wrong, mut python) = (Vec::new(), 0);
    for (path, text) in FOLDERS.iter().flat_map(|folder| texts(&root().join(folder))) {
        let Some(limit) = limit(&path, &text) else { continue };
        python += usize::from(limit == PYTHON_LIMIT);
        let lines = text.lines().count();
        let shown = path.strip_prefix(root()).unwrap().display();
        if lines > limit {
            wrong.push(format!("{shown}: {lines} lines in total, at most {limit}"));
        } else if lines > GOAL {
            println!("{shown}: {lines} lines in total, {GOAL} are the goal");
        }
    }
    assert!(python > 20, "the Python files are where they are expected");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_command_in_python_is_known_by_its_first_line() {
    assert_eq!(limit(Path::new("loadtest/dos"), "#!/usr/bin/env python3\n"), Some(PYTHON_LIMIT));
    assert_eq!(limit(Path::new("loadtest/rig/peers.py"), ""), Some(PYTHON_LIMIT));
    assert_eq!(limit(Path::new("tests/sdk/install"), "#!/usr/bin/env bash\n"), None);
    assert_eq!(limit(Path::new("loadtest/nginx.conf"), ""), None);
}
