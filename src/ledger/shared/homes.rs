//! Which lane of a worker leads to the node that has a slot.

use core::net::SocketAddr;
use core::task::{Poll, Waker};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::lane::EngineLane;
use super::slots::SlotMap;
use super::trouble::EngineTrouble;

/// Nodes of a cluster to which a worker has lanes, at most.
const LANES: usize = 1024;

/// What the tasks of a worker are to do about its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterErrand {
    /// To find out which node has which slots.
    Map,
    /// To keep the connection of this lane, to this node.
    Keep(usize, SocketAddr),
}

/// The lanes of a worker.
#[derive(Debug)]
pub(super) struct EngineLanes {
    pub(super) list: Vec<EngineLane>,
    cluster: Option<ClusterHomes>,
}

/// What a worker knows of its cluster.
#[derive(Debug)]
struct ClusterHomes {
    map: Arc<SlotMap>,
    /// Why there is no map.
    trouble: EngineTrouble,
    /// Slots that have moved since the map was made.
    moved: BTreeMap<u16, SocketAddr>,
    wants_map: bool,
    bell: Option<Waker>,
}

impl EngineLanes {
    /// One lane to one engine.
    pub(super) fn alone() -> Self {
        Self { list: vec![EngineLane::new(None, Some(EngineTrouble::Starting))], cluster: None }
    }

    /// No lane yet: the map of the cluster is not known.
    pub(super) fn of_cluster() -> Self {
        let cluster = ClusterHomes {
            map: Arc::default(),
            trouble: EngineTrouble::Starting,
            moved: BTreeMap::new(),
            wants_map: true,
            bell: None,
        };
        Self { list: Vec::new(), cluster: Some(cluster) }
    }

    pub(super) const fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    pub(super) fn get(&mut self, lane: usize) -> Option<&mut EngineLane> {
        self.list.get_mut(lane)
    }

    /// The lane to the node that has a slot; where a node has none, it gets one.
    pub(super) fn of(&mut self, slot: u16) -> Result<usize, EngineTrouble> {
        let Some(cluster) = &self.cluster else { return Ok(0) };
        let node = cluster.moved.get(&slot).copied().or_else(|| cluster.map.node(slot));
        let nowhere = if cluster.map.nodes().next().is_some() { EngineTrouble::ClusterDown } else { cluster.trouble };
        self.to(node.ok_or(nowhere)?)
    }

    /// The lane to a node.
    pub(super) fn to(&mut self, node: SocketAddr) -> Result<usize, EngineTrouble> {
        if let Some(lane) = self.list.iter().position(|lane| lane.node == Some(node)) {
            if !self.list.get(lane).is_some_and(|lane| lane.is_kept) {
                self.call();
            }
            return Ok(lane);
        }
        if self.list.len() >= LANES {
            return Err(EngineTrouble::Full);
        }
        // What is asked meanwhile waits until the connection is made, as long as anything waits for an answer.
        self.list.push(EngineLane::new(Some(node), None));
        self.call();
        Ok(self.list.len() - 1)
    }

    /// A slot is at another node than the map says.
    pub(super) fn note_moved(&mut self, slot: u16, node: SocketAddr) {
        if let Some(cluster) = &mut self.cluster {
            cluster.moved.insert(slot, node);
        }
        self.want_map();
    }

    /// The map may be old.
    pub(super) fn want_map(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.wants_map = true;
        }
        self.call();
    }

    /// There is another map; or none, for this reason.
    pub(super) fn adopt(&mut self, map: Result<Arc<SlotMap>, EngineTrouble>) {
        let Some(cluster) = &mut self.cluster else { return };
        match map {
            Ok(map) => {
                cluster.map = map;
                cluster.moved.clear();
            }
            Err(trouble) => cluster.trouble = trouble,
        }
    }

    /// Whether a lane leads nowhere any more: its node has no slots.
    pub(super) fn is_idle(&self, lane: usize) -> bool {
        let Some((cluster, lane)) = self.cluster.as_ref().zip(self.list.get(lane)) else { return false };
        let has = |node| cluster.map.nodes().chain(cluster.moved.values().copied()).any(|other| Some(other) == node);
        lane.pending() == 0 && !has(lane.node)
    }

    /// Why not all that is in use can be asked; nothing while all can.
    pub(super) fn trouble(&self) -> Option<EngineTrouble> {
        self.unmapped().or_else(|| self.in_use().find_map(EngineLane::trouble))
    }

    /// The same, but for a lane on which an answer is late.
    pub(super) fn standing(&self) -> Option<EngineTrouble> {
        self.unmapped().or_else(|| self.in_use().find_map(|lane| lane.trouble))
    }

    fn unmapped(&self) -> Option<EngineTrouble> {
        let cluster = self.cluster.as_ref()?;
        cluster.map.nodes().next().is_none().then_some(cluster.trouble)
    }

    fn in_use(&self) -> impl Iterator<Item = &EngineLane> {
        self.list.iter().filter(|lane| lane.is_kept || lane.node.is_none())
    }

    fn call(&mut self) {
        self.cluster.iter_mut().filter_map(|cluster| cluster.bell.take()).for_each(Waker::wake);
    }

    /// What is to be done next.
    pub(super) fn errand(&mut self, waker: &Waker) -> Poll<ClusterErrand> {
        let waiting = |lane: &EngineLane| !lane.is_kept && lane.pending() > 0;
        if let Some(at) = self.list.iter().position(waiting)
            && let Some(lane) = self.list.get_mut(at)
            && let Some(node) = lane.node
        {
            lane.is_kept = true;
            return Poll::Ready(ClusterErrand::Keep(at, node));
        }
        let Some(cluster) = &mut self.cluster else { return Poll::Pending };
        if std::mem::take(&mut cluster.wants_map) {
            return Poll::Ready(ClusterErrand::Map);
        }
        cluster.bell = Some(waker.clone());
        Poll::Pending
    }
}
