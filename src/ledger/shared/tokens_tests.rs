//! Shared rates in virtual time: workers of several processes, and an engine that answers after a while.
#![allow(clippy::unwrap_used)]

use core::task::{Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::book::{LeaseBook, SILENCE};
use super::key::EngineKey;
use super::lease::TokenWait;
use super::tokens::{SharedRate, TokenAnswer};
use super::{EngineTrouble, Unanswered};
use crate::gate::token_bucket::{Measure, Rate, TokenBucket};
use crate::wire::resp::{self, RespValue};

const TIMEOUT: Duration = Duration::from_millis(50);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A worker, and what it has sent to its engine.
struct Side {
    book: LeaseBook,
    key: EngineKey,
    /// When it will be answered, and the tokens that are wanted.
    sent: VecDeque<(Duration, u32)>,
}

impl Side {
    fn new(workers: usize) -> Self {
        let mut book = LeaseBook::new(1, 0, workers, TIMEOUT);
        book.connected(0, ms(0));
        Self { book, key: EngineKey::new(&[7; 32], "t:"), sent: VecDeque::new() }
    }

    fn take(&mut self, rate: Rate, since: Duration, now: Duration) -> Poll<TokenAnswer> {
        let route = SharedRate { position: 0, name: "hook", rate };
        let answer = self.book.take_token(&self.key, route, TokenWait { since, now }, Waker::noop());
        let mut out = Vec::new();
        self.book.send(0, &mut out, &self.key, now);
        let mut rest = &out[..];
        while let Ok(Some(length)) = resp::reply_length(rest) {
            let texts: Vec<_> = resp::values(&rest[..length])
                .filter_map(|it| if let RespValue::Text(text) = it { Some(text) } else { None })
                .collect();
            assert_eq!(texts.len(), 8, "a script with one key and four numbers");
            let want = String::from_utf8_lossy(texts[4]).parse().unwrap();
            self.sent.push_back((now, want));
            rest = &rest[length..];
        }
        answer
    }

    fn answer(&mut self, count: u32, wait: Duration, now: Duration) {
        let mut reply = String::new();
        let _ = write!(reply, "*2\r\n:{count}\r\n:{}\r\n", wait.as_micros());
        self.sent.pop_front().unwrap();
        self.book.answered(0, reply.as_bytes(), now).unwrap();
    }
}

#[test]
fn most_deliveries_wait_for_no_answer() {
    let rate = Rate::per_second(1000, 2000);
    assert_eq!(SharedRate::batch(rate), 50);
    let mut side = Side::new(2);
    assert_eq!(side.take(rate, ms(0), ms(0)), Poll::Pending);
    assert_eq!(side.take(rate, ms(0), ms(0)), Poll::Pending);
    assert_eq!(side.sent.len(), 1, "one request at a time");
    assert_eq!(side.sent[0].1, 25, "the part of one worker");
    side.answer(25, Duration::ZERO, ms(1));
    let mut asked = 0;
    for number in 0..1000 {
        let now = ms(1 + number);
        assert_eq!(side.take(rate, now, now), Poll::Ready(TokenAnswer::Taken));
        if let Some((_, want)) = side.sent.front().copied() {
            asked += 1;
            side.answer(want, Duration::ZERO, now);
        }
    }
    assert!(asked <= 80, "{asked} questions for 1000 deliveries");
}

#[test]
fn an_empty_bucket_is_not_asked_for_every_delivery() {
    let rate = Rate { tokens: 60, per: Duration::from_secs(60), burst: 4 };
    let mut side = Side::new(2);
    assert_eq!(side.take(rate, ms(0), ms(0)), Poll::Pending);
    assert_eq!(side.sent[0].1, 1, "a worker whose part is less than a token keeps none");
    side.answer(0, ms(700), ms(1));
    for now in 1..701 {
        let Poll::Ready(TokenAnswer::Empty(empty)) = side.take(rate, ms(0), ms(now)) else { panic!("{now}") };
        assert_eq!((empty.wait, empty.seconds()), (ms(701 - now), 1));
    }
    assert!(side.sent.is_empty());
    let route = SharedRate { position: 0, name: "hook", rate };
    assert!(side.book.known_empty(route, ms(700)).is_some());
    assert_eq!(side.book.known_empty(route, ms(701)), None);
    assert_eq!(side.book.known_empty(SharedRate { name: "other", ..route }, ms(700)), None);
    assert_eq!(side.take(rate, ms(701), ms(701)), Poll::Pending);
    side.answer(1, Duration::ZERO, ms(702));
    assert_eq!(side.take(rate, ms(701), ms(702)), Poll::Ready(TokenAnswer::Taken));
}

#[test]
fn what_is_not_used_is_lost_and_what_was_granted_is_spent_also_while_the_engine_is_away() {
    let rate = Rate::per_second(400, 400);
    let mut side = Side::new(1);
    let taken = Poll::Ready(TokenAnswer::Taken);
    assert_eq!(side.take(rate, ms(0), ms(0)), Poll::Pending);
    side.answer(20, Duration::ZERO, ms(1));
    assert_eq!(side.take(rate, ms(0), ms(1)), taken);
    let none = Unanswered::default();
    assert_eq!(side.book.lost(0, EngineTrouble::Closed), none);
    assert_eq!(side.take(rate, ms(2), ms(2)), taken);
    let away = Poll::Ready(TokenAnswer::Away(EngineTrouble::Closed));
    assert_eq!(side.take(rate, ms(1001), ms(1001)), away, "a second later they are lost");
    side.book.connected(0, ms(1002));
    assert_eq!(side.take(rate, ms(1002), ms(1002)), Poll::Pending);
}

#[test]
fn an_engine_that_hangs_costs_the_time_of_one_answer() {
    let rate = Rate::per_second(400, 400);
    let mut side = Side::new(1);
    assert_eq!(side.take(rate, ms(0), ms(0)), Poll::Pending);
    assert_eq!(side.book.next_look(0), Some(TIMEOUT));
    assert_eq!(side.book.look(0, ms(49)), Ok(Unanswered::default()));
    assert_eq!(side.book.look(0, ms(50)), Ok(Unanswered { claims: 0, tokens: 1 }));
    let silent = Poll::Ready(TokenAnswer::Away(EngineTrouble::Silent));
    assert_eq!(side.take(rate, ms(0), ms(50)), silent);
    assert_eq!(side.take(rate, ms(60), ms(60)), silent);
    assert_eq!(side.book.look(0, SILENCE), Err(EngineTrouble::Silent));
    // What comes all the same is spent.
    side.answer(20, Duration::ZERO, ms(70));
    assert_eq!(side.take(rate, ms(80), ms(80)), Poll::Ready(TokenAnswer::Taken));
}

#[test]
fn another_rate_or_another_route_at_the_position_has_none_of_the_former_tokens() {
    let mut side = Side::new(1);
    let (one, other) = (Rate::per_second(400, 400), Rate::per_second(200, 400));
    assert_eq!(side.take(one, ms(0), ms(0)), Poll::Pending);
    assert_eq!(side.take(other, ms(1), ms(1)), Poll::Pending);
    side.answer(20, Duration::ZERO, ms(2));
    assert_eq!(side.take(other, ms(1), ms(3)), Poll::Pending, "that was for the former rate");
    side.answer(10, Duration::ZERO, ms(4));
    assert_eq!(side.take(other, ms(1), ms(4)), Poll::Ready(TokenAnswer::Taken));
}

/// The workers of `replicas` processes and their engine, in steps of a tenth of a millisecond.
fn run(rate: Rate, replicas: usize, loads: &[u32], delay: u64) -> Vec<u64> {
    const WORKERS: usize = 2;
    let measure: Measure = rate.measure();
    let mut bucket = TokenBucket::default();
    let mut sides: Vec<Side> = (0..replicas * WORKERS).map(|_| Side::new(WORKERS)).collect();
    let mut waiting: Vec<Vec<Duration>> = vec![Vec::new(); sides.len()];
    let mut taken = Vec::new();
    for tick in 0..30_000_u64 {
        let now = Duration::from_micros(100 * tick);
        for (at, (side, waiting)) in sides.iter_mut().zip(&mut waiting).enumerate() {
            while let Some((since, want)) = side.sent.front().copied() {
                if now < since + Duration::from_micros(100 * delay) {
                    break;
                }
                let granted = (0..want).take_while(|_| bucket.take(measure, now).is_ok()).count();
                let mut look = bucket;
                let wait = look.take(measure, now).err().map_or(Duration::ZERO, |empty| empty.wait);
                let count = u32::try_from(granted).unwrap();
                side.answer(count, if count < want { wait } else { Duration::ZERO }, now);
            }
            // Deliveries come evenly, so many in a thousand ticks.
            let load = u64::from(loads[at % loads.len()]);
            let come = (tick + 1) * load / 1000 - tick * load / 1000;
            waiting.extend((0..come).map(|_| now));
            waiting.retain(|since| match side.take(rate, *since, now) {
                Poll::Pending => true,
                Poll::Ready(TokenAnswer::Taken) => {
                    taken.push(tick);
                    false
                }
                Poll::Ready(_) => false,
            });
        }
    }
    taken
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// In no interval do all processes spend more than the rate and one batch each; and one that asks for more than the rate
    /// is given three quarters of it at least.
    #[test]
    fn no_interval_has_more_than_the_rate_and_a_batch_for_each_process(
        tokens in 20..2000_u32,
        burst in 1..3000_u32,
        replicas in 1..4_usize,
        loads in proptest::collection::vec(0..400_u32, 1..6),
        delay in 1..20_u64,
    ) {
        let rate = Rate::per_second(tokens, burst);
        let taken = run(rate, replicas, &loads, delay);
        let per_tick = f64::from(tokens) / 1e4;
        // Twice a batch where workers keep none: each has one token under way.
        let batch = f64::from(SharedRate::batch(rate).max(2));
        let bound = f64::from(burst) + replicas as f64 * batch + 1e-6;
        // The largest number beyond the rate in any interval, in one pass.
        let (mut beyond, mut last) = (0.0_f64, 0_u64);
        for tick in &taken {
            beyond = (beyond - per_tick * (tick - last) as f64).max(0.0) + 1.0;
            last = *tick;
            prop_assert!(beyond <= bound, "{} beyond the rate, {} allowed", beyond, bound);
        }
        let total = taken.len() as f64;
        prop_assert!(total <= f64::from(burst) + 3.0 * f64::from(tokens) + 1.0, "{}", total);
        let offered: u32 = (0..replicas * 2).map(|at| loads[at % loads.len()] * 30).sum();
        let least = f64::from(offered).min(3.0 * f64::from(tokens));
        if burst >= 16 && delay < 10 {
            prop_assert!(total >= 0.75 * least, "{} of {}", total, least);
        }
    }
}
