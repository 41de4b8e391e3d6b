//! What an explanation may cost. An explanation has many trials, and an attacker may have made the request: all trials
//! together take work that grows with the size of the request and no faster.

use core::cell::Cell;

use super::trial::run;
use crate::gate::verify::{Delivery, Kind, PUBLIC_CANDIDATE_LIMIT, Verifier};
use crate::now::Now;

/// Work that is left, in bytes that are written or hashed.
#[derive(Debug)]
pub struct TrialBudget {
    whole: u64,
    left: Cell<u64>,
    /// Nothing below this may be spent now.
    reserve: Cell<u64>,
    refused: Cell<bool>,
}

/// Enough for every trial on a request of the size that a running process keeps.
const FLOOR: u64 = 64 << 20;

/// For each byte of the body.
const FACTOR: u64 = 128;

/// What a trial costs beside the body: reading the head, making keys.
const TRIAL: u64 = 4096;

impl TrialBudget {
    /// For a request with a body of `length` bytes: 64 MiB, and 128 bytes for each of them.
    #[must_use]
    pub const fn of(length: usize) -> Self {
        Self::within(FLOOR.saturating_add((length as u64).saturating_mul(FACTOR)))
    }

    /// Of so many bytes.
    pub(super) const fn within(whole: u64) -> Self {
        Self { whole, left: Cell::new(whole), reserve: Cell::new(0), refused: Cell::new(false) }
    }

    /// Takes `bytes`; false, and nothing taken, where there are not as many left.
    pub fn spend(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let may = bytes <= self.left.get().saturating_sub(self.reserve.get());
        if may {
            self.left.set(self.left.get() - bytes);
        } else {
            self.refused.set(true);
        }
        may
    }

    /// Takes `bytes` for work that has been done; false, and everything taken, where there were not as many left.
    pub fn charge(&self, bytes: usize) -> bool {
        let may = self.spend(bytes);
        if !may {
            self.left.set(self.reserve.get().min(self.left.get()));
        }
        may
    }

    /// What has been spent.
    #[must_use]
    pub const fn spent(&self) -> u64 {
        self.whole - self.left.get()
    }

    /// How much one step may still take, as a bound on what it writes.
    #[must_use]
    pub fn bound(&self) -> usize {
        usize::try_from(self.left.get().saturating_sub(self.reserve.get())).unwrap_or(usize::MAX)
    }

    /// Whether something was left out because it would have cost too much.
    #[must_use]
    pub const fn has_refused(&self) -> bool {
        self.refused.get()
    }

    /// Notes that something was left out.
    pub fn refuse(&self) {
        self.refused.set(true);
    }

    /// Lets `trials` spend no more than half of what may be spent now.
    pub(super) fn half<T>(&self, trials: impl FnOnce() -> T) -> T {
        let before = self.reserve.get();
        self.reserve.set(before + self.left.get().saturating_sub(before) / 2);
        let result = trials();
        self.reserve.set(before);
        result
    }

    /// Whether `verifier` takes `delivery` for genuine, if that can be paid for. The head is judged first: most trials end
    /// there, and cost no look at the body.
    pub(super) fn matches<D: Delivery>(&self, verifier: &Verifier, delivery: &D, now: Now) -> bool {
        let candidates = match verifier.scheme().map(|scheme| scheme.kind) {
            Some(Kind::Public(_)) => PUBLIC_CANDIDATE_LIMIT,
            _ => 1,
        };
        let head = delivery.target().len().saturating_add(TRIAL as usize);
        if !self.spend(head) || verifier.begin(delivery, now).is_err() {
            return false;
        }
        // Every key may hash the body, and what is read from inside of it is read once more.
        let urls = if verifier.other_url().is_some() { 2 } else { 1 };
        let passes = verifier.keys().len().saturating_mul(candidates * urls).saturating_add(1);
        let once = delivery.body().len().saturating_add(verifier.arithmetic());
        self.spend(once.saturating_mul(passes)) && run(verifier, delivery, now).is_ok()
    }
}
