//! Who is told how exchanges end, and tells it on: to the access log and the log of the process.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::load::Loaded;
use crate::edge::worker::Observer;
use crate::outcome::ConnectionEnd;
use crate::telemetry::exchange::Exchange;

use super::access_log::AccessLog;
use super::event_log::EventLog;
use super::plan::worker_count;

/// Everything that is written down of exchanges.
#[derive(Debug)]
pub struct Records {
    events: Arc<EventLog>,
    access_log: Option<AccessLog>,
}

impl Records {
    /// Opens what the configuration names, and starts the threads that write.
    ///
    /// # Errors
    /// Something cannot be opened; in a sentence for the operator.
    pub fn start(loaded: &Loaded, events: &Arc<EventLog>) -> Result<Self, String> {
        let workers = worker_count(loaded.settings.server.workers);
        let access_log = AccessLog::start(&loaded.settings.access_log, workers, Arc::clone(events))?;
        Ok(Self { events: Arc::clone(events), access_log })
    }

    /// Opens files again by their names, after somebody has moved them away to keep them.
    pub fn reopen(&self) {
        self.access_log.iter().for_each(AccessLog::reopen);
    }

    /// Waits until everything so far has been written.
    pub fn flush(&self) {
        self.access_log.iter().for_each(AccessLog::flush);
    }
}

impl Observer for Records {
    fn exchange(&self, exchange: &Exchange<'_>) {
        if let Some(log) = &self.access_log {
            log.exchange(exchange);
        }
    }

    fn accept_failed(&self, error: &io::Error) {
        self.events.accept_failed(error);
    }

    fn connection_ended(&self, end: ConnectionEnd, peer: Option<IpAddr>) {
        self.events.connection_ended(end, peer);
    }
}
