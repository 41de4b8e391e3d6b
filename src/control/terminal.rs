//! The one way to standard output and standard error for everything but the access log, whose lines are ASCII by
//! themselves: nothing that reaches a terminal moves its cursor, turns text around or hides some of it.

use std::io::{self, IsTerminal, Write};

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

/// What is marked in a problem, and how (SGR parameters).
const MARKS: [(&str, &str); 3] = [(": error: ", "1;31"), (": warning: ", "1;33"), ("    fix: ", "36")];

/// Writes a problem of a configuration to standard error, in colour where that is a terminal and `NO_COLOR` is not set
/// (<https://no-color.org>).
///
/// # Errors
/// Of the stream.
pub fn write_problem(text: &str) -> io::Result<()> {
    if !io::stderr().is_terminal() || !wants_colour() {
        return write_line(Stream::Error, text);
    }
    io::stderr().lock().write_all(format!("{}\n", coloured(&plain(text))).as_bytes())
}

/// The text with its marks in colour. Only the first of each counts: what follows quotes others.
fn coloured(text: &str) -> String {
    MARKS.iter().fold(text.to_owned(), |text, (mark, colour)| {
        let word = mark.trim_matches([':', ' ']);
        text.replacen(mark, &mark.replace(word, &format!("\u{1b}[{colour}m{word}\u{1b}[0m")), 1)
    })
}

#[expect(clippy::disallowed_methods, reason = "a convention of terminals, which is no configuration")]
fn wants_colour() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_marks_of_a_problem_are_in_colour() {
        assert_eq!(
            coloured("a.toml:1:2: error: x: y: error: z\n    fix: w"),
            "a.toml:1:2: \u{1b}[1;31merror\u{1b}[0m: x: y: error: z\n    \u{1b}[36mfix\u{1b}[0m: w"
        );
    }
}
