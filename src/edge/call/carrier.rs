//! What a call needs of the connection that carries it: more of the request comes from there, and the answer goes there.
//! HTTP/1.1 implements it in [`crate::edge::h1`].

use std::io;
use std::time::Duration;

use crate::edge::door::listener::ListenerId;
use crate::edge::peer::Sender;
use crate::edge::policy::Limits;
use crate::edge::runtime::net::Net;
use crate::edge::runtime::stream::Lent;
use crate::edge::worker::Worker;
use crate::gate::verify::ChallengeReply;
use crate::outcome::{AnswerRow, Outcome};
use crate::wire::framing::ResponseFraming;
use crate::wire::head::ResponseHead;

use super::asked::Asked;
use super::request::Call;

/// The connection that carries a call.
#[allow(async_fn_in_trait, reason = "one thread per core: futures need not be Send")]
pub trait Carrier<N: Net> {
    /// The sender of the call.
    fn sender(&self) -> Sender<'_>;

    /// The listener that accepted the connection.
    fn listener(&self) -> ListenerId;

    /// The socket beneath: the connection to the application is used by the same task.
    fn socket(&self) -> &N::Stream;

    /// Whether the limits allow another call after this one.
    fn may_carry_another(&self, limits: &Limits) -> bool;

    /// Whether the connection closes after the answer that is about to begin.
    fn is_closing(&mut self, worker: &Worker<N>) -> bool;

    /// Appends more of the request to `buf`. `Ok(0)` is its end.
    async fn read(&mut self, buf: Vec<u8>, deadline: Duration) -> Lent<usize>;

    /// Waits until more of the request can be read, or its end.
    ///
    /// # Errors
    /// Of the socket: the deadline has passed, the client has gone.
    async fn readable(&mut self, deadline: Duration) -> io::Result<()>;

    /// Tells a client that waits for it to send its body (`100 Continue`, RFC 9110 section 15.2.1).
    ///
    /// # Errors
    /// The client takes nothing.
    async fn invite(&mut self, worker: &Worker<N>, deadline: Duration) -> Result<(), Outcome>;

    /// Begins to pass on an answer of the application. Its head is sent with the first piece, which must follow before
    /// anything is awaited. Notes whether another call may follow.
    fn begin(&mut self, worker: &Worker<N>, asked: &mut Asked<'_>, reply: ReplyHead<'_>);

    /// Whether the client has been sent something of the answer.
    fn has_begun(&self) -> bool;

    /// Sends a piece of the answer's body. The buffer comes back, to be overwritten.
    ///
    /// # Errors
    /// The client takes nothing, or the connection was evicted.
    async fn piece(&mut self, worker: &Worker<N>, buf: Vec<u8>, piece: BodyPiece) -> Result<Vec<u8>, Outcome>;

    /// Sends an answer of our own.
    ///
    /// # Errors
    /// The client takes nothing.
    async fn answer(&mut self, worker: &Worker<N>, asked: &mut Asked<'_>, own: OwnAnswer<'_>) -> Result<(), Outcome>;

    /// Decides what becomes of the connection, once the client has been answered.
    fn settle(&mut self, call: &Call<'_, '_>) -> Next;
}

/// The head of an answer of the application.
#[derive(Clone, Copy)]
pub struct ReplyHead<'a> {
    /// The head.
    pub head: &'a ResponseHead,
    /// Its bytes, which the spans of the head refer to.
    pub bytes: &'a [u8],
    /// How the application ends the body.
    pub framing: ResponseFraming,
}

/// Where a piece of a body lies in its buffer.
#[derive(Clone, Copy, Debug)]
pub struct BodyPiece {
    /// Its first byte. There is room for a head before it.
    pub start: usize,
    /// Its length in bytes.
    pub length: usize,
    /// Whether nothing follows.
    pub is_last: bool,
}

/// An answer of our own.
#[derive(Clone, Copy, Debug)]
pub struct OwnAnswer<'a> {
    /// Status, text and fate of the connection.
    pub answer: AnswerRow,
    /// What a handshake is answered; nothing for any other answer.
    pub challenge: Option<&'a ChallengeReply>,
    /// Whether the answer has no body.
    pub is_bare: bool,
    /// The methods that are allowed, for 405.
    pub allow: &'a str,
    /// When the client must have taken it.
    pub deadline: Duration,
}

/// What follows a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another request may come.
    Again,
    /// The connection closes; everything that was sent has been read.
    Close,
    /// The connection closes after the client had a chance to read the answer.
    Linger,
}
