//! What `loadtest/dos` and `loadtest/compare` send, and the application that counts what arrives. Every command ends by itself, prints one
//! line of JSON, and goes to loopback unless the owner of a deployment says otherwise.
#![expect(clippy::disallowed_methods, reason = "a load generator reads the clock itself")]

mod answers;
mod attack;
mod delivery;
mod digest;
mod options;
mod poll;
mod probe;
mod script;
mod tls;
mod upstream;

use options::Options;

const USAGE: &str = "usage: traffic probe|attack|upstream|digest --option value …";

/// The secret that deliveries are signed with: the file without one trailing line end.
///
/// # Errors
/// No such file.
fn read_secret(options: &mut Options) -> Result<Vec<u8>, String> {
    let path: String = options.must("secret-file")?;
    let mut secret = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    Ok(secret)
}

fn run() -> Result<(), String> {
    let mut words = std::env::args().skip(1);
    let command = words.next().ok_or(USAGE)?;
    let options = Options::read(words)?;
    match command.as_str() {
        "probe" => probe::run(options),
        "attack" => attack::run(options),
        "upstream" => upstream::run(options),
        "digest" => digest::run(options),
        _ => Err(USAGE.to_owned()),
    }
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("traffic: {problem}");
            std::process::ExitCode::FAILURE
        }
    }
}
