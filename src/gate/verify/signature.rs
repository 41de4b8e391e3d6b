//! The grammar of signatures: how one or several of them are written into a value, and how their bytes are written.
//!
//! Everything here is bounded ([`VALUE_LIMIT`], [`CANDIDATE_LIMIT`]), allocates nothing, and is strict: a signature is
//! either exactly in the scheme's form or no signature. An item of a list that is none counts like one and is passed
//! over: it does not spoil a good one beside it. What is compared later are the decoded bytes, so that upper-case hex or
//! missing base64 padding neither break a genuine delivery nor make a second one out of it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The longest signature value that is looked at, in bytes.
pub const VALUE_LIMIT: usize = 4096;
/// The most signatures that are compared for one delivery.
pub const CANDIDATE_LIMIT: usize = 16;
/// The most signatures that public keys are tried on for one delivery. Each of them costs a pass over the signed content
/// and about as much again as one over 64 KiB; a sender that changes its key sends two.
pub const PUBLIC_CANDIDATE_LIMIT: usize = 4;
/// The longest tag or digest that is decoded, in bytes: HMAC-SHA512 has 64.
pub(super) const TAG_LIMIT: usize = 96;
/// The longest signature of a private key, in bytes: RSA with 8192 bits.
pub(super) const SIGNATURE_LIMIT: usize = 1024;

/// How signatures are laid out in their value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// One signature after a literal prefix, which may be empty (`sha256=<hex>`).
    Single {
        /// What stands before the signature.
        prefix: String,
    },
    /// A list (`v1,<b64> v1,<b64>`); items without the prefix belong to other versions and are ignored.
    List {
        /// One ASCII byte between items.
        separator: u8,
        /// What stands before each signature that counts.
        prefix: String,
    },
    /// `key=value` pairs (`t=<s>,v1=<hex>`); every pair with one of the keys is a signature, other keys are ignored.
    Pairs {
        /// One ASCII byte between pairs.
        separator: u8,
        /// The keys of the pairs that are signatures; the first is that of a new one.
        keys: Vec<String>,
        /// One ASCII byte between groups of pairs (`t=<s>,v1=<hex> t=<s>,v1=<hex>`). A key that is read as a field and
        /// stands in several groups has the same value in all of them.
        groups: Option<u8>,
    },
    /// A list whose items are told apart by their place (`<ms>,<hex>,<hex>`): those before the first signature are fields
    /// with the names `0`, `1` and so on.
    Items {
        /// One ASCII byte between items.
        separator: u8,
        /// The place of the first signature; all items from there on are signatures.
        first: usize,
        /// Of a signature only what stands behind this byte counts (`<key>|<hex>`).
        behind: Option<u8>,
    },
}

/// How the bytes of a signature or a key are written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits of either case.
    Hex,
    /// RFC 4648 section 4, padded or not.
    Base64,
    /// RFC 4648 section 5, padded or not.
    Base64Url,
    /// Hexadecimal digits, and these in base64.
    Base64OfHex,
}

/// The bytes of one signature as they arrived, decoded: at most `LIMIT`. Tags have a short one, because each delivery is
/// read into it.
#[derive(Clone, Copy)]
pub(super) struct Signature<const LIMIT: usize = TAG_LIMIT> {
    bytes: [u8; LIMIT],
    length: usize,
}

impl<const LIMIT: usize> Signature<LIMIT> {
    pub(super) const EMPTY: Self = Self { bytes: [0; LIMIT], length: 0 };

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// A value that is not in the scheme's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Why a field of a structured signature value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldError {
    /// The value is too long.
    Malformed,
    /// The key stands more than once.
    Duplicate,
}

impl Syntax {
    /// The texts of the signatures that count, in order.
    pub(crate) fn candidates<'a>(&'a self, value: &'a [u8]) -> impl Iterator<Item = Result<&'a [u8], Malformed>> {
        let (separator, groups) = self.separators();
        let mut rest = Some(value);
        let items = core::iter::from_fn(move || {
            let left = rest.take()?;
            let end = match groups {
                None => separator.and_then(|separator| memchr::memchr(separator, left)),
                Some(groups) => memchr::memchr2(separator.unwrap_or(groups), groups, left),
            };
            let Some((item, behind)) = end.and_then(|end| left.split_at_checked(end)) else { return Some(left) };
            rest = behind.get(1..);
            Some(item)
        });
        items.enumerate().filter_map(move |(index, item)| self.select(index, item.trim_ascii()))
    }

