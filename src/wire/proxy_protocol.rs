//! The PROXY protocol: what a load balancer that forwards bytes says in front of them about who sent them. Versions 1
//! (one line of text) and 2 (binary), after "The PROXY protocol, versions 1 & 2" by Willy Tarreau (haproxy.org),
//! sections 2.1 and 2.2.
//!
//! Pure and resumable: the same bytes with more behind them give the same answer or a later one.
//!
//! Written here and not taken from the crate `ppp`, because these bytes come before everything else: a connection that begins
//! otherwise is refused at the first wrong byte, and vectors are checked. `tests/proxy_protocol.rs` compares the two.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, with its line end, in bytes (section 2.1).
pub const V1_LIMIT: usize = 107;

/// The longest header of version 2 that is read, in bytes. Section 2.2 asks receivers to bear 536 bytes; senders that add
/// facts about TLS need more (authority, unique id, names in a client certificate, and the certificate itself).
pub const V2_LIMIT: usize = 4096;

/// What the sender says about the connection that it forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// It is a connection of the sender's own, a health check. It names no client.
    Local,
    /// It stands for a connection of a client whose address is not known, or not one of TCP over IP.
    Unknown,
    /// It stands for a TCP connection.
    Proxied {
        /// Who connected to the sender.
        source: SocketAddr,
        /// What it connected to.
        destination: SocketAddr,
    },
}

/// The bytes are no header, or one over the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedHeader;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Length of the fixed part of version 2: the signature, version and command, family, length.
const V2_FIXED: usize = 16;

/// Reads the header at the start of `bytes`, which are all that have arrived so far: the header and its length in
/// bytes, or `None` as long as more must come.
///
/// # Errors
/// [`MalformedHeader`], as soon as it can be known.
pub fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, MalformedHeader> {
    if begins_like(bytes, V2_START) {
        return parse_v2(bytes);
    }
    if begins_like(bytes, V1_START) {
        return parse_v1(bytes);
    }
    Err(MalformedHeader)
}

/// Whether `bytes` begin with `start`, as far as they go.
fn begins_like(bytes: &[u8], start: &[u8]) -> bool {
    let common = bytes.len().min(start.len());
    bytes.get(..common) == start.get(..common)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, MalformedHeader> {
    let window = bytes.get(..V1_LIMIT).unwrap_or(bytes);
    let Some(end) = memchr::memchr(b'\n', window) else {
        // A carriage return belongs at the end; only the last byte so far can be it.
        let body = window.split_last().map_or(window, |(_, body)| body);
        return if bytes.len() >= V1_LIMIT || body.contains(&b'\r') { Err(MalformedHeader) } else { Ok(None) };
    };
    let line = window.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(MalformedHeader)?;
    let line = line.strip_prefix(V1_START).and_then(|line| core::str::from_utf8(line).ok()).ok_or(MalformedHeader)?;
    if !line.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(MalformedHeader);
    }
    // What follows UNKNOWN is to be ignored (section 2.1).
    let header = match line.strip_prefix("UNKNOWN") {
        Some("") => ProxyHeader::Unknown,
        Some(rest) if rest.starts_with(' ') => ProxyHeader::Unknown,
        _ => parse_v1_addresses(line).ok_or(MalformedHeader)?,
    };
    Ok(Some((header, end + 1)))
}

/// `TCP4 source destination port port`, with exactly one space between them.
///
/// The source is of the family that the line names. The destination may be of the other one: nginx names the family of
/// its client, which it may know by an earlier PROXY header, and writes its own address beside it, whatever that is.
/// Nothing is decided by the destination, and a text is an address of one family only.
fn parse_v1_addresses(line: &str) -> Option<ProxyHeader> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse().ok().map(IpAddr::V4),
            "TCP6" => text.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, destination) = (address(words.next()?)?, words.next()?.parse().ok()?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    let header = ProxyHeader::Proxied {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    };
    words.next().is_none().then_some(header)
}

