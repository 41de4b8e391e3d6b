//! The protocol of one connection: records in, plain text out, and back.
//!
//! Records are read into a pooled buffer and decrypted there; plain text is handed on into the request's own buffer as
//! far as that has room. What is left of a record waits here, which happens only between the first bytes of a request
//! and the next read. What we send is encrypted into a pooled buffer, and leaves with one write.
//!
//! A session that has failed, or that was given up in the middle of an operation, stays failed: rustls keeps positions in the incoming buffer, so nothing is ever taken out
//! of it behind its back.

use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use rustls::Error;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, WriteTraffic};

use crate::edge::runtime::stream::{ByteStream, Lent};

use super::records::{CAPACITY, PIECE, RecordBuffers};
use super::side::TlsSide;

/// The longest flight of a client in its handshake: rustls takes messages of up to 64 KiB, which certificates may need.
const FLIGHT: usize = 80 << 10;

/// Types of records that a client sends in its handshake (RFC 8446, section 5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// What the protocol has to say itself (tickets, mostly) travels with our next bytes, unless it is longer than this.
const RIDER: usize = CAPACITY - PIECE - 256;

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client speaks something else, which looks like plain HTTP.
    Plaintext,
    /// Not in time.
    Late,
    /// The client has gone. Whether it had said anything.
    Gone(bool),
    /// It is not to be.
    Protocol(Error),
}

/// One connection: one that a client has made to us, or one that we have made (`C`).
pub struct TlsSession<C = UnbufferedServerConnection> {
    connection: C,
    pub(super) buffers: Rc<RecordBuffers>,
    /// Records that have arrived; from `start` on rustls has not let go of them.
    incoming: Vec<u8>,
    start: usize,
    /// Plain text that has not been taken; from `taken` on.
    plain: Vec<u8>,
    taken: usize,
    /// Records that are to be sent.
    pub(super) outgoing: Vec<u8>,
    /// How much of them has left already, while a piece is on its way.
    pub(super) flown: usize,
    /// The length of the plain text that is on its way and has not left whole.
    pub(super) piece: usize,
    pub(super) stage: TlsStage,
    /// Something has been received.
    heard: bool,
    /// We have said that we will send nothing more.
    goodbye: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsStage {
    Handshake,
    Open,
    /// The client has said that it will send nothing more.
    PeerClosed,
    Failed,
}

/// What the protocol waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// More records.
    Blocked,
    /// Nothing: plain text can be sent.
    Ready,
    /// Nothing will ever come.
    Ended,
}