    /// The usual pairs.
    #[must_use]
    pub fn pairs(separator: u8, key: &str) -> Self {
        Self::Pairs { separator, keys: vec![key.to_owned()], groups: None }
    }

    /// The value of the only pair with `key`; nothing when the value has no such pair. Items that are no pairs are passed
    /// over, as among the signatures.
    pub(super) fn field<'a>(&self, value: &'a [u8], key: &str) -> Result<Option<&'a [u8]>, FieldError> {
        let (Self::Pairs { separator, .. } | Self::Items { separator, .. }) = self else { return Ok(None) };
        if value.len() > VALUE_LIMIT {
            return Err(FieldError::Malformed);
        }
        let groups = match self {
            Self::Pairs { groups, .. } => *groups,
            Self::Items { first, .. } => {
                let at = key.parse().ok().filter(|at| at < first);
                return Ok(at.and_then(|at| value.split(|byte| byte == separator).nth(at)).map(<[u8]>::trim_ascii));
            }
            Self::Single { .. } | Self::List { .. } => None,
        };
        let mut found = None;
        for item in value.split(|byte| byte == separator || Some(*byte) == groups) {
            let Some((name, content)) = pair(item.trim_ascii()) else { continue };
            if name == key.as_bytes()
                && found.replace(content).is_some_and(|other| groups.is_none() || other != content)
            {
                return Err(FieldError::Duplicate);
            }
        }
        Ok(found)
    }

    /// Between items, and between groups of items.
    const fn separators(&self) -> (Option<u8>, Option<u8>) {
        match self {
            Self::Single { .. } => (None, None),
            Self::List { separator, .. } | Self::Items { separator, .. } => (Some(*separator), None),
            Self::Pairs { separator, groups, .. } => (Some(*separator), *groups),
        }
    }

    fn select<'a>(&self, index: usize, item: &'a [u8]) -> Option<Result<&'a [u8], Malformed>> {
        match self {
            Self::Single { prefix } => Some(item.strip_prefix(prefix.as_bytes()).ok_or(Malformed)),
            Self::List { prefix, .. } => item.strip_prefix(prefix.as_bytes()).map(Ok),
            Self::Pairs { keys, .. } => match pair(item) {
                Some((name, content)) => keys.iter().any(|key| name == key.as_bytes()).then_some(Ok(content)),
                None => Some(Err(Malformed)),
            },
            Self::Items { first, .. } if index < *first => None,
            Self::Items { behind: None, .. } => Some(Ok(item)),
            Self::Items { behind: Some(mark), .. } => {
                let at = memchr::memchr(*mark, item);
                Some(at.and_then(|at| item.get(at + 1..)).ok_or(Malformed))
            }
        }
    }
}

/// Splits `key=value` at the first `=`; the key may not be empty.
fn pair(item: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = item.iter().position(|byte| *byte == b'=')?;
    let (key, rest) = item.split_at_checked(at)?;
    if key.is_empty() { None } else { Some((key, rest.get(1..)?)) }
}

const LENIENT_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT_PADDING);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT_PADDING);
/// Of keys, unused bits of the last symbol may be anything: keys are cut to length by people and programs, and the
/// libraries that senders recommend take them. Only the operator writes keys, so nothing depends on there being
/// one spelling.
const LENIENT_BITS: GeneralPurposeConfig = LENIENT_PADDING.with_decode_allow_trailing_bits(true);
const BASE64_KEY: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT_BITS);
const BASE64_URL_KEY: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT_BITS);
/// base64url as it is written: without padding.
const BASE64_URL_BARE: GeneralPurpose =
    GeneralPurpose::new(&alphabet::URL_SAFE, GeneralPurposeConfig::new().with_encode_padding(false));

