//! A trail is whole, or its first flaw is found.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use core::time::Duration;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::chain::ChainLine;
use super::record::{Sealing, change, seal};
use super::*;
use crate::outcome::{Fault, Outcome, Rejection};
use crate::telemetry::line::TimeText;

const SEAL_EVERY: usize = 100;

fn keys() -> &'static [SealKey] {
    static KEYS: LazyLock<[SealKey; 1]> =
        LazyLock::new(|| [SealKey::new("2026-11", b"the key that is kept elsewhere")]);
    &*KEYS
}

const fn sealing(key: &SealKey) -> Sealing<'_> {
    Sealing { key, every: Duration::from_secs(60) }
}

/// A trail behind `last` about entries with these texts, sealed now and then.
fn trail(last: Link, texts: &[String]) -> (Vec<u8>, Chain) {
    let (mut out, mut chain, mut stamp) = (Vec::new(), Chain::behind(last), TimeText::default());
    for (position, text) in texts.iter().enumerate() {
        let unix = Duration::from_millis(1_760_000_000_000 + position as u64);
        let mut entry = Vec::new();
        change(
            &mut entry,
            &Change::Secret { route: text, key_id: "k", step: Transition::Added("0") },
            &mut stamp,
            unix,
        );
        chain.append(&mut out, &entry);
        if position % SEAL_EVERY == SEAL_EVERY - 1 {
            let mut entry = Vec::new();
            seal(&mut entry, sealing(&keys()[0]), chain.last(), &mut stamp, unix);
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
    let summary = examine(&bytes, keys()).unwrap();
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
    // An attacker who makes all lines anew, but has no key, cannot make the seal.
    let (copied, _) = trail(Link::NONE, &[vec!["another".to_owned()], texts(100)].concat());
    let (old, new): (Vec<&[u8]>, Vec<&[u8]>) =
        (bytes.split(|b| *b == b'\n').collect(), copied.split(|b| *b == b'\n').collect());
    let seal_of_old = ChainLine::parse(old[100]).unwrap().entry;
    let mut chain = Chain::behind(Link::NONE);
    let mut made_anew = Vec::new();
    for line in new[..100].iter().copied() {
        chain.append(&mut made_anew, ChainLine::parse(line).unwrap().entry);
    }
    chain.append(&mut made_anew, seal_of_old);
    assert_eq!(examine(&made_anew, &[]).map(|it| it.records), Ok(101));
    assert_eq!(examine(&made_anew, keys()), Err((100, Flaw::Seal)));
}

/// One byte of a trail of ten thousand lines is changed, in a thousand seeded ways: always seen. The lines in front of
/// it are what they were, so that examining them again from the start would only repeat the first test; each trial
/// begins a few lines before.
#[test]
fn any_byte_that_is_changed_is_seen() {
    const TRIALS: u64 = 1000;
    let (bytes, _) = trail(Link::NONE, &texts(10_000));
    assert!(examine(&bytes, keys()).is_ok());
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
        assert!(examine(&part, keys()).is_ok());
        part[at - start] ^= flip;
        let found = examine(&part, keys());
        assert!(found.is_err(), "trial {trial}: byte {at} ^ {flip:#x}");
        if trial % 100 == 0 {
            let mut whole = bytes.clone();
            whole[at] ^= flip;
            assert!(examine(&whole, keys()).is_err());
        }
    }
}

#[test]
fn what_has_no_line_has_a_number() {
    let (mut tally, mut other) = (UnrecordedTally::default(), UnrecordedTally::default());
    tally.count(Rejection::SignatureMismatch.into());
    other.count(Rejection::SignatureMismatch.into());
    other.count(Fault::HeadTimeout.into());
    other.count(Outcome::Forwarded { status: 200 });
    tally.add(&other);
    let mut out = Vec::new();
    tally.write(&mut out, "rate", (&mut TimeText::default(), Duration::ZERO));
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

/// What an attacker may do to the lines of a trail.
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
    fn cutting_the_end_is_seen_where_the_last_line_is_known(names in prop::collection::vec("[a-z]{1,9}", 2..20), cut: usize) {
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

/// A trail as a process writes it: a record each time that `step` has passed, a seal whenever one is due. `behind` is what
/// was there before. Gives the lines, and the time of the last one.
struct Written {
    lines: Vec<Vec<u8>>,
    chain: Chain,
    now: Duration,
}

const EVERY: Duration = Duration::from_secs(1);

impl Written {
    fn new() -> Self {
        Self { lines: Vec::new(), chain: Chain::behind(Link::NONE), now: Duration::from_secs(1_760_000_000) }
    }

    /// Goes on behind lines that are there.
    fn behind(lines: Vec<Vec<u8>>, now: Duration) -> Self {
        let last = ChainLine::parse(lines.last().unwrap()).unwrap().link;
        Self { lines, chain: Chain::behind(last), now }
    }

    fn push(&mut self, entry: &[u8]) {
        let mut line = Vec::new();
        self.chain.append(&mut line, entry);
        line.pop();
        self.lines.push(line);
    }

    fn change(&mut self, what: &Change<'_>) {
        let mut entry = Vec::new();
        change(&mut entry, what, &mut TimeText::default(), self.now);
        self.push(&entry);
    }

    fn seal(&mut self, key: &SealKey) {
        let mut entry = Vec::new();
        seal(&mut entry, Sealing { key, every: EVERY }, self.chain.last(), &mut TimeText::default(), self.now);
        self.push(&entry);
    }

    fn start(&mut self) {
        self.change(&Change::Start { version: "1", configuration: "0" });
        self.seal(&keys()[0]);
    }

    /// So many records in so many seconds, a seal each second under `key`.
    fn records(&mut self, count: u32, seconds: u32, key: &SealKey) {
        let mut sealed = self.now;
        for number in 0..count {
            self.now += Duration::from_secs(u64::from(seconds)) / count;
            let name = number.to_string();
            self.change(&Change::Secret { route: &name, key_id: "k", step: Transition::Added("0") });
            if self.now - sealed >= EVERY {
                self.seal(key);
                sealed = self.now;
            }
        }
    }

    fn without_seals_behind_the_first(&self) -> Vec<Vec<u8>> {
        let is_seal = |line: &[u8]| line.windows(14).any(|part| part == b"\"event\":\"seal\"");
        let mut seals = 0;
        let kept = self.lines.iter().filter(|line| {
            seals += usize::from(is_seal(line));
            !is_seal(line) || seals == 1
        });
        kept.cloned().collect()
    }
}

/// The same entries, chained anew: what an attacker without the key can do.
fn made_anew(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut chain, mut anew) = (Chain::behind(Link::NONE), Vec::new());
    for line in lines {
        let mut out = Vec::new();
        chain.append(&mut out, ChainLine::parse(line).unwrap().entry);
        out.pop();
        anew.push(out);
    }
    anew
}

/// Every third record behind the first ten left out.
fn thinned_out(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let kept = lines.iter().enumerate().filter(|(number, _)| *number < 10 || number % 3 > 0);
    kept.map(|(_, line)| line.clone()).collect()
}

fn examined<'k>(lines: &[Vec<u8>], keys: &'k [SealKey]) -> Examiner<'k> {
    let mut examiner = Examiner::new(keys);
    lines.iter().for_each(|line| examiner.line(line).unwrap());
    examiner
}

