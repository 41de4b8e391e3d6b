//! What an explanation may cost. An explanation has many trials, and an attacker may have made the request: all trials
//! together take work that grows with the size of the request and no faster, and never more than [`MOST`]. It is counted in
//! bytes and not measured, so that an answer is the same on every machine.

use core::cell::Cell;

use super::trial::run;
use crate::gate::verify::{Delivery, Verifier};
use crate::now::Now;

/// Work that is left, as a number of hashed bytes.
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
const FACTOR: u64 = 512;

/// However long the body is: about a second of one core.
const MOST: u64 = 1 << 30;

/// What a byte costs that is read, or written in another way, one after the other.
const STEP: usize = 3;

/// A byte that is searched for some text costs this part of one that is hashed.
const SEARCHED: usize = 8;

/// What a trial costs beside the body: reading the head, making keys.
const TRIAL: u64 = 4096;

impl TrialBudget {
    /// For a request with a body of `length` bytes: 64 MiB, and 512 bytes for each of them, and at most 1 GiB.
    #[must_use]
    pub const fn of(length: usize) -> Self {
        let whole = FLOOR.saturating_add((length as u64).saturating_mul(FACTOR));
        Self::within(if whole < MOST { whole } else { MOST })
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

    /// Takes what it costs to go through `text` byte by byte so many times.
    pub(super) fn steps(&self, text: &[u8], times: usize) -> bool {
        self.spend(text.len().saturating_mul(STEP * times))
    }

    /// Takes what it costs to search `text` for so many others.
    pub(super) fn searches(&self, text: &[u8], times: usize) -> bool {
        self.spend((text.len() / SEARCHED).saturating_mul(times))
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

    /// Notes that something was left out.
    pub fn refuse(&self) {
        self.refused.set(true);
    }

    /// Lets `trials` spend no more than half of what may be spent now.
    pub(super) fn half<T>(&self, trials: impl FnOnce() -> T) -> T {
        self.all_but(2, trials)
    }

    /// Lets `trials` spend what may be spent now but for one of so many parts.
    pub(super) fn all_but<T>(&self, parts: u64, trials: impl FnOnce() -> T) -> T {
        let before = self.reserve.get();
        self.reserve.set(before + self.left.get().saturating_sub(before) / parts);
        let result = trials();
        self.reserve.set(before);
        result
    }

    /// Whether something was left out since this was last asked.
    pub(super) const fn takes_refusal(&self) -> bool {
        self.refused.replace(false)
    }

    /// Whether `verifier` takes `delivery` for genuine, if that can be paid for. The head is judged first: most trials end
    /// there, and cost no look at the body.
    pub(super) fn matches<D: Delivery>(&self, verifier: &Verifier, delivery: &D, now: Now) -> bool {
        let head = delivery.target().len().saturating_add(TRIAL as usize);
        if !self.spend(head) || verifier.begin(delivery, now).is_err() {
            return false;
        }
        self.spend(verifier.whole_work(delivery)) && run(verifier, delivery, now).is_ok()
    }
}
