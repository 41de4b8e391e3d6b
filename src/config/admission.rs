//! Reads the bounds of admission: those of the process out of `[limits]`, and those of a route.

use core::ops::RangeInclusive;

use crate::config::reader::Reader;
use crate::config::settings::Limits;
use crate::config::units::{shorten, show_size};
use crate::gate::limits::OverBudget;
use crate::gate::route_admission::RouteAdmission;
use crate::gate::token_bucket::Rate;

const COUNT: RangeInclusive<u64> = 1..=1_000_000;

/// From the largest buffer that a body of a usual delivery needs, to what no process has.
const BODY_MEMORY: RangeInclusive<u64> = 16 << 10..=1 << 40;

/// 0 switches the minimum off.
const BODY_RATE: RangeInclusive<u64> = 0..=1 << 30;

/// Each takes a few dozen bytes.
const CLIENTS: RangeInclusive<u64> = 1..=16 << 20;

/// A share without anything would refuse as the other mode does.
const PERCENT: RangeInclusive<u64> = 1..=100;

const MEDIA_TYPE_LIMIT: usize = 16;

/// Fills what `[limits]` says about admission; the rest keeps its default.
pub(super) fn limits(reader: &Reader<'_>, limits: &mut Limits) {
    limits.body_rate_min = reader.speed("body_rate_min", BODY_RATE).unwrap_or(limits.body_rate_min);
    let admission = &mut limits.admission;
    let count = |key: &str, default: u64| reader.integer(key, COUNT).unwrap_or(default);
    admission.connections = count("connections", admission.connections);
    admission.requests_in_flight = count("requests_in_flight", admission.requests_in_flight);
    let per_client = reader.integer("connections_per_client", COUNT);
    if per_client.is_some_and(|per_client| per_client > admission.connections) {
        let message =
            format!("has no effect: there are {} connections at a time, of all clients", admission.connections);
        reader.warning("connections_per_client", message, "make it smaller than connections, or remove it");
    }
    let per_client = per_client.unwrap_or_else(|| u64::from(admission.connections_per_client));
    admission.connections_per_client = u32::try_from(per_client).unwrap_or(u32::MAX);
    admission.body_memory = reader.size("body_memory", BODY_MEMORY).unwrap_or(admission.body_memory);
    admission.unverified_per_client = rate(reader, "unverified_per_client").unwrap_or(admission.unverified_per_client);
    let modes = [OverBudget::Queue, OverBudget::Refuse].map(|mode| (mode.name(), mode));
    admission.over_budget = reader.choice("over_budget", &modes).unwrap_or(admission.over_budget);
    let percent = reader.integer("over_budget_percent", PERCENT);
    if percent.is_some() && admission.over_budget == OverBudget::Refuse {
        let message = "has no effect: requests of clients over their budgets are refused before they take anything";
        reader.warning("over_budget_percent", message, "remove it, or write over_budget = \"queue\"");
    }
    let percent = percent.and_then(|percent| u32::try_from(percent).ok());
    admission.over_budget_percent = percent.unwrap_or(admission.over_budget_percent);
    admission.handshakes = count("handshakes", admission.handshakes);
    admission.handshakes_per_client = rate(reader, "handshakes_per_client").unwrap_or(admission.handshakes_per_client);
    let clients = reader.integer("clients_tracked", CLIENTS).and_then(|number| usize::try_from(number).ok());
    admission.clients_tracked = clients.unwrap_or(admission.clients_tracked);
}

/// `{ rate = "100/s", burst = 200 }`; both must be there.
fn rate(reader: &Reader<'_>, key: &str) -> Option<Rate> {
    const FIX: &str = "write both: { rate = \"100/s\", burst = 200 }";
    let table = reader.table(key)?;
    let number = 1..=u64::from(Rate::TOKEN_LIMIT);
    table.require("rate", FIX);
    table.require("burst", FIX);
    let frequency = table.frequency("rate", number.clone());
    let burst = table.integer("burst", number);
    if table.failed() {
        reader.mark_failed();
    }
    table.finish();
    let (tokens, per) = frequency?;
    Some(Rate { tokens: u32::try_from(tokens).ok()?, per, burst: u32::try_from(burst?).ok()? })
}

/// What a route says about admission.
pub(super) fn route(reader: &Reader<'_>, body_size: u64, body_memory: u64) -> RouteAdmission {
    if body_size > body_memory {
        let (size, memory) = (show_size(body_size), show_size(body_memory));
        let message = format!("a body of {size} can never come in: [limits] body_memory is {memory} for all together");
        reader.error("body_size", message, "make body_size smaller, or body_memory larger");
    }
    RouteAdmission { rate: rate(reader, "rate"), content_types: content_types(reader), ..RouteAdmission::default() }
}

fn content_types(reader: &Reader<'_>) -> Vec<String> {
    let Some(written) = reader.strings("content_types") else { return Vec::new() };
    if written.is_empty() || written.len() > MEDIA_TYPE_LIMIT {
        let fix = format!("write content_types = [\"application/json\"], or leave it out; at most {MEDIA_TYPE_LIMIT}");
        reader.error("content_types", format!("has {} media types", written.len()), fix);
    }
    let mut types: Vec<String> = Vec::new();
    for text in written.into_iter().take(MEDIA_TYPE_LIMIT) {
        let lower = text.to_ascii_lowercase();
        if lower.contains(';') {
            let bare = lower.split(';').next().unwrap_or_default().trim_end();
            let fix = format!("write \"{}\": parameters are not compared", shorten(bare));
            reader.error("content_types", "has parameters", fix);
        } else if !is_media_type(&lower) {
            let message = format!("\"{}\" is not a media type", shorten(text));
            reader.error("content_types", message, "write type/subtype: \"application/json\"; there are no wildcards");
        } else if types.contains(&lower) {
            reader.error("content_types", format!("\"{}\" is given twice", shorten(text)), "remove one of the two");
        }
        types.push(lower);
    }
    types
}

/// RFC 9110, section 8.3.1: two tokens and a slash. `*` would be a token too, but nobody sends it.
fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&b))
    };
    text.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}
