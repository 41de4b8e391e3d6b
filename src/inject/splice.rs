//! Changes of a text in places that do not overlap, made together.
//!
//! What is added to a collection becomes its first entry. There the place is exact, whatever comments stand around, and
//! taking it out again restores the text byte for byte.

use core::ops::Range;

use super::shape::ManifestValue;
use super::tree::{Node, NodeKind};

/// Changes that are to be made.
#[derive(Debug, Default)]
pub(super) struct Splices {
    list: Vec<(Range<usize>, String)>,
}

/// The text does not have the form that can be edited.
#[derive(Debug)]
pub struct OddForm(pub(super) String);

impl Splices {
    /// Replaces a scalar.
    pub(super) fn replace(&mut self, node: &Node, with: &str) {
        self.list.push((node.range.clone(), with.to_owned()));
    }

    /// Inserts at a byte of the text.
    pub(super) fn insert(&mut self, at: usize, text: String) {
        self.list.push((at..at, text));
    }

    /// Removes bytes of the text.
    pub(super) fn remove(&mut self, range: Range<usize>) {
        self.list.push((range, String::new()));
    }

    /// Adds entries before the first of a mapping.
    ///
    /// # Errors
    /// [`OddForm`]: it is not a mapping.
    pub(super) fn add_entries(
        &mut self,
        text: &str,
        map: &Node,
        entries: &[(&str, ManifestValue)],
    ) -> Result<(), OddForm> {
        let NodeKind::Map { is_flow, entries: present } = &map.kind else {
            return Err(OddForm(format!(
                "{}: a mapping is expected, in braces where it is empty ({{}})",
                place(text, map)
            )));
        };
        if *is_flow {
            let added: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", super::shape::quoted(key), value.flow())).collect();
            self.insert_flow(map, present.first().map(|(key, _)| key), &added);
        } else {
            let column = column(text, map.range.start);
            let margin = format!("\n{}", " ".repeat(column));
            let added = entries.iter().map(|(key, value)| format!("{key}:{}{margin}", value.behind_key(column)));
            self.insert(map.range.start, added.collect());
        }
        Ok(())
    }

    /// Adds items before the first of a sequence.
    ///
    /// # Errors
    /// [`OddForm`]: it is not a sequence.
    pub(super) fn add_items(&mut self, text: &str, list: &Node, added: &[ManifestValue]) -> Result<(), OddForm> {
        let NodeKind::List { is_flow, items } = &list.kind else {
            return Err(OddForm(format!(
                "{}: a sequence is expected, in brackets where it is empty ([])",
                place(text, list)
            )));
        };
        if *is_flow {
            let added: Vec<String> = added.iter().map(ManifestValue::flow).collect();
            self.insert_flow(list, items.first(), &added);
            return Ok(());
        }
        let dash = items.first().and_then(|item| dash_of(text, item));
        let dash =
            dash.ok_or_else(|| OddForm(format!("{}: the dash of this item is not before it", place(text, list))))?;
        let column = column(text, dash);
        let margin = format!("\n{}", " ".repeat(column));
        let lines = added.iter().map(|item| format!("- {}{margin}", item.lines(column + 2)));
        self.insert(dash, lines.collect());
        Ok(())
    }

    /// Inserts into a collection in brackets: before its first entry, or alone.
    fn insert_flow(&mut self, collection: &Node, first: Option<&Node>, added: &[String]) {
        let added = added.join(", ");
        match first {
            Some(first) => self.insert(first.range.start, added + ", "),
            None => self.insert(collection.range.start + 1, added),
        }
    }

    /// Takes the entry at this position out of a mapping that has others.
    pub(super) fn take_entry(&mut self, text: &str, map: &Node, position: usize) {
        let NodeKind::Map { is_flow, entries } = &map.kind else { return };
        let whole = |(key, value): &(Node, Node)| key.range.start..value.range.end.max(key.range.end);
        let ranges: Vec<Range<usize>> = entries.iter().map(whole).collect();
        self.take(text, &ranges, position, *is_flow);
    }

    /// Takes the item at this position out of a sequence that has others.
    pub(super) fn take_item(&mut self, text: &str, list: &Node, position: usize) {
        let NodeKind::List { is_flow, items } = &list.kind else { return };
        let start =
            |item: &Node| if *is_flow { item.range.start } else { dash_of(text, item).unwrap_or(item.range.start) };
        let ranges: Vec<Range<usize>> = items.iter().map(|item| start(item)..item.range.end).collect();
        self.take(text, &ranges, position, *is_flow);
    }

    fn take(&mut self, text: &str, ranges: &[Range<usize>], position: usize, is_flow: bool) {
        let Some(range) = ranges.get(position) else { return };
        let (next, before) = (ranges.get(position + 1), position.checked_sub(1).and_then(|at| ranges.get(at)));
        match (is_flow, next, before) {
            (true, Some(next), _) => self.remove(range.start..next.start),
            (true, None, Some(before)) => self.remove(before.end..range.end),
            (true, None, None) => self.remove(range.clone()),
            (false, Some(_), _) => {
                // To the end of its last line, and the margin of the next: as it was put in. Comments behind it stay.
                let end = line_end(text, range.end);
                let margin = column(text, range.start).min(blanks(text, end));
                self.remove(range.start..end + margin);
            }
            (false, None, _) => self.remove(line_start(text, range.start)..line_end(text, range.end)),
        }
    }

    /// The text with all changes made.
    #[must_use]
    pub(super) fn apply(mut self, text: &str) -> String {
        self.list.sort_by_key(|(range, _)| (range.start, range.end));
        let (mut out, mut at) = (String::with_capacity(text.len()), 0);
        for (range, with) in self.list {
            out.push_str(text.get(at..range.start).unwrap_or_default());
            out.push_str(&with);
            at = at.max(range.end);
        }
        out.push_str(text.get(at..).unwrap_or_default());
        out
    }
}

/// Where the dash of an item in lines is: before it, with nothing but blanks between.
fn dash_of(text: &str, item: &Node) -> Option<usize> {
    let before = text.get(..item.range.start)?.trim_end();
    before.ends_with('-').then(|| before.len() - 1)
}

/// Bytes from the beginning of the line.
fn column(text: &str, at: usize) -> usize {
    at - line_start(text, at)
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1)
}

/// Behind the end of the line.
fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |end| at + end + 1)
}

/// How many blanks there are from here on.
fn blanks(text: &str, at: usize) -> usize {
    text.get(at..).unwrap_or_default().bytes().take_while(|byte| *byte == b' ').count()
}

/// For messages.
fn place(text: &str, node: &Node) -> String {
    let line = text.get(..node.range.start).unwrap_or_default().matches('\n').count() + 1;
    format!("line {line}")
}
