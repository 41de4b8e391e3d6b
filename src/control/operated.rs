//! What operators do with stored deliveries is told: in the log of the process, and in the audit trail.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use crate::admin::desk::InboxWish;
use crate::admin::inbox::InboxForm;
use crate::admin::request::AdminCaller;
use crate::edge::observer::Observer;
use crate::inbox::operation::{InboxOperation, InboxReport, encoded};
use crate::telemetry::audit::inbox_change::{InboxAction, InboxChange, NAMED};

use super::event_log::{EventLog, Level};
use super::records::Records;

/// Connections of a network namespace are listed here, IPv4 and IPv6 (`proc_pid_net(5)`).
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Tells of what was asked for, unless it was a list or a dry run.
pub(super) fn tell(log: &EventLog, records: &Records, wish: &InboxWish<'_>, done: &Result<InboxReport, String>) {
    let Some((action, meant)) = what(wish) else { return };
    let deliveries = done.as_ref().map(|report| &report.deliveries[..]).unwrap_or_default();
    let ids: Vec<[u8; 13]> = deliveries.iter().take(NAMED).map(|listed| listed.row.id.text()).collect();
    let by = caller(wish.caller);
    let failed = done.as_ref().err().map(String::as_str);
    let count = deliveries.len() as u64;
    records.inbox_changed(&InboxChange { action, by: &by, meant: &meant, count, ids: &ids, failed });
    let failed = failed.map(|why| format!("; it failed: {why}")).unwrap_or_default();
    let subject = match action {
        InboxAction::Held | InboxAction::Released => meant,
        _ => format!("{count} deliveries ({meant})"),
    };
    log.event(Level::Info, &format!("inbox: {subject} {}, asked by {by}{failed}", action.word()));
}

/// What an operation does, and which deliveries it means.
fn what(wish: &InboxWish<'_>) -> Option<(InboxAction, String)> {
    Some(match wish.operation {
        InboxOperation::List(_) | InboxOperation::Redrive(_, true) | InboxOperation::Purge(_, true) => return None,
        InboxOperation::Redrive(page, false) => (InboxAction::Redriven, page.query()),
        InboxOperation::Purge(page, false) => (InboxAction::Purged, page.query()),
        InboxOperation::Hold(route, true) => (InboxAction::Held, format!("route={}", encoded(route))),
        InboxOperation::Hold(route, false) => (InboxAction::Released, format!("route={}", encoded(route))),
        InboxOperation::Show(id) => {
            let action = if wish.form == InboxForm::Message { InboxAction::Exported } else { InboxAction::Shown };
            (action, format!("id={id}"))
        }
    })
}

/// Who asks, as far as that can be known: the address of a TCP connection and, if it is from this host, the user that owns
/// its other end; the user and the process of a Unix socket.
fn caller(caller: AdminCaller) -> String {
    match caller {
        AdminCaller::Unix(Some((user, process))) => format!("unix socket, user {user}, process {process}"),
        AdminCaller::Unix(None) => "unix socket".to_owned(),
        AdminCaller::Tcp { peer, own } => {
            let user = own.filter(|_| peer.ip().to_canonical().is_loopback()).and_then(|own| user_of(peer, own));
            user.map_or_else(|| peer.to_string(), |user| format!("{peer}, user {user}"))
        }
    }
}

/// The user that owns the end `peer` of a connection to `own`, if that is on this host.
fn user_of(peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    TABLES.iter().find_map(|table| owner(&fs::read_to_string(table).ok()?, peer, own))
}

/// The user of the line with these ends in a table of connections.
fn owner(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let (local, remote) = (ends(local), ends(remote));
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (from, to) = (fields.next()?, fields.next()?);
        if !local.iter().any(|it| it == from) || !remote.iter().any(|it| it == to) {
            return None;
        }
        fields.nth(4)?.parse().ok()
    })
}

/// How the kernel writes an end: each 32 bits of the address in the byte order of the host, then the port. An IPv4 address
/// may stand among those of IPv6.
fn ends(end: SocketAddr) -> Vec<String> {
    let written = |octets: &[u8]| {
        let mut text = String::new();
        for word in octets.as_chunks::<4>().0 {
            let _ = write!(text, "{:08X}", u32::from_ne_bytes(*word));
        }
        let _ = write!(text, ":{:04X}", end.port());
        text
    };
    match end.ip().to_canonical() {
        IpAddr::V4(address) => vec![written(&address.octets()), written(&address.to_ipv6_mapped().octets())],
        IpAddr::V6(address) => vec![written(&address.octets())],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_user_at_the_other_end_of_a_connection_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        let (own, user) = (stream.local_addr().ok(), fs::metadata("/proc/self").unwrap().uid());
        let said = caller(AdminCaller::Tcp { peer, own });
        assert_eq!(said, format!("{}, user {user}", client.local_addr().unwrap()));
        let other = "127.0.0.1:1".parse().unwrap();
        assert_eq!(caller(AdminCaller::Tcp { peer: other, own }), "127.0.0.1:1");
        assert_eq!(caller(AdminCaller::Unix(Some((7, 9)))), "unix socket, user 7, process 9");
    }

    #[test]
    fn lines_that_are_no_lines_are_passed_over() {
        let (local, remote) = ("127.0.0.1:8".parse().unwrap(), "127.0.0.1:9".parse().unwrap());
        let line = format!("0: {} {} 01 0:0 0:0 0 77 0 5", ends(local)[0], ends(remote)[1]);
        for (table, found) in [
            (format!("head\n{line}"), Some(77)),
            (format!("head\n\n:::\n0: 1\n{line}"), Some(77)),
            (line.clone(), None),
            (format!("head\n{}", line.replace("77", "x")), None),
            (String::new(), None),
        ] {
            assert_eq!(owner(&table, local, remote), found, "{table}");
        }
    }
}
