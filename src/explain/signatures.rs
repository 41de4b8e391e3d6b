//! What happens to the header that has the signature, undone.

use super::case::{TriedCase, Visit};
use super::contents::MACS;
use super::mistake::Mistake;
use super::quoted::quoted;
use super::text;
use crate::gate::verify::{Encoding, Kind, Scheme, SignatureSource, Source, Syntax};
use crate::wire::headers::{HeaderBuf, Headers};

const ENCODINGS: [Encoding; 3] = [Encoding::Hex, Encoding::Base64, Encoding::Base64Url];

/// The names of the headers in which the scheme looks for signatures.
pub(super) fn names(case: TriedCase<'_>) -> &[String] {
    match &case.scheme.signature {
        SignatureSource::Headers(names) => names,
        _ => &[],
    }
}

pub(super) fn prefix_of(syntax: &Syntax) -> &str {
    match syntax {
        Syntax::Single { prefix } | Syntax::List { prefix, .. } => prefix,
        Syntax::Pairs { .. } | Syntax::Items { .. } => "",
    }
}

/// Another encoding, and what stands in front of the signature.
pub(super) fn forms_of_signature(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    if !case.scheme.signs() {
        return false;
    }
    for encoding in ENCODINGS.into_iter().filter(|other| *other != case.scheme.encoding) {
        let scheme = case.changed_scheme(|scheme| scheme.encoding = encoding);
        let details = [encoding.name(), case.scheme.encoding.name()];
        if visit(TriedCase { scheme: &scheme, ..case }, Mistake::HeaderEncoding, &details) {
            return true;
        }
    }
    let prefix = prefix_of(&case.scheme.syntax).to_owned();
    if !prefix.is_empty() {
        let scheme = case.changed_scheme(|scheme| scheme.syntax = Syntax::Single { prefix: String::new() });
        let what = format!("lacks the prefix `{prefix}`");
        if visit(TriedCase { scheme: &scheme, ..case }, Mistake::HeaderPrefix, &[&what]) {
            return true;
        }
    }
    values(case, visit)
}

/// Whether a signature stands in front of everything else in the value.
const fn prefixed(syntax: &Syntax) -> bool {
    matches!(syntax, Syntax::Single { .. } | Syntax::List { .. })
}

/// Prefixes that other senders write.
const FOREIGN: [&str; 11] =
    ["sha256=", "sha1=", "sha512=", "v1=", "v1,", "v0=", "hmac=", "Bearer ", "HMAC ", "hmac-sha256=", "t="];

/// What the value may have been.
fn values(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    for name in names(case) {
        let Some(value) = case.seen.header(name) else { continue };
        let prefix = prefix_of(&case.scheme.syntax).as_bytes();
        let mut tried = |before: &[u8], mistake: Mistake, what: &str| {
            before != value && {
                let headers = with_value(case.seen.headers, name, before);
                visit(case.with_headers(headers.view()), mistake, &[what])
            }
        };
        if let Some(inside) = text::unquoted(value.trim_ascii())
            && tried(inside, Mistake::HeaderQuotes, "")
        {
            return true;
        }
        let rest = value.strip_prefix(prefix).unwrap_or(value);
        if let Some(inside) = text::unquoted(rest)
            && tried(&[prefix, inside].concat(), Mistake::HeaderQuotes, "")
        {
            return true;
        }
        if !prefix.is_empty() && rest.starts_with(prefix) && tried(rest, Mistake::HeaderPrefixTwice, "") {
            return true;
        }
        let foreign: &[&str] = if prefixed(&case.scheme.syntax) { &FOREIGN } else { &[] };
        for foreign in foreign.iter().filter(|foreign| rest.starts_with(foreign.as_bytes())) {
            let bare = rest.get(foreign.len()..).unwrap_or_default();
            let what = format!("begins with `{foreign}`, which is not in the scheme");
            if tried(&[prefix, bare].concat(), Mistake::HeaderPrefix, &what) {
                return true;
            }
        }
        if let Some(bare) = behind_other_prefix(value, prefix)
            && tried(&[prefix, bare].concat(), Mistake::HeaderPrefix, "has its prefix in another form")
        {
            return true;
        }
        // What had commas already, twice: `t=1,v1=a,t=1,v1=a`.
        let (once, again) = value.split_at(value.len() / 2);
        let once = once.trim_ascii_end().strip_suffix(b",").unwrap_or(once);
        let again = again.trim_ascii_start();
        if once == again.strip_prefix(b",").unwrap_or(again).trim_ascii_start()
            && tried(once, Mistake::HeaderJoined, "")
        {
            return true;
        }
        for part in value.split(|byte| *byte == b',').take(8).map(<[u8]>::trim_ascii) {
            if tried(part, Mistake::HeaderJoined, "") {
                return true;
            }
        }
        if value.contains(&b'%') && tried(&text::percent_decoded(value, false), Mistake::HeaderPercent, "") {
            return true;
        }
        if twice_encoded(case, value, &mut tried) {
            return true;
        }
    }
    false
}

