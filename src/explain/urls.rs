//! The URL that a sender may know a route by, where it is not the one that is configured: what stands in fields that
//! proxies add, another slash, port or scheme. An attacker can send any of these fields: they only explain.

use super::case::{TriedCase, Visit};
use super::forms;
use super::mistake::Mistake::{
    self, QueryExtra, QueryMissing, QueryOrder, UrlEscapes, UrlHost, UrlPath, UrlPort, UrlScheme, UrlSlash,
};
use super::quoted::quoted;
use super::text;
use crate::gate::verify::{Part, PublicUrl, inspect};

/// A URL in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct UrlParts {
    scheme: String,
    host: String,
    port: String,
    path: String,
}

impl UrlParts {
    fn of(url: &PublicUrl, target: &[u8]) -> Self {
        let (scheme, authority) = url.origin().split_once("://").unwrap_or_default();
        let (host, port) = split_port(authority);
        let path = if url.path().is_empty() { text_of(inspect::path_of(target)) } else { url.path().to_owned() };
        Self { scheme: scheme.to_owned(), host, port, path }
    }

    fn url(&self) -> Option<PublicUrl> {
        let colon = if self.port.is_empty() { "" } else { ":" };
        PublicUrl::parse(&format!("{}://{}{colon}{}{}", self.scheme, self.host, self.port, self.path)).ok()
    }

    /// In how much it differs, and what that is first of all.
    fn differs(&self, other: &Self) -> (usize, Mistake) {
        let slash = self.path.trim_end_matches('/') == other.path.trim_end_matches('/');
        let all = [
            (self.host != other.host, UrlHost),
            (self.path != other.path && !slash, UrlPath),
            (self.port != other.port, UrlPort),
            (self.scheme != other.scheme, UrlScheme),
            (self.path != other.path && slash, UrlSlash),
        ];
        let count = all.iter().filter(|(differs, _)| *differs).count();
        let first = all.iter().find(|(differs, _)| *differs).map_or(UrlPath, |(_, mistake)| *mistake);
        (count, first)
    }
}

fn split_port(authority: &str) -> (String, String) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host.to_owned(), port.to_owned())
        }
        _ => (authority.to_owned(), String::new()),
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first of the values that a header lists.
fn header(case: TriedCase<'_>, name: &str) -> Option<String> {
    let value = case.seen.header(name)?;
    let first = value.split(|byte| *byte == b',').next()?.trim_ascii();
    core::str::from_utf8(first).ok().filter(|text| !text.is_empty() && text.len() < 1024).map(str::to_owned)
}

/// Fields in which proxies write the target that they were asked for.
const ORIGINAL: [&str; 5] =
    ["X-Original-URI", "X-Forwarded-Uri", "X-Original-URL", "X-Rewrite-URL", "X-Envoy-Original-Path"];

fn originals(case: TriedCase<'_>) -> Vec<String> {
    ORIGINAL.iter().filter_map(|name| header(case, name)).filter(|target| target.starts_with('/')).collect()
}

/// Every URL that is tried, those that differ in less from the configured one first.
fn others(case: TriedCase<'_>, own: &UrlParts) -> Vec<(usize, Mistake, UrlParts)> {
    let mut hosts = vec![(own.host.clone(), own.port.clone())];
    for name in ["X-Forwarded-Host", "X-Original-Host", "Host"] {
        hosts.extend(header(case, name).map(|authority| split_port(&authority)));
    }
    let forwarded = header(case, "Forwarded").unwrap_or_default();
    let said = forwarded.split(';').find_map(|pair| pair.trim().strip_prefix("host="));
    hosts.extend(said.map(|host| split_port(host.trim_matches('"'))));
    hosts.push((format!("www.{}", own.host), own.port.clone()));
    hosts.extend(own.host.strip_prefix("www.").map(|bare| (bare.to_owned(), own.port.clone())));
    let mut ports = vec![own.port.clone(), String::new(), "443".to_owned(), "80".to_owned()];
    ports.extend(header(case, "X-Forwarded-Port"));
    ports.extend(hosts.iter().map(|(_, port)| port.clone()));
    let target = text_of(inspect::path_of(case.seen.target));
    let mut paths = vec![own.path.clone(), target.clone()];
    for prefix in ["X-Forwarded-Prefix", "X-Forwarded-Path", "X-Script-Name"].iter().filter_map(|it| header(case, it)) {
        let prefix = prefix.trim_end_matches('/').to_owned();
        paths.extend([format!("{prefix}{target}"), format!("{prefix}{}", own.path)]);
    }
    let originals = originals(case);
    paths.extend(originals.iter().map(|target| text_of(inspect::path_of(target.as_bytes()))));
    let bare: Vec<String> = paths.iter().map(|path| format!("{}/", path.trim_end_matches('/'))).collect();
    let slashless: Vec<String> = paths.iter().map(|path| path.trim_end_matches('/').to_owned()).collect();
    paths.extend(bare.into_iter().chain(slashless));
    dedup(&mut ports);
    dedup(&mut paths);
    let mut all = Vec::new();
    for host in hosts.iter().map(|(host, _)| host) {
        for (scheme, port) in ["https", "http"].iter().flat_map(|scheme| ports.iter().map(move |port| (scheme, port))) {
            all.extend(paths.iter().map(|path| UrlParts {
                scheme: (*scheme).to_owned(),
                host: host.clone(),
                port: port.clone(),
                path: path.clone(),
            }));
        }
    }
    let mut all: Vec<(usize, Mistake, UrlParts)> = all
        .into_iter()
        .map(|url| {
            let (count, first) = url.differs(own);
            (count, first, url)
        })
        .filter(|(count, ..)| *count > 0)
        .collect();
    all.sort_by_key(|(count, ..)| *count);
    all.dedup();
    all
}

