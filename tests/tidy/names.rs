//! Names of types: a name means one thing in the crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{production, sources};

/// Names that more than one production type may have, and how many. None is known; it is to stay so.
const KNOWN: [(&str, usize); 0] = [];

/// How many structs, enums and traits of production code have each name, private ones included. Those with a name of
/// their own are left out.
fn repeated(sources: &[(PathBuf, String)]) -> BTreeMap<String, usize> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (path, text) in sources {
        if !is_test(path) {
            for name in production(text).filter_map(defined) {
                *names.entry(name.to_owned()).or_default() += 1;
            }
        }
    }
    names.retain(|_, types| *types > 1);
    names
}

/// Files of tests: `tests.rs`, `audit_tests.rs`.
fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
}

/// The name of the type that a line defines.
fn defined(line: &str) -> Option<&str> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| word.starts_with("pub") || word.ends_with(')') || ["in", "unsafe"].contains(word));
    if !["struct", "enum", "trait"].contains(&words.next()?) {
        return None;
    }
    let name = words.next()?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    (end > 0).then(|| &name[..end])
}

#[test]
fn a_type_name_means_one_thing() {
    let found = repeated(&sources());
    let known: BTreeMap<String, usize> = KNOWN.iter().map(|(name, types)| ((*name).to_owned(), *types)).collect();
    let all: std::collections::BTreeSet<&String> = found.keys().chain(known.keys()).collect();
    let of = |names: &BTreeMap<String, usize>, name| names.get(name).copied().unwrap_or(1);
    let wrong: Vec<String> = all
        .into_iter()
        .filter_map(|name| match (of(&known, name), of(&found, name)) {
            (known, found) if found > known => Some(format!("{name}: {found} types have this name")),
            (known, found) if found < known => {
                Some(format!("{name}: {found} instead of {known}: correct KNOWN in tests/tidy/names.rs"))
            }
            _ => None,
        })
        .collect();
    let list: Vec<String> = found.iter().map(|(name, types)| format!("    (\"{name}\", {types}),")).collect();
    assert!(
        wrong.is_empty(),
        "{}\n\nwhat KNOWN would be, {} names:\n{}",
        wrong.join("\n"),
        list.len(),
        list.join("\n")
    );
}

#[test]
fn types_of_the_same_name_are_counted() {
    let file = |name: &str, text: &str| (PathBuf::from("/src").join(name), text.to_owned());
    let sources = [
        file("a.rs", "pub(crate) struct Line<'a> {\n}\nenum Kind {\n}\nimpl Line<'_> {}\n// struct Kind\n"),
        file("b.rs", "    pub(in crate::b) trait Line: Sized {\n    }\nstruct Own(u8);\n"),
        file("c.rs", "struct Line;\nstruct Kinds;\n#[cfg(test)]\nmod tests {\n    struct Own;\n}\n"),
        file("c_tests.rs", "struct Own;\n"),
    ];
    assert_eq!(repeated(&sources), BTreeMap::from([("Line".to_owned(), 3)]));
}
