//! SIGTERM and SIGINT, which end the process, and SIGHUP, which reloads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::raise;

/// A signal that ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: from a supervisor of processes, which has to tell others that this one ends.
    Terminate,
    /// SIGINT: from an operator at a terminal, who waits for the end.
    Interrupt,
}

/// The signals that end the process.
#[derive(Debug)]
pub struct Termination {
    signals: Signals,
    departure: Departure,
}

/// Ends the process from within, as SIGTERM does.
#[derive(Clone, Debug)]
pub struct Departure {
    requested: Arc<AtomicBool>,
}

impl Departure {
    /// Sends the process SIGTERM, unless that has been done before.
    ///
    /// # Errors
    /// The system refuses to.
    pub fn request(&self) -> io::Result<()> {
        // Before the signal: its receiver must know where it comes from.
        if self.requested.swap(true, Ordering::AcqRel) { Ok(()) } else { raise(SIGTERM) }
    }
}

impl Termination {
    /// From now on the signals are collected instead of killing the process.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn listen() -> io::Result<Self> {
        let departure = Departure { requested: Arc::default() };
        Ok(Self { signals: Signals::new([SIGTERM, SIGINT])?, departure })
    }

    /// How the process ends without a signal from outside. Only to be used as long as this lives.
    #[must_use]
    pub fn departure(&self) -> Departure {
        self.departure.clone()
    }

    /// Waits for the next one.
    pub fn wait(&mut self) -> Signal {
        match self.signals.forever().next() {
            Some(SIGINT) => Signal::Interrupt,
            _ => Signal::Terminate,
        }
    }

    /// Waits for a signal after the first, which means: now. Where the process was asked to leave from within, one SIGTERM
    /// more does not mean that: a supervisor of processes sends it to all of them, having asked this one before.
    pub fn wait_again(&mut self) {
        let mut spared = false;
        while self.wait() == Signal::Terminate && self.departure.requested.load(Ordering::Acquire) && !spared {
            spared = true;
        }
    }
}

/// SIGHUP.
#[derive(Debug)]
pub struct HangUps {
    signals: Signals,
}

impl HangUps {
    /// From now on they are collected instead of killing the process.
    ///
    /// # Errors
    /// The handler cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { signals: Signals::new([SIGHUP])? })
    }

    /// Calls `hung_up` for each, on a thread of its own.
    pub fn each(mut self, hung_up: impl Fn() + Send + 'static) {
        thread::spawn(move || self.signals.forever().for_each(|_| hung_up()));
    }
}
