//! Which delivery is attempted next, and what its end means: the state machine of the thread that delivers.
//!
//! A route's deliveries wait *by age* (new ones, and those that failed while the breaker says that the application is
//! away: they need no timer, and leave oldest first when it is back) or *by clock* (those that failed while others
//! succeed). Routes take turns. Where a route orders by key, only the oldest delivery of a key waits; the next one does
//! when the settlement of the one before is durable ([`Agenda::committed`]).
//!
//! Every delivery that is admitted leaves by [`Agenda::committed`] or [`Agenda::forget`]. Nothing is attempted twice at a
//! time.

use std::collections::HashMap;

use crate::inbox::backoff::Dice;
use crate::inbox::breaker::Breaker;
use crate::inbox::delivery::{DeliveryId, DeliveryReason, DeliveryState};
use crate::inbox::judgement::{AttemptEnd, Consequence};
use crate::inbox::lane::{LaneTerms, OnDead, OrderKey, RouteLane};
use crate::inbox::row::DeliveryRow;
use crate::inbox::store::{Settled, Settlement};
use crate::now::Now;

/// A delivery that is to be attempted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub id: DeliveryId,
    /// Its route, by position.
    pub route: usize,
    /// Which attempt it is at least, from 1.
    pub attempt: u16,
    /// How often it has been redriven.
    pub redrives: u8,
    /// When it was accepted, in milliseconds since 1970.
    pub accepted: u64,
}

/// What an item does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Footing {
    /// It waits among those by age.
    Aged,
    /// It waits until then.
    Timed(u64),
    /// It waits behind another one of its key.
    Behind,
    /// It is being attempted; `probe` of the breakers of its application and its route.
    Flying { probe: bool, guard_probe: bool },
    /// Its settlement is not durable yet.
    Settling,
    /// It is dead, and its key waits for it.
    Dead,
}

#[derive(Clone, Debug)]
struct AgendaItem {
    route: usize,
    key: OrderKey,
    footing: Footing,
    attempts: u16,
    /// Failures since it is here, those that are no attempts included.
    failures: u32,
    /// Whether the last failure spoke against the application and not against the delivery.
    away: bool,
    /// Since 1970.
    accepted: u64,
    /// Monotonic.
    give_up_at: u64,
    redrives: u8,
}

/// All deliveries that wait.
#[derive(Debug)]
pub struct Agenda {
    lanes: Vec<RouteLane>,
    breakers: Vec<Breaker>,
    items: HashMap<DeliveryId, AgendaItem>,
    /// Attempts under way at each application.
    flying: Vec<u32>,
    /// The route whose turn is next.
    turn: usize,
    dice: Dice,
    /// There is no room for dead letters: what should die is tried again.
    pub dead_letters_full: bool,
}

fn millis(now: Now) -> u64 {
    u64::try_from(now.monotonic.as_millis()).unwrap_or(u64::MAX)
}

fn unix_millis(now: Now) -> u64 {
    u64::try_from(now.unix_millis()).unwrap_or(0)
}

impl Agenda {
    /// An empty agenda for these routes.
    #[must_use]
    pub fn new(routes: Vec<LaneTerms>, seed: u64) -> Self {
        let upstreams = routes.iter().map(|terms| terms.upstream + 1).max().unwrap_or(0);
        Self {
            lanes: routes.into_iter().map(RouteLane::new).collect(),
            breakers: vec![Breaker::default(); upstreams],
            items: HashMap::new(),
            flying: vec![0; upstreams],
            turn: 0,
            dice: Dice::new(seed),
            dead_letters_full: false,
        }
    }

    /// How many deliveries it knows, those under way included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The lane of a route, for what people are shown.
    #[must_use]
    pub fn lane(&self, route: usize) -> Option<&RouteLane> {
        self.lanes.get(route)
    }

    /// The breaker of an application, for what people are shown.
    #[must_use]
    pub fn breaker(&self, upstream: usize) -> Option<&Breaker> {
        self.breakers.get(upstream)
    }

    /// The application is known to be there.
    pub fn hasten(&mut self, upstream: usize, now: Now) {
        if let Some(breaker) = self.breakers.get_mut(upstream) {
            breaker.hasten(millis(now));
        }
    }

    /// Holds a route, or releases it. Attempts under way end by themselves.
    pub fn hold(&mut self, route: usize, held: bool) {
        if let Some(lane) = self.lanes.get_mut(route) {
            lane.held = held;
        }
    }

    /// The route of a delivery, by position.
    #[must_use]
    pub fn route_of(&self, id: DeliveryId) -> Option<usize> {
        self.items.get(&id).map(|item| item.route)
    }

    /// Calls `each` with route and time of acceptance of every delivery that is not dead.
    pub fn each(&self, mut each: impl FnMut(usize, u64)) {
        let living = self.items.values().filter(|item| item.footing != Footing::Dead);
        living.for_each(|item| each(item.route, item.accepted));
    }

