//! Reads `[inbox]`, and `acknowledge` and `delivery` of a route.
//!
//! No configuration has these keys yet: they are read when workers can store deliveries.

use core::ops::RangeInclusive;
use core::time::Duration;
use std::path::PathBuf;

use crate::config::reader::Reader;
use crate::config::units::{show_duration, show_size};
use crate::inbox::backoff::Backoff;
use crate::inbox::judgement::DEAD_ON;
use crate::inbox::lane::OnDead;

const SIZE: RangeInclusive<u64> = 64 << 20..=1 << 40;
const DELIVERIES: RangeInclusive<u64> = 16..=16_777_216;
const HOUR: Duration = Duration::from_secs(3_600);

/// Bytes of memory for each delivery that waits.
const BYTES_PER_DELIVERY: u64 = 160;

/// `[inbox]`: where deliveries are kept that were acknowledged at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxSettings {
    /// The directory, relative to that of the configuration file.
    pub directory: PathBuf,
    /// All files together, in bytes.
    pub size: u64,
    /// Deliveries, dead letters included.
    pub deliveries: u64,
    /// Whether a commit reaches the disk (`durability = "fsync"`) or the kernel (`"os"`).
    pub durable: bool,
    /// Dead letters together, in hundredths of `size`.
    pub dead_percent: u64,
    /// For how long dead letters are kept.
    pub retention: Duration,
}

/// How a route's deliveries reach the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliverySettings {
    /// The status of the answer to the sender.
    pub acknowledge_status: u16,
    /// Attempts at a time.
    pub concurrency: u32,
    /// Delays between attempts.
    pub backoff: Backoff,
    /// How many attempts; 0 for as many as there is time for.
    pub attempts: u16,
    /// For how long a delivery is attempted.
    pub give_up_after: Duration,
    /// For how long an answer is awaited.
    pub timeout: Duration,
    /// What orders deliveries.
    pub order: OrderBy,
    /// Whether a delivery without its key is refused.
    pub order_required: bool,
    /// What follows when a delivery of a key dies.
    pub on_dead: OnDead,
    /// Statuses after which a delivery is a dead letter at once.
    pub dead_on: Vec<u16>,
}

/// What orders the deliveries of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OrderBy {
    /// Nothing.
    #[default]
    Nothing,
    /// The id of the delivery.
    DeliveryId,
    /// A header.
    HeaderField(String),
    /// A value of the body, by its JSON pointer (RFC 6901).
    BodyPointer(String),
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            acknowledge_status: 202,
            concurrency: 8,
            backoff: Backoff::default(),
            attempts: 0,
            give_up_after: 72 * HOUR,
            timeout: Duration::from_secs(30),
            order: OrderBy::Nothing,
            order_required: false,
            on_dead: OnDead::Continue,
            dead_on: DEAD_ON.to_vec(),
        }
    }
}

/// Reads `[inbox]`.
#[must_use]
pub fn read(root: &Reader<'_>) -> Option<InboxSettings> {
    let reader = root.table("inbox")?;
    reader.require("directory", "add directory = \"/var/lib/countersign\"");
    let directory = reader.string("directory").filter(|path| !path.is_empty()).map(PathBuf::from);
    let size = reader.size("size", SIZE).unwrap_or(1 << 30);
    let deliveries = reader.integer("deliveries", DELIVERIES).unwrap_or(262_144);
    let durable = reader.choice("durability", &[("fsync", true), ("os", false)]).unwrap_or(true);
    if !durable {
        let message = "an acknowledged delivery survives the end of this process, and not that of the machine";
        reader.warning("durability", message, "write durability = \"fsync\", or know what you lose");
    }
    let (mut dead_percent, mut retention) = (25, 720 * HOUR);
    if let Some(dead) = reader.table("dead_letters") {
        dead_percent = dead.integer("percent", 1..=75).unwrap_or(dead_percent);
        retention = dead.duration("retention", HOUR..=8_760 * HOUR).unwrap_or(retention);
        dead.finish();
    }
    reader.finish();
    directory.map(|directory| InboxSettings { directory, size, deliveries, durable, dead_percent, retention })
}

