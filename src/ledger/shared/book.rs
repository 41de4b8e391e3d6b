//! The claims of one worker that are with the engine: which were asked, which are held, which are to be settled.
//!
//! Everything about waiting is here as values: the connection (`edge/shared`) moves bytes and says what time it is.
//!
//! - A claim that is not answered within the time for it fails, and so do all that come after it, without being asked,
//!   until the engine says anything again. So a hanging engine costs each delivery that time at most.
//! - When nothing has come for [`SILENCE`] although something was asked, the connection is given up.
//! - A commit is kept until the engine has confirmed it: it is said again over the next connection, with what is left of
//!   the time. A claim that was given up and answered all the same is released, and so is one of which that is not known.

use core::task::{Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;

use super::answer::EngineAnswer;
use super::key::{EngineKey, EngineNames};
use super::lease::{AnswerEvent, EngineCall, Lease, LeaseId, LeaseOwner, LeaseTerms, TokenWait, Unanswered};
use super::script::{self, EngineOperation, EngineRequest};
use super::tokens::{EngineNow, SharedRate, TokenAnswer, TokenLeases};
use super::trouble::EngineTrouble;
use crate::gate::token_bucket::Empty;

/// A connection on which nothing has come for so long, although something was asked, is given up.
pub const SILENCE: Duration = Duration::from_secs(1);

/// Claims of a worker that may wait for an answer.
const WAITING: usize = 1024;

/// Claims of a worker that there may be: asked, held, and not yet settled. With [`WAITING`] of them for new claims.
const LEASES: usize = 16 * WAITING;

/// The claims of one worker, and its tokens.
#[derive(Debug)]
pub struct LeaseBook {
    process: u64,
    worker: usize,
    timeout: Duration,
    tokens: TokenLeases,
    leases: Vec<Option<Lease>>,
    free: Vec<u32>,
    queue: VecDeque<EngineCall>,
    sent: VecDeque<EngineCall>,
    next: u64,
    /// Why the engine is not asked; nothing while it is.
    trouble: Option<EngineTrouble>,
    /// A claim was too late, and nothing has come since.
    stalled: bool,
    /// When anything was sent or came last.
    active: Duration,
    /// When anything came last.
    heard: Duration,
}

impl LeaseBook {
    /// An empty book of a worker of a process that has so many `workers`. An exchange is answered within `timeout`.
    #[must_use]
    pub const fn new(process: u64, worker: usize, workers: usize, timeout: Duration) -> Self {
        Self {
            process,
            worker,
            timeout,
            tokens: TokenLeases::new(workers),
            leases: Vec::new(),
            free: Vec::new(),
            queue: VecDeque::new(),
            sent: VecDeque::new(),
            next: 0,
            trouble: Some(EngineTrouble::Starting),
            stalled: false,
            active: Duration::ZERO,
            heard: Duration::ZERO,
        }
    }

    /// Why the engine is not asked; nothing while it is.
    #[must_use]
    pub const fn trouble(&self) -> Option<EngineTrouble> {
        if self.stalled { Some(EngineTrouble::Silent) } else { self.trouble }
    }

    /// Claims a delivery. [`Self::poll`] has the answer.
    ///
    /// # Errors
    /// The engine is not asked.
    pub fn claim(&mut self, names: EngineNames, terms: LeaseTerms, now: Duration) -> Result<LeaseId, EngineTrouble> {
        if let Some(trouble) = self.trouble() {
            return Err(trouble);
        }
        if self.queue.len() + self.sent.len() >= WAITING || self.held() + WAITING > LEASES {
            return Err(EngineTrouble::Full);
        }
        let id = self.add(names, terms, LeaseOwner::Waiting).ok_or(EngineTrouble::Full)?;
        self.ask(EngineOperation::Claim, id);
        if let Some(asked) = self.queue.back_mut() {
            asked.since = now;
        }
        Ok(id)
    }

    /// Notes a delivery that is forwarded although the engine was not asked: what it has accepted is told the engine when
    /// that is back. `None` if there are too many.
    pub fn adopt(&mut self, names: EngineNames, terms: LeaseTerms) -> Option<LeaseId> {
        if self.held() >= LEASES { None } else { self.add(names, terms, LeaseOwner::Held) }
    }

    /// The answer to a claim. Where it is not the claimant's, the claim is to be released, or held all the same.
    pub fn poll(&mut self, id: LeaseId, waker: &Waker) -> Poll<EngineAnswer> {
        let Some(lease) = self.lease(id) else { return Poll::Ready(EngineAnswer::Failed(EngineTrouble::Full)) };
        let Some(answer) = lease.answer else {
            lease.waker = Some(waker.clone());
            return Poll::Pending;
        };
        if answer == EngineAnswer::Yours {
            lease.owner = LeaseOwner::Held;
        }
        Poll::Ready(answer)
    }

    /// A claim is held although it failed: its delivery is forwarded without the engine.
    pub fn hold(&mut self, id: LeaseId) {
        if let Some(lease) = self.lease(id) {
            lease.owner = LeaseOwner::Held;
        }
    }

    /// A claim is given back, or is not waited for any more.
    pub fn release(&mut self, id: LeaseId) {
        let Some(lease) = self.lease(id) else { return };
        lease.owner = LeaseOwner::Released;
        lease.waker = None;
        if lease.asked {
            return;
        }
        if lease.answer != Some(EngineAnswer::Yours) && !lease.in_doubt {
            self.forget(id);
        } else if self.trouble.is_none() {
            self.ask(EngineOperation::Release, id);
        }
        // Without a connection it is given back over the next one.
    }

    /// The delivery of a claim that is held was accepted.
    pub fn commit(&mut self, id: LeaseId, now: Duration) {
        let Some(lease) = self.lease(id) else { return };
        lease.owner = LeaseOwner::Accepted(now);
        if !lease.asked && self.trouble.is_none() {
            self.ask(EngineOperation::Commit, id);
        }
    }

    /// Whether a route is known to have no token: what comes now would be refused after all.
    #[must_use]
    pub fn known_empty(&self, route: SharedRate<'_>, now: Duration) -> Option<Empty> {
        self.tokens.known_empty(route, now)
    }

    /// Takes a token of a route.
    pub fn take_token(
        &mut self,
        key: &EngineKey,
        route: SharedRate<'_>,
        wait: TokenWait,
        waker: &Waker,
    ) -> Poll<TokenAnswer> {
        let TokenWait { since, now } = wait;
        let full = self.queue.len() + self.sent.len() >= WAITING;
        let late = now >= since.saturating_add(self.timeout);
        let trouble = self.trouble();
        let trouble = trouble.or(full.then_some(EngineTrouble::Full)).or(late.then_some(EngineTrouble::Silent));
        let (answer, ask) = self.tokens.take(key, route, EngineNow { now, trouble }, waker);
        if let Some(ask) = ask {
            let operation = EngineOperation::Take;
            let tokens = Some(ask);
            self.queue.push_back(EngineCall {
                operation,
                lease: None,
                tokens,
                since: now,
                with_text: false,
                late: false,
            });
        }
        answer
    }

    /// Appends what is to be sent.
    pub fn send(&mut self, out: &mut Vec<u8>, key: &EngineKey, now: Duration) {
        while let Some(mut asked) = self.queue.pop_front() {
            let lease = asked.lease.and_then(|id| self.leases.get(id.0 as usize)?.as_ref());
            match (asked.operation, lease) {
                (EngineOperation::Ping, _) => resp_ping(out),
                (EngineOperation::Take, _) => {
                    let Some(ask) = asked.tokens else { continue };
                    if !self.tokens.write(out, key, ask, asked.with_text) {
                        continue;
                    }
                }
                (operation, Some(lease)) => {
                    let time = match (operation, lease.owner) {
                        (EngineOperation::Commit, LeaseOwner::Accepted(since)) => {
                            lease.terms.window.saturating_sub(now.saturating_sub(since))
                        }
                        _ => lease.terms.lease,
                    };
                    let token = (self.process, self.worker, lease.number);
                    let (names, with_text) = (&lease.names, asked.with_text);
                    script::encode(out, key, &EngineRequest { operation, names, token, time, with_text });
                }
                (_, None) => continue,
            }
            // Where an exchange waits, the time counts since it does.
            if !asked.is_awaited() {
                asked.since = now;
            }
            self.sent.push_back(asked);
            self.active = now;
        }
    }

    /// A whole reply has come: the answer to what was sent first. Gives how that ended; nothing for what is asked again.
    ///
    /// # Errors
    /// The connection is of no use.
    pub fn answered(&mut self, reply: &[u8], now: Duration) -> Result<Option<AnswerEvent>, EngineTrouble> {
        let asked = self.sent.pop_front().ok_or(EngineTrouble::Malformed)?;
        (self.stalled, self.active, self.heard) = (false, now, now);
        let mut answer = EngineAnswer::of(asked.operation, reply);
        if (answer, asked.with_text) == (EngineAnswer::NoScript, false) && asked.operation != EngineOperation::Ping {
            self.queue.push_back(EngineCall { with_text: true, ..asked });
            return Ok(None);
        }
        if answer == EngineAnswer::NoScript {
            answer = EngineAnswer::Failed(EngineTrouble::Refusing);
        }
        let took = now.saturating_sub(asked.since);
        let event = AnswerEvent { operation: asked.operation, result: answer.result(), took };
        if let Some(id) = asked.lease {
            self.settle(id, asked, answer);
        }
        if let Some(ask) = asked.tokens {
            self.tokens.granted(ask, answer, now);
        }
        match answer {
            EngineAnswer::Failed(trouble) => Err(trouble),
            _ => Ok(Some(event).filter(|_| asked.operation != EngineOperation::Ping)),
        }
    }

    /// The moment at which [`Self::look`] has something to do.
    #[must_use]
    pub fn next_look(&self) -> Option<Duration> {
        let waiting = |it: &&EngineCall| it.is_awaited() && !it.late;
        let late = self.sent.iter().chain(&self.queue).find(waiting).map(|it| it.since.saturating_add(self.timeout));
        let silent = self.sent.front().map(|it| it.since.max(self.heard).saturating_add(SILENCE));
        late.into_iter().chain(silent).min()
    }

    /// Lets what was asked fail whose time is over. Gives how much.
    ///
    /// # Errors
    /// Nothing has come for too long.
    pub fn look(&mut self, now: Duration) -> Result<Unanswered, EngineTrouble> {
        let timeout = self.timeout;
        let (mut failed, mut tokens) = (Vec::new(), Vec::new());
        for it in self.sent.iter_mut().chain(&mut self.queue) {
            if it.is_awaited() && !it.late && now >= it.since.saturating_add(timeout) {
                it.late = true;
                failed.extend(it.lease);
                tokens.extend(it.tokens);
            }
        }
        for id in &failed {
            self.tell(*id, EngineAnswer::Failed(EngineTrouble::Silent));
        }
        self.stalled |= !failed.is_empty() || !tokens.is_empty();
        // After that: those who wait are told that there is no answer.
        tokens.iter().for_each(|ask| self.tokens.late(*ask));
        match self.sent.front().map(|it| it.since) {
            Some(since) if now >= since.max(self.heard).saturating_add(SILENCE) => Err(EngineTrouble::Silent),
            _ => Ok(Unanswered { claims: failed.len() as u64, tokens: tokens.len() as u64 }),
        }
    }

    /// Asks whether the engine is there, if nothing has been sent or has come for `rest`. Gives when that would be;
    /// nothing while an answer is awaited.
    pub fn keep_alive(&mut self, rest: Duration, now: Duration) -> Option<Duration> {
        if !self.sent.is_empty() || !self.queue.is_empty() {
            return None;
        }
        let due = self.active.saturating_add(rest);
        if now < due {
            return Some(due);
        }
        let ping = EngineOperation::Ping;
        self.queue.push_back(EngineCall {
            operation: ping,
            lease: None,
            tokens: None,
            since: now,
            with_text: false,
            late: false,
        });
        None
    }

    /// Whether something is to be sent.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.queue.is_empty()
    }

    /// A connection is there, and the engine is fit. What was accepted meanwhile is told it.
    pub fn connected(&mut self, now: Duration) {
        (self.trouble, self.stalled, self.active, self.heard) = (None, false, now, now);
        for at in 0..self.leases.len() {
            let Some(Some(lease)) = self.leases.get(at) else { continue };
            let id = LeaseId(u32::try_from(at).unwrap_or(u32::MAX));
            match lease.owner {
                LeaseOwner::Accepted(since) if now >= since.saturating_add(lease.terms.window) => self.forget(id),
                LeaseOwner::Accepted(_) => self.ask(EngineOperation::Commit, id),
                LeaseOwner::Released => self.ask(EngineOperation::Release, id),
                LeaseOwner::Waiting | LeaseOwner::Held => {}
            }
        }
    }

    /// There is no connection. Gives what failed for it.
    pub fn lost(&mut self, trouble: EngineTrouble) -> Unanswered {
        (self.trouble, self.stalled) = (Some(trouble), false);
        let mut failed = Unanswered::default();
        let sent = std::mem::take(&mut self.sent).into_iter().map(|call| (call, true));
        let queued = std::mem::take(&mut self.queue).into_iter().map(|call| (call, false));
        for (call, was_sent) in sent.chain(queued).collect::<Vec<_>>() {
            if let Some(ask) = call.tokens {
                failed.tokens += u64::from(!call.late);
                self.tokens.unanswered(ask);
            }
            let Some(id) = call.lease else { continue };
            let Some(lease) = self.lease(id) else { continue };
            lease.asked = false;
            lease.in_doubt |= was_sent && call.operation == EngineOperation::Claim;
            match lease.owner {
                LeaseOwner::Waiting => {
                    failed.claims += u64::from(!call.late);
                    self.tell(id, EngineAnswer::Failed(trouble));
                }
                LeaseOwner::Released => self.release(id),
                LeaseOwner::Held | LeaseOwner::Accepted(_) => {}
            }
        }
        failed
    }

    /// Claims in the book.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.leases.len() - self.free.len()
    }

    fn settle(&mut self, id: LeaseId, asked: EngineCall, answer: EngineAnswer) {
        let may_ask = self.trouble.is_none();
        let Some(lease) = self.lease(id) else { return };
        lease.asked = false;
        if asked.operation != EngineOperation::Claim {
            // What fails for this delivery alone would fail again.
            let again = matches!(answer, EngineAnswer::Failed(trouble) if trouble != EngineTrouble::Refusing);
            if asked.operation != EngineOperation::Commit || !again {
                self.forget(id);
            }
            return;
        }
        let owner = lease.owner;
        match owner {
            LeaseOwner::Waiting => self.tell(id, answer),
            LeaseOwner::Held => lease.answer = Some(answer),
            LeaseOwner::Accepted(_) if may_ask => self.ask(EngineOperation::Commit, id),
            LeaseOwner::Accepted(_) => {}
            LeaseOwner::Released if answer == EngineAnswer::Yours && may_ask => {
                self.ask(EngineOperation::Release, id);
            }
            LeaseOwner::Released => self.forget(id),
        }
    }

    fn tell(&mut self, id: LeaseId, answer: EngineAnswer) {
        let Some(lease) = self.lease(id).filter(|lease| lease.owner == LeaseOwner::Waiting) else { return };
        // The first answer counts: one that comes too late is not what the exchange was told.
        lease.answer.get_or_insert(answer);
        lease.waker.take().into_iter().for_each(Waker::wake);
    }

    fn ask(&mut self, operation: EngineOperation, id: LeaseId) {
        if let Some(lease) = self.lease(id) {
            lease.asked = true;
        }
        let (since, tokens) = (Duration::ZERO, None);
        self.queue.push_back(EngineCall { operation, lease: Some(id), tokens, since, with_text: false, late: false });
    }

    fn add(&mut self, names: EngineNames, terms: LeaseTerms, owner: LeaseOwner) -> Option<LeaseId> {
        self.next += 1;
        let lease =
            Lease { names, number: self.next, terms, owner, asked: false, answer: None, in_doubt: false, waker: None };
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.leases.push(None);
                u32::try_from(self.leases.len() - 1).ok()?
            }
        };
        *self.leases.get_mut(at as usize)? = Some(lease);
        Some(LeaseId(at))
    }

    fn forget(&mut self, id: LeaseId) {
        if let Some(place) = self.leases.get_mut(id.0 as usize)
            && place.take().is_some()
        {
            self.free.push(id.0);
        }
    }

    fn lease(&mut self, id: LeaseId) -> Option<&mut Lease> {
        self.leases.get_mut(id.0 as usize)?.as_mut()
    }
}

fn resp_ping(out: &mut Vec<u8>) {
    crate::wire::resp::command(out, &[b"PING"]);
}
