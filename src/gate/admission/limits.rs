//! The bounds of the process, as they are configured.

use crate::gate::admission::token_bucket::Rate;

/// What becomes of a request of a client whose budget is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverBudget {
    /// It is a suspect: it is verified when its turn comes.
    #[default]
    Queue,
    /// It is refused before it is verified.
    Refuse,
}

impl OverBudget {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Refuse => "refuse",
        }
    }
}

/// The bounds of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Connections at a time.
    pub connections: u64,
    /// Of them, those of one client.
    pub connections_per_client: u32,
    /// Bytes of all bodies that are held at a time.
    pub body_memory: u64,
    /// Exchanges at a time, from the end of the head to the end of the answer.
    pub requests_in_flight: u64,
    /// Requests of one client that are not found genuine. A request takes a token before it is verified and gives it
    /// back when it was genuine.
    pub unverified_per_client: Rate,
    /// Clients for whom connections and tokens are counted one by one.
    pub clients_tracked: usize,
    /// TLS handshakes at a time.
    pub handshakes: u64,
    /// TLS handshakes of one client that bring no genuine delivery. A handshake takes a token before it is made and gives
    /// it back when the client has proven who it is, or has sent a genuine delivery. Without a token it waits behind others.
    pub handshakes_per_client: Rate,
    /// What becomes of a request of a client that has no token left.
    pub over_budget: OverBudget,
    /// The share of requests in flight, of body memory and of a worker's time that such requests may have, in percent.
    pub over_budget_percent: u32,
}

impl AdmissionLimits {
    /// How many requests of clients that are over their budgets may be in flight.
    #[must_use]
    pub fn suspect_requests(&self) -> u64 {
        self.share_of(self.requests_in_flight)
    }

    /// How many bytes of bodies such requests may hold.
    #[must_use]
    pub fn suspect_body_memory(&self) -> u64 {
        self.share_of(self.body_memory)
    }

    fn share_of(&self, amount: u64) -> u64 {
        (amount.saturating_mul(u64::from(self.over_budget_percent)) / 100).max(1)
    }
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_client: 256,
            body_memory: 256 << 20,
            requests_in_flight: 4096,
            unverified_per_client: Rate::per_second(100, 200),
            clients_tracked: 65_536,
            handshakes: 1024,
            handshakes_per_client: Rate::per_second(50, 100),
            over_budget: OverBudget::Queue,
            over_budget_percent: 50,
        }
    }
}
