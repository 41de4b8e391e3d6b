//! A verdict with what led to it, in plain words: the cause first, then the facts. Secrets and the tags that would have
//! been right are never shown.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use super::case::{GivenFacts, Seen, TriedCase, without_line_end};
use super::credentials::credential;
use super::ends::{beyond, is_whole_json, lacking, reads_body};
use super::facts::Facts;
use super::finding::NamedMistake;
use super::given::Given;
use super::late::of_age;
use super::looks::{looks_of_body, looks_of_secret, looks_redirected};
use super::mistake::{Certainty, Mistake};
use super::quoted::quoted;
use super::search::{Searched, search};
use super::seen::seen;
use super::spans::shown_span;
use super::text;
use super::trial::run;
use super::units::looks_of_unit;
use crate::gate::verify::{Delivery, Key, Keyring, Kind, Scheme, inspect};
use crate::outcome::Rejection;

/// A verdict and what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The engine's verdict.
    pub verdict: Result<(), Rejection>,
    /// The id of the key that matched.
    pub key_id: Option<String>,
    /// Why it was refused, where that has been found.
    pub finding: Option<NamedMistake>,
    /// What was looked for and what was found, one line each.
    pub facts: Vec<String>,
    /// What was not tried, or only in part, because it would have cost too much.
    pub left_out: Vec<&'static str>,
}

/// Trials leave one of so many parts of the budget to looks.
const FOR_LOOKS: u64 = 4;

/// What helps where none of the usual mistakes was it.
const AFTER_ALL: &str = "compare the secret with the sender's; then compare length and SHA-256 of the body (below) with what \
                         the sender signed";

impl Explanation {
    /// The cause, and how sure it is.
    #[must_use]
    pub fn headline(&self) -> String {
        match (&self.verdict, &self.finding, &self.key_id) {
            (Ok(()), _, Some(id)) => format!("genuine: it matches the key `{id}`"),
            (Ok(()), ..) => "let through".to_owned(),
            (Err(_), Some(finding), _) => {
                let word = if finding.certainty() == Certainty::Looks { "likely" } else { "explained" };
                match finding.mistake {
                    Mistake::TimeStale | Mistake::TimeFuture if finding.and.is_none() => {
                        format!("{word}: {finding} (the signature itself is valid)")
                    }
                    Mistake::CredentialElsewhere | Mistake::CredentialForm => {
                        format!("{word}: {finding} (proven: with that corrected it is accepted)")
                    }
                    _ => format!("{word}: {finding} ({}{})", finding.certainty(), stays(finding)),
                }
            }
            (Err(rejection), None, _) if is_mismatch(*rejection) => {
                let fits =
                    if self.left_out.is_empty() { "no known mistake fits" } else { "no mistake that was tried fits" };
                format!("not explained: {fits}; what remains is another key, or a body that was changed on the way")
            }
            (Err(rejection), None, _) => format!("not explained: {}", rejection.meaning()),
        }
    }

    /// What was left out because of the size of the body, in a sentence.
    #[must_use]
    pub fn remark_on_size(&self) -> Option<String> {
        let what = self.left_out.join(", ");
        (!what.is_empty()).then(|| format!("left out, or tried in part, because of the size of the body: {what}"))
    }

    /// What to do, where more than the reason says that.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match (&self.finding, self.verdict) {
            (Some(finding), _) => Some(finding.remedy()),
            (None, Err(rejection)) if is_mismatch(rejection) => Some(AFTER_ALL.to_owned()),
            _ => None,
        }
    }
}

/// Words for what keeps a delivery refused when its mistake is repaired.
fn stays(finding: &NamedMistake) -> String {
    let why = finding.stays.as_ref().map(|stays| stays.why.as_str());
    why.map(|why| format!("; it stays refused all the same: {why}")).unwrap_or_default()
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        self.remedy().map_or(Ok(()), |remedy| writeln!(f, "what to do: {remedy}"))?;
        self.facts.iter().chain(&self.remark_on_size()).try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Verifies `delivery`, and explains the verdict with trials that cost no more than the budget; the verdict is free.
pub fn explain<D: Delivery>(given: &Given<'_>, delivery: &D) -> Explanation {
    let (verdict, key_id) = match run(given.verifier, delivery, given.now) {
        Ok(key_id) => (Ok(()), key_id),
        Err(rejection) => (Err(rejection), None),
    };
    let Some(scheme) = given.verifier.scheme() else {
        let facts = vec!["scheme none: nothing is verified".to_owned()];
        return Explanation { verdict, key_id, finding: None, facts, left_out: Vec::new() };
    };
    let known = known(given, scheme);
    let case = TriedCase::of(&known, Seen::of(delivery));
    let Searched { found: finding, left_out } =
        verdict.err().map(|rejection| cause(given, case, rejection)).unwrap_or_default();
    let facts = Facts { given, case, verdict, finding: finding.as_ref(), with_body: true }.lines();
    Explanation { verdict, key_id, finding, facts, left_out }
}

/// The same of a delivery whose body is not known: what can be judged without it.
pub fn explain_head<D: Delivery>(given: &Given<'_>, delivery: &D) -> Explanation {
    let verdict = given.verifier.begin(delivery, given.now).map(|_| ());
    let Some(scheme) = given.verifier.scheme() else {
        return Explanation { verdict, key_id: None, finding: None, facts: Vec::new(), left_out: Vec::new() };
    };
    let known = known(given, scheme);
    let case = TriedCase::of(&known, Seen::of(delivery));
    let finding = verdict.err().and_then(|rejection| seen(case, rejection));
    let facts = Facts { given, case, verdict, finding: finding.as_ref(), with_body: false }.lines();
    Explanation { verdict, key_id: None, finding, facts, left_out: Vec::new() }
}

pub(super) fn known<'g>(given: &Given<'g>, scheme: &Scheme) -> GivenFacts<'g> {
    GivenFacts {
        scheme: Arc::new(scheme.clone()),
        keys: given.verifier.keys(),
        keyring: Keyring::new(given.verifier.keys().iter().map(Key::without_times).collect()),
        secrets: given.secrets,
        of_others: given.of_others,
        schemes: given.schemes,
        url: given.verifier.public_url().cloned(),
        now: given.now,
        is_present: given.is_present,
        tolerance: given.verifier.tolerance(),
        query: given.query,
        end: given.end,
        budget: given.budget,
    }
}

