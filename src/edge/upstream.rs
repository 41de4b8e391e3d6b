//! Connections to the application: a pool per worker and upstream.
//!
//! An answer of HTTP/1.1 does not say which request it belongs to: what arrives first is the answer to what was sent
//! last. So a connection rests after its answer for [`Upstream::reuse_after`], and is looked at directly before the next
//! request: one that has been closed, or has said anything, is dropped. The look is a system call of about 0.15 µs. It
//! cannot be left out for applications that have been quiet a thousand times: the first time that they are not, another
//! delivery would get the answer. Rest costs connections. Where as many are open as may be idle, the
//! oldest is used before its time: a further one would be closed after its answer, and the next delivery would have to
//! make one again.
//!
//! Over TLS a connection is the same: its handshake is a part of connecting, within the same time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::now::Now;
use crate::outcome::Fault;
use crate::telemetry::{PoolMeter, UpstreamCells};

use super::door::tls::outbound::{self, ClientTls, Outbound, SecureError};
use super::door::tls::records::RecordBuffers;
use super::runtime::net::Net;
use super::runtime::stream::{ByteStream, Duplex};
use super::runtime::target::Target;

/// One application.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where it listens.
    pub target: Target,
    /// How connections are encrypted; nothing for plain text.
    pub tls: Option<ClientTls>,
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// From the end of the request to the head of the answer, and for each further piece of it.
    pub response_timeout: Duration,
    /// How long a connection may wait for its next use.
    pub idle_timeout: Duration,
    /// How many connections each worker keeps.
    pub idle_connections: usize,
    /// How long a connection rests after an answer before it can be used again: what the application sends beyond its
    /// answer in this time is noticed.
    pub reuse_after: Duration,
}

impl Upstream {
    /// The host by which a client of the application itself would call it: its address as it is configured, and
    /// `localhost` for a Unix socket.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        match &self.target {
            Target::Tcp(addresses) => addresses.name.as_bytes(),
            Target::Unix(_) => b"localhost",
        }
    }
}

/// An application that can be sent to, with the connections that wait for their next use.
pub struct Pool<S> {
    idle: RefCell<Waiting<S>>,
    /// How many are open: those that wait, and those that carry a delivery.
    open: Rc<Cell<usize>>,
    meter: Option<PoolMeter>,
    /// For records on their way, where connections are encrypted.
    records: Rc<RecordBuffers>,
}

/// One open connection in the count of its pool, until it is dropped.
struct OpenCount(Rc<Cell<usize>>);

