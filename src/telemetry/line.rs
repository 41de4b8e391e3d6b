//! The pieces that lines are made of: numbers, addresses, moments and text that strangers have chosen, appended to bytes
//! without allocation and without formatting machinery.
//!
//! Text comes out as ASCII that is valid inside a JSON string whatever went in: control characters and everything
//! beyond ASCII as `\uXXXX` escapes, bytes that are not UTF-8 as `\ufffd`. Nothing in a line can move a terminal's
//! cursor, turn text around or end the line.
//!
//! JSON is written by hand here: `serde_json` leaves what is beyond ASCII as it is, and takes no bytes that are not UTF-8.

use core::net::IpAddr;
use core::time::Duration;

use time::OffsetDateTime;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends a number.
pub fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a duration in whole microseconds.
pub fn micros(out: &mut Vec<u8>, duration: Duration) {
    number(out, u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
}

/// Appends an address as RFC 5952 writes it, an IPv4 address in IPv6 clothes as an IPv4 address.
pub fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(four) => {
            for (position, octet) in four.octets().into_iter().enumerate() {
                if position > 0 {
                    out.push(b'.');
                }
                number(out, u64::from(octet));
            }
        }
        IpAddr::V6(six) => groups(out, six.segments()),
    }
}

/// RFC 5952 section 4: the longest run of zeros, the first of equals, is left out; one zero alone is not.
fn groups(out: &mut Vec<u8>, groups: [u16; 8]) {
    let (mut best, mut run) = (0..0, 0..0);
    for (position, group) in groups.into_iter().enumerate() {
        run = if group == 0 { (if run.end == position { run.start } else { position })..position + 1 } else { 0..0 };
        if run.len() > best.len() {
            best = run.clone();
        }
    }
    let left_out = if best.len() > 1 { best } else { 8..8 };
    for (position, group) in groups.into_iter().enumerate() {
        if left_out.contains(&position) {
            if position == left_out.start {
                out.extend_from_slice(b"::");
            }
            continue;
        }
        if position > 0 && position != left_out.end {
            out.push(b':');
        }
        let digits = [12, 8, 4, 0].map(|shift| group >> shift & 0xf);
        let first = digits.iter().position(|digit| *digit != 0).unwrap_or(3);
        digits.into_iter().skip(first).for_each(|digit| out.push(hex_digit(digit)));
    }
}

/// The last four bits of `number` as a lower-case digit.
fn hex_digit(number: u16) -> u8 {
    HEX.get(usize::from(number & 0xf)).copied().unwrap_or(b'0')
}

/// Appends bytes as lower-case hexadecimal digits.
pub fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.push(hex_digit(u16::from(byte >> 4)));
        out.push(hex_digit(u16::from(*byte)));
    }
}

/// Appends text that anyone may have chosen, in ASCII that is valid between the quotes of a JSON string.
pub fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    if is_plain(text) {
        return out.extend_from_slice(text);
    }
    let mut rest = text;
    loop {
        let (run, odd) = rest.split_at(rest.iter().copied().position(is_odd).unwrap_or(rest.len()));
        out.extend_from_slice(run);
        let Some(first) = odd.first() else { return };
        let taken = match first {
            b'"' | b'\\' => {
                out.extend_from_slice(&[b'\\', *first]);
                1
            }
            0..0x80 => {
                unit(out, u16::from(*first));
                1
            }
            _ => beyond_ascii(out, odd),
        };
        rest = odd.get(taken..).unwrap_or_default();
    }
}

/// Whether no byte needs an escape, as is the case with nearly all texts. Blocks are looked at whole, which the compiler does
/// with vector instructions; the first and the last block may overlap.
fn is_plain(text: &[u8]) -> bool {
    match text.len() {
        0..4 => !text.iter().copied().any(is_odd),
        4..8 => has_plain_ends::<4>(text),
        8..16 => has_plain_ends::<8>(text),
        _ => text.as_chunks::<16>().0.iter().all(is_plain_block) && has_plain_ends::<16>(text),
    }
}

fn has_plain_ends<const N: usize>(text: &[u8]) -> bool {
    text.first_chunk::<N>().is_some_and(is_plain_block) && text.last_chunk::<N>().is_some_and(is_plain_block)
}

fn is_plain_block<const N: usize>(block: &[u8; N]) -> bool {
    !block.iter().fold(false, |odd, byte| odd | is_odd(*byte))
}

/// Whether a byte needs an escape.
const fn is_odd(byte: u8) -> bool {
    byte < b' ' || byte > b'~' || byte == b'"' || byte == b'\\'
}

