//! `countersign init`: a configuration for one sender and its secret, or the example configuration with all that it names.

use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zeroize::Zeroizing;

use crate::config::load;
use crate::gate::verify::{KeyLocator, Scheme};

use super::configured::DEFAULT;
use super::guard_plan::{GuardPlan, built_in, numbered, on_this_host};
use super::output::{complain, line, print_problems};
use super::private_files::{create, random_secret, write_configuration};
use super::{CANNOT, FOUND_WRONG, example};

#[derive(Debug, clap::Args)]
pub(super) struct InitArguments {
    /// The sender, as `countersign schemes` calls it
    #[arg(value_name = "SCHEME", conflicts_with = "example")]
    scheme: Option<String>,
    /// The file to write
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT)]
    config: PathBuf,
    /// The application: host:port, a port of this host, or unix:/path
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    to: String,
    /// Where requests arrive: host:port, or a port of this host
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: String,
    /// The path that the sender calls [default: /webhooks/SCHEME]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The URL as it is registered with the sender, for schemes that sign it
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// The admin port (probes, metrics, status page): host:port, or a port of this host
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    admin: String,
    /// A file that has the secret (or the public key) already, relative to the configuration. Without it a secret is made
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Replace a configuration that is there. Secrets are never replaced
    #[arg(long)]
    force: bool,
    /// Write the example configuration, which has every key, with all secrets and certificates that it names
    #[arg(long, conflicts_with_all = ["to", "listen", "path", "public_url", "admin", "secret_file"])]
    example: bool,
}

/// 0 when the files are written and `run` would start with them, 1 when a sender's own key is still missing or the
/// configuration does not hold, 2 when nothing can be written.
pub(super) fn run(arguments: &InitArguments) -> ExitCode {
    let done =
        if arguments.example { example::write(&arguments.config, arguments.force) } else { one_sender(arguments) };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FOUND_WRONG),
        Err(why) => {
            complain(why);
            ExitCode::from(CANNOT)
        }
    }
}

fn one_sender(arguments: &InitArguments) -> Result<bool, String> {
    let name = match &arguments.scheme {
        Some(name) => name.clone(),
        None => ask()?,
    };
    let scheme = built_in(&name)?;
    if scheme.signs_url() && arguments.public_url.is_none() {
        return Err(format!(
            "{name} signs the URL: give it as it is registered with the sender, --public-url https://hooks.example.com/webhooks/{name}"
        ));
    }
    let public = scheme.wants_public_key();
    let published = published(&scheme).filter(|_| arguments.secret_file.is_none());
    let file = arguments.secret_file.clone().unwrap_or_else(|| {
        PathBuf::from(if public { format!("secrets/{name}.pub") } else { format!("secrets/{name}") })
    });
    let path = arguments.path.clone().unwrap_or_else(|| format!("/webhooks/{name}"));
    let (listen, admin) = (on_this_host(&arguments.listen), on_this_host(&arguments.admin));
    let plan = GuardPlan {
        scheme: &name,
        path: &path,
        listen: &listen,
        upstream: on_this_host(&arguments.to),
        keys: if published.is_some() { Vec::new() } else { numbered([&file]) },
        public_url: arguments.public_url.as_deref(),
        admin: Some(&admin),
    };
    let is_new = !arguments.config.exists();
    write_configuration(&arguments.config, &plan.text(), arguments.force)?;
    line(format!("Wrote {}.", arguments.config.display()));
    if let Some(url) = published {
        line(format!("{name} publishes its keys at {url}: they are fetched, and there is no secret."));
        if scheme.named_key.as_ref().is_some_and(|locator| locator.credential) {
            line(format!(
                "It shows them to those who bring an API key: write yours to secrets/{name}-api-key, mode 0600."
            ));
        }
        next(arguments, &scheme, false);
        return Ok(true);
    }
    let at = arguments.config.parent().unwrap_or(Path::new("")).join(&file);
    if public && !at.exists() {
        line(format!(
            "{name} signs with a key of its own. Write the public key that it shows you to {}, then:",
            at.display()
        ));
        next(arguments, &scheme, false);
        return Ok(false);
    }
    let made = if at.exists() { None } else { Some(random_secret(&scheme)?) };
    if let Some(secret) = &made {
        create(&at, format!("{}\n", **secret).as_bytes()).inspect_err(|_| {
            // Without its secret it would be in the way of the next attempt.
            if is_new {
                let _ = std::fs::remove_file(&arguments.config);
            }
        })?;
    }
    tell_secret(&name, &at, made.as_ref());
    if let Err(problems) = load(&arguments.config) {
        print_problems(&problems);
        return Ok(false);
    }
    next(arguments, &scheme, !public);
    Ok(true)
}

/// Where the sender publishes its keys.
fn published(scheme: &Scheme) -> Option<String> {
    scheme.keys_url.clone().or_else(|| scheme.named_key.as_ref().map(KeyLocator::label))
}

/// The secret is shown this once, for the form of the sender.
fn tell_secret(name: &str, at: &Path, made: Option<&Zeroizing<String>>) {
    match made {
        None => line(format!("{} is there already and is used as it is.", at.display())),
        Some(secret) => {
            line(format!("Wrote {} (mode 0600): a secret of 32 random bytes, shown this once:\n", at.display()));
            line(format!("  {}\n", **secret));
            line(format!(
                "Enter it at {name} as the secret of the webhook. If {name} shows you a secret of its own instead, write \
                 that one to {}.",
                at.display()
            ));
        }
    }
}

fn next(arguments: &InitArguments, scheme: &Scheme, signs: bool) {
    let config = &arguments.config;
    let option = if config == Path::new(DEFAULT) { String::new() } else { format!(" -c {}", config.display()) };
    line("Next:");
    line(format!("  countersign run{option}"));
    if signs {
        let id = if scheme.signs_id() { " --id msg_1" } else { "" };
        line(format!(
            "  countersign sign{option} --route {}{id} --body '{{\"hello\":\"world\"}}' --format curl | sh     # in another terminal",
            scheme.name
        ));
    } else {
        line(format!("  countersign check{option}"));
    }
}

/// Asks for the one thing that cannot be known, where a person can answer.
fn ask() -> Result<String, String> {
    const WANTED: &str = "say which sender: countersign init github; `countersign schemes` lists them";
    if !io::stdin().is_terminal() {
        return Err(WANTED.to_owned());
    }
    line("Which sender? (github, stripe, …; `countersign schemes` lists them)");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|error| error.to_string())?;
    let answer = answer.trim().to_lowercase();
    if answer.is_empty() { Err(WANTED.to_owned()) } else { Ok(answer) }
}
