//! A journal: what workers record, written by one thread that makes many records durable at once.
//!
//! A worker appends bytes to a buffer of its own ([`lanes`]) and goes on. The writer ([`writer`]) takes what is in all
//! buffers, hands it to a [`JournalSink`], has it written and, where the sink does that, made durable: one sync for
//! everything that came since the last one. Answers that wait for their records ask the lanes how far it is. The access
//! log and the audit trail are sinks; what they record, in which form, and what a full buffer means is theirs.

mod lanes;
mod open;
mod rate;
mod writer;

pub(super) use lanes::{FULL, Pending};
pub(super) use open::Journal;
pub(super) use rate::share;
pub(super) use writer::{JournalSink, RoundEnd};

/// Who records.
#[derive(Clone, Copy, Debug)]
pub struct Writers {
    /// How many workers.
    pub workers: usize,
    /// Whether there is a thread that delivers: its place is behind theirs.
    pub delivers: bool,
}

impl Writers {
    /// How many there are in all.
    pub(super) fn all(self) -> usize {
        self.workers + usize::from(self.delivers)
    }
}
