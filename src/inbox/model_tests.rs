//! The agenda against a model: whatever happens, in whatever order.
#![allow(clippy::unwrap_used)]

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::inbox::agenda::Agenda;
use crate::inbox::delivery::DeliveryId;
use crate::inbox::judgement::AttemptEnd;
use crate::inbox::lane::{LaneTerms, OnDead};
use crate::inbox::row::DeliveryRow;
use crate::inbox::row::tests::row;
use crate::inbox::store::{Settled, Settlement};
use crate::now::Now;

#[derive(Clone, Debug)]
enum Action {
    Accept { route: usize, key: u8 },
    Next,
    Finish { which: usize, end: AttemptEnd },
    Commit { which: usize },
    Keep { which: usize },
    Forget { which: usize },
    Hold { route: usize, held: bool },
    Wait(u64),
    ClockStep(i64),
}

fn ends() -> impl Strategy<Value = AttemptEnd> {
    let retry = prop_oneof![Just(None), (0_u64..100_000).prop_map(Some)];
    let status = prop_oneof![Just(200_u16), Just(204), Just(400), Just(409), Just(429), Just(500), Just(503)];
    prop_oneof![
        4 => (status, retry).prop_map(|(status, retry_after)| AttemptEnd::Answered { status, retry_after }),
        1 => Just(AttemptEnd::Unreachable),
        1 => Just(AttemptEnd::TimedOut),
        1 => Just(AttemptEnd::NotSent),
    ]
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0_usize..3, 0_u8..4).prop_map(|(route, key)| Action::Accept { route, key }),
        8 => Just(Action::Next),
        6 => (0_usize..8, ends()).prop_map(|(which, end)| Action::Finish { which, end }),
        6 => (0_usize..8).prop_map(|which| Action::Commit { which }),
        1 => (0_usize..8).prop_map(|which| Action::Keep { which }),
        1 => (0_usize..40).prop_map(|which| Action::Forget { which }),
        1 => (0_usize..3, any::<bool>()).prop_map(|(route, held)| Action::Hold { route, held }),
        3 => (0_u64..120_000).prop_map(Action::Wait),
        1 => (-100_000_000_i64..100_000_000).prop_map(Action::ClockStep),
    ]
}

/// What is known of each delivery from outside.
#[derive(Default)]
struct Model {
    living: BTreeMap<DeliveryId, (usize, u8)>,
    flying: BTreeSet<DeliveryId>,
    settling: Vec<Settlement>,
    held: [bool; 3],
    next_id: u64,
    monotonic: u64,
    unix: i64,
}

const TERMS: [(u32, bool); 3] = [(1, true), (3, false), (2, true)];

impl Model {
    fn now(&self) -> Now {
        let unix = u64::try_from(self.unix).unwrap_or(0);
        Now { monotonic: Duration::from_millis(self.monotonic), unix: Duration::from_millis(unix) }
    }

    fn remove(&mut self, id: DeliveryId) {
        self.living.remove(&id);
        self.flying.remove(&id);
        self.settling.retain(|settlement| settlement.id != id);
    }

    /// What must be true of a delivery that is to be attempted.
    fn check_due(&self, id: DeliveryId) {
        let (route, key) = self.living[&id];
        assert!(!self.flying.contains(&id), "{id} is under way already");
        assert!(!self.settling.iter().any(|settlement| settlement.id == id), "{id} is settled");
        assert!(!self.held[route], "{id} is held");
        let beside = self.flying.iter().filter(|other| self.living[other].0 == route).count();
        assert!(beside < TERMS[route].0 as usize, "concurrency of {route}");
        if key > 0 && TERMS[route].1 {
            let older = self.living.iter().find(|(other, of)| **other < id && **of == (route, key));
            assert_eq!(older, None, "{id} overtakes");
        }
    }

    fn step(&mut self, agenda: &mut Agenda, action: &Action) {
        match *action {
            Action::Accept { route, key } => {
                self.next_id += 1;
                let id = DeliveryId(self.next_id);
                let key = if TERMS[route].1 { key } else { 0 };
                let accepted = u64::try_from(self.unix).unwrap_or(0);
                let row = DeliveryRow { order_key: [key; 16], accepted, begun: accepted, ..row(self.next_id) };
                assert!(agenda.admit(&row, route, self.now()));
                self.living.insert(id, (route, key));
            }
            Action::Next => {
                if let Some(due) = agenda.next(self.now()) {
                    self.check_due(due.id);
                    self.flying.insert(due.id);
                }
            }
            Action::Finish { which, end } => {
                let Some(id) = self.flying.iter().nth(which).copied() else { return };
                self.flying.remove(&id);
                match agenda.finish(id, end, self.now()) {
                    Some(settlement) if !matches!(settlement.settled, Settled::Again { .. }) => {
                        self.settling.push(settlement);
                    }
                    Some(settlement) => assert!(settlement.attempts > 0),
                    None => assert!(!end.counts()),
                }
            }
            Action::Commit { which } => {
                if which < self.settling.len() {
                    let settlement = self.settling.remove(which);
                    agenda.committed(&settlement);
                    self.remove(settlement.id);
                }
            }
            Action::Keep { which } => {
                if which < self.settling.len() {
                    let settlement = self.settling.remove(which);
                    agenda.keep(settlement.id, self.now());
                }
            }
            Action::Forget { which } => {
                let Some(id) = self.living.keys().nth(which).copied() else { return };
                agenda.forget(id);
                self.remove(id);
            }
            Action::Hold { route, held } => {
                agenda.hold(route, held);
                self.held[route] = held;
            }
            Action::Wait(millis) => {
                self.monotonic += millis;
                self.unix += i64::try_from(millis).unwrap();
            }
            Action::ClockStep(millis) => self.unix = (self.unix + millis).max(0),
        }
        assert_eq!(agenda.len(), self.living.len(), "nothing is lost, nothing is made up");
    }

    /// The application comes back, everything is released: all must be delivered.
    fn drain(&mut self, agenda: &mut Agenda) {
        (0..3).for_each(|route| self.step(agenda, &Action::Hold { route, held: false }));
        for _ in 0..20_000 {
            if self.living.is_empty() {
                return;
            }
            self.step(agenda, &Action::Next);
            let end = AttemptEnd::Answered { status: 200, retry_after: None };
            self.step(agenda, &Action::Finish { which: 0, end });
            self.step(agenda, &Action::Commit { which: 0 });
            self.step(agenda, &Action::Wait(10_000));
        }
        panic!("{} are stuck: {agenda:?}", self.living.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn nothing_is_lost_overtaken_or_attempted_twice(
        seed in any::<u64>(),
        actions in proptest::collection::vec(actions(), 0..200),
    ) {
        let terms = |at: usize| LaneTerms {
            upstream: at / 2,
            concurrency: TERMS[at].0,
            give_up_after: 600_000,
            on_dead: OnDead::Continue,
            ..LaneTerms::default()
        };
        let mut agenda = Agenda::new((0..3).map(terms).collect(), seed);
        let mut model = Model { unix: 1_795_478_400_000, ..Model::default() };
        actions.iter().for_each(|action| model.step(&mut agenda, action));
        model.drain(&mut agenda);
        prop_assert!(agenda.is_empty());
        prop_assert_eq!(agenda.wakes_at(), None);
    }
}
