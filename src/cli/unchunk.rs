//! The chunks of a captured body, read leniently: line ends may have been changed, and the capture may break off.

/// A size has no more digits (RFC 9112 section 7.1 sets no bound).
const DIGITS: usize = 16;
/// A line with a size is no longer: it may have extensions.
const LINE: usize = 4096;

/// What is in chunks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnchunkedBody {
    pub(super) payload: Vec<u8>,
    pub(super) end: ChunksEnd,
}

/// How the chunks end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChunksEnd {
    /// With the last chunk, and so many bytes behind it that are not white space alone.
    Last { behind: usize },
    /// Before it, in words that go on behind "the chunked body".
    Broken(String),
}

/// Takes the chunks out of a body; nothing where it does not begin with one.
pub(super) fn unchunk(body: &[u8]) -> Option<UnchunkedBody> {
    let (mut rest, mut payload, mut number) = (body, Vec::new(), 0_usize);
    // As the first line ends: where that is CRLF, a CR at the end of a chunk is payload.
    let first = memchr::memchr(b'\n', body.get(..body.len().min(LINE))?)?;
    let line_end: &[u8] = if first > 0 && body.get(first - 1) == Some(&b'\r') { b"\r\n" } else { b"\n" };
    loop {
        number += 1;
        let Some((size, after)) = size_line(rest) else {
            return (number > 1).then(|| {
                let what = no_size(rest, number);
                broken(payload, what)
            });
        };
        if size == 0 {
            return Some(UnchunkedBody { payload, end: ChunksEnd::Last { behind: behind_trailers(after) } });
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some((data, after)) = after.split_at_checked(size) else {
            let has = after.len();
            payload.extend_from_slice(after);
            return Some(broken(payload, format!("breaks off in chunk {number}, after {has} of its {size} bytes")));
        };
        payload.extend_from_slice(data);
        let Some(next) = after.strip_prefix(line_end) else {
            let what = match after {
                b"" | b"\r" => format!("breaks off behind chunk {number}: the last chunk (`0`) is missing"),
                _ => format!("is broken: chunk {number} goes on behind the {size} bytes that its size says"),
            };
            return Some(broken(payload, what));
        };
        rest = next;
    }
}

fn broken(payload: Vec<u8>, what: String) -> UnchunkedBody {
    let all = payload.len();
    UnchunkedBody { payload, end: ChunksEnd::Broken(format!("{what} (payload: {all} bytes)")) }
}

fn no_size(rest: &[u8], number: usize) -> String {
    let begun = rest.iter().all(|byte| byte.is_ascii_hexdigit() || b"\r\n".contains(byte)) && rest.len() <= DIGITS;
    // Extensions may follow the digits, and no line end has come.
    let in_line = rest.first().is_some_and(u8::is_ascii_hexdigit) && memchr::memchr(b'\n', rest).is_none();
    match begun {
        false if in_line && rest.len() < LINE => format!("breaks off in the line with the size of chunk {number}"),
        true => format!("breaks off behind chunk {}: the last chunk (`0`) is missing", number - 1),
        false => format!("is broken: no size stands where chunk {number} begins"),
    }
}

/// The size of the next chunk, and what follows its line.
fn size_line(rest: &[u8]) -> Option<(u64, &[u8])> {
    let window = rest.get(..rest.len().min(LINE))?;
    let (line, after) = match memchr::memchr(b'\n', window) {
        Some(end) => (window.get(..end)?, rest.get(end + 1..)?),
        // An editor, or the end of the capture, has taken the last line end.
        None if matches!(rest, b"0" | b"0\r") => (rest, &b""[..]),
        None => return None,
    };
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let is_size = (1..=DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let size = core::str::from_utf8(digits).ok().filter(|_| is_size)?;
    Some((u64::from_str_radix(size, 16).ok()?, after))
}

/// How many bytes follow the trailer section that are more than white space.
fn behind_trailers(rest: &[u8]) -> usize {
    let mut rest = rest;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, after) = rest.split_at(end + 1);
        if line.trim_ascii().is_empty() {
            return if after.trim_ascii().is_empty() { 0 } else { after.len() };
        }
        if !line.contains(&b':') {
            break;
        }
        rest = after;
    }
    if rest.trim_ascii().is_empty() { 0 } else { rest.len() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(body: &str) -> (String, String) {
        let read = unchunk(body.as_bytes()).unwrap();
        let end = match read.end {
            ChunksEnd::Last { behind } => behind.to_string(),
            ChunksEnd::Broken(what) => what,
        };
        (String::from_utf8(read.payload).unwrap(), end)
    }

    #[test]
    fn chunks_are_read_as_far_as_they_go() {
        for (body, payload, end) in [
            ("2\r\nok\r\n0\r\n\r\n", "ok", "0"),
            ("2\nok\n0\n\n", "ok", "0"),
            ("2;a=b\r\nok\r\n00\r\nA: b\r\n\r\n\n", "ok", "0"),
            ("2\r\nok\r\n0\r\n\r\nPOST", "ok", "4"),
            ("2\r\nok\r\n0", "ok", "0"),
            ("2\r\nok\r\n10\r\nand", "okand", "breaks off in chunk 2, after 3 of its 16 bytes (payload: 5 bytes)"),
            ("2\r\nok\r\n", "ok", "breaks off behind chunk 1: the last chunk (`0`) is missing (payload: 2 bytes)"),
            ("2\r\nok", "ok", "breaks off behind chunk 1: the last chunk (`0`) is missing"),
            ("2\r\nok\r\n1", "ok", "breaks off behind chunk 1"),
            ("2\r\nok\r\na;x=", "ok", "breaks off in the line with the size of chunk 2 (payload: 2 bytes)"),
            ("2\r\nok\r\nzz\r\n", "ok", "is broken: no size stands where chunk 2 begins"),
            ("3\r\nok\r\n0\r\n\r\n", "ok\r", "is broken: chunk 1 goes on behind the 3 bytes that its size says"),
            ("2\r\nokay\r\n0\r\n\r\n", "ok", "is broken: chunk 1 goes on behind the 2 bytes that its size says"),
            ("ffffffffffffffff\r\nok", "ok", "breaks off in chunk 1, after 2 of its 18446744073709551615 bytes"),
        ] {
            let (found, words) = read(body);
            assert!(found == payload && words.starts_with(end), "{body:?}: {found:?}, {words}");
        }
        for body in ["", "{\"a\":1}", "a=1\n", "12345678901234567\r\n", "12"] {
            assert_eq!(unchunk(body.as_bytes()), None, "{body:?}");
        }
    }
}
