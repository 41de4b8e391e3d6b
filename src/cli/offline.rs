//! What `sign` and `verify` have in common: a request that is written down instead of received.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::config::suggest::closest;
use crate::config::{parse_str, presets};
use crate::edge::clock::Clock;
use crate::gate::verify::{Delivery, PublicUrl, Scheme};
use crate::now::Now;
use crate::wire::headers::{HeaderBuf, Headers};

use super::configured::ConfigFlag;
use super::guard_plan::hint;

/// A request made of command line arguments.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: HeaderBuf,
    pub(super) body: Vec<u8>,
}

impl Delivery for Written {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }

    fn headers(&self) -> Headers<'_> {
        self.headers.view()
    }

    fn body(&self) -> &[u8] {
        &self.body
    }
}

/// The preset called `name`, or the scheme of that name that a route of the configuration uses.
///
/// # Errors
/// A sentence for the user.
pub(super) fn find_scheme(name: &str, config: &ConfigFlag) -> Result<Arc<Scheme>, String> {
    let built_in = presets::preset(name);
    let Some(path) = config.if_any().filter(|_| built_in.is_none()) else {
        let unknown = || {
            let hint = hint(name);
            let where_else = "one of your own is looked for in countersign.toml, or where --config says";
            format!(
                "there is no scheme \"{name}\": {hint}`countersign schemes` lists the built-in ones, and {where_else}"
            )
        };
        return built_in.ok_or_else(unknown);
    };
    let text = Zeroizing::new(fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?);
    let (settings, _) = parse_str(&path.display().to_string(), &text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let mut used = settings.routes.iter().filter_map(|route| route.verification.as_ref());
    let found = used.find(|verification| verification.scheme.name == name);
    found.map(|verification| Arc::clone(&verification.scheme)).ok_or_else(|| {
        let own = settings.routes.iter().filter_map(|route| Some(route.verification.as_ref()?.scheme.name.as_str()));
        let own: Vec<&str> = own.collect();
        let hint = closest(name, &own).map_or_else(|| hint(name), |near| format!("did you mean \"{near}\"? "));
        format!(
            "there is no scheme \"{name}\": {hint}it is not built in (`countersign schemes` lists those), and no route of {} uses it",
            path.display()
        )
    })
}

/// Splits a URL into what `public_url` would say in a configuration and the request target.
///
/// # Errors
/// A sentence for the user.
pub(super) fn split_url(url: &str) -> Result<(PublicUrl, String), String> {
    let (without_query, _) = url.split_once('?').unwrap_or((url, ""));
    let public = PublicUrl::parse(without_query).map_err(|error| format!("--url: {error}"))?;
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let target = url.get(after_scheme..).and_then(|rest| rest.find(['/', '?']).and_then(|at| rest.get(at..)));
    let target = match target {
        Some(target) if target.starts_with('/') => target.to_owned(),
        Some(query) => format!("/{query}"),
        None => "/".to_owned(),
    };
    Ok((public, target))
}

/// Reads a file, or standard input for `-`. Nothing stands for an empty body.
///
/// # Errors
/// A sentence for the user.
pub(super) fn read_body(path: Option<&Path>) -> Result<Vec<u8>, String> {
    match path {
        None => Ok(Vec::new()),
        Some(path) if path == Path::new("-") => {
            whole(io::stdin().lock()).map_err(|error| format!("standard input: {error}"))
        }
        Some(path) => read_file(path),
    }
}

/// Reads a file.
///
/// # Errors
/// A sentence for the user.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    fs::File::open(path).and_then(whole).map_err(|error| format!("{}: {error}", path.display()))
}

/// Nothing that a command reads whole is longer.
pub(super) const LIMIT: u64 = 256 << 20;

fn whole(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::other(format!("it has more than {} MiB", LIMIT >> 20)));
    }
    Ok(bytes)
}

/// Reads a secret as the proxy does: a line end after it does not count.
///
/// # Errors
/// A sentence for the user.
pub(super) fn read_secret(path: &Path) -> Result<Vec<u8>, String> {
    let mut secret = read_file(path)?;
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    if secret.is_empty() { Err(format!("{}: the secret is empty", path.display())) } else { Ok(secret) }
}

/// The time to judge by: what the user says, or the present.
pub(super) fn time(unix: Option<u64>) -> Now {
    unix.map_or_else(|| Clock::start().now(), |seconds| Now::at_unix(Duration::from_secs(seconds)))
}

/// Splits `Name: value`.
///
/// # Errors
/// A sentence for the user.
pub(super) fn split_header(header: &str) -> Result<(&str, &str), String> {
    let (name, value) = header.split_once(':').ok_or_else(|| format!("--header '{header}': there is no colon"))?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("--header '{header}': \"{name}\" is no header name"));
    }
    Ok((name, value.trim_matches([' ', '\t'])))
}
