//! Printing for people. A reader that has gone (`countersign schemes | head -1`) is no defect: what it does not want is
//! not written, and nobody is told. An output that cannot be written otherwise, for instance because the disk is full, ends
//! the command: nobody is to take half of a trail for the whole.

use std::io::{self, Write};

use super::CANNOT;

/// Writes a line to standard output.
pub(super) fn line(text: impl AsRef<str>) {
    if let Err(error) = write(&mut io::stdout().lock(), text.as_ref())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        complain(format!("standard output cannot be written: {error}"));
        std::process::exit(i32::from(CANNOT));
    }
}

/// Writes a line to standard error.
pub(super) fn complain(text: impl AsRef<str>) {
    let _ = write(&mut io::stderr().lock(), text.as_ref());
}

fn write(out: &mut dyn Write, text: &str) -> io::Result<()> {
    writeln!(out, "{text}").and_then(|()| out.flush())
}
