//! Private keys, and the signatures they make: for `sign`, for demonstrations and for tests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use zeroize::Zeroizing;

use super::asymmetric::PublicAlgorithm;

/// What stands before the base64 of an Ed25519 key as Standard Webhooks writes it (its specification, asymmetric
/// signatures; svix-server, README).
const ED25519_PREFIXES: [&str; 2] = ["v1a,whsk_", "whsk_"];

/// The signature of `content`. `key` is a private key in PKCS#8, as PEM or DER; for Ed25519 also the base64 of its seed,
/// with the public key behind it or without, as Standard Webhooks writes it (`whsk_…`). Nothing where it is none, and for
/// SHA-1, with which ring verifies and does not sign.
pub(super) fn sign(algorithm: PublicAlgorithm, key: &[u8], content: &[u8]) -> Option<Vec<u8>> {
    match algorithm {
        PublicAlgorithm::Ed25519 => Some(ed25519(key)?.sign(content).as_ref().to_vec()),
        PublicAlgorithm::EcdsaP256Sha256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, key, content),
        PublicAlgorithm::EcdsaP384Sha384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, key, content),
        PublicAlgorithm::EcdsaP256Sha256Fixed => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, key, content),
        PublicAlgorithm::EcdsaP384Sha384Fixed => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, key, content),
        PublicAlgorithm::RsaPkcs1Sha1 => None,
        PublicAlgorithm::RsaPkcs1Sha256 => rsa(&RSA_PKCS1_SHA256, key, content),
        PublicAlgorithm::RsaPkcs1Sha384 => rsa(&RSA_PKCS1_SHA384, key, content),
        PublicAlgorithm::RsaPkcs1Sha512 => rsa(&RSA_PKCS1_SHA512, key, content),
        PublicAlgorithm::RsaPssSha256 => rsa(&RSA_PSS_SHA256, key, content),
        PublicAlgorithm::RsaPssSha384 => rsa(&RSA_PSS_SHA384, key, content),
        PublicAlgorithm::RsaPssSha512 => rsa(&RSA_PSS_SHA512, key, content),
    }
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, key: &[u8], content: &[u8]) -> Option<Vec<u8>> {
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der(key)?, &random).ok()?;
    Some(pair.sign(&random, content).ok()?.as_ref().to_vec())
}

fn rsa(encoding: &'static dyn RsaEncoding, key: &[u8], content: &[u8]) -> Option<Vec<u8>> {
    let pair = RsaKeyPair::from_pkcs8(&der(key)?).ok()?;
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), content, &mut signature).ok()?;
    Some(signature)
}

fn ed25519(key: &[u8]) -> Option<Ed25519KeyPair> {
    if let Some(bytes) = seed(key) {
        return match bytes.split_first_chunk::<32>()? {
            (seed, []) => Ed25519KeyPair::from_seed_unchecked(seed).ok(),
            (seed, public) => Ed25519KeyPair::from_seed_and_public_key(seed, public).ok(),
        };
    }
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der(key)?).ok()
}

/// The seed, and the public key behind it where it is there.
fn seed(key: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = core::str::from_utf8(key).ok()?.trim();
    let bare = ED25519_PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    let bytes = STANDARD.decode(bare).ok().map(Zeroizing::new)?;
    matches!(bytes.len(), 32 | 64).then_some(bytes)
}

fn der(key: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let Some(pem) =
        core::str::from_utf8(key).ok().and_then(|text| text.trim().strip_prefix("-----BEGIN PRIVATE KEY-----"))
    else {
        return Some(Zeroizing::new(key.to_vec()));
    };
    let body: Zeroizing<String> =
        Zeroizing::new(pem.strip_suffix("-----END PRIVATE KEY-----")?.split_ascii_whitespace().collect());
    STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new)
}
