//! Reads `[[route]]` and checks the routes against each other.

use std::sync::Arc;

use crate::config::address;
use crate::config::admission;
use crate::config::hints::known_as;
use crate::config::kept;
use crate::config::keys;
use crate::config::networks;
use crate::config::observe::{self, Check};
use crate::config::problem::Place;
use crate::config::reader::{Reader, did_you_mean};
use crate::config::replay;
use crate::config::scheme;
use crate::config::sections::{BODY_SIZE, upstream_address};
use crate::config::settings::{Limits, RouteSettings, Settings, Verification};
use crate::config::tls;
use crate::config::units::shorten;
use crate::gate::pattern::{PathPattern, PatternError};
use crate::gate::route::{RouteIndex, RouteKey};
use crate::gate::upstream::UpstreamAddress;
use crate::gate::verify::Part;
use crate::gate::verify::PublicUrl;
use crate::gate::verify::Scheme;
use crate::gate::verify::Tolerance;
use crate::wire::path::PathFlaw;

const FIX_NO_ROUTE: &str = "add:\n\n[[route]]\npath = \"/webhooks/github\"\nscheme = \"github\"\n\
                            secrets = [{ id = \"1\", file = \"secrets/github\" }]\n";

const FIX_NO_URL: &str = "add public_url = \"https://…\", exactly as it is registered with the sender";

/// Names stand in logs and tell the state of routes apart.
const NAME_LIMIT: usize = 64;

/// Each route has state of its own.
const ROUTE_LIMIT: usize = 4096;

const SCHEME_LIMIT: usize = 256;

const METHOD_LIMIT: usize = 16;

/// A route that has been read: what it is, and where its application is.
type Read = (RouteSettings, Option<UpstreamAddress>);

/// Fills [`Settings::routes`] and [`Settings::upstreams`]; gives whether that is every route. `default_upstream` is the
/// address of `[upstream]`.
pub(super) fn read(root: &Reader<'_>, default_upstream: Option<UpstreamAddress>, settings: &mut Settings) -> bool {
    root.require("route", FIX_NO_ROUTE);
    let readers = root.tables("route");
    if readers.as_ref().is_some_and(Vec::is_empty) {
        root.error("route", "is empty", FIX_NO_ROUTE);
    }
    let mut schemes = own_schemes(root);
    let mut routes: Vec<Read> = Vec::new();
    if readers.as_ref().is_some_and(|readers| readers.len() > ROUTE_LIMIT) {
        root.error(
            "route",
            format!("is given more than {ROUTE_LIMIT} times"),
            "share one route: path = \"/hooks/{name}\"",
        );
    }
    let mut whole = readers.is_some();
    for reader in readers.into_iter().flatten().take(ROUTE_LIMIT) {
        let read = route(&reader, &mut schemes, &settings.limits);
        whole &= read.is_some();
        routes.extend(read);
        reader.finish();
    }
    for unused in schemes.iter().filter(|own| !own.used) {
        let message = "no route uses this scheme";
        root.warning_at(unused.place.clone(), message, "remove it, or name it in a route: scheme = \"…\"");
    }
    check_names(root, &routes);
    check_conflicts(root, &routes);
    let written = root.table("upstream").is_some_and(|upstream| upstream.has("address"));
    for (mut route, own) in routes {
        match own.or_else(|| default_upstream.clone()) {
            Some(address) => route.upstream = position(&mut settings.upstreams, address),
            None if written => whole = false,
            None => {
                let message = "there is no application to forward to: neither [upstream] nor the route has an address";
                root.error_at(route.place.child("upstream"), message, "add address = \"127.0.0.1:9000\" to [upstream]");
            }
        }
        settings.routes.push(route);
    }
    whole
}

fn position(upstreams: &mut Vec<UpstreamAddress>, address: UpstreamAddress) -> usize {
    upstreams.iter().position(|known| *known == address).unwrap_or_else(|| {
        upstreams.push(address);
        upstreams.len() - 1
    })
}

/// A `[scheme.NAME]` of the file. Without a scheme when it has errors, so that routes can name it all the same.
struct OwnScheme {
    name: String,
    scheme: Option<Arc<Scheme>>,
    place: Place,
    used: bool,
    /// Whether a route needs `public_url`, as far as the text of its content can tell.
    mentions_url: bool,
}

