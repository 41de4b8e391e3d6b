//! What the kernel knows of connections on loopback: `/proc/net/tcp`, which has a line for each end of one (proc(5)).

use std::fs;

/// States of a socket, as the kernel numbers them (`include/net/tcp_states.h`).
const ESTABLISHED: u8 = 1;
const FIN_WAIT_1: u8 = 4;
const LAST_ACK: u8 = 9;
const LISTEN: u8 = 10;
const CLOSING: u8 = 11;

/// One end of a connection.
struct End {
    port: u16,
    remote_port: u16,
    state: u8,
    /// Bytes that the other end's kernel has not acknowledged.
    unsent: u32,
    /// Bytes that the program has not read.
    unread: u32,
}

impl End {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
        let (unsent, unread) = fields.get(4)?.split_once(':')?;
        Some(Self {
            port: port(fields.get(1)?)?,
            remote_port: port(fields.get(2)?)?,
            state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
            unsent: u32::from_str_radix(unsent, 16).ok()?,
            unread: u32::from_str_radix(unread, 16).ok()?,
        })
    }
}

fn ends() -> Vec<End> {
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    table.lines().skip(1).filter_map(End::parse).collect()
}

/// Whether nothing of what was sent from `port` is on its way: bytes, ends, resets.
pub(crate) fn has_arrived(port: u16) -> bool {
    let ends = ends();
    let own = || ends.iter().filter(|end| end.port == port && end.state != LISTEN);
    let is_sent = own().all(|end| end.unsent == 0 && ![FIN_WAIT_1, LAST_ACK, CLOSING].contains(&end.state));
    // A reset leaves nothing behind at the end that sent it.
    let is_known = |other: &End| own().any(|end| end.remote_port == other.port);
    is_sent && ends.iter().all(|end| end.remote_port != port || end.state != ESTABLISHED || is_known(end))
}

/// Whether the program at `remote_port` has read everything that was sent to it from `port`.
pub(crate) fn is_read(port: u16, remote_port: u16) -> bool {
    ends().iter().all(|end| match (end.port, end.remote_port) {
        pair if pair == (port, remote_port) => end.unsent == 0,
        pair if pair == (remote_port, port) => end.unread == 0,
        _ => true,
    })
}