/// A decimal number without sign and leading zeros.
fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits && (text == "0" || !text.starts_with('0')))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, MalformedHeader> {
    let Some(fixed) = bytes.first_chunk::<V2_FIXED>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    let length = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > V2_LIMIT {
        return Err(MalformedHeader);
    }
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(MalformedHeader),
    };
    // Above: unspecified, IPv4, IPv6, Unix. Below: unspecified, stream, datagram. The rest is unassigned.
    let (above, below) = (family >> 4, family & 0x0f);
    if above > 3 || below > 2 {
        return Err(MalformedHeader);
    }
    // The addresses, without which a header that promises them is cut short.
    let needed = match (local, family) {
        (false, 0x11 | 0x12) => Some(12),
        (false, 0x21 | 0x22) => Some(36),
        (false, 0x31 | 0x32) => Some(216),
        // Section 2.2: what follows has no meaning then, and is skipped.
        _ => None,
    };
    if length < V2_FIXED + needed.unwrap_or_default() {
        return Err(MalformedHeader);
    }
    let Some(addresses) = bytes.get(V2_FIXED..length) else { return Ok(None) };
    if !needed.is_none_or(|needed| are_vectors(addresses.get(needed..).unwrap_or_default())) {
        return Err(MalformedHeader);
    }
    let header = match (local, family) {
        (false, 0x11) => v4_addresses(addresses).ok_or(MalformedHeader)?,
        (false, 0x21) => v6_addresses(addresses).ok_or(MalformedHeader)?,
        (false, _) => ProxyHeader::Unknown,
        (true, _) => ProxyHeader::Local,
    };
    Ok(Some((header, length)))
}

/// Whether these bytes are vectors (section 2.2: a type, a length of two bytes, as many bytes) and nothing else. What they
/// say is not needed.
fn are_vectors(mut bytes: &[u8]) -> bool {
    while let [_, high, low, rest @ ..] = bytes {
        let Some(rest) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else { return false };
        bytes = rest;
    }
    bytes.is_empty()
}

fn v4_addresses(bytes: &[u8]) -> Option<ProxyHeader> {
    let [a, b, c, d, e, f, g, h, ports @ ..] = *bytes.first_chunk::<12>()?;
    Some(proxied(Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into(), ports))
}

fn v6_addresses(bytes: &[u8]) -> Option<ProxyHeader> {
    let (source, rest) = bytes.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    Some(proxied(Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into(), *rest.first_chunk()?))
}

