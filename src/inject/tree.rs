//! A YAML or JSON text as a tree of nodes that know where they stand, so that the text can be edited in place and all that is
//! not concerned (comments, order, quotes) stays as it is.

use core::fmt;
use core::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

/// Deeper documents are refused.
const DEPTH: usize = 64;

/// A node, and the bytes of the text that it takes.
#[derive(Clone, Debug)]
pub struct Node {
    /// From the first byte to behind the last one. Of a block collection: from its first key or behind its first dash.
    pub range: Range<usize>,
    /// What it is.
    pub kind: NodeKind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// A scalar, without its quotes.
    Scalar {
        /// Its text.
        text: String,
        /// Whether it has no quotes, so that it may be a number, a truth value or null.
        is_plain: bool,
    },
    /// A mapping.
    Map {
        /// Whether it is written in braces.
        is_flow: bool,
        /// Keys and values, in order.
        entries: Vec<(Node, Node)>,
    },
    /// A sequence.
    List {
        /// Whether it is written in brackets.
        is_flow: bool,
        /// The items, in order.
        items: Vec<Node>,
    },
    /// A reference to another node (`*name`): not followed.
    Alias,
}

/// A document of a text.
#[derive(Clone, Debug)]
pub struct YamlDocument {
    /// Where it begins: at its `---` if it has one.
    pub start: usize,
    /// What is in it; nothing for an empty one.
    pub root: Option<Node>,
}

/// The text is not YAML.
#[derive(Debug)]
pub struct NotYaml(String);

impl fmt::Display for NotYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads all documents of a text.
///
/// # Errors
/// [`NotYaml`], with line and column.
pub fn parse(text: &str) -> Result<Vec<YamlDocument>, NotYaml> {
    let mut reader = TreeReader { parser: Parser::new_from_str(text), text, offsets: offsets(text) };
    let mut documents = Vec::new();
    loop {
        let (event, range) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(documents),
            Event::DocumentStart(_) => {
                let (event, start_of_root) = reader.next()?;
                let root = match event {
                    Event::DocumentEnd => None,
                    event => Some(reader.node(event, start_of_root, 0)?),
                };
                documents.push(YamlDocument { start: range.start, root });
            }
            _ => {}
        }
    }
}

/// Whether a text is JSON, which is YAML, too.
#[must_use]
pub fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// The byte offset of each character; nothing where they are the same.
fn offsets(text: &str) -> Option<Vec<usize>> {
    (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).chain([text.len()]).collect())
}

struct TreeReader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    text: &'t str,
    offsets: Option<Vec<usize>>,
}

