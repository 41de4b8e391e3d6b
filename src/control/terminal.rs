//! The one way to standard output and standard error for everything but the access log, whose lines are ASCII by
//! themselves: nothing that reaches a terminal moves its cursor, turns text around or hides some of it.

use std::borrow::Cow;
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

/// What a marked word says, and so its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It is well.
    Good,
    /// It is well, and nothing was done.
    Idle,
    /// It was refused, or it failed.
    Bad,
}

impl Tone {
    /// The SGR parameters.
    fn colour(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Idle => "36",
            Self::Bad => "31",
        }
    }
}

/// Writes text and a line break to standard output, the first `word` of it in colour where that is a terminal and `NO_COLOR` is not
/// set.
///
/// # Errors
/// Of the stream.
pub fn write_marked(text: &str, word: &str, tone: Tone) -> io::Result<()> {
    if !io::stdout().is_terminal() || !wants_colour() {
        return write_line(Stream::Output, text);
    }
    let mut out = io::stdout().lock();
    out.write_all(format!("{}\n", marked(&plain(text), word, tone.colour())).as_bytes()).and_then(|()| out.flush())
}

/// The text with the first `word` of it in colour.
fn marked(text: &str, word: &str, colour: &str) -> String {
    text.replacen(word, &format!("\u{1b}[{colour}m{word}\u{1b}[0m"), 1)
}

/// Writes a text that other programs read, byte for byte; on a terminal without its control characters.
///
/// # Errors
/// Of the stream.
pub fn write_text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let shown = if out.is_terminal() { plain(text) } else { Cow::Borrowed(text) };
    out.write_all(shown.as_bytes()).and_then(|()| out.flush())
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
        text.replacen(mark, &marked(mark, word, colour), 1)
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
    fn the_first_word_of_a_line_is_in_the_colour_of_its_tone() {
        assert_eq!(marked("a bad, bad b", "bad", Tone::Bad.colour()), "a \u{1b}[31mbad\u{1b}[0m, bad b");
        assert_eq!(marked("a b", "c", Tone::Good.colour()), "a b");
    }

    #[test]
    fn the_first_marks_of_a_problem_are_in_colour() {
        assert_eq!(
            coloured("a.toml:1:2: error: x: y: error: z\n    fix: w"),
            "a.toml:1:2: \u{1b}[1;31merror\u{1b}[0m: x: y: error: z\n    \u{1b}[36mfix\u{1b}[0m: w"
        );
    }
}
