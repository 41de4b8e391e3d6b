//! `[inbox]`: where deliveries are kept that were acknowledged before the application had them.

use core::fmt::{self, Write};
use core::ops::RangeInclusive;
use core::time::Duration;
use std::path::{Path, PathBuf};

use crate::config::digest::Digest;
use crate::config::lines::line;
use crate::config::reader::{Reader, set};
use crate::config::section::inbox_keys::{self, InboxKeySettings};
use crate::config::units::{show_duration, show_size, show_size_rounded};
use crate::inbox::engine::promise::Durability;

const SIZE: RangeInclusive<u64> = 64 << 20..=1 << 40;
const DELIVERIES: RangeInclusive<u64> = 16..=16_777_216;
const HOUR: Duration = Duration::from_secs(3_600);
const RETENTION: RangeInclusive<Duration> = HOUR..=Duration::from_secs(8_760 * 3_600);

/// Bytes of memory for each delivery that waits: its places in the index of the store and in the agenda.
const BYTES_PER_DELIVERY: u64 = 320;

/// Bytes of memory besides: records on their way to the application, and the caches of the store.
const BYTES_BESIDES: u64 = (8 + 20) << 20;

/// Bytes that wait for a commit, for each worker.
const BYTES_PER_WORKER: u64 = 4 << 20;

/// `[inbox]`: where deliveries are kept that were acknowledged at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxSettings {
    /// The directory, relative to that of the configuration file until it has been loaded; nothing where deliveries are kept
    /// in the engine of `[shared]` (`engine = "redis"`).
    pub directory: Option<PathBuf>,
    /// All files together, in bytes.
    pub size: u64,
    /// Deliveries, dead letters included.
    pub deliveries: u64,
    /// What a 202 promises.
    pub durability: Durability,
    /// The configuration vouches for what the engine does not say of its persistence.
    pub trust_engine: bool,
    /// Dead letters together, in bytes.
    pub dead_size: u64,
    /// For how long dead letters are kept.
    pub retention: Duration,
    /// Whether the oldest dead letters give way to younger ones (`when_full = "drop_oldest"`).
    pub drops_oldest: bool,
    /// The keys that deliveries are encrypted with, the one for new ones first; none without encryption.
    pub encryption: Vec<InboxKeySettings>,
}

impl InboxSettings {
    /// Makes the path one that does not depend on where the process was started.
    pub fn resolve(&mut self, directory: &Path) {
        self.directory = self.directory.as_ref().map(|own| directory.join(own));
        self.encryption.iter_mut().for_each(|key| key.resolve(directory));
    }

    /// What stays as it is until the process is restarted: everything but the keys.
    #[must_use]
    pub fn without_keys(&self) -> Self {
        Self { encryption: Vec::new(), ..self.clone() }
    }

    /// For comparison: a key with other bytes is another key.
    pub(crate) fn key_digests(&self) -> Vec<Digest> {
        self.encryption.iter().map(InboxKeySettings::digest).collect()
    }

    /// Bytes of memory that it may take, without what waits for a commit.
    #[must_use]
    pub const fn memory(&self) -> u64 {
        self.deliveries.saturating_mul(BYTES_PER_DELIVERY).saturating_add(BYTES_BESIDES)
    }
}

/// Reads `[inbox]`.
pub(crate) fn read(root: &Reader<'_>) -> Option<InboxSettings> {
    let reader = root.table("inbox")?;
    let in_engine = reader.choice("engine", &[("disk", false), ("redis", true)]).unwrap_or(false);
    let directory = if in_engine { read_engine(root, &reader) } else { read_directory(&reader) };
    let size = reader.size("size", SIZE).unwrap_or(1 << 30);
    let deliveries = reader.integer("deliveries", DELIVERIES).unwrap_or(262_144);
    let durability = read_durability(&reader, in_engine);
    let trust_engine = reader.bool("trust_engine").unwrap_or(false);
    let (mut dead_size, mut retention) = (size / 4, 720 * HOUR);
    if let Some(dead) = reader.table("dead_letters") {
        set(&mut dead_size, read_share(&dead, size));
        set(&mut retention, dead.duration("retention", RETENTION));
        dead.finish();
    }
    let drops_oldest = reader.choice("when_full", &[("refuse", false), ("drop_oldest", true)]).unwrap_or(false);
    if drops_oldest && in_engine {
        let message = "\"drop_oldest\" is not supported with engine = \"redis\"";
        reader.error("when_full", message, "write when_full = \"refuse\": what should die waits until there is room");
    } else if drops_oldest {
        let message = "when dead letters have no room, the oldest are dropped, though their senders were told 202";
        reader.warning("when_full", message, "write when_full = \"refuse\", or know what you lose");
    }
    let encryption = inbox_keys::read(&reader);
    reader.finish();
    (in_engine || directory.is_some()).then_some(InboxSettings {
        directory,
        size,
        deliveries,
        durability,
        trust_engine,
        dead_size,
        retention,
        drops_oldest,
        encryption,
    })
}

