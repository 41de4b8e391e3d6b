//! By which keys deliveries are named.
//!
//! Where neither an id nor the bytes alone identify a delivery, the tag of its content does, and a tag needs a key. Which
//! keys of a route count changes with time and with each configuration, and a delivery must have the same name after such
//! a change. So a ledger chooses one key to name by: the first key of the route that counts. It keeps that key until a
//! configuration comes that does not have it, or in which its time has ended. Then another key takes its place, and the
//! former one goes on naming as long as an entry that only it can find may live. Each delivery bears its name under every
//! naming key ([`super::Names`]). Two copies of one delivery share a name, because the set of naming keys at any moment
//! has a key in common with the set at any other moment within the lifetime of an entry.
//!
//! # Why not under every key of the route
//! A second key on a route would cost another pass over each body, for as long as it is there: 0.4 µs at 256 B, but
//! 4.4 µs at 8 KiB and 0.7 ms at 1 MiB. In one process it would find nothing more: the naming key is the same for all
//! workers. Where several processes share their claims, a delivery is named under every key of its route
//! ([`NamingKeys::with_every`]): they may have different configurations while a key is exchanged.
//!
//! # Names that outlive the process
//! A process that starts with another configuration than the one before has no former naming keys. So the deliveries of a
//! durable route, whose names are stored, also bear their name under the key that comes next on the route
//! ([`NamingKeys::with_next`]): when the first key is removed while the process is not running, the next one finds them.
//!
//! A naming key never verifies anything. A secret that has been removed from a configuration stays in memory as one, no
//! longer than a delivery is remembered.

use core::time::Duration;

use crate::gate::verify::Key;
use crate::now::Now;

/// Former naming keys that are kept. Each costs a hash of every delivery while it is there. When more keys than this are
/// removed within the time for which deliveries are remembered, the one that was exchanged first is dropped.
pub const FORMER: usize = 8;

/// The keys under which deliveries are named.
#[derive(Clone, Debug, Default)]
pub struct NamingKeys {
    /// How often the current key has been exchanged.
    generation: u64,
    current: Option<Key>,
    /// At most [`FORMER`], the one that was exchanged first in front.
    former: Vec<Former>,
}

/// A key under which a delivery may be remembered still.
#[derive(Clone, Debug)]
struct Former {
    key: Key,
    /// The last moment at which something may have been remembered under it alone, when that is known.
    last: Option<Duration>,
    /// It is a key of the route that names for others: the next one where names are stored, and any where they are shared.
    /// It names as long as it is that.
    next: bool,
}

impl Former {
    const fn new(key: Key) -> Self {
        Self { key, last: None, next: false }
    }
}

impl NamingKeys {
    /// Bytes of the naming keys of a ledger, with those that take their place while they do.
    pub const MEMORY: usize = 2 * (size_of::<Self>() + FORMER * size_of::<Former>());

    /// How often the current key has been exchanged.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The naming keys when these are the keys of the route from `now` on. `None` if that changes nothing.
    #[must_use]
    pub fn with_ring(&self, ring: &[Key], now: Now) -> Option<Self> {
        let able = || ring.iter().filter(|key| key.makes_tags());
        let counting = able().find(|key| key.validity().contains(now));
        let Some(current) = &self.current else {
            let first = counting.or_else(|| able().next())?;
            return Some(Self { current: Some(first.clone()), ..self.clone() });
        };
        let same = || able().filter(|key| key.is_same(current));
        if same().any(|key| !key.validity().has_ended(now)) {
            return None;
        }
        // For the sake of one that has ended each delivery would be hashed once more.
        let next = if same().next().is_some() { counting? } else { counting.or_else(|| able().next())? };
        let mut former = Vec::with_capacity(FORMER);
        // What had been removed and is there again is as good as ever.
        former.extend(self.former.iter().filter(|former| !former.key.is_same(next)).cloned());
        if former.len() == FORMER {
            former.remove(0);
        }
        former.push(Former::new(current.clone()));
        Some(Self { generation: self.generation + 1, current: Some(next.clone()), former })
    }

