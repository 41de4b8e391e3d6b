//! What the tasks of a worker do with its book where the engine is a cluster.

use core::net::SocketAddr;
use core::task::{Poll, Waker};
use core::time::Duration;
use std::sync::Arc;

use super::book::LeaseBook;
use super::homes::ClusterErrand;
use super::slots::SlotMap;
use super::trouble::EngineTrouble;

impl LeaseBook {
    /// What is to be done next; where that is nothing, `waker` is woken when it is something.
    pub fn errand(&mut self, waker: &Waker) -> Poll<ClusterErrand> {
        self.lanes.errand(waker)
    }

    /// Another map counts from now on; or there is none, for this reason. What could not be told before is told where it belongs
    /// now.
    pub fn adopt_map(&mut self, map: Result<Arc<SlotMap>, EngineTrouble>, now: Duration) {
        self.lanes.adopt(map);
        self.catch_up(now);
        self.ring();
    }

    /// The map may be old: a node is away, or says so.
    pub fn want_map(&mut self) {
        self.lanes.want_map();
    }

    /// The lane to a node, whose connection is kept from now on; nothing where it is kept already.
    pub fn begin_lane(&mut self, node: SocketAddr) -> Option<usize> {
        let at = self.lanes.to(node).ok()?;
        let lane = self.lanes.get(at).filter(|lane| !lane.is_kept)?;
        lane.is_kept = true;
        Some(at)
    }

    /// Gives up a lane whose node has no slots any more, and over which nothing is asked. Gives whether it is given up.
    pub fn end_lane(&mut self, lane: usize) -> bool {
        let idle = self.lanes.is_idle(lane);
        if idle && let Some(lane) = self.lanes.get(lane) {
            (lane.is_kept, lane.trouble, lane.stalled) = (false, None, false);
        }
        idle
    }

    /// Whether the bell of a lane was rung since it was asked last. If not, this task is woken when it is.
    pub fn was_rung(&mut self, lane: usize, waker: &Waker) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.was_rung(waker))
    }
}