/// What `engine = "disk"` wants.
fn read_directory(reader: &Reader<'_>) -> Option<PathBuf> {
    reader.require("directory", "add directory = \"/var/lib/countersign\"");
    let fix = "remove it, or write engine = \"redis\"";
    reader.refuse("trust_engine", "has no effect: deliveries are on the disk of this process", fix);
    let directory = reader.string("directory").map(PathBuf::from);
    if directory.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        reader.error("directory", "is empty", "write the path of a directory of this process alone");
    }
    directory
}

/// What `engine = "redis"` wants.
fn read_engine(root: &Reader<'_>, reader: &Reader<'_>) -> Option<PathBuf> {
    if !root.has("shared") {
        let fix = "add [shared] with the address of the engine and a key_file, or write engine = \"disk\"";
        reader.error("engine", "\"redis\" is the engine of [shared], and there is none", fix);
    }
    if root.table("shared").and_then(|shared| shared.bool("cluster")).unwrap_or(false) {
        let fix = "write [shared] address or sentinels of an engine that is no cluster, or engine = \"disk\"";
        reader.error("engine", "an inbox is under one slot, and is not kept in a cluster", fix);
    }
    let message = "has no effect: deliveries are in the engine of [shared]";
    reader.refuse("directory", message, "remove it, or write engine = \"disk\"");
    None
}

fn read_durability(reader: &Reader<'_>, in_engine: bool) -> Durability {
    let known = [("fsync", Durability::Fsync), ("os", Durability::Os), ("memory", Durability::Memory)];
    let durability = reader.choice("durability", &known).unwrap_or_default();
    let fix = "write durability = \"fsync\", or know what you lose";
    match durability {
        Durability::Fsync => {}
        Durability::Memory if !in_engine => {
            let message = "\"memory\" is a promise about an engine, and deliveries are on disk";
            reader.error("durability", message, "write \"fsync\" or \"os\", or engine = \"redis\"");
        }
        Durability::Os if !in_engine => {
            let message = "an acknowledged delivery survives the end of this process, and not that of the machine";
            reader.warning("durability", message, fix);
        }
        Durability::Os => {
            let message = "an acknowledged delivery does not survive the machine of the engine";
            reader.warning("durability", message, fix);
        }
        Durability::Memory => {
            reader.warning("durability", "an acknowledged delivery is lost when the engine ends", fix)
        }
    }
    durability
}

/// `"25%"` of `all`, or a number of bytes.
fn read_share(reader: &Reader<'_>, all: u64) -> Option<u64> {
    let text = reader.string("size")?;
    let bytes = match text.strip_suffix('%') {
        Some(number) => number.trim().parse::<u64>().ok().filter(|it| *it <= 100).map(|percent| all / 100 * percent),
        None => crate::config::units::parse_size(text).ok(),
    };
    match bytes {
        Some(bytes) if bytes > 0 && bytes <= all / 4 * 3 => Some(bytes),
        _ => {
            let message = "is no part of the inbox that leaves room for deliveries";
            reader.error("size", message, "write 1% to 75%, or a size up to three quarters of that of the inbox");
            None
        }
    }
}

