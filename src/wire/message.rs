//! What the heads of requests and of answers have in common: their version, their limits, their line ends.

/// The most fields that any limit can allow: what fits on the stack while a head is parsed.
pub const MAX_FIELDS: usize = 256;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, with its final empty line and any empty lines before it.
    pub size: usize,
    /// Number of fields, at most [`MAX_FIELDS`].
    pub fields: usize,
    /// Bytes of the request target.
    pub target: usize,
}

/// The versions of HTTP that we speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

impl Version {
    /// From the minor version.
    pub(super) const fn from_minor(minor: Option<u8>) -> Option<Self> {
        match minor {
            Some(0) => Some(Self::Http10),
            Some(1) => Some(Self::Http11),
            _ => None,
        }
    }
}

/// httparse takes a bare LF for a line end and any number of empty lines at the start; we take CRLF and two.
pub(super) fn lines_are_well_formed(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    for _ in 0..2 {
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
    }
    if rest.starts_with(b"\r") {
        return false;
    }
    // Every LF has its CR, and no CR is left over. Without a branch for each byte this is done sixteen bytes at a time.
    let torn = |(before, after): (&u8, &u8)| (*before == b'\r') != (*after == b'\n');
    let pairs = bytes.iter().zip(bytes.get(1..).unwrap_or_default());
    !pairs.fold(false, |seen, pair| seen | torn(pair)) && bytes.first() != Some(&b'\n') && bytes.last() != Some(&b'\r')
}
