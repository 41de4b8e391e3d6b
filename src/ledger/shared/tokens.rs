//! The tokens of routes whose rate all processes share, as one worker has them.
//!
//! The bucket is in the engine, and no more than it grants is ever spent: while the engine answers, all processes together
//! take no more than the rate. A process takes tokens in batches of what comes in [`SPAN`], but of no more than a quarter of
//! the burst ([`Rate`] says both), and its workers have equal parts of that. A worker asks for the next batch when half of
//! the one that it has is spent, so that most deliveries wait for no answer. Where the part of a worker is less than
//! one token, it asks for one when a delivery needs it.
//!
//! What a worker has ready was granted earlier, so in any interval all processes together can spend one batch each more than
//! the bucket says. A batch that is not used within [`LIFE`] is lost: so much less is let through.

use core::task::{Poll, Waker};
use core::time::Duration;

use super::answer::EngineAnswer;
use super::key::{EngineKey, RateName};
use super::script::{self, TokenRequest};
use super::trouble::EngineTrouble;
use crate::gate::token_bucket::{Empty, Rate};

/// A batch is what comes in this time.
const SPAN: Duration = Duration::from_millis(50);

/// Tokens that are not used for so long are lost.
const LIFE: Duration = Duration::from_secs(1);

/// A route whose rate is shared.
#[derive(Clone, Copy, Debug)]
pub struct SharedRate<'r> {
    /// Its position in the table of routes.
    pub position: usize,
    /// Its name.
    pub name: &'r str,
    /// Its rate.
    pub rate: Rate,
}

impl SharedRate<'_> {
    /// What a process takes at once: what comes in 50 ms, but no more than a quarter of the burst, and at least 1. Each process
    /// can spend so much more than the rate in any interval.
    #[must_use]
    pub fn batch(rate: Rate) -> u32 {
        let span = u128::from(rate.tokens) * SPAN.as_nanos() / rate.per.as_nanos().max(1);
        u32::try_from(span).unwrap_or(u32::MAX).min(rate.burst / 4).max(1)
    }
}

/// What became of taking a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAnswer {
    /// It was taken.
    Taken,
    /// There is none.
    Empty(Empty),
    /// The engine cannot be asked.
    Away(EngineTrouble),
}

/// Whether the engine can be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct EngineNow {
    /// At this moment.
    pub(super) now: Duration,
    /// Why it cannot.
    pub(super) trouble: Option<EngineTrouble>,
}

/// A request for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenAsk {
    place: usize,
    /// Of the lease: another route may be at the place when the answer comes.
    number: u64,
    count: u32,
}

/// The tokens of one route.
#[derive(Debug)]
struct TokenLease {
    route: String,
    rate: Rate,
    name: RateName,
    number: u64,
    /// The part of this worker of a batch; 0 where that is less than a token.
    share: u32,
    held: u32,
    /// When those that are held are lost.
    ends: Duration,
    /// Before that the engine has none.
    empty_until: Duration,
    /// A request is in the queue, or was sent and has not been answered.
    asked: bool,
    waiting: Vec<Waker>,
}

/// The tokens of one worker.
#[derive(Debug)]
pub(super) struct TokenLeases {
    workers: usize,
    next: u64,
    /// By the position of their routes.
    leases: Vec<Option<TokenLease>>,
}

impl TokenLeases {
    pub(super) const fn new(workers: usize) -> Self {
        Self { workers, next: 0, leases: Vec::new() }
    }

    /// Takes a token, or waits for one. What the worker has is spent also while the engine is in `trouble`. Gives what the
    /// engine is to be asked, too.
    pub(super) fn take(
        &mut self,
        key: &EngineKey,
        route: SharedRate<'_>,
        engine: EngineNow,
        waker: &Waker,
    ) -> (Poll<TokenAnswer>, Option<TokenAsk>) {
        let EngineNow { now, trouble } = engine;
        let place = route.position;
        let Some(lease) = self.of(key, route) else {
            return (Poll::Ready(TokenAnswer::Away(EngineTrouble::Full)), None);
        };
        if now >= lease.ends {
            lease.held = 0;
        }
        let is_empty = now < lease.empty_until;
        if let Some(left) = lease.held.checked_sub(1) {
            lease.held = left;
            let more = lease.share > 0 && left <= lease.share / 2 && !is_empty && trouble.is_none();
            let ask = (more && !lease.asked).then(|| lease.ask(place, lease.share - left));
            return (Poll::Ready(TokenAnswer::Taken), ask);
        }
        if is_empty {
            let wait = lease.empty_until.saturating_sub(now);
            return (Poll::Ready(TokenAnswer::Empty(Empty { wait })), None);
        }
        if let Some(trouble) = trouble {
            return (Poll::Ready(TokenAnswer::Away(trouble)), None);
        }
        if !lease.waiting.last().is_some_and(|last| last.will_wake(waker)) {
            lease.waiting.push(waker.clone());
        }
        let ask = (!lease.asked).then(|| lease.ask(place, lease.share.max(1)));
        (Poll::Pending, ask)
    }

