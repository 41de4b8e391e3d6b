//! What is known of an exchange when it has ended: the one value that metrics, access log and audit trail are made of,
//! so that they never disagree.

use core::net::IpAddr;
use core::time::Duration;

use crate::now::Now;
use crate::outcome::{Observed, Outcome};
use crate::wire::head::ResponseError;

/// An exchange that has ended. What it borrows is gone afterwards: to keep something, copy it.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The position of the worker that served it. Its thread is the one that calls.
    pub worker: usize,
    /// Ours: 32 lower-case hex digits.
    pub request_id: [u8; 32],
    /// When it ended.
    pub ended: Now,
    /// The rule that it fell under, if there is one.
    pub route: Option<RouteTag<'a>>,
    /// The address at the other end of the connection, or what the PROXY protocol put in its place.
    pub peer: Option<IpAddr>,
    /// Who asked, behind the proxies that are believed.
    pub client: Option<IpAddr>,
    /// The name that the other end of the connection has proven by a certificate: plain characters, at most 255.
    pub caller: Option<&'a str>,
    /// As it was asked for: at most [`METHOD`] bytes of it. Empty when the head was not understood.
    pub method: &'a [u8],
    /// The path, without the query: at most [`PATH`] bytes of it, as they came. Empty when the head was not understood.
    pub path: &'a [u8],
    /// The query, without the question mark: at most [`QUERY`] bytes of it, as they came. Often holds credentials: to be
    /// shown only where the operator says so.
    pub query: &'a [u8],
    /// How it ended.
    pub outcome: Outcome,
    /// The status with which the application accepted the delivery (2xx). Where the exchange failed all the same, a
    /// copy is a duplicate because of it.
    pub accepted: Option<u16>,
    /// The rule that the application's answer broke.
    pub broken_rule: Option<ResponseError>,
    /// What checks that are only observed would have refused.
    pub observed: Observed,
    /// The key that matched. Known as soon as the signature has been found genuine, whatever came after.
    pub key_id: Option<&'a str>,
    /// The sender's id of the delivery, where its signature covers it: at most [`DELIVERY_ID`] bytes of it, as they
    /// came. Known like the key.
    pub delivery_id: Option<&'a [u8]>,
    /// What the request says of itself; none of it is proven.
    pub stated: Stated<'a>,
    /// The body, if it was received whole and is still here.
    pub body: Option<&'a [u8]>,
    /// Bytes of the body that were received, without the syntax of chunks.
    pub received: u64,
    /// Bytes of the body of the answer that were sent, without the syntax of chunks.
    pub sent: u64,
    /// How long it took.
    pub stages: Stages,
}

/// The rule that an exchange fell under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteTag<'a> {
    /// The position in the table of routes of the configuration that the exchange was judged by.
    pub position: usize,
    /// The name of the route: unique, chosen by the operator.
    pub name: &'a str,
    /// The name of its scheme, `none` where nothing is verified.
    pub scheme: &'a str,
}

/// What a request says of itself. None of it is proven: any client can say the same. For finding a delivery again at its
/// sender, in its code or in a trace; empty where the request does not say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stated<'a> {
    /// The sender's id of the delivery where the scheme reads it in the head, as GitHub's `X-GitHub-Delivery`: at most
    /// [`DELIVERY_ID`] bytes of it, as they came.
    pub delivery_id: &'a [u8],
    /// `User-Agent` (RFC 9110 section 10.1.5): at most [`USER_AGENT`] bytes of it, as they came.
    pub user_agent: &'a [u8],
    /// `traceparent` (W3C Trace Context): at most [`TRACEPARENT`] bytes of it, as they came.
    pub traceparent: &'a [u8],
}

/// The longest method that is kept.
pub const METHOD: usize = 16;
/// The longest path that is kept.
pub const PATH: usize = 128;
/// The longest query that is kept.
pub const QUERY: usize = 128;
/// The longest delivery id that is kept.
pub const DELIVERY_ID: usize = 128;
/// The longest user agent that is kept.
pub const USER_AGENT: usize = 96;
/// The longest `traceparent` that is kept: version 00 has 55 bytes.
pub const TRACEPARENT: usize = 64;

