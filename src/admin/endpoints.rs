//! What is behind each path.

use core::time::Duration;
use std::sync::Arc;

use crate::inbox::operation::InboxOperation;
use crate::now::Now;
use crate::telemetry::exposition::{self, Scrape};
use crate::telemetry::health::{HealthReading, Standing};
use crate::telemetry::metrics::Metrics;

use super::answer::{Answer, Media, Verdict};
use super::captured;
use super::desk::{Desk, Phase, is_ready};
use super::history::History;
use super::inbox::{self, InboxForm};
use super::page;
use super::pairing::{PAIR, PairingWish};
use super::reasons;
use super::request::{self, Request};
use super::status;

/// A worker that has not run its timer for so long, which it does every second, is stuck.
pub const STUCK: Duration = Duration::from_secs(10);

/// Behind the path of a request that is kept: why it was refused.
const WHY: &str = "/why";

/// A page that was made this long ago is given again: a client that asks faster than a person or a scraper costs little.
const FRESH: Duration = Duration::from_millis(100);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointReaction {
    /// Here it is.
    Answer(Answer),
    /// It takes a while.
    Errand(Wish),
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Read the configuration again.
    Reload,
    /// End without losing a delivery.
    Drain,
    /// Open or close the pairing window of a route.
    Pair(PairingWish),
    /// Say why the request with this id was refused.
    Explain([u8; 32]),
    /// Do something with the stored deliveries, or read them.
    Inbox(InboxOperation, InboxForm),
}

/// All that answers are made of.
pub struct Endpoints {
    desk: Arc<dyn Desk>,
    metrics: Arc<Metrics>,
    history: History,
    /// The last pages, and when they were made.
    made: [Option<(Duration, String)>; 2],
}

impl Endpoints {
    /// Over this process.
    #[must_use]
    pub fn new(desk: Arc<dyn Desk>, metrics: Arc<Metrics>) -> Self {
        Self { desk, metrics, history: History::default(), made: [None, None] }
    }

    /// The rest of the process.
    #[must_use]
    pub const fn desk(&self) -> &Arc<dyn Desk> {
        &self.desk
    }

    /// Keeps the history; to be called every few hundred milliseconds.
    pub fn tick(&mut self, now: Now) {
        self.history.tick(now.monotonic, &self.metrics);
    }

    /// Answers, or says what is to be done first.
    pub fn react(&mut self, request: &Request, now: Now) -> EndpointReaction {
        let answer = match (request.path.as_str(), request.changes) {
            ("/-/reload", true) => return EndpointReaction::Errand(Wish::Reload),
            ("/-/drain", true) => return EndpointReaction::Errand(Wish::Drain),
            (PAIR, true) => match PairingWish::parse(&request.query) {
                Ok(wish) => return EndpointReaction::Errand(Wish::Pair(wish)),
                Err(refused) => refused,
            },
            ("/-/reload" | "/-/drain" | PAIR, false) => method("POST"),
            ("/live" | "/ready" | "/startup" | "/metrics" | "/status" | "/reasons" | "/", true) => method("GET, HEAD"),
            ("/live", false) => self.live(now),
            ("/ready", false) => self.ready(),
            ("/startup", false) => self.startup(),
            ("/metrics", false) => Answer::document(Media::Exposition, self.made(0, now, Self::exposition)),
            ("/status", false) => Answer::document(Media::Json, self.made(1, now, Self::status)),
            ("/reasons", false) => Answer::document(Media::Json, reasons::render()),
            ("/", false) => Answer::document(Media::Html, page::HTML.to_owned()),
            (path, changes) if request::is_of_captured(path) => match self.wanted_explanation(path, changes) {
                Some(id) => return EndpointReaction::Errand(Wish::Explain(id)),
                None => self.captured(path, changes),
            },
            (path, changes) if inbox::is_of_inbox(path) => match inbox::asked(path, &request.query, changes) {
                Ok((operation, form)) => return EndpointReaction::Errand(Wish::Inbox(operation, form)),
                Err(refused) => refused,
            },
            _ => Answer::text(Verdict::Unknown, "there is /, /status, /reasons, /metrics, /live, /ready and /startup"),
        };
        EndpointReaction::Answer(answer)
    }

    /// The id of the request whose explanation is behind this path, if it is kept.
    fn wanted_explanation(&self, path: &str, changes: bool) -> Option<[u8; 32]> {
        let id: [u8; 32] =
            path.strip_prefix(request::CAPTURED)?.strip_prefix('/')?.strip_suffix(WHY)?.as_bytes().try_into().ok()?;
        let kept = self.desk.captured().filter(|_| !changes)?;
        kept.iter().any(|captured| captured.request_id == id).then_some(id)
    }

