//! Names causes of refusals in the log of the process, by the codes of [`crate::explain`]. Only requests that are kept
//! (`[admin] capture_refused`) can be explained. An explanation may take a second of one core, and what was refused is from
//! strangers, so a thread of its own explains at most one request in [`PACE`], and each cause of a route is one line in
//! [`SILENCE`]. A line holds nothing that a request says.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::desk::Interior;
use super::event_log::{EventLog, Level};
use super::records::Records;
use crate::telemetry::capture::Captured;

/// Between two explanations.
const PACE: Duration = Duration::from_secs(2);

/// Between two lines about one cause of one route.
const SILENCE: Duration = Duration::from_secs(600);

/// Causes that are remembered, of all routes together; the oldest are forgotten first.
const REMEMBERED: usize = 256;

/// Explains refused requests until it is dropped.
#[derive(Debug)]
pub(super) struct Causes {
    _end: Sender<()>,
}

impl Causes {
    /// Looks at what is kept, if anything is to be kept.
    ///
    /// # Errors
    /// There can be no thread.
    pub(super) fn start(interior: Interior, records: Arc<Records>, log: Arc<EventLog>) -> io::Result<Option<Self>> {
        if records.captured().is_none() {
            return Ok(None);
        }
        let (end, ended) = channel();
        let explaining = move || run(&interior, &records, &log, &ended);
        thread::Builder::new().name("causes".to_owned()).spawn(explaining)?;
        Ok(Some(Self { _end: end }))
    }
}

fn run(interior: &Interior, records: &Records, log: &EventLog, ended: &Receiver<()>) {
    let (mut last, mut told) = ([0; 32], ToldCauses::default());
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(PACE) {
        // The youngest: those in between were like it, or will come again.
        let Some(captured) = records.captured().and_then(|kept| kept.into_iter().next()) else { continue };
        if std::mem::replace(&mut last, captured.request_id) == captured.request_id {
            continue;
        }
        let Some(cause) = interior.cause(&captured) else { continue };
        if told.is_due(&captured.route, &cause, captured.at) {
            log.event(Level::Warn, &line(&captured, &cause));
        }
    }
}

fn line(captured: &Captured, cause: &str) -> String {
    let id = String::from_utf8_lossy(&captured.request_id);
    let (route, status) = (&captured.route, captured.outcome.code());
    format!("route {route}: a delivery was refused ({status}), cause {cause}: `countersign explain {id}` says more")
}

/// When each cause of a route was told last, since 1970.
#[derive(Debug, Default)]
struct ToldCauses(BTreeMap<(String, String), Duration>);

impl ToldCauses {
    /// Whether a line is due at `now`, since 1970. That is noted.
    fn is_due(&mut self, route: &str, cause: &str, now: Duration) -> bool {
        let name = (route.to_owned(), cause.to_owned());
        // A clock that was set back must not silence it.
        let is_recent = |at: &Duration| now.checked_sub(*at).is_some_and(|since| since < SILENCE);
        if self.0.get(&name).is_some_and(is_recent) {
            return false;
        }
        if self.0.len() >= REMEMBERED
            && let Some(oldest) = self.0.iter().min_by_key(|(_, at)| **at).map(|(name, _)| name.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(name, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_in_a_while_and_few_are_remembered() {
        let mut told = ToldCauses::default();
        let mut due = |seconds: u64, cause: &str| told.is_due("hook", cause, Duration::from_secs(seconds));
        assert!(due(1000, "body_trailing") && !due(1001, "body_trailing") && due(1001, "time_stale"));
        assert!(due(1600, "body_trailing") && !due(2199, "body_trailing"));
        assert!(due(900, "body_trailing"), "the clock was set back");
        for number in 0..2 * REMEMBERED {
            assert!(due(3000, &number.to_string()));
        }
        assert_eq!(told.0.len(), REMEMBERED);
    }
}
