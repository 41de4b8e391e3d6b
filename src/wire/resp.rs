//! The protocol of Redis and Valkey: commands to bytes, and replies to values (RESP2 and RESP3).
//!
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>. The reader is stricter than the document: lines end
//! with CR LF, numbers have one spelling, and what a server sends only when it is asked to (streamed strings and
//! aggregates, attributes) is malformed. It never recurses and never allocates: a reply is checked as a whole, and then
//! walked over value by value.

/// No line is longer, in bytes: a status, an error, a number, a length.
const LINE_LIMIT: usize = 1024;

/// No reply is longer, in bytes. The longest that is asked for is a section of `INFO`.
pub const REPLY_LIMIT: usize = 64 << 10;

/// No reply has more values, aggregates included.
pub const VALUE_LIMIT: usize = 256;

/// How long a reply may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyBounds {
    /// Bytes, all values together.
    pub bytes: usize,
    /// Values, aggregates included.
    pub values: usize,
}

impl Default for ReplyBounds {
    fn default() -> Self {
        Self { bytes: REPLY_LIMIT, values: VALUE_LIMIT }
    }
}

/// Why bytes are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RespError {
    /// They break the grammar.
    Malformed,
    /// They are more than the bounds allow, or a line is too long.
    TooLarge,
}

/// One value of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RespValue<'b> {
    /// A short text (`+`), a string of bytes (`$`), a text with its kind (`=`, without the kind), or a number that is no
    /// integer of 64 bits (`,` and `(`).
    Text(&'b [u8]),
    /// An error (`-` and `!`): its first word is its kind.
    Failure(&'b [u8]),
    /// An integer (`:`).
    Integer(i64),
    /// A truth value (`#`).
    Flag(bool),
    /// Nothing (`_`, `$-1`, `*-1`).
    Null,
    /// The beginning of a list (`*`), a set (`~`) or a map (`%`): so many values follow. A map has two for each entry.
    Values(usize),
    /// The beginning of a message that is no answer to a command (`>`).
    Push(usize),
}

impl RespValue<'_> {
    const fn followed_by(self) -> usize {
        match self {
            Self::Values(count) | Self::Push(count) => count,
            _ => 0,
        }
    }
}

/// The length of the first reply in `bytes`, in bytes; `None` if it is not whole yet.
///
/// # Errors
/// [`RespError`]: what follows on the connection means nothing any more.
pub fn reply_length(bytes: &[u8]) -> Result<Option<usize>, RespError> {
    reply_length_within(bytes, ReplyBounds::default())
}

/// The same, for replies with other bounds than [`REPLY_LIMIT`] and [`VALUE_LIMIT`].
///
/// # Errors
/// As [`reply_length`].
pub fn reply_length_within(bytes: &[u8], bounds: ReplyBounds) -> Result<Option<usize>, RespError> {
    let (mut at, mut left, mut values) = (0, 1_usize, 0);
    while left > 0 {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some((value, length)) = value(rest, bounds)? else {
            return if bytes.len() >= bounds.bytes { Err(RespError::TooLarge) } else { Ok(None) };
        };
        at += length;
        values += 1;
        left = left - 1 + value.followed_by();
        if values + left > bounds.values || at > bounds.bytes {
            return Err(RespError::TooLarge);
        }
    }
    Ok(Some(at))
}

/// The values of a reply, of which [`reply_length`] gave the length, in the order in which they are written.
pub fn values(reply: &[u8]) -> impl Iterator<Item = RespValue<'_>> {
    values_within(reply, ReplyBounds::default())
}

/// The same, for a reply of which [`reply_length_within`] gave the length with these bounds.
pub fn values_within(reply: &[u8], bounds: ReplyBounds) -> impl Iterator<Item = RespValue<'_>> {
    let mut rest = reply;
    core::iter::from_fn(move || {
        let (value, length) = value(rest, bounds).ok().flatten()?;
        rest = rest.get(length..).unwrap_or_default();
        Some(value)
    })
}

/// Appends a command: a list of its parts.
pub fn command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    begin_command(out, parts.len());
    parts.iter().for_each(|part| add_part(out, part));
}

/// Begins a command of so many parts.
pub fn begin_command(out: &mut Vec<u8>, parts: usize) {
    number_line(out, b'*', parts);
}

