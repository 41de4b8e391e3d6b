//! Who the client is, when proxies stand between it and us.
//!
//! Only a peer that the listener trusts is believed, and only about the one before it: the list that proxies write is
//! read from the right, trusted address by trusted address, and the first that is not trusted is the client. Whatever
//! stands to the left of it was said by a stranger. What is not an address (`unknown`, an obfuscated name, nonsense)
//! ends the reading too: the client is then the last address that is known, that of the proxy which wrote it.
//!
//! `X-Forwarded-For` (several fields make one list) and `Forwarded` (RFC 7239) are both read. A proxy keeps one of
//! them and may pass on the other as a client wrote it, and which of the two is not known: where both are there and lead to
//! different clients, neither is believed.
//!
//! Written here: the list is read from the right without an allocation, and what stands to the left of a proxy's own words
//! cannot change how they are read. The crate `forwarded-header-value` reads a whole header from the left.

use core::net::IpAddr;

use crate::gate::networks::Networks;
use crate::wire::headers::{Headers, Known};

/// What a peer's words about its client are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Account {
    /// The peer is not trusted: it is the client, and what it says of others is replaced.
    #[default]
    Stranger,
    /// A trusted proxy, and `X-Forwarded-For` if there is any.
    ForwardedFor,
    /// A trusted proxy, and `Forwarded` alone.
    Forwarded,
    /// A trusted proxy passes on two headers that name different clients.
    Contradiction,
}

impl Account {
    /// Whether the peer is a trusted proxy that does not contradict itself.
    #[must_use]
    pub const fn is_believed(self) -> bool {
        matches!(self, Self::ForwardedFor | Self::Forwarded)
    }
}

/// What a listener thinks of the proxies before it.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// The proxies that are believed.
    pub proxies: Networks,
    /// Whether connections must begin with a header of the PROXY protocol, and come from one of the proxies.
    pub proxy_protocol: bool,
}

/// The client of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientAddress {
    /// Its address, or that of the nearest one who is known: for logs and for sharing out what is scarce. Never an
    /// IPv4-mapped one. `None` for peers without one.
    pub address: Option<IpAddr>,
    /// Where that comes from.
    pub account: Account,
}

impl ClientAddress {
    /// A client that has no trusted proxy before it.
    #[must_use]
    pub fn direct(peer: Option<IpAddr>) -> Self {
        Self { address: peer.map(|peer| peer.to_canonical()), account: Account::Stranger }
    }

    /// The client of a request that came from `peer`, on a listener that trusts `proxies`. Allocates nothing; linear
    /// in the length of the headers that it reads.
    #[must_use]
    pub fn of(peer: Option<IpAddr>, headers: Headers<'_>, proxies: &Networks) -> Self {
        let direct = Self::direct(peer);
        let Some(peer) = direct.address.filter(|peer| proxies.contains(*peer)) else { return direct };
        let has = |kind| headers.of_kind(kind).next().is_some();
        let through = |kind, hop: fn(&[u8]) -> Option<IpAddr>| read(peer, hops(headers, kind).map(hop), proxies);
        let (address, account) = match (has(Known::XForwardedFor), has(Known::Forwarded)) {
            (_, false) => (through(Known::XForwardedFor, node), Account::ForwardedFor),
            (false, true) => (through(Known::Forwarded, element), Account::Forwarded),
            (true, true) => {
                let (one, other) = (through(Known::XForwardedFor, node), through(Known::Forwarded, element));
                if one == other { (one, Account::ForwardedFor) } else { (peer, Account::Contradiction) }
            }
        };
        Self { address: Some(address), account }
    }

    /// The address, if it is certain enough for lists of clients.
    #[must_use]
    pub fn proven(self) -> Option<IpAddr> {
        self.address.filter(|_| self.account != Account::Contradiction)
    }
}

/// Walks from proxy to proxy, from the nearest, and stops at the first that is not trusted or not an address.
fn read(peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>, proxies: &Networks) -> IpAddr {
    let mut client = peer;
    for hop in hops {
        let Some(hop) = hop else { break };
        client = hop;
        if !proxies.contains(hop) {
            break;
        }
    }
    client
}

/// The elements of a header that is a list, whatever fields it is spread over, from the last to the first.
fn hops<'a>(headers: Headers<'a>, kind: Known) -> impl Iterator<Item = &'a [u8]> {
    headers.of_kind_backwards(kind).flat_map(|value| Backwards { rest: Some(value) })
}

/// Splits a list at its commas, from the right, but not inside of quotes. The part that trusted proxies have written
/// stands on the right and is well-formed: what a stranger wrote to the left of it cannot change how it is read.
struct Backwards<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Backwards<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let list = self.rest.take()?;
        let mut quoted = false;
        for (at, byte) in list.iter().enumerate().rev() {
            match byte {
                b'"' if !is_escaped(list, at) => quoted = !quoted,
                b',' if !quoted => {
                    self.rest = list.get(..at);
                    return Some(list.get(at + 1..).unwrap_or_default().trim_ascii());
                }
                _ => {}
            }
        }
        Some(list.trim_ascii())
    }
}

