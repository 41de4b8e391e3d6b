//! `countersign check`: what `run` would say to this configuration.

use std::path::Path;
use std::process::ExitCode;

use crate::config::load::load;
use crate::config::problem::Problems;
use crate::config::summary::summary;
use crate::edge::clock::Clock;

use super::FOUND_WRONG;
use super::output::{complain, line};

/// Prints every problem and exits with 1, or a summary and exits with 0.
pub(super) fn run(path: &Path) -> ExitCode {
    match load(path) {
        Ok(loaded) => {
            print_problems(&loaded.warnings);
            line(summary(&loaded.settings, Clock::start().now()));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            print_problems(&problems);
            ExitCode::from(FOUND_WRONG)
        }
    }
}

/// Prints problems and warnings to standard error, each with its place and the fix.
pub(super) fn print_problems(problems: &Problems) {
    for problem in problems.iter() {
        complain(problem.to_string());
    }
}
