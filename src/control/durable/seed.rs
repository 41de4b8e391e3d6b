//! The seed of the ledgers, where deliveries are remembered across processes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};

use crate::control::event_log::{EventLog, Level};
use crate::ledger::Seed;

/// The file with the seed, in the directory of an inbox.
const SEED_FILE: &str = "seed";

/// By what the ledgers of a process spread their entries and name deliveries.
#[derive(Debug)]
pub(super) enum LedgerSeed {
    /// It is in the directory, or is to be kept there.
    Own {
        seed: [u8; Seed::LENGTH],
        /// It is that of earlier processes.
        is_kept: bool,
    },
    /// All processes with the engine have it.
    Shared(Seed),
}

impl LedgerSeed {
    /// The seed of earlier processes; a new one where there is none.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(super) fn of(directory: &Path, log: &EventLog) -> io::Result<Self> {
        let path = directory.join(SEED_FILE);
        let found = fs::read(&path).and_then(|seed| seed.try_into().map_err(|_| io::ErrorKind::InvalidData.into()));
        match found {
            Ok(seed) => return Ok(Self::Own { seed, is_kept: true }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log.event(Level::Warn, &format!("inbox: {} cannot be read: {error}", path.display())),
        }
        let mut seed = [0; Seed::LENGTH];
        SystemRandom::new().fill(&mut seed).map_err(|_| io::Error::other("the system has no randomness"))?;
        Ok(Self::Own { seed, is_kept: false })
    }

    pub(super) fn seed(&self) -> Seed {
        match self {
            Self::Own { seed, .. } => Seed::new(seed),
            Self::Shared(seed) => seed.clone(),
        }
    }

    /// Makes a new one durable.
    pub(super) fn keep(&self, directory: &Path, log: &EventLog) {
        if let Self::Own { seed, is_kept: false } = self
            && let Err(error) = write(directory, seed)
        {
            let message =
                format!("inbox: after a restart some copies are not recognised: its seed is not kept: {error}");
            log.event(Level::Warn, &message);
        }
    }
}

/// A seed that is there stays.
fn write(directory: &Path, seed: &[u8]) -> io::Result<()> {
    let path = directory.join(SEED_FILE);
    if path.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let unfinished = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(seed)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    fs::File::open(directory)?.sync_all()
}
