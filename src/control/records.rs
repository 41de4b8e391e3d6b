//! Who is told how exchanges end, and tells it on: to the access log, the audit trail and the log
//! of the process.

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::load::Loaded;
use crate::config::records;
use crate::config::section::inbox::InboxSettings;
use crate::config::section::shared::SharedSettings;
use crate::config::settings::Settings;
use crate::edge::observer::{Kept, Ticket};
use crate::edge::shared::standing::EngineStanding;
use crate::edge::worker::{Observer, RefusedRequest};
use crate::gate::replay::WhenUnavailable;
use crate::ledger::shared::EngineTrouble;
use crate::outcome::ConnectionEnd;
use crate::telemetry::attempt::Attempted;
use crate::telemetry::audit::inbox_change::InboxChange;
use crate::telemetry::audit::{Change, Digest};
use crate::telemetry::capture::Captured;
use crate::telemetry::exchange::Exchange;
use crate::telemetry::handshake::RefusedCertificate;
use crate::telemetry::readings::RecordsReading;

use super::access_log::AccessLog;
use super::audit::Audit;
use super::captures::Capturing;
use super::event_log::{EventLog, Level};
use super::inventory::Inventory;
use super::journal::Writers;
use super::plan::worker_count;

/// Everything that is written down of exchanges.
#[derive(Debug)]
pub struct Records {
    events: Arc<EventLog>,
    access_log: Option<AccessLog>,
    audit: Option<Audit>,
    /// What the audit trail says is in force.
    in_force: Mutex<Inventory>,
    captures: Option<Capturing>,
    /// What was asked for at the start, and is in force until the end.
    asked: AskedAtStart,
}

/// Settings that are in force from the start to the end.
#[derive(Debug)]
struct AskedAtStart {
    access_log: records::AccessLog,
    audit: Option<records::Audit>,
    captured: usize,
    inbox: Option<InboxSettings>,
    shared: Option<SharedSettings>,
}

impl Records {
    /// Opens what the configuration names, and starts the threads that write.
    ///
    /// # Errors
    /// Something cannot be opened; in a sentence for the operator.
    pub fn start(loaded: &Loaded, events: &Arc<EventLog>) -> Result<Self, String> {
        let workers = worker_count(loaded.settings.server.workers);
        let writers = Writers { workers, delivers: loaded.settings.inbox.is_some() };
        let access_log = AccessLog::start(&loaded.settings.access_log, writers, Arc::clone(events))?;
        let fingerprint = Digest::from(loaded.fingerprint).to_string();
        let audit = match (&loaded.settings.audit, &loaded.audit_key) {
            (Some(audit), Some(key)) => {
                Some(Audit::start(audit, key.bytes(), writers, &fingerprint, Arc::clone(events))?)
            }
            _ => None,
        };
        let in_force = Mutex::default();
        let asked = asked(&loaded.settings);
        let captures = (asked.captured > 0).then(|| Capturing::new(asked.captured));
        let records = Self { events: Arc::clone(events), access_log, audit, in_force, captures, asked };
        if let Some(inventory) = records.inventory(loaded) {
            inventory.tell(|change| records.change(change));
            *records.in_force.lock().unwrap_or_else(PoisonError::into_inner) = inventory;
        }
        Ok(records)
    }

    /// Records a change of what deliveries are judged by in the audit trail.
    pub fn change(&self, change: &Change<'_>) {
        self.audit.iter().for_each(|audit| audit.change(change));
    }

