//! One configuration file: its parsed text, its lines, and what has been found wrong with it.

use core::cell::RefCell;
use core::ops::Range;
use std::collections::BTreeSet;
use std::sync::Arc;

use toml::de::DeTable;

use crate::config::hints::other_format;
use crate::config::problem::{Place, Problems};
use crate::config::units;

/// No configuration is longer than this, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// In longer lines, in bytes, columns are counted in bytes: counting characters would take long.
const LONG_LINE: usize = 2000;

/// So many mistakes of grammar are reported: one of them often causes the next.
const MAX_SYNTAX_PROBLEMS: usize = 10;

/// One parsed file and what has been found wrong with it.
#[derive(Debug)]
pub struct Document<'t> {
    file: Arc<str>,
    text: &'t str,
    /// Offset of the first byte of each line.
    lines: Vec<usize>,
    root: DeTable<'t>,
    problems: RefCell<Problems>,
    vocabulary: RefCell<BTreeSet<String>>,
}

impl<'t> Document<'t> {
    /// Parses the text of a file. `file` is only a name, for messages.
    ///
    /// # Errors
    /// The mistakes of TOML grammar. Such a file is not looked at any further: what a broken table means would be a
    /// guess.
    pub fn parse(file: &str, text: &'t str) -> Result<Self, Problems> {
        let lines = core::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let file: Arc<str> = file.into();
        let mut problems = Problems::default();
        if text.len() > MAX_TEXT {
            let message = format!("the file has {} bytes, more than {}", text.len(), units::show_size(MAX_TEXT as u64));
            problems.error(Place::file(&file), message, "is this the right file?");
            return Err(problems);
        }
        let (root, errors) = DeTable::parse_recoverable(text);
        let document = Self {
            file,
            text,
            lines,
            root: root.into_inner(),
            problems: RefCell::default(),
            vocabulary: RefCell::default(),
        };
        if let Some(format) = other_format(text).filter(|_| !errors.is_empty()) {
            let first = document.text.len() - document.text.trim_start().len();
            let message = format!("this is {format}, and countersign reads TOML");
            let fix =
                "write tables and values as in config/example.toml; `countersign init` writes a file to begin with";
            problems.error(document.place(first..first, String::new()), message, fix);
            return Err(problems);
        }
        for error in errors.iter().take(MAX_SYNTAX_PROBLEMS) {
            let place = document.place(error.span().unwrap_or_default(), String::new());
            problems.error(
                place,
                format!("not TOML: {}", error.message()),
                "correct the TOML here; see https://toml.io",
            );
        }
        if problems.is_empty() { Ok(document) } else { Err(problems) }
    }

    /// The table of the whole document.
    pub(super) const fn table(&self) -> &DeTable<'t> {
        &self.root
    }

    /// Notes something that is wrong with this document.
    pub(super) fn report(&self, note: impl FnOnce(&mut Problems)) {
        note(&mut self.problems.borrow_mut());
    }

    /// Notes that a key was asked for.
    pub(super) fn asked(&self, key_path: &str) {
        let without_positions = |part: &str| part.split_once('[').map_or(part, |(name, _)| name).to_owned();
        let path: Vec<String> = key_path.split('.').map(without_positions).collect();
        self.vocabulary.borrow_mut().insert(path.join("."));
    }

    /// Every key that was asked for so far, with its path but without positions: `route.secrets.file`.
    #[must_use]
    pub fn vocabulary(&self) -> BTreeSet<String> {
        self.vocabulary.borrow().clone()
    }

    /// What has been found wrong so far.
    #[must_use]
    pub fn into_problems(self) -> Problems {
        self.problems.into_inner()
    }

    pub(super) fn place(&self, span: Range<usize>, key_path: String) -> Place {
        let line = self.lines.partition_point(|start| *start <= span.start).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let column = match self.text.get(start..span.start) {
            Some(before) if before.len() < LONG_LINE => before.chars().count() + 1,
            _ => span.start.saturating_sub(start) + 1,
        };
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place { file: Arc::clone(&self.file), line: number(line), column: number(column), key_path }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn first_place(text: &str) -> (u32, u32) {
        let problems = Document::parse("test.toml", text).unwrap_err();
        let first = problems.iter().next().unwrap();
        (first.place.line, first.place.column)
    }

    #[test]
    fn broken_toml_is_a_problem_with_a_line() {
        assert_eq!(first_place("a = 1\nb = \nc = 3\n"), (2, 5));
        assert_eq!(first_place("a = 1\na = 2\n"), (2, 1));
        assert_eq!(first_place("a = 'ö' ö"), (1, 9));
    }

    #[test]
    fn a_huge_text_is_not_parsed() {
        let problems = Document::parse("test.toml", &"#".repeat(MAX_TEXT + 1)).unwrap_err();
        assert!(problems.to_string().contains("more than 1MiB"), "{problems}");
    }

    #[test]
    fn deep_nesting_is_refused_and_not_walked() {
        for text in ["[".repeat(100_000), format!("a = {}", "[".repeat(100_000)), "a.".repeat(100_000) + "a = 1"] {
            assert!(Document::parse("test.toml", &text).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(?s)[-a-z0-9_.=\\[\\]{}\"' \n,#é]*") {
            let _ = Document::parse("test.toml", &text);
        }
    }
}
