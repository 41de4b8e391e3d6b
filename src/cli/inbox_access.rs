//! The way to an inbox: over the admin port of the process that has it, or to its directory where none has.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::admin::inbox::{described, message, message_target, target};
use crate::config::load::load_inbox;
use crate::config::section::admin::AdminEndpoint;
use crate::control::inbox::directory::Directory;
use crate::control::inbox::disk::Disk;
use crate::control::inbox::keys::{InboxKey, random_salt};
use crate::control::inbox::overlay::LookedAt;
use crate::control::inbox::shelf::{Shelf, ShelfTerms};
use crate::inbox::delivery::DeliveryId;
use crate::inbox::operation::{InboxOperation, InboxReport};

use super::asking::{address, ask, change};
use super::configured::ConfigFlag;
use super::offline;
use super::output::{OutputFlag, complain};

/// Where the inbox is.
#[derive(Debug, clap::Args)]
pub(super) struct AccessArguments {
    #[command(flatten)]
    config: ConfigFlag,
    /// The admin port itself: 127.0.0.1:9090, or unix:/path
    #[arg(long, alias = "admin", env = "COUNTERSIGN_ADMIN", conflicts_with = "directory")]
    address: Option<String>,
    /// The directory itself, while no process has it
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    keys: KeyArguments,
    /// The same as --output json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    output: OutputFlag,
}

/// The keys of the encryption at rest.
#[derive(Debug, clap::Args)]
pub(super) struct KeyArguments {
    /// A key of the encryption, in place of those of the configuration; repeat it for former ones, the present one first
    #[arg(long = "key", value_name = "ID=FILE")]
    keys: Vec<String>,
}

impl KeyArguments {
    /// The keys that were given, or those of the configuration, where there is one.
    ///
    /// # Errors
    /// Sentences for the operator.
    pub(super) fn read(&self, config: &ConfigFlag) -> Result<Vec<InboxKey>, String> {
        if self.keys.is_empty() {
            let Some(path) = config.if_any() else { return Ok(Vec::new()) };
            let inbox = load_inbox(&path).map_err(|problems| problems.to_string())?;
            return Ok(inbox.as_ref().map(InboxKey::of).unwrap_or_default());
        }
        let read = |text: &String| {
            let (id, file) = text.split_once('=').ok_or_else(|| format!("--key '{text}': write it as ID=FILE"))?;
            let bytes = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
            InboxKey::parse(id, bytes).ok_or_else(|| format!("{file}: a key has 32 bytes, or 64 hexadecimal digits"))
        };
        self.keys.iter().map(read).collect()
    }
}

impl AccessArguments {
    pub(super) fn is_json(&self) -> bool {
        self.json || self.output.is_json()
    }
}

/// An inbox that can be asked.
pub(super) enum InboxAccess {
    /// A process has it.
    Live(AdminEndpoint),
    /// No process has it.
    Offline(Box<Shelf>),
}

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(65);

/// An answer is at most so long: a delivery with its body.
const ANSWER: u64 = 256 << 20;

/// While the process does something else that was asked for, it is asked again so often, and with such pauses.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Opens a directory that no process has. `changing` says whether something may be changed.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn directory(path: &Path, changing: bool) -> Result<Box<dyn Disk>, String> {
    let directory = Directory::existing(path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => format!(
            "{}: a process has this directory: leave --directory out, and the process is asked over its admin port",
            path.display()
        ),
        _ => format!("{}: {error}", path.display()),
    })?;
    Ok(if changing { Box::new(directory) } else { Box::new(LookedAt(Box::new(directory))) })
}

/// Opens the files of a directory.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn shelf(path: &Path, keys: Vec<InboxKey>, changing: bool) -> Result<Shelf, String> {
    let terms = ShelfTerms {
        size: 1 << 40,
        dead_size: 1 << 40,
        deliveries: usize::MAX,
        retention: 0,
        drops_oldest: false,
        durable: true,
        keys: keys.into(),
        salt: Box::new(random_salt),
    };
    let opened = Shelf::open(directory(path, changing)?, terms, offline::time(None));
    let mut shelf = opened.map_err(|error| format!("{}: {error}", path.display()))?;
    shelf.take_notes().iter().for_each(complain);
    Ok(shelf)
}

impl InboxAccess {
    /// Finds the inbox. `changing` says whether something is to be changed.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn open(arguments: &AccessArguments, changing: bool) -> Result<Self, String> {
        match &arguments.directory {
            Some(path) => shelf(path, arguments.keys.read(&arguments.config)?, changing)
                .map(|shelf| Self::Offline(Box::new(shelf))),
            None => address(arguments.address.as_deref(), &arguments.config.path()).map(Self::Live),
        }
    }

    /// Carries out an operation.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn carry_out(&mut self, operation: &InboxOperation) -> Result<Value, String> {
        match self {
            Self::Live(address) => {
                let (status, body) = asked(address, &target(operation))?;
                read(status, &body)
            }
            Self::Offline(shelf) => report(shelf, operation).map(|report| described(&report)),
        }
    }

    /// One delivery; nothing where there is none.
    ///
    /// # Errors
    /// As [`Self::carry_out`].
    pub(super) fn show(&mut self, id: DeliveryId) -> Result<Option<Value>, String> {
        let operation = InboxOperation::Show(id);
        match self {
            Self::Live(address) => match asked(address, &target(&operation))? {
                (404, body) if body.starts_with(b"there is no delivery") => Ok(None),
                (status, body) => read(status, &body).map(Some),
            },
            Self::Offline(shelf) => {
                let report = report(shelf, &operation)?;
                Ok((!report.deliveries.is_empty()).then(|| described(&report)))
            }
        }
    }

    /// The bytes of a delivery.
    ///
    /// # Errors
    /// As [`Self::carry_out`].
    pub(super) fn message(&mut self, id: DeliveryId) -> Result<Vec<u8>, String> {
        match self {
            Self::Live(address) => match asked(address, &(false, message_target(id)))? {
                (200, body) => Ok(body),
                (_, body) => Err(String::from_utf8_lossy(&body).trim().to_owned()),
            },
            Self::Offline(shelf) => {
                let report = report(shelf, &InboxOperation::Show(id))?;
                report.content.as_ref().map(message).ok_or_else(|| "it is damaged on disk, or gone".to_owned())
            }
        }
    }
}

fn report(shelf: &mut Shelf, operation: &InboxOperation) -> Result<InboxReport, String> {
    let report = operation.carry_out(shelf, offline::time(None)).map_err(|error| error.to_string())?;
    shelf.take_notes().iter().for_each(complain);
    Ok(report)
}

fn asked(address: &AdminEndpoint, (changes, target): &(bool, String)) -> Result<(u16, Vec<u8>), String> {
    let ask = if *changes { change } else { ask };
    for _ in 0..TRIES {
        let answer = ask(address, target, (PATIENCE, ANSWER));
        let (status, body) = answer.map_err(|error| {
            format!("the admin port at {address} does not answer: {error}; where no process runs, name its --directory")
        })?;
        if status != 409 {
            return Ok((status, body));
        }
        std::thread::park_timeout(PAUSE);
    }
    Err(format!("the process at {address} is busy"))
}

fn read(status: u16, body: &[u8]) -> Result<Value, String> {
    if status == 200 {
        return serde_json::from_slice(body).map_err(|error| format!("the answer of the process is no JSON: {error}"));
    }
    Err(format!("the process says {status}: {}", String::from_utf8_lossy(body).trim().escape_debug()))
}
