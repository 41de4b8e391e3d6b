//! Reading and writing by deadline. The only file that awaits a socket operation of monoio.
//!
//! Deadlines are points on the process's monotonic clock ([`crate::now::Now::monotonic`]). An operation that misses
//! its deadline fails with [`io::ErrorKind::TimedOut`], and the stream is then good for nothing but closing: the
//! operation is abandoned, and bytes that it received may be gone with it. The exceptions are
//! [`ByteStream::read_patiently`] and [`ByteStream::write_and_listen`], which cancel and wait for the truth.

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
use monoio::io::{
    AsyncReadRent, AsyncWriteRent, CancelableAsyncReadRent, CancelableAsyncWriteRent, Canceller, Split, Splitable,
};
use monoio::net::{TcpStream, UnixStream};
use monoio::time::{Instant, Sleep};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use super::alarms::Alarms;
use super::breather::{Breather, PAUSE};
use super::clock::Clock;

/// The result of an operation, and the buffer that it borrowed. After a missed deadline the buffer is empty: the
/// operation still owns the real one.
pub type Lent<T> = (io::Result<T>, Vec<u8>);

/// Bytes to be written, and a buffer to read into, while both happen at the same time.
pub struct Duplex {
    /// What is written.
    pub out: Vec<u8>,
    /// Which part of it. What has been written is taken off at the front.
    pub range: Range<usize>,
    /// What is read is appended to this.
    pub into: Vec<u8>,
}

/// How writing and listening ended.
#[derive(Debug)]
pub enum Heard {
    /// Everything has been written, and nothing has come.
    Nothing,
    /// So many bytes have come; 0 is the end of the stream.
    Bytes(usize),
    /// Nothing more can be written. Something may have come that can still be read.
    Unwritable,
    /// Reading failed, or the deadline has passed ([`io::ErrorKind::TimedOut`]).
    Failed(io::Error),
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

    /// Writes and reads at the same time: until something has come, or everything has been written. Both buffers come
    /// back in every case, and how much of `out` was written is always known. For a connection to an application, which
    /// may answer before it has read the whole request.
    ///
    /// A stream to a client needs no such thing: by default everything is written, and nothing is heard.
    async fn write_and_listen(&mut self, duplex: Duplex, deadline: Duration) -> (Heard, Duplex) {
        let Duplex { out, mut range, into } = duplex;
        let (result, out) = self.write_all(out, range.clone(), deadline).await;
        range.start = range.end;
        let heard = match result {
            Ok(()) => Heard::Nothing,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Heard::Failed(error),
            Err(_) => Heard::Unwritable,
        };
        (heard, Duplex { out, range, into })
    }

    /// Writes some of `range`. Waiting in vain until the deadline is no failure: `Ok(None)`, the buffer comes back, and
    /// the stream can go on.
    ///
    /// A stream to a client needs no such thing: by default it is [`Self::write`].
    async fn write_patiently(&mut self, buf: Vec<u8>, range: Range<usize>, deadline: Duration) -> Lent<Option<usize>> {
        let (result, buf) = self.write(buf, range, deadline).await;
        (result.map(Some), buf)
    }

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
    kind: Kind,
    alarms: Rc<Alarms>,
    /// While it is busy.
    timer: Option<Timer>,
    breather: Breather,
    /// While it is busy.
    canceller: Option<Canceller>,
}

/// The timer of a task, shared by the streams that it uses, one after the other.
type Timer = Rc<RefCell<Pin<Box<Sleep>>>>;

enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Both directions are in use by [`ByteStream::write_and_listen`]. Where that was given up, the connection is gone.
    Lent,
}

/// The same call on either kind of socket.
macro_rules! on {
    ($self:expr, $stream:ident => $call:expr, lent => $lent:expr) => {
        match $self {
            Kind::Tcp($stream) => $call,
            Kind::Unix($stream) => $call,
            Kind::Lent => $lent,
        }
    };
}

impl Socket {
    /// Wraps a TCP connection; small writes leave at once.
    #[must_use]
    pub fn tcp(stream: TcpStream, alarms: &Rc<Alarms>) -> Self {
        // Failing to set the option costs latency, not correctness.
        let _ = stream.set_nodelay(true);
        Self::new(Kind::Tcp(stream), alarms)
    }

