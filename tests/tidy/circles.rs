//! Circles of files: files of one room that use one another, directly or through others. Such files can only be read,
//! changed and tested together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The modules that a file uses, by the file that has them. What a `mod.rs` only re-exports counts as a use of the file
/// that the name comes from.
pub(crate) struct Imports {
    /// File of each module, by the module's path.
    files: BTreeMap<String, PathBuf>,
    /// Where names that a module re-exports come from.
    exported: BTreeMap<String, String>,
    /// Uses of each file.
    uses: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

impl Imports {
    /// Reads production code: uses by tests do not count.
    pub(crate) fn of(sources: &[(PathBuf, String)], root: &Path) -> Self {
        let mut all = Self { files: BTreeMap::new(), exported: BTreeMap::new(), uses: BTreeMap::new() };
        let modules: Vec<(String, &PathBuf, String)> = sources
            .iter()
            .filter(|(path, _)| !path.to_string_lossy().contains("tests"))
            .map(|(path, text)| (module(path, root), path, production(text)))
            .collect();
        for (module, path, _) in &modules {
            all.files.insert(module.clone(), (*path).clone());
        }
        for (module, path, text) in &modules {
            if path.ends_with("mod.rs") {
                for (name, from) in exports(text, module) {
                    all.exported.insert(name, from);
                }
            }
        }
        for (module, path, text) in &modules {
            let used = paths(text, module).into_iter().filter_map(|used| all.file_of(&used));
            let used: BTreeSet<PathBuf> = used.filter(|used| used != *path).collect();
            // A `mod.rs` that re-exports has no code that could use what it names.
            if !path.ends_with("mod.rs") || has_code(text) {
                all.uses.insert((*path).clone(), used);
            }
        }
        all
    }

    fn file_of(&self, path: &str) -> Option<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            let Some((at, from)) = self.longest_export(&path) else { break };
            path = format!("{from}{}", &path[at..]);
        }
        let mut prefix = path.as_str();
        loop {
            if let Some(file) = self.files.get(prefix) {
                return Some(file.clone());
            }
            prefix = &prefix[..prefix.rfind("::")?];
        }
    }

    fn longest_export(&self, path: &str) -> Option<(usize, &String)> {
        let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
        ends.filter_map(|end| self.exported.get(&path[..end]).map(|from| (end, from))).last()
    }

    /// Groups of two and more files that use one another, the largest first.
    pub(crate) fn circles(&self) -> Vec<Vec<PathBuf>> {
        let mut reach: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> = BTreeMap::new();
        for file in self.uses.keys() {
            let (mut seen, mut next) = (BTreeSet::new(), vec![file]);
            while let Some(one) = next.pop() {
                for used in self.uses.get(one).into_iter().flatten() {
                    if seen.insert(used) {
                        next.push(used);
                    }
                }
            }
            reach.insert(file, seen);
        }
        let mut circles: BTreeSet<Vec<PathBuf>> = BTreeSet::new();
        for (file, reached) in &reach {
            let together = |other: &&&PathBuf| reach.get(**other).is_some_and(|back| back.contains(*file));
            let circle: Vec<PathBuf> = reached.iter().filter(together).map(|one| (*one).clone()).collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        let mut circles: Vec<_> = circles.into_iter().collect();
        circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
        circles
    }
}

fn module(path: &Path, root: &Path) -> String {
    let relative = path.strip_prefix(root).unwrap().with_extension("");
    let mut parts: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts.join("::")
}

/// Production code without comments, so that a link in a comment is no use.
fn production(text: &str) -> String {
    let end = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..end].lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn has_code(text: &str) -> bool {
    text.contains("fn ") || text.contains("struct ") || text.contains("enum ")
}

/// Every `crate::…` and `super::…` path, made absolute; groups in braces are taken apart.
fn paths(text: &str, module: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, prefix) in [("crate::", String::new()), ("super::", parent(module)), ("self::", module.to_owned())] {
        for (at, _) in text.match_indices(start) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let (mut rest, mut prefix) = (&text[at + start.len()..], prefix.clone());
            while let Some(further) = rest.strip_prefix("super::") {
                (rest, prefix) = (further, parent(&prefix));
            }
            expand(&prefix, rest, &mut found);
        }
    }
    found
}

fn parent(module: &str) -> String {
    module.rfind("::").map_or(String::new(), |at| module[..at].to_owned())
}

/// The paths that a `use` tree names.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let length = tree.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(tree.len());
    let (plain, rest) = tree.split_at(length);
    let joined = |tail: &str| match (prefix, tail) {
        ("", tail) => tail.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, tail) => format!("{prefix}::{tail}"),
    };
    let Some(group) = rest.strip_prefix('{').filter(|_| plain.ends_with("::") || plain.is_empty()) else {
        found.push(joined(plain.trim_end_matches(':')));
        return;
    };
    let (base, mut depth, mut part) = (joined(plain.trim_end_matches(':')), 0, String::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => expand(&base, std::mem::take(&mut part).trim(), found),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                part.push(c);
            }
        }
    }
    expand(&base, part.trim(), found);
}

/// Names that a module re-exports, with the path they come from.
fn exports(text: &str, module: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for statement in text.split(';') {
        let statement = statement.trim();
        let Some(at) = statement.find("use ").filter(|_| statement.starts_with("pub")) else { continue };
        let tree: String = statement[at + 4..].split_whitespace().collect::<Vec<_>>().join(" ");
        let (prefix, tree) = match tree.strip_prefix("crate::") {
            Some(rest) => (String::new(), rest.to_owned()),
            None => (module.to_owned(), tree.trim_start_matches("self::").to_owned()),
        };
        let mut named = Vec::new();
        expand(&prefix, &tree, &mut named);
        for from in named {
            let name = from.rsplit("::").next().unwrap_or_default();
            found.push((format!("{module}::{name}"), from.clone()));
        }
    }
    found
}

#[test]
fn a_circle_is_found_through_re_exports_and_groups() {
    let root = PathBuf::from("/src");
    let file = |name: &str, text: &str| (root.join(name), text.to_owned());
    let sources = [
        file("room/mod.rs", "mod a;\nmod b;\npub use a::{A, Other};\n"),
        file("room/a.rs", "use super::b::{self, B};\nuse crate::c;\n"),
        file("room/b.rs", "use crate::room::A;\n"),
        file("c.rs", "// use crate::room::b;\nfn c() {}\n#[cfg(test)]\nmod tests { use crate::room::b; }\n"),
    ];
    let circles = Imports::of(&sources, &root).circles();
    assert_eq!(circles, [[root.join("room/a.rs"), root.join("room/b.rs")]]);
}
