//! How names of fields are spelled, and which of them an application may take for one another.
//!
//! A *plain* name consists of letters and digits with single `-` between them. All others are *folded* by some reader:
//! without case, every run of other bytes as one `-`, none at an end. So `X_Real_IP`, `X-Real--IP` and `X-Real-IP_` are
//! all read as `X-Real-IP`: CGI and its successors (RFC 3875 section 4.1.18) make one byte of every separator, and
//! frameworks split the result at its separators.

/// Folded names are looked at as far as this, in bytes: no name that we know is longer.
pub(super) const LONGEST: usize = 64;

/// How a name is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Letters and digits, with single `-` between them.
    Plain,
    /// In another way.
    Folded,
}

/// Each byte as an application server may read it in a name: letters in lower case, every separator as `-`.
pub(super) static FOLD: [u8; 256] = {
    let mut table = [b'-'; 256];
    let mut byte = 0;
    while byte < 256 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = (byte as u8).to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// Whether a name is plain. It consists of the bytes of a token (RFC 9110 section 5.6.2); an empty name is not plain.
///
/// Every name of a request is looked at, so eight bytes are looked at together. The last byte of one step is the first of
/// the next, so that each pair of neighbours is seen.
#[inline]
#[must_use]
pub fn is_plain(name: &[u8]) -> bool {
    let ([first, ..], [.., last]) = (name, name) else { return false };
    if FOLD[usize::from(*first)] == b'-' || FOLD[usize::from(*last)] == b'-' {
        return false;
    }
    let Some(end) = name.last_chunk::<8>() else { return is_plain_inside(name) };
    let mut seen = defects(*end);
    let mut rest = name;
    while rest.len() > 8
        && let Some(step) = rest.first_chunk::<8>()
    {
        seen |= defects(*step);
        rest = rest.get(7..).unwrap_or_default();
    }
    seen == 0
}

/// The same, one byte after the other.
fn is_plain_inside(name: &[u8]) -> bool {
    let mut before = b'-';
    name.iter().all(|byte| {
        let plain = byte.is_ascii_alphanumeric() || (*byte == b'-' && before != b'-');
        before = *byte;
        plain
    })
}

/// Not 0 if one of eight bytes is neither letter, digit nor `-`, or two neighbours are `-`. Each byte has its answer in its
/// highest bit.
const fn defects(bytes: [u8; 8]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    let word = u64::from_be_bytes(bytes);
    // Additions stay within their byte.
    let low = word & !HIGH;
    let lower = low | (0x20 * EACH);
    let letters = (lower + 0x1f * EACH) & !(lower + 0x05 * EACH);
    let digits = (low + 0x50 * EACH) & !(low + 0x46 * EACH);
    let hyphens = !((low ^ (0x2d * EACH)) + 0x7f * EACH) & HIGH;
    ((!(letters | digits | hyphens) | word) & HIGH) | (hyphens & (hyphens << 8))
}

/// The bytes of a name as they are read after folding.
fn folded(name: &[u8]) -> impl Iterator<Item = u8> {
    let is_separator = |byte: &u8| FOLD[usize::from(*byte)] == b'-';
    let start = name.iter().position(|byte| !is_separator(byte)).unwrap_or(name.len());
    let end = name.iter().rposition(|byte| !is_separator(byte)).map_or(start, |last| last + 1);
    let inside = name.get(start..end).unwrap_or_default();
    let mut before = 0;
    inside.iter().filter_map(move |byte| {
        let byte = FOLD[usize::from(*byte)];
        let is_repeated = byte == b'-' && before == b'-';
        before = byte;
        (!is_repeated).then_some(byte)
    })
}

/// Writes a name as it is read after folding, as far as there is room.
pub(super) fn fold_into<'f>(name: &[u8], room: &'f mut [u8; LONGEST]) -> &'f [u8] {
    let mut length = 0;
    for (place, byte) in room.iter_mut().zip(folded(name)) {
        *place = byte;
        length += 1;
    }
    // Cut off behind a separator, it would have to be folded again.
    match room.get(..length) {
        Some([start @ .., b'-']) => start,
        Some(whole) => whole,
        None => &[],
    }
}

/// How many bytes a name has after folding: only names that agree in it can be spellings of one another.
#[must_use]
pub fn folded_length(name: &[u8]) -> usize {
    folded(name).count()
}

/// Whether `name` is another spelling of `other` that an application may take for it: the same name after folding, but
/// not the same header to HTTP.
#[must_use]
pub fn is_another_spelling(name: &[u8], other: &[u8]) -> bool {
    !name.eq_ignore_ascii_case(other) && folded(name).eq(folded(other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_scheme_can_ask_for_its_own_names() {
        let name = b"X-Hub-Signature-256";
        for spelling in ["x_hub-signature_256", "X-Hub--Signature-256", "_X-Hub-Signature-256", "X-Hub-Signature-256-"]
        {
            assert!(is_another_spelling(spelling.as_bytes(), name), "{spelling}");
            assert_eq!(folded_length(spelling.as_bytes()), name.len());
        }
        for other in ["x-hub-signature-256", "x_hub_signature", "X-HubSignature-256", "X-Hub-Signature-25_6", "", "_"] {
            assert!(!is_another_spelling(other.as_bytes(), name), "{other}");
        }
        assert!(is_another_spelling(b"X-Secret", b"X_Secret"));
    }

    #[test]
    fn a_name_is_cut_off_where_it_is_longer_than_all_that_are_known() {
        let mut room = [0; LONGEST];
        assert_eq!(fold_into(b"__A.B--", &mut room), b"a-b");
        assert_eq!(fold_into(b"_-.", &mut room), b"");
        let long = format!("{}_{}", "a".repeat(LONGEST - 1), "b".repeat(9));
        assert_eq!(fold_into(long.as_bytes(), &mut room), "a".repeat(LONGEST - 1).as_bytes());
    }

    proptest! {
        #[test]
        fn plain_names_are_those_that_folding_leaves_as_they_are(
            name in prop_oneof!["[-A-Za-z0-9_.!#$%&'*+^`|~]{0,40}", "[a-z]{0,12}(-[A-Z0-9]{1,9}){0,4}[-_a]?", "\\PC{0,12}"],
        ) {
            let name = name.as_bytes();
            let same = !name.is_empty() && folded(name).eq(name.iter().map(u8::to_ascii_lowercase));
            prop_assert_eq!(is_plain(name), same);
            let mut room = [0; LONGEST];
            let folded = fold_into(name, &mut room);
            prop_assert!(folded.is_empty() || is_plain(folded));
        }
    }
}
