//! Sets of addresses, written as networks (`192.0.2.0/24`, RFC 4632), looked up in logarithmic time.
//!
//! IPv4 and IPv6 are told apart: `::/0` is every IPv6 address and no IPv4 one. An IPv4-mapped IPv6 address
//! (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2) is an IPv4 address wherever it stands.
//!
//! Written here and not on the crate `ipnet`: its parser takes addresses with bits behind the prefix and gives one error for
//! everything, where a configuration is told what is wrong and what was probably meant. The rest is a few lines, and
//! look-ups need the ranges below in any case.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// The lowest address of the network; never an IPv4-mapped one.
    first: IpAddr,
    /// How many leading bits all its addresses share: 0 to 32, or 0 to 128.
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotANetwork {
    /// Neither `address/bits` nor an address.
    Form,
    /// More bits than the address has; the most it can have.
    Prefix(u8),
    /// The address has bits set behind the prefix. Which network was meant cannot be told; this one is it probably.
    HostBits(Network),
}

impl Network {
    /// Reads `address/bits`; an address alone stands for itself.
    ///
    /// # Errors
    /// [`NotANetwork`]
    pub fn parse(text: &str) -> Result<Self, NotANetwork> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| NotANetwork::Form)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match bits {
            None => width,
            Some(bits) if bits.is_empty() || bits.len() > 3 || !bits.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(NotANetwork::Form);
            }
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= width).ok_or(NotANetwork::Prefix(width))?,
        };
        let first = match address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) & !tail_v4(prefix))),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !tail_v6(prefix))),
        };
        let network = Self { first, prefix }.canonical();
        if first == address { Ok(network) } else { Err(NotANetwork::HostBits(network)) }
    }

    /// A network inside `::ffff:0:0/96` is one of IPv4.
    fn canonical(self) -> Self {
        match self.first.to_canonical() {
            first @ IpAddr::V4(_) if self.first.is_ipv6() && self.prefix >= 96 => {
                Self { first, prefix: self.prefix - 96 }
            }
            _ => self,
        }
    }

    /// Whether it holds every address there is, of its kind.
    #[must_use]
    pub const fn is_everything(self) -> bool {
        self.prefix == 0
    }

    /// The last address of it.
    fn last(self) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from(u32::from(first) | tail_v4(self.prefix))),
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from(u128::from(first) | tail_v6(self.prefix))),
        }
    }

    /// Whether the address is one of it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => u32::from(first) == u32::from(address) & !tail_v4(self.prefix),
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                u128::from(first) == u128::from(address) & !tail_v6(self.prefix)
            }
            _ => false,
        }
    }
}

/// The bits behind a prefix, of 32.
fn tail_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

/// The bits behind a prefix, of 128.
fn tail_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// Any number of networks as sorted ranges that neither touch nor overlap: 8 bytes each for IPv4, 32 for IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Networks {
    /// Whether there is no address in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether the address is in one of the networks. Allocates nothing; logarithmic in their number.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => find(&self.v4, u32::from(address)),
            IpAddr::V6(address) => find(&self.v6, u128::from(address)),
        }
    }

    /// Whether every address of the network is in it.
    #[must_use]
    pub fn covers(&self, network: Network) -> bool {
        match (network.first, network.last()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => covers(&self.v4, (u32::from(first), u32::from(last))),
            (IpAddr::V6(first), IpAddr::V6(last)) => covers(&self.v6, (u128::from(first), u128::from(last))),
            _ => false,
        }
    }

    /// Whether an address of the network is in it.
    #[must_use]
    pub fn overlaps(&self, network: Network) -> bool {
        match (network.first, network.last()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => overlaps(&self.v4, (u32::from(first), u32::from(last))),
            (IpAddr::V6(first), IpAddr::V6(last)) => overlaps(&self.v6, (u128::from(first), u128::from(last))),
            _ => false,
        }
    }

    /// How many addresses of IPv4 and of IPv6 are in it. The whole of IPv6 counts one too few.
    #[must_use]
    pub fn addresses(&self) -> (u64, u128) {
        let v4 = self.v4.iter().map(|(first, last)| u64::from(last - first) + 1).sum();
        let v6 = self.v6.iter().fold(0_u128, |sum, (first, last)| sum.saturating_add(last - first).saturating_add(1));
        (v4, v6)
    }

    /// Whether every address of IPv4, or every one of IPv6, is in it, in whatever pieces it was written.
    #[must_use]
    pub fn holds_a_whole_world(&self) -> bool {
        *self.v4 == [(0, u32::MAX)] || *self.v6 == [(0, u128::MAX)]
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Network { first, prefix } in networks {
            match first {
                IpAddr::V4(first) => v4.push((u32::from(first), u32::from(first) | tail_v4(prefix))),
                IpAddr::V6(first) => v6.push((u128::from(first), u128::from(first) | tail_v6(prefix))),
            }
        }
        Self { v4: merged(v4, |last| last.checked_add(1)), v6: merged(v6, |last| last.checked_add(1)) }
    }
}

