//! Static credentials: a token in a header, query, form or JSON field, or `Authorization: Basic`.

use super::Delivery;
use super::keyring::{Keyring, Material};
use super::mac::Fingerprint;
use super::reading::{self, CREDENTIAL};
use super::scheme::{Kind, Scheme, SignatureSource};
use super::signature::{Encoding, Syntax, VALUE_LIMIT};
use crate::now::Now;
use crate::outcome::Rejection;

/// The place in the ring of the key whose credential the request carries.
pub(super) fn recognise<D: Delivery>(
    scheme: &Scheme,
    keyring: &Keyring,
    delivery: &D,
    now: Now,
) -> Result<usize, Rejection> {
    let mut matched = None;
    // The body brings a credential in each of its items, and one that lacks it is not of the sender.
    let each = matches!(&scheme.signature, SignatureSource::Json(path) if path.has_each());
    reading::signature_values(scheme, delivery, CREDENTIAL, |value| {
        let presented = presented(scheme, value).ok_or(Rejection::CredentialMismatch)?;
        let mut known = None;
        for (index, key) in keyring.active(now) {
            if let Material::Credential(expected) = key.material()
                && expected.matches(&presented)
                && known.is_none()
            {
                known = Some(index);
            }
        }
        matched = matched.or(known);
        if each && known.is_none() { Err(Rejection::CredentialMismatch) } else { Ok(()) }
    })?;
    matched.ok_or(Rejection::CredentialMismatch)
}

fn presented(scheme: &Scheme, value: &[u8]) -> Option<Fingerprint> {
    if value.len() > VALUE_LIMIT {
        return None;
    }
    match (scheme.kind, &scheme.syntax) {
        (Kind::Basic, _) => {
            let (word, rest) = value.split_at_checked("basic ".len())?;
            let mut decoded = [0; VALUE_LIMIT];
            let length = word
                .eq_ignore_ascii_case(b"basic ")
                .then(|| Encoding::Base64.decode_into(rest.trim_ascii(), &mut decoded))??;
            Some(Fingerprint::of(decoded.get(..length)?))
        }
        (_, Syntax::Single { prefix }) => value.strip_prefix(prefix.as_bytes()).map(Fingerprint::of),
        _ => None,
    }
}
