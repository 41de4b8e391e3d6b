//! The agenda with virtual time: an application that is away, broken, slow, or refuses everything.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use core::time::Duration;

use crate::inbox::agenda::{Agenda, Due};
use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::judgement::AttemptEnd;
use crate::inbox::lane::{LaneTerms, OnDead};
use crate::inbox::row::DeliveryRow;
use crate::inbox::row::tests::row;
use crate::inbox::store::{Settled, Settlement};
use crate::now::Now;

/// 2026-11-24.
const UNIX: u64 = 1_795_478_400_000;

const fn at(millis: u64) -> Now {
    Now { monotonic: Duration::from_millis(millis), unix: Duration::from_millis(UNIX + millis) }
}

const fn answered(status: u16) -> AttemptEnd {
    AttemptEnd::Answered { status, retry_after: None }
}

fn new_row(id: u64, millis: u64) -> DeliveryRow {
    DeliveryRow { accepted: UNIX + millis, begun: UNIX + millis, ..row(id) }
}

fn keyed(id: u64, key: u8) -> DeliveryRow {
    DeliveryRow { order_key: [key; 16], ..new_row(id, 0) }
}

fn agenda(terms: LaneTerms) -> Agenda {
    Agenda::new(vec![terms], 1)
}

fn ids(due: &[Due]) -> Vec<u64> {
    due.iter().map(|due| due.id.0).collect()
}

fn all_due(agenda: &mut Agenda, millis: u64) -> Vec<Due> {
    core::iter::from_fn(|| agenda.next(at(millis))).collect()
}

/// Attempts everything that is due until `until`, one millisecond an attempt. Gives when each attempt of which ended how.
fn run(
    agenda: &mut Agenda,
    from: u64,
    until: u64,
    mut answer: impl FnMut(u64, Due) -> AttemptEnd,
) -> Vec<(u64, u64, Option<Settlement>)> {
    let (mut now, mut log) = (from, Vec::new());
    while now < until {
        let due = all_due(agenda, now);
        for due in &due {
            let settlement = agenda.finish(due.id, answer(now, *due), at(now));
            settlement.iter().for_each(|settlement| agenda.committed(settlement));
            log.push((now, due.id.0, settlement));
        }
        let wakes = agenda.wakes_at().unwrap_or(until);
        assert!(!due.is_empty() || wakes > now, "it says that it has something to do, and has nothing");
        now = if due.is_empty() { wakes } else { now + 1 };
    }
    log
}

#[test]
fn the_oldest_goes_first_at_the_concurrency_of_the_route() {
    let mut agenda = agenda(LaneTerms { concurrency: 3, ..LaneTerms::default() });
    (1..=5).rev().for_each(|id| assert!(agenda.admit(&new_row(id, 0), 0, at(0))));
    assert!(!agenda.admit(&new_row(1, 0), 0, at(0)), "twice is once");
    assert!(!agenda.admit(&new_row(9, 0), 7, at(0)), "no such route");
    assert_eq!(ids(&all_due(&mut agenda, 0)), [1, 2, 3]);
    let settlement = agenda.finish(DeliveryId(2), answered(204), at(1)).unwrap();
    assert_eq!((settlement.settled, settlement.attempts, settlement.status), (Settled::Done, 1, 204));
    assert_eq!(ids(&all_due(&mut agenda, 1)), [4]);
    assert_eq!(agenda.len(), 5);
    agenda.committed(&settlement);
    assert_eq!(agenda.len(), 4);
    assert_eq!(agenda.finish(DeliveryId(2), answered(204), at(1)), None, "it has ended already");
}

#[test]
fn a_failure_waits_for_itself_while_others_go_on() {
    let mut agenda = agenda(LaneTerms::default());
    (1..=3).for_each(|id| assert!(agenda.admit(&new_row(id, 0), 0, at(0))));
    let mut failures = 0;
    let log = run(&mut agenda, 0, 3_600_000, |_, due| {
        let fails = due.id.0 == 1 && due.attempt <= 4;
        failures += u32::from(fails);
        answered(if fails { 409 } else { 200 })
    });
    assert_eq!((failures, agenda.len()), (4, 0));
    let times: Vec<u64> = log.iter().filter(|(_, id, _)| *id == 1).map(|(now, ..)| *now).collect();
    for (failures, pair) in times.windows(2).enumerate() {
        assert!((500..=1_000 << failures).contains(&(pair[1] - pair[0])), "{times:?}");
    }
}

