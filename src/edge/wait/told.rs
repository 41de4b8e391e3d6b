//! Waiting for what another thread does for a request alone: a secret that is stored, a subscription that is confirmed. That is
//! rare, so the thread rings all workers by a byte on a socket, and a worker lets all of its tasks look that wait like this. The
//! sweep does so, too: deadlines are met to the second.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::edge::runtime::net::Net;
use crate::edge::wait::wake_list::WakeList;
use crate::gate::errand::{ErrandEnd, ErrandFate};

/// How long an errand may take.
#[derive(Clone, Copy, Debug)]
pub struct ErrandTime {
    /// After this time it is withdrawn, if it has not begun.
    pub patience: Duration,
    /// After this time it is not waited for any more.
    pub hangs_after: Duration,
}

/// An errand, which is withdrawn when its request is gone. What is being done, or is done, stays so.
#[derive(Debug)]
pub struct AwaitedErrand(pub Arc<ErrandFate>);

impl Drop for AwaitedErrand {
    fn drop(&mut self) {
        let _ = self.0.withdraw();
    }
}

impl AwaitedErrand {
    /// How it has ended; nothing where it was withdrawn, or takes too long. `begun` is when it was handed over.
    pub async fn ended<N: Net>(self, net: &N, told: &WakeList, time: ErrandTime, begun: Duration) -> Option<ErrandEnd> {
        poll_fn(|cx| {
            if let Some(end) = self.0.ended() {
                return Poll::Ready(Some(end));
            }
            let waited = net.look().monotonic.saturating_sub(begun);
            if waited >= time.patience && self.0.withdraw() || waited >= time.hangs_after {
                return Poll::Ready(None);
            }
            told.push(cx.waker());
            Poll::Pending
        })
        .await
    }
}