impl<'t> TreeReader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Range<usize>), NotYaml> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.bytes(span))),
            Some(Err(error)) => Err(NotYaml(error.to_string())),
            None => Ok((Event::StreamEnd, self.text.len()..self.text.len())),
        }
    }

    fn bytes(&self, span: Span) -> Range<usize> {
        let at = |index: usize| match &self.offsets {
            Some(offsets) => offsets.get(index).copied().unwrap_or(self.text.len()),
            None => index.min(self.text.len()),
        };
        at(span.start.index())..at(span.end.index())
    }

    /// The node that begins with this event.
    fn node(&mut self, event: Event<'t>, range: Range<usize>, depth: usize) -> Result<Node, NotYaml> {
        if depth > DEPTH {
            return Err(NotYaml(format!("nodes are nested more than {DEPTH} deep")));
        }
        match event {
            Event::Scalar(text, style, _, _) => {
                let is_plain = style == ScalarStyle::Plain;
                let kind = NodeKind::Scalar { text: text.into_owned(), is_plain };
                Ok(Node { range: self.trimmed(range), kind })
            }
            Event::MappingStart(..) => self.map(range, depth),
            Event::SequenceStart(..) => self.list(range, depth),
            _ => Ok(Node { range, kind: NodeKind::Alias }),
        }
    }

    fn map(&mut self, range: Range<usize>, depth: usize) -> Result<Node, NotYaml> {
        let (is_flow, mut entries) = (self.is_flow(&range), Vec::new());
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                let last = entries.last().map(|(key, value): &(Node, Node)| value.range.end.max(key.range.end));
                let end = if is_flow { self.trimmed(at).end } else { last.unwrap_or(range.start) };
                return Ok(Node { range: range.start..end, kind: NodeKind::Map { is_flow, entries } });
            }
            let key = self.node(event, at, depth + 1)?;
            let (event, at) = self.next()?;
            entries.push((key, self.node(event, at, depth + 1)?));
        }
    }

    fn list(&mut self, range: Range<usize>, depth: usize) -> Result<Node, NotYaml> {
        let (is_flow, mut items) = (self.is_flow(&range), Vec::new());
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                let last = items.last().map(|item: &Node| item.range.end);
                let end = if is_flow { self.trimmed(at).end } else { last.unwrap_or(range.start) };
                return Ok(Node { range: range.start..end, kind: NodeKind::List { is_flow, items } });
            }
            items.push(self.node(event, at, depth + 1)?);
        }
    }

    /// Only the start of a collection in brackets takes bytes: the bracket, and white space behind it.
    fn is_flow(&self, range: &Range<usize>) -> bool {
        self.text.get(range.clone()).is_some_and(|text| text.starts_with(['{', '[']))
    }

    /// The parser counts white space behind a scalar or a bracket as part of it.
    fn trimmed(&self, range: Range<usize>) -> Range<usize> {
        let text = self.text.get(range.clone()).unwrap_or_default();
        range.start..range.start + text.trim_end().len()
    }
}

impl Node {
    /// The entry of a mapping with this key: its position, and its value.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<(usize, &Self)> {
        let NodeKind::Map { entries, .. } = &self.kind else { return None };
        entries.iter().enumerate().find(|(_, (name, _))| name.text() == Some(key)).map(|(at, (_, value))| (at, value))
    }

    /// The value of this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, value)| value)
    }

    /// The value at the end of a path of keys.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The text of a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The items of a sequence.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.kind {
            NodeKind::List { items, .. } => items,
            _ => &[],
        }
    }

    /// Keys and values of a mapping whose keys and values are scalars.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries: &[(Self, Self)] = match &self.kind {
            NodeKind::Map { entries, .. } => entries,
            _ => &[],
        };
        entries.iter().filter_map(|(key, value)| Some((key.text()?, value.text()?)))
    }

    /// How many entries or items a collection has; 1 for what is no collection.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.kind {
            NodeKind::Map { entries, .. } => entries.len(),
            NodeKind::List { items, .. } => items.len(),
            NodeKind::Scalar { .. } | NodeKind::Alias => 1,
        }
    }

    /// Whether it is a collection without anything in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nodes_know_where_they_stand() {
        let text =
            "# ü\nspec:\n  list:\n  - name: a # x\n    v: 'q'  \n  f: {a: [1, 2], \"b\": {}}\n---\nb: |\n  x\n\n";
        let documents = parse(text).unwrap();
        let root = documents[0].root.as_ref().unwrap();
        let of = |node: &Node| text.get(node.range.clone()).unwrap().to_owned();
        assert_eq!(of(root.at(&["spec", "list"]).unwrap()), "name: a # x\n    v: 'q'");
        assert_eq!(of(root.at(&["spec", "list"]).unwrap().items()[0].get("v").unwrap()), "'q'");
        assert_eq!(of(root.at(&["spec", "f"]).unwrap()), "{a: [1, 2], \"b\": {}}");
        assert!(root.at(&["spec", "f", "b"]).unwrap().is_empty());
        assert_eq!(text.get(documents[1].start..documents[1].start + 3), Some("---"));
        assert_eq!(of(documents[1].root.as_ref().unwrap().get("b").unwrap()), "|\n  x".get(4..).unwrap());
    }

    #[test]
    fn what_is_not_yaml_is_refused() {
        assert!(parse("a: [1").is_err() && parse("a: b: c").is_err());
        assert!(parse(&"[".repeat(1000)).is_err());
        assert!(parse("").unwrap().is_empty());
    }
}