/// Reads `acknowledge` and `delivery` of a route. Nothing where the sender is answered by the application. `inbox` says
/// whether there is an `[inbox]`.
#[must_use]
pub fn read_route(route: &Reader<'_>, inbox: bool) -> Option<DeliverySettings> {
    let durable = route.choice("acknowledge", &[("upstream", false), ("durable", true)]).unwrap_or(false);
    let statuses = [200..=202, 204..=204];
    let mut settings = DeliverySettings::default();
    if let Some(status) = route.integer("acknowledge_status", 200..=204).and_then(|it| u16::try_from(it).ok()) {
        if !statuses.iter().any(|range| range.contains(&status)) {
            route.error("acknowledge_status", "is no answer without a body of ours", "choose 200, 201, 202 or 204");
        }
        settings.acknowledge_status = status;
    }
    if let Some(reader) = route.table("delivery") {
        read_delivery(&reader, &mut settings);
        reader.finish();
    }
    if durable && !inbox {
        let fix = "add [inbox] with a directory, or write acknowledge = \"upstream\"";
        route.error("acknowledge", "\"durable\" needs an inbox, and there is none", fix);
    }
    for key in ["acknowledge_status", "delivery"].into_iter().filter(|key| !durable && route.has(key)) {
        route.warning(key, "has no effect: the application answers the sender", "write acknowledge = \"durable\"");
    }
    durable.then_some(settings)
}

fn read_delivery(reader: &Reader<'_>, settings: &mut DeliverySettings) {
    let number = |key, range| reader.integer(key, range);
    if let Some(count) = number("concurrency", 1..=1_024).and_then(|it| u32::try_from(it).ok()) {
        settings.concurrency = count;
    }
    if let Some(count) = number("attempts", 0..=10_000).and_then(|it| u16::try_from(it).ok()) {
        settings.attempts = count;
    }
    let give_up = reader.duration("give_up_after", Duration::from_secs(1)..=720 * HOUR);
    settings.give_up_after = give_up.unwrap_or(settings.give_up_after);
    let timeout = reader.duration("timeout", Duration::from_millis(100)..=HOUR);
    settings.timeout = timeout.unwrap_or(settings.timeout);
    settings.backoff = read_backoff(reader).unwrap_or(settings.backoff);
    settings.order = read_order(reader).unwrap_or_default();
    settings.order_required = reader.choice("order_missing", &[("none", false), ("refuse", true)]).unwrap_or(false);
    let on_dead = [("continue", OnDead::Continue), ("hold", OnDead::Hold)];
    settings.on_dead = reader.choice("order_on_dead", &on_dead).unwrap_or_default();
    for key in ["order_missing", "order_on_dead"] {
        if settings.order == OrderBy::Nothing && reader.has(key) && !reader.failed() {
            reader.warning(key, "has no effect: nothing orders the deliveries", "write order = \"id\", or remove this");
        }
    }
    let Some(written) = reader.placed_strings("dead_on") else { return };
    settings.dead_on.clear();
    for (text, place) in written {
        match text.parse::<u16>().ok().filter(|status| (300..=599).contains(status)) {
            Some(status) => settings.dead_on.push(status),
            None => reader.error_at(place, "is no status from 300 to 599", "write it as \"410\""),
        }
    }
}

/// `"1s..15m"`: the bound after the first failure, and the greatest one.
fn read_backoff(reader: &Reader<'_>) -> Option<Backoff> {
    const FIX: &str = "write the first and the longest delay, such as \"1s..15m\"";
    let text = reader.string("backoff")?;
    let parse = |part: &str| crate::config::units::parse_duration(part).ok().map(|it| it.as_millis());
    let bounds = text.split_once("..").and_then(|(first, cap)| Some((parse(first)?, parse(cap)?)));
    let Some((first, cap)) =
        bounds.and_then(|(first, cap)| Some((u64::try_from(first).ok()?, u64::try_from(cap).ok()?)))
    else {
        reader.error("backoff", "is not a pair of durations", FIX);
        return None;
    };
    if first < 10 || cap < first || cap > 86_400_000 {
        reader.error("backoff", "is not from 10ms to 24h, the shorter one first", FIX);
        return None;
    }
    Some(Backoff { first, cap })
}