    /// The slot of a cluster in which the bucket of a route is.
    pub(super) fn slot(&mut self, key: &EngineKey, route: SharedRate<'_>) -> u16 {
        self.of(key, route).map_or(0, |lease| lease.name.slot())
    }

    /// The same of a request; nothing where the route has gone meanwhile.
    pub(super) fn slot_of(&self, ask: TokenAsk) -> Option<u16> {
        let lease = self.leases.get(ask.place)?.as_ref().filter(|lease| lease.number == ask.number)?;
        Some(lease.name.slot())
    }

    /// Until when a route is known to have no token, if it is.
    pub(super) fn known_empty(&self, route: SharedRate<'_>, now: Duration) -> Option<Empty> {
        let lease = self.leases.get(route.position)?.as_ref().filter(|lease| lease.is_of(route))?;
        let holds = lease.held > 0 && now < lease.ends;
        let wait = lease.empty_until.saturating_sub(now);
        (!holds && wait > Duration::ZERO).then_some(Empty { wait })
    }

    /// Appends the command; `false` where the route has gone meanwhile.
    pub(super) fn write(&self, out: &mut Vec<u8>, key: &EngineKey, ask: TokenAsk, with_text: bool) -> bool {
        let lease = self.leases.get(ask.place).and_then(Option::as_ref).filter(|lease| lease.number == ask.number);
        let Some(lease) = lease else { return false };
        let request = TokenRequest { name: lease.name, rate: lease.rate, count: ask.count, with_text };
        script::encode_take(out, key, request);
        true
    }

    /// The engine has answered.
    pub(super) fn granted(&mut self, ask: TokenAsk, answer: EngineAnswer, now: Duration) {
        let Some(lease) = self.lease(ask) else { return };
        if let EngineAnswer::Tokens { count, wait } = answer {
            // More than was asked for is a mistake of the server, and not ours to spend.
            let count = count.min(ask.count);
            (lease.held, lease.ends) = (lease.held + count, now.saturating_add(LIFE));
            if count < ask.count {
                lease.empty_until = now.saturating_add(wait.max(lease.pause()));
            }
        }
        lease.end_request();
    }

    /// The answer is late: those who wait find that the engine is in trouble.
    pub(super) fn late(&mut self, ask: TokenAsk) {
        if let Some(lease) = self.lease(ask) {
            lease.waiting.drain(..).for_each(Waker::wake);
        }
    }

    /// There will be no answer.
    pub(super) fn unanswered(&mut self, ask: TokenAsk) {
        self.lease(ask).into_iter().for_each(TokenLease::end_request);
    }

    fn lease(&mut self, ask: TokenAsk) -> Option<&mut TokenLease> {
        self.leases.get_mut(ask.place)?.as_mut().filter(|lease| lease.number == ask.number)
    }

    /// The lease of a route; a new one where another route was at its position, or it had another rate.
    fn of(&mut self, key: &EngineKey, route: SharedRate<'_>) -> Option<&mut TokenLease> {
        let SharedRate { position, name, rate } = route;
        if position >= self.leases.len() {
            self.leases.resize_with(position + 1, || None);
        }
        let place = self.leases.get_mut(position)?;
        if !place.as_ref().is_some_and(|lease| lease.is_of(route)) {
            self.next += 1;
            let share = SharedRate::batch(rate) / u32::try_from(self.workers.max(1)).unwrap_or(u32::MAX);
            // Those who wait at the former one ask again.
            place.take().into_iter().for_each(|mut former| former.end_request());
            *place = Some(TokenLease {
                route: name.to_owned(),
                rate,
                name: key.rate(name),
                number: self.next,
                share,
                held: 0,
                ends: Duration::ZERO,
                empty_until: Duration::ZERO,
                asked: false,
                waiting: Vec::new(),
            });
        }
        place.as_mut()
    }
}

impl TokenLease {
    fn is_of(&self, route: SharedRate<'_>) -> bool {
        self.rate == route.rate && self.route == route.name
    }

    const fn ask(&mut self, place: usize, count: u32) -> TokenAsk {
        self.asked = true;
        TokenAsk { place, number: self.number, count }
    }

    fn end_request(&mut self) {
        self.asked = false;
        self.waiting.drain(..).for_each(Waker::wake);
    }

    /// Until the engine is asked again when it had none: what a quarter of the part of this worker needs to come. Asking for
    /// every token as it comes would be a question for every delivery.
    fn pause(&self) -> Duration {
        self.rate.per.saturating_mul(self.share) / self.rate.tokens.max(1).saturating_mul(4)
    }
}
