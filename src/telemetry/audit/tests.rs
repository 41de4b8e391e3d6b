//! A trail is whole, or its first flaw is found.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use core::time::Duration;

use proptest::prelude::*;

use super::chain::Line;
use super::record::{change, seal};
use super::*;
use crate::outcome::{Fault, Outcome, Rejection};
use crate::telemetry::line::Stamp;

const SEAL_EVERY: usize = 100;

fn keys() -> Vec<SealKey> {
    vec![SealKey::new("2026-11", b"the key that is kept elsewhere")]
}

/// A trail behind `last` about entries with these texts, sealed now and then.
fn trail(last: Link, texts: &[String]) -> (Vec<u8>, Chain) {
    let (mut out, mut chain, mut stamp) = (Vec::new(), Chain::behind(last), Stamp::default());
    for (position, text) in texts.iter().enumerate() {
        let unix = Duration::from_millis(1_760_000_000_000 + position as u64);
        let mut entry = Vec::new();
        change(&mut entry, &Change::Secret { route: text, key_id: "k", step: Step::Added("0") }, &mut stamp, unix);
        chain.append(&mut out, &entry);
        if position % SEAL_EVERY == SEAL_EVERY - 1 {
            let mut entry = Vec::new();
            seal(&mut entry, &keys()[0], chain.last(), (&mut stamp, unix));
            chain.append(&mut out, &entry);
        }
    }
    (out, chain)
}

/// What is proven of a trail, or in which of its lines the first flaw is.
fn examine(trail: &[u8], keys: &[SealKey]) -> Result<Summary, (usize, Flaw)> {
    let mut examiner = Examiner::new(keys);
    let whole = trail.strip_suffix(b"\n").ok_or((usize::MAX, Flaw::Torn))?;
    for (position, line) in whole.split(|byte| *byte == b'\n').enumerate() {
        examiner.line(line).map_err(|flaw| (position, flaw))?;
    }
    Ok(examiner.summary().unwrap())
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("route-{number}")).collect()
}

#[test]
fn a_trail_that_was_not_touched_is_proven() {
    let (bytes, chain) = trail(Link::NONE, &texts(250));
    let summary = examine(&bytes, &keys()).unwrap();
    let expected =
        Summary { first: 1, records: 252, last: chain.last(), seals: 2, unknown_seals: 0, sealed: Some(202) };
    assert_eq!(summary, expected);
    assert_eq!(Link::parse(&chain.last().to_string()), Some(chain.last()));
    let (more, _) = trail(chain.last(), &texts(3));
    assert_eq!(examine(&[bytes, more.clone()].concat(), &[]).map(|it| (it.records, it.unknown_seals)), Ok((255, 2)));
    assert_eq!(examine(&more, &[]).map(|it| (it.first, it.records)), Ok((253, 3)));
    for line in more.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert!(serde_json::from_slice::<serde_json::Value>(line).is_ok());
    }
}

#[test]
fn another_key_makes_no_seal() {
    let (bytes, _) = trail(Link::NONE, &texts(100));
    let forged = [SealKey::new("2026-11", b"another key")];
    assert_eq!(examine(&bytes, &forged), Err((100, Flaw::Seal)));
    // Whoever makes all lines anew, but has no key, cannot make the seal.
    let (copied, _) = trail(Link::NONE, &[vec!["another".to_owned()], texts(100)].concat());
    let (old, new): (Vec<&[u8]>, Vec<&[u8]>) =
        (bytes.split(|b| *b == b'\n').collect(), copied.split(|b| *b == b'\n').collect());
    let seal_of_old = Line::parse(old[100]).unwrap().entry;
    let mut chain = Chain::behind(Link::NONE);
    let mut made_anew = Vec::new();
    for line in new[..100].iter().copied() {
        chain.append(&mut made_anew, Line::parse(line).unwrap().entry);
    }
    chain.append(&mut made_anew, seal_of_old);
    assert_eq!(examine(&made_anew, &[]).map(|it| it.records), Ok(101));
    assert_eq!(examine(&made_anew, &keys()), Err((100, Flaw::Seal)));
}

