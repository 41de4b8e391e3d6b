//! `countersign drain`: ends a running process as SIGTERM does, over its admin port. For `preStop` hooks of containers
//! without a shell.

use std::process::ExitCode;
use std::time::Duration;

use crate::config::section::admin::AdminEndpoint;
use crate::edge::clock::Clock;

use super::asking::{address, ask, change};
use super::configured::ConfigArguments;
use super::output::{complain, line};
use super::{CANNOT, FOUND_WRONG};

#[derive(Debug, clap::Args)]
pub(super) struct DrainArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The admin port itself: 127.0.0.1:9090, or unix:/path
    #[arg(long, env = "COUNTERSIGN_ADMIN")]
    address: Option<String>,
    /// Wait until the process has ended. Not in a container of the process itself, which ends with it
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=3600))]
    timeout: u16,
}

/// An answer is a sentence.
const ANSWER: u64 = 8 << 10;

/// Between two questions whether it has ended.
const PACE: Duration = Duration::from_millis(100);

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// 0 when the process drains (with `--wait`: has ended), 1 when it does not, 2 when it cannot be asked.
pub(super) fn run(arguments: &DrainArguments) -> ExitCode {
    let asked = address(arguments.address.as_deref(), &arguments.config.path()).and_then(|address| {
        let answer = change(&address, "/-/drain", (PATIENCE, ANSWER));
        answer
            .map(|answer| (address.clone(), answer))
            .map_err(|error| format!("the admin port at {address} does not answer: {error}"))
    });
    let (address, (status, words)) = match asked {
        Ok(asked) => asked,
        Err(why) => {
            complain(why);
            return ExitCode::from(CANNOT);
        }
    };
    let words = String::from_utf8_lossy(&words);
    if status != 200 {
        complain(format!("the process does not drain ({status}): {}", words.trim()));
        return ExitCode::from(FOUND_WRONG);
    }
    line(words.trim());
    if arguments.wait && !ends(&address, Duration::from_secs(u64::from(arguments.timeout))) {
        complain(format!("the process has not ended after {} s", arguments.timeout));
        return ExitCode::from(FOUND_WRONG);
    }
    ExitCode::SUCCESS
}

/// Whether the admin port stops answering within this time. It answers until the process ends.
fn ends(address: &AdminEndpoint, within: Duration) -> bool {
    let clock = Clock::start();
    while clock.monotonic() < within {
        if ask(address, "/live", (PATIENCE, ANSWER)).is_err() {
            return true;
        }
        std::thread::park_timeout(PACE);
    }
    false
}