fn read_order(reader: &Reader<'_>) -> Option<OrderBy> {
    let text = reader.string("order")?;
    match text.split_once(':') {
        None if text == "none" => Some(OrderBy::Nothing),
        None if text == "id" => Some(OrderBy::DeliveryId),
        Some(("header", name)) if !name.is_empty() => Some(OrderBy::HeaderField(name.to_owned())),
        Some(("json", pointer)) if pointer.starts_with('/') => Some(OrderBy::BodyPointer(pointer.to_owned())),
        _ => {
            reader.error(
                "order",
                "is not a place of a key",
                "choose \"none\", \"id\", \"header:NAME\" or \"json:/POINTER\"",
            );
            None
        }
    }
}

/// What `check` says of the inbox: what a 202 means, and how much it may take.
#[must_use]
pub fn describe(inbox: &InboxSettings) -> Vec<String> {
    let means = if inbox.durable {
        "on disk: it survives the loss of power"
    } else {
        "with the kernel: it survives the end of this process"
    };
    vec![
        format!("an acknowledged delivery is {means}"),
        format!("at most {} in {}", show_size(inbox.size), inbox.directory.display()),
        format!(
            "at most {} deliveries, {} of memory",
            inbox.deliveries,
            show_size(inbox.deliveries * BYTES_PER_DELIVERY)
        ),
        format!("dead letters: {} % of it, for {}", inbox.dead_percent, show_duration(inbox.retention)),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::document::Document;

    fn read_text(text: &str) -> (Option<InboxSettings>, Option<DeliverySettings>, Vec<String>) {
        let document = Document::parse("test.toml", text).unwrap();
        let root = document.root();
        let inbox = read(&root);
        let route = root.table("route").and_then(|route| {
            let settings = read_route(&route, inbox.is_some());
            route.finish();
            settings
        });
        root.finish();
        let problems = document.into_problems();
        (inbox, route, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn everything_is_read_and_small_settings_are_valid() {
        let (inbox, route, problems) = read_text(
            "[inbox]\ndirectory = 'box'\nsize = '64MiB'\ndeliveries = 2048\ndead_letters = { percent = 50, retention = '1h' }\n\
             [route]\nacknowledge = 'durable'\nacknowledge_status = 200\n[route.delivery]\nconcurrency = 2\n\
             backoff = '100ms..1s'\norder = 'header:X'\norder_on_dead = 'hold'\ndead_on = ['410']\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        let inbox = inbox.unwrap();
        assert_eq!((inbox.size, inbox.deliveries, inbox.durable, inbox.dead_percent), (64 << 20, 2_048, true, 50));
        assert!(describe(&inbox)[0].contains("loss of power"));
        let route = route.unwrap();
        assert_eq!((route.backoff, route.concurrency), (Backoff { first: 100, cap: 1_000 }, 2));
        assert_eq!(
            (route.order, route.on_dead, route.dead_on),
            (OrderBy::HeaderField("X".into()), OnDead::Hold, vec![410])
        );
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, expected) in [
            ("[inbox]\n", "directory"),
            ("[inbox]\ndirectory = 'a'\nsize = '1MiB'\n", "out of range"),
            ("[inbox]\ndirectory = 'a'\ndurability = 'os'\n", "not that of the machine"),
            ("[route]\nacknowledge = 'durable'\n", "there is none"),
            ("[route]\nacknowledge_status = 202\n", "no effect"),
            ("[route]\ndelivery = { backoff = '1s' }\n", "pair of durations"),
            ("[route]\ndelivery = { backoff = '2s..1s' }\n", "shorter one first"),
            ("[route]\ndelivery = { order = 'body' }\n", "place of a key"),
            ("[route]\ndelivery = { dead_on = ['200'] }\n", "300 to 599"),
            ("[route]\ndelivery = { order_missing = 'refuse' }\n", "nothing orders"),
        ] {
            let (_, _, problems) = read_text(text);
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{text}: {problems:?}");
        }
    }
}