/// When each stage ended, as the time since the first byte was looked at. A stage that was not reached took no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    head: Duration,
    body: Duration,
    verified: Duration,
    answered: Duration,
    total: Duration,
}

/// A point in the life of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The head has been read and judged.
    Head,
    /// The body has been read.
    Body,
    /// The verdict is there, and the claim.
    Verified,
    /// The application has answered: the head of its answer is there.
    Answered,
    /// All has been sent.
    Total,
}

impl Stages {
    /// Notes that a stage ended `elapsed` after the first byte was looked at.
    pub fn mark(&mut self, stage: Stage, elapsed: Duration) {
        let place = match stage {
            Stage::Head => &mut self.head,
            Stage::Body => &mut self.body,
            Stage::Verified => &mut self.verified,
            Stage::Answered => &mut self.answered,
            Stage::Total => &mut self.total,
        };
        *place = elapsed;
    }

    /// Waiting for the head, and judging it.
    #[must_use]
    pub const fn head(&self) -> Duration {
        self.head
    }

    /// Waiting for the body, and hashing it as it lands.
    #[must_use]
    pub const fn body(&self) -> Duration {
        self.body.saturating_sub(self.head)
    }

    /// Comparing signatures, looking for duplicates, spending tokens.
    #[must_use]
    pub const fn verify(&self) -> Duration {
        self.verified.saturating_sub(self.body)
    }

    /// From the first byte towards the application to the head of its answer; nothing where it was not asked, or did
    /// not answer.
    #[must_use]
    pub const fn upstream(&self) -> Option<Duration> {
        if self.answered.is_zero() { None } else { Some(self.answered.saturating_sub(self.verified)) }
    }

    /// From the moment at which the request was judged, or the last part of it came, to the end: the answer to one that
    /// is refused may take its time.
    #[must_use]
    pub fn since_judged(&self) -> Duration {
        self.total.saturating_sub(self.head.max(self.body))
    }

    /// All of it.
    #[must_use]
    pub const fn total(&self) -> Duration {
        self.total
    }
}

/// The first bytes of something that a stranger sent, kept in place: no allocation, and no more than `N` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Excerpt<N> {
    /// Nothing.
    pub const EMPTY: Self = Self { bytes: [0; N], length: 0 };

    /// The first bytes of `text`.
    pub fn set(&mut self, text: &[u8]) {
        self.length = text.len().min(N);
        if let Some((places, kept)) = self.bytes.get_mut(..self.length).zip(text.get(..self.length)) {
            places.copy_from_slice(kept);
        }
    }

    /// Whether nothing is kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What is kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_told_apart_and_those_not_reached_took_no_time() {
        let millis = Duration::from_millis;
        let mut stages = Stages::default();
        stages.mark(Stage::Head, millis(1));
        stages.mark(Stage::Total, millis(2));
        assert_eq!((stages.head(), stages.body(), stages.verify()), (millis(1), millis(0), millis(0)));
        assert_eq!(stages.since_judged(), millis(1));
        assert_eq!((stages.upstream(), stages.total()), (None, millis(2)));
        for (stage, at) in [(Stage::Body, 4), (Stage::Verified, 5), (Stage::Answered, 15), (Stage::Total, 16)] {
            stages.mark(stage, millis(at));
        }
        assert_eq!((stages.head(), stages.body(), stages.verify()), (millis(1), millis(3), millis(1)));
        assert_eq!((stages.upstream(), stages.total()), (Some(millis(10)), millis(16)));
        assert_eq!(stages.since_judged(), millis(12));
    }

    #[test]
    fn an_excerpt_is_the_beginning() {
        let mut excerpt = Excerpt::<4>::EMPTY;
        assert_eq!(excerpt.bytes(), b"");
        excerpt.set(b"abcdef");
        assert_eq!(excerpt.bytes(), b"abcd");
        excerpt.set(b"x");
        assert_eq!(excerpt.bytes(), b"x");
    }
}
