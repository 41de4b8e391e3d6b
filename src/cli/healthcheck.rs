//! `countersign healthcheck`: asks the admin port of a running process, for container probes without curl.

use std::process::ExitCode;
use std::time::Duration;

use super::FOUND_WRONG;
use super::asking::{address, ask};
use super::configured::ConfigArguments;
use super::output::{complain, line};

#[derive(Debug, clap::Args)]
pub(super) struct HealthcheckArguments {
    /// Ask whether it lives: no worker is stuck
    #[arg(long, group = "probe")]
    live: bool,
    /// Ask whether it takes deliveries (the default)
    #[arg(long, group = "probe")]
    ready: bool,
    /// Ask whether it has started
    #[arg(long, group = "probe")]
    startup: bool,
    #[command(flatten)]
    config: ConfigArguments,
    /// The admin port itself: 127.0.0.1:9090, or unix:/path
    #[arg(long, env = "COUNTERSIGN_ADMIN")]
    address: Option<String>,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=60))]
    timeout: u16,
}

/// 0 when the answer is yes. 1 when it is no, and when there is none: container runtimes know no other code.
pub(super) fn run(arguments: &HealthcheckArguments) -> ExitCode {
    let path = match (arguments.live, arguments.startup) {
        (true, _) => "/live",
        (_, true) => "/startup",
        _ => "/ready",
    };
    let timeout = Duration::from_secs(u64::from(arguments.timeout));
    let asked = address(arguments.address.as_deref(), &arguments.config.path()).and_then(|address| {
        ask(&address, path, (timeout, ANSWER))
            .map_err(|error| format!("the admin port at {address} does not answer: {error}"))
    });
    match asked {
        Ok((200, words)) => {
            line(plain(&words));
            ExitCode::SUCCESS
        }
        Ok((status, words)) => {
            complain(format!("{path} says {status}: {}", plain(&words)));
            ExitCode::from(FOUND_WRONG)
        }
        Err(why) => {
            complain(why);
            ExitCode::from(FOUND_WRONG)
        }
    }
}

/// An answer to a probe is a few hundred bytes.
const ANSWER: u64 = 8 << 10;

/// On one line, whatever it says.
fn plain(words: &[u8]) -> String {
    let words = String::from_utf8_lossy(words);
    words.trim().lines().map(|line| line.escape_debug().to_string()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line_of_what_can_be_printed() {
        assert_eq!(plain(b"ready\n"), "ready");
        assert_eq!(plain(b"a: \x1b[0m\nb: \xc3\xa9\n"), "a: \\u{1b}[0m; b: \u{e9}");
    }
}
