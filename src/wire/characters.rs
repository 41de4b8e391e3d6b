//! Which bytes may stand where.

/// RFC 9110 section 5.6.2: the bytes that a token is made of.
#[must_use]
pub const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// Without optional white space: space and tab, nothing else.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The value of a hexadecimal digit.
#[must_use]
pub const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// May stand in a path.
pub(super) const PATH: u8 = 1;
/// May stand in a query.
pub(super) const QUERY: u8 = 2;
/// May stand in a registered name.
pub(super) const NAME: u8 = 4;
/// May stand in a path and has no meaning there, unless slashes follow one another.
pub(super) const PLAIN: u8 = 8;

/// Where each byte may stand.
///
/// A query is opaque here: nothing is decided by it, and schemes that sign it sign it as it came. It takes everything
/// but control bytes, spaces and `#`. RFC 3986 has no `"<>^\`{|}` and no UTF-8 in it, but registered URLs are sent as they
/// were written: the URL standard leaves `^\`{|}` and the backslash alone, and clients that do not parse queries (Go's
/// among them) send everything as it is. In a path all of these are refused, because there readers differ.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let class = match byte as u8 {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'~' => PATH | QUERY | NAME | PLAIN,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b'=' => PATH | QUERY | NAME | PLAIN,
            b'.' | b';' => PATH | QUERY | NAME,
            b'/' | b':' | b'@' | b',' => PATH | QUERY | PLAIN,
            b'%' => PATH | QUERY,
            b'#' | 0..=b' ' | 0x7f => 0,
            _ => QUERY,
        };
        table[byte] = class;
        byte += 1;
    }
    table
}

/// Whether the parser lets `byte` stand in the path of a request.
#[must_use]
pub fn may_stand_in_path(byte: u8) -> bool {
    may_stand_in(PATH, byte)
}

/// Whether the parser lets `byte` stand in the query of a request, the question mark before it included.
#[must_use]
pub fn may_stand_in_query(byte: u8) -> bool {
    may_stand_in(QUERY, byte)
}

pub(super) fn all_of(class: u8, bytes: &[u8]) -> bool {
    bytes.iter().fold(class, |seen, byte| seen & CLASSES[usize::from(*byte)]) != 0
}

/// Whether a byte is of a class.
pub(super) fn may_stand_in(class: u8, byte: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}
