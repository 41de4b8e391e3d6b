//! Connections to the application: a pool per worker and upstream, and the rule for trying again.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;

use crate::now::Now;
use crate::outcome::Fault;
use crate::telemetry::{PoolMeter, UpstreamCells};

use super::net::Net;
use super::policy::Upstream;
use super::stream::ByteStream;

/// An application that can be sent to, with the connections that wait for their next use (the youngest is used first,
/// so that the others can grow old and go).
pub struct Pool<S> {
    idle: RefCell<Vec<Idle<S>>>,
    meter: Option<PoolMeter>,
    trust: Trust,
}

/// How long a connection may have been idle and still count as one that goes from hand to hand.
const BRISK: Duration = Duration::from_millis(1);
/// Brisk connections in a row that must have been quiet before they are looked at more seldom.
const PROVEN: u32 = 1000;
/// How seldom then: one of so many.
const SAMPLE: u32 = 16;

/// Whether an application is one that closes connections, unannounced, right behind its answers. A look at a connection
/// is a system call; under load, an application that has been seen a thousand times not to do that is spared most of
/// them, and a connection is then known to be open as of a millisecond ago.
#[derive(Debug, Default)]
struct Trust {
    quiet: Cell<u32>,
}

impl Trust {
    /// Whether a connection that has been idle for so long can be used. `look` says whether it is quiet.
    fn admits(&self, idle: Duration, look: impl FnOnce() -> bool) -> bool {
        if idle >= BRISK {
            return look();
        }
        let seen = self.quiet.get();
        let next = if seen < PROVEN { seen + 1 } else { PROVEN + (seen - PROVEN + 1) % SAMPLE };
        // Once proven, one in a round of samples.
        let usable = seen > PROVEN || look();
        self.quiet.set(if usable { next } else { 0 });
        usable
    }

    /// A connection that was taken for open was not.
    fn lose(&self) {
        self.quiet.set(0);
    }
}

struct Idle<S> {
    stream: S,
    since: Duration,
}

/// A connection that is in use. Dropping it closes it.
pub struct Checkout<S> {
    /// The connection.
    pub stream: S,
    /// Whether it has carried an exchange before.
    pub reused: bool,
}

impl<S> Default for Pool<S> {
    fn default() -> Self {
        Self::new(None)
    }
}

impl<S> Pool<S> {
    /// An empty pool that counts what it does.
    #[must_use]
    pub fn new(meter: Option<PoolMeter>) -> Self {
        Self { idle: RefCell::default(), meter, trust: Trust::default() }
    }

    fn count(&self, count: impl FnOnce(&UpstreamCells)) {
        if let Some(cells) = self.meter.as_ref().and_then(PoolMeter::cells) {
            count(cells);
        }
    }

    fn count_idle(&self) {
        self.count(|cells| cells.idle.set(self.idle.borrow().len() as u64));
    }
}

/// The connections close, and nobody must think that they wait.
impl<S> Drop for Pool<S> {
    fn drop(&mut self) {
        self.count(|cells| cells.idle.set(0));
    }
}

impl<S: ByteStream> Pool<S> {
    /// A connection to the application: an idle one that is still quiet, or a new one.
    ///
    /// # Errors
    /// [`Fault::UpstreamConnect`] or [`Fault::UpstreamConnectTimeout`].
    pub async fn checkout<N: Net<Stream = S>>(&self, net: &N, upstream: &Upstream) -> Result<Checkout<S>, Fault> {
        let now = net.now();
        while let Some(Idle { stream, since }) = self.take_idle(now, upstream.idle_timeout) {
            // A peer that has closed, or speaks out of turn, must not be given a delivery: once a byte of a POST is
            // written it cannot be sent again elsewhere.
            if self.trust.admits(now.monotonic.saturating_sub(since), || stream.is_quiet()) {
                self.count(|cells| cells.reused.add(1));
                return Ok(Checkout { stream, reused: true });
            }
        }
        self.connect(net, upstream).await
    }

    /// A connection that had been used before was closed without an answer.
    pub fn distrust(&self) {
        self.trust.lose();
    }

    /// A new connection, whatever the pool holds.
    ///
    /// # Errors
    /// As [`Self::checkout`].
    pub async fn connect<N: Net<Stream = S>>(&self, net: &N, upstream: &Upstream) -> Result<Checkout<S>, Fault> {
        let deadline = net.monotonic() + upstream.connect_timeout;
        match net.connect(&upstream.target, deadline).await {
            Ok(stream) => {
                self.count(|cells| cells.opened.add(1));
                Ok(Checkout { stream, reused: false })
            }
            Err(error) => {
                self.count(|cells| cells.failed.add(1));
                let late = error.kind() == io::ErrorKind::TimedOut;
                Err(if late { Fault::UpstreamConnectTimeout } else { Fault::UpstreamConnect })
            }
        }
    }

    /// Keeps a connection whose exchange ended cleanly, if there is a place for it.
    pub fn check_in(&self, mut stream: S, upstream: &Upstream, now: Now) {
        stream.leave_task();
        let mut idle = self.idle.borrow_mut();
        if idle.len() < upstream.idle_connections {
            idle.push(Idle { stream, since: now.monotonic });
        }
        drop(idle);
        self.count_idle();
    }

    /// Closes connections that have waited too long.
    pub fn close_expired(&self, now: Now, idle_timeout: Duration) {
        self.idle.borrow_mut().retain(|idle| now.monotonic < idle.since + idle_timeout);
        self.count_idle();
    }

    fn take_idle(&self, now: Now, idle_timeout: Duration) -> Option<Idle<S>> {
        let mut pool = self.idle.borrow_mut();
        let youngest = pool.pop()?;
        let young = now.monotonic < youngest.since + idle_timeout;
        if !young {
            // The youngest is too old, so all of them are.
            pool.clear();
        }
        drop(pool);
        self.count_idle();
        young.then_some(youngest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the next brisk connection is looked at.
    fn looks(trust: &Trust, quiet: bool) -> bool {
        let mut looked = false;
        trust.admits(Duration::ZERO, || {
            looked = true;
            quiet
        });
        looked
    }

    #[test]
    fn an_application_earns_trust_and_loses_it() {
        let trust = Trust::default();
        assert!((0..=PROVEN).all(|_| looks(&trust, true)));
        let samples = (0..160).filter(|_| looks(&trust, true)).count();
        assert_eq!(samples, 10);
        // What has been idle for longer is always looked at.
        assert!(!trust.admits(BRISK, || false));
        assert!(trust.admits(BRISK, || true));
        trust.lose();
        assert!((0..PROVEN - 1).all(|_| looks(&trust, true)));
        assert!(looks(&trust, false));
        assert!((0..PROVEN).all(|_| looks(&trust, true)));
        while !looks(&trust, false) {}
        assert!(looks(&trust, true));
    }
}