#[test]
fn after_an_outage_everything_leaves_oldest_first_within_75_seconds() {
    for outage in [30_000_u64, 3 * 86_400_000 - 1_000_000] {
        let mut agenda = agenda(LaneTerms::default());
        (1..=200).for_each(|id| assert!(agenda.admit(&new_row(id, 0), 0, at(0))));
        let log =
            run(
                &mut agenda,
                0,
                outage + 200_000,
                |now, _| {
                    if now < outage { AttemptEnd::Unreachable } else { answered(200) }
                },
            );
        assert!(agenda.is_empty());
        let done: Vec<(u64, u64)> =
            log.iter().filter(|(.., it)| it.is_some()).map(|(now, id, _)| (*now, *id)).collect();
        assert_eq!(done.len(), 200);
        assert!(done[0].0 - outage <= 75_000, "{}", done[0].0 - outage);
        let rest = done[1..].windows(2).filter(|pair| pair[0].1 > pair[1].1).count();
        assert_eq!(rest, 0, "oldest first but for the probe: {done:?}");
        let probes = log.iter().filter(|(now, ..)| *now < outage).count();
        assert!(probes as u64 <= 20 + outage / 45_000, "{probes} attempts at an application that was away");
    }
}

#[test]
fn attempts_come_back_slowly() {
    let mut agenda = agenda(LaneTerms { concurrency: 100, ..LaneTerms::default() });
    (1..=300).for_each(|id| assert!(agenda.admit(&new_row(id, 0), 0, at(0))));
    let due = all_due(&mut agenda, 0);
    due.iter().for_each(|due| _ = agenda.finish(due.id, answered(503), at(0)));
    let start = agenda.wakes_at().unwrap();
    for (now, expected) in (start..).zip([1, 1, 2, 4, 8, 16, 32, 64, 100]) {
        let due = all_due(&mut agenda, now);
        assert_eq!(due.len(), expected);
        for due in due {
            let settlement = agenda.finish(due.id, answered(200), at(now)).unwrap();
            agenda.committed(&settlement);
        }
    }
}

#[test]
fn one_delivery_that_cannot_succeed_does_not_keep_the_application_away() {
    let mut agenda = agenda(LaneTerms::default());
    (1..=50).for_each(|id| assert!(agenda.admit(&new_row(id, 0), 0, at(0))));
    let mut down = 0;
    let log = run(&mut agenda, 0, 600_000, |now, due| {
        down += u32::from(now < 20_000);
        if due.id.0 == 1 || now < 20_000 { AttemptEnd::TimedOut } else { answered(200) }
    });
    assert!(down > 5);
    let done = log.iter().filter(|(_, id, _)| *id != 1).filter_map(|(now, _, it)| it.map(|it| (*now, it.settled)));
    let last = done.filter(|(_, settled)| *settled == Settled::Done).map(|(now, _)| now).max().unwrap();
    assert!(agenda.len() == 1 && last < 150_000, "{last}");
}

#[test]
fn an_application_that_refuses_everything_does_not_bury_everything() {
    let mut agenda = agenda(LaneTerms::default());
    (1..=80).for_each(|id| assert!(agenda.admit(&new_row(id, 0), 0, at(0))));
    let log = run(&mut agenda, 0, 3_600_000, |_, _| answered(400));
    let dead = |it: &&(u64, u64, Option<Settlement>)| {
        matches!(it.2, Some(Settlement { settled: Settled::Dead { reason: DeliveryReason::RefusedByApplication }, .. }))
    };
    let buried = log.iter().filter(dead).count();
    assert_eq!(buried, 10);
    assert!(log.len() < 200, "{} attempts in an hour", log.len());
    run(&mut agenda, 3_600_000, 7_300_000, |_, _| answered(200));
    assert!(agenda.is_empty());
}

