//! What the book of a worker consists of: claims, what was asked about them, and what became of that.

use core::task::Waker;
use core::time::Duration;

use super::answer::{EngineAnswer, EngineResult};
use super::key::EngineNames;
use super::script::EngineOperation;
use super::tokens::TokenAsk;

/// A claim that was written to the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseId(pub(super) u32);

/// For how long a delivery is claimed, and remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// What ends a claim whose process is gone.
    pub lease: Duration,
    /// From its acceptance on.
    pub window: Duration,
}

/// Who has a claim in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaseOwner {
    /// An exchange that waits for the answer.
    Waiting,
    /// An exchange.
    Held,
    /// Nothing: its delivery was accepted at this moment.
    Accepted(Duration),
    /// Nothing: it is to be given back.
    Released,
}

/// A claim, and what is known of it.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) names: EngineNames,
    /// Where its names are in a cluster.
    pub(super) slot: u16,
    pub(super) number: u64,
    pub(super) terms: LeaseTerms,
    pub(super) owner: LeaseOwner,
    /// An operation about it is in the queue, or was sent and has not been answered.
    pub(super) asked: bool,
    /// What the engine has said of the claim.
    pub(super) answer: Option<EngineAnswer>,
    /// The claim was sent, and the connection ended before the answer: the engine may have it.
    pub(super) in_doubt: bool,
    pub(super) waker: Option<Waker>,
}

impl Lease {
    /// For how long the delivery is claimed, or what is left of the time for which it is remembered.
    pub(super) fn time(&self, operation: EngineOperation, now: Duration) -> Duration {
        match (operation, self.owner) {
            (EngineOperation::Commit, LeaseOwner::Accepted(since)) => {
                self.terms.window.saturating_sub(now.saturating_sub(since))
            }
            _ => self.terms.lease,
        }
    }
}

/// An operation that is to be sent, or was.
#[derive(Clone, Copy, Debug)]
pub(super) struct EngineCall {
    pub(super) operation: EngineOperation,
    pub(super) lease: Option<LeaseId>,
    pub(super) tokens: Option<TokenAsk>,
    pub(super) since: Duration,
    pub(super) with_text: bool,
    /// Its exchange does not wait for it any more.
    pub(super) late: bool,
    /// The node of a cluster is told first that another one has sent us.
    pub(super) asking: bool,
    /// How often it was sent elsewhere, or put off.
    pub(super) tries: u8,
}

impl EngineCall {
    /// A call that is to be sent.
    pub(super) const fn new(operation: EngineOperation, since: Duration) -> Self {
        Self { operation, lease: None, tokens: None, since, with_text: false, late: false, asking: false, tries: 0 }
    }

    /// Whether exchanges wait for the answer.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.operation, EngineOperation::Claim | EngineOperation::Take)
    }
}

/// An operation that has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerEvent {
    /// What was asked.
    pub operation: EngineOperation,
    /// How it has ended.
    pub result: EngineResult,
    /// How long that took.
    pub took: Duration,
}

/// How long an exchange has waited for a token.
#[derive(Clone, Copy, Debug)]
pub struct TokenWait {
    /// Since then.
    pub since: Duration,
    /// The time.
    pub now: Duration,
}

/// What was not answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    /// Claims that an exchange waited for.
    pub claims: u64,
    /// Requests for tokens.
    pub tokens: u64,
}
