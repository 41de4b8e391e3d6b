//! The commands. Each is a file with one `run` that gives the exit code; what they print is for people.

mod advice;
mod asking;
mod audit;
mod captured;
mod check;
mod demo;
mod doctor;
mod drain;
mod explain;
mod healthcheck;
mod inject;
mod offline;
mod output;
mod run;
mod schemes;
mod sign;
mod verify;

use std::path::PathBuf;
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
  countersign check --config countersign.toml        every problem of a configuration at once
  countersign run --config countersign.toml          guard the application
  countersign verify --scheme github --secret-file secret \
      --header 'X-Hub-Signature-256: sha256=…' --body-file delivery.json
                                                     why is this delivery refused?";

#[derive(Debug, Subcommand)]
enum Command {
    /// Guard an application: accept, verify, forward
    Run(ConfigArguments),
    /// Validate a configuration as `run` does, and print what it means
    Check(ConfigArguments),
    /// Print what a provider would send for a body
    Sign(sign::SignArguments),
    /// Verify a captured delivery offline, and say why it is refused
    Verify(verify::VerifyArguments),
    /// Say why a request was refused: from a capture of it, or from the access log
    Explain(explain::ExplainArguments),
    /// Prove an audit trail, or search it
    Audit(audit::AuditArguments),
    /// List the built-in schemes, or print one as configuration
    Schemes(schemes::SchemesArguments),
    /// Ask the admin port of a running process: 0 for yes, 1 for no
    Healthcheck(healthcheck::HealthcheckArguments),
    /// Examine kernel, cgroup, clock, files and network for what keeps deliveries from arriving
    Doctor(doctor::DoctorArguments),
    /// Add the sidecar to a Deployment: YAML or JSON in, the same out
    Inject(inject::InjectArguments),
    /// End a running process in the order that load balancers need; for preStop hooks
    Drain(drain::DrainArguments),
    /// Genuine and forged deliveries of five providers through a real proxy on loopback
    Demo(demo::DemoArguments),
}

#[derive(Debug, clap::Args)]
struct ConfigArguments {
    /// The configuration file
    #[arg(
        long,
        value_name = "FILE",
        env = "COUNTERSIGN_CONFIG",
        hide_env_values = true,
        default_value = "countersign.toml"
    )]
    config: PathBuf,
}

/// Runs the command that the process was called with.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return tell(&error),
    };
    match arguments.command {
        Command::Run(arguments) => run::run(&arguments.config),
        Command::Check(arguments) => check::run(&arguments.config),
        Command::Sign(arguments) => sign::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Schemes(arguments) => schemes::run(&arguments),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Inject(arguments) => inject::run(&arguments),
        Command::Drain(arguments) => drain::run(&arguments),
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
