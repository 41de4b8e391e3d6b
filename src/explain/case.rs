//! What one trial judges: a request, as it came or with something of it changed, and what it is verified with. The engine
//! judges all of them; nothing here compares signatures.

use core::time::Duration;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::body_end::BodyEnd;
use super::budget::TrialBudget;
use super::mistake::Mistake;
use crate::gate::verify::{Delivery, Guards, Key, Keyring, PublicUrl, Scheme, Validity, Verifier, inspect};
use crate::now::Now;
use crate::wire::headers::Headers;

/// A name, and the bytes of a file.
pub type NamedSecret = (String, Zeroizing<Vec<u8>>);

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'c> {
    pub(super) method: &'c [u8],
    pub(super) target: &'c [u8],
    pub(super) headers: Headers<'c>,
    pub(super) body: &'c [u8],
}

impl<'c> Seen<'c> {
    pub(super) fn of<D: Delivery>(delivery: &'c D) -> Self {
        Self {
            method: delivery.method(),
            target: delivery.target(),
            headers: delivery.headers(),
            body: delivery.body(),
        }
    }

    /// The value of a header that stands once.
    pub(super) fn header(&self, name: &str) -> Option<&'c [u8]> {
        self.headers.unique(name).ok().flatten()
    }
}

impl Delivery for Seen<'_> {
    fn method(&self) -> &[u8] {
        self.method
    }

    fn target(&self) -> &[u8] {
        self.target
    }

    fn headers(&self) -> Headers<'_> {
        self.headers
    }

    fn body(&self) -> &[u8] {
        self.body
    }
}

/// What is known, and the same in all trials.
pub(super) struct GivenFacts<'c> {
    pub(super) scheme: Arc<Scheme>,
    /// The keys of the route.
    pub(super) keys: &'c [Key],
    /// The same in their order, without their times.
    pub(super) keyring: Keyring,
    /// Each secret, as it stands in its file.
    pub(super) secrets: &'c [NamedSecret],
    /// Secrets of other routes, with words for each.
    pub(super) of_others: &'c [NamedSecret],
    /// Schemes that may have been meant.
    pub(super) schemes: &'c [Arc<Scheme>],
    pub(super) url: Option<PublicUrl>,
    pub(super) now: Now,
    /// Whether that is the present, and not the time at which the delivery came.
    pub(super) is_present: bool,
    /// How old a delivery may be.
    pub(super) tolerance: Option<Duration>,
    /// The query of the URL that the operator has given.
    pub(super) query: Option<&'c [u8]>,
    pub(super) end: BodyEnd<'c>,
    pub(super) budget: &'c TrialBudget,
}

/// One trial.
#[derive(Clone, Copy)]
pub(super) struct TriedCase<'c> {
    pub(super) known: &'c GivenFacts<'c>,
    pub(super) seen: Seen<'c>,
    pub(super) scheme: &'c Arc<Scheme>,
    /// A key instead of the route's own.
    pub(super) key: Option<&'c [u8]>,
    pub(super) url: Option<&'c PublicUrl>,
}

/// Takes a changed case with the mistake that the change would undo, and what is particular to it; true ends the search.
pub(super) type Visit<'v> = dyn for<'n> FnMut(TriedCase<'n>, Mistake, &[&str]) -> bool + 'v;

/// Shows changed cases to a visitor until it has enough; whether it has.
pub(super) type Hypothesis = for<'c> fn(TriedCase<'c>, &mut Visit<'_>) -> bool;

impl<'c> TriedCase<'c> {
    pub(super) fn of(known: &'c GivenFacts<'c>, seen: Seen<'c>) -> Self {
        Self { known, seen, scheme: &known.scheme, key: None, url: known.url.as_ref() }
    }

    pub(super) fn with_body<'n>(self, body: &'n [u8]) -> TriedCase<'n>
    where
        'c: 'n,
    {
        TriedCase { seen: Seen { body, ..self.seen }, ..self }
    }

    pub(super) fn with_target<'n>(self, target: &'n [u8]) -> TriedCase<'n>
    where
        'c: 'n,
    {
        TriedCase { seen: Seen { target, ..self.seen }, ..self }
    }

    pub(super) fn with_headers<'n>(self, headers: Headers<'n>) -> TriedCase<'n>
    where
        'c: 'n,
    {
        TriedCase { seen: Seen { headers, ..self.seen }, ..self }
    }

    /// Whether the signature matches, at whatever time.
    pub(super) fn holds(self) -> bool {
        let keyring = self.keyring();
        if keyring.keys().is_empty() {
            return false;
        }
        let verifier = Verifier::for_explanation(Arc::clone(self.scheme), keyring, self.url.cloned());
        self.known.budget.matches(&verifier, &self.seen, self.known.now)
    }

    fn keyring(self) -> Keyring {
        let made = |bytes: &[u8]| {
            Key::of_bytes("tried", self.scheme.kind, Zeroizing::new(bytes.to_vec()), Validity::default()).ok()
        };
        match self.key {
            Some(bytes) => Keyring::new(made(bytes).into_iter().collect()),
            None if self.scheme.kind == self.known.scheme.kind => self.known.keyring.clone(),
            None => {
                let decoded = self.decoded();
                Keyring::new(decoded.iter().filter_map(|bytes| made(bytes)).collect())
            }
        }
    }

    /// The key bytes that the scheme makes of each secret.
    pub(super) fn decoded(self) -> Vec<Zeroizing<Vec<u8>>> {
        if let Some(key) = self.key {
            return vec![Zeroizing::new(key.to_vec())];
        }
        let secrets = self.known.secrets.iter();
        secrets.filter_map(|(_, secret)| inspect::decode_secret(self.scheme, without_line_end(secret)).ok()).collect()
    }

    /// The id of a key that matches, of those that `may` pick.
    pub(super) fn matching_key(self, may: impl Fn(&Key) -> bool) -> Option<String> {
        let keys = self.known.keys.iter().zip(self.known.keyring.keys()).filter(|(timed, _)| may(timed));
        let mut keys = keys.map(|(_, key)| key).map(|key| (key.id().to_owned(), Keyring::new(vec![key.clone()])));
        let found = keys.find(|(_, keyring)| {
            let verifier = Verifier::for_explanation(Arc::clone(self.scheme), keyring.clone(), self.url.cloned());
            self.known.budget.matches(&verifier, &self.seen, self.known.now)
        });
        found.map(|(id, _)| id)
    }

    /// Takes the work of going through the body so many times from the budget; false where that is too much.
    pub(super) fn pays(self, times: usize) -> bool {
        self.known.budget.steps(self.seen.body, times)
    }

    /// The scheme with something changed; what keeps parts apart is no matter for a trial.
    pub(super) fn changed_scheme(self, change: impl FnOnce(&mut Scheme)) -> Arc<Scheme> {
        let mut scheme = Scheme { guards: Guards::default(), ..(**self.scheme).clone() };
        change(&mut scheme);
        Arc::new(scheme)
    }
}

/// A secret without the line end that every file may have.
pub(super) fn without_line_end(secret: &[u8]) -> &[u8] {
    let bare = secret.strip_suffix(b"\n").unwrap_or(secret);
    bare.strip_suffix(b"\r").unwrap_or(bare)
}