/// For `check`: `routes` are those whose deliveries are stored.
pub(crate) fn describe(out: &mut String, inbox: Option<&InboxSettings>, routes: &[&str]) -> fmt::Result {
    let Some(inbox) = inbox else { return Ok(()) };
    writeln!(out, "\ninbox")?;
    let means = match (&inbox.directory, inbox.durability) {
        (Some(_), Durability::Fsync) => "on disk: it survives the end of this process and the loss of power",
        (Some(_), _) => "with the kernel: it survives the end of this process, and not that of the machine",
        (None, durability) => durability.means(),
    };
    let place = if inbox.directory.is_some() { "" } else { "in the engine of [shared]: " };
    line(out, "202 means", format_args!("the delivery is {place}{means}"))?;
    if inbox.directory.is_none() {
        let examined = if inbox.trust_engine {
            "trust_engine: where the engine does not say what it keeps, this configuration vouches for it"
        } else {
            "an engine that keeps less, or does not say, is not used: its routes answer 503"
        };
        line(out, "", examined)?;
    }
    line(out, "", "and is delivered at least once, until the application accepts it or the route gives up")?;
    match routes {
        [] => line(out, "WARNING", "no route stores deliveries: acknowledge = \"durable\" does")?,
        routes => line(out, "routes", routes.join(", "))?,
    }
    inbox_keys::describe(out, &inbox.encryption)?;
    match &inbox.directory {
        Some(place) => line(out, "disk", format_args!("at most {} in {}", show_size(inbox.size), place.display()))?,
        None => line(out, "engine", format_args!("at most {}, those of all replicas together", show_size(inbox.size)))?,
    }
    let (dead, retention) = (show_size_rounded(inbox.dead_size), show_duration(inbox.retention));
    let fate = if inbox.drops_oldest { "the oldest are" } else { "none is" };
    line(out, "", format_args!("of it dead letters {dead}, each for {retention}; {fate} dropped to make room"))?;
    let (memory, worker) = (show_size_rounded(inbox.memory()), show_size(BYTES_PER_WORKER));
    line(out, "memory", format_args!("at most {} deliveries: {memory}, and {worker} per worker", inbox.deliveries))?;
    line(out, "when full", "new deliveries are refused (503), and what is stored goes on")?;
    let dead = if inbox.drops_oldest {
        "the oldest of them are dropped (when_full = \"drop_oldest\")"
    } else {
        "what should become one waits and is attempted every 15 minutes"
    };
    line(out, "", format_args!("without room for dead letters {dead}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::document::Document;

    fn read_text(text: &str) -> (Option<InboxSettings>, Vec<String>) {
        let document = Document::parse("test.toml", text).unwrap();
        let root = Reader::root(&document);
        let inbox = read(&root);
        root.finish();
        let problems = document.into_problems();
        (inbox, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn small_settings_are_valid_and_described() {
        let (inbox, problems) = read_text(
            "[inbox]\ndirectory = 'box'\nsize = '64MiB'\ndeliveries = 2048\ndead_letters = { size = '50%', retention = '1h' }\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        let mut inbox = inbox.unwrap();
        assert_eq!((inbox.size, inbox.deliveries, inbox.durability), (64 << 20, 2_048, Durability::Fsync));
        assert_eq!(inbox.dead_size, (64 << 20) / 100 * 50);
        inbox.resolve(Path::new("/etc/countersign"));
        let mut text = String::new();
        describe(&mut text, Some(&inbox), &["orders"]).unwrap();
        inbox.drops_oldest = true;
        describe(&mut text, Some(&inbox), &[]).unwrap();
        for part in
            ["none is dropped", "waits and is attempted", "the oldest are dropped to make room", "the oldest of them"]
        {
            assert!(text.contains(part), "{part}\n{text}");
        }
        for part in ["loss of power", "at most 64MiB in /etc/countersign/box", "routes      orders", "2048 deliveries"]
        {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, expected) in [
            ("[inbox]\n", "directory"),
            ("[inbox]\ndirectory = ''\n", "is empty"),
            ("[inbox]\ndirectory = 'a'\nsize = '1MiB'\n", "out of range"),
            ("[inbox]\ndirectory = 'a'\ndurability = 'os'\n", "not that of the machine"),
            ("[inbox]\ndirectory = 'a'\ndead_letters = { size = '90%' }\n", "leaves room"),
            ("[inbox]\ndirectory = 'a'\nfolder = 'b'\n", "folder"),
            ("[inbox]\nengine = 'redis'\n", "the engine of [shared], and there is none"),
            (
                "[shared]\ncluster = true\naddress = ['a:1']\nkey_file = 'k'\n[inbox]\nengine = 'redis'\n",
                "not kept in a cluster",
            ),
            ("[inbox]\ndirectory = 'a'\nengine = 'redis'\n", "deliveries are in the engine"),
            ("[inbox]\nengine = 'redis'\nwhen_full = 'drop_oldest'\n", "is not supported with engine"),
            ("[inbox]\nengine = 'redis'\ndurability = 'memory'\n", "lost when the engine ends"),
            ("[inbox]\nengine = 'redis'\ndurability = 'os'\n", "the machine of the engine"),
            ("[inbox]\nengine = 'postgres'\n", "engine"),
            ("[inbox]\ndirectory = 'a'\ndurability = 'memory'\n", "a promise about an engine"),
            ("[inbox]\ndirectory = 'a'\ntrust_engine = true\n", "has no effect"),
            ("[inbox]\ndirectory = 'a'\nwhen_full = 'drop'\n", "when_full"),
            ("[inbox]\ndirectory = 'a'\nwhen_full = 'drop_oldest'\n", "the oldest are dropped"),
        ] {
            let (_, problems) = read_text(text);
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{text}: {problems:?}");
        }
    }
}
