//! Reading and writing by deadline. The only file that awaits a socket operation of monoio.
//!
//! Deadlines are points on the process's monotonic clock ([`crate::now::Now::monotonic`]). An operation that misses
//! its deadline fails with [`io::ErrorKind::TimedOut`], and the stream is then good for nothing but closing: the
//! operation is abandoned, and bytes that it received may be gone with it. The one exception is
//! [`ByteStream::read_patiently`], which cancels and waits for the truth.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, CancelableAsyncReadRent, Canceller};
use monoio::net::{TcpStream, UnixStream};
use monoio::time::{Instant, Sleep};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use super::alarms::Alarms;
use super::clock::Clock;
use super::coop::{CoopBudget, PAUSE};

/// The result of an operation, and the buffer that it borrowed. After a missed deadline the buffer is empty: the
/// operation still owns the real one.
pub type Lent<T> = (io::Result<T>, Vec<u8>);

/// A connection to an application, which may answer before it has read all that is written to it.
#[allow(async_fn_in_trait, reason = "one thread per core: futures need not be Send")]
pub trait Duplex: ByteStream {
    /// Writes until there is something to read, or everything has been written. Gives how much was written, too: that is
    /// known in every case, and the stream can go on.
    async fn write_and_listen(&mut self, bytes: &[u8], deadline: Duration) -> (usize, Heard);

    /// The same without listening: until everything has been written.
    async fn write_on(&mut self, bytes: &[u8], deadline: Duration) -> (usize, Heard);
}

/// How [`Duplex::write_and_listen`] has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Everything has been written, and nothing has come.
    Nothing,
    /// There is something to read: bytes, the end, or an error.
    Something,
    /// The connection takes nothing more. Something may have come all the same.
    Unwritable,
    /// The deadline has passed.
    Late,
}

/// A connection, as the rest of the edge sees it: TCP, Unix socket, or the in-memory pipe of the tests.
#[allow(async_fn_in_trait, reason = "one thread per core: futures need not be Send")]
pub trait ByteStream {
    /// Appends what arrives to `buf`, up to its capacity. `Ok(0)` is the end of the stream.
    async fn read(&mut self, buf: Vec<u8>, deadline: Duration) -> Lent<usize>;

    /// Like [`Self::read`], but waiting in vain until the deadline is no failure: `Ok(None)`, the buffer comes back,
    /// nothing is lost and the stream can go on.
    async fn read_patiently(&mut self, buf: Vec<u8>, deadline: Duration) -> Lent<Option<usize>>;

    /// Waits, holding no buffer, until there is something to read (bytes, the end, or an error).
    async fn readable(&mut self, deadline: Duration) -> io::Result<()>;

    /// Writes all of `range`.
    async fn write_all(&mut self, buf: Vec<u8>, range: Range<usize>, deadline: Duration) -> Lent<()> {
        let mut sent = range.start;
        let mut buf = buf;
        while sent < range.end {
            let (result, back) = self.write(buf, sent..range.end, deadline).await;
            buf = back;
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buf),
                Ok(count) => sent += count,
                Err(error) => return (Err(error), buf),
            }
        }
        (Ok(()), buf)
    }

    /// Writes some of `range`.
    async fn write(&mut self, buf: Vec<u8>, range: Range<usize>, deadline: Duration) -> Lent<usize>;

    /// Sends what the kernel takes of `bytes` at once, without waiting: last words, which may be lost.
    fn offer(&mut self, bytes: &[u8]);

    /// True while an idle connection has neither been closed by the peer nor sent anything.
    fn is_quiet(&self) -> bool;

    /// True when the peer has closed, or lost, the connection and left nothing to read.
    fn has_ended(&self) -> bool;

    /// Says that nothing more will be sent; the other direction stays open.
    fn shut_down_write(&mut self);

    /// From now on this stream is used by the task that uses `other`, and shares its timer: a timer wakes the task that
    /// first waited for it and no other, so a stream must not bring one along from the task that used it before.
    fn join_task_of(&mut self, other: &Self);

    /// The opposite: this stream waits for another task to use it.
    fn leave_task(&mut self);
}

/// How far ahead the timer of a busy stream is set at most. It is not set anew for every operation: it runs for this
/// long and looks at the deadline when it fires, so that an operation costs no timer at all.
const TICK: Duration = Duration::from_millis(250);

/// How much is read at a time: others have a turn between two pieces of a large body.
const PIECE: usize = 256 << 10;

