//! `acknowledge` and `delivery` of a route: whether deliveries are stored, and how they reach the application then.

use core::fmt;
use core::time::Duration;

use super::verification::Verification;
use crate::config::lines::line;
use crate::config::reader::{Reader, set};
use crate::config::units::{parse_duration, show_duration};
use crate::gate::durable::OrderBy;
use crate::inbox::backoff::Backoff;
use crate::inbox::judgement::DEAD_ON;
use crate::inbox::lane::OnDead;

const HOUR: Duration = Duration::from_secs(3_600);

/// Senders that read the body of the answer: a challenge, a PING, a reply to show.
const READS_ANSWERS: [&str; 4] = ["slack", "discord", "twilio", "zoom"];

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

/// Reads `acknowledge`, `acknowledge_status` and `delivery`. Nothing where the sender is answered by the application.
pub(super) fn read(route: &Reader<'_>, inbox: bool, verification: Option<&Verification>) -> Option<DeliverySettings> {
    let durable = route.choice("acknowledge", &[("upstream", false), ("durable", true)]).unwrap_or(false);
    let mut settings = DeliverySettings::default();
    if let Some(status) = route.integer("acknowledge_status", 200..=204).and_then(|it| u16::try_from(it).ok()) {
        if status == 203 {
            route.error("acknowledge_status", "203 is no answer of ours", "choose 200, 201, 202 or 204");
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
    let scheme = verification.map(|it| it.scheme.name.as_str()).unwrap_or_default();
    if durable && READS_ANSWERS.contains(&scheme) {
        let message = format!("{scheme} reads the answer to some requests, and gets the one of the inbox instead");
        let fix = "write acknowledge = \"upstream\", or let another route answer these requests";
        route.warning("acknowledge", message, fix);
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
    set(&mut settings.give_up_after, reader.duration("give_up_after", Duration::from_secs(1)..=720 * HOUR));
    set(&mut settings.timeout, reader.duration("timeout", Duration::from_millis(100)..=HOUR));
    set(&mut settings.backoff, read_backoff(reader));
    settings.order = read_order(reader).unwrap_or_default();
    settings.order_required = reader.choice("order_missing", &[("none", false), ("refuse", true)]).unwrap_or(false);
    let on_dead = [("continue", OnDead::Continue), ("hold", OnDead::Hold)];
    settings.on_dead = reader.choice("order_on_dead", &on_dead).unwrap_or_default();
    for key in ["order_missing", "order_on_dead"] {
        if settings.order == OrderBy::Nothing && reader.has(key) && !reader.failed() {
            reader.warning(key, "has no effect: nothing orders the deliveries", "write order = \"id\", or remove this");
        }
    }
    set(&mut settings.dead_on, reader.statuses("dead_on", 300..=599));
}

/// `"1s..15m"`: the bound after the first failure, and the greatest one.
fn read_backoff(reader: &Reader<'_>) -> Option<Backoff> {
    const FIX: &str = "write the first and the longest delay, such as \"1s..15m\"";
    let text = reader.string("backoff")?;
    let parse = |part: &str| parse_duration(part).ok().map(|it| it.as_millis());
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

/// For `check`.
pub(super) fn describe(out: &mut String, delivery: Option<&DeliverySettings>) -> fmt::Result {
    let Some(delivery) = delivery else { return Ok(()) };
    let status = delivery.acknowledge_status;
    line(out, "answer", format_args!("{status} as soon as the delivery is stored in the inbox"))?;
    let Backoff { first, cap } = delivery.backoff;
    let (first, cap) = (show_duration(Duration::from_millis(first)), show_duration(Duration::from_millis(cap)));
    let concurrency = delivery.concurrency;
    line(out, "delivery", format_args!("{concurrency} at a time, again after {first} to {cap}"))?;
    let age = show_duration(delivery.give_up_after);
    match delivery.attempts {
        0 => line(out, "", format_args!("until {age} have passed, then a dead letter"))?,
        attempts => line(out, "", format_args!("{attempts} times, or until {age} have passed; then a dead letter"))?,
    }
    let dead_on: Vec<String> = delivery.dead_on.iter().map(ToString::to_string).collect();
    line(out, "", format_args!("a dead letter at once after {}", dead_on.join(", ")))?;
    match &delivery.order {
        OrderBy::Nothing => Ok(()),
        OrderBy::DeliveryId => line(out, "order", "by the id of the delivery"),
        OrderBy::HeaderField(name) => {
            line(out, "order", format_args!("by the header {name}; who can change it on its way changes the order"))
        }
        OrderBy::BodyPointer(pointer) => line(out, "order", format_args!("by {pointer} of the body")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::document::Document;

    fn read_text(text: &str, inbox: bool) -> (Option<DeliverySettings>, Vec<String>) {
        let document = Document::parse("test.toml", text).unwrap();
        let root = Reader::root(&document);
        let route = root.table("route").and_then(|route| {
            let settings = read(&route, inbox, None);
            route.finish();
            settings
        });
        root.finish();
        let problems = document.into_problems();
        (route, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn everything_is_read() {
        let (route, problems) = read_text(
            "[route]\nacknowledge = 'durable'\nacknowledge_status = 200\n[route.delivery]\nconcurrency = 2\n\
             backoff = '100ms..1s'\norder = 'header:X'\norder_on_dead = 'hold'\ndead_on = [410]\n",
            true,
        );
        assert_eq!(problems, Vec::<String>::new());
        let route = route.unwrap();
        assert_eq!((route.backoff, route.concurrency), (Backoff { first: 100, cap: 1_000 }, 2));
        assert_eq!(route.acknowledge_status, 200);
        assert_eq!(
            (route.order, route.on_dead, route.dead_on),
            (OrderBy::HeaderField("X".into()), OnDead::Hold, vec![410])
        );
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, expected) in [
            ("[route]\nacknowledge = 'durable'\n", "there is none"),
            ("[route]\nacknowledge_status = 202\n", "no effect"),
            ("[route]\nacknowledge_status = 203\n", "no answer of ours"),
            ("[route]\ndelivery = { backoff = '1s' }\n", "pair of durations"),
            ("[route]\ndelivery = { backoff = '2s..1s' }\n", "shorter one first"),
            ("[route]\ndelivery = { order = 'body' }\n", "place of a key"),
            ("[route]\ndelivery = { dead_on = [200] }\n", "300 to 599"),
            ("[route]\ndelivery = { order_missing = 'refuse' }\n", "nothing orders"),
        ] {
            let (_, problems) = read_text(text, false);
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{text}: {problems:?}");
        }
    }
}
