//! Why was it refused? Mistakes that people make, seeded into deliveries of many senders that this test signs itself, and
//! what an explanation names of them. Genuine deliveries and corrupted ones are the controls: of the first none may be
//! refused, for the second nothing may be found.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod bodies;
mod mistakes;
mod senders;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign::config::presets::{preset, preset_names};
use countersign::explain::{BodyEnd, Explanation, Given, TrialBudget, explain};
use countersign::gate::verify::{Delivery, Key, KeyForm, Keyring, PublicUrl, Scheme, Validity, Verifier};
use countersign::now::Now;
use countersign::wire::headers::{HeaderBuf, Headers};

use mistakes::Kind;
use senders::{Making, SENDERS, Sender, Shown};

struct Arrived {
    method: String,
    target: String,
    headers: HeaderBuf,
    body: Vec<u8>,
}

impl Delivery for Arrived {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }
    fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }
    fn headers(&self) -> Headers<'_> {
        self.headers.view()
    }
    fn body(&self) -> &[u8] {
        &self.body
    }
}

fn presets() -> Vec<Arc<Scheme>> {
    preset_names().filter_map(preset).collect()
}

fn explained(it: &Making, presets: &[Arc<Scheme>]) -> Explanation {
    let scheme = preset(it.sender.name).unwrap();
    let mut headers = HeaderBuf::default();
    it.headers().iter().for_each(|(name, value)| headers.push(name, value.as_bytes()));
    let request = Arrived { method: it.method.clone(), target: it.target.clone(), headers, body: it.body.clone() };
    let bare = it.file.strip_suffix(b"\n").unwrap_or(&it.file);
    let key = if it.sender.shown == Shown::Public {
        Key::from_public("k", &scheme, std::str::from_utf8(bare).unwrap(), Validity::default()).unwrap()
    } else {
        // What cannot be a key of the scheme matches nothing, as the commands have it.
        let raw = Scheme { secret: KeyForm::default(), ..(*scheme).clone() };
        let nothing = || Key::from_secret("k", &raw, b"nothing is signed with this", Validity::default());
        Key::from_secret("k", &scheme, bare, Validity::default()).or_else(|_| nothing()).unwrap()
    };
    let url = PublicUrl::parse(&it.public_url).ok().filter(|_| scheme.signs_url());
    let verifier = Verifier::new(scheme, Keyring::new(vec![key]), None, url).unwrap();
    let secret = ("k".to_owned(), it.file.clone().into());
    let secrets = if it.sender.shown == Shown::Public { vec![] } else { vec![secret] };
    let given = Given {
        verifier: &verifier,
        secrets: &secrets,
        of_others: &[],
        schemes: presets,
        now: Now::at_unix(Duration::from_secs(u64::try_from(it.now).unwrap())),
        is_present: false,
        query: None,
        end: BodyEnd::AsSaid,
        budget: &TrialBudget::of(request.body.len()),
    };
    let explanation = explain(&given, &request);
    let text = explanation.to_string();
    let shown = String::from_utf8_lossy(&it.file).trim().to_owned();
    assert!(
        shown.len() < 16 || !text.contains(&shown) || it.sender.shown == Shown::Public,
        "a secret is shown: {text}"
    );
    explanation
}

#[derive(Clone, Copy, Default)]
struct Sums {
    named: u32,
    vague: u32,
    wrong: u32,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.named += other.named;
        self.vague += other.vague;
        self.wrong += other.wrong;
    }

    fn all(self) -> u32 {
        self.named + self.vague + self.wrong
    }
}

/// Each kind is seeded into so many senders.
const SENDERS_OF_A_KIND: usize = 9;

/// Seeds of one kind, over senders that differ from one kind to the next.
fn seeds(kind: &Kind, first: usize, mut seed: impl FnMut(Making)) {
    let mut done = 0;
    for round in 0..SENDERS.len() {
        let number = u32::try_from(first + round).unwrap();
        let sender: &Sender = &SENDERS[(round + first * 5) % SENDERS.len()];
        let mut it = Making::new(sender, number, &bodies::body(number));
        if done < SENDERS_OF_A_KIND && (kind.make)(&mut it) {
            done += 1;
            seed(it);
        }
    }
    assert!(done > 0, "{} applies to no sender", kind.name);
}

const GROUPS: [(&str, &[Kind]); 8] = [
    ("secret", mistakes::SECRETS),
    ("body", bodies::UNDONE),
    ("looks", bodies::LOOKS),
    ("json", bodies::JSON),
    ("url", mistakes::URLS),
    ("content", mistakes::CONTENT),
    ("header", mistakes::HEADERS),
    ("time", mistakes::TIMES),
];

fn judged(it: &Making, accepted: &[&[&str]], presets: &[Arc<Scheme>], misses: &mut Vec<String>) -> Sums {
    let explanation = explained(it, presets);
    let refused = explanation.verdict.is_err();
    let codes: Vec<&str> = explanation.finding.iter().flat_map(|finding| finding.codes()).collect();
    let named = refused
        && accepted.len() == codes.len()
        && accepted.iter().all(|accepted| codes.iter().any(|code| accepted.contains(code)));
    let mut sums = Sums::default();
    match (named, codes.is_empty()) {
        (true, _) => sums.named = 1,
        (false, true) => sums.vague = 1,
        (false, false) => sums.wrong = 1,
    }
    if !named {
        misses.push(format!("{}: {} ({codes:?}, wanted {accepted:?})", it.sender.name, explanation.headline()));
    }
    sums
}

