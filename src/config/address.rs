//! Addresses as people write them.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::config::units::shorten;
use crate::gate::identity::{ends_in_number, has_host_labels};
use crate::gate::upstream::UpstreamAddress;

/// The longest path of a Unix socket on Linux, without its NUL (`sun_path`, unix(7)).
const UNIX_PATH_LIMIT: usize = 107;

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnAddress {
    /// What is wrong with the text.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}

fn refuse<T>(message: impl Into<String>, fix: impl Into<String>) -> Result<T, NotAnAddress> {
    Err(NotAnAddress { message: message.into(), fix: fix.into() })
}

/// Reads the address of a listener: an IP address and a port. Port 0 lets the system choose.
///
/// # Errors
/// [`NotAnAddress`] says what is wrong and what to write.
pub fn parse_listener(text: &str) -> Result<SocketAddr, NotAnAddress> {
    let shown = shorten(text);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.ip().to_canonical() {
            IpAddr::V4(ip) if address.is_ipv6() => refuse(
                format!("\"{shown}\" is an IPv4 address in the form of IPv6"),
                format!("write \"{ip}:{}\"", address.port()),
            ),
            _ => Ok(address),
        };
    }
    let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
    let port = port.unwrap_or("8080");
    let fix = format!(
        "write \"127.0.0.1:{port}\", \"0.0.0.0:{port}\" for every IPv4 address, or \"[::]:{port}\" for every address"
    );
    if text.parse::<IpAddr>().is_ok() {
        return refuse(format!("\"{shown}\" has no port"), fix);
    }
    refuse(format!("\"{shown}\" is not an IP address with a port"), fix)
}

/// Reads the address of an application: `host:port`, `[v6]:port` or `unix:/path`. Names stay names.
///
/// # Errors
/// [`NotAnAddress`] says what is wrong and what to write.
pub fn parse_upstream(text: &str) -> Result<UpstreamAddress, NotAnAddress> {
    const FORMS: &str = "write \"127.0.0.1:9000\", \"name:9000\", \"[::1]:9000\" or \"unix:/run/app.sock\"";
    let shown = shorten(text);
    if let Some(path) = text.strip_prefix("unix:") {
        return match path {
            _ if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') => {
                refuse(format!("\"{shown}\" does not name a socket"), "write an absolute path: \"unix:/run/app.sock\"")
            }
            _ if path.len() > UNIX_PATH_LIMIT => {
                refuse(format!("the path of the socket is longer than {UNIX_PATH_LIMIT} bytes"), "use a shorter path")
            }
            _ => Ok(UpstreamAddress::Unix(PathBuf::from(path))),
        };
    }
    if text.contains("://") || text.contains('/') {
        return refuse(format!("\"{shown}\" is a URL or a path, not an address"), FORMS);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return refuse(format!("\"{shown}\" has no port"), FORMS);
    };
    let Some(port) = port.parse::<u16>().ok().filter(|port| *port != 0) else {
        return refuse(format!("\"{shown}\" has no port from 1 to 65535"), FORMS);
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(v6) if v6.parse::<Ipv6Addr>().is_ok() => Ok(UpstreamAddress::Tcp { host: v6.to_owned(), port }),
        None if is_host_name(host) => Ok(UpstreamAddress::Tcp { host: host.to_owned(), port }),
        None if host.contains(':') => refuse(format!("\"{shown}\" needs brackets around the IPv6 address"), FORMS),
        _ => refuse(format!("\"{shown}\" has no valid host"), FORMS),
    }
}

/// Reads the host of a route: a name or an IP address (IPv6 in brackets), without a port. In lower case.
///
/// # Errors
/// [`NotAnAddress`] says what is wrong and what to write.
pub fn parse_host(text: &str) -> Result<String, NotAnAddress> {
    let shown = shorten(text);
    let bare = text.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_some_and(|v6| v6.parse::<Ipv6Addr>().is_ok()) || is_host_name(text) {
        return Ok(text.to_ascii_lowercase());
    }
    let fix = "write the name alone: host = \"hooks.example.com\"";
    match text.rsplit_once(':') {
        _ if text.contains('*') => {
            refuse("wildcards are not understood", "write one route per host, or leave `host` out")
        }
        _ if text.contains('/') => refuse(format!("\"{shown}\" is a URL, not a host"), fix),
        _ if text.strip_suffix('.').is_some_and(is_host_name) => {
            let name = text.trim_end_matches('.').to_ascii_lowercase();
            refuse(format!("\"{shown}\" ends in a dot"), format!("the dot is ignored: host = \"{name}\""))
        }
        Some((host, _)) if is_host_name(host) => {
            refuse(format!("\"{shown}\" has a port"), format!("ports are ignored: host = \"{host}\""))
        }
        _ => refuse(format!("\"{shown}\" is not a host name"), fix),
    }
}

