//! Where keys are in a cluster: slots, which node has them, and what a node says that has not.

use core::net::{IpAddr, SocketAddr};

use super::trouble::EngineTrouble;
use crate::wire::resp::{self, RespValue};

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// CRC-16/XMODEM: the polynomial 0x1021, from 0, most significant bit first (the appendix of the specification of Redis
/// Cluster). Here, and not from a crate: it is these lines.
#[must_use]
pub fn crc16(bytes: impl IntoIterator<Item = u8>) -> u16 {
    bytes.into_iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

/// The slot of a hash tag.
#[must_use]
pub(super) fn slot_of(tag: impl IntoIterator<Item = u8>) -> u16 {
    crc16(tag) % SLOTS
}

/// Slots that a primary has, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SlotRange {
    first: u16,
    last: u16,
    /// Where the primary is.
    node: SocketAddr,
}

/// Which node has which slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotMap(Vec<SlotRange>);

impl SlotMap {
    /// Reads the answer to `CLUSTER SLOTS`. A node that does not say where it is, is where it was asked.
    ///
    /// # Errors
    /// The server does not answer that, or names a node otherwise than by its IP address.
    pub fn of(reply: &[u8], asked: Option<IpAddr>) -> Result<Self, EngineTrouble> {
        let mut values = resp::values(reply);
        let count = match values.next() {
            Some(RespValue::Values(count)) => count,
            Some(RespValue::Failure(error)) if error.starts_with(b"ERR") => return Err(EngineTrouble::Cluster),
            Some(RespValue::Failure(error)) => return Err(EngineTrouble::of_error(error)),
            _ => return Err(EngineTrouble::Malformed),
        };
        let mut ranges = Vec::new();
        for _ in 0..count {
            ranges.push(range(&mut values, asked).ok_or(EngineTrouble::Malformed)?);
        }
        if ranges.is_empty() {
            return Err(EngineTrouble::ClusterDown);
        }
        ranges.sort_by_key(|range: &SlotRange| range.first);
        Ok(Self(ranges))
    }

    /// The node that has a slot.
    #[must_use]
    pub fn node(&self, slot: u16) -> Option<SocketAddr> {
        let at = self.0.partition_point(|range| range.last < slot);
        self.0.get(at).filter(|range| range.first <= slot).map(|range| range.node)
    }

    /// Every node that has slots.
    pub fn nodes(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.0.iter().map(|range| range.node)
    }
}

/// One entry: first slot, last slot, the primary, its replicas.
fn range<'b>(values: &mut impl Iterator<Item = RespValue<'b>>, asked: Option<IpAddr>) -> Option<SlotRange> {
    let Some(RespValue::Values(parts @ 3..)) = values.next() else { return None };
    let (first, last) = (slot(values.next()?)?, slot(values.next()?)?);
    let Some(RespValue::Values(of_node @ 2..)) = values.next() else { return None };
    let host = match values.next()? {
        RespValue::Text(b"") | RespValue::Null => asked?,
        RespValue::Text(host) => core::str::from_utf8(host).ok()?.parse().ok()?,
        _ => return None,
    };
    let RespValue::Integer(port) = values.next()? else { return None };
    skip(values, of_node - 2);
    skip(values, parts - 3);
    Some(SlotRange { first, last, node: SocketAddr::new(host, u16::try_from(port).ok()?) })
}

fn slot(value: RespValue<'_>) -> Option<u16> {
    let RespValue::Integer(number) = value else { return None };
    u16::try_from(number).ok().filter(|slot| *slot < SLOTS)
}

/// Reads over so many values, with all that is in them.
fn skip<'b>(values: &mut impl Iterator<Item = RespValue<'b>>, count: usize) {
    let mut left = count;
    while left > 0 {
        left -= 1;
        if let Some(RespValue::Values(inner)) = values.next() {
            left += inner;
        }
    }
}

/// What a node of a cluster says instead of doing what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// Another node has the slot.
    Moved(SocketAddr),
    /// The slot is on its way to another node, and the key is not here: this once, ask there.
    Ask(SocketAddr),
    /// Some of the keys are here and some are not: the slot is on its way.
    TryAgain,
}