/// What is asked of the protocol.
pub(super) enum Task<'t> {
    /// Plain text, into this buffer as far as it has room.
    Read(&'t mut Vec<u8>),
    /// Records with this plain text.
    Write(&'t [u8]),
    /// The end of what we say.
    Close,
    /// Whatever is due.
    Advance,
}

impl<C: TlsSide> TlsSession<C> {
    /// A session of which nothing has been read, but perhaps these bytes.
    pub(super) fn new(connection: C, buffers: Rc<RecordBuffers>, received: &[u8]) -> Self {
        let mut incoming = Vec::new();
        if !received.is_empty() {
            incoming = buffers.lease();
            incoming.extend_from_slice(received);
        }
        let (plain, outgoing) = (Vec::new(), Vec::new());
        let (start, taken, stage) = (0, 0, TlsStage::Handshake);
        let (heard, goodbye) = (false, false);
        let (flown, piece) = (0, 0);
        Self { connection, buffers, incoming, start, plain, taken, outgoing, flown, piece, stage, heard, goodbye }
    }

    /// What rustls knows of the connection.
    pub(in crate::edge::door) const fn connection(&self) -> &C {
        &self.connection
    }

    /// Whether plain text is here that can be read without the socket.
    pub(super) fn has_plain(&self) -> bool {
        self.plain.len() > self.taken
    }

    /// Whether a part of a record is here, of which the rest must come.
    pub(super) fn has_partial(&self) -> bool {
        self.incoming.len() > self.start
    }

    /// Whether a whole record of a handshake is here, with which it can be gone on: that costs something.
    pub(super) fn has_message(&self) -> bool {
        match self.incoming.get(self.start..) {
            Some([HANDSHAKE | APPLICATION_DATA | CHANGE_CIPHER_SPEC, _, _, high, low, body @ ..]) => {
                body.len() >= usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => false,
        }
    }

    /// Goes on with the handshake as far as what has been received lets it. Whether it is done; what we say at its end
    /// travels with the first answer.
    pub(super) fn advance<S: ByteStream>(&mut self, socket: &mut S) -> Result<bool, Failure> {
        // The first byte of a handshake is 22; those of HTTP are letters.
        if !self.heard && self.incoming.first().is_some_and(u8::is_ascii_alphabetic) {
            return Err(Failure::Plaintext);
        }
        self.heard |= self.has_partial();
        match self.pump(Task::Advance) {
            Ok(Pause::Blocked) => Ok(false),
            Ok(Pause::Ready) => {
                self.stage = TlsStage::Open;
                Ok(true)
            }
            // The client has said all it has to say, and waits for the answer.
            Ok(Pause::Ended) if !self.connection.is_handshaking() => Ok(true),
            Ok(Pause::Ended) => Err(Failure::Gone(true)),
            Err(error) => {
                socket.offer(&self.outgoing);
                Err(Failure::Protocol(error))
            }
        }
    }

    /// Sends what is due of the handshake, and receives more.
    pub(super) async fn listen<S: ByteStream>(&mut self, socket: &mut S, deadline: Duration) -> Result<(), Failure> {
        match self.receive(socket, deadline).await {
            Ok(Some(count)) if count > 0 => Ok(()),
            Ok(None) => Err(Failure::Late),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Failure::Late),
            _ => Err(Failure::Gone(self.heard)),
        }
    }

    /// Makes the handshake.
    pub(super) async fn handshake<S: ByteStream>(&mut self, socket: &mut S, deadline: Duration) -> Result<(), Failure> {
        while !self.advance(socket)? {
            self.listen(socket, deadline).await?;
        }
        Ok(())
    }

    /// [`ByteStream::read`]
    pub(super) async fn read<S: ByteStream>(
        &mut self,
        socket: &mut S,
        buf: Vec<u8>,
        deadline: Duration,
    ) -> Lent<usize> {
        match self.read_patiently(socket, buf, deadline).await {
            (Ok(Some(count)), buf) => (Ok(count), buf),
            // As with a plain socket, a read that was too late ends the use of its buffer.
            (Ok(None), _) => (Err(io::ErrorKind::TimedOut.into()), Vec::new()),
            (Err(error), buf) => (Err(error), buf),
        }
    }

    /// [`ByteStream::read_patiently`]
    pub(super) async fn read_patiently<S: ByteStream>(
        &mut self,
        socket: &mut S,
        mut buf: Vec<u8>,
        deadline: Duration,
    ) -> Lent<Option<usize>> {
        let before = buf.len();
        loop {
            self.take_plain(&mut buf);
            let pumped = if self.has_plain() { Ok(Pause::Ready) } else { self.pump(Task::Read(&mut buf)) };
            if buf.len() > before {
                return (Ok(Some(buf.len() - before)), buf);
            }
            match pumped {
                Ok(Pause::Ended) => return (Ok(Some(0)), buf),
                Ok(Pause::Blocked | Pause::Ready) => {}
                Err(error) => {
                    socket.offer(&self.outgoing);
                    return (Err(broken(error)), buf);
                }
            }
            match self.receive(socket, deadline).await {
                Ok(Some(count)) if count > 0 => {}
                // The end of the connection is not the end of what was to be said on it: an attacker may have cut it.
                Ok(Some(_)) => return (Err(io::ErrorKind::UnexpectedEof.into()), buf),
                Ok(None) => return (Ok(None), buf),
                Err(error) => return (Err(error), buf),
            }
        }
    }

    /// Whether there is something to read, whatever becomes of the socket.
    pub(super) fn is_readable(&self) -> bool {
        self.has_plain() || self.stage == TlsStage::PeerClosed
    }

    /// Whether the peer has said that it will send nothing more, and everything before that has been read.
    pub(super) fn has_closed(&self) -> bool {
        self.stage == TlsStage::PeerClosed && !self.has_plain()
    }

    /// Whether something waits to be sent.
    pub(super) const fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// [`ByteStream::write`]
    pub(super) async fn write<S: ByteStream>(
        &mut self,
        socket: &mut S,
        buf: Vec<u8>,
        range: Range<usize>,
        deadline: Duration,
    ) -> Lent<usize> {
        if self.outgoing.len() > RIDER
            && let Err(error) = self.flush(socket, deadline).await
        {
            return (Err(error), buf);
        }
        let end = range.end.min(range.start + PIECE);
        let bytes = buf.get(range.start..end).unwrap_or_default();
        let count = bytes.len();
        match self.pump(Task::Write(bytes)) {
            Ok(Pause::Ready) => {}
            Ok(_) => return (Err(io::ErrorKind::BrokenPipe.into()), buf),
            Err(error) => return (Err(broken(error)), buf),
        }
        (self.flush(socket, deadline).await.map(|()| count), buf)
    }

    /// Says that nothing more will be sent (RFC 8446, section 6.1), as far as the kernel takes it at once.
    pub(super) fn say_goodbye<S: ByteStream>(&mut self, socket: &mut S) {
        // Inside of a record there is no word for it.
        let whole = self.piece == 0 && !self.goodbye;
        let open = matches!(self.stage, TlsStage::Open | TlsStage::PeerClosed) && whole;
        if open && self.pump(Task::Close).is_ok() {
            self.goodbye = true;
            socket.offer(&self.outgoing);
            self.buffers.give_back(std::mem::take(&mut self.outgoing));
        }
    }

    fn take_plain(&mut self, buf: &mut Vec<u8>) {
        let waiting = self.plain.get(self.taken..).unwrap_or_default();
        let count = waiting.len().min(buf.capacity() - buf.len());
        buf.extend_from_slice(waiting.get(..count).unwrap_or_default());
        self.taken += count;
        if self.taken == self.plain.len() {
            (self.plain, self.taken) = (Vec::new(), 0);
        }
    }

    /// Sends what is due, and reads more records. While a piece is on its way that the peer does not take, only its answer is
    /// read.
    async fn receive<S: ByteStream>(&mut self, socket: &mut S, deadline: Duration) -> io::Result<Option<usize>> {
        if self.piece == 0 {
            self.flush(socket, deadline).await?;
        }
        self.take_in(socket, deadline).await
    }

    /// Reads more records.
    pub(super) async fn take_in<S: ByteStream>(
        &mut self,
        socket: &mut S,
        deadline: Duration,
    ) -> io::Result<Option<usize>> {
        if self.start > 0 {
            self.incoming.drain(..self.start);
            self.start = 0;
        }
        if self.incoming.capacity() == 0 {
            self.incoming = self.buffers.lease();
        } else if self.incoming.len() == self.incoming.capacity() {
            // Only the messages of a handshake may be longer than a record.
            if self.stage != TlsStage::Handshake || self.incoming.len() >= FLIGHT {
                self.stage = TlsStage::Failed;
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.incoming.reserve_exact(FLIGHT - self.incoming.len());
        }
        // If this is given up in the middle, the state of the session is unknown.
        let stage = std::mem::replace(&mut self.stage, TlsStage::Failed);
        let (result, incoming) = socket.read_patiently(std::mem::take(&mut self.incoming), deadline).await;
        self.incoming = incoming;
        if result.is_ok() {
            self.stage = stage;
        }
        self.settle();
        result
    }

    pub(super) async fn flush<S: ByteStream>(&mut self, socket: &mut S, deadline: Duration) -> io::Result<()> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        let length = self.outgoing.len();
        let outgoing = std::mem::take(&mut self.outgoing);
        let stage = std::mem::replace(&mut self.stage, TlsStage::Failed);
        let (result, outgoing) = socket.write_all(outgoing, 0..length, deadline).await;
        self.buffers.give_back(outgoing);
        if result.is_ok() {
            self.stage = stage;
        }
        result
    }

    /// Lets the incoming buffer go when nothing is left in it.
    fn settle(&mut self) {
        if self.start >= self.incoming.len() {
            self.buffers.give_back(std::mem::take(&mut self.incoming));
            self.start = 0;
        }
    }

    /// Lets rustls work on what has arrived until it waits for something, or the task is done.
    pub(super) fn pump(&mut self, mut task: Task<'_>) -> Result<Pause, Error> {
        if self.stage == TlsStage::Failed {
            return Err(Error::HandshakeNotComplete);
        }
        let pause = self.run(&mut task);
        if pause.is_err() {
            self.collect_alerts();
            self.stage = TlsStage::Failed;
        }
        self.settle();
        pause
    }

    fn run(&mut self, task: &mut Task<'_>) -> Result<Pause, Error> {
        loop {
            let records = self.incoming.get_mut(self.start..).unwrap_or_default();
            let status = self.connection.process(records);
            let mut discard = status.discard;
            let mut pause = None;
            match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        let rest = deliver(record.payload, task);
                        self.plain.extend_from_slice(rest);
                    }
                    if matches!(task, Task::Read(_)) && self.plain.len() > self.taken {
                        pause = Some(Pause::Ready);
                    }
                }
                ConnectionState::EncodeTlsData(mut message) => encode(&mut message, &self.buffers, &mut self.outgoing)?,
                ConnectionState::TransmitTlsData(due) => due.done(),
                ConnectionState::PeerClosed => {
                    self.stage = TlsStage::PeerClosed;
                    pause = matches!(task, Task::Read(_) | Task::Advance).then_some(Pause::Ended);
                }
                ConnectionState::WriteTraffic(mut traffic) => {
                    pause = Some(match task {
                        Task::Read(_) if self.stage == TlsStage::PeerClosed => Pause::Ended,
                        Task::Read(_) | Task::Advance => Pause::Ready,
                        Task::Write(bytes) => {
                            encrypt(&mut traffic, bytes, &self.buffers, &mut self.outgoing)?;
                            Pause::Ready
                        }
                        Task::Close => {
                            close(&mut traffic, &self.buffers, &mut self.outgoing)?;
                            Pause::Ready
                        }
                    });
                }
                ConnectionState::Closed => pause = Some(Pause::Ended),
                // Early data is not offered, so none can come.
                _ => pause = Some(Pause::Blocked),
            }
            self.start += discard;
            if let Some(pause) = pause {
                return Ok(pause);
            }
        }
    }

    /// After an error: the alert that tells the client about it.
    fn collect_alerts(&mut self) {
        // Asked once more than it has alerts, rustls would look at the same records again.
        while self.connection.wants_write() {
            let records = self.incoming.get_mut(self.start..).unwrap_or_default();
            let status = self.connection.process(records);
            let (discard, state) = (status.discard, status.state);
            match state {
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    if encode(&mut message, &self.buffers, &mut self.outgoing).is_err() {
                        return;
                    }
                }
                _ => return,
            }
            self.start += discard;
        }
    }
}

