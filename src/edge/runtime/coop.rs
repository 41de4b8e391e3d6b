//! Cooperative budgets: one task does not keep a worker from all others.
//!
//! On io_uring every operation waits in the ring, and others run meanwhile. On epoll an operation that need not wait is
//! done at once, so that a client that always has something to say, or a queue of new connections that never ends, would
//! keep the worker for itself.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

/// Operations of one connection in a row that did not have to wait, after which others have their turn.
const TURN: u32 = 8;

/// For how long then. Only a timer lets the runtime look after sockets and timers: a task that merely wakes itself is
/// run again before it does.
pub(in crate::edge) const PAUSE: Duration = Duration::from_millis(1);

/// Operations that a task may still do before it must let others run.
#[derive(Clone, Copy, Debug)]
pub(in crate::edge) struct CoopBudget {
    taken: u32,
    turn: u32,
}

impl Default for CoopBudget {
    fn default() -> Self {
        Self::of(TURN)
    }
}

impl CoopBudget {
    /// One whose turn is so many operations long.
    pub(in crate::edge) const fn of(turn: u32) -> Self {
        Self { taken: 0, turn }
    }

    /// Drives `operation`, and counts it.
    pub(in crate::edge) async fn during<F: Future>(&mut self, operation: F) -> F::Output {
        let mut operation = pin!(operation);
        let mut waited = false;
        let output = poll_fn(|cx| {
            let progress = operation.as_mut().poll(cx);
            waited |= progress.is_pending();
            progress
        })
        .await;
        if self.ends_turn(waited) {
            monoio::time::sleep(PAUSE).await;
        }
        output
    }

    /// Counts an operation; true at the end of the turn, when it is time for a [`PAUSE`]. `waited`: others had theirs in
    /// the meantime.
    pub(in crate::edge) fn ends_turn(&mut self, waited: bool) -> bool {
        self.taken = if waited { 0 } else { self.taken + 1 };
        let ends = self.taken >= self.turn;
        if ends {
            self.taken = 0;
        }
        ends
    }
}