    /// The naming keys with all that make tags among the keys of the route: what an earlier process has accepted may be
    /// named under any of them. `None` if that changes nothing.
    #[must_use]
    pub fn with_all(&self, ring: &[Key]) -> Option<Self> {
        let current = self.current.as_ref()?;
        let mut all = self.clone();
        for key in ring.iter().filter(|key| key.makes_tags() && !key.is_same(current)) {
            if all.former.len() < FORMER && !all.former.iter().any(|former| former.key.is_same(key)) {
                all.former.push(Former::new(key.clone()));
            }
        }
        (all.former.len() > self.former.len()).then_some(all)
    }

    /// The naming keys of a route whose names are stored: the key that comes next on the route names, too, for as long as
    /// it does. `None` if that changes nothing.
    #[must_use]
    pub fn with_next(&self, ring: &[Key]) -> Option<Self> {
        let current = self.current.as_ref()?;
        let next = ring.iter().find(|key| key.makes_tags() && !key.is_same(current));
        let is_next = |former: &Former| next.is_some_and(|next| former.key.is_same(next));
        let is_known = self.former.iter().any(is_next);
        let adds = next.filter(|_| !is_known && self.former.len() < FORMER);
        if adds.is_none() && self.former.iter().all(|former| former.next == is_next(former)) {
            return None;
        }
        let mut with = self.clone();
        with.former.extend(adds.cloned().map(Former::new));
        for former in &mut with.former {
            former.next = is_next(former);
            former.last = former.last.filter(|_| !former.next);
        }
        Some(with)
    }

    /// The naming keys of a route whose names are shared with other processes: all its keys name, for as long as they are
    /// there, up to [`FORMER`] besides the current one. `None` if that changes nothing.
    #[must_use]
    pub fn with_every(&self, ring: &[Key]) -> Option<Self> {
        let current = self.current.as_ref()?;
        let others = || ring.iter().filter(|key| key.makes_tags() && !key.is_same(current));
        let is_there = |former: &Former| others().any(|key| former.key.is_same(key));
        let is_known = |key: &&Key| self.former.iter().any(|former| former.key.is_same(key));
        let room = FORMER.saturating_sub(self.former.len());
        let added: Vec<Former> = others().filter(|key| !is_known(key)).take(room).cloned().map(Former::new).collect();
        if added.is_empty() && self.former.iter().all(|former| former.next == is_there(former)) {
            return None;
        }
        let mut with = self.clone();
        with.former.extend(added);
        for former in &mut with.former {
            former.next = is_there(former);
            former.last = former.last.filter(|_| !former.next);
        }
        Some(with)
    }

    /// The same naming keys, the current one as it stands in this ring: it is then recognised without a comparison of
    /// secrets. `None` if that changes nothing.
    #[must_use]
    pub fn refreshed(&self, ring: &[Key]) -> Option<Self> {
        let current = self.current.as_ref()?;
        let own = ring.iter().find(|key| key.is_same(current))?;
        (!own.is_copy_of(current)).then(|| Self { current: Some(own.clone()), ..self.clone() })
    }

    /// The naming keys without those under which nothing is remembered any more, where everything is forgotten after
    /// `lifetime` and nothing can be remembered under a former one alone any more at `now`. `None` if that changes
    /// nothing.
    #[must_use]
    pub fn without_expired(&self, lifetime: Duration, now: Duration) -> Option<Self> {
        let settled = self.former.iter().all(|former| former.next || former.last.is_some());
        let expired = |former: &Former| former.last.is_some_and(|last| now >= last.saturating_add(lifetime));
        if settled && !self.former.iter().any(expired) {
            return None;
        }
        let mut left = self.clone();
        left.former.retain(|former| !expired(former));
        left.former.iter_mut().filter(|former| !former.next).for_each(|former| _ = former.last.get_or_insert(now));
        Some(left)
    }

    /// The naming keys when something is claimed under a former one alone; `None` if that changes nothing.
    #[must_use]
    pub fn in_use(&self) -> Option<Self> {
        self.former.iter().any(|former| former.last.is_some()).then(|| {
            let mut left = self.clone();
            left.former.iter_mut().for_each(|former| former.last = None);
            left
        })
    }

    /// Whether there are former ones.
    #[must_use]
    pub const fn has_former(&self) -> bool {
        !self.former.is_empty()
    }

    /// The key that names deliveries; `None` where no key of the route makes tags.
    #[must_use]
    pub const fn current(&self) -> Option<&Key> {
        self.current.as_ref()
    }

    /// The keys that did so before.
    pub fn former(&self) -> impl Iterator<Item = &Key> {
        self.former.iter().map(|former| &former.key)
    }
}
