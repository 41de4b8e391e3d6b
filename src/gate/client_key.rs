//! Who is counted as one client.

use core::net::IpAddr;

/// What is counted as one client: an IPv4 address, or the /64 of an IPv6 address, of which one client has all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey(u64);

impl ClientKey {
    /// The key of an address. An IPv4-mapped IPv6 address is the IPv4 address. Clients without an address (those of
    /// Unix-domain sockets) are one.
    #[must_use]
    pub fn of(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self(0),
            // Beside the /64s of IPv6: ::/8 is assigned to no network (RFC 4291, section 2.4).
            Some(IpAddr::V4(address)) => Self(0xffff_0000_0000 | u64::from(address.to_bits())),
            Some(IpAddr::V6(address)) => Self((address.to_bits() >> 64) as u64),
        }
    }

    /// The key of a client that has proven its name, whatever its address. It is among addresses that are assigned to no
    /// network (100::/8; RFC 4291, section 2.4), at a place that only an authority which issues names could choose.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
        let word = digest.as_ref().iter().take(7).fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        Self(1 << 56 | word)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn clients_are_addresses_or_networks() {
        let key = |text: &str| ClientKey::of(Some(text.parse().unwrap()));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }
}