    /// Wraps a Unix-domain connection.
    #[must_use]
    pub fn unix(stream: UnixStream, alarms: &Rc<Alarms>) -> Self {
        Self::new(Kind::Unix(stream), alarms)
    }

    fn new(kind: Kind, alarms: &Rc<Alarms>) -> Self {
        Self { kind, alarms: Rc::clone(alarms), timer: None, breather: Breather::default(), canceller: None }
    }

    fn raw_fd(&self) -> RawFd {
        // No descriptor has the number -1: a look at it fails.
        on!(&self.kind, stream => stream.as_raw_fd(), lent => -1)
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
    breather: &mut Breather,
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
    if breather.ends_turn(waited) {
        // With the timer that is there: another would make every future that reads or writes larger by its size.
        let end = Instant::from_std(clock.instant(clock.monotonic() + PAUSE));
        timer.borrow_mut().as_mut().reset(end);
        poll_fn(|cx| timer.borrow_mut().as_mut().poll(cx)).await;
    }
    outcome
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// What of a socket an operation needs besides the connection.
struct Pacing<'s> {
    timer: &'s mut Option<Timer>,
    clock: &'s Clock,
    breather: &'s mut Breather,
    deadline: Duration,
}

/// Which of two operations is done.
enum Done<R, W> {
    Read(R),
    Write(W),
}

/// Waits for either of two operations; the other goes on.
async fn either<R: Future, W: Future>(mut read: Pin<&mut R>, mut write: Pin<&mut W>) -> Done<R::Output, W::Output> {
    poll_fn(|cx| match write.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Done::Write(output)),
        Poll::Pending => read.as_mut().poll(cx).map(Done::Read),
    })
    .await
}

