//! Which slow client is evicted when a limit is reached: connections and requests that make us wait for their bytes while
//! they hold something that others want.
//!
//! The victim is the oldest member of the owner that costs others most: for each of its members what it holds, times how
//! long we have waited for it. Attackers that fill a limit from few addresses hold much, and evict one another; a slow
//! sender holds little. Shares of less than a thousandth of the limit count alike, and so do waits of more than `LONG`: a
//! sender with a few deliveries under way is not evicted for attackers that hold one thing each for ever.
//!
//! Within the grace (usually [`GRACE`]) a member is evicted only for a client that holds less than the member's owner. A
//! client that holds `MUCH` times more than an owner evicts none of that owner's members, but may evict its own.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use crate::gate::client_key::ClientKey;

/// How long a client may make us wait before it can be evicted for every other: several round trips around the earth.
pub const GRACE: Duration = Duration::from_millis(500);

/// Waits that are longer count as long as this.
const LONG: Duration = Duration::from_secs(8);

/// A client that holds so many times what an owner holds evicts none of its members.
const MUCH: u64 = 8;

/// Owners that are looked at, from the one that holds most; beside them the member that we have waited for longest.
const LOOK: usize = 8;

/// A limit for which members are evicted.
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

    /// Whether only suspects hold it. They have no grace: a suspect that has sent everything does not wait for one that has
    /// not, however few their addresses are.
    #[must_use]
    pub const fn is_of_suspects(self) -> bool {
        matches!(self, Self::SuspectRequests | Self::SuspectMemory)
    }
}

/// What answers for connections and requests together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Everything of one client.
    Client(ClientKey),
    /// A connection through a proxy in front of us, whose client is not known yet.
    Alone(u64),
}

/// The members that hold something of one limit, in the order in which they are evicted. Their numbers grow with the time
/// since which we wait for them.
#[derive(Debug, Default)]
pub struct EvictionOrder {
    members: BTreeMap<u64, Member>,
    shares: BTreeMap<Owner, OwnerShare>,
    /// The owners by what they hold, and by their oldest members: those to be looked at first come last.
    order: BTreeSet<(u64, Reverse<u64>, Owner)>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    owner: Owner,
    amount: u64,
    since: Duration,
}

#[derive(Debug, Default)]
struct OwnerShare {
    amount: u64,
    /// The sum of amount and time, in milliseconds, since which it is held.
    since: u128,
    members: BTreeSet<u64>,
}

fn product(amount: u64, time: Duration) -> u128 {
    u128::from(amount) * time.as_millis()
}

impl OwnerShare {
    /// What it costs others: at least as much as a crumb would for the time for which the oldest member has waited.
    fn cost(&self, crumb: u64, (wait, now): (Duration, Duration)) -> u128 {
        let paid = product(self.amount, now).saturating_sub(self.since);
        paid.min(product(self.amount, LONG)).max(product(crumb, wait.min(LONG))).max(1)
    }

    fn place(&self, owner: Owner) -> (u64, Reverse<u64>, Owner) {
        (self.amount, Reverse(self.members.first().copied().unwrap_or(u64::MAX)), owner)
    }
}

/// What needs room.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer {
    /// Its owner.
    pub owner: Owner,
    /// How much it would hold while we wait for it; 0 for a request that is whole.
    pub amount: u64,
    /// The limit: how much all may hold.
    pub limit: u64,
    /// How long others may have made us wait before they are evicted for every owner.
    pub grace: Duration,
}

impl EvictionOrder {
    /// Counts a member, or what it holds by now.
    pub fn join(&mut self, number: u64, owner: Owner, amount: u64, since: Duration) {
        self.leave(number);
        self.members.insert(number, Member { owner, amount, since });
        let share = self.shares.entry(owner).or_default();
        self.order.remove(&share.place(owner));
        share.amount += amount;
        share.since += product(amount, since);
        share.members.insert(number);
        self.order.insert(share.place(owner));
    }

    /// Forgets a member, if it is one.
    pub fn leave(&mut self, number: u64) {
        let Some(Member { owner, amount, since }) = self.members.remove(&number) else { return };
        let Some(share) = self.shares.get_mut(&owner) else { return };
        self.order.remove(&share.place(owner));
        share.amount -= amount;
        share.since -= product(amount, since);
        share.members.remove(&number);
        if share.members.is_empty() {
            self.shares.remove(&owner);
        } else {
            self.order.insert(share.place(owner));
        }
    }

