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

use super::answer::EngineAnswer;
use super::homes::EngineLanes;
use super::key::{EngineKey, EngineNames};
use super::lane::EngineLane;
use super::lease::{AnswerEvent, EngineCall, Lease, LeaseId, LeaseOwner, LeaseTerms, TokenWait, Unanswered};
use super::script::{self, EngineOperation, EngineRequest};
use super::slots::Redirect;
use super::tokens::{EngineNow, SharedRate, TokenAnswer, TokenLeases};
use super::trouble::EngineTrouble;
use crate::gate::token_bucket::Empty;

/// A connection on which nothing has come for so long, although something was asked, is given up.
pub const SILENCE: Duration = Duration::from_secs(1);

/// Claims of a worker that may wait for an answer.
const WAITING: usize = 1024;

/// So often a call is sent to another node at once.
const REDIRECTIONS: u8 = 4;

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
    pub(super) lanes: EngineLanes,
    next: u64,
}

impl LeaseBook {
    /// An empty book of a worker of a process that has so many `workers`. An exchange is answered within `timeout`.
    #[must_use]
    pub fn new(process: u64, worker: usize, workers: usize, timeout: Duration) -> Self {
        Self {
            process,
            worker,
            timeout,
            tokens: TokenLeases::new(workers),
            leases: Vec::new(),
            free: Vec::new(),
            lanes: EngineLanes::alone(),
            next: 0,
        }
    }

    /// The same for a cluster, of which no node is known yet.
    #[must_use]
    pub fn of_cluster(self) -> Self {
        Self { lanes: EngineLanes::of_cluster(), ..self }
    }

    /// Why the engine is not asked, or a node of the cluster; nothing while all are.
    #[must_use]
    pub fn trouble(&self) -> Option<EngineTrouble> {
        self.lanes.trouble()
    }

    /// The same, but for a lane on which an answer is late.
    #[must_use]
    pub fn standing(&self) -> Option<EngineTrouble> {
        self.lanes.standing()
    }

