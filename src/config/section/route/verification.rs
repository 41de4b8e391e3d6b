//! `scheme`, keys, `public_url` and `tolerance` of a route: how its deliveries are verified.

use core::fmt;
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use super::keys::{self, KeySettings, KeySource};
use super::own_schemes::{FIX_NO_URL, OwnScheme, find_scheme};
use crate::config::lines::line;
use crate::config::named_key::read_values;
use crate::config::reader::Reader;
use crate::config::scheme::SIGNED_BODIES;
use crate::config::token::read_claims;
use crate::config::units::show_duration;
use crate::gate::pattern::PathPattern;
use crate::gate::verify::{
    DigestAlgorithm, Kind, MacAlgorithm, Part, PublicUrl, Scheme, SignatureSource, SignedBody, TOLERANCE_LIMIT,
    Tolerance,
};
use crate::now::Now;

/// How the deliveries of a route are verified.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The scheme.
    pub scheme: Arc<Scheme>,
    /// References to the keys, at least one: secrets, or public keys where the scheme wants those.
    pub keys: Vec<KeySettings>,
    /// The URL that the sender knows; present where the scheme signs it.
    pub public_url: Option<PublicUrl>,
    /// Distance of a signed timestamp from the present; present where the scheme signs one.
    pub tolerance: Option<Tolerance>,
}

impl Verification {
    /// Whether no key counts at this moment.
    pub(super) fn lacks_key(&self, now: Now) -> bool {
        !self.keys.iter().any(|key| key.validity.contains(now) && !key.awaits_pairing)
    }
}