fn own_schemes(root: &Reader<'_>) -> Vec<OwnScheme> {
    let Some(tables) = root.table("scheme") else { return Vec::new() };
    let mut schemes = Vec::new();
    let named = tables.named_tables();
    if named.len() > SCHEME_LIMIT {
        root.error("scheme", format!("has more than {SCHEME_LIMIT} schemes"), "remove those that no route uses");
    }
    for (name, reader) in named.into_iter().take(SCHEME_LIMIT) {
        let place = reader.here();
        if name == "none" || scheme::preset(name).is_some() {
            let message = "this name belongs to a scheme that is built in";
            tables.error(name, message, format!("choose another name: [scheme.my-{name}]"));
        }
        let scheme = scheme::read_scheme(name, &reader).map(Arc::new);
        let mentions_url = reader.string("content").is_some_and(|content| content.contains("{url"));
        schemes.push(OwnScheme { name: name.to_owned(), scheme, place, used: false, mentions_url });
        reader.finish();
    }
    tables.finish();
    schemes
}

fn route(reader: &Reader<'_>, schemes: &mut [OwnScheme], limits: &Limits) -> Option<Read> {
    let path = path(reader);
    let host = reader.string("host").and_then(|host| match address::parse_host(host) {
        Ok(host) => Some(host),
        Err(wrong) => {
            reader.error("host", wrong.message, wrong.fix);
            None
        }
    });
    let methods = methods(reader);
    let name = match reader.string("name") {
        Some(name) => checked_name(reader, name),
        None => path.as_ref().map(derived_name),
    };
    let body_size = reader.size("body_size", BODY_SIZE).unwrap_or(limits.body_size);
    let admission = admission::route(reader, body_size, limits.admission.body_memory);
    let address = upstream_address(reader, "upstream");
    let clients = networks::clients(reader);
    let callers = tls::names(reader);
    let kept = kept::read(reader);
    let callers_place = (!callers.is_empty()).then(|| reader.place("client_names"));
    let verification = verification(reader, schemes);
    let replay = replay::read(reader, verification.as_ref().map(Option::as_ref));
    let mut observe = observe::read(reader, |check| match check {
        Check::Allow => !clients.is_open(),
        Check::Rate => reader.has("rate"),
        Check::Replay => replay.policy.is_some(),
        Check::Tolerance => verification.iter().flatten().any(|it| it.scheme.signs_timestamp()),
    });
    observe.replay |= replay.observed;
    let (replay, verification) = (replay.policy, verification?);
    check_url_path(reader, path.as_ref(), verification.as_ref());
    check_bodies(reader, &methods, verification.as_ref());
    if reader.failed() {
        return None;
    }
    let place = reader.here();
    let (name, upstream) = (name?, 0);
    let key = RouteKey { host, path: path?, methods };
    let route = RouteSettings {
        name,
        key,
        verification,
        body_size,
        upstream,
        clients,
        callers,
        callers_place,
        kept,
        admission,
        observe,
        replay,
        place,
    };
    Some((route, address))
}

