//! The connections that wait for turns ([`super::turns`]), by rank. Within a rank the first that came is next; among first
//! requests the clients take turns, too: one that opens hundreds of connections at a time waits behind itself.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::task::Waker;

use crate::gate::client_key::ClientKey;
use crate::gate::conduct::Rank;

/// A connection that waits.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    /// Where it stands among all who wait.
    pub(super) number: Cell<u64>,
    /// How many turns it needs.
    pub(super) turns: Cell<usize>,
    pub(super) state: Cell<TurnState>,
    pub(super) waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TurnState {
    Waits,
    Called,
    /// It has been given up: its connection was evicted.
    #[default]
    Gone,
}

/// Where a connection waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum TurnStanding {
    /// By what was seen on the connection.
    Ranked(Rank),
    /// For the first request of the connection of this client to be admitted.
    First(ClientKey),
}

impl TurnStanding {
    /// Its rank.
    pub(super) const fn rank(self) -> Rank {
        match self {
            Self::Ranked(rank) => rank,
            Self::First(_) => Rank::First,
        }
    }
}

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct TurnLines {
    ranks: [VecDeque<Rc<Waiter>>; Rank::ALL.len()],
    first: FairQueue<Rc<Waiter>>,
}

impl TurnLines {
    pub(super) fn push(&mut self, standing: TurnStanding, waiter: Rc<Waiter>) {
        match standing {
            TurnStanding::First(client) => self.first.push(client, waiter),
            TurnStanding::Ranked(rank) => {
                if let Some(queue) = self.ranks.get_mut(rank as usize) {
                    queue.push_back(waiter);
                }
            }
        }
    }

    /// The next one of a rank. Those that have gone are forgotten.
    pub(super) fn front(&mut self, rank: Rank) -> Option<&Waiter> {
        while self.peek(rank)?.state.get() != TurnState::Waits {
            self.pop(rank);
        }
        self.peek(rank)
    }

    fn peek(&self, rank: Rank) -> Option<&Waiter> {
        match rank {
            Rank::First => self.first.front().map(Rc::as_ref),
            _ => self.ranks.get(rank as usize)?.front().map(Rc::as_ref),
        }
    }

    pub(super) fn pop(&mut self, rank: Rank) -> Option<Rc<Waiter>> {
        match rank {
            Rank::First => self.first.pop(),
            _ => self.ranks.get_mut(rank as usize)?.pop_front(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.first.len() + self.ranks.iter().map(VecDeque::len).sum::<usize>()
    }
}

/// A queue in which clients are equal: start-time fair queueing. What a client adds is tagged with one more than its last, or
/// than what is served by now; the smallest tag is served.
#[derive(Debug)]
struct FairQueue<T> {
    /// By tag, and by when it came.
    line: BTreeMap<(u64, u64), (ClientKey, T)>,
    /// For each client that has something in the line: its last tag, and how much.
    clients: HashMap<ClientKey, (u64, usize)>,
    served: u64,
    came: u64,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { line: BTreeMap::new(), clients: HashMap::new(), served: 0, came: 0 }
    }
}

impl<T> FairQueue<T> {
    fn push(&mut self, client: ClientKey, item: T) {
        let (last, count) = self.clients.entry(client).or_default();
        *last = self.served.max(*last) + 1;
        *count += 1;
        self.came += 1;
        self.line.insert((*last, self.came), (client, item));
    }

    fn front(&self) -> Option<&T> {
        self.line.first_key_value().map(|(_, (_, item))| item)
    }

    fn pop(&mut self) -> Option<T> {
        let ((tag, _), (client, item)) = self.line.pop_first()?;
        self.served = tag;
        if let Some((_, count)) = self.clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&client);
            }
        }
        Some(item)
    }

    fn len(&self) -> usize {
        self.line.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn client(number: u8) -> ClientKey {
        ClientKey::of(Some([192, 0, 2, number].into()))
    }

    #[test]
    fn a_client_with_one_waits_for_one_of_each_other_and_not_for_all() {
        let mut queue = FairQueue::default();
        for number in 0..1000_u32 {
            queue.push(client((number % 4) as u8), number);
        }
        (0..100).for_each(|_| assert!(queue.pop().is_some()));
        queue.push(client(9), 5000);
        let before = std::iter::from_fn(|| queue.pop()).take_while(|item| *item != 5000).count();
        assert!(before <= 4, "{before}");
        while queue.pop().is_some() {}
        assert_eq!((queue.len(), queue.clients.len()), (0, 0));
    }

    proptest! {
        /// Nothing is lost, what one client adds stays in its order, and clients that always wait are served equally.
        #[test]
        fn every_item_comes_out_once_and_in_the_order_of_its_client(steps in vec(proptest::option::of(0_u8..4), 1..200)) {
            let (mut queue, mut added, mut taken) = (FairQueue::default(), Vec::new(), Vec::new());
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Some(owner) => {
                        queue.push(client(owner), (owner, number));
                        added.push((owner, number));
                    }
                    None => taken.extend(queue.pop()),
                }
                prop_assert_eq!(queue.len(), added.len() - taken.len());
            }
            taken.extend(std::iter::from_fn(|| queue.pop()));
            prop_assert!(queue.clients.is_empty());
            for owner in 0..4 {
                let of = |list: &[(u8, usize)]| list.iter().filter(|(by, _)| *by == owner).copied().collect::<Vec<_>>();
                prop_assert_eq!(of(&added), of(&taken));
            }
        }
    }
}
