//! Claims that come between the steps of other claims: whatever the order, a delivery is held once and accepted once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use core::time::Duration;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;

use super::local::{ClaimVerdict, Local};
use super::stripe::Terms;
use super::*;
use crate::gate::replay::{ReplayPolicy, WhenFull};
use crate::gate::verify::Name;
use crate::now::Now;

thread_local! {
    static PLAY: RefCell<Option<Rc<Play>>> = const { RefCell::new(None) };
}

/// Called by claims where they hold no lock.
pub(super) fn between_steps() {
    let play = PLAY.with_borrow(Clone::clone);
    play.into_iter().for_each(|play| play.next());
}

const TERMS: Terms = Terms { now: 0, lifetime: 1000, evict: false };

#[derive(Clone, Debug)]
enum Event {
    /// Nothing happens between two steps.
    Nothing,
    /// A copy of delivery `.0`, under the names that `.1` chooses.
    Claim(usize, usize),
    /// A claim that is held is committed, or released.
    Settle(usize, bool),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => Just(Event::Nothing),
        4 => (0..3_usize, 0..8_usize).prop_map(|(delivery, names)| Event::Claim(delivery, names)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(at, accepted)| Event::Settle(at, accepted)),
    ];
    vec(event, 1..40)
}

/// A table, and what happens to it next.
struct Play {
    table: Local,
    names: fn(usize, usize) -> Names,
    events: RefCell<std::vec::IntoIter<Event>>,
    held: RefCell<Vec<(usize, Names)>>,
    accepted: RefCell<Vec<usize>>,
    changes: Cell<usize>,
    under_way: Cell<usize>,
}

impl Play {
    fn perform(names: fn(usize, usize) -> Names, events: Vec<Event>) -> Rc<Self> {
        let play = Rc::new(Self {
            table: Local::new(1000, &Seed::new(&[7; Seed::LENGTH])),
            names,
            events: RefCell::new(events.into_iter()),
            held: RefCell::default(),
            accepted: RefCell::default(),
            changes: Cell::new(0),
            under_way: Cell::new(0),
        });
        PLAY.set(Some(Rc::clone(&play)));
        while play.events.borrow().len() > 0 {
            play.next();
        }
        PLAY.set(None);
        play.table.assert_consistent();
        let (held, accepted) = (play.held.borrow().len(), play.accepted.borrow().len());
        assert_eq!((play.table.claimed(), play.table.held()), (held, held + accepted));
        play
    }

    fn next(&self) {
        let event = self.events.borrow_mut().next();
        match event {
            Some(Event::Claim(delivery, names)) => self.claim(delivery, names),
            Some(Event::Settle(at, accepted)) if !self.held.borrow().is_empty() => {
                self.changes.set(self.changes.get() + 1);
                let mut held = self.held.borrow_mut();
                let at = at % held.len();
                let (delivery, names) = held.swap_remove(at);
                drop(held);
                if accepted {
                    self.accepted.borrow_mut().push(delivery);
                    self.table.commit(&names, 0);
                } else {
                    self.table.release(&names);
                }
            }
            _ => {}
        }
    }

    fn claim(&self, delivery: usize, names: usize) {
        let is_accepted = || self.accepted.borrow().contains(&delivery);
        let is_held = || self.held.borrow().iter().any(|(held, _)| *held == delivery);
        let (accepted_before, alone, changes) = (is_accepted(), self.under_way.get() == 0, self.changes.get());
        self.changes.set(changes + 1);
        self.under_way.set(self.under_way.get() + 1);
        let names = (self.names)(delivery, names);
        let (by_body, verdict) = self.table.claim(&names, TERMS);
        let claimed = if by_body { names.told_apart_by_body() } else { names };
        self.under_way.set(self.under_way.get() - 1);
        // Nothing came in between.
        let alone = alone && self.changes.get() == changes + 1;
        match verdict {
            ClaimVerdict::Claimed { .. } => {
                assert!(!is_accepted() && !is_held(), "{delivery} is forwarded twice");
                self.held.borrow_mut().push((delivery, claimed));
            }
            ClaimVerdict::Duplicate => assert!(is_accepted()),
            ClaimVerdict::InFlight => assert!(!alone || is_held() && !accepted_before),
            refused => panic!("{refused:?}"),
        }
    }
}