/// Hands plain text on as far as there is room; what is left comes back.
fn deliver<'p>(payload: &'p [u8], task: &mut Task<'_>) -> &'p [u8] {
    let Task::Read(buf) = task else { return payload };
    let count = payload.len().min(buf.capacity() - buf.len());
    let (now, later) = payload.split_at_checked(count).unwrap_or((payload, &[]));
    buf.extend_from_slice(now);
    later
}

/// Writes behind what is there already, with room for `room` more bytes. `write` gives how many it has written.
fn append<E>(
    outgoing: &mut Vec<u8>,
    buffers: &RecordBuffers,
    room: usize,
    write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
) -> Result<(), E> {
    if outgoing.capacity() == 0 {
        *outgoing = buffers.lease();
    }
    let start = outgoing.len();
    outgoing.resize(start + room, 0);
    let written = write(outgoing.get_mut(start..).unwrap_or_default());
    outgoing.truncate(start + written.as_ref().map_or(0, |written| *written));
    written.map(drop)
}

fn encode<D>(message: &mut EncodeTlsData<'_, D>, buffers: &RecordBuffers, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    // The first try only tells how much room it takes.
    let room = match message.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(EncodeError::AlreadyEncoded) => return Ok(()),
    };
    append(outgoing, buffers, room, |out| message.encode(out)).map_err(|_| Error::EncryptError)
}

fn encrypt<D>(
    traffic: &mut WriteTraffic<'_, D>,
    bytes: &[u8],
    buffers: &RecordBuffers,
    outgoing: &mut Vec<u8>,
) -> Result<(), Error> {
    // A header, a nonce and a tag for each record, of which there are at most two; and a key update.
    let room = bytes.len() + 256;
    append(outgoing, buffers, room, |out| traffic.encrypt(bytes, out)).map_err(exhausted)
}

fn close<D>(traffic: &mut WriteTraffic<'_, D>, buffers: &RecordBuffers, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    append(outgoing, buffers, 256, |out| traffic.queue_close_notify(out)).map_err(exhausted)
}

fn exhausted(_: EncryptError) -> Error {
    Error::EncryptError
}

fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