#[test]
fn what_is_made_anew_behind_the_first_seal_is_not_proven() {
    let (ours, theirs) = (&keys()[0], &SealKey::new("another", b"another key"));
    for (count, seconds, code) in [(400, 10, "too_many"), (200, 10, "overdue")] {
        let mut written = Written::new();
        written.start();
        written.records(count, seconds, ours);
        assert!(examined(&written.lines, keys()).tail().is_none_or(|tail| tail.doubt == Doubt::Unsealed));
        let forged = made_anew(&thinned_out(&written.without_seals_behind_the_first()));
        // Sealed under a key that does not exist, or not at all.
        let mut sealed = Written::behind(forged.clone(), written.now);
        sealed.seal(theirs);
        sealed.records(10, 1, theirs);
        for (lines, code) in [(forged, code), (sealed.lines, "other_key")] {
            let tail = examined(&lines, keys()).tail().unwrap();
            assert_eq!((tail.doubt.code(), tail.first), (code, 3), "{tail:?}");
            // A process goes on behind it, and seals it.
            let end = tail.last;
            let mut after = Written::behind(lines, written.now + Duration::from_secs(3600));
            after.start();
            after.records(20, 5, ours);
            let examiner = examined(&after.lines, keys());
            let [unproven] = examiner.unproven() else { panic!("{:?}", examiner.unproven()) };
            assert_eq!((unproven.doubt.code(), unproven.first, unproven.last), (code, 3, end));
        }
    }
}

