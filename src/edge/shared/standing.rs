//! How the workers of a process stand with the shared engine.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::ledger::shared::EngineTrouble;

/// All workers have a connection.
const UP: u8 = u8::MAX;

/// What each worker says of its connection.
#[derive(Debug)]
pub struct EngineStanding {
    workers: Box<[AtomicU8]>,
    /// What was told last.
    told: AtomicU8,
    server: Mutex<String>,
}

impl EngineStanding {
    /// No worker has tried yet.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let starting = || AtomicU8::new(EngineTrouble::Starting as u8);
        Self { workers: (0..workers).map(|_| starting()).collect(), told: starting(), server: Mutex::default() }
    }

    /// Why a worker cannot ask the engine; nothing while all can.
    #[must_use]
    pub fn trouble(&self) -> Option<EngineTrouble> {
        self.workers.iter().find_map(|worker| trouble(worker.load(Ordering::Relaxed)))
    }

    /// Workers that can ask it.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.workers.iter().filter(|worker| worker.load(Ordering::Relaxed) == UP).count()
    }

    /// Workers.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Name and version of the server that was reached last; empty before.
    #[must_use]
    pub fn server(&self) -> String {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A worker has a connection to this server.
    pub(super) fn note_server(&self, name: &str) {
        name.clone_into(&mut self.server.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A worker has a connection, or none for this reason. Gives whether the process as a whole stands otherwise than
    /// before.
    pub(super) fn set(&self, worker: usize, stands: Option<EngineTrouble>) -> bool {
        if let Some(place) = self.workers.get(worker) {
            place.store(stands.map_or(UP, |trouble| trouble as u8), Ordering::Relaxed);
        }
        let now = self.trouble().map_or(UP, |trouble| trouble as u8);
        self.told.swap(now, Ordering::Relaxed) != now
    }
}

fn trouble(code: u8) -> Option<EngineTrouble> {
    EngineTrouble::ALL.get(usize::from(code)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_stands_as_its_worst_worker_and_a_change_is_told_once() {
        let standing = EngineStanding::new(2);
        assert_eq!((standing.trouble(), standing.connected()), (Some(EngineTrouble::Starting), 0));
        assert!(!standing.set(0, None), "the other has not tried yet");
        assert!(standing.set(1, Some(EngineTrouble::Evicts)));
        assert!(!standing.set(1, Some(EngineTrouble::Evicts)));
        assert!(standing.set(1, None));
        assert_eq!((standing.trouble(), standing.connected()), (None, 2));
        for trouble in EngineTrouble::ALL {
            standing.set(0, Some(*trouble));
            assert_eq!(standing.trouble(), Some(*trouble));
        }
    }
}