#[test]
fn giving_up_has_its_reason() {
    let mut agenda = agenda(LaneTerms { attempts: 3, give_up_after: 3_600_000, ..LaneTerms::default() });
    assert!(agenda.admit(&new_row(1, 0), 0, at(0)));
    let log = run(&mut agenda, 0, 1_000_000, |_, _| answered(409));
    assert_eq!(log.len(), 3);
    assert_eq!(log[2].2.unwrap().settled, Settled::Dead { reason: DeliveryReason::GaveUpAttempts });
    assert!(agenda.admit(&new_row(2, 0), 0, at(0)));
    let log = run(&mut agenda, 0, 8_000_000, |_, _| AttemptEnd::Unreachable);
    let last = log.last().unwrap();
    assert_eq!(last.2.unwrap().settled, Settled::Dead { reason: DeliveryReason::GaveUpAge });
    assert_eq!(last.2.unwrap().attempts, 0, "no byte of it left");
    assert!((3_600_000..3_700_000).contains(&last.0), "{}", last.0);
}

#[test]
fn without_room_for_dead_letters_deliveries_wait_on() {
    let mut agenda = agenda(LaneTerms::default());
    agenda.dead_letters_full = true;
    assert!(agenda.admit(&new_row(1, 0), 0, at(0)));
    let due = agenda.next(at(0)).unwrap();
    let settlement = agenda.finish(due.id, answered(400), at(0)).unwrap();
    assert_eq!(settlement.settled, Settled::Again { due: UNIX + 900_000 });
    assert_eq!((agenda.next(at(899_999)), agenda.wakes_at()), (None, Some(900_000)));
    agenda.dead_letters_full = false;
    let due = agenda.next(at(900_000)).unwrap();
    let settlement = agenda.finish(due.id, answered(400), at(900_000)).unwrap();
    assert_eq!(settlement.settled, Settled::Dead { reason: DeliveryReason::RefusedByApplication });
    agenda.keep(due.id, at(900_000));
    assert_eq!(agenda.wakes_at(), Some(1_800_000), "the store had none after all");
}

#[test]
fn retry_after_holds_the_route_and_costs_others_nothing() {
    let mut agenda = Agenda::new(vec![LaneTerms::default(), LaneTerms { upstream: 1, ..LaneTerms::default() }], 1);
    assert!(agenda.admit(&new_row(1, 0), 0, at(0)));
    let due = agenda.next(at(0)).unwrap();
    agenda.finish(due.id, AttemptEnd::Answered { status: 429, retry_after: Some(30_000) }, at(0));
    (2..=4).for_each(|id| assert!(agenda.admit(&new_row(id, 0), 0, at(0))));
    assert!(agenda.admit(&new_row(5, 0), 1, at(0)));
    assert_eq!(ids(&all_due(&mut agenda, 29_999)), [5]);
    let due = all_due(&mut agenda, 30_000);
    assert_eq!(ids(&due), [2, 3, 4, 1]);
    assert_eq!(due.iter().map(|due| due.attempt).collect::<Vec<_>>(), [1, 1, 1, 2]);
}

#[test]
fn routes_take_turns() {
    let terms = LaneTerms { concurrency: 2, ..LaneTerms::default() };
    let mut agenda = Agenda::new(vec![terms.clone(), terms.clone(), terms], 1);
    for id in 1..=30 {
        assert!(agenda.admit(&new_row(id, 0), if id <= 20 { 0 } else { 1 + (id % 2) as usize }, at(0)));
    }
    let mut routes = [0; 3];
    for now in 0..10 {
        for due in all_due(&mut agenda, now) {
            routes[due.route] += 1;
            let settlement = agenda.finish(due.id, answered(200), at(now)).unwrap();
            agenda.committed(&settlement);
        }
        if now == 1 {
            assert_eq!(routes, [4, 4, 4]);
        }
    }
    assert!(agenda.is_empty());
}

