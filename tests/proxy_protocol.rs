//! The parser of the PROXY protocol beside that of the crate `ppp`: on the vectors that `ppp` publishes in its tests, and on
//! changed ones. Where ours accepts a header, it is read as `ppp` reads it; ours refuses some that `ppp` takes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::SocketAddr;

use countersign::wire::proxy_protocol::{MalformedHeader, ProxyHeader, V2_LIMIT, parse};
use ppp::{HeaderResult, PartialResult, v1, v2};
use proptest::prelude::*;

/// The lines in the tests of `ppp::v1`.
#[rustfmt::skip]
const LINES: &[&[u8]] = &[
    b"Hello \xF0\x90\x80World\r\n",
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\nFoobar",
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535",
    b"PROXY TCP4 255.255.255.255 256.255.255.255 65535 65535\r\n",
    b"PROXY TCP4 255.0255.255.255 255.255.255.255 65535 65535\r\n",
    b"PROXY UNKNOWN\r\nTwo",
    b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\nHi!",
    b"PROXY TCP6 ::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\nHi!",
    b"PROXY TCP6 ffff:gggg:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:0ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    b"PROXY TCP6 ffff::ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    b"PROXY TCP6 ffff:ffff:ffff:ffff::ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    b"PROXY TCP6 :: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    b"PROXY TCP6 ffff:: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    b"PROXY TCP6 ffff::ffff:ffff:ffff:ffff::ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    b"PROXY TCP4 255.255.255.255 255.255.255.255 05535 65535\r\n",
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 05535\r\n",
    b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65536 65535\r\n",
    b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65536\r\n",
    b"proxy UNKNOWN\r\n",
    b"PROXY tcp4\r\n",
    b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535  \r\n",
    b"PROXY  TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
    b"PROXY TCP4  255.255.255.255 255.255.255.255 65535 65535\r\n",
    b"PROXY TCP4 255.255.255.255  255.255.255.255 65535 65535\r\n",
    b"PROXY TCP4 255.255.255.255 255.255.255.255  65535 65535\r\n",
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535  65535\r\n",
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535 \r\n",
    b"PROX\r\n",
    b"\r\n",
    b"PROX",
    b"PROXY UNKN",
    b"PROXY UNKN\r\n",
    b"PROXY \r\n",
    b"",
    b"PROXY TCP4 127.0.0.1 192.168.1.1 80 443\r\t",
    b"PRAX",
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r",
    b"abc\r",
];

const START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The headers in the tests of `ppp::v2`: what stands behind the signature.
fn binary() -> Vec<Vec<u8>> {
    const FOUR: [u8; 12] = [127, 0, 0, 1, 127, 0, 0, 2, 0, 80, 1, 187];
    const HOSTS: [u8; 8] = [127, 0, 0, 1, 127, 0, 0, 2];
    let six = [&[0xff; 15][..], &[0xf2], &[0xff; 15], &[0xf1]].concat();
    let ports = [0, 80, 1, 187];
    let (unix, alpn, crc) = ([[0xff_u8; 108], [0xf1; 108]].concat(), [1, 0, 1, 5], [3, 0, 2, 5, 5]);
    let header = |fixed: [u8; 4], parts: &[&[u8]]| [START, &fixed, &parts.concat()].concat();
    vec![
        header([0x21, 0x11, 0, 12], &[&FOUR]),
        header([0x21, 0x00, 0, 12], &[&FOUR]),
        header([0x21, 0x01, 0, 8], &[&HOSTS]),
        header([0x21, 0x10, 0, 8], &[&HOSTS]),
        header([0x11, 0x11, 0, 12], &[&FOUR]),
        header([0x21, 0x51, 0, 12], &[&FOUR]),
        header([0x23, 0x11, 0, 12], &[&FOUR]),
        header([0x20, 0x17, 0, 12], &[&FOUR]),
        header([0x21, 0x11, 0, 12], &[&FOUR, &[42]]),
        header([0x21, 0x21, 0, 45], &[&six, &ports, &alpn, &crc]),
        header([0x21, 0x21, 0, 45], &[&six, &ports, &alpn, &[4, 0, 2, 5, 5], &[2, 0, 2, 5, 5]]),
        header([0x21, 0x30, 0, 225], &[&unix, &[2, 0, 2, 5, 5], &[48, 0, 1, 5], &[1, 0, 2, 5, 5]]),
        header([0x21, 0x20, 0, 41], &[&six, &alpn, &crc]),
        header([0x21, 0x11, 0, 15], &[&FOUR, &[1, 0, 1]]),
        header([0x21, 0x11, 0, 17], &[&FOUR, &[1, 0, 1]]),
        header([0x21, 0x11, 0, 12], &[&HOSTS, &[0, 80]]),
        header([0x20, 0x02, 0, 0], &[&[0, 80]]),
        header([0x20, 0x02, 0, 12], &[&FOUR]),
        header([0x20, 0x22, 0, 0], &[&[0, 80]]),
        header([0x21, 0x11, 0, 16], &[&FOUR, &alpn]),
        b"\r\n\r\n\x01\r\nQUIT\n".to_vec(),
        b"\r\n\r\n\x01".to_vec(),
        b"\r\n\r\n\0".to_vec(),
        START.to_vec(),
    ]
}