fn proxied(source: IpAddr, destination: IpAddr, [a, b, c, d]: [u8; 4]) -> ProxyHeader {
    ProxyHeader::Proxied {
        source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    fn header(source: &str, destination: &str) -> ProxyHeader {
        ProxyHeader::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    /// A header of version 2 with this command and family, whose length field fits what follows.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_START, &[command, family], &length, rest].concat()
    }

    #[test]
    fn lines_of_version_1() {
        let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        let all = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", header("192.0.2.1:56324", "198.51.100.2:443")),
            ("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", header("0.0.0.0:0", "255.255.255.255:65535")),
            ("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", header("[2001:db8::1]:1", "[::1]:2")),
            (longest, header(all, all)),
            // As nginx writes it where its client is known by another family than its own address.
            ("PROXY TCP6 2001:db8::1 198.51.100.2 56324 443\r\n", header("[2001:db8::1]:56324", "198.51.100.2:443")),
            ("PROXY TCP4 192.0.2.1 ::ffff:198.51.100.2 1 2\r\n", header("192.0.2.1:1", "[::ffff:198.51.100.2]:2")),
            ("PROXY UNKNOWN\r\n", ProxyHeader::Unknown),
            ("PROXY UNKNOWN whatever 1 2 3\r\n", ProxyHeader::Unknown),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(Some((expected, line.len()))), "{line}");
            let more = format!("{line}POST / HTTP/1.1\r\n");
            assert_eq!(parse(more.as_bytes()), Ok(Some((expected, line.len()))), "{line}");
        }
        let unknown = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_LIMIT - 16));
        assert_eq!(parse(unknown.as_bytes()), Ok(Some((ProxyHeader::Unknown, V1_LIMIT))));
    }

    #[test]
    fn lines_that_are_not_of_version_1() {
        for line in [
            "POST / HTTP/1.1\r\n",
            "PROXYTCP4 ",
            "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP6 1.2.3.4 ::1 1 2\r\n",
            "PROXY TCP4 ::1 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 x 1 2\r\n",
            "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
            "PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY \r\n",
            "PROXY UNKNOWN2\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            "PROXY UNKNOWN a\rb\r\n",
            "PROXY UNKNOWN \u{7f}\r\n",
            "PROXY UNKNOWN é\r\n",
            "PROXY UNKNOWN\r\r\n",
            "PROXY UNKNOWN a\rb",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(MalformedHeader), "{line}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_LIMIT - 15));
        assert_eq!(parse(long.as_bytes()), Err(MalformedHeader));
        assert_eq!(parse(&long.as_bytes()[..V1_LIMIT]), Err(MalformedHeader));
        assert_eq!(parse(&long.as_bytes()[..V1_LIMIT - 1]), Ok(None));
    }

    #[test]
    fn headers_of_version_2() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];
        let v6 = [[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2].concat();
        let v6 = [v6.as_slice(), &[0, 1, 0, 2]].concat();
        let proxied = header("192.0.2.1:56324", "198.51.100.2:443");
        let with_vectors = [v4.as_slice(), &[4, 0, 1, 0], &[0xee, 0, 0], &[1, 0, 2, b'h', b'2']].concat();
        let full = u16::try_from(V2_LIMIT - V2_FIXED - 12 - 3).unwrap().to_be_bytes();
        let full = [v4.as_slice(), &[4], &full, &[0; V2_LIMIT - V2_FIXED - 12 - 3]].concat();
        let unix = [0; 216];
        for (bytes, expected) in [
            (v2(0x21, 0x11, &v4), proxied),
            (v2(0x21, 0x11, &with_vectors), proxied),
            (v2(0x21, 0x11, &full), proxied),
            (v2(0x21, 0x11, &with_facts_about_tls()), header("192.0.2.1:123", "192.0.2.2:5678")),
            (v2(0x21, 0x21, &v6), header("[2001:db8::1]:1", "[2001:db8::1]:2")),
            (v2(0x20, 0x00, &[]), ProxyHeader::Local),
            (v2(0x20, 0x11, &v4), ProxyHeader::Local),
            (v2(0x20, 0x11, &[]), ProxyHeader::Local),
            (v2(0x20, 0x11, &[v4.as_slice(), &[1, 2]].concat()), ProxyHeader::Local),
            (v2(0x21, 0x00, &[]), ProxyHeader::Unknown),
            (v2(0x21, 0x00, &[1, 2, 3]), ProxyHeader::Unknown),
            (v2(0x21, 0x31, &unix), ProxyHeader::Unknown),
            (v2(0x21, 0x12, &v4), ProxyHeader::Unknown),
            (v2(0x21, 0x22, &v6), ProxyHeader::Unknown),
        ] {
            assert_eq!(parse(&bytes), Ok(Some((expected, bytes.len()))), "{bytes:?}");
        }
    }

    /// What HAProxy 2.x sends for a client with a certificate: addresses, `PP2_TYPE_AUTHORITY` (255 bytes),
    /// `PP2_TYPE_UNIQUE_ID` (128), `PP2_TYPE_SSL` with version, cipher and a name of 64 bytes. 534 bytes behind the fixed part.
    fn with_facts_about_tls() -> Vec<u8> {
        let vector =
            |kind: u8, value: &[u8]| [&[kind], &u16::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat();
        let ssl =
            [&[7, 0, 0, 0, 0][..], &vector(0x21, b"TLSv1.3"), &vector(0x22, &[b'n'; 64]), &vector(0x23, &[b'c'; 42])]
                .concat();
        let addresses = [192, 0, 2, 1, 192, 0, 2, 2, 0, 123, 0x16, 0x2e];
        [&addresses[..], &vector(2, &[b'a'; 255]), &vector(5, &[b'u'; 128]), &vector(0x20, &ssl), &vector(4, &[])]
            .concat()
    }

    #[test]
    fn headers_that_are_not_of_version_2() {
        let with_vectors = |vectors: &[u8]| v2(0x21, 0x11, &[&[0; 12], vectors].concat());
        for bytes in [
            with_vectors(&[0xee, 0xff, 0xff]),
            with_vectors(&[4, 0, 2, 0]),
            with_vectors(&[4, 0]),
            with_vectors(&[4]),
            with_vectors(&[4, 0, 0, 4, 0, 1]),
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x31, 0x11, &[0; 12]),
            v2(0x21, 0x41, &[0; 12]),
            v2(0x21, 0x13, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x11, &[0; V2_LIMIT - V2_FIXED + 1]),
            b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
            b"\r\n\r\nGET".to_vec(),
        ] {
            assert_eq!(parse(&bytes), Err(MalformedHeader), "{bytes:?}");
        }
        let endless = [V2_START, &[0x21, 0x11, 0xff, 0xff]].concat();
        assert_eq!(parse(&endless), Err(MalformedHeader), "refused before it is waited for");
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let rest = || {
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..600),
                // Addresses of one of the families, and vectors.
                (
                    prop::sample::select(vec![12_usize, 36, 216]),
                    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4)
                )
                    .prop_map(|(addresses, values)| {
                        let vectors = values.iter().flat_map(|value| {
                            [&[4][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
                        });
                        vec![1; addresses].into_iter().chain(vectors).collect()
                    }),
            ]
        };
        let command = prop_oneof![4 => 0x20_u8..=0x21, 1 => any::<u8>()];
        let family = prop_oneof![4 => prop::sample::select(vec![0_u8, 0x11, 0x12, 0x21, 0x22, 0x31]), 1 => any::<u8>()];
        prop_oneof![
            rest(),
            (command, family, rest()).prop_map(|(command, family, rest)| v2(command, family, &rest)),
            "PROXY (TCP4|TCP6|UNKNOWN)( [0-9a-f.:]{0,12}){0,4}( [0-9]{1,5}){0,2}\r?\n.{0,20}"
                .prop_map(String::into_bytes),
            any::<(u32, u32, u16, u16)>().prop_map(|(source, destination, from, to)| {
                let (source, destination) = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
                format!("PROXY TCP4 {source} {destination} {from} {to}\r\nrest").into_bytes()
            }),
            any::<(u128, u128, u16, u16)>().prop_map(|(source, destination, from, to)| {
                let (source, destination) = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
                format!("PROXY TCP6 {source} {destination} {from} {to}\r\nrest").into_bytes()
            }),
        ]
    }

    proptest! {
        /// However the bytes come, a header is seen when its last byte is there and not before, and what has been
        /// refused stays refused.
        #[test]
        fn pieces_do_not_matter(bytes in bytes()) {
            let whole = parse(&bytes);
            for end in 0..=bytes.len() {
                let part = parse(&bytes[..end]);
                match whole {
                    Ok(Some((_, length))) => prop_assert_eq!(part, if end < length { Ok(None) } else { whole }),
                    Ok(None) => prop_assert_eq!(part, Ok(None)),
                    Err(MalformedHeader) => prop_assert!(matches!(part, Ok(None) | Err(MalformedHeader))),
                }
            }
            let first = (0..=bytes.len()).find(|end| parse(&bytes[..*end]).is_err());
            prop_assert!(first.is_none_or(|first| (first..=bytes.len()).all(|end| parse(&bytes[..end]).is_err())));
        }

        #[test]
        fn addresses_come_back_as_they_were_written(source in any::<u128>(), destination in any::<u128>(), ports in any::<[u8; 4]>()) {
            let rest = [source.to_be_bytes().as_slice(), &destination.to_be_bytes(), &ports].concat();
            let binary = v2(0x21, 0x21, &rest);
            let Ok(Some((ProxyHeader::Proxied { source: from, destination: to }, _))) = parse(&binary) else {
                return Err(TestCaseError::fail("not read"));
            };
            prop_assert_eq!((from.ip(), to.ip()), (IpAddr::V6(source.into()), IpAddr::V6(destination.into())));
            let text = format!("PROXY TCP6 {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
            prop_assert_eq!(parse(text.as_bytes()), Ok(Some((ProxyHeader::Proxied { source: from, destination: to }, text.len()))));
        }
    }
}
