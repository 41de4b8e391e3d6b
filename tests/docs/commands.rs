//! `cargo test` and `cargo bench` as the documents write them: the target is there, and the filter finds a test. A filter that
//! finds none runs no test, and says that all is well.

use std::path::{Path, PathBuf};

use super::{documents, root};

/// The commands in a text: what stands behind `cargo test` or `cargo bench`, up to the end of the code.
fn commands(text: &str) -> Vec<(&'static str, Vec<&str>)> {
    let mut found = Vec::new();
    for (kind, start) in [("test", "cargo test "), ("bench", "cargo bench ")] {
        for (at, _) in text.match_indices(start) {
            let rest = text.get(at + start.len()..).unwrap_or_default();
            let end = rest.find(['`', '\n', '#', '|', '(', ';']).unwrap_or(rest.len());
            let words = rest.get(..end).unwrap_or_default().split_whitespace();
            found.push((kind, words.take_while(|word| *word != "--").collect()));
        }
    }
    found
}

/// The files of a target: one file, or a folder with a `main.rs`, beside what a file has in a folder of its name.
fn sources(folder: &Path) -> String {
    let mut folders = vec![folder.to_path_buf()];
    let mut text = std::fs::read_to_string(folder.with_extension("rs")).unwrap_or_default();
    while let Some(next) = folders.pop() {
        let entries: Vec<PathBuf> =
            std::fs::read_dir(next).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap_or_default());
                // A module is named like its file.
                text.push_str(&format!("\nmod {};\n", path.file_stem().unwrap().to_string_lossy()));
            }
        }
    }
    text
}

/// Whether each part of a path of modules and functions is there.
fn finds(sources: &str, filter: &str) -> bool {
    filter.split("::").filter(|part| !part.is_empty()).all(|part| {
        sources.lines().any(|line| {
            let names = line.trim_start().trim_start_matches("pub ").trim_start_matches("async ");
            let named = names.strip_prefix("mod ").or_else(|| names.strip_prefix("fn "));
            named.is_some_and(|name| name.contains(part))
        })
    })
}

/// What is wrong with a command, and how many filters it has.
fn judge(kind: &str, words: Vec<&str>) -> (usize, Vec<String>) {
    let folder = root().join(if kind == "test" { "tests" } else { "benches" });
    let (mut known, mut filters, mut wrong) = (String::new(), 0, Vec::new());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        // A word in capitals stands for a name of the reader's choice.
        let is_filter = !word.starts_with('-') && word.chars().any(char::is_lowercase) && !known.is_empty();
        if word == "--lib" {
            known.push_str(&sources(&root().join("src")));
        } else if matches!(word, "--test" | "--bench") {
            let name = words.next().unwrap_or_default();
            let source = sources(&folder.join(name));
            wrong.extend(source.is_empty().then(|| format!("no target `{name}`")));
            known.push_str(&source);
        } else if is_filter {
            filters += 1;
            wrong.extend((!finds(&known, word)).then(|| format!("nothing is found with `{word}`")));
        }
    }
    (filters, wrong)
}

#[test]
fn commands_in_documents_name_targets_and_filters_that_find_tests() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (document, text) in documents() {
        for (kind, words) in commands(&text) {
            let (filters, problems) = judge(kind, words);
            seen += filters;
            wrong.extend(problems.into_iter().map(|problem| format!("{document}: cargo {kind}: {problem}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 5, "{seen}");
}
