//! `countersign check`: what `run` would say to this configuration.

use std::process::ExitCode;

use crate::config::load::load_source;
use crate::config::moment::moment_problems;
use crate::config::problem::Problems;
use crate::config::summary::summary;
use crate::edge::clock::Clock;

use super::configured::{ConfigArguments, source};
use super::output::{complain, line};
use super::{CANNOT, FOUND_WRONG};

/// Prints every problem and exits with 1, or a summary and exits with 0.
pub(super) fn run(arguments: &ConfigArguments) -> ExitCode {
    let source = match source(&arguments.path()) {
        Ok(source) => source,
        Err(why) => {
            complain(why);
            return ExitCode::from(CANNOT);
        }
    };
    match load_source(&source).0 {
        Ok(loaded) => {
            let now = Clock::start().now();
            print_problems(&loaded.warnings);
            print_problems(&moment_problems(&loaded.settings, now));
            line(summary(&loaded.settings, now));
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
