//! `countersign sign`: what a provider would send.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use zeroize::Zeroizing;

use crate::config::shown::is_unseen;
use crate::gate::verify::{SignError, SignInput, SignatureSource, sign};

use super::CANNOT;
use super::configured::ConfigFlag;
use super::offline::{find_scheme, read_body, read_secret, time};
use super::output::{complain, line};
use super::signed_route::{self, SignedRoute};

#[derive(Debug, clap::Args)]
pub(super) struct SignArguments {
    /// The scheme (`countersign schemes` lists them)
    #[arg(long, value_name = "NAME", required_unless_present = "route")]
    scheme: Option<String>,
    /// A route of the configuration: its scheme, its first key that counts, its URL and its method
    #[arg(long, value_name = "NAME", conflicts_with = "scheme")]
    route: Option<String>,
    #[command(flatten)]
    config: ConfigFlag,
    /// The secret, as the provider shows it; for schemes with public keys a private key: PKCS#8, or whsk_…
    #[arg(long, value_name = "FILE", required_unless_present = "route")]
    secret_file: Option<PathBuf>,
    /// The method [default: POST, or the first one of the route]
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// The URL, as it is configured at the provider [default: http://127.0.0.1:8080/, or that of the route]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
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
    /// The body itself
    #[arg(long, value_name = "TEXT", conflicts_with = "body_file")]
    body: Option<String>,
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

/// Who signs, and what for.
fn signer(arguments: &SignArguments) -> Result<SignedRoute, String> {
    let secret = arguments.secret_file.as_deref().map(read_secret).transpose()?.map(Zeroizing::new);
    let mut signer = match &arguments.route {
        Some(route) => signed_route::find(&arguments.config.path(), route)?,
        None => SignedRoute {
            scheme: find_scheme(arguments.scheme.as_deref().unwrap_or_default(), &arguments.config)?,
            secret: Zeroizing::default(),
            url: "http://127.0.0.1:8080/".to_owned(),
            method: "POST".to_owned(),
        },
    };
    if let Some(secret) = secret {
        signer.secret = secret;
    } else if signer.scheme.wants_public_key() {
        return Err(format!(
            "the route has only a public key: give the private key of \"{}\" with --secret-file",
            signer.scheme.name
        ));
    }
    signer.url = arguments.url.clone().unwrap_or(signer.url);
    signer.method = arguments.method.clone().unwrap_or(signer.method);
    Ok(signer)
}

fn text(arguments: &SignArguments) -> Result<String, String> {
    let signer = signer(arguments)?;
    let body = match &arguments.body {
        Some(text) => text.clone().into_bytes(),
        None => read_body(arguments.body_file.as_deref())?,
    };
    let given: Result<Vec<_>, _> =
        arguments.headers.iter().map(|header| super::offline::split_header(header)).collect();
    let given = given?;
    let input = SignInput {
        method: &signer.method,
        url: &signer.url,
        headers: &given,
        body: &body,
        now: time(arguments.now),
        id: arguments.id.as_deref(),
    };
    let added = match sign(&signer.scheme, &signer.secret, &input) {
        Ok(added) => added,
        Err(SignError::Elsewhere { place, value }) => return Ok(elsewhere(arguments, signer, &place, &value)),
        Err(error @ SignError::IdWanted) => return Err(format!("{}: {error}: --id msg_1", signer.scheme.name)),
        Err(other) => return Err(other.to_string()),
    };
    let all = given.iter().map(|(name, value)| format!("{name}: {value}"));
    let all: Vec<String> = all.chain(added.iter().map(|(name, value)| format!("{name}: {value}"))).collect();
    Ok(match arguments.format {
        OutputFormat::Headers => all.join("\n"),
        OutputFormat::Curl => curl(arguments, &signer, &all),
    })
}

/// A signature that belongs into no header: into the URL of the command, or said with its place.
fn elsewhere(arguments: &SignArguments, mut signer: SignedRoute, place: &str, value: &str) -> String {
    match (&signer.scheme.signature, arguments.format) {
        (SignatureSource::Query(name), OutputFormat::Curl) => {
            signer.url = with_parameter(&signer.url, name, value);
            let headers: Vec<String> = arguments.headers.clone();
            curl(arguments, &signer, &headers)
        }
        _ => format!("{place}: {value}"),
    }
}

/// The URL with one more parameter (RFC 3986, section 2.1).
fn with_parameter(url: &str, name: &str, value: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{name}={}", value.bytes().map(escaped).collect::<String>())
}

/// A command for a shell. A body from a file is read from the same file, byte for byte.
fn curl(arguments: &SignArguments, signer: &SignedRoute, headers: &[String]) -> String {
    let mut words = vec!["curl".to_owned(), "-i".to_owned(), "-X".to_owned(), quote(&signer.method)];
    for header in headers {
        words.extend(["-H".to_owned(), quote(header)]);
    }
    let body = match (&arguments.body_file, &arguments.body) {
        (Some(path), _) => Some(["--data-binary".to_owned(), quote(&format!("@{}", path.display()))]),
        (None, Some(text)) => Some(["--data-raw".to_owned(), quote(text)]),
        (None, None) => None,
    };
    if let Some(body) = body {
        if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("content-type:")) {
            words.extend(["-H".to_owned(), quote("Content-Type: application/json")]);
        }
        words.extend(body);
    }
    words.push(quote(&signer.url));
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
    fn a_parameter_is_added_to_a_url() {
        assert_eq!(with_parameter("http://a/b", "token", "a+b/~"), "http://a/b?token=a%2Bb%2F~");
        assert_eq!(with_parameter("http://a/b?c=d", "token", "1"), "http://a/b?c=d&token=1");
    }

    #[test]
    fn quoting_survives_quotes() {
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quote("it's \u{1b}[2J\\\u{202e}"), r"$'it\'s \x1b[2J\\\xe2\x80\xae'");
    }
}