/// What stands behind the prefix where that is in another case, or ends with another separator: `SHA256=`, `sha256:`.
fn behind_other_prefix<'v>(value: &'v [u8], prefix: &[u8]) -> Option<&'v [u8]> {
    let word = prefix.split_last().map(|(_, word)| word).filter(|word| !word.is_empty())?;
    let (start, rest) = value.split_at_checked(word.len())?;
    let (separator, rest) = rest.split_first()?;
    (start.eq_ignore_ascii_case(word) && b"=:,-_ ".contains(separator)).then(|| rest.trim_ascii_start())
}

/// The base64 of the hexadecimal digits, in each place where a signature stands.
fn twice_encoded(case: TriedCase<'_>, value: &[u8], tried: &mut dyn FnMut(&[u8], Mistake, &str) -> bool) -> bool {
    let syntax = &case.scheme.syntax;
    let candidates: Vec<Vec<u8>> = syntax.candidates(value).take(8).flatten().map(<[u8]>::to_vec).collect();
    candidates.iter().any(|candidate| {
        let digits = text::base64(candidate).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(bytes) = digits.as_deref().and_then(text::hex) else { return false };
        let right = case.scheme.encoding.encode(&bytes);
        let Some(at) = memchr::memmem::find(value, candidate) else { return false };
        let (before, after) = value.split_at(at);
        let after = after.get(candidate.len()..).unwrap_or_default();
        tried(&[before, right.as_bytes(), after].concat(), Mistake::HeaderBase64OfHex, "")
    })
}

pub(super) fn with_value(headers: Headers<'_>, name: &str, value: &[u8]) -> HeaderBuf {
    let mut out = HeaderBuf::default();
    for (known, old) in headers.iter() {
        let Ok(known) = core::str::from_utf8(known) else { continue };
        out.push(known, if known.eq_ignore_ascii_case(name) { value } else { old });
    }
    out
}

/// Fields that a proxy has renamed: `X-Forwarded-…`, `HTTP_…`, underscores.
pub(super) fn renamed(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let timestamp = case.scheme.timestamp.as_ref().map(|it| it.source.headers()).unwrap_or_default();
    let id = case.scheme.id.as_ref().map(Source::headers).unwrap_or_default();
    let mut headers = HeaderBuf::default();
    case.seen.headers.iter().for_each(|(name, value)| {
        core::str::from_utf8(name).into_iter().for_each(|name| headers.push(name, value));
    });
    let mut first = None;
    for wanted in [names(case), timestamp, id] {
        if wanted.iter().any(|name| case.seen.headers.all(name).next().is_some()) {
            continue;
        }
        for (name, value) in case.seen.headers.iter() {
            let given = plain(name);
            if let Some(known) = wanted.iter().find(|known| given == plain(known.as_bytes())) {
                headers.push(known, value);
                first = first.or_else(|| Some((known.clone(), quoted(name))));
                break;
            }
        }
    }
    let Some((wanted, given)) = first else { return false };
    visit(case.with_headers(headers.view()), Mistake::HeaderRenamed, &[&wanted, &given])
}

/// A name without what proxies and gateways put in front of it.
fn plain(name: &[u8]) -> Vec<u8> {
    let small: Vec<u8> = name.iter().map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }).collect();
    let mut rest = small.as_slice();
    for prefix in ["http-", "x-forwarded-", "x-original-", "x-amzn-remapped-", "x-goog-meta-", "x-"] {
        rest = rest.strip_prefix(prefix.as_bytes()).unwrap_or(rest);
    }
    rest.to_vec()
}

