//! Token buckets in whole numbers: nothing is rounded, so nothing is lost or won however often one is asked.
//!
//! A bucket does not count tokens but what is missing until it is full, in units of which one token has as many as the
//! rate's period has nanoseconds. A nanosecond then brings exactly as many units as the rate has tokens: the remainder
//! of every division is carried because there is no division. Until any moment `t`, at most `burst + rate × t` tokens
//! have been taken. A clock that goes backwards brings nothing and costs nothing: the time that has been paid for is
//! not paid for again.
//!
//! Written here because no crate changes the rate of a bucket that is in use, and none gives a token back.
//!
//! A rate may change while buckets live. What has been spent stays spent: as many tokens as were missing are missing
//! under the new rate, even where that is more than the new bucket holds; the rest must come back first. So a sequence
//! of changes, however long, gives no client a token that no rate has brought.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::{Arc, OnceLock};

/// How fast tokens come, and how many can be saved up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come in one period; at most [`Rate::TOKEN_LIMIT`].
    pub tokens: u32,
    /// The period; at most [`Rate::PERIOD_LIMIT`].
    pub per: Duration,
    /// Tokens that an unused bucket holds: what can be spent at once. At most [`Rate::TOKEN_LIMIT`].
    pub burst: u32,
}

impl Rate {
    /// The most tokens in a period, and the largest burst.
    pub const TOKEN_LIMIT: u32 = 1_000_000;

    /// The longest period.
    pub const PERIOD_LIMIT: Duration = Duration::from_secs(3600);

    /// So many tokens a second.
    #[must_use]
    pub const fn per_second(tokens: u32, burst: u32) -> Self {
        Self { tokens, per: Duration::from_secs(1), burst }
    }

    /// The numbers that buckets are kept in. What is over the limits, or nothing, is brought inside them, so that no
    /// product of two of them can overflow: a full bucket has at most 10⁶ × 3.6·10¹² units, a fifth of 2⁶⁴.
    #[must_use]
    pub fn measure(self) -> Measure {
        let token = nanoseconds(self.per).clamp(1, nanoseconds(Self::PERIOD_LIMIT));
        let within = |tokens: u32| u64::from(tokens.clamp(1, Self::TOKEN_LIMIT));
        Measure { gain: within(self.tokens), token, full: within(self.burst) * token }
    }
}

/// A moment or a time in nanoseconds; 584 years are the most.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A [`Rate`] in the units of the buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Units that a nanosecond brings.
    gain: u64,
    /// Units of one token.
    token: u64,
    /// Units of a full bucket.
    full: u64,
}

impl Measure {
    /// What has come between two moments.
    const fn gained(self, from: u64, to: u64) -> u64 {
        // More than a bucket holds is as good as a full one, so an overflow may be cut off.
        to.saturating_sub(from).saturating_mul(self.gain)
    }

    /// What is missing, in the units of another rate: as many tokens, rounded up by less than one unit. No bucket ever
    /// lacks more tokens than the largest burst, so the product fits.
    fn convert(self, to: Self, missing: u64) -> u64 {
        let units = (u128::from(missing) * u128::from(to.token)).div_ceil(u128::from(self.token));
        u64::try_from(units).unwrap_or(FROZEN - 1)
    }

    /// How long it takes until one token is there, when `missing` units are missing from a full bucket.
    const fn wait(self, missing: u64) -> u64 {
        (missing + self.token).saturating_sub(self.full).div_ceil(self.gain)
    }
}

/// A [`Measure`] that is read without a lock. The user sees to it that it is not read while it is set.
#[derive(Debug)]
pub(super) struct AtomicMeasure([AtomicU64; 3]);

impl AtomicMeasure {
    pub(super) fn new(Measure { gain, token, full }: Measure) -> Self {
        Self([gain, token, full].map(AtomicU64::new))
    }

    pub(super) fn get(&self) -> Measure {
        let [gain, token, full] = &self.0;
        let read = |part: &AtomicU64| part.load(Ordering::Relaxed);
        Measure { gain: read(gain), token: read(token), full: read(full) }
    }

    pub(super) fn set(&self, Measure { gain, token, full }: Measure) {
        self.0.iter().zip([gain, token, full]).for_each(|(part, value)| part.store(value, Ordering::Relaxed));
    }
}

/// No token is there. There is one after this time, if no other request takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Empty {
    /// From now until there is one.
    pub wait: Duration,
}

impl Empty {
    fn after(nanoseconds: u64) -> Self {
        Self { wait: Duration::from_nanos(nanoseconds) }
    }

    /// For `Retry-After`: whole seconds, rounded up, at least 1.
    #[must_use]
    pub fn seconds(self) -> u64 {
        let whole = self.wait.as_secs();
        (whole + u64::from(self.wait.subsec_nanos() > 0)).max(1)
    }
}

