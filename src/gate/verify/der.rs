//! As much of DER (X.690) as public keys are wrapped in: SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7), PKCS#1 (RFC 8017,
//! appendix A.1.1), and certificates, of which only the key counts. What is read is what an operator has configured.

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// `[0]`, in which a certificate has its version.
const VERSION: u8 = 0xa0;

/// One value: its tag, its content, and what is behind it. Lengths of up to three bytes.
fn read(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// The content of a value with this tag, and what is behind it.
fn expect(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    read(der).filter(|(tag, ..)| *tag == wanted).map(|(_, content, rest)| (content, rest))
}

/// The content of a sequence that is all there is.
fn whole(der: &[u8]) -> Option<&[u8]> {
    expect(der, SEQUENCE).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
}

/// What a SubjectPublicKeyInfo says.
pub(super) struct Wrapped<'d> {
    /// The object identifier of the algorithm, without tag and length.
    pub(super) algorithm: &'d [u8],
    /// The object identifier of the curve, where that is the parameter.
    pub(super) curve: Option<&'d [u8]>,
    /// The key.
    pub(super) key: &'d [u8],
}

/// Takes a SubjectPublicKeyInfo apart, or the one of a certificate.
pub(super) fn unwrap(der: &[u8]) -> Option<Wrapped<'_>> {
    let content = whole(der)?;
    wrapped(content).or_else(|| wrapped(whole_key_of_certificate(content)?))
}

fn wrapped(content: &[u8]) -> Option<Wrapped<'_>> {
    let (identifier, rest) = expect(content, SEQUENCE)?;
    let (key, rest) = expect(rest, BIT_STRING)?;
    let (algorithm, parameters) = expect(identifier, OBJECT)?;
    let curve = expect(parameters, OBJECT).map(|(curve, _)| curve);
    // The first byte says how many bits of the last are unused: none.
    let key = key.strip_prefix(&[0]).filter(|_| rest.is_empty())?;
    Some(Wrapped { algorithm, curve, key })
}

/// The content of the SubjectPublicKeyInfo in the content of a certificate: behind version, serial number, algorithm,
/// issuer, validity and subject.
fn whole_key_of_certificate(content: &[u8]) -> Option<&[u8]> {
    let (mut rest, _) = expect(content, SEQUENCE)?;
    if let Some((_, behind)) = expect(rest, VERSION) {
        rest = behind;
    }
    rest = expect(rest, INTEGER)?.1;
    for _ in 0..4 {
        rest = expect(rest, SEQUENCE)?.1;
    }
    expect(rest, SEQUENCE).map(|(key, _)| key)
}

/// How many bits the modulus of a public key in PKCS#1 has, if it is one.
pub(super) fn modulus_bits(pkcs1: &[u8]) -> Option<usize> {
    let (modulus, rest) = expect(whole(pkcs1)?, INTEGER)?;
    let (_, rest) = expect(rest, INTEGER)?;
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    let first = modulus.first().filter(|first| **first != 0 && rest.is_empty())?;
    Some(8 * modulus.len() - usize::try_from(first.leading_zeros()).ok()?)
}

/// A public key in PKCS#1, of its modulus and its exponent as numbers without sign.
pub(super) fn pkcs1(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let number = |digits: &[u8]| {
        let digits = digits.iter().position(|digit| *digit != 0).and_then(|at| digits.get(at..)).unwrap_or_default();
        let sign: &[u8] = if digits.first().is_none_or(|digit| digit & 0x80 != 0) { &[0] } else { &[] };
        value(INTEGER, &[sign, digits].concat())
    };
    value(SEQUENCE, &[number(modulus), number(exponent)].concat())
}

fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let digits = content.len().to_be_bytes();
    let digits = digits.iter().position(|digit| *digit != 0).and_then(|at| digits.get(at..)).unwrap_or(&[0]);
    let mut out = vec![tag];
    match digits {
        [short @ 0..=0x7f] => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(0x7f));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(modulus in prop::collection::vec(1_u8.., 1..600), exponent in prop::collection::vec(1_u8.., 1..5)) {
            let key = pkcs1(&[&[0, 0], modulus.as_slice()].concat(), &exponent);
            let bits = 8 * modulus.len() - modulus[0].leading_zeros() as usize;
            prop_assert_eq!(modulus_bits(&key), Some(bits));
            prop_assert_eq!(modulus_bits(&[key.as_slice(), &[0]].concat()), None);
        }

        #[test]
        fn nothing_panics(der in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (unwrap(&der).is_some(), modulus_bits(&der));
        }
    }
}