impl Encoding {
    /// The name in a scheme table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Base64Url => "base64url",
            Self::Base64OfHex => "base64-of-hex",
        }
    }

    /// The bytes that `text` stands for, if it is well-formed and not too long.
    pub(super) fn decode(self, text: &[u8]) -> Option<Signature> {
        let mut signature = Signature::EMPTY;
        self.read(text, &mut signature).then_some(signature)
    }

    /// The same in place: each delivery is read twice, and a signature is long enough for moving it to show.
    pub(super) fn read<const LIMIT: usize>(self, text: &[u8], signature: &mut Signature<LIMIT>) -> bool {
        signature.length = self.decode_into(text, &mut signature.bytes).unwrap_or(0);
        signature.length > 0
    }

    /// Decodes into `out` and returns how many bytes were written; nothing when `text` is malformed or too long.
    pub(super) fn decode_into(self, text: &[u8], out: &mut [u8]) -> Option<usize> {
        match self {
            Self::Hex => decode_hex(text, out),
            Self::Base64 => BASE64.decode_slice(text, out).ok(),
            Self::Base64Url => BASE64_URL.decode_slice(text, out).ok(),
            Self::Base64OfHex => {
                let mut digits = [0; 2 * TAG_LIMIT];
                let length = BASE64.decode_slice(text, &mut digits).ok()?;
                decode_hex(digits.get(..length)?, out)
            }
        }
    }

    /// Decodes a key: like [`Encoding::decode_into`], but unused bits of the last base64 symbol do not matter.
    pub(crate) fn decode_key_into(self, text: &[u8], out: &mut [u8]) -> Option<usize> {
        match self {
            Self::Hex => decode_hex(text, out),
            Self::Base64 => BASE64_KEY.decode_slice(text, out).ok(),
            Self::Base64Url => BASE64_URL_KEY.decode_slice(text, out).ok(),
            Self::Base64OfHex => None,
        }
    }

    /// How senders write these bytes: lower-case hex, padded base64, bare base64url.
    pub(crate) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => const_hex::encode(bytes),
            Self::Base64 => BASE64.encode(bytes),
            Self::Base64Url => BASE64_URL_BARE.encode(bytes),
            Self::Base64OfHex => BASE64.encode(const_hex::encode(bytes)),
        }
    }
}

/// Decodes hexadecimal digits of either case, and nothing else: the prefix `0x`, which the crate takes, is none.
fn decode_hex(text: &[u8], out: &mut [u8]) -> Option<usize> {
    let out = out.get_mut(..text.len() / 2).filter(|_| !text.starts_with(b"0x"))?;
    const_hex::decode_to_slice(text, out).ok()?;
    Some(out.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::characters::hex_digit;

    proptest! {
        #[test]
        fn digits_together_are_what_one_after_the_other_is(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let one_by_one: Option<Vec<u8>> =
                text.chunks(2).map(|digits| Some(hex_digit(digits[0])? << 4 | hex_digit(*digits.get(1)?)?)).collect();
            let mut out = [0; 32];
            prop_assert_eq!(decode_hex(&text, &mut out).map(|length| out[..length].to_vec()), one_by_one);
        }

        #[test]
        fn every_byte_is_judged_wherever_it_stands(digits in "[0-9a-fA-F]{32}", at in 0_usize..32, byte in any::<u8>()) {
            let mut text = digits.into_bytes();
            text[at] = byte;
            prop_assert_eq!(decode_hex(&text, &mut [0; 16]).is_some(), byte.is_ascii_hexdigit());
        }
    }

    #[test]
    fn unused_bits_matter_in_signatures_and_not_in_keys() {
        let decode = |text: &str| {
            let mut out = [0; 8];
            Encoding::Base64.decode_key_into(text.as_bytes(), &mut out).map(|length| out[..length].to_vec())
        };
        for text in ["AQI", "AQI=", "AQJ", "AQJ=", "AQL="] {
            assert_eq!(decode(text), Some(vec![1, 2]), "{text}");
        }
        for text in ["AQ", "AR", "Af==", "AQ="] {
            assert_eq!(decode(text), Some(vec![1]), "{text}");
        }
        for text in ["A", "AQI?", "AQIDA"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert!(Encoding::Base64.decode(b"AQI").is_some() && Encoding::Base64.decode(b"AQJ").is_none());
    }

    #[test]
    fn hexadecimal_has_no_room_to_spare() {
        let mut out = [0; 8];
        assert_eq!(decode_hex(b"00FfA9c3deadBEEF", &mut out), Some(8));
        assert_eq!(out, [0, 0xff, 0xa9, 0xc3, 0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(decode_hex(b"00FfA9c3deadBEEF00", &mut out), None);
        assert_eq!(decode_hex(b"0", &mut out), None);
        for text in [&b"0x00FfA9c3dead"[..], b"0X00FfA9c3dead", b"0x", b"0x0"] {
            assert_eq!(decode_hex(text, &mut out), None);
        }
        assert_eq!(decode_hex(b"", &mut out), Some(0));
    }
}
