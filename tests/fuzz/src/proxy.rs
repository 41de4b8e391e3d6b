//! The PROXY protocol: the same header in whatever pieces it comes, within its bounds, and nothing that was refused is
//! accepted later.

use countersign::wire::proxy_protocol::{MalformedHeader, ProxyHeader, V1_LIMIT, V2_LIMIT, parse};

/// The whole input is a header and what follows it.
pub fn run(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(2 * V2_LIMIT)];
    let whole = parse(bytes);
    for end in 0..bytes.len() {
        let part = parse(&bytes[..end]);
        match whole {
            Ok(Some((_, length))) => assert_eq!(part, if end < length { Ok(None) } else { whole }),
            Ok(None) => assert_eq!(part, Ok(None)),
            Err(MalformedHeader) => assert!(!matches!(part, Ok(Some(_)))),
        }
    }
    match whole {
        Ok(Some((header, length))) => accepted(header, bytes, length),
        Ok(None) => assert!(bytes.len() < V2_LIMIT),
        Err(MalformedHeader) => {}
    }
}

fn accepted(header: ProxyHeader, bytes: &[u8], length: usize) {
    let limit = if bytes.starts_with(b"PROXY ") { V1_LIMIT } else { V2_LIMIT };
    assert!(length <= limit.min(bytes.len()));
    let ProxyHeader::Proxied { source, destination } = header else { return };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let line = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
    assert_eq!(parse(line.as_bytes()), Ok(Some((header, line.len()))));
}