#[test]
fn nineteen_of_twenty_mistakes_are_named_and_none_wrongly() {
    let presets = presets();
    let (mut total, mut misses, mut senders) = (Sums::default(), Vec::new(), BTreeMap::new());
    let mut number = 0;
    let row = |name: &str, sums: Sums| {
        println!("{name:52} {:6} {:6} {:6} {:6}", sums.all(), sums.named, sums.vague, sums.wrong);
    };
    println!("{:52} {:>6} {:>6} {:>6} {:>6}", "kind", "seeds", "named", "vague", "wrong");
    for (group, kinds) in GROUPS {
        let mut of_group = Sums::default();
        for kind in kinds {
            number += 1;
            let (mut of_kind, before) = (Sums::default(), misses.len());
            seeds(kind, number, |it| {
                *senders.entry(it.sender.name).or_insert(0) += 1;
                of_kind.add(judged(&it, &[kind.codes], &presets, &mut misses));
            });
            row(kind.name, of_kind);
            misses[before..].iter().for_each(|miss| println!("  {miss}"));
            of_group.add(of_kind);
        }
        row(&format!("all of {group}"), of_group);
        total.add(of_group);
    }
    let share = f64::from(total.named) * 100.0 / f64::from(total.all());
    println!(
        "{} of {} seeds of {number} kinds over {} presets are named: {share:.1} %; {} vague, {} wrong",
        total.named,
        total.all(),
        senders.len(),
        total.vague,
        total.wrong
    );
    assert!(senders.len() >= 20 && total.all() > 700);
    assert!(total.wrong == 0 && share >= 95.0, "{share:.1} %");
}

#[test]
fn two_mistakes_at_once_are_named() {
    let frequent: [(&[Kind], &str); 10] = [
        (mistakes::SECRETS, "secret: space behind"),
        (mistakes::SECRETS, "secret: quotes"),
        (mistakes::SECRETS, "secret: NAME=value"),
        (bodies::UNDONE, "body: newline added"),
        (bodies::JSON, "JSON: spaces as Python writes them"),
        (mistakes::HEADERS, "header: prefix left out"),
        (mistakes::HEADERS, "header: the other encoding"),
        (mistakes::HEADERS, "header: renamed with X-Forwarded-"),
        (mistakes::URLS, "URL: http"),
        (mistakes::URLS, "URL: slash at the end"),
    ];
    let kind = |(kinds, name): (&'static [Kind], &str)| kinds.iter().find(|kind| kind.name == name).unwrap();
    let (presets, mut total, mut misses) = (presets(), Sums::default(), Vec::new());
    for (at, first) in frequent.into_iter().enumerate() {
        for second in frequent.into_iter().skip(at + 1) {
            let (first, second) = (kind(first), kind(second));
            let group = |kind: &Kind| kind.name.split(':').next().unwrap().replace("JSON", "body");
            if group(first) == group(second) {
                continue;
            }
            let mut done = 0;
            seeds(first, at, |mut it| {
                if done < 3 && (second.make)(&mut it) {
                    done += 1;
                    total.add(judged(&it, &[first.codes, second.codes], &presets, &mut misses));
                }
            });
        }
    }
    misses.iter().for_each(|miss| println!("  {miss}"));
    println!("two at once: {} of {} named, {} vague, {} wrong", total.named, total.all(), total.vague, total.wrong);
    assert!(total.all() > 60 && total.wrong == 0 && total.named * 100 >= total.all() * 95);
}

#[test]
fn nothing_genuine_is_refused_and_nothing_is_invented() {
    let presets = presets();
    let (mut genuine, mut corrupted, mut broken) = (0, 0, 0);
    for (number, sender) in (0_u32..).zip(&SENDERS).flat_map(|(number, it)| [(number, it), (number + 100, it)]) {
        let it = Making::new(sender, number, &bodies::body(number));
        let explanation = explained(&it, &presets);
        assert!(explanation.verdict.is_ok(), "{}: {explanation}", sender.name);
        genuine += 1;
        let other_key = |it: &mut Making| it.key = ring::digest::digest(&ring::digest::SHA256, &it.key).as_ref().into();
        let other_body = |it: &mut Making| {
            let at = it.body.len() / 2;
            it.body[at] ^= 1;
        };
        let other_value = |it: &mut Making| it.signed_body.extend_from_slice(b"}");
        let corruptions: [&dyn Fn(&mut Making); 3] = [&other_key, &other_body, &other_value];
        for (position, corrupt) in corruptions.iter().enumerate() {
            let mut it = Making::new(sender, number, &bodies::body(number));
            corrupt(&mut it);
            let explanation = explained(&it, &presets);
            // That a changed byte cannot stand where it stands can be seen, and is no invention.
            let seen = position == 1 && serde_json::from_slice::<serde_json::Value>(&it.body).is_err();
            let codes: Vec<&str> = explanation.finding.iter().flat_map(|finding| finding.codes()).collect();
            let expected: &[&str] = if seen { &["body_broken"] } else { &[] };
            assert!(explanation.verdict.is_err() && codes == expected, "{position}: {explanation}");
            broken += usize::from(seen);
            corrupted += 1;
        }
        // Old, and not what was signed: that sends to no clock.
        let mut it = Making::new(sender, number, &bodies::body(number));
        it.now += 400_000;
        other_key(&mut it);
        let explanation = explained(&it, &presets);
        assert!(explanation.verdict.is_err() && explanation.finding.is_none(), "{explanation}");
        assert!(!explanation.to_string().contains("clock"), "{explanation}");
        corrupted += 1;
    }
    println!(
        "{genuine} genuine deliveries, none refused; {corrupted} corrupted ones, nothing invented ({broken} are no JSON any \
         more, which is said)"
    );
}
