//! SIGTERM and SIGINT, which end the process, and SIGHUP, which reloads.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A signal that ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: of whoever runs many processes, and must tell others that this one goes.
    Terminate,
    /// SIGINT: of somebody at a terminal, who waits for the end.
    Interrupt,
}

/// The signals that end the process.
#[derive(Debug)]
pub struct Termination {
    signals: Signals,
}

impl Termination {
    /// From now on the signals are collected instead of killing the process.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { signals: Signals::new([SIGTERM, SIGINT])? })
    }

    /// Waits for the next one.
    pub fn wait(&mut self) -> Signal {
        match self.signals.forever().next() {
            Some(SIGINT) => Signal::Interrupt,
            _ => Signal::Terminate,
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
