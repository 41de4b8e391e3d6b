//! Public keys in every form in which senders publish them, and signatures of RSA and of P-384.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use core::time::Duration;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign::gate::verify::{
    Encoding, Key, Keyring, Kind, PublicAlgorithm, Scheme, SignInput, Template, Validity, Verifier, Work, sign,
};
use countersign::now::Now;
use countersign::outcome::Rejection;
use countersign::wire::headers::HeaderBuf;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

use support::Received;

const NOW: Now = Now::at_unix(Duration::from_secs(1_760_000_000));
const PRIVATE: &str = include_str!("keys/rsa-1.pem");
const PUBLIC: &str = include_str!("keys/rsa-1.pub.pem");
const OTHER: &str = include_str!("keys/rsa-2.pub.pem");
const RSA: [PublicAlgorithm; 6] = [
    PublicAlgorithm::RsaPkcs1Sha256,
    PublicAlgorithm::RsaPkcs1Sha384,
    PublicAlgorithm::RsaPkcs1Sha512,
    PublicAlgorithm::RsaPssSha256,
    PublicAlgorithm::RsaPssSha384,
    PublicAlgorithm::RsaPssSha512,
];

fn received(signature: &str, body: &[u8]) -> Received {
    let mut headers = HeaderBuf::default();
    headers.push("X-Signature", signature.as_bytes());
    Received::of(headers, body.to_vec())
}

fn scheme(algorithm: PublicAlgorithm) -> Arc<Scheme> {
    let content = Template::parse("{body}").unwrap();
    let scheme = Scheme::new("own", Kind::Public(algorithm), "X-Signature", content);
    Arc::new(Scheme { encoding: Encoding::Base64, ..scheme })
}

fn verifier(scheme: &Arc<Scheme>, keys: &[&str]) -> Verifier {
    let key = |text: &&str| Key::from_public("1", scheme, text, Validity::default());
    let keys = keys.iter().map(|text| key(text).unwrap_or_else(|error| panic!("{text}: {error}"))).collect();
    Verifier::new(Arc::clone(scheme), Keyring::new(keys), None, None).unwrap()
}

fn signed(scheme: &Scheme, private: &[u8], body: &[u8]) -> String {
    let input = SignInput { method: "POST", url: "https://h/", headers: &[], body, now: NOW, id: None };
    sign(scheme, private, &input).unwrap().pop().unwrap().1
}

fn verdict(verifier: &Verifier, delivery: &Received) -> Result<(), Rejection> {
    let check = verifier.begin(delivery, NOW)?;
    verifier.finish(check, delivery, NOW).map(|_| ()).map_err(|(rejection, _)| rejection)
}

