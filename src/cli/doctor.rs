//! `countersign doctor`: what in the surroundings keeps deliveries from arriving, each with its fix.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::config::load::load_noting;
use crate::control::doctor::finding::{Finding, Grade};
use crate::control::doctor::{Patient, examine};

use super::asking::{address, ask};
use super::configured::ConfigArguments;
use super::output::{OutputFlag, complain, line};
use super::{CANNOT, FOUND_WRONG};

#[derive(Debug, clap::Args)]
pub(super) struct DoctorArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The admin port of a running process, instead of the one in the configuration: 127.0.0.1:9090, or unix:/path
    #[arg(long, env = "COUNTERSIGN_ADMIN", hide_env_values = true)]
    admin: Option<String>,
    /// The same as --output json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    output: OutputFlag,
    /// Exit with 1 for warnings, too
    #[arg(long)]
    strict: bool,
}

/// The page of metrics has a few hundred KiB where there are many routes.
const PAGE: u64 = 16 << 20;

/// For the answer of a running process.
const PATIENCE: Duration = Duration::from_secs(2);

/// 0 when nothing is wrong, 1 for a fault (with `--strict`: or a warning), 2 when there is no configuration to read.
pub(super) fn run(arguments: &DoctorArguments) -> ExitCode {
    let path = arguments.config.path();
    if let Err(error) = path.metadata() {
        complain(format!("{}: {error}", path.display()));
        return ExitCode::from(CANNOT);
    }
    let (loaded, sources) = load_noting(&path);
    let loaded = loaded.map_err(|problems| problems.len());
    let findings = examine(Patient { loaded, sources, metrics: metrics(arguments) });
    if arguments.json || arguments.output.is_json() {
        line(to_json(&findings));
    } else {
        findings.iter().for_each(print);
        line(conclusion(&findings));
    }
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Grade::Good);
    let bearable = if arguments.strict { Grade::Note } else { Grade::Warning };
    if worst > bearable { ExitCode::from(FOUND_WRONG) } else { ExitCode::SUCCESS }
}

/// The metrics of a running process; nothing where none answers.
fn metrics(arguments: &DoctorArguments) -> Option<String> {
    let address = address(arguments.admin.as_deref(), &arguments.config.path()).ok()?;
    let (status, page) = ask(&address, "/metrics", (PATIENCE, PAGE)).ok()?;
    (status == 200).then(|| String::from_utf8_lossy(&page).into_owned())
}

fn print(finding: &Finding) {
    line(format!("{:<8} {:<13} {}", finding.verdict.name(), finding.examined, finding.says));
    if let Some(fix) = &finding.fix {
        line(format!("{:<8} {:<13} fix: {fix}", "", ""));
    }
}

fn count(findings: &[Finding], verdict: Grade) -> usize {
    findings.iter().filter(|finding| finding.verdict == verdict).count()
}

fn conclusion(findings: &[Finding]) -> String {
    let named = |verdict: Grade| {
        let count = count(findings, verdict);
        format!("{count} {}{}", verdict.name(), if count == 1 { "" } else { "s" })
    };
    format!("{}, {}, {}", named(Grade::Fault), named(Grade::Warning), named(Grade::Note))
}

fn to_json(findings: &[Finding]) -> String {
    let of = |finding: &Finding| {
        json!({
            "examined": finding.examined,
            "verdict": finding.verdict.name(),
            "says": finding.says,
            "fix": finding.fix,
        })
    };
    json!({
        "faults": count(findings, Grade::Fault),
        "warnings": count(findings, Grade::Warning),
        "notes": count(findings, Grade::Note),
        "findings": findings.iter().map(of).collect::<Vec<_>>(),
    })
    .to_string()
}