/// One read beside as many writes as it takes. What is under way at the end is cancelled and awaited: until then its
/// buffer is the kernel's.
async fn overlap<T>(stream: T, duplex: Duplex, pacing: Pacing<'_>) -> (Option<T>, Heard, Duplex)
where
    T: Split + CancelableAsyncReadRent + CancelableAsyncWriteRent,
{
    let (mut reader, mut writer) = stream.into_split();
    let (stop_reading, stop_writing) = (Canceller::new(), Canceller::new());
    let Duplex { mut out, mut range, into } = duplex;
    let Pacing { timer, clock, breather, deadline } = pacing;
    let room = into.len()..into.capacity().min(into.len() + PIECE);
    let (heard, into) = {
        let mut reading = pin!(reader.cancelable_read(into.slice_mut(room), stop_reading.handle()));
        let mut finished = None;
        let heard = loop {
            if range.is_empty() {
                break Heard::Nothing;
            }
            let mut writing = pin!(writer.cancelable_write(out.slice(range.clone()), stop_writing.handle()));
            let first = {
                let operation = pin!(either(reading.as_mut(), writing.as_mut()));
                within(operation, timer, clock, breather, deadline).await
            };
            if let Some(Done::Write((written, slice))) = first {
                out = slice.into_inner();
                match written {
                    Ok(count) if count > 0 => range.start += count,
                    _ => break Heard::Unwritable,
                }
                continue;
            }
            stop_writing.cancel();
            let (written, slice) = writing.await;
            out = slice.into_inner();
            // An operation that was cancelled has written nothing; an error comes again with the next write.
            range.start += written.unwrap_or_default();
            let Some(Done::Read(read)) = first else { break Heard::Failed(timed_out()) };
            finished = Some(read);
            break Heard::Nothing;
        };
        let (read, slice) = match finished {
            Some(finished) => finished,
            None => {
                stop_reading.cancel();
                reading.await
            }
        };
        let heard = match read {
            Ok(count) => Heard::Bytes(count),
            Err(error) if error.raw_os_error() == Some(ECANCELED) => heard,
            Err(error) => Heard::Failed(error),
        };
        (heard, slice.into_inner())
    };
    (reader.reunite(writer).ok(), heard, Duplex { out, range, into })
}

impl ByteStream for Socket {
    async fn read(&mut self, buf: Vec<u8>, deadline: Duration) -> Lent<usize> {
        let room = buf.len()..buf.capacity().min(buf.len() + PIECE);
        let Self { kind, alarms, timer, breather, .. } = self;
        let outcome = on!(kind, stream => {
            let operation = pin!(stream.read(buf.slice_mut(room)));
            within(operation, timer, alarms.clock(), breather, deadline).await
        }, lent => return (Err(gone()), buf));
        match outcome {
            Some((result, slice)) => (result, slice.into_inner()),
            None => (Err(timed_out()), Vec::new()),
        }
    }

    async fn read_patiently(&mut self, buf: Vec<u8>, deadline: Duration) -> Lent<Option<usize>> {
        let room = buf.len()..buf.capacity();
        let Self { kind, alarms, timer, breather, canceller } = self;
        let canceller = canceller.get_or_insert_with(Canceller::new);
        let (result, slice) = on!(kind, stream => {
            let mut operation = pin!(stream.cancelable_read(buf.slice_mut(room), canceller.handle()));
            match within(operation.as_mut(), timer, alarms.clock(), breather, deadline).await {
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
        }, lent => return (Err(gone()), buf));
        (result.map(Some), slice.into_inner())
    }

    async fn readable(&mut self, deadline: Duration) -> io::Result<()> {
        // Whoever waits like this may wait long, and many do: with what others share, and nothing else.
        self.timer = None;
        self.canceller = None;
        let outcome = on!(&self.kind, stream => {
            let operation = pin!(stream.readable(false));
            self.alarms.until(deadline, operation).await
        }, lent => return Err(gone()));
        outcome.unwrap_or_else(|| Err(timed_out()))
    }

    async fn write(&mut self, buf: Vec<u8>, range: Range<usize>, deadline: Duration) -> Lent<usize> {
        let Self { kind, alarms, timer, breather, .. } = self;
        let outcome = on!(kind, stream => {
            let operation = pin!(stream.write(buf.slice(range)));
            within(operation, timer, alarms.clock(), breather, deadline).await
        }, lent => return (Err(gone()), buf));
        match outcome {
            Some((result, slice)) => (result, slice.into_inner()),
            None => (Err(timed_out()), Vec::new()),
        }
    }

    async fn write_and_listen(&mut self, duplex: Duplex, deadline: Duration) -> (Heard, Duplex) {
        let Self { kind, alarms, timer, breather, .. } = self;
        let pacing = Pacing { timer, clock: alarms.clock(), breather, deadline };
        // In a box: seldom needed, and large, and every request would have to carry the room for it.
        match std::mem::replace(kind, Kind::Lent) {
            Kind::Tcp(stream) => {
                let (stream, heard, duplex) = Box::pin(overlap(stream, duplex, pacing)).await;
                *kind = stream.map_or(Kind::Lent, Kind::Tcp);
                (heard, duplex)
            }
            Kind::Unix(stream) => {
                let (stream, heard, duplex) = Box::pin(overlap(stream, duplex, pacing)).await;
                *kind = stream.map_or(Kind::Lent, Kind::Unix);
                (heard, duplex)
            }
            Kind::Lent => (Heard::Failed(gone()), duplex),
        }
    }

    async fn write_patiently(&mut self, buf: Vec<u8>, range: Range<usize>, deadline: Duration) -> Lent<Option<usize>> {
        let Self { kind, alarms, timer, breather, .. } = self;
        let stop = Canceller::new();
        let (result, slice) = on!(kind, stream => {
            let mut operation = pin!(stream.cancelable_write(buf.slice(range), stop.handle()));
            match within(operation.as_mut(), timer, alarms.clock(), breather, deadline).await {
                Some(finished) => finished,
                None => {
                    stop.cancel();
                    operation.await
                }
            }
        }, lent => return (Err(gone()), buf));
        let result = match result {
            Err(error) if error.raw_os_error() == Some(ECANCELED) => Ok(None),
            result => result.map(Some),
        };
        (result, slice.into_inner())
    }

    fn offer(&mut self, bytes: &[u8]) {
        // The peer may be gone already; there is nobody to tell.
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
        // The peer may be gone already; there is nobody to tell.
        let _ = shutdown(self.raw_fd(), Shutdown::Write);
    }
}

/// `errno` of an operation that was cancelled, as monoio reports it on both drivers.
const ECANCELED: i32 = 125;
