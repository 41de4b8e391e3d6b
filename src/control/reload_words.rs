//! What the log says about reloads. Never anything of a secret.

use std::path::Path;
use std::time::Duration;

use crate::config::problem::{Problem, Severity};

use super::reloader::ReloadError;

/// So many problems are written; the rest is counted. `countersign check` has them all.
const PROBLEMS: usize = 20;

/// So many changes and files are named in one line.
const NAMED: usize = 20;

/// A problem in one line, without its severity: the line has one.
pub fn problem(problem: &Problem) -> String {
    let mut text = problem.place.to_string();
    for part in [&problem.place.key_path, &problem.message] {
        if !part.is_empty() {
            text = format!("{text}: {part}");
        }
    }
    if !problem.fix.is_empty() {
        text = format!("{text} (fix: {})", problem.fix.trim());
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// After a reload that has changed something.
pub(super) fn changed<'p>(
    generation: u64,
    took: Duration,
    files: impl Iterator<Item = &'p Path>,
    changes: &[String],
) -> String {
    let files: Vec<String> = files.map(|path| path.display().to_string()).collect();
    let files = match listed(&files, ", ") {
        none if none.is_empty() => String::new(),
        some => format!(" files: {some};"),
    };
    let changes = match listed(changes, ", ") {
        none if none.is_empty() => "nothing else is different".to_owned(),
        some => some,
    };
    format!("reloaded generation={generation} took={}ms{files} {changes}", took.as_millis())
}

/// After a reload that found nothing to change.
pub(super) fn unchanged(generation: u64) -> String {
    format!("reload: the files are those that are in force, generation={generation}")
}

/// After one that could not be.
pub(super) fn refused(error: &ReloadError, generation: u64) -> Vec<String> {
    let stays = format!("reload refused, nothing has changed: generation={generation} stays in force");
    let ReloadError::Refused(problems) = error else { return vec![format!("{stays}: {error}")] };
    let errors: Vec<&Problem> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
    let mut lines = vec![format!("{stays}; errors={}", errors.len())];
    lines.extend(errors.iter().take(PROBLEMS).map(|it| format!("reload: {}", problem(it))));
    if errors.len() > PROBLEMS {
        lines.push(format!("reload: {} more; countersign check has them all", errors.len() - PROBLEMS));
    }
    lines
}

fn listed(items: &[String], between: &str) -> String {
    let mut text = items.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(between);
    if items.len() > NAMED {
        text = format!("{text}{between}{} more", items.len() - NAMED);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::{Place, Problems};

    #[test]
    fn a_refusal_is_one_line_a_problem_and_bounded() {
        let mut problems = Problems::default();
        problems.warning(Place::file("a.toml"), "odd", "");
        for line in 1..=25 {
            let place = Place { line, column: 1, key_path: "route".to_owned(), ..Place::file("a.toml") };
            problems.error(place, "is missing", "add:\n\n[[route]]\n");
        }
        let lines = refused(&ReloadError::Refused(problems), 7);
        assert_eq!(lines.len(), 22);
        assert_eq!(lines[0], "reload refused, nothing has changed: generation=7 stays in force; errors=25");
        assert_eq!(lines[1], "reload: a.toml:1:1: route: is missing (fix: add: [[route]])");
        assert_eq!(lines[21], "reload: 5 more; countersign check has them all");
        assert!(lines.iter().all(|line| !line.contains('\n')));
        assert_eq!(refused(&ReloadError::Unsettled, 7).len(), 1);
    }

    #[test]
    fn a_change_says_what_and_where() {
        let took = Duration::from_millis(61);
        let files = [Path::new("a.toml"), Path::new("secrets/a")];
        assert_eq!(
            changed(2, took, files.into_iter(), &["route hook added".to_owned()]),
            "reloaded generation=2 took=61ms files: a.toml, secrets/a; route hook added"
        );
        assert_eq!(changed(2, took, [].into_iter(), &[]), "reloaded generation=2 took=61ms nothing else is different");
        let many: Vec<String> = (0..22).map(|n| n.to_string()).collect();
        assert!(changed(2, took, [].into_iter(), &many).ends_with("19, 2 more"));
    }
}
