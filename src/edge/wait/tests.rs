//! Turns, with looks that are done and time that passes when a test says so.

use super::round_size::LARGEST_ROUND;
use super::turns::{AGED, LARGE, Round, TurnQueue, TurnSlot};
use crate::gate::conduct::Ended;
use crate::gate::keyed_buckets::ClientKey;
use crate::outcome::{Outcome, Rejection};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const FORGED: Rejection = Rejection::SignatureMismatch;

fn ended(outcome: impl Into<Outcome>, over_budget: bool) -> Ended {
    let outcome = outcome.into();
    let genuine = matches!(outcome, Outcome::Forwarded { .. });
    Ended { outcome, client: Some(ClientKey::of(None)), genuine, over_budget, shared: false }
}

/// A worker whose looks are done, and whose time passes, when a test says so.
#[derive(Default)]
struct World {
    looked: RefCell<Option<io::Result<()>>>,
    now: Cell<Duration>,
    percent: Cell<u32>,
}

impl Round for Rc<World> {
    fn now(&self) -> Duration {
        self.now.get()
    }
    fn percent(&self) -> u32 {
        self.percent.get()
    }
    fn look(&self) -> impl Future<Output = io::Result<()>> {
        poll_fn(|_| self.looked.take().map_or(Poll::Pending, Poll::Ready))
    }
    fn rest(&self, until: Duration) -> impl Future<Output = ()> {
        poll_fn(move |_| if self.now.get() >= until { Poll::Ready(()) } else { Poll::Pending })
    }
}

/// A loop whose looks are done when a test says so.
struct Loop {
    turns: Rc<TurnQueue>,
    world: Rc<World>,
    task: Pin<Box<dyn Future<Output = ()>>>,
}

impl Loop {
    fn new() -> Self {
        let (turns, world) = (Rc::new(TurnQueue::default()), Rc::new(World::default()));
        world.percent.set(100);
        let (all, of) = (Rc::clone(&turns), Rc::clone(&world));
        let task = async move { all.run(&of).await };
        let mut queue = Self { turns, world, task: Box::pin(task) };
        assert!(!poll(queue.task.as_mut()));
        queue
    }

    /// A look is done, or fails; whether the loop goes on.
    fn look(&mut self, result: io::Result<()>) -> bool {
        assert!(!poll(self.task.as_mut()), "it has not looked yet");
        self.world.looked.replace(Some(result));
        !poll(self.task.as_mut())
    }

    /// A round of so many microseconds.
    fn round(&mut self, micros: u64) {
        self.pass(micros);
        assert!(self.look(Ok(())));
    }

    fn pass(&self, micros: u64) {
        self.world.now.set(self.world.now.get() + Duration::from_micros(micros));
    }

    fn new_slots(&self, count: usize) -> Vec<TurnSlot> {
        (0..count).map(|_| TurnSlot::new(&self.turns)).collect()
    }

    /// Slots of connections that were refused so often, within the budget or over it.
    fn refused(&self, count: usize, (times, over_budget): (usize, bool)) -> Vec<TurnSlot> {
        let mut slots = self.new_slots(count);
        slots.iter_mut().for_each(|slot| (0..times).for_each(|_| slot.note(ended(FORGED, over_budget))));
        slots
    }
}

const ONCE: (usize, bool) = (1, false);
const OFTEN: (usize, bool) = (9, true);

type Waits<'a> = Vec<Pin<Box<dyn Future<Output = ()> + 'a>>>;

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn wait(slots: &[TurnSlot], large: bool) -> Waits<'_> {
    slots.iter().map(|slot| Box::pin(slot.take_turn(large)) as _).collect()
}

/// Which of those who wait have been called; those have gone.
fn called(waits: &mut Waits<'_>) -> Vec<bool> {
    let done: Vec<bool> = waits.iter_mut().map(|wait| poll(wait.as_mut())).collect();
    let mut at = done.iter();
    waits.retain(|_| !at.next().copied().unwrap_or_default());
    done
}

fn count(waits: &mut Waits<'_>) -> usize {
    called(waits).iter().filter(|done| **done).count()
}

#[test]
fn between_two_looks_only_a_few_are_served_in_their_order() {
    let mut queue = Loop::new();
    let slots = queue.refused(2 * LARGEST_ROUND + 2, ONCE);
    let mut waits = wait(&slots, false);
    let done = called(&mut waits);
    assert!(done[..LARGEST_ROUND].iter().all(|done| *done) && !done[LARGEST_ROUND..].contains(&true));
    // One that has gone meanwhile takes no turn.
    drop(waits.remove(0));
    assert!(queue.look(Ok(())));
    let done = called(&mut waits);
    assert!(done[..LARGEST_ROUND].iter().all(|done| *done) && !done[LARGEST_ROUND..].contains(&true));
    assert!(queue.look(Ok(())));
    assert_eq!(called(&mut waits), [true]);
    // None waits: what is left of the turns is there for those that come.
    let slots = queue.refused(LARGEST_ROUND, ONCE);
    assert_eq!(count(&mut wait(&slots, false)), LARGEST_ROUND - 1);
}