#[test]
fn what_a_killed_process_leaves_is_told_and_no_more() {
    let ours = &keys()[0];
    let mut written = Written::new();
    written.start();
    written.records(30, 3, ours);
    written.records(5, 0, ours);
    let tail = examined(&written.lines, keys()).tail().unwrap();
    assert_eq!((tail.doubt.code(), tail.last - tail.first), ("unsealed", 4));
    // The time until the next process starts does not count.
    for _ in 0..3 {
        written.now += Duration::from_secs(86_400);
        written.change(&Change::Torn { bytes: 7 });
        written.change(&Change::Unproven { first: tail.first, last: tail.last, why: "unsealed" });
        written.start();
        written.records(5, 0, ours);
    }
    written.change(&Change::Stop);
    written.seal(ours);
    let examiner = examined(&written.lines, keys());
    assert_eq!(examiner.unproven().len(), 3);
    assert_eq!(examiner.unproven()[0], tail);
    assert!(examiner.unproven().iter().all(|it| it.doubt == Doubt::Unsealed && it.last - it.first == 4));
    assert_eq!((examiner.tail(), examiner.abrupt()), (None, &[0_u64; 0][..]));
    // A process that stopped in order leaves nothing; one that was killed right behind a seal, or robbed of its end, does
    // not say that it stops.
    written.start();
    assert_eq!(examined(&written.lines, keys()).abrupt(), &[0_u64; 0]);
    let seq = written.chain.last().seq + 1;
    written.start();
    assert_eq!(examined(&written.lines, keys()).abrupt(), &[seq]);
}

#[test]
fn splitting_a_long_stretch_into_processes_does_not_make_it_short() {
    let ours = &keys()[0];
    let mut written = Written::new();
    written.start();
    for _ in 0..5 {
        written.change(&Change::Start { version: "1", configuration: "0" });
        written.records(60, 0, ours);
    }
    assert_eq!(examined(&written.lines, keys()).tail().unwrap().doubt.code(), "too_many");
}

#[test]
fn what_a_seal_says_is_sealed_too() {
    let ours = &keys()[0];
    let mut written = Written::new();
    written.start();
    written.records(3, 0, ours);
    written.seal(ours);
    for (from, to) in [("seal_every_ms\":1000", "seal_every_ms\":9000"), ("2025-10-09T08:53:20", "2025-10-09T09:53:20")]
    {
        let mut lines = written.lines.clone();
        let last = String::from_utf8(lines.pop().unwrap()).unwrap();
        assert!(last.contains(from), "{last}");
        lines.push(last.replace(from, to).into_bytes());
        let entry =
            |line: &[u8]| line[line.windows(7).position(|it| it == b"\"time\":").unwrap()..line.len() - 75].to_vec();
        let forged = entry(lines.last().unwrap());
        lines.pop();
        let mut forging = Written::behind(lines, written.now);
        forging.push(&forged);
        let mut examiner = Examiner::new(&[]);
        forging.lines.iter().for_each(|line| examiner.line(line).unwrap());
        let mut examiner = Examiner::new(keys());
        let (last, before) = forging.lines.split_last().unwrap();
        before.iter().for_each(|line| examiner.line(line).unwrap());
        assert_eq!(examiner.line(last), Err(Flaw::Seal), "{to}");
    }
}

