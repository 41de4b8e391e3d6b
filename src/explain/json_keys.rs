//! Orders in which libraries write the keys of JSON objects. Numbers and strings stay as they are written.

use super::case::{TriedCase, Visit};
use super::json_spelling;
use super::mistake::Mistake;

/// A value of JSON, with its scalars as they are written.
#[derive(Debug)]
enum JsonNode<'t> {
    Scalar(&'t [u8]),
    Array(Vec<Self>),
    /// Keys with their quotes.
    Object(Vec<(&'t [u8], Self)>),
}

/// A document.
#[derive(Debug)]
pub(super) struct Tree<'t> {
    root: JsonNode<'t>,
    members: Vec<(&'t [u8], &'t [u8])>,
}

/// No document that people write nests deeper.
const DEEPEST: usize = 64;

/// A document in memory is so many times as long as its text, at most.
const COST: usize = 24;

/// A document that is longer is not read: it could take so many times the memory.
const LONGEST: usize = 8 << 20;

/// Takes what it costs to read the body of a case as a document; false where that is too much.
pub(super) fn pays(case: TriedCase<'_>) -> bool {
    let body = case.seen.body;
    if body.len() > LONGEST {
        case.known.budget.refuse();
        return false;
    }
    case.known.budget.spend(body.len().saturating_mul(COST))
}

struct MemberReader<'t> {
    text: &'t [u8],
    at: usize,
    /// The members of the outermost object, as they are written.
    members: Vec<(&'t [u8], &'t [u8])>,
}

impl<'t> MemberReader<'t> {
    fn space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn takes(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn string(&mut self) -> Option<&'t [u8]> {
        let start = self.at;
        if !self.takes(b'"') {
            return None;
        }
        let start = start.max(self.at - 1);
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => return self.text.get(start..self.at),
                b'\\' => self.at += 1,
                _ => {}
            }
        }
        None
    }

    fn value(&mut self, depth: usize) -> Option<JsonNode<'t>> {
        self.space();
        match self.peek()? {
            b'{' if depth < DEEPEST => self.object(depth),
            b'[' if depth < DEEPEST => {
                self.at += 1;
                let mut items = Vec::new();
                if self.takes(b']') {
                    return Some(JsonNode::Array(items));
                }
                loop {
                    items.push(self.value(depth + 1)?);
                    if self.takes(b']') {
                        return Some(JsonNode::Array(items));
                    }
                    if !self.takes(b',') {
                        return None;
                    }
                }
            }
            b'{' | b'[' => None,
            b'"' => self.string().map(JsonNode::Scalar),
            _ => {
                let rest = self.text.get(self.at..)?;
                let end = rest.iter().position(|byte| b",]} \t\r\n".contains(byte)).unwrap_or(rest.len());
                self.at += end;
                rest.get(..end).filter(|scalar| !scalar.is_empty()).map(JsonNode::Scalar)
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<JsonNode<'t>> {
        self.at += 1;
        let mut members = Vec::new();
        if self.takes(b'}') {
            return Some(JsonNode::Object(members));
        }
        loop {
            self.space();
            let key = self.string()?;
            if !self.takes(b':') {
                return None;
            }
            self.space();
            let start = self.at;
            members.push((key, self.value(depth + 1)?));
            if depth == 0 {
                self.members.push((key, self.text.get(start..self.at)?));
            }
            if self.takes(b'}') {
                return Some(JsonNode::Object(members));
            }
            if !self.takes(b',') {
                return None;
            }
        }
    }
}

/// How an order compares two keys.
type Order = fn(&[u8], &[u8]) -> core::cmp::Ordering;

const ALPHABETICAL: Order = |one, other| one.cmp(other);
/// Of PostgreSQL's `jsonb`: the shorter first.
const BY_LENGTH: Order = |one, other| one.len().cmp(&other.len()).then_with(|| one.cmp(other));

impl<'t> Tree<'t> {
    /// Reads a document; nothing for what is none, or nests too deep.
    pub(super) fn read(text: &'t [u8]) -> Option<Self> {
        let mut reader = MemberReader { text, at: 0, members: Vec::new() };
        let root = reader.value(0)?;
        reader.space();
        (reader.at == text.len()).then_some(Self { root, members: reader.members })
    }

    /// A member of the outermost object, as it is written.
    pub(super) fn member(&self, name: &str) -> Option<&'t [u8]> {
        let is_it =
            |key: &&[u8]| key.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")) == Some(name.as_bytes());
        self.members.iter().find(|(key, _)| is_it(key)).map(|(_, value)| *value)
    }

    fn sorted(&mut self, order: Order) -> Vec<u8> {
        sort(&mut self.root, order);
        let mut out = Vec::new();
        write(&self.root, &mut out);
        out
    }
}

fn sort(node: &mut JsonNode<'_>, order: Order) {
    match node {
        JsonNode::Scalar(_) => {}
        JsonNode::Array(items) => items.iter_mut().for_each(|item| sort(item, order)),
        JsonNode::Object(members) => {
            members.sort_by(|(one, _), (other, _)| order(one, other));
            members.iter_mut().for_each(|(_, member)| sort(member, order));
        }
    }
}

fn write(node: &JsonNode<'_>, out: &mut Vec<u8>) {
    match node {
        JsonNode::Scalar(text) => out.extend_from_slice(text),
        JsonNode::Array(items) => {
            out.push(b'[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        JsonNode::Object(members) => {
            out.push(b'{');
            for (number, (key, member)) in members.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(key);
                out.push(b':');
                write(member, out);
            }
            out.push(b'}');
        }
    }
}