impl Redirect {
    /// Reads a reply of the node at `asked`; nothing where it is no such reply.
    pub(super) fn of(reply: &[u8], asked: SocketAddr) -> Option<Self> {
        let Some(RespValue::Failure(error)) = resp::values(reply).next() else { return None };
        let mut words = error.split(|byte| *byte == b' ');
        let kind = words.next()?;
        if kind == b"TRYAGAIN" {
            return Some(Self::TryAgain);
        }
        if kind != b"MOVED" && kind != b"ASK" {
            return None;
        }
        let place = core::str::from_utf8(words.nth(1)?).ok()?;
        let (host, port) = place.rsplit_once(':')?;
        let host = if host.is_empty() { asked.ip() } else { host.parse().ok()? };
        let node = SocketAddr::new(host, port.parse().ok()?);
        Some(if kind == b"ASK" { Self::Ask(node) } else { Self::Moved(node) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// The check value of the specification, and slots as `CLUSTER KEYSLOT` of a server gives them.
    #[test]
    fn the_checksum_is_that_of_the_specification() {
        assert_eq!(crc16(*b"123456789"), 0x31c3);
        assert_eq!(crc16(*b""), 0);
        assert_eq!((slot_of(*b"foo"), slot_of(*b"somekey"), slot_of(*b"hash_tag")), (12_182, 11_058, 2_515));
    }

    #[test]
    fn a_map_is_read_with_everything_that_servers_add_to_it() {
        // Metadata behind the id, replicas, and a node that does not know its address.
        let reply = b"*2\r\n*4\r\n:8192\r\n:16383\r\n\
            *4\r\n$9\r\n127.0.0.1\r\n:7001\r\n$2\r\nid\r\n*2\r\n$8\r\nhostname\r\n$1\r\na\r\n\
            *4\r\n$9\r\n127.0.0.1\r\n:7003\r\n$2\r\nid\r\n*0\r\n\
            *3\r\n:0\r\n:8191\r\n*3\r\n$0\r\n\r\n:7000\r\n$2\r\nid\r\n";
        let map = SlotMap::of(reply, Some(at(1).ip())).unwrap();
        assert_eq!((map.node(0), map.node(8191)), (Some(at(7000)), Some(at(7000))));
        assert_eq!((map.node(8192), map.node(16_383)), (Some(at(7001)), Some(at(7001))));
        assert_eq!(map.nodes().count(), 2);
        let hole = SlotMap::of(b"*1\r\n*3\r\n:5\r\n:9\r\n*2\r\n$9\r\n127.0.0.1\r\n:7000\r\n", None).unwrap();
        assert_eq!((hole.node(4), hole.node(5), hole.node(10)), (None, Some(at(7000)), None));
        for (reply, trouble) in [
            (&b"*0\r\n"[..], EngineTrouble::ClusterDown),
            (b"-ERR This instance has cluster support disabled\r\n", EngineTrouble::Cluster),
            (b"-NOPERM no\r\n", EngineTrouble::NotPermitted),
            (b"*1\r\n*3\r\n:5\r\n:9\r\n*2\r\n$4\r\nhost\r\n:7000\r\n", EngineTrouble::Malformed),
            (b"*1\r\n*3\r\n:5\r\n:16384\r\n*2\r\n$0\r\n\r\n:7000\r\n", EngineTrouble::Malformed),
            (b"+OK\r\n", EngineTrouble::Malformed),
        ] {
            assert_eq!(SlotMap::of(reply, Some(at(1).ip())), Err(trouble), "{}", reply.escape_ascii());
        }
    }

    #[test]
    fn a_redirection_names_a_node() {
        for (reply, expected) in [
            (&b"-MOVED 3999 127.0.0.1:6381\r\n"[..], Some(Redirect::Moved(at(6381)))),
            (b"-ASK 3999 127.0.0.1:6381\r\n", Some(Redirect::Ask(at(6381)))),
            (b"-MOVED 3999 :6381\r\n", Some(Redirect::Moved(at(6381)))),
            (b"-MOVED 3999 ::1:6381\r\n", Some(Redirect::Moved("[::1]:6381".parse().unwrap()))),
            (b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n", Some(Redirect::TryAgain)),
            (b"-MOVED 3999 host:6381\r\n", None),
            (b"-MOVED\r\n", None),
            (b"-CLUSTERDOWN Hash slot not served\r\n", None),
            (b"*1\r\n:0\r\n", None),
        ] {
            assert_eq!(Redirect::of(reply, at(7000)), expected, "{}", reply.escape_ascii());
        }
    }
}
