//! The worst case of memory, as `check` shows it: every bound of the configuration, added up.

use core::fmt::{self, Write};

use crate::config::lines::line;
use crate::config::section::admin::{CAPTURED_BODY, CAPTURED_HEAD};
use crate::config::section::limits::LimitSettings;
use crate::config::settings::Settings;
use crate::config::units::show_size_rounded;
use crate::gate::keyed_buckets::KeyedBuckets;
use crate::ledger;

/// What a connection holds at most beside the bytes of its body: the buffer for its head (a pooled one holds at least
/// 20 KiB once a request needed it; the steps of the pool add less than 8 KiB) and 20 bytes for each field of it.
fn bytes_per_connection(limits: &LimitSettings) -> u64 {
    let buffer = (limits.head_size as u64 + (8 << 10)).max(20 << 10);
    buffer + 20 * limits.headers as u64
}

/// Buffers that a worker keeps for the next use, at most: 256 × 4 KiB, 64 × 20 KiB, 32 × 72 KiB, 8 × 272 KiB and
/// 4 × 1040 KiB; and 64 × 21 KiB for records.
const POOL: u64 = (256 * 4 + 64 * 20 + 32 * 72 + 8 * 272 + 4 * 1040 + 64 * 21) << 10;

/// What an encrypted connection holds at most beside that: its keys, a buffer for records that arrive and one for those
/// that leave (21 KiB each), and the rest of one record in plain text.
const TLS_CONNECTION: u64 = (8 + 2 * 21 + 16) << 10;

/// And while its handshake is made: the longest flight of a client.
const TLS_HANDSHAKE: u64 = 80 << 10;

/// What a refused request holds at most that is kept (`[admin] capture_refused`).
const CAPTURED: u64 = (CAPTURED_HEAD + CAPTURED_BODY) as u64;

/// What each bound of a configuration can come to, in bytes.
struct Bounds {
    connections: u64,
    clients: u64,
    replays: u64,
    records: u64,
    handshakes: u64,
    captured: u64,
    /// Whether any listener speaks TLS.
    encrypted: bool,
}

impl Bounds {
    fn of(settings: &Settings) -> Self {
        let limits = &settings.limits;
        let admission = &limits.admission;
        let encrypted = settings.listeners.iter().any(|listener| listener.tls.is_some());
        let if_encrypted = |count: u64, each: u64| if encrypted { count.saturating_mul(each) } else { 0 };
        let tables = settings.routes.iter().filter_map(|route| route.replay.as_ref());
        let captures = settings.admin.as_ref().map(|admin| admin.capture_refused as u64).unwrap_or_default();
        Self {
            connections: admission.connections.saturating_mul(bytes_per_connection(limits)),
            clients: KeyedBuckets::memory(admission.clients_tracked) as u64,
            replays: tables.fold(0, |sum, policy| sum.saturating_add(ledger::memory(policy.capacity) as u64)),
            records: if_encrypted(admission.connections, TLS_CONNECTION),
            handshakes: if_encrypted(admission.handshakes, TLS_HANDSHAKE),
            captured: captures.saturating_mul(CAPTURED),
            encrypted,
        }
    }
}

/// All bounds together, without what workers keep for reuse.
fn total(settings: &Settings) -> u64 {
    let bounds = Bounds::of(settings);
    let rates = if bounds.encrypted { bounds.clients } else { 0 };
    let Bounds { connections, clients, replays, records, handshakes, captured, .. } = bounds;
    let all = [settings.limits.admission.body_memory, clients, rates, replays, records, handshakes, captured];
    all.into_iter().fold(connections, u64::saturating_add)
}

/// Bytes that clients can make a process with so many workers hold, as `check` adds them up.
#[must_use]
pub fn worst_case(settings: &Settings, workers: usize) -> u64 {
    total(settings).saturating_add(POOL.saturating_mul(workers as u64))
}

/// What clients can make the process hold. The rest (socket buffers of the kernel, tasks of connections, answers of the
/// application on their way) does not grow with what clients send.
pub(super) fn write(out: &mut String, settings: &Settings) -> fmt::Result {
    let Bounds { connections, clients, replays, records, handshakes, captured, encrypted } = Bounds::of(settings);
    let admission = &settings.limits.admission;
    let each = bytes_per_connection(&settings.limits);
    let tables = settings.routes.iter().filter(|route| route.replay.is_some()).count();
    let captures = settings.admin.as_ref().map(|admin| admin.capture_refused as u64).unwrap_or_default();
    let total = total(settings);
    let rounded = show_size_rounded;
    writeln!(out, "\nmemory that clients can make this process hold")?;
    line(out, "heads", format_args!("{} connections × {each}B = {}", admission.connections, rounded(connections)))?;
    line(out, "bodies", format_args!("all together {}", rounded(admission.body_memory)))?;
    if encrypted {
        let (each, all) = (rounded(TLS_CONNECTION), rounded(records));
        line(out, "records", format_args!("{} connections × {each} = {all}", admission.connections))?;
        let (each, all) = (rounded(TLS_HANDSHAKE), rounded(handshakes));
        line(out, "handshakes", format_args!("{} × {each} more = {all}", admission.handshakes))?;
    }
    line(out, "clients", format_args!("{}, when all are there: {}", admission.clients_tracked, rounded(clients)))?;
    if encrypted {
        line(out, "", format_args!("and as much for their handshakes = {}", rounded(clients)))?;
    }
    line(out, "replays", format_args!("{tables} tables, when full: {}", rounded(replays)))?;
    if captures > 0 {
        let (each, all) = (rounded(CAPTURED), rounded(captured));
        line(out, "captured", format_args!("{captures} refused requests × {each} = {all}"))?;
    }
    match settings.server.workers {
        0 => {
            line(out, "buffers", format_args!("kept for reuse: {} per worker (one per core)", rounded(POOL)))?;
            line(out, "all", format_args!("{} + {} per worker", rounded(total), rounded(POOL)))
        }
        workers => {
            let pools = POOL.saturating_mul(workers as u64);
            line(
                out,
                "buffers",
                format_args!("kept for reuse: {workers} workers × {} = {}", rounded(POOL), rounded(pools)),
            )?;
            line(out, "all", rounded(total.saturating_add(pools)))
        }
    }
}
