//! Parameters that tuples hide: each field of a tuple is a parameter, too. Fields that belong together have a struct with
//! a name.

use std::collections::BTreeMap;

use crate::{PARAMETER_LIMIT, parameter_list, root, signatures, sources};

/// Functions that had more when the rule came: file in `src` and name. They may only become fewer.
const KNOWN: [(&str, &str); 0] = [];

/// Parameters of a signature, fields of tuples counted, `self` not.
fn fields(signature: &str) -> usize {
    parameter_list(signature).iter().map(|parameter| width(kind(parameter))).sum()
}

/// The type of a parameter. The pattern before it may be a tuple with commas and colons of its own.
fn kind(parameter: &str) -> &str {
    let mut depth = 0;
    let bytes = parameter.as_bytes();
    for (at, c) in parameter.char_indices() {
        depth += i32::from("([<{".contains(c)) - i32::from(")]>}".contains(c));
        let doubled = bytes.get(at + 1) == Some(&b':') || at > 0 && bytes[at - 1] == b':';
        if c == ':' && depth == 0 && !doubled {
            return &parameter[at + 1..];
        }
    }
    parameter
}

/// How many values a type is: the fields of a tuple, also behind a reference; 1 for everything else.
fn width(kind: &str) -> usize {
    let mut kind = kind.trim();
    while let Some(rest) = kind.strip_prefix('&') {
        kind = rest.trim_start();
        if kind.starts_with('\'') {
            kind = kind.split_once(' ').map_or("", |(_, rest)| rest);
        }
        kind = kind.strip_prefix("mut ").unwrap_or(kind).trim_start();
    }
    let inside = kind.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    inside.map_or(1, |inside| split(inside).iter().map(|field| width(field)).sum::<usize>().max(1))
}

/// The parts between the commas that are in no bracket.
pub(crate) fn split(list: &str) -> Vec<String> {
    let (mut parts, mut depth, mut before) = (vec![String::new()], 0, ' ');
    for c in list.chars() {
        // The arrow of a closure's type closes nothing.
        depth += i32::from("([<{".contains(c)) - i32::from(")]>}".contains(c) && !(c == '>' && before == '-'));
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            c => parts.last_mut().unwrap().push(c),
        }
        before = c;
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[test]
fn tuples_hide_no_parameters() {
    let mut found: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (path, text) in sources() {
        let file = path.strip_prefix(root().join("src")).unwrap().display().to_string();
        for (name, signature) in signatures(&text) {
            let fields = fields(&signature);
            if fields > PARAMETER_LIMIT {
                found.insert((file.clone(), name), fields);
            }
        }
    }
    let known = KNOWN.map(|(file, name)| (file.to_owned(), name.to_owned()));
    let new = found.iter().filter(|(function, _)| !known.contains(function)).map(|((file, name), fields)| {
        format!("{file}: fn {name} has {fields} parameters, fields of tuples counted; at most {PARAMETER_LIMIT}")
    });
    let gone = known.iter().filter(|function| !found.contains_key(function)).map(|(file, name)| {
        format!("{file}: fn {name} has no more than {PARAMETER_LIMIT}: take it out of KNOWN in tests/tidy/tuples.rs")
    });
    let wrong: Vec<String> = new.chain(gone).collect();
    let list: Vec<String> = found.keys().map(|(file, name)| format!("    (\"{file}\", \"{name}\"),")).collect();
    assert!(wrong.is_empty(), "{}\n\nwhat KNOWN would be, {}:\n{}", wrong.join("\n"), list.len(), list.join("\n"));
}

#[test]
fn the_fields_of_tuples_are_counted() {
    assert_eq!(fields("fn a(&self, b: u8, (c, d): (u8, Vec<(u8, u8)>)) -> u8 {"), 3);
    assert_eq!(fields("fn a(one: &'a mut (u8, (u8, u8)), two: [(u8, u8); 2], three: ()) {"), 5);
    assert_eq!(fields("fn a(f: impl Fn(u8, u8) -> (u8, u8), g: Option<(u8, u8)>) {"), 2);
    assert_eq!(fields("fn a<F: Fn(u8)>(self: Rc<Self>, f: F,    (x, y): (net::Side, HashMap<u8, u8>),) {"), 3);
    assert_eq!(fields("fn a(&mut self) {"), 0);
}
