//! `challenge`, `handshake`, `challenge_tokens`, `challenge_url` and `first_calls` of a route: which handshakes are answered
//! here, and `[handshake.NAME]`, the handshakes of the file.

use core::fmt;
use std::sync::Arc;

use super::keys::{self, KeySettings};
use super::verification::Verification;
use crate::config::handshake::{handshake, handshake_of, handshakes, read_handshake};
use crate::config::lines::line;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::secret::Secret;
use crate::config::suggest::did_you_mean;
use crate::config::units::shorten;
use crate::gate::verify::{CallProof, HandshakeCall, HandshakeScheme, Scheme, Validity};

/// The handshake that a route answers.
#[derive(Clone, Debug)]
pub struct ChallengeSettings {
    /// What is asked.
    pub handshake: Arc<HandshakeScheme>,
    /// References to the verify tokens.
    pub tokens: Vec<KeySettings>,
    /// The verify tokens. [`crate::config::load()`] reads them.
    pub read: Vec<(Secret, Validity)>,
    /// The URL that the sender knows, where an answer is made with it.
    pub url: Option<String>,
    /// Whether unsigned first calls are answered.
    pub first_calls: bool,
    /// Whether the route does not say so, and the sender's handshake is safe to answer.
    pub is_default: bool,
}

/// A `[handshake.NAME]` of the file. Without a value when it has errors.
pub(super) struct OwnHandshake {
    name: String,
    handshake: Option<Arc<HandshakeScheme>>,
    place: Place,
}

const HANDSHAKE_LIMIT: usize = 64;

/// The keys that mean something only where a handshake is answered.
const KEYS: [&str; 4] = ["handshake", "challenge_tokens", "challenge_url", "first_calls"];

/// The handshakes of the file. Those that no route names are warned about.
pub(super) fn read_own(root: &Reader<'_>) -> Vec<OwnHandshake> {
    let Some(tables) = root.table("handshake") else { return Vec::new() };
    let named = tables.named_tables();
    if named.len() > HANDSHAKE_LIMIT {
        root.error("handshake", format!("has more than {HANDSHAKE_LIMIT} handshakes"), "remove those without a route");
    }
    let mut own = Vec::new();
    for (name, reader) in named.into_iter().take(HANDSHAKE_LIMIT) {
        if handshake(name).is_some() {
            let message = "this name belongs to a handshake that is built in";
            tables.error(name, message, format!("choose another name: [handshake.my-{name}]"));
        }
        let place = reader.here();
        let handshake = read_handshake(name, &reader).map(Arc::new);
        own.push(OwnHandshake { name: name.to_owned(), handshake, place });
        reader.finish();
    }
    tables.finish();
    own
}

/// Warns about handshakes that no route names.
pub(super) fn warn_of_unused<'r>(root: &Reader<'_>, own: &[OwnHandshake], used: impl Iterator<Item = &'r str>) {
    let used: Vec<&str> = used.collect();
    for unused in own.iter().filter(|own| !used.contains(&own.name.as_str())) {
        let message = "no route answers this handshake";
        root.warning_at(unused.place.clone(), message, "remove it, or name it in a route: handshake = \"…\"");
    }
}

/// The handshake of a route; nothing where none is answered, or something about it is wrong.
pub(super) fn read(
    reader: &Reader<'_>,
    verification: Option<&Verification>,
    own: &[OwnHandshake],
) -> Option<ChallengeSettings> {
    let wanted = reader.bool("challenge");
    let named = reader.string("handshake");
    let tokens = keys::read(reader, "challenge_tokens");
    let url = reader.string("challenge_url").map(str::to_owned);
    let first_calls = reader.bool("first_calls").unwrap_or_default();
    let scheme = verification.map(|it| &*it.scheme);
    let handshake = match named {
        Some(name) => find(reader, name, own),
        None => scheme.and_then(|scheme| handshake_of(&scheme.name)),
    };
    let Some(handshake) = handshake.filter(|_| wanted != Some(false)) else {
        refuse_keys(reader, wanted, named.is_some());
        return None;
    };
    let is_ready = is_ready(&handshake, scheme, tokens.is_some(), url.is_some());
    let is_default = wanted.is_none() && named.is_none() && tokens.is_none();
    if is_default && !(handshake.default && is_ready) {
        refuse_keys(reader, wanted, false);
        return None;
    }
    let settings = ChallengeSettings {
        handshake,
        tokens: tokens.unwrap_or_default(),
        read: Vec::new(),
        url,
        first_calls,
        is_default,
    };
    check(reader, &settings, scheme);
    Some(settings)
}

