//! `countersign completions` and `countersign man`: made of the arguments themselves, so that they cannot disagree.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::CANNOT;
use super::output::{complain, line};

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArguments {
    /// Write a page for each command into this directory, instead of printing the main page
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

/// Prints the script for the shell.
pub(super) fn completions<C: CommandFactory>(arguments: &CompletionsArguments) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut C::command(), "countersign", &mut script);
    line(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}

/// Prints the page, or writes all of them.
pub(super) fn man<C: CommandFactory>(arguments: &ManArguments) -> ExitCode {
    let written = match &arguments.directory {
        Some(directory) => {
            std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(C::command(), directory))
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(C::command())
                .render(&mut page)
                .map(|()| line(String::from_utf8_lossy(&page).trim_end()))
        }
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format!("the pages cannot be written: {error}"));
            ExitCode::from(CANNOT)
        }
    }
}
