//! A verdict with what led to it, in plain words: the cause first, then the facts. Secrets and the tags that would have
//! been right are never shown.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use super::case::{GivenFacts, Seen, TriedCase};
use super::facts::Facts;
use super::finding::NamedMistake;
use super::given::Given;
use super::looks::looks;
use super::mistake::{Certainty, Mistake};
use super::search::search;
use super::seen::seen;
use super::spans::shown_span;
use super::trial::run;
use crate::gate::verify::{Delivery, Key, Keyring, Kind, Scheme, Unit, inspect};
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
    /// Whether something was not tried because it would have cost too much.
    pub incomplete: bool,
}

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
                    _ => format!("{word}: {finding} ({})", finding.certainty()),
                }
            },
            (Err(rejection), None, _) if is_mismatch(*rejection) => {
                "not explained: no known mistake fits; what remains is another key, or a body that was changed on the way".to_owned()
            }
            (Err(rejection), None, _) => format!("not explained: {}", rejection.meaning()),
        }
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

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        self.remedy().map_or(Ok(()), |remedy| writeln!(f, "what to do: {remedy}"))?;
        self.facts.iter().try_for_each(|line| writeln!(f, "{line}"))
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
        return Explanation { verdict, key_id, finding: None, facts, incomplete: false };
    };
    let known = known(given, scheme);
    let case = TriedCase::of(&known, Seen::of(delivery));
    let finding = verdict.err().and_then(|rejection| cause(given, case, rejection));
    let facts = Facts { given, case, verdict, finding: finding.as_ref(), with_body: true }.lines();
    let incomplete = finding.is_none() && given.budget.has_refused();
    Explanation { verdict, key_id, finding, facts, incomplete }
}

/// The same of a delivery whose body is not known: what can be judged without it.
pub fn explain_head<D: Delivery>(given: &Given<'_>, delivery: &D) -> Explanation {
    let verdict = given.verifier.begin(delivery, given.now).map(|_| ());
    let Some(scheme) = given.verifier.scheme() else {
        return Explanation { verdict, key_id: None, finding: None, facts: Vec::new(), incomplete: false };
    };
    let known = known(given, scheme);
    let case = TriedCase::of(&known, Seen::of(delivery));
    let finding = verdict.err().and_then(|rejection| seen(case, rejection));
    let facts = Facts { given, case, verdict, finding: finding.as_ref(), with_body: false }.lines();
    Explanation { verdict, key_id: None, finding, facts, incomplete: false }
}

fn known<'g>(given: &Given<'g>, scheme: &Scheme) -> GivenFacts<'g> {
    GivenFacts {
        scheme: Arc::new(scheme.clone()),
        keyring: Keyring::new(given.verifier.keys().iter().map(Key::without_times).collect()),
        secrets: given.secrets,
        of_others: given.of_others,
        schemes: given.schemes,
        url: given.verifier.public_url().cloned(),
        now: given.now,
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

fn cause(given: &Given<'_>, case: TriedCase<'_>, rejection: Rejection) -> Option<NamedMistake> {
    // A token is whole or not: nothing on its way changes it so that a trial could undo that.
    let tries = case.scheme.signs() && !matches!(case.scheme.kind, Kind::Jws(_));
    if !is_of_signature(rejection) || !tries {
        return seen(case, rejection);
    }
    // What is genuine but for its time has no other mistake, whatever may be changed of it that is not signed.
    let as_it_is = match rejection {
        Rejection::TimestampStale
        | Rejection::TimestampFuture
        | Rejection::KeyInactive
        | Rejection::SignatureMismatch => case.matching_key(),
        _ => None,
    };
    if let Some(id) = as_it_is {
        return Some(of_time(given, case, rejection, &id));
    }
    let found = search(case);
    let at_sight = || if rejection == Rejection::SignatureMismatch { None } else { seen(case, rejection) };
    found.or_else(at_sight).or_else(|| looks(case))
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
    // Years away it is no time, but one in another unit.
    let years = age.unsigned_abs() > 10 * 365 * 86_400_000;
    if let Some(timestamp) = case.scheme.timestamp.as_ref().filter(|_| years) {
        let wanted = timestamp.unit.name();
        let other = if timestamp.unit == Unit::Seconds { "another unit" } else { "seconds" };
        return NamedMistake::new(Mistake::TimeUnit, &[other, wanted]);
    }
    let age = shown_span(Duration::from_millis(age.unsigned_abs()));
    NamedMistake::new(mistake, &[&age, &shown_span(tolerance)])
}
