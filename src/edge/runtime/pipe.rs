//! The world in memory: connections that are byte queues, and a clock that jumps. For tests and benchmarks.
//!
//! Nothing here waits. When an exchange has nothing left to do, [`VirtualNet::run`] moves the clock to the next
//! deadline, so that thirty seconds of a slow client pass in no time, and the same way every time.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::now::Now;

use super::net::Net;
use super::stream::{ByteStream, Duplex, Heard, Lent};
use super::target::Target;

/// What an application does when bytes have reached it.
#[derive(Clone, Debug, Default)]
pub struct Reaction {
    /// What it sends.
    pub reply: Vec<u8>,
    /// Whether it closes the connection after that.
    pub close: bool,
}

/// An application: it is shown all bytes that a connection has received since its last reply.
pub type Application = Rc<RefCell<dyn FnMut(&[u8]) -> Reaction>>;

/// Both clocks and the application.
#[derive(Clone)]
pub struct VirtualNet {
    time: Rc<Cell<Duration>>,
    next_deadline: Rc<Cell<Option<Duration>>>,
    application: Option<Application>,
    /// How many bytes a read brings at most.
    grain: usize,
    /// How many bytes an application takes with one write at most.
    mouthful: usize,
    /// How many bytes an application takes of each connection before it takes nothing more.
    appetite: usize,
    /// Connections that were made to the application.
    pub connects: Rc<Cell<usize>>,
}

/// What Unix time the virtual clock starts at.
const EPOCH: Duration = Duration::from_secs(1_760_000_000);

impl VirtualNet {
    /// A world in which reads bring at most `grain` bytes, with an application, or without one to connect to.
    #[must_use]
    pub fn new(grain: usize, application: Option<Application>) -> Self {
        Self {
            time: Rc::default(),
            next_deadline: Rc::default(),
            application,
            grain,
            mouthful: usize::MAX,
            appetite: usize::MAX,
            connects: Rc::default(),
        }
    }

    /// The same world with an application that takes at most `mouthful` bytes of a request at a time, and `appetite` of
    /// all that a connection brings.
    #[must_use]
    pub fn taking(self, mouthful: usize, appetite: usize) -> Self {
        Self { mouthful, appetite, ..self }
    }

    /// A connection from a client that has sent `input`, and has closed its side if `closed`.
    #[must_use]
    pub fn client(&self, input: &[u8], closed: bool) -> Pipe {
        Pipe::new(self, input, closed, None)
    }

    /// Drives `future` to its end, moving the clock to the next deadline whenever it waits. `None` when it waits for
    /// what can never come.
    pub fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            self.next_deadline.set(None);
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return Some(output);
            }
            let next = self.next_deadline.get().filter(|next| *next > self.time.get())?;
            self.time.set(next);
        }
    }

    fn wait(&self, deadline: Duration) -> Poll<()> {
        if self.time.get() >= deadline {
            return Poll::Ready(());
        }
        let next = self.next_deadline.get().map_or(deadline, |next| next.min(deadline));
        self.next_deadline.set(Some(next));
        Poll::Pending
    }
}

impl Net for VirtualNet {
    type Stream = Pipe;

    fn now(&self) -> Now {
        Now { monotonic: self.time.get(), unix: EPOCH + self.time.get() }
    }

    fn monotonic(&self) -> Duration {
        self.time.get()
    }

    async fn connect(&self, _target: &Target, _deadline: Duration) -> io::Result<Pipe> {
        let application = self.application.clone().ok_or(io::ErrorKind::ConnectionRefused)?;
        self.connects.set(self.connects.get() + 1);
        Ok(Pipe::new(self, b"", false, Some(application)))
    }
}

/// One end of a connection in memory.
pub struct Pipe {
    net: VirtualNet,
    inbox: Vec<u8>,
    /// How much of the inbox has been read.
    read: usize,
    /// The other side will send nothing more.
    closed: bool,
    application: Option<Application>,
    unanswered: Vec<u8>,
    /// How much the application has taken.
    taken: usize,
    /// Everything that was written to a client's end.
    pub outbox: Rc<RefCell<Vec<u8>>>,
}

impl Pipe {
    fn new(net: &VirtualNet, input: &[u8], closed: bool, application: Option<Application>) -> Self {
        Self {
            net: net.clone(),
            inbox: input.to_vec(),
            read: 0,
            closed,
            application,
            unanswered: Vec::new(),
            taken: 0,
            outbox: Rc::default(),
        }
    }

