//! `token` of a scheme table, and `claims` of a route: what is asked of a JSON Web Token beside its signature.

use core::time::Duration;

use crate::config::reader::{Reader, set};
use crate::gate::verify::jws::rules::{CLAIM_LIMIT, LEEWAY_LIMIT};
use crate::gate::verify::{
    ClaimDigest, ClaimRule, Encoding, JwsAlgorithm, Kind, MacAlgorithm, PublicAlgorithm, TokenRules,
};

/// The algorithms of tokens, as a scheme table names them.
pub(super) const TOKEN_ALGORITHMS: [(&str, Kind); 12] = [
    ("jwt-hs256", Kind::Jws(JwsAlgorithm::Mac(MacAlgorithm::HmacSha256))),
    ("jwt-hs384", Kind::Jws(JwsAlgorithm::Mac(MacAlgorithm::HmacSha384))),
    ("jwt-hs512", Kind::Jws(JwsAlgorithm::Mac(MacAlgorithm::HmacSha512))),
    ("jwt-rs256", Kind::Jws(JwsAlgorithm::Public(PublicAlgorithm::RsaPkcs1Sha256))),
    ("jwt-rs384", Kind::Jws(JwsAlgorithm::Public(PublicAlgorithm::RsaPkcs1Sha384))),
    ("jwt-rs512", Kind::Jws(JwsAlgorithm::Public(PublicAlgorithm::RsaPkcs1Sha512))),
    ("jwt-ps256", Kind::Jws(JwsAlgorithm::Public(PublicAlgorithm::RsaPssSha256))),
    ("jwt-ps384", Kind::Jws(JwsAlgorithm::Public(PublicAlgorithm::RsaPssSha384))),
    ("jwt-ps512", Kind::Jws(JwsAlgorithm::Public(PublicAlgorithm::RsaPssSha512))),
    ("jwt-es256", Kind::Jws(JwsAlgorithm::Public(PublicAlgorithm::EcdsaP256Sha256Fixed))),
    ("jwt-es384", Kind::Jws(JwsAlgorithm::Public(PublicAlgorithm::EcdsaP384Sha384Fixed))),
    ("jwt-eddsa", Kind::Jws(JwsAlgorithm::Public(PublicAlgorithm::Ed25519))),
];

const ENCODINGS: &[(&str, Encoding)] =
    &[("hex", Encoding::Hex), ("base64", Encoding::Base64), ("base64url", Encoding::Base64Url)];

/// Reads `token` of a scheme table, or nothing where anything in it is wrong.
pub(super) fn read_token(reader: &Reader<'_>) -> Option<TokenRules> {
    let mut rules = TokenRules::default();
    if !reader.has("token") {
        return Some(rules);
    }
    let table = reader.table("token")?;
    set(&mut rules.claims, read_claims(&table));
    let route_claims = table.strings("route_claims").unwrap_or_default();
    rules.route_claims = route_claims.into_iter().map(str::to_owned).collect();
    rules.query_hash = table.string("query_hash").map(str::to_owned);
    rules.key_claim = table.string("key_claim").map(str::to_owned);
    set(&mut rules.expires, table.bool("expires"));
    set(&mut rules.leeway, table.duration("leeway", Duration::ZERO..=LEEWAY_LIMIT));
    if table.has("body_digest")
        && let Some(digest) = table.table("body_digest")
    {
        digest.require("claim", "name the claim that holds the SHA-256 of the body");
        digest.require("encoding", "say how it is written: \"hex\", \"base64\" or \"base64url\"");
        let (claim, encoding) = (digest.string("claim"), digest.choice("encoding", ENCODINGS));
        let unless_empty = digest.bool("unless_empty").unwrap_or_default();
        if let (Some(claim), Some(encoding)) = (claim, encoding) {
            rules.body_digest = Some(ClaimDigest { claim: claim.to_owned(), encoding, unless_empty });
        }
        if digest.failed() {
            table.mark_failed();
        }
        digest.finish();
    }
    let sound = !table.failed();
    table.finish();
    sound.then_some(rules)
}

/// `claims = { aud = "…", email = ["…", "…"] }`: each name with the values that pass.
pub(super) fn read_claims(reader: &Reader<'_>) -> Option<Vec<ClaimRule>> {
    if !reader.has("claims") {
        return None;
    }
    let table = reader.table("claims")?;
    let mut claims = Vec::new();
    for name in table.names() {
        let values = match table.is_bool(name) {
            true => table.bool(name).map(|truth| vec![truth.to_string()]),
            false => table.one_or_more(name).map(|values| values.into_iter().map(str::to_owned).collect()),
        };
        let values: Vec<String> = values.unwrap_or_default();
        if values.is_empty() || values.iter().any(String::is_empty) {
            table.error(name, "has no value", "write the value that the token must have");
        }
        claims.push(ClaimRule { name: name.to_owned(), values });
    }
    if claims.len() > CLAIM_LIMIT {
        reader.error("claims", format!("has more than {CLAIM_LIMIT} claims"), "keep those that matter");
    }
    if table.failed() {
        reader.mark_failed();
    }
    table.finish();
    Some(claims)
}

/// A URL at which keys are published: one of its own, never one with a name, a password, a query or a fragment.
pub(super) fn read_keys_url(reader: &Reader<'_>, key: &str) -> Option<String> {
    let url = reader.string(key)?;
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let (host, path) = rest.split_once('/').unwrap_or_default();
    let clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}?#".contains(&byte));
    if host.is_empty() || host.contains('@') || !clean(host) || !clean(path) || url.len() > 1024 {
        let fix = "write https://, a host and a path: url = \"https://sender.example/.well-known/jwks.json\"";
        reader.error(key, "is no URL that keys can be fetched from", fix);
        return None;
    }
    Some(url.to_owned())
}