    fn captured(&self, path: &str, changes: bool) -> Answer {
        match self.desk.captured() {
            _ if changes => method("GET, HEAD"),
            None => Answer::text(Verdict::Unknown, "refused requests are not kept: [admin] capture_refused is not set"),
            Some(kept) => captured::answer(&kept, path),
        }
    }

    /// The page in this place, made anew unless it is fresh.
    fn made(&mut self, place: usize, now: Now, make: fn(&Self, Now) -> String) -> String {
        let kept = self.made.get(place).and_then(Option::as_ref);
        if let Some((at, page)) = kept
            && now.monotonic < *at + FRESH
        {
            return page.clone();
        }
        let page = make(self, now);
        if let Some(kept) = self.made.get_mut(place) {
            *kept = Some((now.monotonic, page.clone()));
        }
        page
    }

    fn exposition(&self, now: Now) -> String {
        let readings = self.desk.readings();
        let ready = is_ready(self.desk.phase(), &readings.health);
        exposition::render(&self.metrics, Scrape { readings: &readings, monotonic: now.monotonic, ready })
    }

    fn status(&self, now: Now) -> String {
        let subject = status::Subject {
            metrics: &self.metrics,
            readings: &self.desk.readings(),
            phase: self.desk.phase(),
            history: &self.history,
            now,
        };
        status::render(&subject)
    }

    /// Workers that run but have not beaten for too long.
    fn live(&self, now: Now) -> Answer {
        let stuck = |cells: &&crate::telemetry::WorkerCells| {
            cells.thread() != 0 && now.monotonic > cells.last_beat().saturating_add(STUCK)
        };
        match self.metrics.workers().iter().filter(stuck).count() {
            0 => Answer::text(Verdict::Good, "live"),
            count => Answer::text(Verdict::NotNow, format!("{count} workers are stuck")),
        }
    }

    fn ready(&self) -> Answer {
        let (phase, health) = (self.desk.phase(), self.desk.health());
        match phase {
            _ if is_ready(phase, &health) => Answer::text(Verdict::Good, phase.name()),
            Phase::Ready => Answer::text(Verdict::NotNow, out_of_reach(&health)),
            _ => Answer::text(Verdict::NotNow, phase.name()),
        }
    }

    fn startup(&self) -> Answer {
        let phase = self.desk.phase();
        Answer::text(if phase == Phase::Starting { Verdict::NotNow } else { Verdict::Good }, phase.name())
    }
}

/// So many applications are named in the answer to the question whether all of them can be reached.
const NAMED: usize = 8;

/// Which applications are the reason, a line each.
fn out_of_reach(health: &[HealthReading]) -> String {
    let bad = || health.iter().filter(|it| !it.good);
    let line = |it: &HealthReading| {
        let state = if it.standing == Standing::Unknown { "has not been reached yet" } else { "is unhealthy" };
        let why = it.trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("upstream {} {state}{why}", it.upstream)
    };
    let mut lines: Vec<String> = bad().take(NAMED).map(line).collect();
    if let Some(more) = bad().count().checked_sub(NAMED).filter(|more| *more > 0) {
        lines.push(format!("{more} more; /status has them all"));
    }
    lines.join("\n")
}

fn method(allow: &'static str) -> Answer {
    Answer { allow, ..Answer::text(Verdict::MethodRefused, format!("{allow} here")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(upstream: String, standing: Standing, good: bool) -> HealthReading {
        let trouble = (!good).then(|| "cannot connect".to_owned());
        HealthReading { upstream, standing, good, trouble, since: 0 }
    }

    #[test]
    fn applications_out_of_reach_are_named_as_far_as_there_is_room() {
        let good = health("here:1".to_owned(), Standing::Healthy, true);
        let presumed = health("new:1".to_owned(), Standing::Unknown, true);
        let unknown = health("early:1".to_owned(), Standing::Unknown, false);
        let away = |number: usize| health(format!("away:{number}"), Standing::Unhealthy, false);
        assert!(is_ready(Phase::Ready, &[]) && is_ready(Phase::Ready, &[good.clone(), presumed.clone()]));
        assert!(!is_ready(Phase::Draining, &[]) && !is_ready(Phase::Starting, &[]));
        assert!(!is_ready(Phase::Ready, &[good.clone(), unknown.clone()]) && !is_ready(Phase::Ready, &[away(1)]));
        assert_eq!(
            out_of_reach(&[good, presumed, unknown, away(1)]),
            "upstream early:1 has not been reached yet: cannot connect\nupstream away:1 is unhealthy: cannot connect"
        );
        let many: Vec<HealthReading> = (0..20).map(away).collect();
        let text = out_of_reach(&many);
        assert_eq!(text.lines().count(), NAMED + 1);
        assert_eq!(text.lines().last(), Some("12 more; /status has them all"));
        assert_eq!(out_of_reach(many.get(..NAMED).unwrap_or_default()).lines().count(), NAMED);
    }
}
