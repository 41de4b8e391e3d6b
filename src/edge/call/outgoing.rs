//! A request on its way to the application, and the connection that it takes.
//!
//! A request usually leaves with one write, and then its answer is read. Only where the first write was not taken whole
//! is the rest written and the answer read at the same time: the application may answer before it has read everything,
//! and may never read the rest (RFC 9112 section 9.5).

use std::io;
use std::ops::Range;
use std::time::Duration;

use crate::outcome::Fault;

use super::inbound::Inbound;
use crate::edge::door::tls::outbound::Outbound;
use crate::edge::policy::Upstream;
use crate::edge::runtime::buffer::{BufferPool, HEADROOM};
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::{ByteStream, Duplex, Heard, Lent};
use crate::edge::upstream::{Checkout, Pool};
use crate::edge::worker::Worker;

/// An application that has accepted a delivery before it has read all of it gets the rest, unless it takes nothing of it
/// for this long.
const STANDSTILL: Duration = Duration::from_secs(1);

/// A request that has not been sent.
pub struct Outgoing<'a> {
    /// The request as it came; its head may have been written over.
    pub inbound: &'a mut Inbound,
    /// Head and body in the request's own buffer, where the head fits in front of the body.
    whole: Option<Range<usize>>,
    /// The head, where it does not.
    apart: Vec<u8>,
}

impl<'a> Outgoing<'a> {
    /// The request with another head.
    pub fn new(inbound: &'a mut Inbound, head: &[u8], buffers: &BufferPool) -> Self {
        let whole = inbound.replace_head(head);
        let mut apart = Vec::new();
        if whole.is_none() {
            apart = buffers.lease(head.len());
            apart.extend_from_slice(head);
        }
        Self { inbound, whole, apart }
    }

    /// Writes as much of the request as is taken at once, to an idle connection or a new one. A connection that fails
    /// before it has taken a byte is replaced once; after the first byte nothing is ever sent again, because a delivery
    /// must not happen twice.
    ///
    /// # Errors
    /// A [`Fault`] on the upstream's side: nothing can have been answered.
    pub async fn send<N: Net>(
        &mut self,
        worker: &Worker<N>,
        upstream: &Upstream,
        pool: &Pool<N::Stream>,
        downstream: &N::Stream,
    ) -> Result<OpenDelivery<N::Stream>, Fault> {
        let checkout = pool.checkout(&worker.net, upstream).await?;
        let mut line = OpenDelivery { checkout, rest: 0..0, deadline: Duration::ZERO, in_order: true };
        loop {
            line.checkout.stream.join_socket(downstream);
            line.deadline = worker.net.monotonic() + upstream.response_timeout;
            match self.begin(worker, &mut line).await {
                Ok(()) => return Ok(line),
                Err(Unsent { begun: false, .. }) if line.checkout.reused => {
                    line.checkout = pool.connect(&worker.net, upstream).await?;
                }
                Err(unsent) if unsent.error.kind() == io::ErrorKind::TimedOut => return Err(Fault::UpstreamTimeout),
                // An application may refuse a request before it has read it, and close: its answer may be there.
                Err(Unsent { begun: true, .. }) => {
                    line.in_order = false;
                    return Ok(line);
                }
                Err(_) => return Err(Fault::UpstreamClosed),
            }
        }
    }

