//! The signatures of a delivery on which public keys are tried: few, counted before anything is computed, and one after
//! the other, so that the caller can let other connections go first in between.

use super::Delivery;
use super::keyring::{Keyring, Material};
use super::mac::{self, Tag};
use super::pinned::PinnedKey;
use super::reading;
use super::scheme::Scheme;
use super::signature::{PUBLIC_CANDIDATE_LIMIT, SIGNATURE_LIMIT};
use crate::now::Now;
use crate::outcome::Rejection;

/// What is left to be computed of a delivery whose body is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// How many pieces it has at most.
    pub pieces: usize,
    /// About how many bytes are hashed for one of them.
    pub bytes: usize,
}

/// The signatures that a delivery brings, at most [`PUBLIC_CANDIDATE_LIMIT`] of them.
pub(super) struct Candidates {
    signatures: Vec<Box<[u8]>>,
}

impl Candidates {
    /// Reads them.
    pub(super) fn of<D: Delivery>(scheme: &Scheme, delivery: &D) -> Result<Self, Rejection> {
        let mut signatures = Vec::with_capacity(PUBLIC_CANDIDATE_LIMIT);
        reading::signatures::<D, SIGNATURE_LIMIT>(scheme, delivery, |signature| {
            signatures.push(Box::from(signature.bytes()));
        })?;
        Ok(Self { signatures })
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.signatures.len()
    }
}

/// Public keys being tried on the signatures of a delivery. The signed content is put together once.
pub(super) struct Trial {
    content: Vec<u8>,
    /// Of the body that the content was made with.
    body_length: usize,
    candidates: Candidates,
    /// The key that the delivery names, where it names one.
    named: Option<PinnedKey>,
    /// What is tried next: a place in the ring, and a signature.
    next: (usize, usize),
    matched: Option<usize>,
}

impl Trial {
    pub(super) fn new(content: Vec<u8>, body_length: usize, candidates: Candidates) -> Self {
        Self { content, body_length, candidates, named: None, next: (0, 0), matched: None }
    }

    /// The same with the key that the delivery names.
    pub(super) fn with(self, named: Option<PinnedKey>) -> Self {
        Self { named, ..self }
    }

    /// Whether it is about a body of this length.
    pub(super) const fn is_of(&self, body_length: usize) -> bool {
        self.body_length == body_length
    }

    /// Tries one key on one signature. Whether there is more to be tried.
    pub(super) fn step(&mut self, keyring: &Keyring, now: Now) -> bool {
        while self.matched.is_none() {
            let (position, candidate) = self.next;
            let Some(key) = keyring.keys().get(position) else { return false };
            let signature = self.candidates.signatures.get(candidate);
            let (Some(signature), true) = (signature, key.validity().contains(now)) else {
                self.next = (position + 1, 0);
                continue;
            };
            let verifies = match key.material() {
                Material::Public(public) => public.verifies(&self.content, signature),
                Material::Published(keys) => keys.verifies(None, &self.content, signature),
                Material::Pinned(_) => self.named.as_ref().is_some_and(|key| key.verifies(&self.content, signature)),
                _ => false,
            };
            self.matched = verifies.then_some(position);
            self.next.1 += 1;
            let more = self.candidates.signatures.get(self.next.1).is_some();
            return self.matched.is_none() && (more || position + 1 < keyring.keys().len());
        }
        false
    }

