//! `name`, `path`, `host` and `methods` of a route: which requests it takes.

use core::fmt;

use crate::config::address;
use crate::config::lines::line;
use crate::config::reader::Reader;
use crate::config::units::shorten;
use crate::gate::pattern::{PathPattern, PatternError};
use crate::gate::route::RouteKey;
use crate::wire::path::PathFlaw;

/// Names stand in logs and tell the state of routes apart.
const NAME_LIMIT: usize = 64;

const METHOD_LIMIT: usize = 16;

pub(super) fn host(reader: &Reader<'_>) -> Option<String> {
    match address::parse_host(reader.string("host")?) {
        Ok(host) => Some(host),
        Err(wrong) => {
            reader.error("host", wrong.message, wrong.fix);
            None
        }
    }
}

/// The name that is written, or one that is made of the path.
pub(super) fn name(reader: &Reader<'_>, path: Option<&PathPattern>) -> Option<String> {
    match reader.string("name") {
        Some(name) => checked_name(reader, name),
        None => path.map(derived_name),
    }
}

pub(super) fn path(reader: &Reader<'_>) -> Option<PathPattern> {
    reader.require("path", "add path = \"/webhooks/…\", as the sender calls it");
    let text = reader.string("path")?;
    match PathPattern::parse(text) {
        Ok(path) => {
            foreign_parameters(reader, text);
            Some(path)
        }
        Err(error) => {
            let fix = match error {
                PatternError::NoSlash if text.contains("://") => {
                    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
                    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
                    format!("write path = \"{}\", without scheme and host", shorten(path))
                }
                PatternError::NoSlash => format!("write path = \"/{}\"", shorten(text)),
                PatternError::Flaw(flaw) => repair(text, flaw),
                _ => "write it as senders do; {name} stands for one segment and {*rest} for all that follow".to_owned(),
            };
            reader.error("path", error.to_string(), fix);
            None
        }
    }
}

/// What to write instead of a path that no request can have.
fn repair(text: &str, flaw: PathFlaw) -> String {
    match flaw {
        PathFlaw::Needless(_) => match unescaped(text) {
            Some(path) => format!("write path = \"{}\"", shorten(&path)),
            None => "such requests are refused: register another URL with the sender".to_owned(),
        },
        PathFlaw::Parameter => {
            let (path, _) = text.split_once(';').unwrap_or((text, ""));
            format!("such requests are refused: register a URL without \";\", for instance {}", shorten(path))
        }
        _ => "such requests are refused: register another URL with the sender".to_owned(),
    }
}

/// The path without needless escapes, if nothing else is wrong with it.
fn unescaped(text: &str) -> Option<String> {
    let mut path = text.to_owned();
    loop {
        match PathPattern::parse(&path) {
            Ok(_) => return Some(path),
            Err(PatternError::Flaw(PathFlaw::Needless(byte))) => {
                let (upper, lower) = (format!("%{byte:02X}"), format!("%{byte:02x}"));
                let plain = char::from(byte).to_string();
                path = path.replace(&upper, &plain).replace(&lower, &plain);
            }
            Err(_) => return None,
        }
    }
}

/// What other routers take for parameters are literal segments here, and hardly ever meant as such.
fn foreign_parameters(reader: &Reader<'_>, path: &str) {
    for segment in path.split('/') {
        let hint = match segment.strip_prefix(':') {
            Some(name) if !name.is_empty() => format!("{{{name}}}"),
            _ if matches!(segment, "*" | "**") => "{*rest}".to_owned(),
            _ => continue,
        };
        let message = format!("\"{}\" stands for itself, not for other segments", shorten(segment));
        let fix = format!("write {} for any", shorten(&hint));
        reader.warning("path", message, fix);
    }
}

pub(super) fn methods(reader: &Reader<'_>) -> Vec<String> {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let Some(written) = reader.strings("methods") else { return vec!["POST".to_owned()] };
    if written.is_empty() || written.len() > METHOD_LIMIT {
        let fix = format!("write methods = [\"POST\"], or leave it out; at most {METHOD_LIMIT}");
        reader.error("methods", format!("has {} methods", written.len()), fix);
    }
    let mut methods: Vec<String> = Vec::new();
    for method in written.into_iter().take(METHOD_LIMIT) {
        let token =
            !method.is_empty() && method.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        let upper = method.to_ascii_uppercase();
        if KNOWN.contains(&upper.as_str()) && upper != method {
            reader.error("methods", "methods are written in capitals", format!("write \"{upper}\""));
        } else if !token || upper == "CONNECT" {
            let message = format!("\"{}\" is not a method that can be routed", shorten(method));
            reader.error("methods", message, format!("choose among {}", KNOWN.join(", ")));
        } else if methods.iter().any(|known| known == method) {
            reader.error("methods", format!("\"{method}\" is given twice"), "remove one of the two");
        }
        methods.push(method.to_owned());
    }
    methods
}

fn checked_name(reader: &Reader<'_>, name: &str) -> Option<String> {
    let fits = (1..=NAME_LIMIT).contains(&name.len());
    if fits && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Some(name.to_owned());
    }
    let message = format!("\"{}\" is not a name for a route", shorten(name));
    reader.error("name", message, format!("use 1 to {NAME_LIMIT} letters, digits, \"-\", \"_\" and \".\""));
    None
}

/// `/webhooks/github` becomes `webhooks-github`, `/` becomes `root`.
fn derived_name(path: &PathPattern) -> String {
    let words = path.as_str().split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let mut name = words.join("-");
    name.truncate(NAME_LIMIT);
    if name.is_empty() { "root".to_owned() } else { name }
}

/// For `check`.
pub(super) fn describe(out: &mut String, key: &RouteKey) -> fmt::Result {
    let (methods, path) = (key.methods.join(", "), key.path.as_str());
    match &key.host {
        Some(host) => line(out, "requests", format_args!("{methods} {host}{path}")),
        None => line(out, "requests", format_args!("{methods} {path} (any host)")),
    }
}