/// Words in the names of headers that have signatures.
const WORDS: [&str; 4] = ["signature", "hmac", "x-hub-", "digest"];

/// Headers that may have a signature, with their names.
pub(super) fn similar(case: TriedCase<'_>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (name, _) in case.seen.headers.iter() {
        let name = quoted(name);
        let small = name.to_ascii_lowercase();
        let new = !found.contains(&name) && found.len() < 8;
        if new
            && !names(case).iter().any(|own| own.eq_ignore_ascii_case(&name))
            && WORDS.iter().any(|it| small.contains(it))
        {
            found.push(name);
        }
    }
    found
}

/// A signature in another header, with whatever hash: `X-Hub-Signature` beside `X-Hub-Signature-256`. A header that belongs to
/// another scheme has not been renamed: [`super::search`] names that scheme.
pub(super) fn elsewhere(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let Some(wanted) = names(case).first() else { return false };
    let there = names(case).iter().any(|it| case.seen.headers.all(it).next().is_some());
    if !matches!(case.scheme.kind, Kind::Hmac(_)) || there {
        return false;
    }
    let similar = similar(case);
    let kinds = [case.scheme.kind].into_iter().chain(MACS.into_iter().filter(|kind| *kind != case.scheme.kind));
    kinds.into_iter().any(|kind| {
        similar.iter().any(|name| {
            let legacy = kind == MACS[1] && case.scheme.kind != kind && begins_with(wanted, name);
            // What may be another sender's is this one's only where the request shows its sender.
            if belongs_to_another(case, name) && !is_of_sender(case) {
                return false;
            }
            let value = case.seen.header(name).unwrap_or_default();
            let prefix = ["sha1=", "sha256=", "sha512="].into_iter().find(|it| value.starts_with(it.as_bytes()));
            let prefix =
                prefix.or_else(|| Some(prefix_of(&case.scheme.syntax)).filter(|it| value.starts_with(it.as_bytes())));
            let scheme = case.changed_scheme(|scheme| {
                scheme.kind = kind;
                scheme.signature = SignatureSource::Headers(vec![name.clone()]);
                if !matches!(scheme.syntax, Syntax::Pairs { .. }) {
                    scheme.syntax = Syntax::Single { prefix: prefix.unwrap_or_default().to_owned() };
                }
            });
            let mistake = if legacy { Mistake::HeaderLegacy } else { Mistake::HeaderRenamed };
            let details = if legacy { [name.as_str(), wanted.as_str()] } else { [wanted.as_str(), name.as_str()] };
            visit(TriedCase { scheme: &scheme, ..case }, mistake, &details)
        })
    })
}

/// Whether something else in the head is of the sender of the scheme: `X-GitHub-Event`, `User-Agent: GitHub-Hookshot/1`.
fn is_of_sender(case: TriedCase<'_>) -> bool {
    let id = case.scheme.id.as_ref().map(Source::headers).unwrap_or_default();
    let sender = case.scheme.name.to_ascii_lowercase();
    let has = |text: &[u8]| memchr::memmem::find(&text.to_ascii_lowercase(), sender.as_bytes()).is_some();
    id.iter().any(|name| case.seen.headers.all(name).next().is_some())
        || case
            .seen
            .headers
            .iter()
            .any(|(name, value)| has(name) || name.eq_ignore_ascii_case(b"User-Agent") && has(value))
}

/// The header of another scheme that the request has, where the header of this one is a newer form of it.
pub(super) fn older_header<'s>(case: TriedCase<'_>, other: &'s Scheme) -> Option<&'s str> {
    let SignatureSource::Headers(theirs) = &other.signature else { return None };
    let wanted = names(case).first()?;
    let older = theirs.iter().find(|name| name.len() < wanted.len() && begins_with(wanted, name))?;
    case.seen.header(older).map(|_| older.as_str())
}

fn begins_with(name: &str, start: &str) -> bool {
    name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
}

fn belongs_to_another(case: TriedCase<'_>, name: &str) -> bool {
    case.known.schemes.iter().any(|scheme| match &scheme.signature {
        SignatureSource::Headers(names) => {
            scheme.name != case.scheme.name && names.iter().any(|other| other.eq_ignore_ascii_case(name))
        }
        _ => false,
    })
}
