//! Which mistake it was: one hypothesis after the other, those that cost little and are made often first, then two of the
//! most frequent at once.

use super::case::{Hypothesis, TriedCase};
use super::contents::{algorithms, body_alone, contents};
use super::finding::NamedMistake;
use super::late::stays_refused;
use super::mistake::Mistake;
use super::secrets::{frequent_secrets, keys_by, of_other_routes, secrets};
use super::signatures::{elsewhere, forms_of_signature, names, older_header, renamed};
use super::{bodies, encodings, ends, form_params, pairs, times, units, urls};
use crate::gate::verify::{Scheme, SignatureSource};

/// What is tried, with words for it that are said where it is left out.
struct TrialStep(&'static str, Hypothesis);

/// What is tried alone. Each takes at most half of what the budget has left.
const ALONE: [TrialStep; 20] = [
    TrialStep("the body by another length", ends::lengths),
    TrialStep("the timestamp in another unit", units::units),
    TrialStep("renamed headers", renamed),
    TrialStep("other forms of the signature", forms_of_signature),
    TrialStep("the pairs of the signature in another form", pairs::pairs),
    TrialStep("the signature in another header", elsewhere),
    TrialStep("line breaks at the end of the body", bodies::line_ends),
    TrialStep("the body signed alone", body_alone),
    TrialStep("JSON with other white space", bodies::long_json),
    TrialStep("the secret written otherwise", secrets),
    TrialStep("another query or method", urls::targets),
    TrialStep("another URL", urls::urls),
    TrialStep("the body encoded, wrapped or compressed", bodies::wrappings),
    TrialStep("the body in another encoding", encodings::encodings),
    TrialStep("the fields of a form written otherwise", form_params::params),
    TrialStep("another algorithm", algorithms),
    TrialStep("other parts signed", contents),
    TrialStep("secrets of other routes", of_other_routes),
    TrialStep("JSON written again", bodies::json),
    TrialStep("the time of another request", times::of_another),
];

/// What is tried together with another one of these, each with those behind it.
const TOGETHER: [Hypothesis; 9] = [
    units::units,
    renamed,
    frequent_secrets,
    forms_of_signature,
    urls::near_urls,
    urls::targets,
    bodies::line_ends,
    body_alone,
    bodies::frequent_json,
];

/// A body that is longer has one mistake.
const LONGEST_OF_TWO: usize = 64 << 10;

/// What has been found, and words for what could not be tried, or only in part, because it would have cost too much.
#[derive(Default)]
pub(super) struct Searched {
    pub(super) found: Option<NamedMistake>,
    pub(super) left_out: Vec<&'static str>,
}

/// The mistake with which undone the signature matches, or two.
pub(super) fn search(case: TriedCase<'_>) -> Searched {
    let budget = case.known.budget;
    let mut left_out = Vec::new();
    let mut tried = |what: &'static str, tries: &mut dyn FnMut() -> Option<NamedMistake>| {
        budget.takes_refusal();
        let found = tries();
        left_out.extend(Some(what).filter(|_| budget.takes_refusal() && found.is_none()));
        found
    };
    let alone =
        ALONE.iter().find_map(|TrialStep(what, tries)| tried(what, &mut || budget.half(|| alone(case, *tries))));
    let found = alone.or_else(|| tried("other schemes", &mut || other_scheme(case))).or_else(|| {
        tried("two mistakes at once", &mut || {
            if case.seen.body.len() > LONGEST_OF_TWO {
                budget.refuse();
                return None;
            }
            let each = ALONE.map(|TrialStep(_, tries)| tries);
            let whole = budget.half(|| together(case, ends::whole, &each));
            whole.or_else(|| two(case))
        })
    });
    Searched { found, left_out }
}