fn path(reader: &Reader<'_>) -> Option<PathPattern> {
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

fn methods(reader: &Reader<'_>) -> Vec<String> {
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

/// How the route verifies: `Some(None)` where it says that it does not, `None` when it cannot be said.
fn verification(reader: &Reader<'_>, schemes: &mut [OwnScheme]) -> Option<Option<Verification>> {
    let fix = "name the provider: scheme = \"github\"; a route that verifies nothing says scheme = \"none\"";
    reader.require("scheme", fix);
    let name = reader.string("scheme");
    let secrets = keys::read(reader, "secrets");
    let public_keys = keys::read(reader, "public_keys");
    let public_url = public_url(reader);
    let limit = core::time::Duration::from_secs(1)..=core::time::Duration::from_secs(24 * 3600);
    let tolerance = reader.duration("tolerance", limit);
    let name = name?;
    if name == "none" {
        for key in ["secrets", "public_keys", "public_url", "tolerance"].into_iter().filter(|key| reader.has(key)) {
            reader.error(key, "has no effect: scheme = \"none\" verifies nothing", "remove it, or name a scheme");
        }
        let message = "nothing is verified: whoever reaches this route reaches the application";
        reader.warning("scheme", message, "name the scheme of the sender, unless that is what you want");
        return Some(None);
    }
    let scheme = find_scheme(reader, name, schemes)?;
    for weakness in scheme.warnings() {
        reader.warning("scheme", weakness.message, weakness.fix);
    }
    let (wanted, other, keys) = match scheme.wants_public_key() {
        true => ("public_keys", "secrets", public_keys),
        false => ("secrets", "public_keys", secrets),
    };
    if reader.has(other) {
        let message = format!("the scheme \"{name}\" has no use for {other}");
        reader.error(other, message, format!("give the keys as {wanted}"));
    } else {
        reader.require(wanted, &format!("add {wanted} = [{{ id = \"1\", file = \"secrets/{name}\" }}]"));
    }
    let tolerance = tolerance_for(reader, &scheme, tolerance);
    if scheme.signs_url() {
        reader.require("public_url", FIX_NO_URL);
    } else if reader.has("public_url") {
        let message = format!("has no effect: the scheme \"{name}\" does not sign the URL");
        reader.error("public_url", message, "remove it");
    }
    Some(Some(Verification { scheme, keys: keys.unwrap_or_default(), public_url, tolerance }))
}

fn tolerance_for(reader: &Reader<'_>, scheme: &Scheme, written: Option<core::time::Duration>) -> Option<Tolerance> {
    if !scheme.signs_timestamp() {
        if reader.has("tolerance") {
            let message = format!("the scheme \"{}\" signs no timestamp, so there is nothing to tolerate", scheme.name);
            reader.error("tolerance", message, "remove it: an unsigned timestamp proves nothing");
        }
        return None;
    }
    let default = scheme.timestamp.as_ref().map(|timestamp| timestamp.tolerance);
    written.map(Tolerance::new).or(default)
}

fn public_url(reader: &Reader<'_>) -> Option<PublicUrl> {
    match PublicUrl::parse(reader.string("public_url")?) {
        Ok(url) => Some(url),
        Err(error) => {
            reader.error(
                "public_url",
                error.to_string(),
                "write it as it is registered with the sender: \"https://…\"",
            );
            None
        }
    }
}

/// A path in `public_url` takes the place of the request's in what is signed. On a route that stands for many paths a
/// delivery that was signed for one of them would then pass on all others.
fn check_url_path(reader: &Reader<'_>, path: Option<&PathPattern>, verification: Option<&Verification>) {
    let url = verification.filter(|it| it.scheme.signs_url()).and_then(|it| it.public_url.as_ref());
    let Some(url) = url.filter(|url| !url.path().is_empty()) else { return };
    if path.is_some_and(|path| !path.is_exact()) {
        let message = "has a path, but the path of the route has parameters: \
                       a delivery signed for one of its paths would pass on all others";
        reader.error("public_url", message, format!("give the origin only: public_url = \"{}\"", url.origin()));
    }
}

/// A request without a body carries no signature of one.
fn check_bodies(reader: &Reader<'_>, methods: &[String], verification: Option<&Verification>) {
    let scheme = verification.map(|it| &it.scheme);
    let Some(scheme) = scheme.filter(|it| it.content.contains(&Part::Body) && !it.signs_url()) else { return };
    for method in methods.iter().filter(|method| ["GET", "HEAD"].contains(&method.as_str())) {
        let message =
            format!("{method} has no body, and the scheme \"{}\" signs one: every {method} is refused", scheme.name);
        let fix = format!(
            "remove it. For the request by which a sender asks whether the URL is yours, add a second [[route]] with the \
             same path, another name, methods = [\"{method}\"] and the scheme of that request (docs/senders.md)"
        );
        reader.warning("methods", message, fix);
    }
}

fn find_scheme(reader: &Reader<'_>, name: &str, schemes: &mut [OwnScheme]) -> Option<Arc<Scheme>> {
    if let Some(own) = schemes.iter_mut().find(|own| own.name == name) {
        own.used = true;
        if own.scheme.is_none() && own.mentions_url {
            reader.require("public_url", FIX_NO_URL);
        }
        return own.scheme.clone();
    }
    let preset = scheme::preset(name);
    if preset.is_none() {
        let mut names: Vec<&str> = schemes.iter().map(|own| own.name.as_str()).collect();
        for preset in scheme::preset_names() {
            names.push(preset);
        }
        names.push("none");
        let message = format!("there is no scheme \"{}\"", shorten(name));
        let meant = known_as(name).map(|scheme| format!("write scheme = \"{scheme}\", or "));
        let meant = meant.unwrap_or_else(|| did_you_mean(name, &names));
        let fix = format!("{meant}describe it in [scheme.{}]", shorten(name));
        reader.error("scheme", message, fix);
    }
    preset
}

fn check_names(root: &Reader<'_>, routes: &[Read]) {
    for (position, (route, _)) in routes.iter().enumerate() {
        if let Some((other, _)) = routes.iter().take(position).find(|(other, _)| other.name == route.name) {
            let message =
                format!("\"{}\" is the name of {} in line {} too", route.name, other.place.key_path, other.place.line);
            let fix = "give one of them another name; without `name` it is derived from the path";
            root.error_at(route.place.child("name"), message, fix);
        }
    }
}

fn check_conflicts(root: &Reader<'_>, routes: &[Read]) {
    let Err(conflicts) = RouteIndex::new(routes.iter().map(|(route, _)| &route.key)) else { return };
    for conflict in conflicts {
        let (Some((first, _)), Some((second, _))) = (routes.get(conflict.first), routes.get(conflict.second)) else {
            continue;
        };
        let place = &first.place;
        let message =
            format!("requests for it cannot be told apart from those for {} in line {}", place.key_path, place.line);
        let fix = "remove one of the two, or give them other hosts, paths or methods";
        root.error_at(second.place.child("path"), message, fix);
    }
}
