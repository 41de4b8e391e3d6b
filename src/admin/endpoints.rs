//! What is behind each path.

use core::time::Duration;
use std::sync::Arc;

use crate::now::Now;
use crate::telemetry::exposition::{self, Moment};
use crate::telemetry::metrics::Metrics;

use super::answer::{Answer, Media, Verdict};
use super::captured;
use super::desk::{Desk, Phase};
use super::history::History;
use super::page;
use super::request::{self, Request};
use super::status;

/// A worker that has not run its timer for so long, which it does every second, is stuck.
pub const STUCK: Duration = Duration::from_secs(10);

/// A page that was made this long ago is given again: whoever asks faster than any person or scraper costs little.
const FRESH: Duration = Duration::from_millis(100);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Here it is.
    Answer(Answer),
    /// It takes a while.
    Errand(Wish),
}

/// Something to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Read the configuration again.
    Reload,
    /// Leave without losing anybody.
    Drain,
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
    pub fn react(&mut self, request: &Request, now: Now) -> Reaction {
        let answer = match (request.path.as_str(), request.changes) {
            ("/-/reload", true) => return Reaction::Errand(Wish::Reload),
            ("/-/drain", true) => return Reaction::Errand(Wish::Drain),
            ("/-/reload" | "/-/drain", false) => method("POST"),
            ("/live" | "/ready" | "/startup" | "/metrics" | "/status" | "/", true) => method("GET, HEAD"),
            ("/live", false) => self.live(now),
            ("/ready", false) => self.ready(),
            ("/startup", false) => self.startup(),
            ("/metrics", false) => Answer::document(Media::Exposition, self.made(0, now, Self::exposition)),
            ("/status", false) => Answer::document(Media::Json, self.made(1, now, Self::status)),
            ("/", false) => Answer::document(Media::Html, page::HTML.to_owned()),
            (path, changes) if request::is_of_captured(path) => self.captured(path, changes),
            _ => Answer::text(Verdict::Unknown, "there is /, /status, /metrics, /live, /ready and /startup"),
        };
        Reaction::Answer(answer)
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
        let ready = self.desk.phase() == Phase::Ready;
        let readings = self.desk.readings();
        exposition::render(&self.metrics, Moment { readings: &readings, monotonic: now.monotonic, ready })
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
        let phase = self.desk.phase();
        Answer::text(if phase == Phase::Ready { Verdict::Good } else { Verdict::NotNow }, phase.name())
    }

    fn startup(&self) -> Answer {
        let phase = self.desk.phase();
        Answer::text(if phase == Phase::Starting { Verdict::NotNow } else { Verdict::Good }, phase.name())
    }
}

fn method(allow: &'static str) -> Answer {
    Answer { allow, ..Answer::text(Verdict::MethodRefused, format!("{allow} here")) }
}