/// Adds a part of the command that was begun.
pub fn add_part(out: &mut Vec<u8>, part: &[u8]) {
    begin_part(out, part.len());
    out.extend_from_slice(part);
    end_part(out);
}

/// Adds a number as a part of the command that was begun.
pub fn add_number(out: &mut Vec<u8>, number: u64) {
    add_part(out, itoa::Buffer::new().format(number).as_bytes());
}

/// Begins a part of so many bytes, which the caller appends.
pub fn begin_part(out: &mut Vec<u8>, length: usize) {
    number_line(out, b'$', length);
}

/// Ends a part that was begun.
pub fn end_part(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

fn number_line(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The first value and its length.
fn value(bytes: &[u8], bounds: ReplyBounds) -> Result<Option<(RespValue<'_>, usize)>, RespError> {
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    if !b"+-:$*_#,(!=%~>".contains(kind) {
        return Err(RespError::Malformed);
    }
    let Some(line) = line(rest)? else { return Ok(None) };
    let end = 1 + line.len() + 2;
    let value = match kind {
        b'+' | b',' | b'(' => RespValue::Text(line),
        b'-' => RespValue::Failure(line),
        b':' => RespValue::Integer(integer(line)?),
        b'_' if line.is_empty() => RespValue::Null,
        b'#' if line == b"t" => RespValue::Flag(true),
        b'#' if line == b"f" => RespValue::Flag(false),
        b'$' | b'*' if line == b"-1" => RespValue::Null,
        b'*' | b'~' => RespValue::Values(length(line, bounds.values)?),
        b'>' => RespValue::Push(length(line, bounds.values)?),
        b'%' => RespValue::Values(2 * length(line, bounds.values / 2)?),
        b'$' | b'!' | b'=' => {
            let count = length(line, bounds.bytes)?;
            let Some(text) = bytes.get(end..end + count + 2) else {
                return begins_string(bytes.get(end..).unwrap_or_default(), count);
            };
            let Some(text) = text.strip_suffix(b"\r\n") else { return Err(RespError::Malformed) };
            let value = match (kind, text) {
                (b'!', text) => RespValue::Failure(text),
                (b'=', [_, _, _, b':', text @ ..]) => RespValue::Text(text),
                (b'=', _) => return Err(RespError::Malformed),
                (_, text) => RespValue::Text(text),
            };
            return Ok(Some((value, end + count + 2)));
        }
        _ => return Err(RespError::Malformed),
    };
    Ok(Some((value, end)))
}

/// A string of `count` bytes that is not whole: its end is looked at as far as it is there.
fn begins_string(rest: &[u8], count: usize) -> Result<Option<(RespValue<'_>, usize)>, RespError> {
    match rest.get(count) {
        Some(byte) if *byte != b'\r' => Err(RespError::Malformed),
        _ => Ok(None),
    }
}

/// Up to CR LF, which no line contains otherwise.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, RespError> {
    let searched = bytes.get(..LINE_LIMIT + 2).unwrap_or(bytes);
    let Some(at) = memchr::memchr2(b'\r', b'\n', searched) else {
        return if searched.len() > LINE_LIMIT { Err(RespError::TooLarge) } else { Ok(None) };
    };
    match (searched.get(at), searched.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(bytes.get(..at)),
        (Some(b'\r'), None) if at + 1 == bytes.len() => Ok(None),
        (Some(b'\r'), None) => Err(RespError::TooLarge),
        _ => Err(RespError::Malformed),
    }
}

/// Digits without a sign and without zeros before them.
fn length(line: &[u8], most: usize) -> Result<usize, RespError> {
    let number = usize::try_from(integer(line)?).map_err(|_| RespError::Malformed)?;
    if number > most { Err(RespError::TooLarge) } else { Ok(number) }
}

fn integer(line: &[u8]) -> Result<i64, RespError> {
    let digits = line.strip_prefix(b"-").unwrap_or(line);
    let plain = match digits {
        [] => false,
        [b'0'] => line.len() == 1,
        [first, ..] => *first != b'0' && digits.iter().all(u8::is_ascii_digit),
    };
    if !plain {
        return Err(RespError::Malformed);
    }
    core::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(RespError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Option<Vec<RespValue<'_>>>, RespError> {
        let length = reply_length(bytes)?;
        Ok(length.map(|length| values(&bytes[..length]).collect()))
    }

    #[test]
    fn what_servers_send_is_read() {
        use RespValue::{Failure, Flag, Integer, Null, Push, Text, Values};
        for (bytes, expected) in [
            (&b"+OK\r\n"[..], vec![Text(b"OK")]),
            (b"-NOSCRIPT No matching script.\r\n", vec![Failure(b"NOSCRIPT No matching script.")]),
            (b":-12\r\n", vec![Integer(-12)]),
            (b":0\r\n", vec![Integer(0)]),
            (b"$0\r\n\r\n", vec![Text(b"")]),
            (b"$4\r\na\r\nb\r\n", vec![Text(b"a\r\nb")]),
            (b"$-1\r\n", vec![Null]),
            (b"*-1\r\n", vec![Null]),
            (b"_\r\n", vec![Null]),
            (b"*2\r\n:1\r\n:40999\r\n", vec![Values(2), Integer(1), Integer(40_999)]),
            (b"*1\r\n*1\r\n+a\r\n", vec![Values(1), Values(1), Text(b"a")]),
            (b"%1\r\n+proto\r\n:3\r\n", vec![Values(2), Text(b"proto"), Integer(3)]),
            (b"~1\r\n#t\r\n", vec![Values(1), Flag(true)]),
            (b"=7\r\ntxt:abc\r\n", vec![Text(b"abc")]),
            (b"!5\r\nERR a\r\n", vec![Failure(b"ERR a")]),
            (b",1.5\r\n", vec![Text(b"1.5")]),
            (b">1\r\n+a\r\n", vec![Push(1), Text(b"a")]),
        ] {
            assert_eq!(read(bytes), Ok(Some(expected)), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for bytes in [
            &b"a"[..],
            b"|1\r\n",
            b"+a\n",
            b"+a\rb",
            b":+1\r\n",
            b":01\r\n",
            b":-0\r\n",
            b":\r\n",
            b":9223372036854775808\r\n",
            b"$-2\r\n",
            b"$01\r\na\r\n",
            b"$1\r\nab",
            b"$1\r\na\n\n",
            b"$?\r\n",
            b"*?\r\n",
            b"%-1\r\n",
            b"#x\r\n",
            b"_x\r\n",
            b"=3\r\nabc\r\n",
        ] {
            assert_eq!(read(bytes), Err(RespError::Malformed), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_has_come() {
        let long = [b"+".as_slice(), &[b'a'; LINE_LIMIT + 2]].concat();
        for bytes in [&b"$65537\r\n"[..], b"*257\r\n", b"%129\r\n", b"*200\r\n*200\r\n", &long] {
            assert_eq!(read(bytes), Err(RespError::TooLarge), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_command_is_a_list_of_its_parts() {
        let mut out = Vec::new();
        command(&mut out, &[b"SET", b"", b"a\r\nb"]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\r\nb\r\n");
        assert_eq!(reply_length(&out), Ok(Some(out.len())));
    }

    proptest! {
        #[test]
        fn nothing_is_read_beyond_a_reply_and_no_beginning_is_malformed(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            rest in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = Vec::new();
            command(&mut bytes, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let whole = bytes.len();
            for end in 0..whole {
                prop_assert_eq!(reply_length(&bytes[..end]), Ok(None));
            }
            bytes.extend_from_slice(&rest);
            prop_assert_eq!(reply_length(&bytes), Ok(Some(whole)));
            let read: Vec<RespValue<'_>> = values(&bytes[..whole]).skip(1).collect();
            let written: Vec<RespValue<'_>> = parts.iter().map(|part| RespValue::Text(part)).collect();
            prop_assert_eq!(read, written);
        }

        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(prop::sample::select(b"+-:$*_#,(!=%~>|?0123\r\n".to_vec()), 0..64)) {
            if let Ok(Some(length)) = reply_length(&bytes) {
                prop_assert!(length <= bytes.len());
                let mut left = 1;
                for value in values(&bytes[..length]) {
                    left = left - 1 + value.followed_by();
                }
                prop_assert_eq!(left, 0);
            }
        }
    }
}