    /// Another route. Gives its position.
    pub fn add(&mut self, terms: LaneTerms) -> usize {
        let (at, upstream) = (self.lanes.len(), terms.upstream);
        self.lanes.push(RouteLane::new(terms));
        self.make_room(upstream);
        at
    }

    fn make_room(&mut self, upstream: usize) {
        if self.breakers.len() <= upstream {
            self.breakers.resize_with(upstream + 1, Breaker::default);
            self.flying.resize(upstream + 1, 0);
        }
    }

    /// Other terms of a route, from now on. Attempts that are under way to another application keep it for the moment:
    /// to be called again until [`Self::lane`] has the terms.
    pub fn change(&mut self, route: usize, terms: LaneTerms) {
        let (upstream, holds) = (terms.upstream, terms.on_dead == OnDead::Hold);
        let mut released = false;
        if let Some(lane) = self.lanes.get_mut(route) {
            released = !holds && lane.terms.on_dead == OnDead::Hold;
            // Attempts under way are counted at the application that they were sent to.
            if lane.terms.upstream == upstream || lane.flying == 0 {
                lane.terms = terms;
            } else {
                lane.terms = LaneTerms { upstream: lane.terms.upstream, ..terms };
            }
        }
        self.make_room(upstream);
        if released {
            self.free_keys(route);
        }
    }

    /// Keys of a route do not wait for their dead letters any more.
    fn free_keys(&mut self, route: usize) {
        let is_dead = |(_, item): &(&DeliveryId, &AgendaItem)| item.route == route && item.footing == Footing::Dead;
        let dead: Vec<DeliveryId> = self.items.iter().filter(is_dead).map(|(id, _)| *id).collect();
        dead.into_iter().for_each(|id| self.forget(id));
    }

    /// Takes in a delivery that is stored: a new one, one that was found at the start, or one that was redriven. A
    /// dead one is taken in only where its key has to wait for it. Gives whether it was taken in.
    pub fn admit(&mut self, row: &DeliveryRow, route: usize, now: Now) -> bool {
        let Some(lane) = self.lanes.get_mut(route) else { return false };
        let dead = row.state == DeliveryState::Dead;
        if dead && (lane.terms.on_dead == OnDead::Continue || row.order_key == [0; 16]) {
            return false;
        }
        if row.state == DeliveryState::Damaged || self.items.contains_key(&row.id) {
            return false;
        }
        let (mono, unix) = (millis(now), unix_millis(now));
        // A clock that was set back must not make deliveries wait for longer than the longest delay.
        let wait = row.due.saturating_sub(unix).min(lane.terms.backoff.cap);
        let left = row.begun.saturating_add(lane.terms.give_up_after).saturating_sub(unix);
        let mut item = AgendaItem {
            route,
            key: row.order_key,
            footing: Footing::Behind,
            attempts: row.attempts,
            failures: u32::from(row.attempts),
            away: false,
            accepted: row.accepted,
            give_up_at: mono.saturating_add(left.min(lane.terms.give_up_after)),
            redrives: row.redrives,
        };
        let enqueued = lane.enqueue(&row.order_key, row.id);
        if dead {
            item.footing = Footing::Dead;
        } else if enqueued.first {
            item.footing = if wait == 0 { Footing::Aged } else { Footing::Timed(mono + wait) };
            Self::line_up(lane, row.id, item.footing);
        }
        self.items.insert(row.id, item);
        if let Some(displaced) = enqueued.displaced {
            self.step_back(displaced);
        }
        true
    }

    /// A delivery is not the first of its key any more. One that is being attempted or settled stays what it is.
    fn step_back(&mut self, id: DeliveryId) {
        let Some(item) = self.items.get_mut(&id) else { return };
        if let Some(lane) = self.lanes.get_mut(item.route)
            && matches!(item.footing, Footing::Aged | Footing::Timed(_))
        {
            Self::leave_line(lane, id, item.footing);
            item.footing = Footing::Behind;
        }
    }

    fn line_up(lane: &mut RouteLane, id: DeliveryId, footing: Footing) {
        match footing {
            Footing::Aged => _ = lane.by_age.insert(id),
            Footing::Timed(due) => _ = lane.by_clock.insert((due, id)),
            _ => {}
        }
    }

    fn leave_line(lane: &mut RouteLane, id: DeliveryId, footing: Footing) {
        match footing {
            Footing::Aged => _ = lane.by_age.remove(&id),
            Footing::Timed(due) => _ = lane.by_clock.remove(&(due, id)),
            _ => {}
        }
    }