    /// The first write. What is left to be written is noted.
    async fn begin<N: Net>(&mut self, worker: &Worker<N>, line: &mut OpenDelivery<N::Stream>) -> Result<(), Unsent> {
        let (range, begun) = match self.whole.clone() {
            Some(range) => (range, false),
            None => {
                self.write_apart(worker, line).await?;
                (self.inbound.body_range(), true)
            }
        };
        if range.is_empty() {
            return Ok(());
        }
        line.rest = range.clone();
        let (result, buf) = line.checkout.stream.write(self.inbound.lend(), range, line.deadline).await;
        self.inbound.returned(buf);
        match result {
            Ok(count) if count > 0 => {
                line.rest.start += count;
                Ok(())
            }
            written => {
                line.rest = 0..0;
                // Of a record that failed, how much was taken is not known.
                let begun = begun || line.checkout.stream.is_encrypted();
                Err(Unsent { begun, error: written.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into()) })
            }
        }
    }

    /// A head that does not fit in front of the body goes first, from a buffer of its own.
    async fn write_apart<N: Net>(
        &mut self,
        worker: &Worker<N>,
        line: &mut OpenDelivery<N::Stream>,
    ) -> Result<(), Unsent> {
        let range = HEADROOM..self.apart.len();
        let stream = &mut line.checkout.stream;
        let (result, buf) = stream.write_all(std::mem::take(&mut self.apart), range, line.deadline).await;
        worker.buffers.give_back(buf);
        // How much of the head was taken is not known: as good as some of it.
        result.map_err(|error| Unsent { begun: true, error })
    }
}

/// A first write that failed.
struct Unsent {
    /// Whether something may have been taken before.
    begun: bool,
    error: io::Error,
}

/// A connection that carries a delivery. Dropping it closes it.
pub struct OpenDelivery<S> {
    checkout: Checkout<S>,
    /// What is left to be written of the request, as a range of its buffer.
    rest: Range<usize>,
    /// When writing must have come to its end.
    deadline: Duration,
    /// Whether the application has been sent the whole request before anything of its answer came.
    in_order: bool,
}

impl<S: Duplex> OpenDelivery<S> {
    /// When what is left must have been written: `None` when everything has been.
    pub fn sends_until(&self) -> Option<Duration> {
        (!self.rest.is_empty()).then_some(self.deadline)
    }

    /// Gives up writing: the application does not want the rest.
    pub fn stop_sending(&mut self) {
        if !self.rest.is_empty() {
            self.rest = 0..0;
            self.in_order = false;
        }
    }

    /// The connection, if it can carry another request: this one has been written whole, and then answered.
    pub fn into_reusable(self) -> Option<Checkout<S>> {
        (self.in_order && self.rest.is_empty()).then_some(self.checkout)
    }

    /// The connection, once nothing is left to be written: then only the answer is waited for.
    pub fn listening(&mut self) -> Option<&mut Outbound<S>> {
        self.rest.is_empty().then_some(&mut self.checkout.stream)
    }

    /// Writes what is left of the request until something has come, and reads that. `Ok(None)` means that everything has
    /// been written, or nothing more can be, and nothing has been read: then the deadline is another one.
    pub async fn converse(&mut self, inbound: &Inbound, into: Vec<u8>, deadline: Duration) -> Lent<Option<usize>> {
        let (written, heard) = self.checkout.stream.write_and_listen(inbound.part(self.rest.clone()), deadline).await;
        self.rest.start += written;
        match heard {
            Heard::Nothing => (Ok(None), into),
            Heard::Something => {
                self.in_order = false;
                let (result, into) = self.checkout.stream.read(into, deadline).await;
                (result.map(Some), into)
            }
            Heard::Unwritable => {
                self.stop_sending();
                (Ok(None), into)
            }
            Heard::Late => (Err(io::ErrorKind::TimedOut.into()), into),
        }
    }

    /// Writes what is left to an application that has answered already and accepted the delivery: it may have answered
    /// first and read afterwards. Ends when it takes nothing for a second, or not everything within `timeout`.
    pub async fn finish<N: Net<Stream = S>>(&mut self, worker: &Worker<N>, inbound: &Inbound, timeout: Duration) {
        let end = worker.net.monotonic() + timeout;
        while !self.rest.is_empty() {
            let deadline = end.min(worker.net.monotonic() + STANDSTILL);
            let (written, heard) = self.checkout.stream.write_on(inbound.part(self.rest.clone()), deadline).await;
            self.rest.start += written;
            if written == 0 || heard == Heard::Unwritable {
                return;
            }
        }
    }
}
