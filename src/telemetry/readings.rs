//! The live state of the process, which is read when it is asked for, not counted. The owner of the state fills this
//! in; metrics and status page are made of it.

use core::time::Duration;

use super::deliveries::DeliveryReading;
use super::health::HealthReading;

/// The state of the process at one moment.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// What is held of the bounds of the process.
    pub connections: Usage,
    /// Exchanges in flight.
    pub requests: Usage,
    /// Bytes of bodies.
    pub body_memory: Usage,
    /// TLS handshakes that are being made.
    pub handshakes: Usage,
    /// Of them, those of clients over their rate that wait for their turn.
    pub handshakes_over_rate: Usage,
    /// Exchanges of clients that are over their budgets, and not proven genuine.
    pub suspects: Usage,
    /// Bytes of their bodies.
    pub suspect_memory: Usage,
    /// What each worker runs on.
    pub drivers: Vec<&'static str>,
    /// Why not all of them run on what was wanted.
    pub fallback: Option<String>,
    /// CPU time of each worker.
    pub worker_cpu: Vec<Duration>,
    /// What routes remember.
    pub replay: Vec<ReplayReading>,
    /// The keys of all routes.
    pub keys: Vec<KeyReading>,
    /// Lines of the process's log that were left out.
    pub log_dropped: u64,
    /// What access log and audit trail lack.
    pub records: RecordsReading,
    /// Which configuration is in force; 0 before there is one.
    pub generation: u64,
    /// The publishers of keys.
    pub publishers: Vec<PublisherReading>,
    /// The networks of senders that routes allow.
    pub ranges: Vec<RangeReading>,
    /// What became of reloads; nothing in a process that cannot reload.
    pub reload: Option<ReloadReading>,
    /// The applications that `/ready` asks for.
    pub health: Vec<HealthReading>,
    /// The certificates that listeners show.
    pub certificates: Vec<CertificateReading>,
    /// The authorities whose certificates clients may show.
    pub authorities: Vec<AuthorityReading>,
    /// What is stored to be delivered later; nothing where there is no inbox.
    pub inbox: Option<InboxReading>,
    /// The engine in which claims are shared; nothing where this process judges alone.
    pub shared: Option<SharedReading>,
    /// The system's view of the process.
    pub vitals: Vitals,
    /// Which process it is.
    pub identity: ProcessIdentity,
}

/// Which process it is, to tell replicas apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// The name of the host; in a pod without the host's network, that of the pod.
    pub host: Option<String>,
    /// The name of the pod, where the environment has it (`POD_NAME`).
    pub pod: Option<String>,
    /// Where the configuration stands.
    pub configuration: String,
    /// How many refused requests are kept; 0 where none are.
    pub captures: usize,
}

/// The state of the inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboxReading {
    /// Whether deliveries can be stored: `open`, `starting` or `unavailable`.
    pub state: &'static str,
    /// Deliveries that wait.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Deliveries that are not what was written.
    pub damaged: u64,
    /// Deliveries that are encrypted with a key that is missing. They are among the others, too.
    pub locked: u64,
    /// Bytes on disk.
    pub bytes: Usage,
    /// Files that were set aside because they could not be opened.
    pub damaged_files: u64,
    /// Writing fails.
    pub failing: bool,
    /// There is no room for another dead letter: what should be one is attempted on.
    pub dead_letters_full: bool,
    /// Deliveries are in the engine that replicas share, and not on disk.
    pub in_engine: bool,
    /// What a 202 means with the engine as it was found; empty for an inbox on disk.
    pub means: String,
    /// Deliveries that were taken over from replicas that had gone.
    pub taken_over: u64,
    /// Ends of attempts that came too late.
    pub fenced: u64,
    /// What waits, by route.
    pub routes: Vec<DeliveryReading>,
}

/// How the process stands with the shared engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedReading {
    /// Name and version of the server; empty before it was reached.
    pub server: String,
    /// Workers that can ask it.
    pub connected: u64,
    /// Workers.
    pub workers: u64,
    /// Why one cannot: a code and a sentence.
    pub trouble: Option<(&'static str, &'static str)>,
}

