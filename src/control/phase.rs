//! How far the process is in its life: what a load balancer that asks is to be told.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::admin::desk::Phase;

/// The phase of this process, which one thread sets and others read.
#[derive(Debug)]
pub struct Phases(AtomicU8);

impl Default for Phases {
    fn default() -> Self {
        Self(AtomicU8::new(Phase::Starting as u8))
    }
}

impl Phases {
    /// The present one.
    #[must_use]
    pub fn current(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Whether we want traffic.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.current() == Phase::Ready
    }

    pub(super) fn advance(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_go_one_way() {
        let phases = Phases::default();
        assert_eq!(phases.current(), Phase::Starting);
        for phase in [Phase::Ready, Phase::Draining, Phase::Ready, Phase::Stopping, Phase::Draining] {
            let before = phases.current();
            phases.advance(phase);
            assert_eq!(phases.current(), before.max(phase));
            assert_eq!(phases.is_ready(), phases.current() == Phase::Ready);
        }
    }
}
