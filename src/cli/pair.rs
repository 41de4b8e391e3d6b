//! `countersign pair`: opens a window in which a running process takes the secret that a sender brings in its first call.

use std::process::ExitCode;
use std::time::Duration;

use crate::admin::pairing::{PairingWish, WINDOW_SECONDS};
use crate::config::units::parse_duration;

use super::asking::{address, change};
use super::configured::ConfigFlag;
use super::output::{complain, line};
use super::{CANNOT, FOUND_WRONG};

#[derive(Debug, clap::Args)]
pub(super) struct PairArguments {
    /// The route whose sender brings the secret
    route: String,
    /// How long the window is open, 1s to 1h. It closes when a secret has been stored
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = window)]
    lasts: Duration,
    /// The key whose file takes the secret, where the route has several
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Replace the secret that the file has
    #[arg(long)]
    replace: bool,
    /// Close the window
    #[arg(long, conflicts_with_all = ["lasts", "key", "replace"])]
    close: bool,
    #[command(flatten)]
    config: ConfigFlag,
    /// The admin port itself: 127.0.0.1:9090, or unix:/path
    #[arg(long, alias = "admin", env = "COUNTERSIGN_ADMIN")]
    address: Option<String>,
}

/// An answer is a sentence.
const ANSWER: u64 = 8 << 10;

/// For the answer: the configuration is read meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

fn window(text: &str) -> Result<Duration, String> {
    let lasts = parse_duration(text).map_err(|wrong| format!("{}: {}", wrong.message, wrong.fix))?;
    let fits = WINDOW_SECONDS.contains(&lasts.as_secs());
    fits.then_some(lasts).ok_or_else(|| "a window is open for 1s to 1h".to_owned())
}

/// 0 when the window is open (`--close`: closed), 1 when it is not, 2 when the process cannot be asked.
pub(super) fn run(arguments: &PairArguments) -> ExitCode {
    let wish = PairingWish {
        route: arguments.route.clone(),
        key: arguments.key.clone(),
        lasts: Some(arguments.lasts).filter(|_| !arguments.close),
        replaces: arguments.replace,
    };
    let asked = address(arguments.address.as_deref(), &arguments.config.path()).and_then(|address| {
        let answer = change(&address, &wish.target(), (PATIENCE, ANSWER));
        answer.map_err(|error| format!("the admin port at {address} does not answer: {error}"))
    });
    match asked {
        Err(why) => {
            complain(why);
            ExitCode::from(CANNOT)
        }
        Ok((200, words)) => {
            line(String::from_utf8_lossy(&words).trim());
            if !arguments.close {
                line("Now register the webhook at the sender; the log of the process says when it is paired.");
            }
            ExitCode::SUCCESS
        }
        Ok((_, words)) => {
            complain(String::from_utf8_lossy(&words).trim());
            ExitCode::from(FOUND_WRONG)
        }
    }
}
