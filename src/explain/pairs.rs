//! Headers with several values in them, in another form than the scheme has: other separators, keys in capitals, several
//! headers of one, the whole in base64.

use super::case::{TriedCase, Visit};
use super::mistake::Mistake;
use super::quoted::quoted;
use super::signatures::{names, with_value};
use super::text;
use crate::gate::verify::Syntax;
use crate::wire::headers::HeaderBuf;

/// Separators that people write.
const SEPARATORS: [u8; 5] = [b',', b';', b'&', b'|', b' '];
/// No header with a signature is longer.
const LONGEST: usize = 8 << 10;

/// Every such form.
pub(super) fn pairs(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    names(case).iter().any(|name| {
        let several = case.seen.headers.all(name).nth(1).is_some();
        match (several, case.seen.header(name)) {
            (true, _) => split(case, name, visit),
            (false, Some(value)) if value.len() <= LONGEST => {
                encoded(case, name, value, visit) || in_pairs(case, name, value, visit)
            }
            _ => false,
        }
    })
}

/// Several fields of one name are the same as one with a list (RFC 9110 section 5.3), but not to every server.
fn split(case: TriedCase<'_>, name: &str, visit: &mut Visit<'_>) -> bool {
    let Syntax::Pairs { separator, .. } = case.scheme.syntax else { return false };
    let values: Vec<&[u8]> = case.seen.headers.all(name).take(16).collect();
    // Each of them has what the others lack: copies of one are named as such.
    if values.iter().any(|value| value.contains(&separator) || value.len() > LONGEST) {
        return false;
    }
    let whole = values.join(&separator);
    let mut headers = HeaderBuf::default();
    for (known, value) in case.seen.headers.iter().filter(|(known, _)| !known.eq_ignore_ascii_case(name.as_bytes())) {
        core::str::from_utf8(known).into_iter().for_each(|known| headers.push(known, value));
    }
    headers.push(name, &whole);
    visit(case.with_headers(headers.view()), Mistake::HeaderSplit, &[name])
}

fn encoded(case: TriedCase<'_>, name: &str, value: &[u8], visit: &mut Visit<'_>) -> bool {
    let before = text::base64(value).filter(|text| text.iter().all(u8::is_ascii_graphic));
    before.is_some_and(|before| {
        let headers = with_value(case.seen.headers, name, &before);
        visit(case.with_headers(headers.view()), Mistake::HeaderBase64, &[])
    })
}

fn in_pairs(case: TriedCase<'_>, name: &str, value: &[u8], visit: &mut Visit<'_>) -> bool {
    let Syntax::Pairs { separator, .. } = case.scheme.syntax else { return false };
    let mut tried = |before: &[u8], mistake: Mistake, details: &[&str]| {
        let headers = with_value(case.seen.headers, name, before);
        before != value && visit(case.with_headers(headers.view()), mistake, details)
    };
    for other in SEPARATORS.into_iter().filter(|other| *other != separator && value.contains(other)) {
        let parts: Vec<&[u8]> = value.split(|byte| *byte == other).map(<[u8]>::trim_ascii).collect();
        let details = [quoted([other]), quoted([separator])];
        if tried(&parts.join(&separator), Mistake::HeaderSeparator, &[&details[0], &details[1]]) {
            return true;
        }
    }
    let mut small = value.to_vec();
    for pair in small.split_mut(|byte| *byte == separator) {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or_default();
        pair.get_mut(..end).into_iter().for_each(<[u8]>::make_ascii_lowercase);
    }
    tried(&small, Mistake::HeaderKeys, &[])
}
