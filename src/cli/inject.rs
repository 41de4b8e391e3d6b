//! `countersign inject`: the sidecar in the manifests of an application.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use similar::DiffTag;
use similar::algorithms::{Capture, Replace, myers};
use similar::udiff::UnifiedHunkHeader;

use crate::inject::sidecar::SidecarOptions;
use crate::inject::{Injected, InjectionOptions, inject, remove};

use super::CANNOT;
use super::offline::read_body;
use super::output::{complain, exactly};

#[derive(Debug, clap::Args)]
pub(super) struct InjectArguments {
    /// The manifests: YAML or JSON, `-` for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Print what would change, as a diff
    #[arg(long)]
    dry_run: bool,
    /// Take the sidecar out again
    #[arg(long)]
    remove: bool,
    /// The image of the sidecar, with its tag or digest
    #[arg(long, default_value = concat!("countersign:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// The ConfigMap with countersign.toml
    #[arg(long, value_name = "NAME", default_value = "countersign")]
    config_map: String,
    /// The Secret whose keys become files in /etc/countersign/secrets
    #[arg(long, value_name = "NAME", default_value = "countersign-secrets")]
    secret: String,
    /// The port of the listener in the configuration
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    listen: u16,
    /// The port of `[admin]` in the configuration
    #[arg(long, value_name = "PORT", default_value_t = 9090)]
    admin: u16,
    /// The port of the application, where its containers have several or none
    #[arg(long)]
    port: Option<u16>,
    /// The workload, where there are several
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// A seccomp profile on the nodes, below the kubelet's folder: profiles/countersign.json
    #[arg(long, value_name = "PATH")]
    seccomp: Option<String>,
    /// An ordinary container, for clusters before 1.29
    #[arg(long)]
    plain: bool,
}

/// 0 when it is done, 2 when it cannot be.
pub(super) fn run(arguments: &InjectArguments) -> ExitCode {
    match changed(arguments) {
        Ok((before, Injected { text, notes })) => {
            notes.iter().for_each(|note| complain(format!("note: {note}")));
            if arguments.dry_run {
                exactly(&diff(&before, &text));
            } else {
                exactly(&text);
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            complain(why);
            ExitCode::from(CANNOT)
        }
    }
}

/// The text before and after.
fn changed(arguments: &InjectArguments) -> Result<(String, Injected), String> {
    let bytes = read_body(Some(&arguments.file))?;
    let before = String::from_utf8(bytes).map_err(|_| format!("{}: it is not UTF-8", shown(&arguments.file)))?;
    let done = if arguments.remove {
        remove(&before).map(|text| Injected { text, notes: Vec::new() })
    } else {
        inject(&before, &options(arguments))
    };
    let after = done.map_err(|error| format!("{}: {error}", shown(&arguments.file)))?;
    Ok((before, after))
}

fn options(arguments: &InjectArguments) -> InjectionOptions {
    InjectionOptions {
        sidecar: SidecarOptions {
            image: arguments.image.clone(),
            config_map: arguments.config_map.clone(),
            secret: arguments.secret.clone(),
            listen: arguments.listen,
            admin: arguments.admin,
            seccomp: arguments.seccomp.clone(),
            plain: arguments.plain,
        },
        port: arguments.port,
        workload: arguments.workload.clone(),
    }
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

/// How many lines are shown around what changes.
const CONTEXT: usize = 3;

/// A unified diff by lines; nothing where nothing differs. One algorithm over one type: the library's own way from text to a
/// unified diff has five for each of seven, 0.6 MB of code.
fn diff(before: &str, after: &str) -> String {
    let lines = |text| str::split_inclusive(text, '\n').collect::<Vec<_>>();
    let (old, new) = (lines(before), lines(after));
    let mut captured = Replace::new(Capture::new());
    let Ok(()) = myers::diff(&mut captured, &old, 0..old.len(), &new, 0..new.len());
    let mut text = String::new();
    for hunk in captured.into_inner().into_grouped_ops(CONTEXT) {
        if text.is_empty() {
            text.push_str("--- before\n+++ after\n");
        }
        text.push_str(&format!("{}\n", UnifiedHunkHeader::new(&hunk)));
        for change in hunk {
            if change.tag() == DiffTag::Equal {
                push_lines(&mut text, ' ', old.get(change.old_range()));
            } else {
                push_lines(&mut text, '-', old.get(change.old_range()));
                push_lines(&mut text, '+', new.get(change.new_range()));
            }
        }
    }
    text
}

fn push_lines(text: &mut String, sign: char, lines: Option<&[&str]>) {
    for line in lines.unwrap_or_default() {
        text.push(sign);
        text.push_str(line);
        if !line.ends_with('\n') {
            text.push_str("\n\\ No newline at end of file\n");
        }
    }
}