#[test]
fn pieces_of_large_bodies_take_several_turns() {
    let mut queue = Loop::new();
    let slots = queue.new_slots(LARGEST_ROUND);
    let mut waits = wait(&slots, true);
    assert_eq!(count(&mut waits), LARGEST_ROUND / LARGE);
    assert!(queue.look(Ok(())));
    let done = called(&mut waits);
    assert!(done[..LARGEST_ROUND / LARGE].iter().all(|done| *done) && !done[LARGEST_ROUND / LARGE..].contains(&true));
}

/// 6,400 unfinished bodies that were evicted must not leave as many turns behind that are not used.
#[test]
fn those_who_have_gone_take_no_turns() {
    let mut queue = Loop::new();
    let slots = queue.new_slots(1000);
    let mut waits = wait(&slots, true);
    assert_eq!(count(&mut waits), LARGEST_ROUND / LARGE);
    let mut last = waits.split_off(waits.len() - 1);
    drop(waits);
    assert!(queue.look(Ok(())));
    assert_eq!(called(&mut last), [true]);
    assert_eq!(queue.turns.waiting(), 0);
}

#[test]
fn a_connection_that_was_not_refused_does_not_wait() {
    let queue = Loop::new();
    let slots = queue.refused(LARGEST_ROUND, ONCE);
    let at_once = |slot: &TurnSlot| poll(Box::pin(slot.take_turn(false)).as_mut());
    assert!(slots.iter().all(at_once));
    let mut new = TurnSlot::new(&queue.turns);
    assert!(at_once(&new));
    new.note(ended(FORGED, false));
    assert!(!at_once(&new));
    new.note(ended(Outcome::Forwarded { status: 200 }, false));
    assert!(at_once(&new));
    assert!(!poll(Box::pin(new.take_turn(true)).as_mut()), "what it sends is large");
}

/// A genuine delivery on a fresh connection from the address of a flood waits for one round, however wide that is.
#[test]
fn a_connection_that_was_never_refused_goes_before_those_that_were() {
    let mut queue = Loop::new();
    let (flood, refused) = (queue.refused(1000, OFTEN), queue.refused(1000, ONCE));
    let (mut flood, mut refused) = (wait(&flood, false), wait(&refused, false));
    assert_eq!((count(&mut flood), count(&mut refused)), (0, LARGEST_ROUND));
    let (new, mut proven) = (queue.new_slots(20), queue.new_slots(1));
    proven[0].note(ended(Outcome::Forwarded { status: 204 }, true));
    let mut suspects: Waits<'_> =
        new.iter().map(|slot| Box::pin(slot.take_first_turn(|| ClientKey::of(None))) as _).collect();
    assert_eq!(count(&mut suspects), 0);
    let mut body = wait(&proven, true);
    assert_eq!(count(&mut body), 0);
    queue.round(500);
    // Those who have waited longest, then the proven one, then those that are new.
    let aged = LARGEST_ROUND / AGED;
    assert_eq!((count(&mut flood), count(&mut body)), (aged, 1));
    assert_eq!((count(&mut suspects), count(&mut refused)), (LARGEST_ROUND - aged - LARGE, 0));
    queue.round(500);
    assert_eq!((count(&mut flood), count(&mut suspects)), (aged, 20 - (LARGEST_ROUND - aged - LARGE)));
    assert!(count(&mut refused) > 0);
}

/// First requests are admitted before they are verified, and make others end: no more of them than a round has turns, and of
/// each client the same number.
#[test]
fn first_requests_go_at_once_while_they_are_few_and_clients_take_turns_when_they_are_many() {
    let mut queue = Loop::new();
    let slots = queue.new_slots(20 * LARGEST_ROUND + 1);
    let client = |number: u8| ClientKey::of(Some([192, 0, 2, number].into()));
    let mut flood: Waits<'_> =
        slots.iter().skip(1).map(|slot| Box::pin(slot.take_first_turn(|| client(1))) as _).collect();
    assert_eq!(count(&mut flood), LARGEST_ROUND, "none waits while turns are left");
    let mut one: Waits<'_> =
        slots.iter().take(1).map(|slot| Box::pin(slot.take_first_turn(|| client(2))) as _).collect();
    assert_eq!(count(&mut one), 0);
    queue.round(500);
    assert_eq!((count(&mut one), count(&mut flood)), (1, LARGEST_ROUND - 1));
}

#[test]
fn every_rank_is_served_however_many_better_ones_come() {
    let mut queue = Loop::new();
    let flood = queue.refused(100, OFTEN);
    let mut flood = wait(&flood, false);
    assert_eq!(count(&mut flood), 0);
    for _ in 0..100_usize.div_ceil(LARGEST_ROUND / AGED) {
        let new = queue.new_slots(4 * LARGEST_ROUND);
        let mut suspects: Waits<'_> =
            new.iter().map(|slot| Box::pin(slot.take_first_turn(|| ClientKey::of(None))) as _).collect();
        let _ = count(&mut suspects);
        queue.round(100);
        let _ = count(&mut flood);
    }
    assert!(flood.is_empty(), "{}", flood.len());
}

