//! The table against one that never forgets a client, and from several threads.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use core::net::IpAddr;
use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn table(rate: Rate, capacity: usize) -> KeyedBuckets {
    KeyedBuckets::new(rate, capacity, &RandomState::new())
}

fn client(number: u32) -> ClientKey {
    ClientKey::of(Some(IpAddr::V4(number.into())))
}

#[test]
fn cycling_through_addresses_gives_nothing_back() {
    let table = table(Rate::per_second(1, 2), 8);
    for _ in 0..2 {
        assert_eq!(table.take(client(0), SECOND), Ok(Lender::Own));
    }
    for other in 1..1000 {
        let _ = table.take(client(other), SECOND);
    }
    assert!(table.take(client(0), SECOND).is_err(), "its own bucket is still empty");
    assert_eq!(table.tracked(), 8);
}

#[test]
fn newcomers_share_when_there_is_no_room_and_the_others_keep_theirs() {
    let table = table(Rate::per_second(1, 2), 4);
    for number in 0..4 {
        assert_eq!(table.take(client(number), SECOND), Ok(Lender::Own));
    }
    let spent: Vec<_> = (4..8).map(|number| table.take(client(number), SECOND).ok()).collect();
    assert_eq!(spent, [Some(Lender::Shared), Some(Lender::Shared), None, None]);
    for number in 0..4 {
        assert_eq!(table.take(client(number), SECOND), Ok(Lender::Own), "a known client keeps its tokens");
    }
    // Two seconds later all are idle, and the next client gets an entry.
    assert_eq!(table.take(client(9), 3 * SECOND), Ok(Lender::Own));
    assert_eq!(table.tracked(), 4);
}

