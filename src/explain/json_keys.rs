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
pub(super) const COST: usize = 24;

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

    /// How many keys there are, and whether all are in that order.
    fn is_in(&self, order: Order) -> (usize, bool) {
        ordered(&self.root, order)
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

fn ordered(node: &JsonNode<'_>, order: Order) -> (usize, bool) {
    let both = |(count, is): (usize, bool), (more, also): (usize, bool)| (count + more, is && also);
    match node {
        JsonNode::Scalar(_) => (0, true),
        JsonNode::Array(items) => items.iter().map(|item| ordered(item, order)).fold((0, true), both),
        JsonNode::Object(members) => {
            let here = members.is_sorted_by(|(one, _), (other, _)| order(one, other).is_le());
            // A key alone is in every order.
            let count = if members.len() > 1 { members.len() } else { 0 };
            members.iter().map(|(_, member)| ordered(member, order)).fold((count, here), both)
        }
    }
}

/// Keys in the order of a library that sorts them.
pub(super) fn orders(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    if !matches!(body.trim_ascii().first(), Some(b'{' | b'[')) || !case.pays(COST) {
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

/// So few keys are in an order by chance.
const FEW: usize = 5;

/// The order in which the keys look sorted, where that says something.
pub(super) fn looks_sorted(body: &[u8]) -> Option<&'static str> {
    let tree = Tree::read(body)?;
    let (count, alphabetical) = tree.is_in(ALPHABETICAL);
    let (_, by_length) = tree.is_in(BY_LENGTH);
    match (count >= FEW, alphabetical, by_length) {
        (true, false, true) => Some("the order of their length, as PostgreSQL's jsonb writes them"),
        (true, true, false) => Some("the order of the alphabet, as maps of Go and sort_keys of Python write them"),
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
        assert!(looks_sorted(br#"{"id":1,"url":2,"name":3,"created":4,"amounts":5}"#).is_none());
        assert!(looks_sorted(br#"{"id":1,"url":2,"name":3,"amount":4,"created":5}"#).unwrap().contains("jsonb"));
        assert!(looks_sorted(br#"{"a":1,"b":2}"#).is_none());
    }
}