impl OpenCount {
    fn new(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// The connections that wait, the oldest first. The youngest of those that have rested is used first, so that the others
/// can grow old and be closed.
struct Waiting<S> {
    idle: VecDeque<Idle<S>>,
    /// How many of them, at the front, have rested.
    rested: usize,
}

impl<S> Default for Waiting<S> {
    fn default() -> Self {
        Self { idle: VecDeque::new(), rested: 0 }
    }
}

impl<S> Waiting<S> {
    /// The youngest connection that has rested and is not too old. Where none has, and as many are `open` as may be idle,
    /// the oldest.
    fn take(&mut self, now: Duration, open: usize, upstream: &Upstream) -> Option<Checkout<S>> {
        while self.idle.get(self.rested).is_some_and(|idle| now >= idle.since + upstream.reuse_after) {
            self.rested += 1;
        }
        let Some(youngest) = self.rested.checked_sub(1) else {
            let all_open = open >= upstream.idle_connections;
            return if all_open { self.idle.pop_front().map(|idle| idle.checkout) } else { None };
        };
        self.rested = youngest;
        // What is behind it moves up: those that rest, and they are few.
        let Idle { checkout, since } = self.idle.remove(youngest)?;
        if now < since + upstream.idle_timeout {
            return Some(checkout);
        }
        // The youngest is too old, so all of them are.
        self.idle.drain(..youngest);
        self.rested = 0;
        None
    }

    fn close_expired(&mut self, now: Duration, idle_timeout: Duration) {
        let expired = self.idle.partition_point(|idle| now >= idle.since + idle_timeout);
        self.idle.drain(..expired);
        self.rested = self.rested.saturating_sub(expired);
    }
}

struct Idle<S> {
    checkout: Checkout<S>,
    since: Duration,
}

/// A connection that is in use. Dropping it closes it.
pub struct Checkout<S> {
    /// The connection.
    pub stream: Outbound<S>,
    /// Whether it has carried an exchange before.
    pub reused: bool,
    _counted: OpenCount,
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
        Self { idle: RefCell::default(), open: Rc::default(), meter, records: Rc::default() }
    }

    fn count(&self, count: impl FnOnce(&UpstreamCells)) {
        if let Some(cells) = self.meter.as_ref().and_then(PoolMeter::cells) {
            count(cells);
        }
    }

    fn count_idle(&self) {
        self.count(|cells| cells.idle.set(self.idle.borrow().idle.len() as u64));
    }
}

/// The connections close, and the gauge must not count them any more.
impl<S> Drop for Pool<S> {
    fn drop(&mut self) {
        self.count(|cells| cells.idle.set(0));
    }
}

impl<S: Duplex> Pool<S> {
    /// A connection to the application: one that has rested and is still quiet, or a new one. It is to be written to at
    /// once: nothing may be awaited between the look and the first write.
    ///
    /// # Errors
    /// [`Fault::UpstreamConnect`] or [`Fault::UpstreamConnectTimeout`]; over TLS also [`Fault::UpstreamTls`] and
    /// [`Fault::UpstreamCertificate`].
    pub async fn checkout<N: Net<Stream = S>>(&self, net: &N, upstream: &Upstream) -> Result<Checkout<S>, Fault> {
        let now = net.monotonic();
        while let Some(mut checkout) = self.take_idle(now, upstream) {
            // A peer that has closed, or speaks out of turn, must not be given a delivery: once a byte of a POST is
            // written it cannot be sent again elsewhere, and what has come already is not the answer to it.
            let stream = &mut checkout.stream;
            if stream.is_quiet() || (stream.is_encrypted() && Box::pin(stream.is_quiet_beneath()).await) {
                self.count(|cells| cells.reused.add(1));
                return Ok(checkout);
            }
            if !checkout.stream.has_ended() {
                self.note_stray();
            }
        }
        self.connect(net, upstream).await
    }

    /// Counts a connection that is closed because the application has sent something beyond its answer.
    pub fn note_stray(&self) {
        self.count(|cells| cells.strays.add(1));
    }

    /// A new connection, whatever the pool holds.
    ///
    /// # Errors
    /// As [`Self::checkout`].
    pub async fn connect<N: Net<Stream = S>>(&self, net: &N, upstream: &Upstream) -> Result<Checkout<S>, Fault> {
        let deadline = net.monotonic() + upstream.connect_timeout;
        let connected = net.connect(&upstream.target, deadline).await.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Fault::UpstreamConnectTimeout,
            _ => Fault::UpstreamConnect,
        });
        let opened = match (connected, &upstream.tls) {
            (Ok(socket), None) => Ok(Outbound::plain(socket)),
            // In a box: plain connections would have to carry the room for it.
            (Ok(socket), Some(tls)) => {
                Box::pin(outbound::secure(socket, tls, &self.records, deadline)).await.map_err(unsecured)
            }
            (Err(fault), _) => Err(fault),
        };
        match opened {
            Ok(stream) => {
                self.count(|cells| cells.opened.add(1));
                Ok(Checkout { stream, reused: false, _counted: OpenCount::new(&self.open) })
            }
            Err(fault) => {
                self.count(|cells| cells.failed.add(1));
                Err(fault)
            }
        }
    }

    /// Keeps a connection whose exchange ended cleanly, if there is a place for it.
    pub fn check_in(&self, mut checkout: Checkout<S>, upstream: &Upstream, now: Now) {
        checkout.stream.leave_task();
        checkout.reused = true;
        let mut waiting = self.idle.borrow_mut();
        if waiting.idle.len() < upstream.idle_connections {
            waiting.idle.push_back(Idle { checkout, since: now.monotonic });
        }
        drop(waiting);
        self.count_idle();
    }

    /// Closes connections that have waited too long.
    pub fn close_expired(&self, now: Now, idle_timeout: Duration) {
        self.idle.borrow_mut().close_expired(now.monotonic, idle_timeout);
        self.count_idle();
    }

    fn take_idle(&self, now: Duration, upstream: &Upstream) -> Option<Checkout<S>> {
        let taken = self.idle.borrow_mut().take(now, self.open.get(), upstream);
        self.count_idle();
        taken
    }
}