fn name(delivery: usize, number: usize) -> Name {
    let mut bytes = [0; 16];
    // In another order for each delivery.
    bytes[0] = u8::try_from(number * (delivery * 2 + 1) % 7).unwrap();
    bytes[1] = u8::try_from(delivery).unwrap();
    Name::from(bytes)
}

/// Sets of names of which any two have one in common, with any of them as the own one.
fn names_under_keys(delivery: usize, choice: usize) -> Names {
    let sets: [&[usize]; 8] = [&[0, 1], &[1, 0], &[1, 2], &[0, 2], &[2, 0, 1], &[0, 1, 2, 3], &[2, 1], &[3, 2, 1, 0]];
    let mut numbers = sets[choice].iter();
    let mut names = Names::from(name(delivery, *numbers.next().unwrap()));
    numbers.for_each(|number| names.add(name(delivery, *number)));
    names
}

/// All deliveries have one id; each has a body of its own.
fn names_with_bodies(delivery: usize, _: usize) -> Names {
    Names::from(name(0, 0)).with_body(delivery as u64 + 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_delivery_with_several_names_is_held_once(events in events()) {
        Play::perform(names_under_keys, events);
    }

    #[test]
    fn bodies_under_one_id_are_held_once_each(events in events()) {
        Play::perform(names_with_bodies, events);
    }

    /// Of copies that come between the steps of one another one goes through, under whichever names.
    #[test]
    fn one_of_several_copies_goes_through(choices in vec(0..8_usize, 2..5), pauses in vec(0..4_usize, 8)) {
        let mut events = Vec::new();
        for (choice, pause) in choices.into_iter().zip(pauses) {
            events.push(Event::Claim(0, choice));
            events.extend(vec![Event::Nothing; pause]);
        }
        let play = Play::perform(names_under_keys, events);
        prop_assert_eq!(play.held.borrow().len(), 1);
    }
}

/// Threads that deliver copies under different names, or different bodies under one id, each until all are accepted.
fn compete(names: fn(usize, usize) -> Names) {
    const THREADS: usize = 4;
    const ROUNDS: usize = 300;
    for _ in 0..ROUNDS {
        let table = Ledger::new(1000, &Seed::new(&[7; Seed::LENGTH]));
        let policy = ReplayPolicy { when_full: WhenFull::Refuse, ..ReplayPolicy::with_tolerance(Duration::ZERO) };
        let now = Now { monotonic: Duration::ZERO, unix: Duration::ZERO };
        let held: [AtomicUsize; 3] = Default::default();
        let accepted: Arc<[AtomicUsize; 3]> = Arc::default();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (table, policy, held, accepted) = (&table, &policy, &held, &accepted);
                scope.spawn(move || {
                    for delivery in 0..3 {
                        for attempt in 0.. {
                            let names = names(delivery, (thread * 3 + attempt) % 8);
                            match at_once(table.claim(&names, policy, now)).unwrap() {
                                Claimed::New { claim, .. } => {
                                    assert_eq!(held[delivery].fetch_add(1, Ordering::SeqCst), 0);
                                    std::hint::spin_loop();
                                    assert_eq!(held[delivery].fetch_sub(1, Ordering::SeqCst), 1);
                                    if (attempt + thread) % 3 > 0 {
                                        accepted[delivery].fetch_add(1, Ordering::SeqCst);
                                        at_once(claim.commit(now)).unwrap();
                                    }
                                }
                                Claimed::InFlight => std::thread::yield_now(),
                                Claimed::Duplicate => break,
                                Claimed::Full { .. } => panic!("there is room for all"),
                            }
                        }
                    }
                });
            }
        });
        assert!(accepted.iter().all(|count| count.load(Ordering::SeqCst) == 1), "{accepted:?}");
        assert_eq!((table.held(), table.claimed()), (3, 0));
        table.local().assert_consistent();
    }
}

#[test]
fn threads_with_several_names_for_a_delivery_accept_it_once() {
    compete(names_under_keys);
}

#[test]
fn threads_with_several_bodies_under_an_id_accept_each_once() {
    compete(names_with_bodies);
}
