//! Those who make us wait for their bytes while they hold something that others want, and who of them gives way.
//!
//! It is the oldest of the party that costs others most: for each of its members what it holds, times how long it has
//! made us wait. Strangers who fill a bound from few addresses hold much, and push one another out; a slow sender holds little.
//! Shares of less than a thousandth of the bound count alike, and so do waits of more than `LONG`: a sender with a few
//! deliveries under way does not give way to strangers who hold one thing each, for ever.
//!
//! Whoever has made us wait for less than the grace (usually [`GRACE`]) gives way only to those whose party holds less than his; and nobody
//! gives way to a party that holds many times more, which may take the place of one of its own.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::gate::client_key::ClientKey;

/// How long somebody may make us wait before he gives way to everybody: several round trips around the earth.
pub const GRACE: Duration = Duration::from_millis(500);

/// Waits that are longer count as long as this.
const LONG: Duration = Duration::from_secs(8);

/// Whoever holds so many times what another party holds takes nothing from it.
const MUCH: u64 = 8;

/// Parties that are looked at, from the one that holds most; and the one that has waited longest.
const LOOK: usize = 8;

/// A bound for which those who make us wait give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Connections at a time.
    Connections,
    /// Exchanges at a time.
    Requests,
    /// Bytes of bodies.
    BodyMemory,
    /// Exchanges of suspects ([`crate::gate::admission::suspects`]) at a time.
    SuspectRequests,
    /// Bytes of their bodies.
    SuspectMemory,
}

impl Bound {
    /// Every bound.
    pub const ALL: [Self; 5] =
        [Self::Connections, Self::Requests, Self::BodyMemory, Self::SuspectRequests, Self::SuspectMemory];

    /// Whether suspects alone hold it, who have no grace: one that has sent everything does not wait for one that has
    /// not, however few the addresses are that they come from.
    #[must_use]
    pub const fn is_of_suspects(self) -> bool {
        matches!(self, Self::SuspectRequests | Self::SuspectMemory)
    }
}

/// Who is held to account together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// Everything of one client.
    Client(ClientKey),
    /// A connection that came through a proxy in front of us, and has not said yet for whom.
    Alone(u64),
}

/// Those who hold something of one bound. Members are known by numbers that grow with the time since which they make us
/// wait.
#[derive(Debug, Default)]
pub struct Crowd {
    members: BTreeMap<u64, Member>,
    shares: BTreeMap<Party, Share>,
    /// The parties by what they hold, and by their oldest members: those who are to be looked at first come last.
    order: BTreeSet<(u64, Reverse<u64>, Party)>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    party: Party,
    amount: u64,
    since: Duration,
}

#[derive(Debug, Default)]
struct Share {
    amount: u64,
    /// The sum of amount and time, in milliseconds, since which it is held.
    since: u128,
    members: BTreeSet<u64>,
}

fn product(amount: u64, time: Duration) -> u128 {
    u128::from(amount) * time.as_millis()
}

impl Share {
    /// What it costs others: at least as much as a crumb would for the time for which the oldest member has waited.
    fn cost(&self, crumb: u64, (wait, now): (Duration, Duration)) -> u128 {
        let paid = product(self.amount, now).saturating_sub(self.since);
        paid.min(product(self.amount, LONG)).max(product(crumb, wait.min(LONG))).max(1)
    }

    fn place(&self, party: Party) -> (u64, Reverse<u64>, Party) {
        (self.amount, Reverse(self.members.first().copied().unwrap_or(u64::MAX)), party)
    }
}

/// Who wants room.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer {
    /// Who it is.
    pub party: Party,
    /// How much he would hold while he makes us wait in his turn; nothing for a request that is whole.
    pub amount: u64,
    /// The bound: how much all may hold.
    pub limit: u64,
    /// How long others may have made us wait before they give way to every party.
    pub grace: Duration,
}

impl Crowd {
    /// Counts a member, or what it holds by now.
    pub fn join(&mut self, number: u64, party: Party, amount: u64, since: Duration) {
        self.leave(number);
        self.members.insert(number, Member { party, amount, since });
        let share = self.shares.entry(party).or_default();
        self.order.remove(&share.place(party));
        share.amount += amount;
        share.since += product(amount, since);
        share.members.insert(number);
        self.order.insert(share.place(party));
    }

    /// Forgets a member, if it is one.
    pub fn leave(&mut self, number: u64) {
        let Some(Member { party, amount, since }) = self.members.remove(&number) else { return };
        let Some(share) = self.shares.get_mut(&party) else { return };
        self.order.remove(&share.place(party));
        share.amount -= amount;
        share.since -= product(amount, since);
        share.members.remove(&number);
        if share.members.is_empty() {
            self.shares.remove(&party);
        } else {
            self.order.insert(share.place(party));
        }
    }

