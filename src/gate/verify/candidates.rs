//! The signatures of a delivery on which public keys are tried: few, decoded once, and counted before anything is
//! computed.

use super::Delivery;
use super::reading;
use super::scheme::Scheme;
use super::signature::{PUBLIC_CANDIDATE_LIMIT, Signature};
use crate::outcome::Rejection;

/// What the arithmetic of one verification costs beside hashing, as a number of hashed bytes.
pub(super) const VERIFICATION: usize = 64 << 10;

/// The signatures that a delivery brings, at most [`PUBLIC_CANDIDATE_LIMIT`].
pub(super) struct Candidates {
    signatures: [Option<Signature>; PUBLIC_CANDIDATE_LIMIT],
}

impl Candidates {
    /// Reads them.
    pub(super) fn of<D: Delivery>(scheme: &Scheme, delivery: &D) -> Result<Self, Rejection> {
        let mut signatures = [None; PUBLIC_CANDIDATE_LIMIT];
        let mut places = signatures.iter_mut();
        reading::signatures(scheme, delivery, |signature| {
            places.next().into_iter().for_each(|place| *place = Some(*signature));
        })?;
        Ok(Self { signatures })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.signatures.iter().flatten().count()
    }

    /// Whether one of them satisfies `test`.
    pub(super) fn any(&self, mut test: impl FnMut(&[u8]) -> bool) -> bool {
        self.signatures.iter().flatten().any(|signature| test(signature.bytes()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::super::asymmetric::VERIFICATIONS;
    use super::super::tests::Request;
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
        let now = Now::at_unix(core::time::Duration::from_secs(1_760_000_000));
        let foretold = verifier.work_left(request);
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
            Verifier::new(Arc::new(scheme.clone()), keys, None, url).unwrap().work_left(&request) / LENGTH
        };
        assert_eq!(work("{body}", 1, UrlPort::AsConfigured), 0);
        assert_eq!(work("{body}", 3, UrlPort::AsConfigured), 2);
        assert_eq!(work("{url}.{body}", 2, UrlPort::Either), 3);
        assert_eq!(work("{sorted_form_params}", 1, UrlPort::AsConfigured), 1);
        assert_eq!(Verifier::none().work_left(&request), 0);
    }
}