/// Two of the most frequent.
fn two(case: TriedCase<'_>) -> Option<NamedMistake> {
    TOGETHER.iter().enumerate().find_map(|(number, first)| {
        let others = TOGETHER.get(number + 1..).unwrap_or_default();
        case.known.budget.half(|| together(case, *first, others))
    })
}

fn alone(case: TriedCase<'_>, hypothesis: Hypothesis) -> Option<NamedMistake> {
    let mut found = None;
    hypothesis(case, &mut |changed, mistake, details| {
        let holds = changed.holds();
        if holds {
            found = Some(NamedMistake { stays: stays_refused(changed), ..NamedMistake::new(mistake, details) });
        }
        holds
    });
    found
}

fn together(case: TriedCase<'_>, first: Hypothesis, others: &[Hypothesis]) -> Option<NamedMistake> {
    let mut found = None;
    first(case, &mut |changed, mistake, details| {
        let second = others.iter().find_map(|other| alone(changed, *other));
        let both = second.map(|mut second| {
            let stays = second.stays.take();
            NamedMistake { and: Some(Box::new(second)), stays, ..NamedMistake::new(mistake, details) }
        });
        found = found.take().or(both);
        found.is_some()
    });
    found
}

/// A request with the header of another sender, which is an older header of this one as well: nothing tells who sent it.
fn other_sender(case: TriedCase<'_>, words: &str, header: &str) -> NamedMistake {
    let (name, wanted) = (&case.scheme.name, names(case).first().map(String::as_str).unwrap_or_default());
    let what = format!("{words}: it has the header `{header}`, and no header that only the sender of `{name}` writes");
    let advice = format!(
        "does {words} send to this URL? Then give the route that scheme. If the sender is that of `{name}`, a proxy on the \
         way removes `{wanted}`: leave the scheme as it is"
    );
    NamedMistake { advice: Some(advice), ..NamedMistake::new(Mistake::SchemeOther, &[&what]) }
}

/// Other schemes by which it matches. Only those whose signature the request has: a scheme that reads what this one does
/// would match as well, and be another name for it.
fn other_scheme(case: TriedCase<'_>) -> Option<NamedMistake> {
    let has_signature = |scheme: &Scheme| match &scheme.signature {
        SignatureSource::Headers(names) => names.iter().any(|name| case.seen.header(name).is_some()),
        _ => false,
    };
    let others = case.known.schemes.iter().filter(|other| {
        other.name != case.scheme.name && other.signs() && !other.wants_public_key() && has_signature(other)
    });
    let fits = others.filter(|other| {
        let keys = keys_by(case, &other.secret);
        keys.iter().any(|key| TriedCase { scheme: other, key: Some(key), ..case }.holds())
    });
    let found: Vec<_> = fits.take(6).collect();
    let first = found.first()?;
    let words = found.iter().map(|scheme| format!("`{}`", scheme.name)).collect::<Vec<_>>().join(" or ");
    let own = names(case).iter().find(|name| case.seen.headers.all(name).next().is_some());
    // That it stands twice says enough.
    if own.is_some_and(|name| case.seen.headers.all(name).nth(1).is_some()) {
        return None;
    }
    let Some(own) = own else {
        if let Some(header) = older_header(case, first) {
            return Some(other_sender(case, &words, header));
        }
        return Some(NamedMistake::new(Mistake::SchemeOther, &[&format!("{words}, whose header it has")]));
    };
    // A sender that signs twice (GitHub: SHA-1 and SHA-256) has not become another one because one signature is damaged.
    let apart = match &first.signature {
        SignatureSource::Headers(theirs) => {
            let there = theirs.iter().find(|name| case.seen.header(name).is_some());
            there.filter(|name| !names(case).iter().any(|own| own.eq_ignore_ascii_case(name)))
        }
        _ => None,
    };
    Some(match apart {
        Some(other) => NamedMistake::new(Mistake::HeaderDamaged, &[own, other, &words]),
        None => NamedMistake::new(Mistake::SchemeOther, &[&words]),
    })
}