/// A bucket that one thread at a time looks at: 16 bytes. A new one is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenBucket {
    /// Units missing from a full bucket.
    missing: u64,
    /// Until when what comes with time has been counted, in nanoseconds.
    counted: u64,
}

impl TokenBucket {
    /// Takes a token. `now` is the monotonic clock.
    ///
    /// # Errors
    /// [`Empty`]
    pub fn take(&mut self, measure: Measure, now: Duration) -> Result<(), Empty> {
        let now = nanoseconds(now);
        self.refill(measure, now);
        if self.missing + measure.token <= measure.full {
            self.missing += measure.token;
            return Ok(());
        }
        Err(Empty::after(measure.wait(self.missing).saturating_add(self.counted.saturating_sub(now))))
    }

    /// Puts a token back that was taken and is not to count. The bucket never holds more than a full one.
    pub const fn give_back(&mut self, measure: Measure) {
        self.missing = self.missing.saturating_sub(measure.token);
    }

    /// Goes on under another rate.
    pub fn convert(&mut self, from: Measure, to: Measure, now: Duration) {
        self.refill(from, nanoseconds(now));
        self.missing = from.convert(to, self.missing);
    }

    /// How long it takes until nothing is missing, if no token is taken. A bucket that is full may be forgotten, for a new
    /// one is the same.
    #[must_use]
    pub fn full_in(mut self, measure: Measure, now: Duration) -> Duration {
        let now = nanoseconds(now);
        self.refill(measure, now);
        if self.missing == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.missing.div_ceil(measure.gain).saturating_add(self.counted.saturating_sub(now)))
    }

    const fn refill(&mut self, measure: Measure, now: u64) {
        self.missing = self.missing.saturating_sub(measure.gained(self.counted, now));
        if now > self.counted {
            self.counted = now;
        }
    }
}

/// A bucket that all cores look at, without a lock.
///
/// The thread that moves `counted` forward owns the time in between, and it alone credits it: no time is credited twice.
/// To other threads the credit may come a moment late, never early, so the bound of the module holds under any interleaving.
///
/// When the rate changes, another bucket follows this one: a holder of this one takes from that one.
#[derive(Debug)]
pub struct SharedBucket {
    rate: Rate,
    measure: Measure,
    /// [`FROZEN`] when another has followed.
    missing: AtomicU64,
    counted: AtomicU64,
    next: OnceLock<Arc<Self>>,
}

/// What no bucket can lack.
const FROZEN: u64 = u64::MAX;