    /// What the party that holds most holds.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.order.last().map_or(0, |(amount, ..)| *amount)
    }

    /// Who gives way to a newcomer; nobody, if nobody costs more than he would.
    #[must_use]
    pub fn next_to_go(&self, newcomer: Newcomer, now: Duration) -> Option<u64> {
        let crumb = (newcomer.limit >> 10).max(1);
        let own = self.shares.get(&newcomer.party).map_or(0, |share| share.amount).saturating_add(newcomer.amount);
        let largest = self.order.iter().rev().take(LOOK).map(|(_, Reverse(number), _)| *number);
        let eldest = self.members.keys().next().copied();
        let mut goes = None;
        let mut most = 0;
        for number in largest.chain(eldest) {
            let Some(Member { party, since, .. }) = self.members.get(&number) else { continue };
            let Some(share) = self.shares.get(party) else { continue };
            let (wait, is_own) = (now.saturating_sub(*since), *party == newcomer.party);
            let young = wait < newcomer.grace && (is_own || share.amount <= own);
            if young || (!is_own && own / MUCH > share.amount.max(crumb)) {
                continue;
            }
            let cost = share.cost(crumb, (wait, now));
            if cost > most {
                (goes, most) = (Some(number), cost);
            }
        }
        goes
    }

    /// The oldest members of a party.
    pub fn oldest_of(&self, party: Party) -> impl Iterator<Item = u64> {
        self.shares.get(&party).into_iter().flat_map(|share| share.members.iter().copied())
    }

    /// How many members a party has.
    #[must_use]
    pub fn len_of(&self, party: Party) -> usize {
        self.shares.get(&party).map_or(0, |share| share.members.len())
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn client(number: u8) -> Party {
        Party::Client(ClientKey::of(Some([192, 0, 2, number].into())))
    }

    fn newcomer(number: u8, amount: u64) -> Newcomer {
        Newcomer { party: client(number), amount, limit: 100, grace: GRACE }
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn whoever_holds_most_goes_first_and_of_him_the_oldest() {
        let mut crowd = Crowd::default();
        crowd.join(1, client(1), 1, ms(0));
        crowd.join(2, client(2), 1, ms(1));
        crowd.join(3, client(2), 1, ms(2));
        assert_eq!(crowd.next_to_go(newcomer(9, 1), ms(600)), Some(2));
        crowd.leave(2);
        assert_eq!(crowd.next_to_go(newcomer(9, 1), ms(600)), Some(1), "now he has waited longest");
        crowd.leave(1);
        assert_eq!(crowd.next_to_go(newcomer(9, 1), ms(600)), Some(3));
    }

    #[test]
    fn within_the_grace_only_larger_shares_give_way() {
        let mut crowd = Crowd::default();
        for number in 0..3 {
            crowd.join(number, client(1), 10, ms(100));
        }
        assert_eq!(crowd.next_to_go(newcomer(2, 29), ms(200)), Some(0));
        assert_eq!(crowd.next_to_go(newcomer(2, 30), ms(200)), None, "it would hold as much");
        assert_eq!(crowd.next_to_go(newcomer(1, 0), ms(200)), None, "his own are as young");
        assert_eq!(crowd.next_to_go(newcomer(1, 1), ms(600)), Some(0));
        assert!(Crowd::default().next_to_go(newcomer(1, 1), ms(600)).is_none());
    }

    #[test]
    fn a_slow_sender_does_not_pay_for_those_who_come_and_go() {
        let mut crowd = Crowd::default();
        crowd.join(0, client(1), 1, ms(0));
        for number in 1..100 {
            crowd.join(number, client(2), 1, ms(10_000 + 5 * number));
        }
        assert_eq!(crowd.next_to_go(newcomer(3, 1), ms(10_495)), Some(1), "young, but many");
    }

    #[test]
    fn whoever_holds_much_takes_from_his_own() {
        let mut crowd = Crowd::default();
        crowd.join(0, client(1), 1, ms(0));
        for number in 1..20 {
            crowd.join(number, client(2), 1, ms(5_000));
        }
        assert_eq!(crowd.next_to_go(newcomer(2, 1), ms(5_100)), None);
        assert_eq!(crowd.next_to_go(newcomer(2, 1), ms(5_500)), Some(1));
        assert_eq!(crowd.next_to_go(newcomer(3, 1), ms(5_001)), Some(0), "nobody else has made us wait yet");
    }

    #[test]
    fn deliveries_under_way_do_not_pay_for_those_who_stay_forever() {
        let mut crowd = Crowd::default();
        let limit = 10_000;
        for number in 0..100 {
            crowd.join(number, client(number as u8), 1, ms(number));
        }
        for number in 100..120 {
            crowd.join(number, client(200), 1, ms(9_800));
        }
        assert_eq!(crowd.next_to_go(Newcomer { limit, ..newcomer(201, 1) }, ms(10_000)), Some(0));
    }

    proptest! {
        #[test]
        fn shares_are_the_sums_of_their_members(
            steps in vec((0_u64..20, 0_u8..5, 1_u64..100, any::<bool>()), 1..200)
        ) {
            let mut crowd = Crowd::default();
            let mut model: BTreeMap<u64, (u8, u64)> = BTreeMap::new();
            for (number, party, amount, joins) in steps {
                if joins {
                    crowd.join(number, client(party), amount, ms(number));
                    model.insert(number, (party, amount));
                } else {
                    crowd.leave(number);
                    model.remove(&number);
                }
                let share = |party: u8| model.values().filter(|(of, _)| *of == party).map(|(_, amount)| amount).sum::<u64>();
                let largest = model.values().map(|(party, _)| share(*party)).max();
                prop_assert_eq!(crowd.largest(), largest.unwrap_or(0));
                prop_assert_eq!((crowd.len(), crowd.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(crowd.order.len(), crowd.shares.len());
                // When all have waited long, the oldest of one of those who hold most goes.
                let goes = crowd.next_to_go(newcomer(9, 1), LONG + ms(1000));
                prop_assert_eq!(goes.is_some(), !model.is_empty());
                if let Some(goes) = goes {
                    let (party, _) = model[&goes];
                    prop_assert_eq!(Some(share(party)), largest);
                    prop_assert!(model.iter().all(|(number, (of, _))| *of != party || *number >= goes));
                }
            }
        }
    }
}