fn dedup(texts: &mut Vec<String>) {
    let mut seen: Vec<String> = Vec::new();
    texts.retain(|text| {
        let new = !seen.contains(text);
        if new {
            seen.push(text.clone());
        }
        new
    });
}

/// Another URL.
pub(super) fn urls(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    within(case, usize::MAX, visit)
}

/// Another URL that differs in one thing.
pub(super) fn near_urls(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    within(case, 1, visit)
}

fn within(case: TriedCase<'_>, farthest: usize, visit: &mut Visit<'_>) -> bool {
    let Some(url) = case.url.filter(|_| case.scheme.signs_url()) else { return false };
    let own = UrlParts::of(url, case.seen.target);
    let mut near = others(case, &own).into_iter().take_while(|(count, ..)| *count <= farthest);
    near.any(|(_, mistake, parts)| {
        let Some(other) = parts.url() else { return false };
        visit(TriedCase { url: Some(&other), ..case }, mistake, &[&format!("`{other}`")])
    })
}

/// Whether the target is signed in any way.
fn signs_target(case: TriedCase<'_>) -> bool {
    case.scheme.signs_url() || case.scheme.content.contains(&Part::Path)
}

/// Another query, other escapes, another method.
pub(super) fn targets(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    signs_target(case) && queries(case, visit) || methods(case, visit)
}

fn queries(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let target = case.seen.target;
    let path = inspect::path_of(target);
    let query = target.get(path.len() + 1..).unwrap_or_default();
    let with = |query: &[u8]| [path, b"?", query].concat();
    if path != target && visit(case.with_target(path), QueryExtra, &[]) {
        return true;
    }
    for original in originals(case) {
        let Some((_, query)) = original.split_once('?') else { continue };
        let before = with(query.as_bytes());
        if before != target && visit(case.with_target(&before), QueryMissing, &[&shown(query.as_bytes())]) {
            return true;
        }
    }
    for order in if query.len() < 4096 { forms::orders(query) } else { Vec::new() } {
        if visit(case.with_target(&with(&order)), QueryOrder, &[&shown(&order)]) {
            return true;
        }
    }
    if fewer_fields(case, path, query, visit) || given_query(case, path, query, visit) {
        return true;
    }
    let spaces = |from: &str, to: &str| text_of(target).replace(from, to).into_bytes();
    let rewritten = [
        (text::escapes_in(target, false), "small hexadecimal digits"),
        (text::escapes_in(target, true), "capital hexadecimal digits"),
        (text::percent_decoded(target, false), "the characters themselves"),
        (spaces("+", "%20"), "`%20` for spaces, and not `+`"),
        (spaces("%20", "+"), "`+` for spaces, and not `%20`"),
        (spaces("%7E", "~"), "`~`, and not `%7E`"),
        (spaces("~", "%7E"), "`%7E`, and not `~`"),
    ];
    rewritten
        .iter()
        .any(|(before, what)| before.as_slice() != target && visit(case.with_target(before), UrlEscapes, &[what]))
}

/// No more fields of a query are left out in turn.
const MOST_LEFT_OUT: usize = 16;

/// A field that something on the way has added.
fn fewer_fields(case: TriedCase<'_>, path: &[u8], query: &[u8], visit: &mut Visit<'_>) -> bool {
    let fields: Vec<&[u8]> = query.split(|byte| *byte == b'&').collect();
    if !(2..=MOST_LEFT_OUT).contains(&fields.len()) || query.len() > 4096 {
        return false;
    }
    (0..fields.len()).rev().any(|left_out| {
        let others = fields.iter().enumerate().filter(|(number, _)| *number != left_out).map(|(_, field)| *field);
        let fewer = others.collect::<Vec<_>>().join(&b'&');
        let before = [path, b"?", &fewer].concat();
        visit(case.with_target(&before), Mistake::QueryOther, &[&shown(&fewer), &shown(query)])
    })
}

/// The query that the operator has given.
fn given_query(case: TriedCase<'_>, path: &[u8], query: &[u8], visit: &mut Visit<'_>) -> bool {
    let Some(given) = case.known.query.filter(|given| *given != query) else { return false };
    let before = [path, b"?", given].concat();
    if query.is_empty() {
        return visit(case.with_target(&before), QueryMissing, &[&shown(given)]);
    }
    visit(case.with_target(&before), Mistake::QueryOther, &[&shown(given), &shown(query)])
}

fn shown(text: &[u8]) -> String {
    quoted(text)
}

fn methods(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    if !case.scheme.content.contains(&Part::Method) {
        return false;
    }
    let small = case.seen.method.to_ascii_lowercase();
    let others: [&[u8]; 6] = [&small, b"GET", b"POST", b"PUT", b"PATCH", b"DELETE"];
    others.into_iter().filter(|method| *method != case.seen.method).any(|method| {
        // As a literal: the engine takes no method in small letters.
        let scheme = case.changed_scheme(|scheme| {
            let parts = scheme.content.parts().iter();
            let parts = parts.map(|part| match part {
                Part::Method => Part::Literal(method.to_vec()),
                other => other.clone(),
            });
            scheme.content = crate::gate::verify::Template::of(parts.collect());
        });
        visit(TriedCase { scheme: &scheme, ..case }, Mistake::Method, &[&format!("`{}`", shown(method))])
    })
}
