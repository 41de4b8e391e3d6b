//! How the rest of the process asks for a reload, and learns how the last ones went.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::config::problem::Problems;

use super::supervisor::StartError;
use super::watch::Touch;

/// Asks for reloads; clones ask the same thread.
#[derive(Clone, Debug)]
pub struct Reloader {
    pub(super) orders: Sender<ReloadOrder>,
    pub(super) status: Arc<ArcSwap<ReloadStatus>>,
}

/// What the thread that reloads is told.
pub(super) enum ReloadOrder {
    /// Something has happened on the way to a file.
    Touched(Touch),
    /// SIGHUP.
    HungUp,
    /// Someone waits for the result.
    Requested(Sender<Result<Reloaded, ReloadError>>),
    /// That was all.
    Stop,
}

impl fmt::Debug for ReloadOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Touched(_) => "Touched",
            Self::HungUp => "HungUp",
            Self::Requested(_) => "Requested",
            Self::Stop => "Stop",
        })
    }
}

/// What a reload has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// What is in force now, and what is different from before, one phrase each.
    Changed {
        /// How many policies have been in force, with this one.
        generation: u64,
        /// For instance "route hook changed (clients)". Never anything of a secret.
        changes: Vec<String>,
    },
    /// No file is different from what is in force.
    Unchanged,
}

/// Why what was in force before still is.
#[derive(Debug)]
pub enum ReloadError {
    /// The configuration or a file that it names is wrong: everything that is.
    Refused(Problems),
    /// The files were different each time they were looked at.
    Unsettled,
    /// What it asks for cannot be had.
    NotApplied(StartError),
    /// The process stops.
    Stopping,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(problems) => problems.fmt(f),
            Self::Unsettled => {
                f.write_str("the files are still changing: they are read again when they change no more")
            }
            Self::NotApplied(error) => error.fmt(f),
            Self::Stopping => f.write_str("the process is stopping"),
        }
    }
}

impl std::error::Error for ReloadError {}

/// How the last reloads went. Times are since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadStatus {
    /// How many policies have been in force; the one of the start is the first.
    pub generation: u64,
    /// When the last reload succeeded; nothing before the first.
    pub last_success: Option<Duration>,
    /// What is wrong with the files as they are; nothing when they are in force.
    pub last_error: Option<LastError>,
    /// Reloads so far, of whatever end. Looking at files that have not changed is none.
    pub attempts: u64,
    /// Of them, those that changed nothing because something was wrong.
    pub failures: u64,
    /// The keys that are in force, by route and id, and since when each has been what it is, in unix seconds.
    pub keys: Arc<[(String, String, i64)]>,
}

/// Why the last reload changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// When.
    pub at: Duration,
    /// Everything that is wrong, each with its place and what to do about it; never anything of a secret.
    pub text: Arc<str>,
}

impl Default for ReloadStatus {
    fn default() -> Self {
        Self { generation: 1, last_success: None, last_error: None, attempts: 0, failures: 0, keys: Arc::default() }
    }
}

impl Reloader {
    /// Reloads, and waits for how it went: some milliseconds, or a few seconds when names do not resolve.
    ///
    /// # Errors
    /// [`ReloadError`]; nothing has changed then.
    pub fn request(&self) -> Result<Reloaded, ReloadError> {
        let (answer, answered) = channel();
        self.orders.send(ReloadOrder::Requested(answer)).map_err(|_| ReloadError::Stopping)?;
        answered.recv().unwrap_or(Err(ReloadError::Stopping))
    }

    /// Reloads, and does not wait. How it went is in the log.
    pub fn hang_up(&self) {
        // There are no more reloads when the process is about to end.
        let _ = self.orders.send(ReloadOrder::HungUp);
    }

    /// No more reloads: the process is about to end.
    pub fn stop(&self) {
        let _ = self.orders.send(ReloadOrder::Stop);
    }

    /// How the last reloads went.
    #[must_use]
    pub fn status(&self) -> Arc<ReloadStatus> {
        self.status.load_full()
    }
}