    fn take(&mut self, buf: &mut Vec<u8>) -> Option<usize> {
        let room = buf.capacity() - buf.len();
        let unread = self.unread();
        let count = unread.len().min(self.net.grain).min(room);
        if count == 0 {
            return self.closed.then_some(0);
        }
        buf.extend_from_slice(unread.get(..count).unwrap_or_default());
        self.read += count;
        Some(count)
    }

    /// Hands over what is taken of `bytes`: all of it, where no application is at the other end.
    fn give(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(application) = &self.application else {
            self.outbox.borrow_mut().extend_from_slice(bytes);
            return Ok(bytes.len());
        };
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.net.mouthful).min(self.net.appetite - self.taken);
        if count == 0 {
            return Ok(0);
        }
        self.taken += count;
        self.unanswered.extend_from_slice(bytes.get(..count).unwrap_or_default());
        let Reaction { reply, close } = (application.borrow_mut())(&self.unanswered);
        if !reply.is_empty() {
            self.unanswered.clear();
        }
        self.inbox.drain(..std::mem::take(&mut self.read));
        self.inbox.extend_from_slice(&reply);
        self.closed |= close;
        Ok(count)
    }

    async fn push(&mut self, bytes: &[u8], deadline: Duration, listens: bool) -> (usize, Heard) {
        let mut sent = 0;
        while sent < bytes.len() {
            if listens && !self.is_quiet() {
                return (sent, Heard::Something);
            }
            match self.give(bytes.get(sent..).unwrap_or_default()) {
                // Nothing can change any more but the time.
                Ok(0) => {
                    poll_fn(|_| self.net.wait(deadline)).await;
                    return (sent, Heard::Late);
                }
                Ok(count) => sent += count,
                Err(_) => return (sent, Heard::Unwritable),
            }
        }
        (sent, Heard::Nothing)
    }

    /// How many bytes can be read.
    #[cfg(test)]
    pub(in crate::edge) fn arrived(&self) -> usize {
        self.unread().len()
    }

    fn unread(&self) -> &[u8] {
        self.inbox.get(self.read..).unwrap_or_default()
    }
}

impl ByteStream for Pipe {
    async fn read(&mut self, buf: Vec<u8>, deadline: Duration) -> Lent<usize> {
        match self.read_patiently(buf, deadline).await {
            (Ok(Some(count)), buf) => (Ok(count), buf),
            (Ok(None), _) => (Err(io::ErrorKind::TimedOut.into()), Vec::new()),
            (Err(error), buf) => (Err(error), buf),
        }
    }

    async fn read_patiently(&mut self, buf: Vec<u8>, deadline: Duration) -> Lent<Option<usize>> {
        let mut buf = buf;
        let outcome = poll_fn(|_| match self.take(&mut buf) {
            Some(count) => Poll::Ready(Some(count)),
            None => self.net.wait(deadline).map(|()| None),
        });
        (Ok(outcome.await), buf)
    }

    async fn readable(&mut self, deadline: Duration) -> io::Result<()> {
        poll_fn(|_| {
            if !self.unread().is_empty() || self.closed {
                return Poll::Ready(Ok(()));
            }
            self.net.wait(deadline).map(|()| Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }

    async fn write(&mut self, buf: Vec<u8>, range: Range<usize>, deadline: Duration) -> Lent<usize> {
        let bytes = buf.get(range).unwrap_or_default();
        match self.give(bytes) {
            // Nothing can change any more but the time.
            Ok(0) if !bytes.is_empty() => {
                poll_fn(|_| self.net.wait(deadline)).await;
                (Err(io::ErrorKind::TimedOut.into()), Vec::new())
            }
            written => (written, buf),
        }
    }

    fn offer(&mut self, bytes: &[u8]) {
        self.outbox.borrow_mut().extend_from_slice(bytes);
    }

    fn is_quiet(&self) -> bool {
        self.unread().is_empty() && !self.closed
    }

    fn has_ended(&self) -> bool {
        self.unread().is_empty() && self.closed
    }

    fn shut_down_write(&mut self) {}

    fn join_task_of(&mut self, _other: &Self) {}

    fn leave_task(&mut self) {}
}

impl Duplex for Pipe {
    async fn write_and_listen(&mut self, bytes: &[u8], deadline: Duration) -> (usize, Heard) {
        self.push(bytes, deadline, true).await
    }

    async fn write_on(&mut self, bytes: &[u8], deadline: Duration) -> (usize, Heard) {
        self.push(bytes, deadline, false).await
    }
}