/// Trails of earlier versions are proven as before; how long they may go without a seal is not known so well.
#[test]
fn seals_of_earlier_versions_hold() {
    let ours = &keys()[0];
    let mut written = Written::new();
    written.change(&Change::Start { version: "0", configuration: "0" });
    let last = written.chain.last();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"the key that is kept elsewhere");
    let message = [&b"countersign audit seal 1\n"[..], &(last.seq + 1).to_be_bytes(), last.hash.bytes()].concat();
    let tag: String = ring::hmac::sign(&key, &message).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    written.push(
        format!(r#""time":"2025-10-09T08:53:20.000Z","event":"seal","key_id":"2026-11","seal":"{tag}""#).as_bytes(),
    );
    written.now += Duration::from_secs(3000);
    written.records(300, 0, ours);
    let examiner = examined(&written.lines, keys());
    assert_eq!(examiner.summary().unwrap().seals, 1);
    assert_eq!(examiner.tail().unwrap().doubt, Doubt::Unsealed);
    written.records(10, 0, ours);
    written.now += Duration::from_secs(3700);
    written.records(1, 0, ours);
    assert_eq!(examined(&written.lines, keys()).tail().unwrap().doubt.code(), "overdue");
}

proptest! {
    /// Whatever is done to records between two seals without the key, chained anew or not, is found.
    #[test]
    fn between_two_seals_nothing_can_be_made_anew(
        count in 5_u32..60, what in 0_u8..4, at: prop::sample::Index, other: prop::sample::Index,
    ) {
        let mut written = Written::new();
        written.start();
        written.records(count, 10, &keys()[0]);
        written.seal(&keys()[0]);
        let last = written.lines.len() - 1;
        let mut lines = written.lines.clone();
        // The first seal is the second line.
        let at = 2 + at.index(last - 2);
        match what {
            0 => drop(lines.remove(at)),
            1 => lines.swap(at, 2 + (at - 1 + other.index(last - 3)) % (last - 2)),
            2 => lines.insert(at, lines[other.index(last)].clone()),
            _ => {
                let mut forging = Written::new();
                forging.now += Duration::from_secs(7);
                forging.change(&Change::Stop);
                lines[at] = forging.lines.remove(0);
            }
        }
        for lines in [made_anew(&lines), lines] {
            let mut examiner = Examiner::new(keys());
            prop_assert!(lines.iter().any(|line| examiner.line(line).is_err()));
        }
    }

    /// Whatever is done behind the last seal: what was before is proven, and the rest is told not to be.
    #[test]
    fn behind_the_last_seal_nothing_is_proven(count in 1_u32..300, kept in 0_usize..300, seconds in 0_u32..5) {
        let mut written = Written::new();
        written.start();
        written.records(20, 3, &keys()[0]);
        written.seal(&keys()[0]);
        let sealed = written.chain.last().seq;
        let mut lines = written.lines.clone();
        let mut forging = Written::behind(lines.clone(), written.now);
        forging.records(count, seconds, &SealKey::new("none", b"none"));
        let behind = forging.lines.split_off(lines.len());
        lines.extend(behind.into_iter().take(kept));
        let examiner = examined(&lines, keys());
        let tail = examiner.tail();
        prop_assert_eq!(examiner.summary().unwrap().sealed, Some(sealed));
        prop_assert_eq!(tail.map(|tail| (tail.first, tail.last)),
            (lines.len() as u64 > sealed).then_some((sealed + 1, lines.len() as u64)));
    }
}