/// How much is held of something bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Held.
    pub held: u64,
    /// The bound.
    pub limit: u64,
}

/// What one route remembers of deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayReading {
    /// The name of the route.
    pub route: String,
    /// Entries, claims included.
    pub entries: Usage,
    /// Deliveries that are with the application.
    pub claims: u64,
}

/// What access log and audit trail lack, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordsReading {
    /// Refused requests of strangers without a line in the access log: they were over the rate.
    pub left_out: u64,
    /// Exchanges without a line in the access log: its output was slow, or failed.
    pub lost: u64,
    /// Refused deliveries without a record of their own in the audit trail: they were over the rate.
    pub over_rate: u64,
    /// Deliveries without a record of their own in the audit trail: it could not be written.
    pub blocked: u64,
    /// Whether the audit trail cannot be written; nothing where there is none.
    pub audit_failing: Option<bool>,
    /// Records that were in the audit trail at the start and that nothing proves or explains; nothing where there is none.
    pub audit_unproven: Option<u64>,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReading {
    /// The name of the route.
    pub route: String,
    /// The id of the key.
    pub key: String,
    /// Unix seconds from which it counts.
    pub not_before: Option<i64>,
    /// Unix seconds from which it no longer counts.
    pub not_after: Option<i64>,
    /// Unix seconds since which it has been the key that it is, as far as is known.
    pub since: Option<i64>,
}

/// A URL at which a sender publishes its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublisherReading {
    /// The URL.
    pub url: String,
    /// How many keys of it are in use.
    pub keys: u64,
    /// Unix seconds at which they were fetched last; nothing before the first time in this process.
    pub fetched: Option<u64>,
    /// How often they were fetched.
    pub succeeded: u64,
    /// How often they could not be.
    pub failed: u64,
    /// Why they cannot be fetched now.
    pub error: Option<String>,
}

/// The networks that a sender publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeReading {
    /// The name of the sender.
    pub sender: String,
    /// How many networks count.
    pub networks: u64,
    /// Unix seconds at which they were what the sender published; 0 where that is not known.
    pub as_of: u64,
    /// How often the list was fetched and used.
    pub succeeded: u64,
    /// How often it could not be fetched.
    pub failed: u64,
    /// How often it was fetched and not used, since it is not plausible.
    pub refused: u64,
    /// Why it does not count now.
    pub error: Option<String>,
}

/// What became of reloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadReading {
    /// How many put a configuration into force, the one at the start not counted.
    pub succeeded: u64,
    /// How many left all as it was.
    pub failed: u64,
    /// Unix seconds of the last one; 0 before the first.
    pub at: u64,
    /// What was wrong with the last one, in words for people.
    pub error: Option<String>,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateReading {
    /// The address of the listener that shows it, as it is configured.
    pub listener: String,
    /// The file that it was read from, as it is configured.
    pub name: String,
    /// The names that it is for.
    pub hosts: Vec<String>,
    /// SHA-256 of it, as `openssl x509 -fingerprint -sha256` shows it.
    pub fingerprint: String,
    /// Unix seconds from which it holds.
    pub not_before: i64,
    /// Unix seconds after which it does not.
    pub not_after: i64,
}

/// One authority of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityReading {
    /// The address of the listener that believes it, as it is configured.
    pub listener: String,
    /// The file that it was read from, as it is configured.
    pub name: String,
    /// Which of the certificates in that file it is, from 1.
    pub number: usize,
    /// Unix seconds after which it does not hold.
    pub not_after: i64,
}

/// The system's view of the process. What cannot be read is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    /// Resident memory, in bytes.
    pub memory: Option<u64>,
    /// CPU time, user and system.
    pub cpu: Option<Duration>,
    /// Open file descriptors.
    pub files: Option<u64>,
    /// File descriptors that may be open.
    pub files_limit: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// When it started, as unix time.
    pub started: Option<Duration>,
}
