//! The commands. Each is a file with one `run` that gives the exit code; what they print is for people.

mod asking;
mod audit;
mod capture_curl;
mod capture_described;
mod capture_forms;
mod capture_json;
mod captured;
mod check;
mod configured;
mod demo;
mod demo_application;
mod demo_live;
mod demo_secrets;
mod demo_table;
mod doctor;
mod drain;
mod example;
mod explain;
mod guard_plan;
mod healthcheck;
mod inbox;
mod inbox_access;
mod inbox_files;
mod init;
mod inject;
mod judgement;
mod manual;
mod nearest;
mod offline;
mod output;
mod pair;
mod private_files;
mod quick;
mod run;
mod schemes;
mod sign;
mod signed_route;
mod strict;
mod unchunk;
mod verify;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code of a command that did its work and found something wrong: an invalid configuration, a forged delivery.
const FOUND_WRONG: u8 = 1;

/// Exit code of a command that could not do its work: unreadable files, wrong arguments.
const CANNOT: u8 = 2;

/// Lets through only the webhooks it can prove are genuine.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  countersign demo                                   see it work, with nothing to set up
  countersign schemes stripe                         how a provider signs, as configuration
  countersign init github                            write a configuration and a secret
  countersign check                                  every problem of countersign.toml at once
  countersign run                                    guard the application
  countersign run --scheme github --secret-file secret --to 127.0.0.1:9000
                                                     the same without a configuration
  countersign verify --scheme github --secret-file secret \
      --header 'X-Hub-Signature-256: sha256=…' --body-file delivery.json
                                                     why is this delivery refused?";

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a configuration and a secret for one sender
    Init(init::InitArguments),
    /// Guard an application: accept, verify, forward
    Run(quick::RunArguments),
    /// Validate a configuration as `run` does, and print what it means
    Check(check::CheckArguments),
    /// Print what a provider would send for a body
    Sign(sign::SignArguments),
    /// Verify a captured delivery offline, and say why it is refused
    Verify(verify::VerifyArguments),
    /// Say why a request was refused: from a capture of it, or from the access log
    Explain(explain::ExplainArguments),
    /// Prove an audit trail, or search it
    Audit(audit::AuditArguments),
    /// The stored deliveries: list, show, redrive, purge, hold; verify and salvage their files
    Inbox(inbox::InboxArguments),
    /// List the built-in schemes, or print one as configuration
    Schemes(schemes::SchemesArguments),
    /// Ask the admin port of a running process: 0 for yes, 1 for no
    Healthcheck(healthcheck::HealthcheckArguments),
    /// Version, commit, target, driver and cryptography of this binary
    Version(version::VersionArguments),
    /// Print the completions of a shell
    Completions(manual::CompletionsArguments),
    /// Print the manual page, or write one for each command
    Man(manual::ManArguments),
    /// Examine kernel, cgroup, clock, files and network for what keeps deliveries from arriving
    Doctor(doctor::DoctorArguments),
    /// Add the sidecar to a Deployment: YAML or JSON in, the same out
    Inject(inject::InjectArguments),
    /// End a running process in the order that load balancers need; for preStop hooks
    Drain(drain::DrainArguments),
    /// Take the secret that a sender brings in its first call, within a window of some minutes
    Pair(pair::PairArguments),
    /// Genuine and forged deliveries of five providers through a real proxy on loopback
    Demo(demo::DemoArguments),
}

/// Runs the command that the process was called with.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return tell(&error),
    };
    match arguments.command {
        Command::Init(arguments) => init::run(&arguments),
        Command::Run(arguments) => run::run(arguments.source()),
        Command::Check(arguments) => check::run(&arguments),
        Command::Sign(arguments) => sign::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Inbox(arguments) => inbox::run(&arguments),
        Command::Schemes(arguments) => schemes::run(&arguments),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments),
        Command::Version(arguments) => version::run(&arguments),
        Command::Completions(arguments) => manual::completions::<Arguments>(&arguments),
        Command::Man(arguments) => manual::man::<Arguments>(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Inject(arguments) => inject::run(&arguments),
        Command::Drain(arguments) => drain::run(&arguments),
        Command::Pair(arguments) => pair::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    }
}

/// What is wrong with the arguments, or the help that was asked for. Both may quote arguments, or the environment.
fn tell(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if error.use_stderr() {
        output::complain(text.trim_end());
    } else {
        output::line(text.trim_end());
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(CANNOT))
}