#[test]
fn a_key_goes_on_when_the_one_before_is_durable() {
    let mut agenda = agenda(LaneTerms::default());
    for (id, key) in [(1, 7), (2, 7), (3, 8), (4, 7)] {
        assert!(agenda.admit(&keyed(id, key), 0, at(0)));
    }
    assert_eq!(ids(&all_due(&mut agenda, 0)), [1, 3]);
    assert!(matches!(agenda.finish(DeliveryId(1), answered(409), at(1)).unwrap().settled, Settled::Again { .. }));
    assert_eq!(agenda.next(at(2)), None, "the key waits with its first delivery");
    let again = all_due(&mut agenda, 2_000);
    assert_eq!(ids(&again), [1]);
    let settlement = agenda.finish(DeliveryId(1), answered(200), at(2_000)).unwrap();
    assert_eq!(agenda.next(at(2_000)), None, "not durable yet");
    agenda.committed(&settlement);
    assert_eq!(ids(&all_due(&mut agenda, 2_000)), [2]);
    let settlement = agenda.finish(DeliveryId(2), answered(410), at(2_000)).unwrap();
    agenda.committed(&settlement);
    assert_eq!(ids(&all_due(&mut agenda, 2_000)), [4], "a dead one frees its key");
}

#[test]
fn a_key_can_wait_for_its_dead_letter_also_after_a_restart() {
    let terms = LaneTerms { on_dead: OnDead::Hold, ..LaneTerms::default() };
    let mut agenda = agenda(terms);
    (1..=2).for_each(|id| assert!(agenda.admit(&keyed(id, 7), 0, at(0))));
    let due = agenda.next(at(0)).unwrap();
    let settlement = agenda.finish(due.id, answered(410), at(0)).unwrap();
    agenda.committed(&settlement);
    assert_eq!(agenda.next(at(1)), None);
    agenda.forget(DeliveryId(1));
    assert_eq!(ids(&all_due(&mut agenda, 1)), [2], "purged or redriven, it waits no longer");
    let mut agenda = Agenda::new(vec![LaneTerms { on_dead: OnDead::Hold, ..LaneTerms::default() }], 1);
    assert!(agenda.admit(&keyed(2, 7), 0, at(0)));
    assert!(agenda.admit(&DeliveryRow { state: DeliveryState::Dead, ..keyed(1, 7) }, 0, at(0)));
    assert_eq!(agenda.next(at(0)), None);
    assert!(!agenda.admit(&DeliveryRow { state: DeliveryState::Damaged, ..new_row(3, 0) }, 0, at(0)));
}

#[test]
fn a_route_that_holds_no_keys_any_more_frees_them() {
    let hold = LaneTerms { on_dead: OnDead::Hold, ..LaneTerms::default() };
    let mut agenda = agenda(hold.clone());
    (1..=2).for_each(|id| assert!(agenda.admit(&keyed(id, 7), 0, at(0))));
    let due = agenda.next(at(0)).unwrap();
    let settlement = agenda.finish(due.id, answered(410), at(0)).unwrap();
    agenda.committed(&settlement);
    agenda.change(0, LaneTerms { concurrency: 2, ..hold });
    assert_eq!(agenda.next(at(1)), None);
    agenda.change(0, LaneTerms::default());
    assert_eq!(ids(&all_due(&mut agenda, 1)), [2]);
    assert_eq!(agenda.len(), 1);
}

#[test]
fn what_was_held_is_released_and_a_clock_that_jumps_changes_little() {
    let mut agenda = agenda(LaneTerms::default());
    agenda.hold(0, true);
    assert!(agenda.admit(&new_row(1, 0), 0, at(0)));
    assert_eq!((agenda.next(at(5)), agenda.wakes_at()), (None, None));
    agenda.hold(0, false);
    assert_eq!(agenda.wakes_at(), Some(0));
    // Its clock was a year ahead when it failed; it waits for the longest delay and no longer.
    assert!(agenda.admit(&DeliveryRow { due: UNIX + 31_536_000_000, attempts: 2, ..new_row(2, 0) }, 0, at(0)));
    assert_eq!(ids(&all_due(&mut agenda, 0)), [1]);
    assert_eq!(ids(&all_due(&mut agenda, 900_000)), [2]);
    // Accepted when the clock was a year behind: it is too old, and still has one attempt.
    assert!(agenda.admit(&DeliveryRow { begun: UNIX - 31_536_000_000, ..new_row(3, 0) }, 0, at(0)));
    assert_eq!(ids(&all_due(&mut agenda, 900_000)), [3]);
    let settlement = agenda.finish(DeliveryId(3), answered(409), at(900_000)).unwrap();
    assert_eq!(settlement.settled, Settled::Dead { reason: DeliveryReason::GaveUpAge });
}