/// A TCP or Unix-domain connection.
pub struct Socket {
    kind: StreamKind,
    alarms: Rc<Alarms>,
    /// While it is busy.
    timer: Option<Timer>,
    budget: CoopBudget,
    /// While it is busy.
    canceller: Option<Canceller>,
}

/// The timer of a task, shared by the streams that it uses, one after the other.
type Timer = Rc<RefCell<Pin<Box<Sleep>>>>;

enum StreamKind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same call on either kind of socket.
macro_rules! on {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            StreamKind::Tcp($stream) => $call,
            StreamKind::Unix($stream) => $call,
        }
    };
}

impl Socket {
    /// Wraps a TCP connection; small writes leave at once.
    #[must_use]
    pub fn tcp(stream: TcpStream, alarms: &Rc<Alarms>) -> Self {
        // Failing to set the option costs latency, not correctness.
        let _ = stream.set_nodelay(true);
        Self::new(StreamKind::Tcp(stream), alarms)
    }

    /// Wraps a Unix-domain connection.
    #[must_use]
    pub fn unix(stream: UnixStream, alarms: &Rc<Alarms>) -> Self {
        Self::new(StreamKind::Unix(stream), alarms)
    }

    fn new(kind: StreamKind, alarms: &Rc<Alarms>) -> Self {
        Self { kind, alarms: Rc::clone(alarms), timer: None, budget: CoopBudget::default(), canceller: None }
    }

    fn raw_fd(&self) -> RawFd {
        on!(&self.kind, stream => stream.as_raw_fd())
    }

    /// One non-blocking look at what is there: the only way to see a FIN without an operation in flight on every idle
    /// connection.
    fn peek(&self) -> Result<usize, Errno> {
        recv(self.raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)
    }
}

/// Drives `operation` until it is done or the deadline has passed. Where it did not have to wait, that counts towards the
/// stream's turn.
async fn within<F: Future>(
    mut operation: Pin<&mut F>,
    timer: &mut Option<Timer>,
    clock: &Clock,
    budget: &mut CoopBudget,
    deadline: Duration,
) -> Option<F::Output> {
    let deadline = Instant::from_std(clock.instant(deadline));
    let timer = timer.get_or_insert_with(|| Rc::new(RefCell::new(Box::pin(monoio::time::sleep(TICK)))));
    let mut waited = false;
    let outcome = poll_fn(|cx| {
        if let Poll::Ready(output) = operation.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        waited = true;
        let mut timer = timer.borrow_mut();
        // Only a deadline that is nearer than the running timer makes us set it anew.
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::from_std(clock.instant(clock.monotonic()));
            if now >= deadline {
                return Poll::Ready(None);
            }
            timer.as_mut().reset(deadline.min(now + TICK));
        }
        Poll::Pending
    })
    .await;
    if budget.ends_turn(waited) {
        // With the timer that is there: another would make every future that reads or writes larger by its size.
        let end = Instant::from_std(clock.instant(clock.monotonic() + PAUSE));
        timer.borrow_mut().as_mut().reset(end);
        poll_fn(|cx| timer.borrow_mut().as_mut().poll(cx)).await;
    }
    outcome
}

/// What an operation has to wait for.
enum Ready {
    ToRead,
    ToWrite,
}

/// Waits for either of two operations, and gives up the other.
async fn either<R: Future, W: Future>(mut read: Pin<&mut R>, mut write: Pin<&mut W>) -> Ready {
    poll_fn(|cx| {
        if read.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ready::ToRead);
        }
        write.as_mut().poll(cx).map(|_| Ready::ToWrite)
    })
    .await
}

impl Socket {
    /// Writes with system calls of its own, which never wait, and waits for readiness. A write in the ring would be
    /// cheaper, but it cannot be relied upon to end when it is cancelled: the kernel may have handed it to a thread that
    /// waits for room until the other side closes. Waiting for readiness holds no buffer and can be given up at any time.
    async fn push(&mut self, bytes: &[u8], deadline: Duration, listens: bool) -> (usize, Heard) {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            if listens && !self.is_quiet() {
                return (sent, Heard::Something);
            }
            match send(self.raw_fd(), rest, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Ok(count) if count == rest.len() => break,
                Ok(count) => sent += count,
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => return (sent, Heard::Unwritable),
            }
            if self.room(deadline, listens).await.is_none() {
                return (sent, Heard::Late);
            }
        }
        (bytes.len(), Heard::Nothing)
    }

    /// Waits until something can be written, or read.
    async fn room(&mut self, deadline: Duration, listens: bool) -> Option<Ready> {
        let Self { kind, alarms, timer, budget, .. } = self;
        on!(kind, stream => {
            let read = pin!(async {
                if !listens {
                    std::future::pending::<()>().await;
                }
                // An error is met again by the reader.
                let _ = stream.readable(false).await;
            });
            let write = pin!(stream.writable(false));
            let ready = pin!(either(read, write));
            within(ready, timer, alarms.clock(), budget, deadline).await
        })
    }
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

