//! What the admin port asks of the rest of the process.

use std::sync::Arc;

use crate::inbox::operation::{InboxOperation, InboxReport};
use crate::now::Now;
use crate::telemetry::capture::Captured;
use crate::telemetry::health::HealthReading;
use crate::telemetry::readings::Readings;

use super::inbox::InboxForm;
use super::pairing::PairingWish;
use super::request::AdminCaller;

/// Where the process is in its life. It never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Not every worker accepts yet.
    #[default]
    Starting,
    /// Every worker accepts.
    Ready,
    /// About to end: deliveries that come are still served, so that senders and load balancers can go elsewhere first.
    Draining,
    /// Told to stop: what is in flight is finished.
    Stopping,
}

impl Phase {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

/// Whether traffic is wanted: every worker accepts, and the applications that `/ready` asks for can be reached.
pub(super) fn is_ready(phase: Phase, health: &[HealthReading]) -> bool {
    phase == Phase::Ready && health.iter().all(|it| it.good)
}

/// What came of something that was asked for, in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// It has been done.
    Done(String),
    /// It has been tried and did not work; all is as it was.
    Failed(String),
}

/// What is asked of the stored deliveries, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct InboxWish<'a> {
    /// What.
    pub operation: &'a InboxOperation,
    /// How it is answered.
    pub form: InboxForm,
    /// By whom.
    pub caller: AdminCaller,
}

/// The rest of the process, as the admin port sees it. All but what gives an [`Errand`] must return at once.
pub trait Desk: Send + Sync {
    /// Reads the clocks: those by which workers beat.
    fn now(&self) -> Now;
    /// Where the process is in its life.
    fn phase(&self) -> Phase;
    /// The applications that `/ready` asks for; none unless that is configured.
    fn health(&self) -> Vec<HealthReading> {
        Vec::new()
    }
    /// The live state.
    fn readings(&self) -> Readings;
    /// The refused requests that are kept, the youngest first; nothing where none are to be.
    fn captured(&self) -> Option<Vec<Arc<Captured>>> {
        None
    }
    /// Why the request with this id, which is kept, was refused: a line for each thing that was found. Like
    /// [`Self::reload`].
    fn explain(&self, _request_id: &[u8; 32]) -> Errand {
        Errand::Failed("no request is kept".to_owned())
    }
    /// Reads the configuration again. May take its time: it is called on a thread of its own.
    fn reload(&self) -> Errand;
    /// Opens or closes the pairing window of a route. Like [`Self::reload`].
    fn pair(&self, _wish: &PairingWish) -> Errand {
        Errand::Failed("this process takes no secret".to_owned())
    }
    /// Carries out an operation on the stored deliveries. Nothing where none are stored. Like [`Self::reload`].
    ///
    /// # Errors
    /// A sentence for the operator.
    fn inbox(&self, _wish: &InboxWish<'_>) -> Option<Result<InboxReport, String>> {
        None
    }
    /// Ends the process in the order that load balancers need; `/ready` says no when this returns, and the port
    /// answers until the end. Like [`Self::reload`].
    fn drain(&self) -> Errand;
}
