//! `countersign schemes`: the built-in schemes.

use std::process::ExitCode;

use serde_json::json;

use crate::config::scheme;
use crate::gate::verify::{EqualBytes, ToldApart};

use super::CANNOT;
use super::guard_plan::hint;
use super::output::{OutputFlag, complain, line};

#[derive(Debug, clap::Args)]
pub(super) struct SchemesArguments {
    /// A scheme to print as configuration, ready to be copied and changed
    name: Option<String>,
    #[command(flatten)]
    output: OutputFlag,
}

/// Lists the presets, or prints one.
pub(super) fn run(arguments: &SchemesArguments) -> ExitCode {
    match &arguments.name {
        name if arguments.output.is_json() => as_json(name.as_deref()),
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

/// The schemes, or the one that is named, as a JSON list.
fn as_json(name: Option<&str>) -> ExitCode {
    let wanted = |known: &&str| name.is_none_or(|name| name == *known);
    let list: Vec<_> = scheme::preset_names()
        .filter(wanted)
        .filter_map(scheme::preset)
        .map(|scheme| {
            json!({
                "name": scheme.name, "description": scheme.description, "status": scheme.status,
                "signs_body": scheme.covers_body(), "signs_time": scheme.signs_timestamp(), "signs_id": scheme.signs_id(),
                "signs_url": scheme.signs_url(), "public_key": scheme.wants_public_key(),
            })
        })
        .collect();
    line(serde_json::Value::from(list).to_string());
    ExitCode::SUCCESS
}