/// How the route verifies: `Some(None)` where it says that it does not, `None` when it cannot be said.
pub(super) fn read(reader: &Reader<'_>, schemes: &mut [OwnScheme]) -> Option<Option<Verification>> {
    let fix = "name the provider: scheme = \"github\"; a route that verifies nothing says scheme = \"none\"";
    reader.require("scheme", fix);
    let name = reader.string("scheme");
    let secrets = keys::read(reader, "secrets");
    let public_keys = keys::read(reader, "public_keys");
    let public_url = public_url(reader);
    let limit = Duration::from_secs(1)..=TOLERANCE_LIMIT;
    let tolerance = reader.duration("tolerance", limit);
    let name = name?;
    if name == "none" {
        for key in ["secrets", "public_keys", "public_url", "tolerance", "claims", "values", "content_encoding"]
            .into_iter()
            .filter(|key| reader.has(key))
        {
            reader.error(key, "has no effect: scheme = \"none\" verifies nothing", "remove it, or name a scheme");
        }
        let message = "nothing is verified: every client of this route reaches the application";
        reader.warning("scheme", message, "name the scheme of the sender, unless that is what you want");
        return Some(None);
    }
    let scheme = signed_body(reader, with_values(reader, with_claims(reader, find_scheme(reader, name, schemes)?)));
    for weakness in scheme.warnings() {
        reader.warning("scheme", weakness.message, weakness.fix);
    }
    let credential = read_credential(reader, &scheme, reader.has("public_keys"));
    let (wanted, other, mut keys) = match scheme.wants_public_key() {
        true => ("public_keys", "secrets", public_keys),
        false => ("secrets", "public_keys", secrets),
    };
    if reader.has(other) {
        let message = format!("the scheme \"{name}\" has no use for {other}");
        reader.error(other, message, format!("give the keys as {wanted}"));
    } else if let (Some(url), false) = (&scheme.keys_url, reader.has(wanted)) {
        keys = Some(vec![keys::published(KeySource::Url(url.clone()), reader.place(wanted))]);
    } else if let (Some(_), false) = (&scheme.named_key, reader.has(wanted)) {
        let (source, place) = match credential {
            Some(path) => (KeySource::NamedWith(path), reader.place(CREDENTIAL)),
            None => (KeySource::Named, reader.place(wanted)),
        };
        keys = Some(vec![keys::published(source, place)]);
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

/// The key of a route that names the file with its credential.
const CREDENTIAL: &str = "key_credential_file";

/// The file with the credential that the sender asks for where it shows its keys.
fn read_credential(reader: &Reader<'_>, scheme: &Scheme, has_keys: bool) -> Option<PathBuf> {
    let name = &scheme.name;
    let is_asked = scheme.named_key.as_ref().is_some_and(|locator| locator.credential);
    match reader.string(CREDENTIAL) {
        Some(_) if !is_asked || has_keys => {
            let message = format!("has no effect: no key of the scheme \"{name}\" is fetched with a credential here");
            reader.error(CREDENTIAL, message, "remove it");
            None
        }
        Some("") => {
            reader.error(CREDENTIAL, "is empty", "name the file, relative to the configuration file");
            None
        }
        Some(path) => Some(PathBuf::from(path)),
        None if is_asked && !has_keys => {
            let fix = format!(
                "add {CREDENTIAL} = \"secrets/{name}-api-key\" with the API key by which the sender shows you its public keys, or \
                 give these as public_keys"
            );
            reader.require(CREDENTIAL, &fix);
            None
        }
        None => None,
    }
}

/// The scheme with the claims that the route asks for.
fn with_claims(reader: &Reader<'_>, scheme: Arc<Scheme>) -> Arc<Scheme> {
    let claims = read_claims(reader);
    if !matches!(scheme.kind, Kind::Jws(_)) {
        if reader.has("claims") {
            let message = format!("has no effect: the scheme \"{}\" has no token", scheme.name);
            reader.error("claims", message, "remove it");
        }
        return scheme;
    }
    let token = scheme.token.clone().with_claims(claims.as_deref().unwrap_or_default());
    if !token.route_claims.is_empty() {
        let wanted: Vec<String> = token.route_claims.iter().map(|claim| format!("{claim} = \"…\"")).collect();
        let message = format!("only the route can know what these claims must be: {}", token.route_claims.join(", "));
        let fix = format!("add claims = {{ {} }} (docs/tokens.md)", wanted.join(", "));
        reader.error("claims", message, fix);
    }
    Arc::new(Scheme { token, ..(*scheme).clone() })
}

/// The scheme with the values that only the route knows.
fn with_values(reader: &Reader<'_>, scheme: Arc<Scheme>) -> Arc<Scheme> {
    let given = read_values(reader);
    if scheme.values.is_empty() {
        if given.is_some() {
            let message = format!("has no effect: the scheme \"{}\" asks for no values", scheme.name);
            reader.error("values", message, "remove it");
        }
        return scheme;
    }
    let given = given.unwrap_or_default();
    for value in given.iter().filter(|value| !scheme.values.iter().any(|own| own.name == value.name)) {
        let known: Vec<&str> = scheme.values.iter().map(|own| own.name.as_str()).collect();
        let message = format!("the scheme \"{}\" does not ask for `{}`", scheme.name, value.name);
        reader.error("values", message, format!("it asks for {}", known.join(", ")));
    }
    for value in given.iter().filter(|value| value.values.len() > 1) {
        if scheme.content.contains(&Part::Route(value.name.clone())) {
            let message = format!("`{}` is a part of what is signed and has several values", value.name);
            reader.error("values", message, "give one, and a route of its own to each of the others");
        }
    }
    let scheme = (*scheme).clone().with_values(&given);
    let missing: Vec<&str> =
        scheme.values.iter().filter(|value| value.values.is_empty()).map(|value| value.name.as_str()).collect();
    if missing.is_empty() {
        for problem in scheme.validate() {
            reader.error(problem.field, problem.message, problem.fix);
        }
    } else {
        let wanted: Vec<String> = missing.iter().map(|name| format!("{name} = \"…\"")).collect();
        let message = format!("only the route can know what these must be: {}", missing.join(", "));
        reader.error("values", message, format!("add values = {{ {} }} (docs/tokens.md)", wanted.join(", ")));
    }
    Arc::new(scheme)
}

/// The scheme, with what the route says about compressed bodies.
fn signed_body(reader: &Reader<'_>, scheme: Arc<Scheme>) -> Arc<Scheme> {
    let Some(signed_body) = reader.choice("content_encoding", SIGNED_BODIES) else { return scheme };
    let scheme = Scheme { signed_body, ..(*scheme).clone() };
    for problem in scheme.validate() {
        reader.error(problem.field, problem.message, problem.fix);
    }
    Arc::new(scheme)
}

fn tolerance_for(reader: &Reader<'_>, scheme: &Scheme, written: Option<Duration>) -> Option<Tolerance> {
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
pub(super) fn check_url_path(reader: &Reader<'_>, path: Option<&PathPattern>, verification: Option<&Verification>) {
    let url = verification.filter(|it| it.scheme.signs_url()).and_then(|it| it.public_url.as_ref());
    let Some(url) = url.filter(|url| !url.path().is_empty()) else { return };
    if path.is_some_and(|path| !path.is_exact()) {
        let message = "has a path, but the path of the route has parameters: \
                       a delivery signed for one of its paths would pass on all others";
        reader.error("public_url", message, format!("give the origin only: public_url = \"{}\"", url.origin()));
    }
}

/// For `check`: the lines before those about replays.
pub(super) fn describe(out: &mut String, verification: &Verification) -> fmt::Result {
    let scheme = &verification.scheme;
    line(out, "scheme", described(scheme))?;
    if let Kind::Jws(algorithm) = scheme.kind {
        line(out, "token", format_args!("{}, {}", algorithm.name(), claims(scheme)))?;
    } else if scheme.signs() {
        line(
            out,
            "signed",
            format_args!("{} with {}", scheme.content.to_string().escape_debug(), algorithm(scheme.kind)),
        )?;
    } else {
        line(out, "signed", "nothing")?;
    }
    if !scheme.guards.is_empty() {
        line(out, "guard", &scheme.guards)?;
    }
    if scheme.signed_body == SignedBody::Decoded {
        line(out, "compressed", "bodies are verified as what they decompress to, and forwarded as they came")?;
    }
    line(out, "found in", signature_place(&scheme.signature))?;
    for value in &scheme.values {
        line(out, "value", format_args!("{} = {}", value.name, value.values.join(" or ")))?;
    }
    if let Some(url) = &verification.public_url {
        line(out, "public url", url)?;
    }
    Ok(())
}

/// For `check`: the lines behind those about replays. `observed` is whether the tolerance is only counted.
pub(super) fn describe_keys(out: &mut String, verification: &Verification, observed: bool, now: Now) -> fmt::Result {
    match verification.tolerance {
        Some(tolerance) => {
            let observed = if observed { " (only counted)" } else { "" };
            line(out, "tolerance", format_args!("{} either way{observed}", show_duration(tolerance.distance())))?;
        }
        None => {
            line(out, "tolerance", "none: no timestamp is signed, so a captured delivery never goes stale by itself")?
        }
    }
    for key in &verification.keys {
        line(out, "key", format_args!("\"{}\", {}", key.id, keys::described(key, now)))?;
        match (&key.source, &verification.scheme.named_key) {
            (KeySource::Url(url), _) => line(out, "", format_args!("fetched from {url}"))?,
            (KeySource::Named | KeySource::NamedWith(_), Some(locator)) => {
                line(out, "", format_args!("deliveries name it; fetched from {} and nowhere else", locator.label()))?;
                if let KeySource::NamedWith(path) = &key.source {
                    line(
                        out,
                        "",
                        format_args!("with the credential in {}, which is sent there alone", path.display()),
                    )?;
                }
            }
            _ => {}
        }
        if key.line_end_left_out {
            line(out, "", "the line end at its end is not part of it and has been left out")?;
        }
    }
    for weakness in verification.scheme.warnings() {
        line(out, "WARNING", weakness.message)?;
    }
    Ok(())
}

/// A request without a body carries no signature of one.
pub(super) fn check_bodies(reader: &Reader<'_>, methods: &[String], verification: Option<&Verification>) {
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

fn described(scheme: &Scheme) -> String {
    let mut text = scheme.name.clone();
    if !scheme.description.is_empty() {
        text = format!("{text}: {}", scheme.description);
    }
    if !scheme.status.is_empty() {
        text = format!("{text} (description: {})", scheme.status);
    }
    text
}

const fn algorithm(kind: Kind) -> &'static str {
    match kind {
        Kind::Hmac(MacAlgorithm::HmacSha1) => "HMAC-SHA1",
        Kind::Hmac(MacAlgorithm::HmacSha256) => "HMAC-SHA256",
        Kind::Hmac(MacAlgorithm::HmacSha384) => "HMAC-SHA384",
        Kind::Hmac(MacAlgorithm::HmacSha512) => "HMAC-SHA512",
        Kind::Digest(DigestAlgorithm::Sha1) => "SHA-1",
        Kind::Digest(DigestAlgorithm::Sha256) => "SHA-256",
        Kind::Digest(DigestAlgorithm::Sha384) => "SHA-384",
        Kind::Digest(DigestAlgorithm::Sha512) => "SHA-512",
        Kind::Public(algorithm) => algorithm.name(),
        Kind::Jws(algorithm) => algorithm.name(),
        Kind::Token => "a static token",
        Kind::Basic => "a static password",
    }
}

/// What is asked of a token.
fn claims(scheme: &Scheme) -> String {
    let rules = &scheme.token;
    let mut words: Vec<String> =
        rules.claims.iter().map(|rule| format!("{} = {}", rule.name, rule.values.join(" or "))).collect();
    words.extend(rules.body_digest.as_ref().map(|digest| format!("{} = SHA-256 of the body", digest.claim)));
    words.extend(rules.query_hash.as_ref().map(|claim| format!("{claim} = hash of method, path and query")));
    words.push(if rules.expires { "must expire" } else { "expires if it says so" }.to_owned());
    words.join(", ")
}

fn signature_place(source: &SignatureSource) -> String {
    match source {
        SignatureSource::Headers(names) => format!("header {}", names.join(", ")),
        SignatureSource::Json(_) => "a field of the JSON body".to_owned(),
        SignatureSource::Form(name) => format!("form field {name}"),
        SignatureSource::Query(name) => format!("query parameter {name}"),
        SignatureSource::Body => "the body itself".to_owned(),
    }
}