/// Sorts the ranges and joins those that overlap or touch. `next` is the number after one, if there is any.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            // Without a number after it, it reaches to the end.
            Some((_, end)) if next(*end).is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined.into_boxed_slice()
}

fn find<T: Copy + Ord>(ranges: &[(T, T)], number: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= number);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| number <= *last)
}

/// Whether one of the ranges holds the whole of another.
fn covers<T: Copy + Ord>(ranges: &[(T, T)], (first, last): (T, T)) -> bool {
    let behind = ranges.partition_point(|(start, _)| *start <= first);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, end)| last <= *end)
}

/// Whether one of the ranges has a number of another.
fn overlaps<T: Copy + Ord>(ranges: &[(T, T)], (first, last): (T, T)) -> bool {
    let at = ranges.partition_point(|(_, end)| *end < first);
    ranges.get(at).is_some_and(|(start, _)| *start <= last)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap_or_else(|why| panic!("{text}: {why:?}"))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_read_and_written() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32", "2001:db8::/32", "::/0", "::1/128", "128.0.0.0/1"] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("192.0.2.1").to_string(), "192.0.2.1/32");
        assert_eq!(network("2001:db8::1").to_string(), "2001:db8::1/128");
        assert_eq!(network("::ffff:10.0.0.0/104").to_string(), "10.0.0.0/8");
        assert_eq!(network("::ffff:0:0/96").to_string(), "0.0.0.0/0");
        assert_eq!(network("::ffff:192.0.2.1").to_string(), "192.0.2.1/32");
    }

    #[test]
    fn what_is_not_a_network_says_why() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0/8",
            "10.0.0.0/+8",
            "10.0.0.0/8 ",
            " 10.0.0.0/8",
            "10.0.0.0/0008",
            "a/8",
            "010.0.0.0/8",
            "[::1]",
            "10.0.0.0/8/8",
            "10.0.0.1:80",
            "fe80::1%eth0",
        ] {
            assert_eq!(Network::parse(text), Err(NotANetwork::Form), "{text}");
        }
        assert_eq!(Network::parse("10.0.0.0/33"), Err(NotANetwork::Prefix(32)));
        assert_eq!(Network::parse("::/129"), Err(NotANetwork::Prefix(128)));
        assert_eq!(Network::parse("::/999"), Err(NotANetwork::Prefix(128)));
        for (text, meant) in [
            ("10.0.0.1/8", "10.0.0.0/8"),
            ("192.0.2.128/24", "192.0.2.0/24"),
            ("1.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::ffff:10.0.0.1/104", "10.0.0.0/8"),
        ] {
            assert_eq!(Network::parse(text), Err(NotANetwork::HostBits(network(meant))), "{text}");
        }
    }

    #[test]
    fn the_edges_of_a_network_are_in_it() {
        let set: Networks = ["192.30.252.0/22", "2606:50c0::/32", "203.0.113.7", "::ffff:198.51.100.0/120"]
            .map(network)
            .into_iter()
            .collect();
        for inside in [
            "192.30.252.0",
            "192.30.255.255",
            "::ffff:192.30.253.1",
            "2606:50c0::",
            "203.0.113.7",
            "2606:50c0:ffff:ffff:ffff:ffff:ffff:ffff",
            "198.51.100.255",
        ] {
            assert!(set.contains(address(inside)), "{inside}");
        }
        for outside in [
            "192.30.251.255",
            "192.31.0.0",
            "::192.30.253.1",
            "2606:50bf:ffff::",
            "2606:50c1::",
            "203.0.113.6",
            "203.0.113.8",
            "198.51.101.0",
            "::",
            "0.0.0.0",
        ] {
            assert!(!set.contains(address(outside)), "{outside}");
        }
    }

    #[test]
    fn the_two_worlds_are_apart_and_can_be_whole() {
        let v6: Networks = [network("::/0")].into_iter().collect();
        assert!(v6.holds_a_whole_world() && v6.contains(address("::1")) && !v6.contains(address("::ffff:1.2.3.4")));
        let halves: Networks = ["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/2"].map(network).into_iter().collect();
        assert!(halves.holds_a_whole_world() && !halves.contains(address("::1")));
        let most: Networks = ["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3"].map(network).into_iter().collect();
        assert!(!most.holds_a_whole_world() && !most.is_empty() && Networks::default().is_empty());
    }

    #[test]
    fn a_set_knows_what_it_covers_and_overlaps_and_its_size() {
        let set: Networks =
            ["192.0.2.0/25", "192.0.2.128/25", "198.51.100.7", "2001:db8::/126"].map(network).into_iter().collect();
        assert_eq!(set.addresses(), (257, 4));
        for (text, covered, touched) in [
            ("192.0.2.0/24", true, true),
            ("192.0.2.64/26", true, true),
            ("192.0.2.0/23", false, true),
            ("198.51.100.0/24", false, true),
            ("198.51.100.8/29", false, false),
            ("0.0.0.0/0", false, true),
            ("2001:db8::2", true, true),
            ("2001:db8::4", false, false),
            ("::/0", false, true),
        ] {
            assert_eq!((set.covers(network(text)), set.overlaps(network(text))), (covered, touched), "{text}");
        }
        let whole: Networks = [network("0.0.0.0/0"), network("::/0")].into_iter().collect();
        assert_eq!(whole.addresses(), (1 << 32, u128::MAX));
    }

    /// Networks near each other, so that they overlap, touch and miss by one.
    fn networks() -> impl Strategy<Value = Vec<Network>> {
        let v4 = (0_u32..64, 0_u8..=32).prop_map(|(at, prefix)| {
            let address = at.wrapping_mul(0x0400_0001);
            network(&format!("{}/{prefix}", Ipv4Addr::from(address & !tail_v4(prefix))))
        });
        let near = (0_u32..512, 20_u8..=32).prop_map(|(at, prefix)| {
            network(&format!("{}/{prefix}", Ipv4Addr::from((0xc000_0200 + at) & !tail_v4(prefix))))
        });
        let v6 = (any::<u8>(), 0_u8..=128).prop_map(|(at, prefix)| {
            let address = u128::from(at) << 64 | u128::from(at);
            network(&format!("{}/{prefix}", Ipv6Addr::from(address & !tail_v6(prefix))))
        });
        prop::collection::vec(prop_oneof![1 => v4, 4 => near, 2 => v6], 0..40)
    }

    fn addresses() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
            (0_u32..1024).prop_map(|at| IpAddr::V4((0xc000_0100 + at).into())),
            (0_u32..1024).prop_map(|at| IpAddr::V6(Ipv4Addr::from(0xc000_0100 + at).to_ipv6_mapped())),
            (any::<u8>(), any::<u8>())
                .prop_map(|(high, low)| IpAddr::V6((u128::from(high) << 64 | u128::from(low)).into())),
        ]
    }

    proptest! {
        #[test]
        fn a_set_holds_what_one_of_its_networks_holds(
            networks in networks(),
            probes in prop::collection::vec(addresses(), 50),
        ) {
            let set: Networks = networks.iter().copied().collect();
            prop_assert!(set.v4.windows(2).all(|pair| pair[0].1 < pair[1].0 - 1));
            prop_assert!(set.v6.windows(2).all(|pair| pair[0].1 < pair[1].0 - 1));
            let edges = networks.iter().map(|network| network.first);
            for probe in probes.into_iter().chain(edges) {
                prop_assert_eq!(set.contains(probe), networks.iter().any(|network| network.contains(probe)), "{}", probe);
            }
        }

        #[test]
        fn whatever_is_written_is_read_or_refused(text in "[0-9a-f:./]{0,24}") {
            if let Ok(network) = Network::parse(&text) {
                prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
            }
        }
    }
}
