//! Printing for people. A reader that has gone (`countersign schemes | head -1`) is no defect: the rest is not written,
//! without a message. Any other output that cannot be written, for instance because the disk is full, ends the command, so
//! that half of a trail is not taken for the whole.

use std::io;
use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::config::problem::{Problem, Problems, Severity};
use crate::config::shown::concealed;
use crate::control::terminal::{Stream, Tone, write_line, write_marked, write_problem, write_text};

use super::CANNOT;

/// How a command prints what it has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputForm {
    /// For people
    #[default]
    Text,
    /// One JSON value, for programs
    Json,
}

/// `--output`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct OutputFlag {
    /// For people, or for programs
    #[arg(
        long = "output",
        short = 'o',
        value_enum,
        default_value_t,
        value_name = "FORM",
        env = "COUNTERSIGN_OUTPUT",
        hide_env_values = true
    )]
    pub(super) form: OutputForm,
}

impl OutputFlag {
    pub(super) fn is_json(self) -> bool {
        self.form == OutputForm::Json
    }
}

/// Lines that are kept for one JSON value instead of being printed.
static KEPT: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// Members of that value that no line says.
static TOLD: Mutex<Vec<(&'static str, Value)>> = Mutex::new(Vec::new());

/// Adds a member to the JSON value that lines are kept for.
pub(super) fn tell(name: &'static str, value: Value) {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).push((name, value));
}

/// From now on lines are kept.
pub(super) fn keep_lines() {
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
}

/// What lines say that are made of a name and what belongs to it, and the names of the members that they become.
const MEMBERS: [(&str, &str); 4] =
    [("what that means: ", "meaning"), ("what to do: ", "advice"), ("refused: ", "reason"), ("reject: ", "reason")];

/// Prints the lines that have been kept as one JSON value, with `ok`, and lets lines be printed again.
pub(super) fn print_kept(ok: bool) {
    let Some(lines) = KEPT.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let lines: Vec<&str> = lines.iter().flat_map(|text| text.lines()).collect();
    let explained: Vec<&str> = lines.iter().filter_map(|it| it.strip_prefix("explained: ")).collect();
    let mut value = json!({ "ok": ok, "explained": explained, "lines": lines });
    for (prefix, name) in MEMBERS {
        if let (Some(found), Some(members)) =
            (lines.iter().find_map(|it| it.strip_prefix(prefix)), value.as_object_mut())
        {
            members.entry(name).or_insert_with(|| Value::from(found));
        }
    }
    for (name, told) in TOLD.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        value.as_object_mut().into_iter().for_each(|members| drop(members.insert(name.to_owned(), told.clone())));
    }
    line(value.to_string());
}

/// Says why a command could do nothing: to people on standard error, and where lines are kept for a program in one JSON value
/// on standard output as well.
pub(super) fn give_up(why: &str) {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(lines) = kept {
        let lines: Vec<&str> = lines.iter().flat_map(|text| text.lines()).collect();
        line(json!({ "ok": false, "error": concealed(why), "explained": [], "lines": lines }).to_string());
    }
    complain(why);
}

/// Writes a line to standard output.
pub(super) fn line(text: impl AsRef<str>) {
    if let Some(kept) = KEPT.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        return kept.push(text.as_ref().to_owned());
    }
    end_unless_written(write_line(Stream::Output, text.as_ref()));
}

/// Writes a line to standard output, with the reason code in it in the colour of what it says, on a terminal.
pub(super) fn line_with_code(text: &str, code: &str) {
    let tone = match code {
        "forwarded" | "challenge_answered" | "accepted" => Tone::Good,
        "duplicate" => Tone::Idle,
        _ => Tone::Bad,
    };
    end_unless_written(write_marked(text, code, tone));
}

/// Writes a text to standard output for other programs: byte for byte.
pub(super) fn exactly(text: &str) {
    end_unless_written(write_text(text));
}

/// A reader that has gone is no defect; any other output that cannot be written ends the command.
fn end_unless_written(written: io::Result<()>) {
    if let Err(error) = written
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

/// Prints problems and warnings to standard error, each with its place and the fix.
pub(super) fn print_problems(problems: &Problems) {
    for problem in problems.iter() {
        let text = problem.to_string();
        let text = concealed(&text);
        if let Some(kept) = KEPT.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            kept.push(text.to_string());
        }
        let _ = write_problem(&text);
    }
}

/// How many errors and how many warnings there are.
pub(super) fn counted(problems: &Problems) -> (usize, usize) {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    (errors, problems.len() - errors)
}

/// A problem as a JSON object.
pub(super) fn as_json(problem: &Problem) -> Value {
    let severity = if problem.severity == Severity::Error { "error" } else { "warning" };
    let place = &problem.place;
    json!({
        "severity": severity, "file": &*place.file, "line": place.line, "column": place.column, "key": place.key_path,
        "message": problem.message, "fix": problem.fix,
    })
}