    /// What the owner that holds most holds.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.order.last().map_or(0, |(amount, ..)| *amount)
    }

    /// The member that is evicted for a newcomer. Returns `None` if none costs more than the newcomer would.
    #[must_use]
    pub fn next_to_go(&self, newcomer: Newcomer, now: Duration) -> Option<u64> {
        let crumb = (newcomer.limit >> 10).max(1);
        let own = self.shares.get(&newcomer.owner).map_or(0, |share| share.amount).saturating_add(newcomer.amount);
        let largest = self.order.iter().rev().take(LOOK).map(|(_, Reverse(number), _)| *number);
        let eldest = self.members.keys().next().copied();
        let mut goes = None;
        let mut most = 0;
        for number in largest.chain(eldest) {
            let Some(Member { owner, since, .. }) = self.members.get(&number) else { continue };
            let Some(share) = self.shares.get(owner) else { continue };
            let (wait, is_own) = (now.saturating_sub(*since), *owner == newcomer.owner);
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

    /// The oldest members of an owner.
    pub fn oldest_of(&self, owner: Owner) -> impl Iterator<Item = u64> {
        self.shares.get(&owner).into_iter().flat_map(|share| share.members.iter().copied())
    }

    /// How many members an owner has.
    #[must_use]
    pub fn len_of(&self, owner: Owner) -> usize {
        self.shares.get(&owner).map_or(0, |share| share.members.len())
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
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

    fn client(number: u8) -> Owner {
        Owner::Client(ClientKey::of(Some([192, 0, 2, number].into())))
    }

    fn newcomer(number: u8, amount: u64) -> Newcomer {
        Newcomer { owner: client(number), amount, limit: 100, grace: GRACE }
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_owner_that_holds_most_loses_its_oldest_member_first() {
        let mut members = EvictionOrder::default();
        members.join(1, client(1), 1, ms(0));
        members.join(2, client(2), 1, ms(1));
        members.join(3, client(2), 1, ms(2));
        assert_eq!(members.next_to_go(newcomer(9, 1), ms(600)), Some(2));
        members.leave(2);
        assert_eq!(members.next_to_go(newcomer(9, 1), ms(600)), Some(1), "now we have waited for it longest");
        members.leave(1);
        assert_eq!(members.next_to_go(newcomer(9, 1), ms(600)), Some(3));
    }

    #[test]
    fn within_the_grace_only_larger_shares_give_way() {
        let mut members = EvictionOrder::default();
        for number in 0..3 {
            members.join(number, client(1), 10, ms(100));
        }
        assert_eq!(members.next_to_go(newcomer(2, 29), ms(200)), Some(0));
        assert_eq!(members.next_to_go(newcomer(2, 30), ms(200)), None, "it would hold as much");
        assert_eq!(members.next_to_go(newcomer(1, 0), ms(200)), None, "its own are as young");
        assert_eq!(members.next_to_go(newcomer(1, 1), ms(600)), Some(0));
        assert!(EvictionOrder::default().next_to_go(newcomer(1, 1), ms(600)).is_none());
    }

    #[test]
    fn a_slow_sender_does_not_pay_for_those_who_come_and_go() {
        let mut members = EvictionOrder::default();
        members.join(0, client(1), 1, ms(0));
        for number in 1..100 {
            members.join(number, client(2), 1, ms(10_000 + 5 * number));
        }
        assert_eq!(members.next_to_go(newcomer(3, 1), ms(10_495)), Some(1), "young, but many");
    }

    #[test]
    fn an_owner_that_holds_much_evicts_its_own_members() {
        let mut members = EvictionOrder::default();
        members.join(0, client(1), 1, ms(0));
        for number in 1..20 {
            members.join(number, client(2), 1, ms(5_000));
        }
        assert_eq!(members.next_to_go(newcomer(2, 1), ms(5_100)), None);
        assert_eq!(members.next_to_go(newcomer(2, 1), ms(5_500)), Some(1));
        assert_eq!(members.next_to_go(newcomer(3, 1), ms(5_001)), Some(0), "we have waited for no other yet");
    }

    #[test]
    fn deliveries_under_way_do_not_pay_for_those_who_stay_forever() {
        let mut members = EvictionOrder::default();
        let limit = 10_000;
        for number in 0..100 {
            members.join(number, client(number as u8), 1, ms(number));
        }
        for number in 100..120 {
            members.join(number, client(200), 1, ms(9_800));
        }
        assert_eq!(members.next_to_go(Newcomer { limit, ..newcomer(201, 1) }, ms(10_000)), Some(0));
    }

    proptest! {
        #[test]
        fn shares_are_the_sums_of_their_members(
            steps in vec((0_u64..20, 0_u8..5, 1_u64..100, any::<bool>()), 1..200)
        ) {
            let mut members = EvictionOrder::default();
            let mut model: BTreeMap<u64, (u8, u64)> = BTreeMap::new();
            for (number, owner, amount, joins) in steps {
                if joins {
                    members.join(number, client(owner), amount, ms(number));
                    model.insert(number, (owner, amount));
                } else {
                    members.leave(number);
                    model.remove(&number);
                }
                let share = |owner: u8| model.values().filter(|(of, _)| *of == owner).map(|(_, amount)| amount).sum::<u64>();
                let largest = model.values().map(|(owner, _)| share(*owner)).max();
                prop_assert_eq!(members.largest(), largest.unwrap_or(0));
                prop_assert_eq!((members.len(), members.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(members.order.len(), members.shares.len());
                // When all have waited long, the oldest of one of those who hold most goes.
                let goes = members.next_to_go(newcomer(9, 1), LONG + ms(1000));
                prop_assert_eq!(goes.is_some(), !model.is_empty());
                if let Some(goes) = goes {
                    let (owner, _) = model[&goes];
                    prop_assert_eq!(Some(share(owner)), largest);
                    prop_assert!(model.iter().all(|(number, (of, _))| *of != owner || *number >= goes));
                }
            }
        }
    }
}
