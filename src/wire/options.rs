//! What the `Connection` fields of a message say (RFC 9110 section 7.6.1), read once, while the head is parsed.
//!
//! The number of options is bounded: each of them is compared with the names of fields later. `close` and `keep-alive`
//! are answers to a question; every other option nominates a field that ends at this hop.

use crate::wire::characters::{is_token_byte, trim};
use crate::wire::span::Span;

/// The most options that a message may have, over all its `Connection` fields and with empty list elements. Clients
/// send one to three (`close`; `keep-alive`; `Upgrade, HTTP2-Settings`; `TE`).
pub const OPTION_LIMIT: usize = 32;

/// A message has more than [`OPTION_LIMIT`] options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyOptions;

/// The options of one message. Spans are relative to the first byte of the head.
#[derive(Clone, Debug, Default)]
pub struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
    malformed: bool,
    seen: usize,
    nominated: Vec<Span>,
}

impl ConnectionOptions {
    /// Forgets everything but the memory that it has.
    pub(super) fn clear(&mut self) {
        let mut nominated = core::mem::take(&mut self.nominated);
        nominated.clear();
        *self = Self { nominated, ..Self::default() };
    }

    /// Reads the value of one `Connection` field. `bytes` are those of the head.
    ///
    /// # Errors
    /// [`TooManyOptions`], before the options over the limit are looked at.
    pub(super) fn read(&mut self, value: Span, bytes: &[u8]) -> Result<(), TooManyOptions> {
        let mut rest = Some(value.of(bytes));
        while let Some(list) = rest {
            self.seen += 1;
            if self.seen > OPTION_LIMIT {
                return Err(TooManyOptions);
            }
            let end = memchr::memchr(b',', list).unwrap_or(list.len());
            self.note(trim(list.get(..end).unwrap_or_default()), bytes);
            rest = list.get(end + 1..);
        }
        Ok(())
    }

    fn note(&mut self, option: &[u8], bytes: &[u8]) {
        if option.eq_ignore_ascii_case(b"close") {
            self.close = true;
        } else if option.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
        } else if !option.iter().all(|byte| is_token_byte(*byte)) {
            self.malformed = true;
        } else if !option.is_empty() {
            self.nominated.push(Span::within(option, bytes));
        }
    }

    /// Whether the connection ends with this message.
    #[must_use]
    pub const fn closes(&self) -> bool {
        self.close
    }

    /// Whether the connection is asked to stay.
    #[must_use]
    pub const fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether an option is not a token. It nominates nothing.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        self.malformed
    }

    /// The names of the nominated fields, at most [`OPTION_LIMIT`], as spans into the head.
    pub(super) fn nominated(&self) -> &[Span] {
        &self.nominated
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// Reads each value as a field of its own.
    fn read(values: &[&str]) -> Result<(ConnectionOptions, Vec<u8>), TooManyOptions> {
        let mut options = ConnectionOptions::default();
        let bytes = values.concat().into_bytes();
        let mut start = 0;
        for value in values {
            options.read(Span::new(start, start + value.len()), &bytes)?;
            start += value.len();
        }
        Ok((options, bytes))
    }

    fn nominated(values: &[&str]) -> Vec<String> {
        let (options, bytes) = read(values).unwrap();
        options.nominated().iter().map(|name| String::from_utf8_lossy(name.of(&bytes)).into_owned()).collect()
    }

    #[test]
    fn options_are_a_list_over_all_fields() {
        assert_eq!(nominated(&[" close ,,X-A", "\tX-B\t,"]), ["X-A", "X-B"]);
        assert_eq!(nominated(&["CLOSE, Keep-Alive", "", ","]), Vec::<String>::new());
        let (options, _) = read(&["x", " Close"]).unwrap();
        assert!(options.closes() && !options.keeps_alive() && !options.is_malformed());
        assert!(read(&["keep-Alive"]).unwrap().0.keeps_alive());
    }

    #[test]
    fn an_option_that_is_no_token_is_noted() {
        for value in ["a b", "\"Host\"", "Host;", "a:b", "caf\u{e9}"] {
            let (options, _) = read(&["a", value]).unwrap();
            assert!(options.is_malformed() && options.nominated().len() == 1, "{value}");
        }
    }

    #[test]
    fn the_number_of_options_is_bounded_however_they_are_written() {
        assert_eq!(nominated(&[&["x"; OPTION_LIMIT].join(",")]).len(), OPTION_LIMIT);
        for values in
            [vec![["x"; OPTION_LIMIT + 1].join(",")], vec![String::new(); OPTION_LIMIT + 1], vec![",".repeat(15_000)]]
        {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            assert_eq!(read(&values).err(), Some(TooManyOptions));
        }
        let (mut options, _) = read(&[&["x"; OPTION_LIMIT].join(",")]).unwrap();
        options.clear();
        assert!(options.nominated().is_empty() && options.read(Span::new(0, 1), b"x").is_ok());
    }
}
