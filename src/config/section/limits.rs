//! `[limits]`: bounds on what a client may send and how long it may take, and the bounds of the whole process.

use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

use crate::config::lines::line;
use crate::config::rates::{read_rate, show_rate};
use crate::config::reader::{Reader, set};
use crate::config::units::{TIMEOUT, show_duration, show_size};
use crate::gate::limits::{AdmissionLimits, OverBudget};

/// `[limits]`: bounds on what a client may send and how long it may take. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// The whole head: request line, fields and the empty line.
    pub head_size: usize,
    /// Number of header fields.
    pub headers: usize,
    /// Length of the request target.
    pub target_size: usize,
    /// Length of a body, where the route says nothing.
    pub body_size: u64,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// From the beginning of a connection to the end of its TLS handshake.
    pub handshake_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of a response.
    pub write_timeout: Duration,
    /// After so many requests a connection is closed.
    pub requests_per_connection: u32,
    /// Bytes of a body that must come in a second, after a grace period; 0 for any.
    pub body_rate_min: u64,
    /// Bounds of the whole process.
    pub admission: AdmissionLimits,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            head_size: 16 << 10,
            headers: 100,
            target_size: 8 << 10,
            body_size: 1 << 20,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            requests_per_connection: 10_000,
            body_rate_min: 1 << 10,
            admission: AdmissionLimits::default(),
        }
    }
}

/// Bodies are buffered: more than this is not a webhook.
pub(crate) const BODY_SIZE: RangeInclusive<u64> = 1..=256 << 20;

const COUNT: RangeInclusive<u64> = 1..=1_000_000;

/// From the largest buffer that a body of a usual delivery needs, to what no process has.
const BODY_MEMORY: RangeInclusive<u64> = 16 << 10..=1 << 40;

/// 0 switches the minimum off.
const BODY_RATE: RangeInclusive<u64> = 0..=1 << 30;

/// Each takes a few dozen bytes.
const CLIENTS: RangeInclusive<u64> = 1..=16 << 20;

/// A share without anything would refuse as the other mode does.
const PERCENT: RangeInclusive<u64> = 1..=100;

pub(crate) fn read(root: &Reader<'_>) -> LimitSettings {
    let mut limits = LimitSettings::default();
    let Some(reader) = root.table("limits") else { return limits };
    set(&mut limits.head_size, reader.bytes("head_size", 1 << 10..=64 << 10));
    set(&mut limits.headers, reader.count("headers", 8..=256));
    let target_size = reader.bytes("target_size", 64..=32 << 10);
    set(&mut limits.body_size, reader.size("body_size", BODY_SIZE));
    set(&mut limits.head_timeout, reader.duration("head_timeout", TIMEOUT));
    set(&mut limits.body_timeout, reader.duration("body_timeout", TIMEOUT));
    set(&mut limits.handshake_timeout, reader.duration("handshake_timeout", TIMEOUT));
    set(&mut limits.idle_timeout, reader.duration("idle_timeout", TIMEOUT));
    set(&mut limits.write_timeout, reader.duration("write_timeout", TIMEOUT));
    let requests = reader.integer("requests_per_connection", 1..=1_000_000_000);
    set(&mut limits.requests_per_connection, requests.and_then(|number| u32::try_from(number).ok()));
    read_admission(&reader, &mut limits);
    match target_size {
        Some(size) if size >= limits.head_size => {
            let fix = "make target_size smaller, or head_size larger";
            reader.error("target_size", "is not smaller than head_size, of which the target is a part", fix);
        }
        Some(size) => limits.target_size = size,
        // A smaller head by itself leaves half of it for the target.
        None => limits.target_size = limits.target_size.min(limits.head_size / 2),
    }
    reader.finish();
    limits
}

/// Fills what `[limits]` says about admission; the rest keeps its default.
fn read_admission(reader: &Reader<'_>, limits: &mut LimitSettings) {
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
    admission.unverified_per_client =
        read_rate(reader, "unverified_per_client").unwrap_or(admission.unverified_per_client);
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
    admission.handshakes_per_client =
        read_rate(reader, "handshakes_per_client").unwrap_or(admission.handshakes_per_client);
    let clients = reader.integer("clients_tracked", CLIENTS).and_then(|number| usize::try_from(number).ok());
    admission.clients_tracked = clients.unwrap_or(admission.clients_tracked);
}

/// For `check`. `encrypted` is whether any listener speaks TLS.
pub(crate) fn describe(out: &mut String, limits: &LimitSettings, encrypted: bool) -> fmt::Result {
    let (head, target) = (show_size(limits.head_size as u64), show_size(limits.target_size as u64));
    line(out, "head", format_args!("{head}, {} fields, target {target}", limits.headers))?;
    let (head, body) = (show_duration(limits.head_timeout), show_duration(limits.body_timeout));
    line(out, "time", format_args!("head within {head}, body within {body}"))?;
    let handshake = show_duration(limits.handshake_timeout);
    line(out, "", format_args!("TLS handshake within {handshake}, {} of them", limits.admission.handshakes))?;
    if encrypted {
        let rate = show_rate(&limits.admission.handshakes_per_client);
        line(
            out,
            "",
            format_args!("handshakes without a genuine delivery, of each client: {rate}; more wait behind others"),
        )?;
    }
    let (idle, write) = (show_duration(limits.idle_timeout), show_duration(limits.write_timeout));
    line(out, "", format_args!("idle for {idle}, stalled while it takes a response for {write}"))?;
    match limits.body_rate_min {
        0 => {}
        speed => line(out, "", format_args!("a body at least at {}/s, after a grace period", show_size(speed)))?,
    }
    let admission = &limits.admission;
    let (all, client) = (admission.connections, admission.connections_per_client);
    line(out, "connections", format_args!("{all}, of one client {client}; idle ones go first"))?;
    let (requests, flight) = (limits.requests_per_connection, admission.requests_in_flight);
    line(out, "requests", format_args!("{requests} per connection, {flight} in flight"))?;
    let rate = show_rate(&admission.unverified_per_client);
    line(out, "clients", format_args!("{} tracked; not genuine, of each: {rate}", admission.clients_tracked))?;
    match admission.over_budget {
        OverBudget::Refuse => line(out, "", format_args!("more of one: refused before they are verified (429)")),
        OverBudget::Queue => {
            let (percent, requests) = (admission.over_budget_percent, admission.suspect_requests());
            let bodies = show_size(admission.suspect_body_memory());
            line(
                out,
                "",
                format_args!("more of one: wait for their turn, with all others like them in at most {percent} %:"),
            )?;
            line(out, "", format_args!("{requests} in flight, bodies of {bodies}, that share of each worker's time"))
        }
    }
}
