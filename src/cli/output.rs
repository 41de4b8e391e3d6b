//! Printing for people. A reader that has gone (`countersign schemes | head -1`) is no defect: the rest is not written,
//! without a message. Any other output that cannot be written, for instance because the disk is full, ends the command, so
//! that half of a trail is not taken for the whole.

use std::io;

use crate::config::shown::concealed;
use crate::control::terminal::{Stream, write_line};

use super::CANNOT;

/// Writes a line to standard output.
pub(super) fn line(text: impl AsRef<str>) {
    if let Err(error) = write_line(Stream::Output, text.as_ref())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        complain(format!("standard output cannot be written: {error}"));
        std::process::exit(i32::from(CANNOT));
    }
}

/// Writes a line to standard error. What it quotes may be a secret in the wrong place: a file that is not there, a name
/// that is not known, an argument.
pub(super) fn complain(text: impl AsRef<str>) {
    let _ = write_line(Stream::Error, &concealed(text.as_ref()));
}
