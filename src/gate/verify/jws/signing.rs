//! Makes tokens as a sender would: for `sign`, for demonstrations and for tests.

use super::super::Delivery;
use super::super::mac::{FixedDigest, Hasher};
use super::super::private_key;
use super::super::scheme::{Scheme, Source};
use super::super::signature::Encoding;
use super::super::url::PublicUrl;
use super::algorithm::JwsAlgorithm;
use super::query_hash;
use crate::now::Now;

/// How long a token lasts, in seconds.
const LIFETIME: u64 = 300;

/// What a token is made about.
#[derive(Clone, Copy)]
pub(in super::super) struct TokenDraft<'d, D> {
    pub(in super::super) scheme: &'d Scheme,
    pub(in super::super) delivery: &'d D,
    pub(in super::super) public_url: &'d PublicUrl,
    pub(in super::super) now: Now,
    pub(in super::super) id: Option<&'d str>,
}

/// The token, or nothing where `key` cannot sign: for a keyed hash its decoded bytes, else a private key.
pub(in super::super) fn sign<D: Delivery>(
    draft: &TokenDraft<'_, D>,
    algorithm: JwsAlgorithm,
    key: &[u8],
) -> Option<String> {
    let header = format!("{{\"alg\":\"{}\",\"typ\":\"JWT\"}}", algorithm.name());
    let encode = |text: &str| Encoding::Base64Url.encode(text.as_bytes());
    let signed = format!("{}.{}", encode(&header), encode(&claims(draft)?));
    let signature = match algorithm {
        JwsAlgorithm::Mac(mac) => {
            let mut hasher = Hasher::mac(&mac.key(key));
            hasher.update(signed.as_bytes());
            hasher.finish().reveal().to_vec()
        }
        JwsAlgorithm::Public(public) => private_key::sign(public, key, signed.as_bytes())?,
    };
    Some(format!("{signed}.{}", Encoding::Base64Url.encode(&signature)))
}

/// The claims that the scheme judges, each with the first value that passes.
fn claims<D: Delivery>(draft: &TokenDraft<'_, D>) -> Option<String> {
    let (rules, delivery) = (&draft.scheme.token, draft.delivery);
    let seconds = draft.now.unix.as_secs();
    let mut members = serde_json::Map::new();
    members.insert("iat".to_owned(), seconds.into());
    members.insert("exp".to_owned(), (seconds + LIFETIME).into());
    for rule in &rules.claims {
        let value = rule.values.first().map(String::as_str).unwrap_or_default();
        let value = match value.parse::<bool>() {
            Ok(truth) => truth.into(),
            Err(_) => value.into(),
        };
        members.insert(rule.name.clone(), value);
    }
    if let Some(digest) = &rules.body_digest {
        let text = FixedDigest::of(delivery.body()).encode(digest.encoding);
        members.insert(digest.claim.clone(), text.into());
    }
    if let Some(claim) = &rules.query_hash {
        let hash = query_hash::of(delivery.method(), delivery.target(), Some(draft.public_url)).ok()?;
        members.insert(claim.clone(), hash.encode(Encoding::Hex).into());
    }
    if let Some(Source::Claim(claim)) = draft.scheme.timestamp.as_ref().map(|timestamp| &timestamp.source) {
        members.insert(claim.clone(), seconds.into());
    }
    if let (Some(Source::Claim(claim)), Some(id)) = (&draft.scheme.id, draft.id) {
        members.insert(claim.clone(), id.into());
    }
    serde_json::to_string(&members).ok()
}
