//! How a connection has behaved, and who goes first for it.
//!
//! Only what a stranger cannot have for nothing counts in favour of a connection: a delivery on it that was proven genuine
//! and accepted. What a request says of itself, such as the id of a key, is no reason to prefer it.

use crate::gate::admission::keyed_buckets::ClientKey;
use crate::outcome::{Outcome, Rejection};

/// Refusals in a row that may happen to a sender: a copy, a delivery with an old signature. More are a habit.
const FEW: u8 = 3;

/// Who goes first when connections wait for their turns. The better one is less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The last delivery was proven genuine and accepted.
    Proven,
    /// Nothing is known.
    #[default]
    New,
    /// Nothing is known, and the first request is not admitted yet. It has cost nothing so far, and admitting it may make others
    /// end.
    First,
    /// The last request was refused.
    Refused,
    /// So were several in a row, and the client is over its budget.
    Suspect,
}

impl Rank {
    /// Every rank, the best first.
    pub const ALL: [Self; 5] = [Self::Proven, Self::New, Self::First, Self::Refused, Self::Suspect];
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conduct {
    /// The client whose delivery was the last one, was genuine and accepted.
    proven: Option<ClientKey>,
    /// Refusals since the last genuine delivery.
    refusals: u8,
    over_budget: bool,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Whose it was, where it got as far as admission.
    pub client: Option<ClientKey>,
    /// Whether it was proven genuine.
    pub genuine: bool,
    /// Whether its client was over its budget.
    pub over_budget: bool,
    /// Whether the connection is a trusted proxy's, which brings requests of other clients, too.
    pub shared: bool,
}

impl Conduct {
    /// Its rank among others.
    #[must_use]
    pub const fn rank(&self) -> Rank {
        match self {
            Self { proven: Some(_), .. } => Rank::Proven,
            Self { refusals: 0, .. } => Rank::New,
            Self { over_budget: true, refusals, .. } if *refusals > FEW => Rank::Suspect,
            _ => Rank::Refused,
        }
    }

    /// Whether the last request was a delivery that was genuine and accepted.
    #[must_use]
    pub const fn has_proven(&self) -> bool {
        self.proven.is_some()
    }

    /// Whether the last request was a delivery of this client that was genuine and accepted.
    #[must_use]
    pub fn is_proven(&self, client: ClientKey) -> bool {
        self.proven == Some(client)
    }

    /// How the next request has ended.
    pub fn note(&mut self, ended: Ended) {
        let accepted = matches!(ended.outcome, Outcome::Forwarded { status: 200..300 } | Outcome::Accepted { .. });
        self.proven = ended.client.filter(|_| ended.genuine && accepted);
        match ended.outcome {
            Outcome::Rejected(rejection) => {
                self.refusals = self.refusals.saturating_add(1);
                self.over_budget = (ended.over_budget || rejection == Rejection::ClientRateLimited) && !ended.shared;
            }
            _ if ended.genuine => self.refusals = 0,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn client(number: u8) -> ClientKey {
        ClientKey::of(Some([192, 0, 2, number].into()))
    }

    fn ended(outcome: impl Into<Outcome>) -> Ended {
        let outcome = outcome.into();
        let genuine = matches!(outcome, Outcome::Forwarded { .. } | Outcome::Rejected(Rejection::Duplicate));
        Ended { outcome, client: Some(client(1)), genuine, over_budget: true, shared: false }
    }

    const ACCEPTED: Outcome = Outcome::Forwarded { status: 204 };
    const FORGED: Rejection = Rejection::SignatureMismatch;

    #[test]
    fn refusals_in_a_row_cost_the_rank_and_an_accepted_delivery_gives_it_back() {
        let mut conduct = Conduct::default();
        assert_eq!(conduct.rank(), Rank::New);
        for expected in [Rank::Refused, Rank::Refused, Rank::Refused, Rank::Suspect, Rank::Suspect] {
            conduct.note(ended(FORGED));
            assert_eq!(conduct.rank(), expected);
        }
        conduct.note(ended(ACCEPTED));
        assert_eq!((conduct.rank(), conduct.is_proven(client(1))), (Rank::Proven, true));
        conduct.note(ended(FORGED));
        assert_eq!((conduct.rank(), conduct.is_proven(client(1))), (Rank::Refused, false));
        (0..300).for_each(|_| conduct.note(ended(FORGED)));
        assert_eq!(conduct.rank(), Rank::Suspect);
    }

    #[test]
    fn what_a_stranger_can_have_for_nothing_proves_nothing() {
        let mut conduct = Conduct::default();
        for outcome in
            [Rejection::Duplicate.into(), Rejection::DuplicateInFlight.into(), Outcome::Forwarded { status: 500 }]
        {
            conduct.note(ended(outcome));
            assert!(conduct.rank() > Rank::Proven, "{outcome:?}");
        }
        // A route that verifies nothing forwards everything.
        let mut conduct = Conduct::default();
        conduct.note(ended(FORGED));
        conduct.note(Ended { genuine: false, ..ended(ACCEPTED) });
        assert_eq!(conduct.rank(), Rank::Refused);
    }

    #[test]
    fn within_the_budget_and_behind_proxies_no_request_is_a_suspect() {
        for change in
            [|it| Ended { over_budget: false, ..it }, |it| Ended { shared: true, ..it }] as [fn(Ended) -> Ended; 2]
        {
            let mut conduct = Conduct::default();
            (0..20).for_each(|_| conduct.note(change(ended(FORGED))));
            assert_eq!(conduct.rank(), Rank::Refused);
        }
    }

    #[test]
    fn a_delivery_of_one_client_proves_nothing_for_another_behind_the_same_proxy() {
        let mut conduct = Conduct::default();
        conduct.note(Ended { shared: true, ..ended(ACCEPTED) });
        assert!(conduct.is_proven(client(1)) && !conduct.is_proven(client(2)));
    }

    proptest! {
        /// Whatever came before: only the last request can prove a connection, and only what was refused is a suspect.
        #[test]
        fn the_rank_follows_from_what_happened(ends in proptest::collection::vec((0..4_u8, any::<[bool; 3]>()), 1..40)) {
            let mut conduct = Conduct::default();
            let mut refused = 0;
            for (kind, [genuine, over_budget, shared]) in ends {
                let outcome = match kind {
                    0 => ACCEPTED,
                    1 => Outcome::Forwarded { status: 502 },
                    2 => Rejection::Duplicate.into(),
                    _ => FORGED.into(),
                };
                conduct.note(Ended { outcome, client: Some(client(1)), genuine, over_budget, shared });
                refused = match (kind, genuine) { (2.., _) => refused + 1, (_, true) => 0, _ => refused };
                prop_assert_eq!(conduct.rank() == Rank::Proven, kind == 0 && genuine);
                prop_assert!(conduct.rank() != Rank::Suspect || refused > FEW);
                prop_assert!(conduct.rank() < Rank::Refused || refused > 0);
            }
        }
    }
}