    /// The next delivery to attempt, if one may be attempted now. It is under way from here on: [`Self::finish`] must
    /// follow.
    pub fn next(&mut self, now: Now) -> Option<Due> {
        let mono = millis(now);
        let (route, id) = self.pick(mono)?;
        let lane = self.lanes.get_mut(route)?;
        let upstream = lane.terms.upstream;
        let item = self.items.get_mut(&id)?;
        Self::leave_line(lane, id, item.footing);
        let probe = self.breakers.get_mut(upstream).is_some_and(Breaker::begin);
        item.footing = Footing::Flying { probe, guard_probe: lane.guard.begin() };
        lane.flying += 1;
        if let Some(flying) = self.flying.get_mut(upstream) {
            *flying += 1;
        }
        self.turn = route + 1;
        let attempt = item.attempts.saturating_add(1);
        Some(Due { id, route, attempt, redrives: item.redrives, accepted: item.accepted })
    }

    /// The first route from the one whose turn it is that has something to attempt. A probe takes the oldest of all
    /// routes of its application, and after a probe that failed the next one in age, so that a delivery that cannot
    /// succeed does not keep an application away for ever.
    fn pick(&self, mono: u64) -> Option<(usize, DeliveryId)> {
        let count = self.lanes.len();
        let mut probes: Option<(usize, DeliveryId)> = None;
        for at in (0..count).map(|offset| (self.turn + offset) % count) {
            let Some(lane) = self.lanes.get(at) else { continue };
            let Some(breaker) = self.breakers.get(lane.terms.upstream) else { continue };
            if !breaker.permits(self.flying.get(lane.terms.upstream).copied().unwrap_or(0), mono) {
                continue;
            }
            let rank = if breaker.probes() { breaker.pauses().saturating_sub(1) as usize } else { 0 };
            let Some(id) = lane.candidate(mono, rank) else { continue };
            if !breaker.probes() {
                return Some((at, id));
            }
            if probes.is_none_or(|(_, oldest)| id < oldest) {
                probes = Some((at, id));
            }
        }
        probes
    }

    /// When [`Self::next`] may give something, if nothing else happens before: milliseconds of the monotonic clock.
    #[must_use]
    pub fn wakes_at(&self) -> Option<u64> {
        let waits = self.lanes.iter().filter_map(|lane| {
            let breaker = self.breakers.get(lane.terms.upstream)?;
            let flying = self.flying.get(lane.terms.upstream).copied().unwrap_or(0);
            let opens = breaker.opens_at().unwrap_or(0);
            breaker.permits(flying, u64::MAX).then(|| lane.wakes_at()).flatten().map(|at| at.max(opens))
        });
        waits.min()
    }

    /// An attempt has ended. Gives what is to be made durable; nothing where nothing is worth writing down: no byte of
    /// the request had left.
    pub fn finish(&mut self, id: DeliveryId, end: AttemptEnd, now: Now) -> Option<Settlement> {
        let mono = millis(now);
        let item = self.items.get_mut(&id)?;
        let Footing::Flying { probe, guard_probe } = item.footing else { return None };
        let lane = self.lanes.get_mut(item.route)?;
        let upstream = lane.terms.upstream;
        lane.flying = lane.flying.saturating_sub(1);
        if let Some(flying) = self.flying.get_mut(upstream) {
            *flying = flying.saturating_sub(1);
        }
        item.attempts = item.attempts.saturating_add(u16::from(end.counts()));
        let breaker = self.breakers.get_mut(upstream)?;
        if end == AttemptEnd::NotSent {
            if probe {
                breaker.abandon(mono);
            }
            if guard_probe {
                lane.guard.abandon(mono);
            }
            item.footing = Footing::Aged;
            Self::line_up(lane, id, item.footing);
            return None;
        }
        let against = end.speaks_against_application();
        let opened = breaker.end(probe, against, mono, &mut self.dice);
        let away = breaker.probes();
        if let Some(quiet) = end.quiet() {
            lane.quiet_until = lane.quiet_until.max(mono.saturating_add(quiet.min(lane.terms.give_up_after)));
        }
        let fate = Self::upshot(lane, item, end, mono);
        let spared = fate == Upshot::Spared;
        if spared || (guard_probe && fate != Upshot::Done) {
            lane.guard.open(mono, &mut self.dice);
        } else if guard_probe {
            lane.guard.end(true, false, mono, &mut self.dice);
        }
        let dead = match fate {
            Upshot::Dead(reason) if !self.dead_letters_full => Some(reason),
            _ => None,
        };
        if fate == Upshot::Done || dead.is_some() {
            item.footing = Footing::Settling;
            if opened {
                self.bring_forward(upstream);
            }
            let settled = dead.map_or(Settled::Done, |reason| Settled::Dead { reason });
            return self.settlement(id, end, settled);
        }
        item.failures = item.failures.saturating_add(1);
        item.away = against;
        let kept = matches!(fate, Upshot::Dead(_));
        let delay = if kept { lane.terms.backoff.cap } else { lane.terms.backoff.delay(item.failures, &mut self.dice) };
        let wait = delay.max(end.retry_after().unwrap_or(0)).min(lane.terms.give_up_after.max(delay));
        item.footing = if against && away && !kept { Footing::Aged } else { Footing::Timed(mono.saturating_add(wait)) };
        Self::line_up(lane, id, item.footing);
        if opened {
            self.bring_forward(upstream);
        }
        let due = unix_millis(now).saturating_add(wait);
        if end.counts() { self.settlement(id, end, Settled::Again { due }) } else { None }
    }

