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

/// What strangers can make us hold, and what genuine deliveries fill. What is beside it (the kernel's socket buffers, the tasks of connections, the answers
/// of the application on their way) does not grow with what strangers send.
pub(super) fn write(out: &mut String, settings: &Settings) -> fmt::Result {
    let limits = &settings.limits;
    let admission = &limits.admission;
    let each = bytes_per_connection(limits);
    let connections = admission.connections.saturating_mul(each);
    let clients = KeyedBuckets::memory(admission.clients_tracked) as u64;
    let tables = || settings.routes.iter().filter_map(|route| route.replay.as_ref());
    let replays = tables().fold(0_u64, |sum, policy| sum.saturating_add(ledger::memory(policy.capacity) as u64));
    let encrypted = settings.listeners.iter().any(|listener| listener.tls.is_some());
    let records = if encrypted { admission.connections.saturating_mul(TLS_CONNECTION) } else { 0 };
    let handshakes = if encrypted { admission.handshakes.saturating_mul(TLS_HANDSHAKE) } else { 0 };
    let rates = if encrypted { clients } else { 0 };
    let captures = settings.admin.as_ref().map(|admin| admin.capture_refused as u64).unwrap_or_default();
    let captured = captures * CAPTURED;
    let total = [admission.body_memory, clients, rates, replays, records, handshakes, captured]
        .into_iter()
        .fold(connections, u64::saturating_add);
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
        line(out, "", format_args!("and as much for their handshakes = {}", rounded(rates)))?;
    }
    line(out, "replays", format_args!("{} tables, when full: {}", tables().count(), rounded(replays)))?;
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