    /// Claims a delivery. [`Self::poll`] has the answer.
    ///
    /// # Errors
    /// The engine is not asked.
    pub fn claim(&mut self, names: EngineNames, terms: LeaseTerms, now: Duration) -> Result<LeaseId, EngineTrouble> {
        let slot = self.slot(&names);
        let lane = self.lanes.of(slot)?;
        let full = self.held() + WAITING > LEASES;
        if let Some(trouble) = self.lanes.get(lane).and_then(|lane| lane.trouble()) {
            return Err(trouble);
        }
        if full || self.lanes.get(lane).is_none_or(|lane| lane.pending() >= WAITING) {
            return Err(EngineTrouble::Full);
        }
        let id = self.add(names, terms, LeaseOwner::Waiting).ok_or(EngineTrouble::Full)?;
        self.ask_since(EngineOperation::Claim, id, now);
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
        } else {
            self.ask(EngineOperation::Release, id);
        }
        // Without a connection it is given back over the next one.
    }

    /// The delivery of a claim that is held was accepted.
    pub fn commit(&mut self, id: LeaseId, now: Duration) {
        let Some(lease) = self.lease(id) else { return };
        lease.owner = LeaseOwner::Accepted(now);
        if !lease.asked {
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
        let late = now >= since.saturating_add(self.timeout);
        let slot = if self.lanes.is_cluster() { self.tokens.slot(key, route) } else { 0 };
        let lane = self.lanes.of(slot);
        let stands = lane.and_then(|at| self.lanes.get(at).ok_or(EngineTrouble::Full));
        let trouble = match &stands {
            Err(trouble) => Some(*trouble),
            Ok(lane) => lane.trouble().or((lane.pending() >= WAITING).then_some(EngineTrouble::Full)),
        };
        let trouble = trouble.or(late.then_some(EngineTrouble::Silent));
        let (answer, ask) = self.tokens.take(key, route, EngineNow { now, trouble }, waker);
        if let (Some(ask), Ok(lane)) = (ask, stands) {
            let call = EngineCall { tokens: Some(ask), ..EngineCall::new(EngineOperation::Take, now) };
            lane.queue.push_back(call);
        }
        answer
    }

    /// Appends what is to be sent over a lane.
    pub fn send(&mut self, lane: usize, out: &mut Vec<u8>, key: &EngineKey, now: Duration) {
        let Some(it) = self.lanes.list.get_mut(lane) else { return };
        it.resume(now);
        while let Some(mut asked) = it.queue.pop_front() {
            let lease = asked.lease.and_then(|id| self.leases.get(id.0 as usize)?.as_ref());
            let start = out.len();
            if asked.asking {
                script::command(out, EngineOperation::Asking);
            }
            match (asked.operation, lease) {
                (EngineOperation::Ping, _) => script::command(out, EngineOperation::Ping),
                (EngineOperation::Take, _) => {
                    let written = asked.tokens.is_some_and(|ask| self.tokens.write(out, key, ask, asked.with_text));
                    if !written {
                        out.truncate(start);
                        continue;
                    }
                }
                (operation, Some(lease)) => {
                    let time = lease.time(operation, now);
                    let token = (self.process, self.worker, lease.number);
                    let (names, with_text) = (&lease.names, asked.with_text);
                    script::encode(out, key, &EngineRequest { operation, names, token, time, with_text });
                }
                (_, None) => {
                    out.truncate(start);
                    continue;
                }
            }
            // Where an exchange waits, the time counts since it does.
            if !asked.is_awaited() {
                asked.since = now;
            }
            if asked.asking {
                it.sent.push_back(EngineCall::new(EngineOperation::Asking, now));
            }
            it.sent.push_back(asked);
            it.active = now;
        }
    }

    /// A whole reply has come over a lane: the answer to what was sent first. Gives how that ended; nothing for what is asked
    /// again.
    ///
    /// # Errors
    /// The connection is of no use.
    pub fn answered(&mut self, lane: usize, reply: &[u8], now: Duration) -> Result<Option<AnswerEvent>, EngineTrouble> {
        let it = self.lanes.get(lane).ok_or(EngineTrouble::Malformed)?;
        let asked = it.sent.pop_front().ok_or(EngineTrouble::Malformed)?;
        (it.stalled, it.active, it.heard) = (false, now, now);
        if let Some(redirect) = it.node.and_then(|node| Redirect::of(reply, node))
            && self.redirect(lane, asked, redirect, now)
        {
            return Ok(None);
        }
        let mut answer = EngineAnswer::of(asked.operation, reply);
        let is_script = EngineOperation::SCRIPTS.contains(&asked.operation);
        if (answer, asked.with_text, is_script) == (EngineAnswer::NoScript, false, true) {
            let call = EngineCall { with_text: true, ..asked };
            self.lanes.get(lane).into_iter().for_each(|lane| lane.queue.push_back(call));
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
            _ => Ok(Some(event).filter(|_| is_script)),
        }
    }

    /// Asks where a node of the cluster says. Gives whether it is asked again.
    fn redirect(&mut self, lane: usize, call: EngineCall, to: Redirect, now: Duration) -> bool {
        // What a trial or a sign of life is told means nothing.
        let of_tokens = call.tokens.and_then(|ask| self.tokens.slot_of(ask));
        let of_lease = call.lease.and_then(|id| self.lease(id)).map(|lease| lease.slot);
        let Some(slot) = of_lease.or(of_tokens) else { return false };
        let (target, asking) = match to {
            Redirect::TryAgain => {
                self.lanes.get(lane).into_iter().for_each(|lane| lane.postpone(call, now));
                return true;
            }
            Redirect::Moved(node) => {
                self.lanes.note_moved(slot, node);
                (self.lanes.to(node), false)
            }
            Redirect::Ask(node) => (self.lanes.to(node), true),
        };
        let call = EngineCall { asking, tries: call.tries.saturating_add(1), ..call };
        let Some(target) = target.ok().and_then(|at| self.lanes.get(at)) else { return false };
        // Two nodes that name each other have not agreed yet; one that is away is asked again by another connection.
        match call.tries {
            ..REDIRECTIONS if target.trouble.is_none() => target.queue.push_back(call),
            _ => self.lanes.get(lane).into_iter().for_each(|lane| lane.postpone(call, now)),
        }
        true
    }

    /// The moment at which [`Self::look`] has something to do.
    #[must_use]
    pub fn next_look(&self, lane: usize) -> Option<Duration> {
        let lane = self.lanes.list.get(lane)?;
        let waiting = |it: &&EngineCall| it.is_awaited() && !it.late;
        let since = match lane.node {
            // In the order in which they came.
            None => lane.calls().find(waiting).map(|it| it.since),
            // Others may have waited elsewhere before.
            Some(_) => lane.calls().filter(waiting).map(|it| it.since).min(),
        };
        let late = since.map(|since| since.saturating_add(self.timeout));
        let silent = lane.sent.front().map(|it| it.since.max(lane.heard).saturating_add(SILENCE));
        late.into_iter().chain(silent).chain(lane.due()).min()
    }

    /// Lets what was asked over a lane fail whose time is over. Gives how much.
    ///
    /// # Errors
    /// Nothing has come for too long.
    pub fn look(&mut self, lane: usize, now: Duration) -> Result<Unanswered, EngineTrouble> {
        let timeout = self.timeout;
        let Some(it) = self.lanes.get(lane) else { return Ok(Unanswered::default()) };
        let (mut failed, mut tokens) = (Vec::new(), Vec::new());
        for call in it.calls_mut() {
            if call.is_awaited() && !call.late && now >= call.since.saturating_add(timeout) {
                call.late = true;
                failed.extend(call.lease);
                tokens.extend(call.tokens);
            }
        }
        // A node that has a part of the keys of a script has answered.
        it.stalled |= (!failed.is_empty() || !tokens.is_empty()) && it.pending() > it.later.len();
        let silent = it.sent.front().is_some_and(|call| now >= call.since.max(it.heard).saturating_add(SILENCE));
        for id in &failed {
            self.tell(*id, EngineAnswer::Failed(EngineTrouble::Silent));
        }
        // After that: those who wait are told that there is no answer.
        tokens.iter().for_each(|ask| self.tokens.late(*ask));
        if silent {
            return Err(EngineTrouble::Silent);
        }
        Ok(Unanswered { claims: failed.len() as u64, tokens: tokens.len() as u64 })
    }

    /// Asks whether the engine is there, if nothing has been sent over a lane or has come for `rest`. Gives when that would be;
    /// nothing while an answer is awaited.
    pub fn keep_alive(&mut self, lane: usize, rest: Duration, now: Duration) -> Option<Duration> {
        let lane = self.lanes.get(lane).filter(|lane| lane.pending() == 0)?;
        let due = lane.active.saturating_add(rest);
        if now < due {
            return Some(due);
        }
        lane.queue.push_back(EngineCall::new(EngineOperation::Ping, now));
        None
    }

    /// Wakes the tasks of the lanes over which something is to be sent.
    pub fn ring(&mut self) {
        self.lanes.list.iter_mut().filter(|lane| !lane.queue.is_empty()).for_each(EngineLane::ring);
    }

    /// Whether something is to be sent.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.lanes.list.iter().any(|lane| !lane.queue.is_empty())
    }

    /// A connection is there, and the engine is fit. What was accepted meanwhile is told it.
    pub fn connected(&mut self, lane: usize, now: Duration) {
        if let Some(lane) = self.lanes.get(lane) {
            (lane.trouble, lane.stalled, lane.active, lane.heard) = (None, false, now, now);
        }
        self.catch_up(now);
    }

    /// Tells what the engine has not been told yet, where it can be told now.
    pub(super) fn catch_up(&mut self, now: Duration) {
        for at in 0..self.leases.len() {
            let Some(Some(lease)) = self.leases.get(at) else { continue };
            let id = LeaseId(u32::try_from(at).unwrap_or(u32::MAX));
            match lease.owner {
                _ if lease.asked => {}
                LeaseOwner::Accepted(since) if now >= since.saturating_add(lease.terms.window) => self.forget(id),
                LeaseOwner::Accepted(_) => self.ask(EngineOperation::Commit, id),
                LeaseOwner::Released => self.ask(EngineOperation::Release, id),
                LeaseOwner::Waiting | LeaseOwner::Held => {}
            }
        }
    }

    /// There is no connection. Gives what failed for it.
    pub fn lost(&mut self, lane: usize, trouble: EngineTrouble) -> Unanswered {
        let mut failed = Unanswered::default();
        let Some(it) = self.lanes.get(lane) else { return failed };
        (it.trouble, it.stalled) = (Some(trouble), false);
        let sent = std::mem::take(&mut it.sent).into_iter().map(|call| (call, true));
        let queued = std::mem::take(&mut it.queue).into_iter().map(|call| (call, false));
        let later = std::mem::take(&mut it.later).into_iter().map(|(_, call)| (call, false));
        for (call, was_sent) in sent.chain(queued).chain(later).collect::<Vec<_>>() {
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
            LeaseOwner::Accepted(_) => self.ask(EngineOperation::Commit, id),
            LeaseOwner::Released if answer == EngineAnswer::Yours => {
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
        self.ask_since(operation, id, Duration::ZERO);
    }

    /// Asks over the lane of the lease, unless that is in trouble: then it is asked when it is not any more.
    fn ask_since(&mut self, operation: EngineOperation, id: LeaseId, since: Duration) {
        let Some(slot) = self.lease(id).map(|lease| lease.slot) else { return };
        let lane = self.lanes.of(slot).ok().and_then(|at| self.lanes.get(at));
        let Some(lane) = lane.filter(|lane| lane.trouble.is_none()) else { return };
        lane.queue.push_back(EngineCall { lease: Some(id), ..EngineCall::new(operation, since) });
        self.lease(id).into_iter().for_each(|lease| lease.asked = true);
    }

    fn slot(&self, names: &EngineNames) -> u16 {
        if self.lanes.is_cluster() { names.slot() } else { 0 }
    }

    fn add(&mut self, names: EngineNames, terms: LeaseTerms, owner: LeaseOwner) -> Option<LeaseId> {
        self.next += 1;
        let lease = Lease {
            slot: self.slot(&names),
            names,
            number: self.next,
            terms,
            owner,
            asked: false,
            answer: None,
            in_doubt: false,
            waker: None,
        };
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
