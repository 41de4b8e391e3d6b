//! Words: comments and documents are plain technical English. They say client, sender, operator or attacker.

use std::path::PathBuf;

use crate::{root, texts};

const WORDS: [&str; 4] = ["whoever", "nobody", "somebody", "everybody"];

/// Lines with one of these words that may be left. The numbers may only become smaller.
const LEFT: [(&str, usize); 6] =
    [("src", 0), ("tests", 4), ("benches", 0), ("loadtest", 0), ("config", 0), ("documents", 1)];

/// The secret in GitHub's documentation of its signatures.
const QUOTED: &str = "It's a Secret to Everybody";

fn has_word(line: &str) -> bool {
    let line = line.replace(QUOTED, "").to_lowercase();
    line.split(|c: char| !c.is_alphabetic()).any(|word| WORDS.contains(&word))
}

/// The texts of a folder; `documents` are those beside the folders.
fn files(folder: &str) -> Vec<(PathBuf, String)> {
    if folder != "documents" {
        return texts(&root().join(folder));
    }
    let mut files = texts_beside();
    if root().join("docs").is_dir() {
        files.extend(texts(&root().join("docs")));
    }
    files
}

fn texts_beside() -> Vec<(PathBuf, String)> {
    let paths = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let documents = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn words_are_plain() {
    let mut wrong = Vec::new();
    for (folder, left) in LEFT {
        let mut lines = Vec::new();
        for (path, text) in files(folder) {
            if path.ends_with("tests/tidy/words.rs") {
                continue;
            }
            let shown = path.strip_prefix(root()).unwrap().display().to_string();
            let found = text.lines().enumerate().filter(|(_, line)| has_word(line));
            lines.extend(found.map(|(at, line)| format!("  {shown}:{}: {}", at + 1, line.trim())));
        }
        if lines.len() > left {
            wrong.push(format!("{folder}: {} lines, at most {left}:\n{}", lines.len(), lines.join("\n")));
        } else if lines.len() < left {
            println!("{folder}: {} lines are left; LEFT in tests/tidy/words.rs says {left}", lines.len());
        }
    }
    assert!(wrong.is_empty(), "say client, sender, operator, attacker, or what is meant\n{}", wrong.join("\n"));
}

#[test]
fn words_are_found_in_names_and_sentences() {
    assert!(has_word("/// Whoever connects is served."));
    assert!(has_word("fn nobody_is_refused() {"));
    assert!(has_word("no data of somebody's"));
    assert!(!has_word("let secret = \"It's a Secret to Everybody\";"));
    assert!(!has_word("every body of a request"));
}