    /// What of a newer configuration has to wait until the process is restarted, a sentence each.
    #[must_use]
    pub fn needs_restart(&self, newer: &Settings) -> Vec<String> {
        let newer = asked(newer);
        let parts = [
            ("[access_log]", self.asked.access_log != newer.access_log),
            ("[audit]", self.asked.audit != newer.audit),
            ("[admin] capture_refused", self.asked.captured != newer.captured),
            ("[inbox]", self.asked.inbox != newer.inbox),
            ("[shared]", self.asked.shared.as_ref().map(unrouted) != newer.shared.as_ref().map(unrouted)),
        ];
        let changed = parts.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(name, _)| format!("{name} stays as it is until the process is restarted")).collect()
    }

    /// The fingerprints of everything that deliveries are judged by; nothing where there is no trail to name them.
    #[must_use]
    pub fn inventory(&self, loaded: &Loaded) -> Option<Inventory> {
        self.audit.as_ref().map(|audit| Inventory::of(loaded, |secret| audit.fingerprint(secret)))
    }

    /// Records that another configuration is in force: the SHA-256 of its file, its number, and every key and
    /// certificate that is not as it was.
    pub fn configuration(&self, fingerprint: [u8; 32], generation: u64, inventory: Option<Inventory>) {
        let fingerprint = Digest::from(fingerprint).to_string();
        self.change(&Change::Configuration { fingerprint: &fingerprint, generation });
        let Some(inventory) = inventory else { return };
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        in_force.tell_changes(&inventory, |change| self.change(change));
        *in_force = inventory;
    }

    /// What is not written down, and whether it can be.
    #[must_use]
    pub fn reading(&self) -> RecordsReading {
        let [left_out, lost] = self.access_log.as_ref().map(AccessLog::missing).unwrap_or_default();
        let audit = self.audit.as_ref().map(Audit::reading);
        let [over_rate, blocked] = audit.map(|(unrecorded, _)| unrecorded).unwrap_or_default();
        let audit_failing = audit.map(|(_, failing)| failing);
        let audit_unproven = self.audit.as_ref().map(Audit::unproven);
        RecordsReading { left_out, lost, over_rate, blocked, audit_failing, audit_unproven }
    }

    /// The refused requests that are kept, the youngest first; nothing where none are to be.
    #[must_use]
    pub fn captured(&self) -> Option<Vec<Arc<Captured>>> {
        self.captures.as_ref().map(Capturing::all)
    }

    /// Opens files again by their names, after they were moved away to be kept.
    pub fn reopen(&self) {
        self.access_log.iter().for_each(AccessLog::reopen);
    }

    /// Writes what is left, and ends the audit trail. To be called when the workers have stopped.
    pub fn finish(&self) {
        if self.access_log.as_ref().is_some_and(|log| !log.flush()) {
            self.events.event(Level::Warn, "the access log is not complete: its output takes nothing");
        }
        self.audit.iter().for_each(Audit::finish);
    }
}

fn asked(settings: &Settings) -> AskedAtStart {
    AskedAtStart {
        access_log: settings.access_log.clone(),
        audit: settings.audit.as_ref().map(records::Audit::without_place),
        captured: settings.admin.as_ref().map(|admin| admin.capture_refused).unwrap_or_default(),
        inbox: settings.inbox.as_ref().map(InboxSettings::without_keys),
        shared: settings.shared.clone(),
    }
}

/// `[shared]` without what is in force on the routes at once.
fn unrouted(shared: &SharedSettings) -> SharedSettings {
    SharedSettings { when_unavailable: WhenUnavailable::default(), ..shared.clone() }
}

impl Observer for Records {
    fn exchange(&self, exchange: &Exchange<'_>) {
        if let Some(log) = &self.access_log {
            log.exchange(exchange);
        }
        if let Some(audit) = &self.audit {
            audit.exchange(exchange);
        }
    }

    fn attempted(&self, attempt: &Attempted<'_>) {
        self.access_log.iter().for_each(|log| log.attempted(attempt));
        self.audit.iter().for_each(|audit| audit.attempted(attempt));
    }

    fn inbox_changed(&self, change: &InboxChange<'_>) {
        self.change(&Change::Inbox(*change));
    }

    fn can_record(&self, worker: usize) -> bool {
        self.audit.as_ref().is_none_or(|audit| audit.can_record(worker))
    }

    fn records_answers(&self) -> bool {
        self.audit.is_some()
    }

    fn answering(&self, exchange: &Exchange<'_>) -> Option<Ticket> {
        self.audit.as_ref()?.answering(exchange)
    }

    fn kept(&self, worker: usize, ticket: Ticket) -> Kept {
        self.audit.as_ref().map_or(Kept::Durable, |audit| audit.kept(worker, ticket))
    }

    fn changes(&self, worker: usize) -> Option<UnixStream> {
        self.audit.as_ref()?.changes(worker)
    }

    fn refused(&self, exchange: &Exchange<'_>, request: &RefusedRequest<'_>) {
        self.captures.iter().for_each(|captures| captures.take(exchange, request));
    }

    fn accept_failed(&self, error: &io::Error) {
        self.events.accept_failed(error);
    }

    fn engine_changed(&self, standing: &EngineStanding) {
        match standing.trouble() {
            None => self.events.event(Level::Info, &format!("shared engine: connected, {}", standing.server())),
            Some(EngineTrouble::Starting) => {}
            Some(trouble) => {
                let message = format!("shared engine: {}: {}", trouble.code(), trouble.meaning());
                self.events.event(Level::Warn, &message);
            }
        }
    }

    fn connection_ended(&self, end: ConnectionEnd, peer: Option<IpAddr>) {
        self.events.connection_ended(end, peer);
    }

    fn certificate_refused(&self, end: ConnectionEnd, peer: Option<IpAddr>, certificate: &RefusedCertificate) {
        self.events.certificate_refused(end, peer, certificate);
    }
}
