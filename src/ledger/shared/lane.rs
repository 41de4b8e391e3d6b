//! What is asked over one connection of a worker: one to the engine, or one to each node of a cluster in use.

use core::net::SocketAddr;
use core::task::Waker;
use core::time::Duration;
use std::collections::VecDeque;

use super::lease::EngineCall;
use super::trouble::EngineTrouble;

/// A node of a cluster that has a part of the keys of a script is asked again after this time, then after twice that, up to
/// sixteen times.
const AGAIN: Duration = Duration::from_millis(4);

/// What is asked over one connection, and how it stands.
#[derive(Debug)]
pub(super) struct EngineLane {
    /// The node of a cluster; nothing where there is one engine.
    pub(super) node: Option<SocketAddr>,
    /// A task keeps the connection.
    pub(super) is_kept: bool,
    pub(super) queue: VecDeque<EngineCall>,
    pub(super) sent: VecDeque<EngineCall>,
    /// Asked again at these moments.
    pub(super) later: Vec<(Duration, EngineCall)>,
    /// Why the engine is not asked; nothing while it is.
    pub(super) trouble: Option<EngineTrouble>,
    /// A claim was too late, and nothing has come since.
    pub(super) stalled: bool,
    /// When anything was sent or came last.
    pub(super) active: Duration,
    /// When anything came last.
    pub(super) heard: Duration,
    rung: bool,
    bell: Option<Waker>,
}

impl EngineLane {
    pub(super) const fn new(node: Option<SocketAddr>, trouble: Option<EngineTrouble>) -> Self {
        Self {
            node,
            is_kept: false,
            queue: VecDeque::new(),
            sent: VecDeque::new(),
            later: Vec::new(),
            trouble,
            stalled: false,
            active: Duration::ZERO,
            heard: Duration::ZERO,
            rung: false,
            bell: None,
        }
    }

    /// Why the engine is not asked; nothing while it is.
    pub(super) const fn trouble(&self) -> Option<EngineTrouble> {
        if self.stalled { Some(EngineTrouble::Silent) } else { self.trouble }
    }

    /// What waits for an answer.
    pub(super) fn pending(&self) -> usize {
        self.queue.len() + self.sent.len() + self.later.len()
    }

    /// All that has not been answered.
    pub(super) fn calls(&self) -> impl Iterator<Item = &EngineCall> {
        self.sent.iter().chain(&self.queue).chain(self.later.iter().map(|(_, call)| call))
    }

    /// The same, to be changed.
    pub(super) fn calls_mut(&mut self) -> impl Iterator<Item = &mut EngineCall> {
        self.sent.iter_mut().chain(&mut self.queue).chain(self.later.iter_mut().map(|(_, call)| call))
    }

    /// Asks again after a while, which grows.
    pub(super) fn postpone(&mut self, call: EngineCall, now: Duration) {
        let pause = AGAIN * (1 << call.tries.min(4));
        self.later.push((now.saturating_add(pause), EngineCall { tries: call.tries.saturating_add(1), ..call }));
    }

    /// Puts what is due into the queue.
    pub(super) fn resume(&mut self, now: Duration) {
        let mut at = 0;
        while let Some((due, call)) = self.later.get(at).copied() {
            if now >= due {
                self.later.swap_remove(at);
                self.queue.push_back(call);
            } else {
                at += 1;
            }
        }
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Duration> {
        self.later.iter().map(|(due, _)| *due).min()
    }

    /// Something is to be sent: wakes the task of the connection.
    pub(super) fn ring(&mut self) {
        self.rung = true;
        self.bell.take().into_iter().for_each(Waker::wake);
    }

    /// Whether the bell was rung since it was asked last. If not, this task is woken when it is.
    pub(super) fn was_rung(&mut self, waker: &Waker) -> bool {
        let rung = std::mem::take(&mut self.rung);
        if !rung {
            self.bell = Some(waker.clone());
        }
        rung
    }
}
