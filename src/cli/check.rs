//! `countersign check`: what `run` would say to this configuration.

use std::process::ExitCode;

use serde_json::json;

use crate::config::load::load_source;
use crate::config::moment::moment_problems;
use crate::config::problem::{Place, Problems};
use crate::config::summary::summary;
use crate::control::durable::place::directory_warning;
use crate::edge::clock::Clock;

use super::configured::{ConfigArguments, source};
use super::output::{OutputFlag, as_json, complain, counted, line, print_problems};
use super::{CANNOT, FOUND_WRONG};

#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Fail on warnings, too
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: OutputFlag,
}

/// Prints every problem and exits with 1, or a summary and exits with 0. The last line counts them.
pub(super) fn run(arguments: &CheckArguments) -> ExitCode {
    let source = match source(&arguments.config.path()) {
        Ok(source) => source,
        Err(why) => {
            complain(why);
            return ExitCode::from(CANNOT);
        }
    };
    let now = Clock::start().now();
    let (problems, text) = match load_source(&source).0 {
        Ok(mut loaded) => {
            loaded.warnings.append(moment_problems(&loaded.settings, now));
            let directory = loaded.settings.inbox.as_ref().and_then(|inbox| inbox.directory.as_deref());
            if let Some(warning) = directory.and_then(directory_warning) {
                let fix = "name a directory on a disk of this host or a volume, or know what you lose";
                loaded.warnings.warning(Place::file(&source.name()), warning, fix);
            }
            loaded.warnings.sort();
            (loaded.warnings, Some(summary(&loaded.settings, now)))
        }
        Err(problems) => (problems, None),
    };
    let (errors, warnings) = counted(&problems);
    let valid = errors == 0 && !(arguments.strict && warnings > 0);
    if arguments.output.is_json() {
        let list: Vec<_> = problems.iter().map(as_json).collect();
        line(json!({ "file": source.name(), "ok": valid, "errors": errors, "warnings": warnings, "problems": list, "summary": text }).to_string());
    } else {
        print_problems(&problems);
        text.iter().for_each(line);
        tell_count(&problems, arguments.strict);
    }
    if valid { ExitCode::SUCCESS } else { ExitCode::from(FOUND_WRONG) }
}

/// How much there was, where there was anything.
fn tell_count(problems: &Problems, strict: bool) {
    let number = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (errors, warnings) = counted(problems);
    let strict = if strict && warnings > 0 { " (--strict: warnings count as errors)" } else { "" };
    if errors + warnings > 0 {
        complain(format!("{}, {}{strict}", number(errors, "error"), number(warnings, "warning")));
    }
}
