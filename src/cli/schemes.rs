//! `countersign schemes`: the built-in schemes.

use std::process::ExitCode;

use serde_json::json;

use crate::config::handshake::{handshake_of, handshake_text};
use crate::config::presets;
use crate::config::scheme;
use crate::gate::verify::{EqualBytes, Scheme, ToldApart};

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
    let Some(name) = &arguments.name else {
        if arguments.output.is_json() {
            print_json(presets::preset_names());
        } else {
            list();
        }
        return ExitCode::SUCCESS;
    };
    let meant = presets::without_alias(name);
    let Some(text) = presets::preset_text(meant) else {
        complain(format!("there is no scheme \"{name}\": {}`countersign schemes` lists them", hint(name)));
        return ExitCode::from(CANNOT);
    };
    if arguments.output.is_json() {
        print_json(presets::preset_names().filter(|known| *known == meant));
        return ExitCode::SUCCESS;
    }
    if meant != name {
        line(format!("# {name} is another name of {meant}."));
    }
    line(text.trim_end());
    if let Some(text) = handshake_of(meant).and_then(|handshake| handshake_text(&handshake.name)) {
        line(format!(
            "\n# Answered here unless the route says challenge = false, where `countersign check` says so.\n{text}"
        ));
    }
    ExitCode::SUCCESS
}

/// A row for each preset, and below it what its sender asks a new endpoint and sends again, and its other names.
fn list() {
    line(row("scheme", "kind", "confirmed", "told apart by", "sender"));
    for name in presets::preset_names() {
        let Some(scheme) = presets::preset(name) else { continue };
        let algorithm = scheme::algorithm_name(scheme.kind);
        line(row(name, algorithm, &scheme.status, told_apart(&scheme), &scheme.description));
        let aliases: Vec<&str> =
            presets::aliases().filter(|(_, preset)| *preset == name).map(|(alias, _)| alias).collect();
        for (label, text) in
            [("also called", &aliases.join(", ")), ("handshake", &scheme.handshake), ("retries", &scheme.retries)]
        {
            if !text.is_empty() {
                line(format!("    {label}: {text}"));
            }
        }
    }
    let (presets, aliases) = (presets::preset_names().count(), presets::aliases().count());
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

/// Schemes as a JSON list.
fn print_json(names: impl Iterator<Item = &'static str>) {
    let list: Vec<_> = names
        .filter_map(presets::preset)
        .map(|scheme| {
            json!({
                "name": scheme.name, "description": scheme.description, "status": scheme.status,
                "algorithm": scheme::algorithm_name(scheme.kind), "told_apart_by": told_apart(&scheme),
                "handshake": scheme.handshake, "handshake_answered": handshake_of(&scheme.name).map(|it| it.name.clone()),
                "retries": scheme.retries,
                "aliases": presets::aliases().filter(|(_, it)| *it == scheme.name).map(|(it, _)| it).collect::<Vec<_>>(),
                "signs_body": scheme.covers_body(), "signs_time": scheme.signs_timestamp(), "signs_id": scheme.signs_id(),
                "signs_url": scheme.signs_url(), "public_key": scheme.wants_public_key(),
            })
        })
        .collect();
    line(serde_json::Value::from(list).to_string());
}