/// Whether it does not match, whatever the time is: what matches is explained by its time.
const fn is_mismatch(rejection: Rejection) -> bool {
    use Rejection::{KeyInactive, SignatureMismatch, TimestampFuture, TimestampStale};
    matches!(rejection, KeyInactive | SignatureMismatch | TimestampFuture | TimestampStale)
}

/// Whether other bytes or another key could change this verdict.
const fn is_of_signature(rejection: Rejection) -> bool {
    use Rejection::{
        ContentAmbiguous, ContentUnavailable, DigestMismatch, HeaderRequired, IdMalformed, IdMissing, KeyInactive,
        SignatureDuplicate, SignatureMalformed, SignatureMismatch, SignatureMissing, TimestampDuplicate,
        TimestampFuture, TimestampMalformed, TimestampMissing, TimestampStale,
    };
    matches!(
        rejection,
        ContentAmbiguous
            | ContentUnavailable
            | DigestMismatch
            | HeaderRequired
            | IdMalformed
            | IdMissing
            | KeyInactive
            | SignatureDuplicate
            | SignatureMalformed
            | SignatureMismatch
            | SignatureMissing
            | TimestampDuplicate
            | TimestampFuture
            | TimestampMalformed
            | TimestampMissing
            | TimestampStale
    )
}

fn cause(given: &Given<'_>, case: TriedCase<'_>, rejection: Rejection) -> Searched {
    let certain = |found: Option<NamedMistake>| Searched { found, left_out: Vec::new() };
    // Without any secret nothing can match, whatever else may be wrong.
    if case.known.secrets.iter().all(|(_, secret)| text::blank(secret).is_some())
        && let Some(empty) = unusable(case)
    {
        return certain(Some(empty));
    }
    // A token is whole or not: nothing on its way changes it so that a trial could undo that.
    let tries = case.scheme.signs() && !matches!(case.scheme.kind, Kind::Jws(_));
    if !is_of_signature(rejection) || !tries {
        let cut = if rejection == Rejection::CompressionUnreadable { lacking(case) } else { None };
        let misplaced = matches!(
            rejection,
            Rejection::CredentialMissing | Rejection::CredentialMismatch | Rejection::SignatureMissing
        );
        let is_credential = matches!(case.scheme.kind, Kind::Token | Kind::Basic);
        if let Some(found) = if misplaced && is_credential { credential(case) } else { None } {
            return certain(Some(found));
        }
        let redirected = if rejection == Rejection::CredentialMissing { looks_redirected(case) } else { None };
        return certain(cut.or(redirected).or_else(|| seen(case, rejection)));
    }
    // What is genuine but for its time has no other mistake, whatever may be changed of it that is not signed.
    let as_it_is = match rejection {
        Rejection::TimestampStale | Rejection::TimestampFuture | Rejection::KeyInactive => case.matching_key(|_| true),
        // Those that count have been tried.
        Rejection::SignatureMismatch => case.matching_key(|key| !key.validity().contains(given.now)),
        _ => None,
    };
    if let Some(id) = as_it_is {
        return certain(Some(of_time(given, case, rejection, &id)));
    }
    let Searched { found, left_out } = given.budget.all_but(FOR_LOOKS, || search(case));
    let proven = found.is_some();
    let found = found.or_else(|| by_looks(case, rejection)).map(|found| with_age(case, rejection, found));
    Searched { found, left_out: if proven { Vec::new() } else { left_out } }
}

/// A guess about a delivery that is refused for its age explains no more than the half of it.
fn with_age(case: TriedCase<'_>, rejection: Rejection, found: NamedMistake) -> NamedMistake {
    let late = matches!(rejection, Rejection::TimestampStale | Rejection::TimestampFuture);
    if !late || found.stays.is_some() || found.mistake == Mistake::TimeUnitLooks {
        return found;
    }
    NamedMistake { stays: of_age(case), ..found }
}

