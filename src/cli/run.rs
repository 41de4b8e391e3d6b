//! `countersign run`: the proxy, from start to SIGTERM.

use std::path::Path;
use std::process::ExitCode;

use crate::config::load::load_noting;
use crate::control::composition;

use super::check::print_problems;
use super::{CANNOT, FOUND_WRONG};

/// Runs until a signal. 0 after a clean stop, 1 for a wrong configuration, 2 when it cannot start.
pub(super) fn run(path: &Path) -> ExitCode {
    let (loaded, sources) = match load_noting(path) {
        (Ok(loaded), sources) => (loaded, sources),
        (Err(problems), _) => {
            print_problems(&problems);
            return ExitCode::from(FOUND_WRONG);
        }
    };
    print_problems(&loaded.warnings);
    match composition::run(path, loaded, sources) {
        Ok(()) => ExitCode::SUCCESS,
        // The log of the process has said why.
        Err(_) => ExitCode::from(CANNOT),
    }
}
