//! SIGTERM and SIGINT.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
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
