//! `countersign schemes`: the built-in schemes.

use std::process::ExitCode;

use crate::config::scheme;
use crate::config::suggest::did_you_mean;
use crate::gate::verify::{EqualBytes, Scheme, ToldApart};

use super::CANNOT;
use super::output::{complain, line};

#[derive(Debug, clap::Args)]
pub(super) struct SchemesArguments {
    /// A scheme to print as configuration, ready to be copied and changed
    name: Option<String>,
}

/// Lists the presets, or prints one.
pub(super) fn run(arguments: &SchemesArguments) -> ExitCode {
    let Some(name) = &arguments.name else {
        list();
        return ExitCode::SUCCESS;
    };
    let meant = scheme::without_alias(name);
    let Some(text) = scheme::preset_text(meant) else {
        let names: Vec<&str> = scheme::preset_names().chain(scheme::aliases().map(|(alias, _)| alias)).collect();
        let hint = did_you_mean(name, &names);
        complain(format!("there is no scheme \"{name}\": {hint}`countersign schemes` lists them"));
        return ExitCode::from(CANNOT);
    };
    if meant != name {
        line(format!("# {name} is another name of {meant}."));
    }
    line(text.trim_end());
    ExitCode::SUCCESS
}

/// A row for each preset, and below it what its sender asks a new endpoint and sends again, and its other names.
fn list() {
    line(row("scheme", "kind", "confirmed", "told apart by", "sender"));
    for name in scheme::preset_names() {
        let Some(scheme) = scheme::preset(name) else { continue };
        let algorithm = scheme::algorithm_name(scheme.kind);
        line(row(name, algorithm, &scheme.status, told_apart(&scheme), &scheme.description));
        let aliases: Vec<&str> =
            scheme::aliases().filter(|(_, preset)| *preset == name).map(|(alias, _)| alias).collect();
        for (label, text) in
            [("also called", &aliases.join(", ")), ("handshake", &scheme.handshake), ("retries", &scheme.retries)]
        {
            if !text.is_empty() {
                line(format!("    {label}: {text}"));
            }
        }
    }
    let (presets, aliases) = (scheme::preset_names().count(), scheme::aliases().count());
    line(format!("{presets} schemes, and {aliases} further names of them"));
}

fn row(name: &str, kind: &str, status: &str, told_apart: &str, description: &str) -> String {
    format!("{name:<28}  {kind:<17}  {status:<11}  {told_apart:<23}  {description}")
}

/// What tells two deliveries apart; where only their bytes do, whether two events can have equal ones.
fn told_apart(scheme: &Scheme) -> &'static str {
    match scheme.told_apart() {
        ToldApart::Id => "id",
        ToldApart::Time => "time",
        ToldApart::Bytes(EqualBytes::OneEvent) => "bytes",
        ToldApart::Bytes(EqualBytes::TwoEvents) => "bytes: two equal events",
        ToldApart::Bytes(EqualBytes::Unknown) => "bytes: equal unknown",
        ToldApart::Nothing => "nothing",
    }
}