impl SharedBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self::lacking(rate, 0, 0)
    }

    fn lacking(rate: Rate, missing: u64, counted: u64) -> Self {
        let (missing, counted) = (AtomicU64::new(missing), AtomicU64::new(counted));
        Self { rate, measure: rate.measure(), missing, counted, next: OnceLock::new() }
    }

    /// Its rate.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a token. `now` is the monotonic clock.
    ///
    /// # Errors
    /// [`Empty`]
    pub fn take(&self, now: Duration) -> Result<(), Empty> {
        let Measure { token, full, .. } = self.measure;
        let at = nanoseconds(now);
        let counted = self.counted.load(Ordering::Relaxed);
        if at > counted && self.counted.compare_exchange(counted, at, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let gained = self.measure.gained(counted, at);
            let credit = |missing: u64| (missing != FROZEN).then(|| missing.saturating_sub(gained));
            let _ = self.missing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, credit);
        }
        let spend = |missing: u64| (missing <= full.saturating_sub(token)).then(|| missing + token);
        match self.missing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend) {
            Ok(_) => Ok(()),
            Err(FROZEN) => self.next.wait().take(now),
            Err(missing) => Err(Empty::after(self.measure.wait(missing).saturating_add(counted.saturating_sub(at)))),
        }
    }

    /// Goes on under another rate, as another bucket. Only the owner of the bucket may call this, and once.
    #[must_use]
    pub fn followed_by(&self, rate: Rate, now: Duration) -> Arc<Self> {
        // From here on no token is taken from this one, and what was taken before is known.
        let missing = self.missing.swap(FROZEN, Ordering::Relaxed);
        let counted = self.counted.load(Ordering::Relaxed);
        let at = nanoseconds(now).max(counted);
        let missing = self.measure.convert(rate.measure(), missing.saturating_sub(self.measure.gained(counted, at)));
        Arc::clone(self.next.get_or_init(|| Arc::new(Self::lacking(rate, missing, at))))
    }

    /// Whether nothing is missing: such a bucket may be forgotten, for a new one is the same.
    #[must_use]
    pub fn is_full(&self, now: Duration) -> bool {
        let gained = self.measure.gained(self.counted.load(Ordering::Relaxed), nanoseconds(now));
        self.missing.load(Ordering::Relaxed) <= gained
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    /// Exact arithmetic on fractions: the level is `over / below` tokens.
    struct Model {
        over: u128,
        below: u128,
        rate: Rate,
        latest: u128,
    }

    impl Model {
        fn new(rate: Rate) -> Self {
            let below = rate.per.as_nanos();
            Self { over: u128::from(rate.burst) * below, below, rate, latest: 0 }
        }

        /// Whether a token could be taken; the wait in nanoseconds if not.
        fn take(&mut self, now: u128) -> Result<(), u128> {
            let elapsed = now.saturating_sub(self.latest);
            self.latest = self.latest.max(now);
            let most = u128::from(self.rate.burst) * self.below;
            self.over = (self.over + elapsed * u128::from(self.rate.tokens)).min(most);
            match self.over.checked_sub(self.below) {
                Some(left) => {
                    self.over = left;
                    Ok(())
                }
                None => {
                    let wait = (self.below - self.over).div_ceil(u128::from(self.rate.tokens));
                    Err(wait + (self.latest - now))
                }
            }
        }

        fn give_back(&mut self) {
            self.over = (self.over + self.below).min(u128::from(self.rate.burst) * self.below);
        }
    }

    fn rate() -> impl Strategy<Value = Rate> {
        let per = prop_oneof![Just(1_u64), Just(60), Just(3600)];
        let tokens = prop_oneof![1..20_u32, 1..=Rate::TOKEN_LIMIT];
        let burst = prop_oneof![1..20_u32, 1..=Rate::TOKEN_LIMIT];
        (tokens, per, burst).prop_map(|(tokens, per, burst)| Rate { tokens, per: Duration::from_secs(per), burst })
    }

    /// Steps of a clock, in nanoseconds: forwards by any order of magnitude, and now and then backwards.
    fn step() -> impl Strategy<Value = i64> {
        prop_oneof![0..2_i64, 0..1_000_000_i64, 0..1_000_000_000_i64, 0..100_000_000_000_i64, -1_000_000_000_i64..0]
    }

    proptest! {
        #[test]
        fn every_answer_is_that_of_exact_fractions(rate in rate(), steps in proptest::collection::vec((step(), 0..4_u8), 1..300)) {
            let measure = rate.measure();
            let (mut bucket, shared, mut model) = (TokenBucket::default(), SharedBucket::new(rate), Model::new(rate));
            let (mut now, mut given) = (0_i64, false);
            for (step, what) in steps {
                now = (now + step).max(0);
                let time = Duration::from_nanos(now as u64);
                if what == 3 {
                    bucket.give_back(measure);
                    model.give_back();
                    given = true;
                    continue;
                }
                let expected = model.take(now as u128).map_err(|wait| u64::try_from(wait).unwrap());
                let got = bucket.take(measure, time);
                prop_assert_eq!(got.map_err(|empty| empty.wait.as_nanos() as u64), expected);
                if !given {
                    prop_assert_eq!(shared.take(time), got);
                }
            }
        }

        #[test]
        fn after_the_wait_there_is_a_token_and_not_before(rate in rate(), start in 0..1_000_000_000_u64) {
            let measure = Rate { burst: rate.burst.min(50), ..rate }.measure();
            let mut bucket = TokenBucket::default();
            let start = Duration::from_nanos(start);
            let empty = loop {
                if let Err(empty) = bucket.take(measure, start) {
                    break empty;
                }
            };
            let mut early = bucket;
            prop_assert!(early.take(measure, start + empty.wait - Duration::from_nanos(1)).is_err());
            prop_assert!(bucket.take(measure, start + empty.wait).is_ok());
            prop_assert!(Duration::from_secs(empty.seconds()) >= empty.wait);
            prop_assert!(Duration::from_secs(empty.seconds()) < empty.wait + Duration::from_secs(1));
        }
    }

    proptest! {
        /// Every token that was ever taken was there at the start or has come at the rate of its time, whatever the rates
        /// were; and it is the same for both kinds of buckets, also for a holder of one that has been followed.
        #[test]
        fn changes_of_the_rate_bring_nothing(
            first in small_rate(),
            steps in proptest::collection::vec(
                (0..3_000_000_000_u64, proptest::option::weighted(0.3, small_rate()), 0..8_u8), 1..120),
        ) {
            let (mut bucket, mut rate, mut now) = (TokenBucket::default(), first, 0_u64);
            let oldest = Arc::new(SharedBucket::new(first));
            let mut shared = Arc::clone(&oldest);
            // In tokens: what has come, and what has been taken.
            let (mut come, mut taken, mut most) = (0.0_f64, 0_u64, first.burst);
            for (step, change, takes) in steps {
                now += step;
                come += step as f64 / 1e9 * f64::from(rate.tokens) / rate.per.as_secs_f64();
                let time = Duration::from_nanos(now);
                if let Some(next) = change {
                    bucket.convert(rate.measure(), next.measure(), time);
                    shared = shared.followed_by(next, time);
                    most = most.max(next.burst);
                    rate = next;
                }
                for take in 0..takes {
                    let got = bucket.take(rate.measure(), time);
                    prop_assert_eq!(if take % 2 == 0 { &shared } else { &oldest }.take(time), got);
                    taken += u64::from(got.is_ok());
                }
                prop_assert!(taken as f64 <= f64::from(most) + come + 1e-3, "{} of {} and {}", taken, most, come);
            }
        }
    }

    fn small_rate() -> impl Strategy<Value = Rate> {
        let per = prop_oneof![Just(1_u64), Just(60)];
        let rate = |(tokens, per, burst)| Rate { tokens, per: Duration::from_secs(per), burst };
        (1..20_u32, per, 1..20_u32).prop_map(rate)
    }

    #[test]
    fn what_is_spent_stays_spent() {
        let small = Rate::per_second(1, 2);
        let large = Rate { tokens: 600, per: Duration::from_secs(60), burst: 10 };
        let taken = |bucket: &SharedBucket, now| (0..100).filter(|_| bucket.take(now).is_ok()).count();
        let second = Duration::from_secs(1);
        let bucket = SharedBucket::new(small);
        assert_eq!(taken(&bucket, second), 2);
        let bucket = bucket.followed_by(large, second);
        assert_eq!(taken(&bucket, second), 8, "two of ten are missing");
        let bucket = bucket.followed_by(small, second);
        // Ten are missing of two: eight come first.
        assert_eq!(taken(&bucket, 9 * second), 0);
        assert_eq!(taken(&bucket, 10 * second), 1);
        assert!(!bucket.is_full(11 * second) && bucket.is_full(12 * second));
    }

    #[test]
    fn threads_that_take_while_the_rate_changes_get_no_more() {
        let rates = [Rate::per_second(1000, 50), Rate { tokens: 60_000, per: Duration::from_secs(60), burst: 30 }];
        let taken = AtomicU64::new(0);
        let clock = AtomicU64::new(0);
        let current = std::sync::Mutex::new(Arc::new(SharedBucket::new(rates[0])));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let bucket = Arc::clone(&current.lock().unwrap());
                        for _ in 0..20 {
                            let now = clock.fetch_add(10_000, Ordering::Relaxed);
                            let ok = bucket.take(Duration::from_nanos(now)).is_ok();
                            taken.fetch_add(u64::from(ok), Ordering::Relaxed);
                        }
                    }
                });
            }
            scope.spawn(|| {
                for round in 0..200_usize {
                    let mut current = current.lock().unwrap();
                    let now = Duration::from_nanos(clock.load(Ordering::Relaxed));
                    *current = current.followed_by(rates[(round + 1) % 2], now);
                }
            });
        });
        // Both rates bring a thousand a second, and 0.3 s of virtual time have passed.
        let taken = taken.into_inner();
        assert!((30..=50 + 300).contains(&taken), "{taken}");
    }

    #[test]
    fn many_threads_get_no_more_than_one_would() {
        let rate = Rate::per_second(1000, 50);
        let bucket = SharedBucket::new(rate);
        let clock = AtomicU64::new(0);
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        // 10 µs a step, shared by all threads: each may read an older one than the others.
                        let now = clock.fetch_add(10_000, Ordering::Relaxed);
                        if bucket.take(Duration::from_nanos(now)).is_ok() {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        // 0.8 s of virtual time.
        let (taken, most) = (taken.into_inner(), 50 + 800);
        assert!(taken <= most, "{taken}");
        // Credit may come late, but it comes.
        assert!(taken >= most - 10, "{taken}");
    }

    #[test]
    fn limits_of_the_numbers() {
        let most = Rate { tokens: u32::MAX, per: Duration::MAX, burst: u32::MAX }.measure();
        let mut bucket = TokenBucket::default();
        assert!(bucket.take(most, Duration::MAX).is_ok());
        assert!(bucket.take(most, Duration::ZERO).is_ok());
        let least = Rate { tokens: 0, per: Duration::ZERO, burst: 0 }.measure();
        let mut bucket = TokenBucket::default();
        assert!(bucket.take(least, Duration::ZERO).is_ok());
        assert!(bucket.take(least, Duration::ZERO).is_err());
        bucket.give_back(least);
        assert!(bucket.full_in(least, Duration::ZERO).is_zero());
    }
}