fn find(reader: &Reader<'_>, name: &str, own: &[OwnHandshake]) -> Option<Arc<HandshakeScheme>> {
    if let Some(own) = own.iter().find(|own| own.name == name) {
        return own.handshake.clone();
    }
    let found = handshake(name);
    if found.is_none() {
        let mut names: Vec<&str> = handshakes().map(|known| known.name.as_str()).collect();
        names.extend(own.iter().map(|own| own.name.as_str()));
        let fix = format!("{}describe it in [handshake.{}]", did_you_mean(name, &names), shorten(name));
        reader.error("handshake", format!("there is no handshake \"{}\"", shorten(name)), fix);
    }
    found
}

/// Whether nothing more has to be said for it to be answered, and it is safe.
fn is_ready(handshake: &HandshakeScheme, scheme: Option<&Scheme>, has_tokens: bool, has_url: bool) -> bool {
    let signs = |call: &HandshakeCall| scheme.is_some_and(|scheme| call.may_sign_for_strangers(scheme));
    handshake.fits(scheme)
        && handshake
            .calls
            .iter()
            .all(|call| (has_tokens || !call.needs_token()) && (has_url || !call.needs_url()) && !signs(call))
}

/// What was said about a handshake that is not answered.
fn refuse_keys(reader: &Reader<'_>, wanted: Option<bool>, named: bool) {
    if wanted == Some(true) && !named {
        let names: Vec<&str> = handshakes().map(|known| known.name.as_str()).collect();
        let fix = format!("remove it, or name one: handshake = \"…\" ({})", names.join(", "));
        reader.error("challenge", "the sender of this scheme has no handshake that is known here", fix);
    }
    for key in KEYS.into_iter().filter(|key| reader.has(key)) {
        if wanted == Some(false) {
            reader.error(key, "has no effect: challenge = false answers no handshake", "remove one of the two");
        } else if key != "handshake" {
            reader.error(key, "has no effect: no handshake is answered", "add challenge = true, or remove it");
        }
    }
}

/// Reports what is missing for the answers, and what has no effect on them.
fn check(reader: &Reader<'_>, settings: &ChallengeSettings, scheme: Option<&Scheme>) {
    let handshake = &settings.handshake;
    let any = |needs: &dyn Fn(&HandshakeCall) -> bool| handshake.calls.iter().any(needs);
    let name = &handshake.name;
    if any(&HandshakeCall::needs_token) {
        let fix =
            "add challenge_tokens = [{ id = \"1\", file = \"secrets/verify-token\" }]: the sender asks for it too";
        reader.require("challenge_tokens", fix);
    } else if reader.has("challenge_tokens") {
        reader.error("challenge_tokens", format!("has no effect: {name} has no verify token"), "remove it");
    }
    if any(&HandshakeCall::needs_url) {
        reader
            .require("challenge_url", "add challenge_url = \"https://…\", exactly as it is registered with the sender");
    } else if reader.has("challenge_url") {
        reader.error("challenge_url", format!("has no effect: {name} is not answered with a URL"), "remove it");
    }
    if reader.has("first_calls") && !handshake.has(CallProof::FirstCall) {
        reader.error("first_calls", format!("has no effect: {name} has no unsigned first call"), "remove it");
    }
    if !handshake.fits(scheme) {
        let message = format!("{name} is answered with an HMAC under the key of the route, whose scheme has none");
        reader.error("handshake", message, "name the scheme of the sender, or another handshake");
    }
    if any(&|call| scheme.is_some_and(|scheme| call.may_sign_for_strangers(scheme))) {
        let message = "any client is answered with an HMAC of a value that it chooses, under the key of the deliveries: \
                       one whose signed content is such a value would pass";
        reader.warning(
            "handshake",
            message,
            "give the scheme a guard that keeps such values out, or challenge = false",
        );
    }
}

/// For `check`.
pub(super) fn describe(
    out: &mut String,
    settings: Option<&ChallengeSettings>,
    verification: Option<&Verification>,
) -> fmt::Result {
    let Some(settings) = settings else {
        let known = verification.and_then(|it| handshake_of(&it.scheme.name));
        return match known {
            Some(known) => line(out, "handshake", format_args!("not answered here: {}", known.description)),
            None => Ok(()),
        };
    };
    let ChallengeSettings { handshake, first_calls, is_default, .. } = settings;
    let default = if *is_default { " (the default)" } else { "" };
    line(out, "handshake", format_args!("answered here{default}: {}", handshake.description))?;
    if handshake.has(CallProof::FirstCall) {
        let state = if *first_calls { "answered, 30 in a minute" } else { "refused (first_calls = true answers them)" };
        line(out, "", format_args!("unsigned first calls are {state}"))?;
    }
    if handshake.has(CallProof::Pairing) {
        line(out, "", "it is refused but while a window is open: countersign pair ROUTE")?;
    }
    if !settings.tokens.is_empty() {
        let ids: Vec<&str> = settings.tokens.iter().map(|token| token.id.as_str()).collect();
        line(out, "", format_args!("verify tokens: {}", ids.join(", ")))?;
    }
    Ok(())
}