    /// The key that has made one of the signatures, with a digest of what it has signed, if one has; nothing is left to be
    /// tried.
    pub(super) fn result(&self) -> Option<(usize, Tag)> {
        self.matched.map(|key| (key, mac::digest_tag(&self.content)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::super::asymmetric::{VERIFICATION, VERIFICATIONS};
    use super::super::for_tests::Request;
    use super::super::{Encoding, UrlPort};
    use super::super::{
        Key, Keyring, Kind, MacAlgorithm, PublicAlgorithm, Source, Syntax, Template, Validity, Verifier,
    };
    use super::*;
    use crate::now::Now;
    use crate::wire::headers::HeaderBuf;

    const LENGTH: usize = 1 << 20;

    fn scheme() -> Scheme {
        Scheme {
            syntax: Syntax::List { separator: b' ', prefix: "v1a,".into() },
            encoding: Encoding::Base64,
            id: Some(Source::Headers(vec!["webhook-id".into()])),
            ..Scheme::new(
                "signed",
                Kind::Public(PublicAlgorithm::Ed25519),
                "webhook-signature",
                Template::parse("{id}.{body}").unwrap(),
            )
        }
    }

    fn now() -> Now {
        Now::at_unix(core::time::Duration::from_secs(1_760_000_000))
    }

    /// A verifier with `count` keys, and what the last of them signs.
    fn keys(count: usize, content: &[u8]) -> (Verifier, String) {
        let scheme = scheme();
        let (mut keys, mut signature) = (Vec::new(), String::new());
        for id in 0..count {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
            let public = Encoding::Hex.encode(pair.public_key().as_ref());
            keys.push(Key::from_public(&id.to_string(), &scheme, &public, Validity::default()).unwrap());
            signature = Encoding::Base64.encode(pair.sign(content).as_ref());
        }
        (Verifier::new(Arc::new(scheme), Keyring::new(keys), None, None).unwrap(), signature)
    }

    fn request(signatures: &[&str]) -> Request {
        let mut headers = HeaderBuf::default();
        headers.push("webhook-id", b"1");
        let value: Vec<String> = signatures.iter().map(|signature| format!("v1a,{signature}")).collect();
        headers.push("webhook-signature", value.join(" ").as_bytes());
        Request { method: "POST".into(), target: "/".into(), headers, body: vec![b'x'; LENGTH] }
    }

    /// The verdict, how often a key was tried on a signature, and how many bytes of work were foretold.
    fn judged(verifier: &Verifier, request: &Request) -> (Result<(), Rejection>, usize, usize) {
        VERIFICATIONS.set(0);
        let now = now();
        let Work { pieces, bytes } = verifier.work_left(request);
        let foretold = pieces * bytes;
        let verdict = verifier
            .begin(request, now)
            .and_then(|check| verifier.finish(check, request, now).map(|_| ()).map_err(|(rejection, _)| rejection));
        (verdict, VERIFICATIONS.get(), foretold)
    }

    #[test]
    fn few_signatures_are_tried_and_their_number_is_known_before() {
        let content = [b"1.".as_slice(), &vec![b'x'; LENGTH]].concat();
        let random = Encoding::Base64.encode(&[0x5a; 64]);
        for count in [1, 4] {
            let (verifier, good) = keys(count, &content);
            // Sixteen cost nothing: they are refused when they have been counted.
            let many = request(&[random.as_str(); 16]);
            assert_eq!(judged(&verifier, &many), (Err(Rejection::SignatureMalformed), 0, 0));
            let five = request(&[good.as_str(), &random, &random, &random, &random]);
            assert_eq!(judged(&verifier, &five), (Err(Rejection::SignatureMalformed), 0, 0));
            let forged = request(&[random.as_str(); PUBLIC_CANDIDATE_LIMIT]);
            let work = PUBLIC_CANDIDATE_LIMIT * count * (LENGTH + VERIFICATION);
            let tried = PUBLIC_CANDIDATE_LIMIT * count;
            assert_eq!(judged(&verifier, &forged), (Err(Rejection::SignatureMismatch), tried, work));
            let mut check = verifier.begin(&forged, now()).unwrap();
            for step in 1..=tried {
                VERIFICATIONS.set(0);
                assert_eq!((verifier.advance(&mut check, &forged, now()), VERIFICATIONS.get()), (step < tried, 1));
            }
            assert!(!verifier.advance(&mut check, &forged, now()));
            assert_eq!(verifier.finish(check, &forged, now()).unwrap_err().0, Rejection::SignatureMismatch);
            assert_eq!(VERIFICATIONS.get(), 1, "what has been tried is not tried again");
            let genuine = request(&[random.as_str(), "bad", &good]);
            let (verdict, tried, _) = judged(&verifier, &genuine);
            assert_eq!((verdict, tried), (Ok(()), 2 * count));
        }
    }

    #[test]
    fn what_was_hashed_while_it_arrived_is_no_work_any_more() {
        let request = request(&[]);
        let work = |content: &str, secrets: usize, port: UrlPort| {
            let content = Template::parse(content).unwrap();
            let scheme = Scheme {
                url_port: port,
                ..Scheme::new("keyed", Kind::Hmac(MacAlgorithm::HmacSha256), "X-Signature", content)
            };
            let key = |id: usize| Key::from_secret(&id.to_string(), &scheme, b"secret", Validity::default()).unwrap();
            let url = scheme.signs_url().then(|| super::super::PublicUrl::parse("https://a.example").unwrap());
            let keys = Keyring::new((0..secrets).map(key).collect());
            Verifier::new(Arc::new(scheme.clone()), keys, None, url).unwrap().work_left(&request).bytes / LENGTH
        };
        assert_eq!(work("{body}", 1, UrlPort::AsConfigured), 0);
        assert_eq!(work("{body}", 3, UrlPort::AsConfigured), 2);
        assert_eq!(work("{url}{sorted_form_params}", 2, UrlPort::Either), 4);
        assert_eq!(work("{sorted_form_params}", 1, UrlPort::AsConfigured), 1);
        assert_eq!(Verifier::none().work_left(&request), Work::default());
    }
}