/// Whether a text is a host name as it appears in practice (RFC 1123, and underscores), or an IPv4 address.
fn is_host_name(text: &str) -> bool {
    text.len() <= 253 && has_host_labels(text) && (!ends_in_number(text) || text.parse::<IpAddr>().is_ok())
}

/// Whether a connection to `upstream` would arrive at `listener`: then the proxy would call itself.
#[must_use]
pub fn arrives_at(upstream: &UpstreamAddress, listener: SocketAddr) -> bool {
    let UpstreamAddress::Tcp { host, port } = upstream else { return false };
    let (local, same) = match host.parse::<IpAddr>() {
        Ok(ip) => (ip.is_loopback() || ip.is_unspecified(), ip == listener.ip()),
        Err(_) => (host.eq_ignore_ascii_case("localhost"), false),
    };
    let local_listener =
        listener.ip().is_unspecified() || (host.parse::<IpAddr>().is_err() && listener.ip().is_loopback());
    *port == listener.port() && (same || local && local_listener)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn upstream_addresses_read_back() {
        for text in
            ["127.0.0.1:9000", "localhost:1", "app.svc.cluster.local:65535", "[::1]:80", "unix:/run/app.sock", "a_b:1"]
        {
            assert_eq!(parse_upstream(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_an_upstream_address() {
        let long = format!("unix:/{}", "a".repeat(107));
        for text in [
            "",
            ":",
            ":80",
            "localhost",
            "localhost:0",
            "localhost:65536",
            "localhost:http",
            "http://localhost:80",
            "::1:80",
            "[::1]",
            "[x]:80",
            "a b:80",
            "-a:80",
            "a..b:80",
            "999.1.1.1:80",
            "unix:",
            "unix:run/app.sock",
            "unix:/run/",
            &long,
        ] {
            let wrong = parse_upstream(text).unwrap_err();
            assert!(!wrong.message.is_empty() && !wrong.fix.is_empty(), "{text}");
        }
        assert!(parse_upstream("::1:80").unwrap_err().message.contains("brackets"));
        assert!(parse_upstream("http://localhost:80").unwrap_err().message.contains("URL"));
    }

    #[test]
    fn listeners_need_an_ip_address_and_a_port() {
        for text in ["127.0.0.1:0", "0.0.0.0:8080", "[::]:8443"] {
            assert_eq!(parse_listener(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            ":8080",
            "localhost:8080",
            "127.0.0.1",
            "127.0.0.1:65536",
            "::1",
            "unix:/run/x",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(parse_listener(text).is_err(), "{text}");
        }
        assert!(parse_listener("localhost:81").unwrap_err().fix.contains("127.0.0.1:81"));
        assert!(parse_listener("::1").unwrap_err().message.contains("no port"));
    }

    #[test]
    fn hosts_are_lower_case_and_without_port() {
        assert_eq!(parse_host("Hooks.Example.com").unwrap(), "hooks.example.com");
        assert_eq!(parse_host("[::1]").unwrap(), "[::1]");
        for text in ["", "a:80", "https://a", "*.a", "a b", "a/", "é", ".", "a."] {
            assert!(parse_host(text).is_err(), "{text}");
        }
        assert!(parse_host("Hooks.example.").unwrap_err().fix.contains("host = \"hooks.example\""));
    }

    #[test]
    fn a_proxy_that_calls_itself_is_seen() {
        let arrives =
            |upstream, listener| arrives_at(&parse_upstream(upstream).unwrap(), parse_listener(listener).unwrap());
        assert!(arrives("127.0.0.1:80", "127.0.0.1:80"));
        assert!(arrives("127.0.0.1:80", "0.0.0.0:80"));
        assert!(arrives("localhost:80", "[::]:80"));
        assert!(arrives("localhost:80", "127.0.0.1:80"));
        assert!(!arrives("127.0.0.1:81", "127.0.0.1:80"));
        assert!(!arrives("127.0.0.2:80", "127.0.0.1:80"));
        assert!(!arrives("10.0.0.1:80", "0.0.0.0:80"));
        assert!(!arrives("unix:/x", "0.0.0.0:80"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a-z0-9:./\\[\\]*-]*") {
            let _ = (parse_upstream(&text), parse_listener(&text), parse_host(&text));
        }
    }
}
