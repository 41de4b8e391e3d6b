//! What to do when an address cannot be listened on.

use std::io;
use std::net::SocketAddr;

/// A sentence that follows the error, with a separator before it; nothing where there is nothing to say.
#[must_use]
pub fn bind_advice(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; another program has this port (`ss -ltnp 'sport = :{port}'` names it): stop it, or choose another port"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "; ports below 1024 are for root: choose one from 1024 on, or allow it with the capability \
             CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE) or with \
             sysctl net.ipv4.ip_unprivileged_port_start={port}"
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "; {} is not an address of this host: `ip address` lists them, and {} is all of them",
            address.ip(),
            if address.is_ipv4() { "0.0.0.0" } else { "[::]" }
        ),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_an_address_has_its_advice() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        for (kind, part) in [
            (io::ErrorKind::AddrInUse, "ss -ltnp 'sport = :80'"),
            (io::ErrorKind::PermissionDenied, "ip_unprivileged_port_start=80"),
            (io::ErrorKind::AddrNotAvailable, "127.0.0.1 is not an address of this host"),
        ] {
            assert!(bind_advice(address, &kind.into()).contains(part));
        }
        assert_eq!(bind_advice(address, &io::ErrorKind::Other.into()), "");
    }
}