#[test]
fn a_client_with_connections_is_not_forgotten() {
    let table = table(Rate::per_second(1, 2), 1);
    let own = |count| Ok((Lender::Own, count));
    assert_eq!(table.connect(client(0), 2, SECOND), own(1));
    assert_eq!(table.connect(client(0), 2, SECOND), own(2));
    assert_eq!(table.connect(client(0), 2, SECOND), Err(TooMany));
    // A client for whom there is no room is not kept out by others of the kind.
    (0..9).for_each(|_| assert_eq!(table.connect(client(1), 1, SECOND), Ok((Lender::Shared, 0))));
    assert_eq!(table.connect(client(2), 1, SECOND), Ok((Lender::Shared, 0)));
    assert_eq!(table.disconnect(client(1), Lender::Shared), 0);
    assert_eq!((table.connections(client(0)), table.disconnect(client(0), Lender::Own)), (2, 2));
    assert_eq!((table.connections(client(0)), table.disconnect(client(0), Lender::Own)), (1, 1));
    assert_eq!(table.connect(client(3), 9, SECOND), own(1));
    assert_eq!((table.connections(client(0)), table.disconnect(client(0), Lender::Own)), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Wait(i64),
    Take(u32),
    GiveBack(usize),
    Connect(u32),
    Disconnect(usize),
    Rate(u32, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (-2_000_i64..2_000).prop_map(Step::Wait),
        (0..12_u32).prop_map(Step::Take),
        (0..12_u32).prop_map(Step::Take),
        any::<usize>().prop_map(Step::GiveBack),
        (0..12_u32).prop_map(Step::Connect),
        any::<usize>().prop_map(Step::Disconnect),
        (1..4_u32, 1..6_u32).prop_map(|(tokens, burst)| Step::Rate(tokens, burst)),
    ];
    proptest::collection::vec(step, 1..300)
}

proptest! {
    /// Against a table that never forgets a client: one with an entry of its own is always answered as there,
    /// also when the rate changes.
    #[test]
    fn forgetting_is_not_seen(capacity in 1..10_usize, steps in steps()) {
        let mut rate = Rate::per_second(2, 3);
        let table = table(rate, capacity);
        let mut model: HashMap<u32, (TokenBucket, u32)> = HashMap::new();
        let (mut taken, mut connected) = (Vec::new(), Vec::new());
        let (mut now, mut latest) = (0_i64, Duration::ZERO);
        for step in steps {
            let time = Duration::from_millis(now as u64);
            if matches!(step, Step::Take(_) | Step::Connect(_)) {
                latest = latest.max(time);
            }
            match step {
                Step::Wait(millis) => now = (now + millis).max(0),
                Step::Rate(tokens, burst) => {
                    let next = Rate::per_second(tokens, burst);
                    table.set_rate(next, time);
                    if next != rate {
                        latest = latest.max(time);
                        let convert = |(bucket, _): &mut (TokenBucket, u32)| {
                            bucket.convert(rate.measure(), next.measure(), latest);
                        };
                        model.values_mut().for_each(convert);
                    }
                    rate = next;
                }
                Step::Take(number) => {
                    let known = table.map.contains_key(&client(number));
                    let got = table.take(client(number), time);
                    if known || got == Ok(Lender::Own) {
                        let expected = model.entry(number).or_default().0.take(rate.measure(), latest);
                        let expected = expected.map_err(|empty| Empty { wait: empty.wait + (latest - time) });
                        prop_assert_eq!(got, expected.map(|()| Lender::Own));
                    }
                    taken.extend(got.ok().map(|lender| (number, lender)));
                }
                Step::GiveBack(which) if !taken.is_empty() => {
                    let (number, lender) = taken.swap_remove(which % taken.len());
                    table.give_back(client(number), lender);
                    if lender == Lender::Own {
                        model.entry(number).or_default().0.give_back(rate.measure());
                    }
                }
                Step::Connect(number) => {
                    let got = table.connect(client(number), 2, time);
                    let count = &mut model.entry(number).or_default().1;
                    match got {
                        Ok((Lender::Own, counted)) => {
                            *count += 1;
                            prop_assert_eq!(counted, *count);
                        }
                        Ok((Lender::Shared, _)) => prop_assert_eq!(*count, 0),
                        Err(TooMany) => prop_assert_eq!(*count, 2),
                    }
                    connected.extend(got.ok().map(|(lender, _)| (number, lender)));
                    prop_assert!(model[&number].1 <= 2);
                }
                Step::Disconnect(which) if !connected.is_empty() => {
                    let (number, lender) = connected.swap_remove(which % connected.len());
                    table.disconnect(client(number), lender);
                    if lender == Lender::Own {
                        model.get_mut(&number).unwrap().1 -= 1;
                    }
                }
                Step::GiveBack(_) | Step::Disconnect(_) => {}
            }
            prop_assert!(table.tracked() <= capacity);
        }
    }
}

/// A table that is full of idle clients is searched and never made larger, however many clients come.
#[test]
fn the_map_never_grows() {
    let table = table(Rate::per_second(1, 1), 4096);
    let before = table.map.capacity();
    for number in 0..30_000_u32 {
        let now = Duration::from_millis(u64::from(number) * 8);
        let _ = table.take(client(number.wrapping_mul(2_654_435_761)), now);
    }
    // What entries have left behind when they were removed is no room at the moment.
    assert!(table.tracked() <= 4096 && table.map.capacity() <= before);
    let registered: usize = table.parts.iter().map(|part| locked(&part.register).clients.len()).sum();
    assert_eq!(registered, table.tracked());
}

#[test]
fn threads_over_the_same_clients_take_no_more_than_there_is() {
    let table = table(Rate::per_second(100, 20), 4096);
    let clock = std::sync::atomic::AtomicU64::new(0);
    let taken: Vec<_> = (0..8).map(|_| std::sync::atomic::AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (table, clock, taken) = (&table, &clock, &taken);
            scope.spawn(move || {
                for round in 0..20_000_u32 {
                    let now = clock.fetch_add(50_000, std::sync::atomic::Ordering::Relaxed);
                    let number = (round.wrapping_mul(2_654_435_761) >> 8) % 8;
                    if table.take(client(number), Duration::from_nanos(now)).is_ok() {
                        taken[number as usize].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    // Others come and go all the time.
                    let _ = table.take(client(1000 + thread * 20_000 + round), Duration::from_nanos(now));
                }
            });
        }
    });
    // 4 s of virtual time.
    for taken in taken {
        let taken = taken.into_inner();
        assert!(taken <= 20 + 400, "{taken}");
        assert!(taken > 300, "{taken}");
    }
}
