//! Sending over TLS to a peer that may speak meanwhile: an application that answers before it has read everything.
//!
//! A record that the socket has taken in part must be ended before another begins. So a piece of plain text counts as sent
//! when its records have left whole; until then the caller brings the same piece again. A caller that gives up, and only
//! reads from then on, leaves the rest of the record where it is.

use std::time::Duration;

use crate::edge::runtime::stream::{Duplex, Heard};

use super::records::PIECE;
use super::session::{Pause, Task, TlsSession, TlsStage};
use super::side::TlsSide;

/// Waiting for nothing: a read with this deadline takes what is there.
const AT_ONCE: Duration = Duration::ZERO;

impl<C: TlsSide> TlsSession<C> {
    /// [`Duplex::write_and_listen`], and without `listens` [`Duplex::write_on`]. What is counted as written is plain text
    /// whose records have left whole.
    pub(super) async fn push<S: Duplex>(
        &mut self,
        socket: &mut S,
        bytes: &[u8],
        deadline: Duration,
        listens: bool,
    ) -> (usize, Heard) {
        let mut sent = 0;
        while sent < bytes.len() {
            if listens && self.overhears(socket).await {
                return (sent, Heard::Something);
            }
            if self.piece == 0 {
                let end = bytes.len().min(sent + PIECE);
                let piece = bytes.get(sent..end).unwrap_or_default();
                let Ok(Pause::Ready) = self.pump(Task::Write(piece)) else { return (sent, Heard::Unwritable) };
                self.piece = piece.len();
            }
            match self.push_records(socket, deadline, listens).await {
                Heard::Nothing => sent += std::mem::take(&mut self.piece),
                // It may be what the protocol has to say itself.
                Heard::Something => {}
                heard => return (sent, heard),
            }
        }
        (sent, Heard::Nothing)
    }

    /// Sends records until all have left, or the peer has said something.
    async fn push_records<S: Duplex>(&mut self, socket: &mut S, deadline: Duration, listens: bool) -> Heard {
        // If this is given up in the middle, how much has left is unknown.
        let stage = std::mem::replace(&mut self.stage, TlsStage::Failed);
        let rest = self.outgoing.get(self.flown..).unwrap_or_default();
        let (count, heard) = match listens {
            true => socket.write_and_listen(rest, deadline).await,
            false => socket.write_on(rest, deadline).await,
        };
        self.stage = stage;
        self.flown += count;
        if self.flown < self.outgoing.len() {
            return heard;
        }
        self.flown = 0;
        self.buffers.give_back(std::mem::take(&mut self.outgoing));
        Heard::Nothing
    }

    /// Whether there is something to read now: plain text, the end, or an error. What the protocol says itself (tickets,
    /// for instance) is taken in and is nothing.
    pub(super) async fn overhears<S: Duplex>(&mut self, socket: &mut S) -> bool {
        if self.is_readable() || self.stage == TlsStage::Failed {
            return true;
        }
        if socket.is_quiet() {
            return false;
        }
        match self.take_in(socket, AT_ONCE).await {
            Ok(Some(count)) if count > 0 => {}
            Ok(None) => return false,
            // The end, or an error: the reader meets it again.
            _ => return true,
        }
        let pumped = self.pump(Task::Read(&mut Vec::new()));
        self.has_plain() || matches!(pumped, Err(_) | Ok(Pause::Ended))
    }
}