fn block(pem: &str) -> Vec<u8> {
    STANDARD.decode(pem.lines().filter(|line| !line.starts_with("---")).collect::<String>()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_algorithm_of_rsa_takes_its_own_signatures_and_no_others() {
    for algorithm in RSA {
        let scheme = scheme(algorithm);
        let good = signed(&scheme, PRIVATE.as_bytes(), b"{}");
        for other in RSA {
            let verifier = verifier(&self::scheme(other), &[PUBLIC]);
            let expected = if other == algorithm { Ok(()) } else { Err(Rejection::SignatureMismatch) };
            assert_eq!(verdict(&verifier, &received(&good, b"{}")), expected, "{algorithm:?} {other:?}");
            assert_eq!(verdict(&verifier, &received(&good, b"{} ")), Err(Rejection::SignatureMismatch));
        }
        let both = verifier(&scheme, &[OTHER, PUBLIC]);
        assert_eq!(verdict(&both, &received(&good, b"{}")), Ok(()));
        assert_eq!(verdict(&verifier(&scheme, &[OTHER]), &received(&good, b"{}")), Err(Rejection::SignatureMismatch));
        for length in [255, 1025] {
            let odd = STANDARD.encode(vec![1; length]);
            assert_eq!(verdict(&both, &received(&odd, b"{}")), Err(Rejection::SignatureMalformed), "{length}");
        }
    }
}

/// The number of bytes behind a DER length of two bytes that follows a tag.
fn integers(pkcs1: &[u8]) -> (&[u8], &[u8]) {
    // SEQUENCE (4 bytes), INTEGER (4 bytes and a zero), 256 bytes of modulus, INTEGER (2 bytes), the exponent.
    (&pkcs1[9..265], &pkcs1[267..])
}

#[test]
fn a_key_of_rsa_is_taken_in_every_form() {
    let scheme = scheme(PublicAlgorithm::RsaPkcs1Sha256);
    let good = received(&signed(&scheme, PRIVATE.as_bytes(), b"{}"), b"{}");
    let (spki, pkcs1) = (block(PUBLIC), block(include_str!("keys/rsa-1.pkcs1.pem")));
    let certificate = include_str!("keys/rsa-1.crt.pem");
    let (modulus, exponent) = integers(&pkcs1);
    let jwk = format!(
        r#"{{"kty":"RSA","use":"sig","alg":"RS256","kid":"1","n":"{}","e":"{}"}}"#,
        URL_SAFE_NO_PAD.encode(modulus),
        URL_SAFE_NO_PAD.encode(exponent)
    );
    for text in [
        PUBLIC.to_owned(),
        format!("\n{PUBLIC}\n"),
        include_str!("keys/rsa-1.pkcs1.pem").to_owned(),
        certificate.to_owned(),
        STANDARD.encode(&spki),
        URL_SAFE_NO_PAD.encode(&spki),
        hex(&spki),
        STANDARD.encode(&pkcs1),
        STANDARD.encode(block(certificate)),
        jwk.clone(),
    ] {
        assert_eq!(verdict(&verifier(&scheme, &[&text]), &good), Ok(()), "{text}");
    }
    // A private key, a key of another kind, a short one, and what is none.
    let small = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu\n\
                 KUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==\n-----END PUBLIC KEY-----";
    let ed25519 = "MCowBQYDK2VwAyEA1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
    let private = jwk.replace("\"kid\"", "\"d\":\"AQAB\",\"kid\"");
    let truncated = &PUBLIC[..PUBLIC.len() - 40];
    for text in [PRIVATE, small, ed25519, &private, truncated, "{}", "{\"kty\":\"oct\",\"k\":\"AQAB\"}", "", "{", "00"]
    {
        assert!(Key::from_public("1", &scheme, text, Validity::default()).is_err(), "{text}");
    }
}

#[test]
fn p384_is_verified_and_costs_what_it_takes() {
    let scheme = scheme(PublicAlgorithm::EcdsaP384Sha384);
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, document.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let good = received(&signed(&scheme, document.as_ref(), b"{}"), b"{}");
    let (x, y) = point[1..].split_at(48);
    let jwk = format!(
        r#"{{"kty":"EC","crv":"P-384","x":"{}","y":"{}"}}"#,
        URL_SAFE_NO_PAD.encode(x),
        URL_SAFE_NO_PAD.encode(y)
    );
    let spki = [&STANDARD.decode("MHYwEAYHKoZIzj0CAQYFK4EEACIDYgA=").unwrap(), point].concat();
    for text in [hex(point), STANDARD.encode(spki), jwk.clone()] {
        let verifier = verifier(&scheme, &[&text]);
        assert_eq!(verdict(&verifier, &good), Ok(()), "{text}");
        assert_eq!(verifier.work_left(&good), Work { pieces: 1, bytes: 2 + (256 << 10) });
    }
    assert!(Key::from_public("1", &scheme, &jwk.replace("P-384", "P-256"), Validity::default()).is_err());
    let rsa = verifier(&self::scheme(PublicAlgorithm::RsaPkcs1Sha256), &[PUBLIC, OTHER]);
    let forged = received(&STANDARD.encode([1; 256]), b"{}");
    assert_eq!(rsa.work_left(&forged), Work { pieces: 2, bytes: 2 + (64 << 10) });
}
