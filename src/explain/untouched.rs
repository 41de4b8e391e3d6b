//! Guesses by the looks of a body, over documents that nothing has changed: the secret is another one, and nothing is wrong
//! with the body. A guess needs evidence, so hardly any of them may look like a mistake.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use super::case::{Seen, TriedCase};
use super::looks::looks_of_body;
use super::report::known;
use super::{Certainty, Given, TrialBudget};
use crate::gate::verify::for_tests::*;

/// Numbers from a seed (xorshift64*), the same in every run.
struct SeededDice(u64);

impl SeededDice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// Names in the order in which people tend to write them: what a thing is first, short ones first.
const KEYS: [&str; 36] = [
    "id",
    "type",
    "object",
    "event",
    "name",
    "url",
    "status",
    "user",
    "email",
    "amount",
    "currency",
    "created",
    "updated",
    "data",
    "items",
    "total",
    "note",
    "ok",
    "ref",
    "action",
    "sender",
    "customer",
    "address",
    "city",
    "zip",
    "country",
    "livemode",
    "metadata",
    "created_at",
    "updated_at",
    "description",
    "reason",
    "attempt",
    "locale",
    "tags",
    "version",
];

/// Texts that have something of a mistake in them, among others.
const TEXTS: [&str; 12] = [
    "Zoë Müller",
    "it's \\\"fine\\\"",
    "status: None",
    "paid: True, sent: False",
    "see [object Object] in the log",
    "https://shop.example/a?b=1&c=%20",
    "a\\nb\\r\\nc",
    "evt_1P0ab",
    "",
    "{not: 'json'}",
    "2026-11-25T20:00:00Z",
    "b'bytes'",
];

fn scalar(dice: &mut SeededDice) -> String {
    match dice.below(9) {
        0 => dice.below(100_000).to_string(),
        1 => format!("{}.{:02}", dice.below(1000), dice.below(100)),
        2 => "true".to_owned(),
        3 => "null".to_owned(),
        // Ids of eighteen and nineteen digits, and round amounts in the smallest unit.
        4 => format!("{}{:010}", 100_000_000 + dice.below(900_000_000), dice.below(1 << 31)),
        5 if dice.below(4) == 0 => format!("{}000000000000000000", 1 + dice.below(9)),
        _ => format!("\"{}\"", dice.of(&TEXTS)),
    }
}

fn value(dice: &mut SeededDice, depth: u64) -> String {
    match dice.below(8) {
        0 | 1 if depth < 3 => object(dice, depth + 1),
        2 if depth < 3 => {
            let (count, seed) = (dice.below(4), dice.below(1 << 30) + 1);
            // Items are alike.
            let items: Vec<String> = (0..count).map(|_| object(&mut SeededDice(seed), depth + 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => scalar(dice),
    }
}

fn object(dice: &mut SeededDice, depth: u64) -> String {
    let count = if depth == 0 { 1 + dice.below(10) } else { dice.below(6) };
    let mut keys: Vec<usize> = Vec::new();
    for _ in 0..count {
        let key = usize::try_from(dice.below(KEYS.len() as u64)).unwrap();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    // Half of the senders write them as a person would.
    if dice.below(2) == 0 {
        keys.sort_unstable();
    }
    let members: Vec<String> = keys.iter().map(|key| format!("\"{}\":{}", KEYS[*key], value(dice, depth))).collect();
    format!("{{{}}}", members.join(","))
}

/// As the sender has spelled it: as JavaScript, as Python, or indented.
fn spelled(dice: &mut SeededDice, compact: &str) -> String {
    let (gap, line) = match dice.below(4) {
        0 | 1 => return compact.to_owned(),
        2 => (" ", ""),
        _ => (" ", "\n  "),
    };
    let (mut out, mut inside, mut escaped) = (String::new(), false, false);
    for character in compact.chars() {
        out.push(character);
        inside ^= character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        match character {
            ':' if !inside => out.push_str(gap),
            ',' if !inside => out.push_str(if line.is_empty() { gap } else { line }),
            '{' if !inside => out.push_str(line),
            _ => {}
        }
    }
    out
}

const DOCUMENTS: u64 = 10_000;

#[test]
fn untouched_documents_hardly_ever_look_like_a_mistake() {
    let (mut guesses, mut example): (BTreeMap<&str, u64>, String) = Default::default();
    for number in 0..DOCUMENTS {
        let mut dice = SeededDice(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
        let compact = object(&mut dice, 0);
        let body = spelled(&mut dice, &compact);
        let (github, request) = (verifier(github(), &[SECRET]), Request::post(body.as_bytes()));
        let budget = TrialBudget::of(body.len());
        let secrets = [("k0".to_owned(), SECRET.as_bytes().to_vec().into())];
        let given = Given::alone(&github, &secrets, now(), &budget);
        let known = known(&given, github.scheme().unwrap());
        let Some(finding) = looks_of_body(TriedCase::of(&known, Seen::of(&request))) else { continue };
        assert_eq!(finding.certainty(), Certainty::Looks, "{body}: {finding}");
        example = format!("{finding}: {body}");
        *guesses.entry(finding.mistake.code()).or_insert(0) += 1;
    }
    let all: u64 = guesses.values().sum();
    assert!(all * 50 <= DOCUMENTS, "more than 2 % of {DOCUMENTS}: {guesses:?}, the last of them {example}");
}