impl ByteStream for Socket {
    async fn read(&mut self, buf: Vec<u8>, deadline: Duration) -> Lent<usize> {
        let room = buf.len()..buf.capacity().min(buf.len() + PIECE);
        let Self { kind, alarms, timer, budget, .. } = self;
        let outcome = on!(kind, stream => {
            let operation = pin!(stream.read(buf.slice_mut(room)));
            within(operation, timer, alarms.clock(), budget, deadline).await
        });
        match outcome {
            Some((result, slice)) => (result, slice.into_inner()),
            None => (Err(timed_out()), Vec::new()),
        }
    }

    async fn read_patiently(&mut self, buf: Vec<u8>, deadline: Duration) -> Lent<Option<usize>> {
        let room = buf.len()..buf.capacity();
        let Self { kind, alarms, timer, budget, canceller } = self;
        let canceller = canceller.get_or_insert_with(Canceller::new);
        let (result, slice) = on!(kind, stream => {
            let mut operation = pin!(stream.cancelable_read(buf.slice_mut(room), canceller.handle()));
            match within(operation.as_mut(), timer, alarms.clock(), budget, deadline).await {
                Some(finished) => finished,
                None => {
                    *canceller = std::mem::take(canceller).cancel();
                    let (result, slice) = operation.await;
                    let buf = slice.into_inner();
                    return match result {
                        Ok(count) => (Ok(Some(count)), buf),
                        Err(error) if error.raw_os_error() == Some(ECANCELED) => (Ok(None), buf),
                        Err(error) => (Err(error), buf),
                    };
                }
            }
        });
        (result.map(Some), slice.into_inner())
    }

    async fn readable(&mut self, deadline: Duration) -> io::Result<()> {
        // Many connections wait like this, and for long: they share one timer, and hold nothing else.
        self.timer = None;
        self.canceller = None;
        let outcome = on!(&self.kind, stream => {
            let operation = pin!(stream.readable(false));
            self.alarms.until(deadline, operation).await
        });
        outcome.unwrap_or_else(|| Err(timed_out()))
    }

    async fn write(&mut self, buf: Vec<u8>, range: Range<usize>, deadline: Duration) -> Lent<usize> {
        let Self { kind, alarms, timer, budget, .. } = self;
        let outcome = on!(kind, stream => {
            let operation = pin!(stream.write(buf.slice(range)));
            within(operation, timer, alarms.clock(), budget, deadline).await
        });
        match outcome {
            Some((result, slice)) => (result, slice.into_inner()),
            None => (Err(timed_out()), Vec::new()),
        }
    }

    fn offer(&mut self, bytes: &[u8]) {
        // The peer may be gone already; the error means nothing then.
        let _ = send(self.raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    }

    fn is_quiet(&self) -> bool {
        matches!(self.peek(), Err(Errno::EAGAIN))
    }

    fn has_ended(&self) -> bool {
        !matches!(self.peek(), Ok(1..) | Err(Errno::EAGAIN))
    }

    fn join_task_of(&mut self, other: &Self) {
        self.timer.clone_from(&other.timer);
    }

    fn leave_task(&mut self) {
        self.timer = None;
    }

    fn shut_down_write(&mut self) {
        // The peer may be gone already; the error means nothing then.
        let _ = shutdown(self.raw_fd(), Shutdown::Write);
    }
}

impl Duplex for Socket {
    async fn write_and_listen(&mut self, bytes: &[u8], deadline: Duration) -> (usize, Heard) {
        // In a box: seldom needed, and every request would have to carry the room for it.
        Box::pin(self.push(bytes, deadline, true)).await
    }

    async fn write_on(&mut self, bytes: &[u8], deadline: Duration) -> (usize, Heard) {
        Box::pin(self.push(bytes, deadline, false)).await
    }
}

/// `errno` of an operation that was cancelled, as monoio reports it on both drivers.
const ECANCELED: i32 = 125;