/// Appends the first character of `text`; gives how many bytes it took.
fn beyond_ascii(out: &mut Vec<u8>, text: &[u8]) -> usize {
    let head = text.get(..text.len().min(4)).unwrap_or_default();
    let valid = match core::str::from_utf8(head) {
        Ok(valid) => valid,
        Err(error) => head.get(..error.valid_up_to()).and_then(|it| core::str::from_utf8(it).ok()).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(character) => {
            character.encode_utf16(&mut [0; 2]).iter().for_each(|code| unit(out, *code));
            character.len_utf8()
        }
        None => {
            unit(out, 0xfffd);
            1
        }
    }
}

fn unit(out: &mut Vec<u8>, code: u16) {
    out.extend_from_slice(b"\\u");
    [12, 8, 4, 0].into_iter().for_each(|shift| out.push(hex_digit(code >> shift)));
}

/// Moments as RFC 3339 in UTC with milliseconds. The text of a second is made once.
#[derive(Clone, Debug)]
pub struct TimeText {
    second: u64,
    text: [u8; 20],
}

impl Default for TimeText {
    fn default() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00." }
    }
}

impl TimeText {
    /// Appends the moment `unix` after 1970.
    pub fn write(&mut self, out: &mut Vec<u8>, unix: Duration) {
        if self.second != unix.as_secs() {
            self.set(unix.as_secs());
        }
        out.extend_from_slice(&self.text);
        let millis = unix.subsec_millis();
        out.extend([millis / 100, millis / 10 % 10, millis % 10].map(digit));
        out.push(b'Z');
    }

    /// What is beyond the year 9999 has no text: it keeps that of the last moment that had one.
    fn set(&mut self, second: u64) {
        let Some(moment) = i64::try_from(second).ok().and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok())
        else {
            return;
        };
        let year = moment.year().unsigned_abs();
        let pairs = [
            year / 100,
            year % 100,
            u32::from(u8::from(moment.month())),
            u32::from(moment.day()),
            u32::from(moment.hour()),
            u32::from(moment.minute()),
            u32::from(moment.second()),
        ];
        for (pair, at) in pairs.into_iter().zip([0, 2, 5, 8, 11, 14, 17]) {
            for (place, value) in self.text.iter_mut().skip(at).zip([pair / 10, pair % 10]) {
                *place = digit(value);
            }
        }
        self.second = second;
    }
}

const fn digit(value: u32) -> u8 {
    b'0' + (value % 10) as u8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn moments_are_rfc_3339() {
        let mut stamp = TimeText::default();
        let mut at = |millis| text(|out| stamp.write(out, Duration::from_millis(millis)));
        assert_eq!(at(7), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(784_111_777_999), "1994-11-06T08:49:37.999Z");
        assert_eq!(at(784_111_778_040), "1994-11-06T08:49:38.040Z");
        assert_eq!(at(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(u64::MAX), "2000-02-29T00:00:00.615Z");
    }

    #[test]
    fn strange_text_is_ascii() {
        let escaped = |bytes: &[u8]| text(|out| escaped(out, bytes));
        assert_eq!(escaped(b"/a b\"c\\d"), r#"/a b\"c\\d"#);
        assert_eq!(escaped(b"\n\x1b[2J\x7f"), r"\u000a\u001b[2J\u007f");
        assert_eq!(escaped("é\u{1f600}\u{202e}".as_bytes()), r"\u00e9\ud83d\ude00\u202e");
        assert_eq!(escaped(b"\xff\xc3(\xe2\x82"), r"\ufffd\ufffd(\ufffd\ufffd");
    }

    proptest! {
        #[test]
        fn every_text_is_a_json_string_that_means_it(bytes: Vec<u8>) {
            let line = text(|out| escaped(out, &bytes));
            prop_assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            let read: String = serde_json::from_str(&format!("\"{line}\"")).unwrap();
            if let Ok(valid) = core::str::from_utf8(&bytes) {
                prop_assert_eq!(read, valid);
            }
        }

        #[test]
        fn addresses_are_those_of_the_standard_library(v4: [u8; 4], mut v6: [u16; 8], zeros: u8) {
            for (position, group) in v6.iter_mut().enumerate() {
                if zeros >> position & 1 == 1 { *group = 0; }
            }
            for ip in [IpAddr::from(v4), IpAddr::from(v6)] {
                prop_assert_eq!(text(|out| address(out, ip)), ip.to_canonical().to_string());
            }
        }

        #[test]
        fn moments_are_those_of_the_time_crate(second in 0_u64..253_402_300_800) {
            let moment = OffsetDateTime::from_unix_timestamp(second.cast_signed()).unwrap();
            let expected = moment.format(&time::format_description::well_known::Rfc3339).unwrap();
            let written = text(|out| TimeText::default().write(out, Duration::from_secs(second)));
            prop_assert_eq!(written.replace(".000Z", "Z"), expected);
        }
    }
}
