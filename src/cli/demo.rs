//! `countersign demo`: genuine and forged deliveries of five providers through a real proxy on loopback, and then whatever
//! the user sends.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::load::load;
use crate::control::plan::plan;
use crate::control::signals::Termination;
use crate::control::supervisor::{self, Running, Witnesses};
use crate::edge::clock::Clock;

use super::demo_application::DemoApplication;
use super::demo_live::{Audience, open_page};
use super::demo_secrets::{PROVIDERS, random_secret};
use super::demo_table::Table;
use super::output::{complain, line, print_problems};
use super::{CANNOT, FOUND_WRONG};

#[derive(Debug, clap::Args)]
pub(super) struct DemoArguments {
    /// Exit after the table: 0 if everything was as it should be
    #[arg(long)]
    once: bool,
}

/// The built-in configuration; secrets, address and upstream are filled in.
const CONFIGURATION: &str = include_str!("demo.toml");

/// Runs the demo.
pub(super) fn run(arguments: &DemoArguments) -> ExitCode {
    match demonstrate(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FOUND_WRONG),
        Err(why) => {
            complain(why);
            ExitCode::from(CANNOT)
        }
    }
}

fn demonstrate(arguments: &DemoArguments) -> Result<bool, String> {
    let mut termination = Termination::listen().map_err(|error| error.to_string())?;
    let folder = Folder::new().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let upstream = DemoApplication::start().map_err(|error| format!("cannot start the demo's upstream: {error}"))?;
    let secrets = write_files(&folder.0, upstream.address)?;
    let (audience, endings) = Audience::new();
    let configuration = folder.0.join("countersign.toml");
    let (running, clock) = start(&configuration, &audience)?;
    let address = *running.addresses.first().ok_or("the proxy does not listen")?;
    let driver = running.drivers.first().map_or("", |driver| driver.name());
    line(format!("proxy on {address} ({driver}), upstream on {}\n", upstream.address));
    let table = Table { address, secrets: &secrets, endings: &endings, upstream: &upstream };
    let good = table.print()?;
    line(if good { "Everything was as it should be." } else { "SOMETHING IS NOT AS IT SHOULD BE." });
    if !arguments.once {
        // `sign` and `explain` find the address in the file.
        write_private(&configuration, &configured(upstream.address, address))?;
        let page = open_page(&running, &audience, clock, configuration.display().to_string());
        let (page, _admin) = page.map_err(|error| format!("cannot open the status page: {error}"))?;
        line(format!("\nStatus page: http://{page}/"));
        print_commands(&configuration, address);
        audience.go_live();
        termination.wait();
    }
    running.halt();
    Ok(good)
}

fn start(config: &Path, audience: &Arc<Audience>) -> Result<(Running, Clock), String> {
    let loaded = load(config).map_err(|problems| {
        print_problems(&problems);
        "the demo's configuration is wrong".to_owned()
    })?;
    let (plan, _) = plan(loaded);
    let observer = Arc::<Audience>::clone(audience);
    let witnesses = Witnesses::new(observer, plan.workers);
    let clock = witnesses.clock.clone();
    let running = supervisor::start(plan, witnesses).map_err(|error| error.to_string())?;
    Ok((running, clock))
}

/// A temporary folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("countersign-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own clean-up.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes the configuration and a fresh secret for each route; the secrets, in the order of [`PROVIDERS`].
fn write_files(folder: &Path, upstream: SocketAddr) -> Result<Vec<String>, String> {
    let mut secrets = Vec::new();
    for (name, kind) in PROVIDERS {
        let secret = random_secret(kind)?;
        write_private(&folder.join(format!("{name}.secret")), &secret)?;
        secrets.push(secret);
    }
    write_private(&folder.join("countersign.toml"), &configured(upstream, SocketAddr::from(([127, 0, 0, 1], 0))))?;
    Ok(secrets)
}

fn configured(upstream: SocketAddr, listener: SocketAddr) -> String {
    let text = CONFIGURATION.replace("127.0.0.1:9000", &upstream.to_string());
    text.replace("127.0.0.1:0", &listener.to_string())
}

fn write_private(path: &Path, text: &str) -> Result<(), String> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| format!("{}: {error}", path.display()))
}

fn print_commands(configuration: &Path, address: SocketAddr) {
    let program = std::env::current_exe().map_or_else(|_| "countersign".to_owned(), |path| path.display().to_string());
    let sign = format!("{program} sign --config {}", configuration.display());
    let github = format!("{sign} --route github --body '{{\"hello\":\"world\"}}' --format curl");
    let names: Vec<&str> = PROVIDERS.iter().map(|(name, _)| *name).filter(|name| *name != "github").collect();
    line("\nTry it in another terminal; each request that arrives is a line here (Ctrl-C ends the demo).");
    line("As GitHub would send it: passes, and sent twice it is a copy.");
    line(format!("  {github} | sh"));
    line("With a byte changed after it was signed: refused.");
    line(format!("  {github} | sed s/world/w0rld/ | sh"));
    line("Without a signature, and to a path without a route: refused.");
    line(format!("  curl -i -d '{{}}' http://{address}/webhooks/github"));
    line(format!("  curl -i -d '{{}}' http://{address}/elsewhere"));
    line(format!("The other routes are {}; for the last one add --id msg_1 to `sign`.\n", names.join(", ")));
}
