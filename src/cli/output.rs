//! Printing for people. A reader that has gone (`countersign schemes | head -1`) is no defect: what it does not want is
//! not written, and nobody is told.

use std::io::{self, Write};

/// Writes a line to standard output.
pub(super) fn line(text: impl AsRef<str>) {
    write(&mut io::stdout().lock(), text.as_ref());
}

/// Writes a line to standard error.
pub(super) fn complain(text: impl AsRef<str>) {
    write(&mut io::stderr().lock(), text.as_ref());
}

fn write(out: &mut dyn Write, text: &str) {
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