    fn settlement(&self, id: DeliveryId, end: AttemptEnd, settled: Settled) -> Option<Settlement> {
        let item = self.items.get(&id)?;
        Some(Settlement {
            id,
            redrives: item.redrives,
            attempts: item.attempts,
            status: end.status(),
            reason: end.reason(),
            settled,
            awaited: item.key != [0; 16],
        })
    }

    /// What the end of an attempt means, with the bounds of the route.
    fn upshot(lane: &mut RouteLane, item: &AgendaItem, end: AttemptEnd, mono: u64) -> Upshot {
        let judgement = end.judge(&lane.terms.dead_on);
        lane.refusals.note(judgement == Consequence::Dead);
        match judgement {
            Consequence::Done => Upshot::Done,
            _ if mono >= item.give_up_at => Upshot::Dead(DeliveryReason::GaveUpAge),
            _ if lane.terms.attempts > 0 && item.attempts >= lane.terms.attempts && end.counts() => {
                Upshot::Dead(DeliveryReason::GaveUpAttempts)
            }
            // It refuses everything: that is a broken application and not a broken delivery.
            Consequence::Dead if lane.refusals.most_are_marked() => Upshot::Spared,
            Consequence::Dead => Upshot::Dead(DeliveryReason::RefusedByApplication),
            Consequence::Again => Upshot::Again,
        }
    }

    /// The breaker has opened: what failed before, because the application was away already, is not made to wait for
    /// longer than the outage.
    fn bring_forward(&mut self, upstream: usize) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.terms.upstream == upstream) {
            let items = &mut self.items;
            let (by_age, by_clock) = (&mut lane.by_age, &mut lane.by_clock);
            by_clock.retain(|(_, id)| {
                let Some(item) = items.get_mut(id).filter(|item| item.away) else { return true };
                item.footing = Footing::Aged;
                by_age.insert(*id);
                false
            });
        }
    }

    /// A settlement is durable. A delivery that is done leaves; of its key the next one follows.
    pub fn committed(&mut self, settlement: &Settlement) {
        let id = settlement.id;
        let Some(item) = self.items.get_mut(&id) else { return };
        if item.footing != Footing::Settling {
            return;
        }
        let holds = self.lanes.get(item.route).is_some_and(|lane| lane.terms.on_dead == OnDead::Hold);
        if matches!(settlement.settled, Settled::Dead { .. }) && holds && item.key != [0; 16] {
            item.footing = Footing::Dead;
            return;
        }
        self.forget(id);
    }

    /// The store had no room for a dead letter: the delivery waits on.
    pub fn keep(&mut self, id: DeliveryId, now: Now) {
        let Some(item) = self.items.get_mut(&id) else { return };
        let Some(lane) = self.lanes.get_mut(item.route) else { return };
        if item.footing == Footing::Settling {
            item.footing = Footing::Timed(millis(now).saturating_add(lane.terms.backoff.cap));
            Self::line_up(lane, id, item.footing);
        }
    }

    /// A delivery is not there any more: it is done, or was purged. One that is being attempted ends unheard.
    pub fn forget(&mut self, id: DeliveryId) {
        let Some(item) = self.items.remove(&id) else { return };
        let Some(lane) = self.lanes.get_mut(item.route) else { return };
        Self::leave_line(lane, id, item.footing);
        if let Footing::Flying { probe, guard_probe } = item.footing {
            lane.flying = lane.flying.saturating_sub(1);
            if let Some(flying) = self.flying.get_mut(lane.terms.upstream) {
                *flying = flying.saturating_sub(1);
            }
            if guard_probe {
                lane.guard.abandon(0);
            }
            if let Some(breaker) = self.breakers.get_mut(lane.terms.upstream).filter(|_| probe) {
                breaker.abandon(0);
            }
        }
        if let Some(next) = lane.dequeue(&item.key, id)
            && let Some(item) = self.items.get_mut(&next)
            && item.footing == Footing::Behind
        {
            item.footing = Footing::Aged;
            Self::line_up(lane, next, item.footing);
        }
    }
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upshot {
    Done,
    Again,
    Dead(DeliveryReason),
    /// It would be dead, if the application did not refuse everything.
    Spared,
}