const fn unsecured(error: SecureError) -> Fault {
    match error {
        SecureError::Certificate => Fault::UpstreamCertificate,
        SecureError::Protocol | SecureError::Gone => Fault::UpstreamTls,
        SecureError::Late => Fault::UpstreamConnectTimeout,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::policy::{Addresses, Target};
    use super::*;
    use crate::edge::runtime::pipe::{Pipe, VirtualNet};

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn upstream() -> Upstream {
        Upstream {
            target: Target::Tcp(Arc::new(Addresses::new("app".to_owned(), Vec::new()))),
            tls: None,
            connect_timeout: ms(1000),
            response_timeout: ms(1000),
            idle_timeout: ms(4000),
            idle_connections: 8,
            reuse_after: ms(5),
        }
    }

    /// Connections that are told apart by how much lies in them.
    fn connection(number: usize) -> Idle<Pipe> {
        let net = VirtualNet::new(1, None);
        let stream = Outbound::plain(net.client(&vec![0; number], false));
        Idle {
            checkout: Checkout { stream, reused: true, _counted: OpenCount::new(&Rc::default()) },
            since: ms(number as u64),
        }
    }

    fn taken_of(waiting: &mut Waiting<Pipe>, open: usize, now: u64) -> Option<usize> {
        waiting.take(ms(now), open, &upstream()).map(|checkout| checkout.stream.socket().arrived())
    }

    fn taken(waiting: &mut Waiting<Pipe>, now: u64) -> Option<usize> {
        taken_of(waiting, 0, now)
    }

    #[test]
    fn the_youngest_that_has_rested_is_used_first() {
        let mut waiting = Waiting::default();
        waiting.idle.extend((1..=4).map(connection));
        assert_eq!(taken(&mut waiting, 5), None);
        assert_eq!((taken(&mut waiting, 7), taken(&mut waiting, 7), taken(&mut waiting, 7)), (Some(2), Some(1), None));
        assert_eq!((taken(&mut waiting, 4002), taken(&mut waiting, 4002)), (Some(4), Some(3)));
        assert_eq!(waiting.idle.len(), 0);
    }

    #[test]
    fn those_that_are_too_old_are_closed() {
        let mut waiting = Waiting::default();
        waiting.idle.extend((1..=4).map(connection));
        waiting.close_expired(ms(4002), ms(4000));
        assert_eq!(waiting.idle.len(), 2);
        assert_eq!((taken(&mut waiting, 4004), waiting.idle.len()), (None, 0));
    }

    #[test]
    fn while_as_many_are_open_as_may_be_idle_the_oldest_rests_shorter() {
        let mut waiting = Waiting::default();
        waiting.idle.extend((1..=3).map(connection));
        assert_eq!(taken_of(&mut waiting, 7, 5), None);
        assert_eq!((taken_of(&mut waiting, 8, 5), taken_of(&mut waiting, 8, 5)), (Some(1), Some(2)));
        assert_eq!((taken_of(&mut waiting, 8, 8), taken_of(&mut waiting, 8, 8)), (Some(3), None));
    }

    #[test]
    fn a_connection_is_counted_until_it_is_closed() {
        let (pool, upstream) = (Pool::new(None), upstream());
        let open = Rc::clone(&pool.open);
        let mut all: Vec<Checkout<Pipe>> = (0..10)
            .map(|_| Checkout {
                stream: Outbound::plain(VirtualNet::new(1, None).client(b"", false)),
                reused: false,
                _counted: OpenCount::new(&open),
            })
            .collect();
        assert_eq!(open.get(), 10);
        // One is dropped; of nine that come back eight are kept.
        drop(all.pop());
        let now = Now { monotonic: ms(1), unix: ms(1) };
        all.into_iter().for_each(|checkout| pool.check_in(checkout, &upstream, now));
        assert_eq!(open.get(), 8);
        pool.close_expired(Now { monotonic: ms(5000), ..now }, upstream.idle_timeout);
        assert_eq!(open.get(), 0);
    }
}
