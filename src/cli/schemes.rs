//! `countersign schemes`: the built-in schemes.

use std::process::ExitCode;

use crate::config::scheme;

use super::CANNOT;

#[derive(Debug, clap::Args)]
pub(super) struct SchemesArguments {
    /// A scheme to print as configuration, ready to be copied and changed
    name: Option<String>,
}

/// Lists the presets, or prints one.
pub(super) fn run(arguments: &SchemesArguments) -> ExitCode {
    match &arguments.name {
        None => {
            for name in scheme::preset_names() {
                let description = scheme::preset(name).map(|scheme| scheme.description.clone()).unwrap_or_default();
                println!("{name:<28} {description}");
            }
            ExitCode::SUCCESS
        }
        Some(name) => match scheme::preset_text(name) {
            Some(text) => {
                println!("{}", text.trim_end());
                ExitCode::SUCCESS
            }
            None => {
                eprintln!("there is no scheme \"{name}\"; `countersign schemes` lists them");
                ExitCode::from(CANNOT)
            }
        },
    }
}
