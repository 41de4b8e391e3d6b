//! `countersign run`: the proxy, from start to SIGTERM.

use std::process::ExitCode;

use crate::config::load::load_source;
use crate::config::source::ConfigSource;
use crate::control::composition;

use super::output::{complain, print_problems};
use super::{CANNOT, FOUND_WRONG};

/// Runs until a signal. 0 after a clean stop, 1 for a wrong configuration, 2 when it cannot start.
pub(super) fn run(source: Result<ConfigSource, String>) -> ExitCode {
    let source = match source {
        Ok(source) => source,
        Err(why) => {
            complain(why);
            return ExitCode::from(CANNOT);
        }
    };
    let (loaded, sources) = match load_source(&source) {
        (Ok(loaded), sources) => (loaded, sources),
        (Err(problems), _) => {
            print_problems(&problems);
            return ExitCode::from(FOUND_WRONG);
        }
    };
    match composition::run(source, loaded, sources) {
        Ok(()) => ExitCode::SUCCESS,
        // The log of the process has said why.
        Err(_) => ExitCode::from(CANNOT),
    }
}