/// The keys of an object, as a shape: objects of one shape have their order by one cause.
type KeyList<'t> = Vec<&'t [u8]>;

/// Collects the distinct shapes of a document; false where the keys of an object are not in that order.
fn shapes<'t>(node: &JsonNode<'t>, order: Order, found: &mut Vec<KeyList<'t>>) -> bool {
    match node {
        JsonNode::Scalar(_) => true,
        JsonNode::Array(items) => items.iter().all(|item| shapes(item, order, found)),
        JsonNode::Object(members) => {
            let keys: KeyList<'t> = members.iter().map(|(key, _)| *key).collect();
            if !keys.is_sorted_by(|one, other| order(one, other).is_lt()) {
                return false;
            }
            // What is an object of a known shape says nothing new, and so many shapes say enough.
            if keys.len() > 1 && found.len() < SHAPES && !found.contains(&keys) {
                found.push(keys);
            }
            members.iter().all(|(_, member)| shapes(member, order, found))
        }
    }
}

/// Keys in the order of a library that sorts them.
pub(super) fn orders(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    if !matches!(body.trim_ascii().first(), Some(b'{' | b'[')) || !pays(case) {
        return false;
    }
    let Some(mut tree) = Tree::read(body) else { return false };
    for (order, what) in [(ALPHABETICAL, "of the alphabet"), (BY_LENGTH, "of their length (jsonb)")] {
        let sorted = tree.sorted(order);
        if !case.known.budget.charge(sorted.len()) {
            return false;
        }
        let mut named = |case: TriedCase<'_>| visit(case, Mistake::JsonKeys, &[what]);
        if sorted != body && named(case.with_body(&sorted)) {
            return true;
        }
        if json_spelling::spellings(case.with_body(&sorted), &mut |case, _, _| named(case)) {
            return true;
        }
    }
    false
}

/// An order says something where only one of so many documents with the same keys has it by chance: six keys of one object,
/// or as much in several.
const UNLIKELY: f64 = 700.0;

/// No more different objects of a document are looked at.
const SHAPES: usize = 16;

/// In how many orders keys can stand, of all shapes together.
fn orders_of(shapes: &[KeyList<'_>]) -> f64 {
    shapes.iter().map(|keys| (1..=keys.len()).map(|it| it as f64).product::<f64>()).product()
}

/// The order in which the keys look sorted, where that is improbable by chance.
pub(super) fn looks_sorted(body: &[u8]) -> Option<String> {
    let tree = Tree::read(body)?;
    let count_in = |order: Order| {
        let mut found = Vec::new();
        let sorted = shapes(&tree.root, order, &mut found);
        (sorted && orders_of(&found) >= UNLIKELY).then(|| found.iter().map(Vec::len).sum::<usize>())
    };
    match (count_in(ALPHABETICAL), count_in(BY_LENGTH)) {
        // People name what is important first, and shortly: only the white space of PostgreSQL tells that from jsonb.
        (None, Some(count)) if json_spelling::laid_out(body, b" ") == body => {
            Some(format!("all {count} JSON keys are in the order of their length, as PostgreSQL's jsonb writes them"))
        }
        (Some(count), None) => Some(format!(
            "all {count} JSON keys are in the order of the alphabet, as maps of Go and sort_keys of Python write them"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_sorted_and_everything_else_stays() {
        let text = br#"{"bb": [1.0, {"d":"\u00e4","c":1e3}], "a" : {"z":null,"y":{}}}"#;
        let mut tree = Tree::read(text).unwrap();
        assert_eq!(tree.member("bb"), Some(&br#"[1.0, {"d":"\u00e4","c":1e3}]"#[..]));
        let sorted = br#"{"a":{"y":{},"z":null},"bb":[1.0,{"c":1e3,"d":"\u00e4"}]}"#;
        assert_eq!(tree.sorted(ALPHABETICAL), sorted);
        for text in ["", "{", "[1,]", "{\"a\"}", "\"", "[1 2]", "{\"a\":1}x", &"[".repeat(1000)] {
            assert!(Tree::read(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn only_many_keys_in_an_order_say_something() {
        let by_length = r#"{"id": 1, "url": 2, "name": 3, "amount": 4, "created": 5, "customer": 6}"#;
        assert!(looks_sorted(by_length.as_bytes()).unwrap().contains("jsonb"));
        // As a person would order them, and JavaScript writes them.
        assert!(looks_sorted(by_length.replace(' ', "").as_bytes()).is_none());
        assert!(looks_sorted(br#"{"a":1,"b":2}"#).is_none());
        assert!(looks_sorted(br#"{"a":1,"b":2,"c":3,"d":4,"e":5}"#).is_none());
        assert!(looks_sorted(br#"{"x":1,"y":{"aa":1,"b":2,"c":3},"z":{"d":1,"ee":2,"f":[]}}"#).is_none());
        assert!(looks_sorted(br#"{"aa":1,"b":2,"c":3,"d":4,"e":5,"f":6}"#).unwrap().contains("alphabet"));
        // Many objects of one shape are ordered by one cause.
        let items = vec![r#"{"amount":1,"id":2,"on":3}"#; 50].join(",");
        assert!(looks_sorted(format!("[{items}]").as_bytes()).is_none());
    }
}
