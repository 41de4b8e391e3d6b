//! `countersign schemes`: the built-in schemes.

use std::process::ExitCode;

use crate::config::scheme;
use crate::gate::verify::{EqualBytes, ToldApart};

use super::CANNOT;
use super::guard_plan::hint;
use super::output::{complain, line};

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
                let Some(scheme) = scheme::preset(name) else { continue };
                let note = match scheme.told_apart() {
                    ToldApart::Bytes(EqualBytes::TwoEvents) => " (two events can have equal bytes: replay is off)",
                    ToldApart::Bytes(EqualBytes::Unknown) => " (two events may have equal bytes: replay is off)",
                    _ => "",
                };
                line(format!("{name:<28} {:<12} {}{note}", scheme.status, scheme.description));
            }
            ExitCode::SUCCESS
        }
        Some(name) => match scheme::preset_text(name) {
            Some(text) => {
                line(text.trim_end());
                ExitCode::SUCCESS
            }
            None => {
                complain(format!("there is no scheme \"{name}\": {}`countersign schemes` lists them", hint(name)));
                ExitCode::from(CANNOT)
            }
        },
    }
}