/// What a parser says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    More,
    Refused,
    /// The addresses of a TCP connection, and the length of the header.
    Proxied(SocketAddr, SocketAddr, usize),
    /// A header without such addresses.
    NoAddress(usize),
}

fn ours(bytes: &[u8]) -> Says {
    match parse(bytes) {
        Ok(None) => Says::More,
        Err(MalformedHeader) => Says::Refused,
        Ok(Some((ProxyHeader::Proxied { source, destination }, length))) => Says::Proxied(source, destination, length),
        Ok(Some((ProxyHeader::Unknown | ProxyHeader::Local, length))) => Says::NoAddress(length),
    }
}

fn of_ppp(bytes: &[u8]) -> Says {
    let result = HeaderResult::parse(bytes);
    if result.is_incomplete() {
        return Says::More;
    }
    match result {
        HeaderResult::V1(Ok(header)) => {
            let length = header.header.len();
            match header.addresses {
                v1::Addresses::Unknown => Says::NoAddress(length),
                v1::Addresses::Tcp4(at) => Says::Proxied(
                    (at.source_address, at.source_port).into(),
                    (at.destination_address, at.destination_port).into(),
                    length,
                ),
                v1::Addresses::Tcp6(at) => Says::Proxied(
                    (at.source_address, at.source_port).into(),
                    (at.destination_address, at.destination_port).into(),
                    length,
                ),
            }
        }
        HeaderResult::V2(Ok(header)) => {
            let stands_for_tcp = header.command == v2::Command::Proxy && header.protocol == v2::Protocol::Stream;
            match header.addresses {
                v2::Addresses::IPv4(at) if stands_for_tcp => Says::Proxied(
                    (at.source_address, at.source_port).into(),
                    (at.destination_address, at.destination_port).into(),
                    header.len(),
                ),
                v2::Addresses::IPv6(at) if stands_for_tcp => Says::Proxied(
                    (at.source_address, at.source_port).into(),
                    (at.destination_address, at.destination_port).into(),
                    header.len(),
                ),
                _ => Says::NoAddress(header.len()),
            }
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Says::Refused,
    }
}

/// Whether the two may differ in this way. A header that names a client to us names the same one to `ppp`.
fn may_differ(bytes: &[u8], ours: Says, theirs: Says) -> bool {
    match (ours, theirs) {
        // Ours refuses as soon as it can be known, and checks vectors, spaces and the length.
        (Says::Refused, _) => true,
        // nginx writes a destination of the other family (version 1).
        (Says::Proxied(source, destination, _), Says::Refused) => source.is_ipv4() != destination.is_ipv4(),
        // Section 2.2: what follows has no meaning in a header that has no addresses for us.
        // `ppp` waits for more behind the longest line.
        (Says::NoAddress(_), Says::Refused | Says::More) => {
            bytes.starts_with(START) || bytes.starts_with(b"PROXY UNKNOWN")
        }
        // `ppp` says earlier that a line, or a length, is wrong.
        (Says::More, Says::Refused) => true,
        _ => false,
    }
}

#[test]
fn published_vectors_are_read_as_ppp_reads_them() {
    let binary = binary();
    let all: Vec<&[u8]> = LINES.iter().copied().chain(binary.iter().map(Vec::as_slice)).collect();
    let differ: Vec<(String, Says, Says)> = all
        .iter()
        .map(|bytes| (bytes, ours(bytes), of_ppp(bytes)))
        .filter(|(_, ours, theirs)| ours != theirs)
        .map(|(bytes, ours, theirs)| (bytes.get(12..16).unwrap_or_default().escape_ascii().to_string(), ours, theirs))
        .collect();
    let client = Says::Proxied(([127, 0, 0, 1], 80).into(), ([127, 0, 0, 2], 443).into(), 31);
    let expected = [
        // IPv4 without a protocol is no TCP to us; what follows is skipped.
        (r"!\x10\x00\x08", Says::NoAddress(24), Says::Refused),
        // A vector that is cut off.
        (r"!\x11\x00\x0f", Says::Refused, client),
        // LOCAL needs no addresses (section 2.2).
        (r#" \"\x00\x00"#, Says::NoAddress(16), Says::Refused),
    ];
    assert_eq!(differ, expected.map(|(fixed, ours, theirs)| (fixed.to_owned(), ours, theirs)));
    assert_eq!(all.len(), LINES.len() + 24);
}

fn changed() -> impl Strategy<Value = Vec<u8>> {
    let whole: Vec<Vec<u8>> = LINES.iter().map(|line| line.to_vec()).chain(binary()).collect();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..3);
    (prop::sample::select(whole), changes).prop_map(|(mut bytes, changes)| {
        for (at, byte, change) in changes {
            let at = at.index(bytes.len() + 1);
            match change {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    #[test]
    fn a_client_is_the_same_to_both(bytes in changed()) {
        prop_assume!(bytes.len() <= V2_LIMIT);
        let (ours, theirs) = (ours(&bytes), of_ppp(&bytes));
        prop_assert!(ours == theirs || may_differ(&bytes, ours, theirs), "{ours:?} {theirs:?} {}", bytes.escape_ascii());
    }
}
