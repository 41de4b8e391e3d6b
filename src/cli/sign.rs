//! `countersign sign`: what a provider would send.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::config::shown::is_unseen;
use crate::gate::verify::{SignInput, sign};

use super::CANNOT;
use super::offline::{find_scheme, read_body, read_secret, time};
use super::output::{complain, line};

#[derive(Debug, clap::Args)]
pub(super) struct SignArguments {
    /// The scheme (`countersign schemes` lists them)
    #[arg(long, value_name = "NAME")]
    scheme: String,
    /// A configuration with a route that uses the scheme, for schemes of your own
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The secret, as the provider shows it; for schemes with public keys a private key: PKCS#8, or whsk_…
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// The method
    #[arg(long, value_name = "METHOD", default_value = "POST")]
    method: String,
    /// The URL, as it is configured at the provider
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080/")]
    url: String,
    /// The time to sign, in seconds since 1970; the present if not given
    #[arg(long, value_name = "UNIX")]
    now: Option<u64>,
    /// The delivery id, for schemes that sign one
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// A header that the request has anyway, for schemes that sign some
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The body; `-` for standard input, nothing for an empty one
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    /// How to print the headers
    #[arg(long, value_enum, default_value_t = OutputFormat::Headers)]
    format: OutputFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutputFormat {
    /// One header a line
    Headers,
    /// A curl command
    Curl,
}

/// Prints the headers, or a command that sends the delivery.
pub(super) fn run(arguments: &SignArguments) -> ExitCode {
    match text(arguments) {
        Ok(text) => {
            line(text);
            ExitCode::SUCCESS
        }
        Err(why) => {
            complain(why);
            ExitCode::from(CANNOT)
        }
    }
}

fn text(arguments: &SignArguments) -> Result<String, String> {
    let scheme = find_scheme(&arguments.scheme, arguments.config.as_deref())?;
    let secret = read_secret(&arguments.secret_file)?;
    let body = read_body(arguments.body_file.as_deref())?;
    let given: Result<Vec<_>, _> =
        arguments.headers.iter().map(|header| super::offline::split_header(header)).collect();
    let given = given?;
    let input = SignInput {
        method: &arguments.method,
        url: &arguments.url,
        headers: &given,
        body: &body,
        now: time(arguments.now),
        id: arguments.id.as_deref(),
    };
    let added = sign(&scheme, &secret, &input).map_err(|error| error.to_string())?;
    let all = given.iter().map(|(name, value)| format!("{name}: {value}"));
    let all: Vec<String> = all.chain(added.iter().map(|(name, value)| format!("{name}: {value}"))).collect();
    Ok(match arguments.format {
        OutputFormat::Headers => all.join("\n"),
        OutputFormat::Curl => curl(arguments, &all),
    })
}

/// A command for a shell. The body is read from the same file, byte for byte.
fn curl(arguments: &SignArguments, headers: &[String]) -> String {
    let mut words = vec!["curl".to_owned(), "-i".to_owned(), "-X".to_owned(), quote(&arguments.method)];
    for header in headers {
        words.extend(["-H".to_owned(), quote(header)]);
    }
    if let Some(path) = &arguments.body_file {
        if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("content-type:")) {
            words.extend(["-H".to_owned(), quote("Content-Type: application/json")]);
        }
        words.extend(["--data-binary".to_owned(), quote(&format!("@{}", path.display()))]);
    }
    words.push(quote(&arguments.url));
    words.join(" ")
}

/// A word that no shell takes apart. One with characters that are not shown has their bytes as escapes, which most shells
/// undo.
fn quote(word: &str) -> String {
    if !word.contains(is_unseen) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut quoted = String::from("$'");
    for character in word.chars() {
        match character {
            '\'' | '\\' => quoted.extend(['\\', character]),
            unseen if is_unseen(unseen) => {
                let bytes = unseen.encode_utf8(&mut [0; 4]).as_bytes().to_vec();
                bytes.iter().for_each(|byte| quoted.push_str(&format!("\\x{byte:02x}")));
            }
            other => quoted.push(other),
        }
    }
    quoted + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_survives_quotes() {
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quote("it's \u{1b}[2J\\\u{202e}"), r"$'it\'s \x1b[2J\\\xe2\x80\xae'");
    }
}