/// One byte of a trail of ten thousand lines is changed, in a thousand seeded ways: always seen. The lines in front of
/// it are what they were, so that examining them again from the start would only repeat the first test; each trial
/// begins a few lines before.
#[test]
fn any_byte_that_is_changed_is_seen() {
    const TRIALS: u64 = 1000;
    let (bytes, _) = trail(Link::NONE, &texts(10_000));
    assert!(examine(&bytes, &keys()).is_ok());
    let mut random = 0x5eed_u64;
    for trial in 0..TRIALS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (random >> 33) as usize % bytes.len();
        let flip = ((random >> 20) as u8).max(1);
        let before = bytes[..at].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(3);
        let start = before.map_or(0, |(position, _)| position + 1);
        let end = (at + 4096).min(bytes.len());
        let end = bytes[..end].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        let mut part = bytes[start..end.max(at + 1)].to_vec();
        assert!(examine(&part, &keys()).is_ok());
        part[at - start] ^= flip;
        let found = examine(&part, &keys());
        assert!(found.is_err(), "trial {trial}: byte {at} ^ {flip:#x}");
        if trial % 100 == 0 {
            let mut whole = bytes.clone();
            whole[at] ^= flip;
            assert!(examine(&whole, &keys()).is_err());
        }
    }
}

#[test]
fn what_has_no_line_has_a_number() {
    let (mut tally, mut other) = (Tally::default(), Tally::default());
    tally.count(Rejection::SignatureMismatch.into());
    other.count(Rejection::SignatureMismatch.into());
    other.count(Fault::HeadTimeout.into());
    other.count(Outcome::Forwarded { status: 200 });
    tally.add(&other);
    let mut out = Vec::new();
    tally.write(&mut out, "rate", (&mut Stamp::default(), Duration::ZERO));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"unrecorded\",\"why\":\"rate\",\"count\":4,\
         \"reasons\":{\"signature_mismatch\":2,\"head_timeout\":1,\"forwarded\":1}"
    );
}

#[test]
fn fingerprints_tell_secrets_apart_and_nothing_more() {
    let key = &keys()[0];
    assert_eq!(key.fingerprint(b"secret"), key.fingerprint(b"secret"));
    assert_ne!(key.fingerprint(b"secret"), key.fingerprint(b"secret2"));
    assert_ne!(key.fingerprint(b"secret"), SealKey::new("2026-11", b"another").fingerprint(b"secret"));
    assert_eq!(key.fingerprint(b"").len(), 16);
    assert!(!format!("{key:?}").contains("elsewhere"));
}

/// What somebody may do to the lines of a trail.
#[derive(Clone, Debug)]
enum Tampering {
    Remove(usize),
    Repeat(usize),
    Swap(usize),
    Replace(usize, usize, u8),
    Insert(usize, u8),
    CutFront(usize),
}

fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        any::<usize>().prop_map(Tampering::Remove),
        any::<usize>().prop_map(Tampering::Repeat),
        any::<usize>().prop_map(Tampering::Swap),
        any::<(usize, usize, u8)>().prop_map(|(line, at, flip)| Tampering::Replace(line, at, flip.max(1))),
        any::<(usize, u8)>().prop_map(|(at, byte)| Tampering::Insert(at, byte)),
        any::<usize>().prop_map(Tampering::CutFront),
    ]
}

proptest! {
    #[test]
    fn what_is_done_to_lines_is_seen(names in prop::collection::vec(any::<String>(), 4..40), what in tampering()) {
        let (bytes, _) = trail(Link::NONE, &names);
        prop_assert!(examine(&bytes, &[]).is_ok());
        let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let count = lines.len();
        match what {
            // The last line may be missing without that being seen; all others may not.
            Tampering::Remove(line) => drop(lines.remove(1 + line % (count - 2))),
            Tampering::Repeat(line) => lines.insert(line % count, bytes_of(&lines, line % count)),
            Tampering::Swap(line) => lines.swap(line % (count - 1), line % (count - 1) + 1),
            Tampering::Replace(line, at, flip) => {
                let line = &mut lines[line % count];
                let at = at % line.len();
                line[at] ^= flip;
            }
            Tampering::Insert(at, byte) => {
                let mut all = lines.concat();
                all.insert(at % all.len(), byte);
                lines = vec![all];
            }
            Tampering::CutFront(at) => {
                let all = lines.concat();
                lines = vec![all[1 + at % (all.len() - 1)..].to_vec()];
                // Whole lines that are missing in front are seen by the number of the first one.
                let rest = examine(&lines[0], &[]);
                prop_assert!(rest.is_err() || rest.is_ok_and(|it| it.first > 1));
                return Ok(());
            }
        }
        prop_assert!(examine(&lines.concat(), &[]).is_err());
    }

    #[test]
    fn cutting_the_end_is_seen_by_whoever_knows_the_last_line(names in prop::collection::vec("[a-z]{1,9}", 2..20), cut: usize) {
        let (bytes, chain) = trail(Link::NONE, &names);
        let rest = &bytes[..bytes.len() - 1 - cut % (bytes.len() - 1)];
        if let Ok(summary) = examine(rest, &[]) {
            prop_assert_ne!(summary.last, chain.last());
        }
    }
}

fn bytes_of(lines: &[Vec<u8>], position: usize) -> Vec<u8> {
    lines[position].clone()
}