/// Whether an odd number of backslashes stands before this position (RFC 9110 section 5.6.4).
fn is_escaped(bytes: &[u8], at: usize) -> bool {
    let before = bytes.get(..at).unwrap_or_default();
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The node of a `Forwarded` element: the value of its one `for` (RFC 7239 section 4).
fn element(text: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    let mut rest = Some(text);
    while let Some(pairs) = rest {
        let end = end_of_pair(pairs);
        let pair = pairs.get(..end).unwrap_or_default().trim_ascii();
        rest = pairs.get(end + 1..);
        let Some(equals) = memchr::memchr(b'=', pair) else { if pair.is_empty() { continue } else { return None } };
        let (name, value) = pair.split_at_checked(equals)?;
        if name.eq_ignore_ascii_case(b"for") {
            let value = value.get(1..)?;
            let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            // Two nodes in one element: which one it is cannot be known.
            if found.replace(node(unquoted.unwrap_or(value))?).is_some() {
                return None;
            }
        }
    }
    found
}

/// Where the first parameter of an element ends.
fn end_of_pair(pairs: &[u8]) -> usize {
    let mut quoted = false;
    let end = pairs.iter().enumerate().position(|(at, byte)| {
        quoted ^= *byte == b'"' && !is_escaped(pairs, at);
        *byte == b';' && !quoted
    });
    end.unwrap_or(pairs.len())
}

/// An address as proxies write it: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
/// In place of a port there may be an obfuscated one (`_name`, RFC 7239 section 6.3).
pub(super) fn node(text: &[u8]) -> Option<IpAddr> {
    let text = core::str::from_utf8(text).ok()?;
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        IpAddr::V6(address.parse().ok().filter(|_| port)?)
    } else {
        match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => IpAddr::V4(address.parse().ok().filter(|_| is_port(port))?),
            _ => text.parse().ok()?,
        }
    };
    Some(address.to_canonical())
}

fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::gate::networks::Network;
    use crate::wire::headers::HeaderBuf;

    fn client(peer: &str, fields: &[(&str, &str)]) -> ClientAddress {
        let proxies: Networks =
            ["10.0.0.0/8", "2001:db8:1::/48"].iter().map(|text| Network::parse(text).unwrap()).collect();
        let mut headers = HeaderBuf::default();
        fields.iter().for_each(|(name, value)| headers.push(name, value.as_bytes()));
        ClientAddress::of(peer.parse().ok(), headers.view(), &proxies)
    }

    #[track_caller]
    fn assert_client(peer: &str, fields: &[(&str, &str)], address: &str, account: Account) {
        assert_eq!(client(peer, fields), ClientAddress { address: address.parse().ok(), account }, "{fields:?}");
    }

    #[test]
    fn strangers_are_not_believed() {
        let fields = [("X-Forwarded-For", "203.0.113.1"), ("Forwarded", "for=203.0.113.1")];
        for peer in ["198.51.100.1", "11.0.0.1", "2001:db8:2::1"] {
            assert_client(peer, &fields, peer, Account::Stranger);
        }
        assert_client("::ffff:198.51.100.1", &fields, "198.51.100.1", Account::Stranger);
        assert_client("unknown", &fields, "unknown", Account::Stranger);
    }

    #[test]
    fn the_rightmost_untrusted_address_is_the_client() {
        for (value, expected) in [
            ("203.0.113.1", "203.0.113.1"),
            ("6.6.6.6, 203.0.113.1", "203.0.113.1"),
            ("6.6.6.6,203.0.113.1,10.1.1.1 ,  10.2.2.2", "203.0.113.1"),
            ("10.1.1.1, 6.6.6.6, 10.9.9.9, 203.0.113.1", "203.0.113.1"),
            ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
            ("2001:db8::1, 2001:db8:1::5", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("203.0.113.1:4711", "203.0.113.1"),
            ("::ffff:203.0.113.1, ::ffff:10.0.0.2", "203.0.113.1"),
        ] {
            assert_client("10.0.0.1", &[("X-Forwarded-For", value)], expected, Account::ForwardedFor);
            assert_client("::ffff:10.0.0.1", &[("x-forwarded-for", value)], expected, Account::ForwardedFor);
        }
    }

    #[test]
    fn several_fields_are_one_list() {
        let fields =
            [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "203.0.113.1"), ("X-Forwarded-For", "10.1.1.1")];
        assert_client("10.0.0.1", &fields, "203.0.113.1", Account::ForwardedFor);
    }

    #[test]
    fn what_is_not_an_address_ends_the_reading() {
        for (value, expected) in [
            ("", "10.0.0.1"),
            ("unknown", "10.0.0.1"),
            ("203.0.113.1, unknown, 10.1.1.1", "10.1.1.1"),
            ("203.0.113.1,, 10.1.1.1", "10.1.1.1"),
            ("203.0.113.1, 010.1.1.1", "10.0.0.1"),
            ("203.0.113.1 10.1.1.1", "10.0.0.1"),
            ("203.0.113.1:", "10.0.0.1"),
            ("203.0.113.1:123456", "10.0.0.1"),
            ("[203.0.113.1]", "10.0.0.1"),
            ("[2001:db8::1", "10.0.0.1"),
            ("[2001:db8::1]443", "10.0.0.1"),
            ("fe80::1%eth0", "10.0.0.1"),
            ("\"203.0.113.1\"", "10.0.0.1"),
            ("203.0.113.1, 10.1.1.1,", "10.0.0.1"),
        ] {
            assert_client("10.0.0.1", &[("X-Forwarded-For", value)], expected, Account::ForwardedFor);
        }
        assert_client("10.0.0.1", &[], "10.0.0.1", Account::ForwardedFor);
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (value, expected) in [
            ("for=203.0.113.1", "203.0.113.1"),
            ("FOR=\"203.0.113.1:4711\";proto=https;by=10.0.0.1", "203.0.113.1"),
            ("proto=http; For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=\"[2001:db8:cafe::17]:_obf\"", "2001:db8:cafe::17"),
            ("for=6.6.6.6, for=203.0.113.1;host=\"a,b;for=6.6.6.6\", for=10.1.1.1", "203.0.113.1"),
            ("for=203.0.113.1;host=\"a\\\",b\"", "203.0.113.1"),
            ("for=unknown", "10.0.0.1"),
            ("for=203.0.113.1, for=_hidden", "10.0.0.1"),
            ("for=203.0.113.1, for=unknown, for=10.1.1.1", "10.1.1.1"),
            ("for=203.0.113.1, proto=https", "10.0.0.1"),
            ("for=203.0.113.1;for=6.6.6.6", "10.0.0.1"),
            ("for = 203.0.113.1", "10.0.0.1"),
            ("203.0.113.1", "10.0.0.1"),
            // A stranger's open quote does not swallow what the proxy has added.
            ("for=\"6.6.6.6, for=203.0.113.1", "203.0.113.1"),
            ("for=\"x, for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("for=6.6.6.6\\, for=\"203.0.113.1\"", "203.0.113.1"),
        ] {
            assert_client("10.0.0.1", &[("Forwarded", value)], expected, Account::Forwarded);
        }
    }

    #[test]
    fn two_headers_must_agree() {
        let both = |one, other| [("Forwarded", other), ("X-Forwarded-For", one)];
        let agreed = both("6.6.6.6, 203.0.113.1", "for=203.0.113.1;proto=https");
        assert_client("10.0.0.1", &agreed, "203.0.113.1", Account::ForwardedFor);
        for (one, other) in [("203.0.113.1", "for=203.0.113.2"), ("203.0.113.1", ""), ("", "for=203.0.113.1")] {
            assert_client("10.0.0.1", &both(one, other), "10.0.0.1", Account::Contradiction);
            assert_eq!(client("10.0.0.1", &both(one, other)).proven(), None);
        }
        assert_eq!(client("10.0.0.1", &agreed).proven(), "203.0.113.1".parse().ok());
    }

    proptest! {
        /// Whatever a stranger writes, what the proxies append behind it decides.
        #[test]
        fn what_stands_to_the_left_changes_nothing(
            left in "[ -~]{0,40}",
            address in any::<u32>(),
            chain in 0_usize..4,
            same_field in any::<bool>(),
        ) {
            let address = IpAddr::V4((address | 0x8000_0000).into());
            let plain = format!("{address}{}", ", 10.7.7.7".repeat(chain));
            let forwarded = format!("for=\"{address}\";proto=http{}", ", for=10.7.7.7".repeat(chain));
            for (name, right, account) in
                [("X-Forwarded-For", plain, Account::ForwardedFor), ("Forwarded", forwarded, Account::Forwarded)]
            {
                let joined = format!("{left}, {right}");
                let apart = [(name, left.as_str()), (name, right.as_str())];
                let fields: &[(&str, &str)] = if same_field { &[(name, &joined)] } else { &apart };
                prop_assert_eq!(client("10.0.0.1", fields), ClientAddress { address: Some(address), account });
            }
        }

        #[test]
        fn no_bytes_panic(one in ".*", other in "(for|by|;|,|=|\"|\\\\|[0-9.:\\[\\]_])*") {
            let fields = [("X-Forwarded-For", one.as_str()), ("Forwarded", other.as_str())];
            let client = client("10.0.0.1", &fields);
            prop_assert!(client.account == Account::Contradiction || client.account == Account::ForwardedFor);
        }
    }
}
