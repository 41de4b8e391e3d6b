//! One connection to the admin port: one request, one answer, and a bounded time for both.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::wire::head::HeadScan;

use super::answer::Answer;
use super::request::{self, Access, AdminCaller, Request};

/// For the whole request to arrive.
const ASK: Duration = Duration::from_secs(3);
/// For the whole answer to be taken.
const TAKE: Duration = Duration::from_secs(10);
/// For the other side to close, after the answer has been sent.
const LEAVE: Duration = Duration::from_secs(1);
/// For something that was asked for to be done, before the client is told that it goes on.
const ERRAND: Duration = Duration::from_secs(60);

/// Read of what comes after the request before the connection is closed.
const DISCARDED: usize = 64 << 10;

/// The socket, which never blocks.
pub enum VisitorStream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

macro_rules! on {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            VisitorStream::Tcp($stream) => $call,
            VisitorStream::Unix($stream) => $call,
        }
    };
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisitStage {
    /// The request is arriving.
    Asking,
    /// What was asked for is being done.
    Waiting,
    /// The answer is leaving.
    Answering,
    /// The answer has left; so that it arrives, too, the other side closes first.
    Leaving,
}

/// What came of looking at a connection.
#[derive(Debug)]
pub enum VisitStep {
    /// Nothing to do until the socket is ready again.
    Stay,
    /// A whole request is here.
    Asked(Request),
    /// A request is here, and this is its answer.
    Refused(Answer),
    /// The connection is to be dropped.
    Gone,
}

/// A connection.
pub struct Visitor {
    /// Unique among the connections of a process.
    pub number: u64,
    /// How far it has come.
    pub stage: VisitStage,
    /// When it is given up.
    pub deadline: Duration,
    /// Who asks.
    pub caller: AdminCaller,
    stream: VisitorStream,
    received: Vec<u8>,
    scan: HeadScan,
    answer: Vec<u8>,
    sent: usize,
    discarded: usize,
}

impl Visitor {
    /// A connection that was accepted now.
    #[must_use]
    pub fn new(number: u64, stream: VisitorStream, caller: AdminCaller, now: Duration) -> Self {
        Self {
            number,
            stage: VisitStage::Asking,
            deadline: now + ASK,
            caller,
            stream,
            received: Vec::new(),
            scan: HeadScan::new(),
            answer: Vec::new(),
            sent: 0,
            discarded: 0,
        }
    }

    /// The socket, to wait for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        on!(&self.stream, stream => stream.as_fd())
    }

    /// Goes as far as it can without waiting.
    pub fn step(&mut self, access: &Access, now: Duration) -> VisitStep {
        let moved = match self.stage {
            VisitStage::Asking => return self.ask(access).unwrap_or_else(step_of),
            VisitStage::Waiting => return VisitStep::Gone,
            VisitStage::Answering => self.send(now),
            VisitStage::Leaving => self.discard(),
        };
        moved.map_or_else(step_of, |()| VisitStep::Gone)
    }

    fn ask(&mut self, access: &Access) -> io::Result<VisitStep> {
        loop {
            let mut piece = [0; 2048];
            let count = on!(&mut self.stream, stream => stream.read(&mut piece))?;
            if count == 0 {
                return Ok(VisitStep::Gone);
            }
            self.received.extend_from_slice(piece.get(..count).unwrap_or_default());
            match request::read(&self.received, &mut self.scan, self.caller.origin(), access) {
                Ok(None) => {}
                Ok(Some(request)) => return Ok(VisitStep::Asked(request)),
                Err(answer) => return Ok(VisitStep::Refused(answer)),
            }
        }
    }

    /// Has to wait until something has been done.
    pub fn wait(&mut self, now: Duration) {
        self.stage = VisitStage::Waiting;
        self.deadline = now + ERRAND;
    }

    /// Begins to send an answer, and goes as far as it can.
    pub fn answer(&mut self, bytes: Vec<u8>, now: Duration) -> VisitStep {
        self.stage = VisitStage::Answering;
        self.deadline = now + TAKE;
        self.answer = bytes;
        self.received = Vec::new();
        self.send(now).map_or_else(step_of, |()| VisitStep::Gone)
    }

    fn send(&mut self, now: Duration) -> io::Result<()> {
        while self.sent < self.answer.len() {
            let rest = self.answer.get(self.sent..).unwrap_or_default();
            match on!(&mut self.stream, stream => stream.write(rest))? {
                0 => return Ok(()),
                count => self.sent += count,
            }
        }
        self.answer = Vec::new();
        self.stage = VisitStage::Leaving;
        self.deadline = now + LEAVE;
        on!(&self.stream, stream => stream.shutdown(Shutdown::Write))?;
        self.discard()
    }

    /// A socket that is closed with unread input resets the connection, and the answer may be lost.
    fn discard(&mut self) -> io::Result<()> {
        let mut piece = [0; 4096];
        while self.discarded < DISCARDED {
            match on!(&mut self.stream, stream => stream.read(&mut piece))? {
                0 => return Ok(()),
                count => self.discarded += count,
            }
        }
        Ok(())
    }
}

fn step_of(error: io::Error) -> VisitStep {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => VisitStep::Stay,
        _ => VisitStep::Gone,
    }
}
