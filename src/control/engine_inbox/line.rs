//! A blocking connection to the engine.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

use crate::edge::clock::Clock;
use crate::inbox::engine::answers::ANSWER_BOUNDS;
use crate::ledger::shared::EngineTrouble;
use crate::wire::resp;

/// A buffer that has grown larger than this is not kept.
const KEPT_BUFFER: usize = 1 << 20;

/// What is read at a time.
const READ: usize = 64 << 10;

/// What bytes come and go over.
pub(super) trait EngineStream: Read + Write + Send {}

impl<S: Read + Write + Send> EngineStream for S {}

/// A connection over which commands go and replies come. Once it has failed it is not used again.
pub(super) struct EngineLine {
    stream: Box<dyn EngineStream>,
    clock: Clock,
    /// For all replies to what was sent at once.
    patience: Duration,
    received: Vec<u8>,
}

impl fmt::Debug for EngineLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineLine").finish_non_exhaustive()
    }
}

impl EngineLine {
    /// Over a stream whose reads and writes end after `patience` at the latest.
    pub(super) fn new(stream: Box<dyn EngineStream>, clock: Clock, patience: Duration) -> Self {
        Self { stream, clock, patience, received: Vec::new() }
    }

    /// Sends commands, and waits for so many replies.
    pub(super) fn ask(&mut self, commands: &[u8], count: usize) -> Result<Vec<Vec<u8>>, EngineTrouble> {
        let until = self.clock.monotonic() + self.patience;
        self.stream.write_all(commands).and_then(|()| self.stream.flush()).map_err(|error| trouble_of(&error))?;
        let mut replies = Vec::with_capacity(count);
        while replies.len() < count {
            replies.push(self.reply(until)?);
        }
        if !self.received.is_empty() {
            return Err(EngineTrouble::Malformed);
        }
        if self.received.capacity() > KEPT_BUFFER {
            self.received = Vec::new();
        }
        Ok(replies)
    }

    fn reply(&mut self, until: Duration) -> Result<Vec<u8>, EngineTrouble> {
        loop {
            let length = resp::reply_length_within(&self.received, ANSWER_BOUNDS);
            if let Some(length) = length.map_err(|_| EngineTrouble::Malformed)? {
                let rest = self.received.split_off(length);
                return Ok(std::mem::replace(&mut self.received, rest));
            }
            if self.clock.monotonic() >= until {
                return Err(EngineTrouble::Silent);
            }
            let begin = self.received.len();
            self.received.resize(begin + READ.max(begin), 0);
            let read = self.stream.read(self.received.get_mut(begin..).unwrap_or_default());
            self.received.truncate(begin + read.as_ref().copied().unwrap_or(0));
            match read {
                Ok(0) => return Err(EngineTrouble::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(trouble_of(&error)),
            }
        }
    }
}

/// What an error of a connection means.
pub(super) fn trouble_of(error: &io::Error) -> EngineTrouble {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => EngineTrouble::Silent,
        io::ErrorKind::InvalidData => EngineTrouble::TlsFailed,
        _ => EngineTrouble::Closed,
    }
}