/// What explains a verdict that no trial has changed: what stands in the request first, then guesses. Each of them would
/// suffice, so none that is known may be left to the facts below.
fn by_looks(case: TriedCase<'_>, rejection: Rejection) -> Option<NamedMistake> {
    let sight = if rejection == Rejection::SignatureMismatch { None } else { seen(case, rejection) };
    let is_of_body = matches!(rejection, Rejection::SignatureMismatch | Rejection::DigestMismatch)
        || sight.as_ref().is_some_and(|found| found.mistake == Mistake::ContentPart);
    let lacking = if is_of_body && reads_body(case.scheme) { lacking(case) } else { None };
    let (certain, possible) = if is_whole_json(case) { (None, lacking) } else { (lacking, None) };
    let beyond = if is_of_body { beyond(case) } else { None };
    let (instead, beyond) = if case.seen.body.trim_ascii().is_empty() { (beyond, None) } else { (None, beyond) };
    looks_redirected(case)
        .or(certain)
        .or(instead)
        .or_else(|| of_unit(case, rejection))
        .or(sight)
        .or_else(|| looks_of_secret(case))
        .or_else(|| unusable(case))
        .or_else(|| looks_of_body(case))
        .or(possible)
        .or(beyond)
}

/// A timestamp that is none of the present in the unit of the scheme, and one in another.
fn of_unit(case: TriedCase<'_>, rejection: Rejection) -> Option<NamedMistake> {
    use Rejection::{TimestampFuture, TimestampMalformed, TimestampStale};
    matches!(rejection, TimestampFuture | TimestampMalformed | TimestampStale).then(|| looks_of_unit(case)).flatten()
}

/// A secret that is none: its file is empty, or the scheme can make no key of it.
fn unusable(case: TriedCase<'_>) -> Option<NamedMistake> {
    let secrets = case.known.secrets.iter().filter(|_| !case.scheme.wants_public_key());
    let mut all = secrets.filter_map(|(name, secret)| {
        let name = format!("`{}`", quoted(name));
        if let Some(what) = text::blank(secret) {
            return Some(NamedMistake::new(Mistake::SecretEmpty, &[&name, what]));
        }
        let error = inspect::decode_secret(case.scheme, without_line_end(secret)).err()?.to_string();
        let why = error.split(';').next().unwrap_or_default().replace("the secret", "it");
        Some(NamedMistake::new(Mistake::SecretUnusable, &[&name, &why]))
    });
    all.next()
}

/// Why what matches does not count.
fn of_time(given: &Given<'_>, case: TriedCase<'_>, rejection: Rejection, id: &str) -> NamedMistake {
    let moment = inspect::timestamp(case.scheme, &case.seen).ok().flatten();
    let tolerance = given.verifier.tolerance();
    let (Some(moment), Some(tolerance)) = (moment, tolerance) else {
        return NamedMistake::new(Mistake::KeyInactive, &[&format!("`{id}`")]);
    };
    let age = given.now.unix_millis().saturating_sub(moment);
    let mistake = match rejection {
        Rejection::TimestampStale => Mistake::TimeStale,
        Rejection::TimestampFuture => Mistake::TimeFuture,
        _ => return NamedMistake::new(Mistake::KeyInactive, &[&format!("`{id}`")]),
    };
    let advice = advice_on_time(given, moment, age);
    let age = shown_span(Duration::from_millis(age.unsigned_abs()));
    NamedMistake { advice: Some(advice), ..NamedMistake::new(mistake, &[&age, &shown_span(tolerance)]) }
}

/// Clocks are wrong by minutes; what is off by more has another cause, unless it is off by a zone.
const CLOCKS: u64 = 3_600_000;

/// What to do about a time: the case that applies, as far as the age tells it.
fn advice_on_time(given: &Given<'_>, moment: i64, age: i64) -> String {
    let distance = age.unsigned_abs();
    if given.is_present && age > 0 && distance > CLOCKS {
        let moment = moment.div_euclid(1000);
        return format!("it is a capture of that time: judge it by when it came, --at {moment} if that was at once");
    }
    // Whole hours, but for some minutes.
    let off = distance % CLOCKS;
    let is_zone = (CLOCKS..=14 * CLOCKS).contains(&distance) && off.min(CLOCKS - off) < 120_000;
    if is_zone {
        return "it is off by whole hours: look whether one of both machines has its clock set to local time instead of UTC".to_owned();
    }
    if age < 0 {
        return "compare the clocks of both machines: this one is behind, or the sender's is ahead".to_owned();
    }
    if distance > CLOCKS {
        return "it is an old delivery that was sent again as it was: let the sender send a new one, with a new time"
            .to_owned();
    }
    let capture = if given.is_present { "a capture: say with --at when it came; " } else { "" };
    format!(
        "one of these: {capture}an old delivery sent again: send a new one; a new one: compare the clocks of both machines"
    )
}
