//! The one way to standard output and standard error for everything but the access log, whose lines are ASCII by
//! themselves: nothing that reaches a terminal moves its cursor, turns text around or hides some of it.

use std::io::{self, Write};

use crate::config::shown::plain;

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Writes text and a line break, at once. Line breaks in the text stay; control characters in it do not.
///
/// # Errors
/// Of the stream.
pub fn write_line(stream: Stream, text: &str) -> io::Result<()> {
    let line = format!("{}\n", plain(text));
    match stream {
        Stream::Output => {
            let mut out = io::stdout().lock();
            out.write_all(line.as_bytes()).and_then(|()| out.flush())
        }
        Stream::Error => io::stderr().lock().write_all(line.as_bytes()),
    }
}