/// Signatures of some kinds cost a hundred times as much as others. Turns are fewer then, and a piece of a large body, which
/// needs more of them than such a round has, still gets what is left of one.
#[test]
fn while_turns_cost_much_a_round_has_few_and_a_large_body_still_gets_one() {
    let mut queue = Loop::new();
    let slots = queue.refused(1000, ONCE);
    let mut flood = wait(&slots, false);
    assert_eq!(count(&mut flood), LARGEST_ROUND);
    let mut served = LARGEST_ROUND;
    for _ in 0..20 {
        queue.round(served as u64 * 300);
        served = count(&mut flood);
    }
    assert!((4..=8).contains(&served), "{served} turns of 300 us");
    let large = queue.new_slots(1);
    let mut body = wait(&large, true);
    assert_eq!(count(&mut body), 0);
    for _ in 0..4 {
        queue.round(5000);
    }
    assert_eq!(count(&mut body), 1);
    for _ in 0..40 {
        queue.round(100);
    }
    assert!(count(&mut flood) > 0 && flood.is_empty(), "rounds have grown again");
}

/// The share of the time that suspects have had after a second in which they always wait; a whole round of them takes
/// so many microseconds.
fn share_of_suspects(percent: u32, micros: u64, verify: Duration) -> f64 {
    let mut queue = Loop::new();
    queue.world.percent.set(percent);
    let slots = queue.refused(100, OFTEN);
    let (mut waits, mut busy) = (wait(&slots, false), 0);
    let _ = count(&mut waits);
    let mut polled = 0_u32;
    while queue.world.now.get() < Duration::from_secs(1) {
        polled += 1;
        let served = slots.iter().zip(called(&mut waits)).filter(|(_, done)| *done).count();
        if served > 0 {
            let took = micros * served as u64 / LARGEST_ROUND as u64;
            busy += took;
            (0..served).for_each(|_| queue.turns.charge(verify));
            queue.pass(took);
            drop(waits);
            waits = wait(&slots, false);
            let _ = called(&mut waits);
        } else {
            queue.pass(50);
        }
        queue.world.looked.replace(Some(Ok(())));
        let _ = poll(queue.task.as_mut());
    }
    assert!(polled > 10);
    busy as f64 / 1e6
}

#[test]
fn suspects_have_their_share_of_the_time_and_no_more() {
    for percent in [10, 25, 50, 75] {
        let had = share_of_suspects(percent, 400, Duration::ZERO) * 100.0;
        let wanted = f64::from(percent);
        assert!(had < wanted + 3.0 && had > wanted * 0.7, "{had} of {wanted} %");
    }
    assert!(share_of_suspects(100, 400, Duration::ZERO) > 0.9);
}

/// A round of 32 requests with signatures that take 200 microseconds each.
#[test]
fn the_share_of_suspects_counts_what_their_signatures_cost() {
    let had = share_of_suspects(25, 6400, Duration::from_micros(200)) * 100.0;
    assert!(had < 30.0 && had > 17.0, "{had} of 25 %");
}

#[test]
fn new_connections_do_not_wait_for_the_rest_of_suspects() {
    let mut queue = Loop::new();
    queue.world.percent.set(1);
    let flood = queue.refused(1000, OFTEN);
    let mut flood = wait(&flood, false);
    assert_eq!(count(&mut flood), 0);
    queue.round(500);
    assert_eq!(count(&mut flood), LARGEST_ROUND);
    queue.round(500);
    assert_eq!(count(&mut flood), 0, "they rest");
    for _ in 0..10 {
        // What was left of the turns is taken first.
        let new = queue.new_slots(LARGEST_ROUND);
        let mut suspects: Waits<'_> =
            new.iter().map(|slot| Box::pin(slot.take_first_turn(|| ClientKey::of(None))) as _).collect();
        let at_once = count(&mut suspects);
        queue.round(100);
        assert_eq!(count(&mut suspects), LARGEST_ROUND - at_once);
    }
    assert_eq!(count(&mut flood), 0);
    // A look that was not asked for.
    queue.world.looked.take();
    queue.pass(1_000_000);
    queue.round(0);
    assert_eq!(count(&mut flood), LARGEST_ROUND);
}

#[test]
fn without_a_loop_no_connection_waits() {
    let mut queue = Loop::new();
    let slots = queue.refused(3 * LARGEST_ROUND, OFTEN);
    let mut waits = wait(&slots, false);
    assert!(called(&mut waits).contains(&false));
    assert!(!queue.look(Err(io::ErrorKind::Other.into())));
    assert!(!called(&mut waits).contains(&false));
    let slots = queue.refused(3 * LARGEST_ROUND, OFTEN);
    assert!(!called(&mut wait(&slots, false)).contains(&false));
}
