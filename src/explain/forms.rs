//! Forms that were read and written again on the way, undone.

use super::case::{TriedCase, Visit};
use super::mistake::Mistake;
use super::quoted::quoted;
use super::text;

/// Names under which senders put JSON into a form.
const FIELDS: [&str; 4] = ["payload", "data", "json", "body"];

/// What libraries leave as it is in a form, and how they write a space.
const WAYS: [(&str, &[u8]); 4] = [("*-._", b"+"), ("-._~", b"%20"), ("-._~", b"+"), ("-._~!*'()", b"%20")];

/// Escapes written in another way, fields wrapped and unwrapped.
pub(super) fn forms(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    if matches!(body.trim_ascii().first(), Some(b'{' | b'[')) {
        return FIELDS.into_iter().any(|name| {
            WAYS.iter().any(|(plain, space)| {
                if !case.pays(1) {
                    return false;
                }
                let mut before = format!("{name}=").into_bytes();
                escape(body, plain, space, &mut before);
                case.known.budget.charge(before.len())
                    && visit(case.with_body(&before), Mistake::BodyFormUnwrapped, &[name])
            })
        });
    }
    if memchr::memchr(b'=', body).is_none() {
        return escapes(case, visit);
    }
    for (name, value) in fields(body).filter(|(name, _)| FIELDS.iter().any(|known| known.as_bytes() == *name)) {
        if !case.known.budget.steps(value, 1) {
            return false;
        }
        let inside = text::percent_decoded(value, true);
        let name = quoted(name);
        if visit(case.with_body(&inside), Mistake::BodyFormField, &[&name]) {
            return true;
        }
    }
    escapes(case, visit)
}

fn fields(body: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    body.split(|byte| *byte == b'&').take(256).map(|field| {
        let (name, value) = field.split_at(field.iter().position(|byte| *byte == b'=').unwrap_or(field.len()));
        (name, value.get(1..).unwrap_or_default())
    })
}

fn escapes(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    ESCAPES.iter().any(|(mark, rewrite, what)| {
        let applies = case.known.budget.searches(body, 1) && memchr::memmem::find(body, mark).is_some();
        if !applies || !case.pays(1) {
            return false;
        }
        let before = rewrite(body);
        case.known.budget.charge(before.len())
            && before != body
            && visit(case.with_body(&before), Mistake::BodyFormEscapes, &[what])
    })
}

/// A way in which the escapes of a form may have been written: what stands in a body that is written otherwise, the way, and
/// the words for it.
type OtherEscapes = (&'static [u8], fn(&[u8]) -> Vec<u8>, &'static str);

const ESCAPES: [OtherEscapes; 10] = [
    (b"%", |body| text::escapes_in(body, false), "has percent-escapes in capitals where small digits were signed"),
    (b"%", |body| text::escapes_in(body, true), "has percent-escapes in small digits where capitals were signed"),
    (b"%7E", |body| replaced(body, b"%7E", b"~"), "has `%7E` where `~` was signed"),
    (b"~", |body| replaced(body, b"~", b"%7E"), "has `~` where `%7E` was signed"),
    (b"+", |body| replaced(body, b"+", b"%20"), "has `+` for spaces where `%20` was signed"),
    (b"%20", |body| replaced(body, b"%20", b"+"), "has `%20` for spaces where `+` was signed"),
    (b"=", |body| form(body, "*-._", b"+"), "has characters where percent-escapes were signed"),
    (b"=", |body| form(body, "-._~", b"%20"), "has characters where percent-escapes were signed, `%20` for spaces"),
    (b"%", |body| text::percent_decoded(body, false), "has percent-escapes where the characters were signed"),
    (b"", |body| text::percent_decoded(body, true), "has percent-escapes and `+` where the characters were signed"),
];

pub(super) fn replaced(body: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = memchr::memmem::find(rest, from) {
        let (before, after) = rest.split_at(at);
        out.extend_from_slice(before);
        out.extend_from_slice(to);
        rest = after.get(from.len()..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

/// The body as a form whose names and values are escaped, except for letters, digits and what is in `plain`.
fn form(body: &[u8], plain: &str, space: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 64);
    if !body.contains(&b'=') {
        return body.to_vec();
    }
    for (number, field) in body.split(|byte| *byte == b'&').enumerate() {
        if number > 0 {
            out.push(b'&');
        }
        let (name, value) = field.split_at(field.iter().position(|byte| *byte == b'=').unwrap_or(field.len()));
        escape(name, plain, space, &mut out);
        if let Some((equals, value)) = value.split_first() {
            out.push(*equals);
            escape(value, plain, space, &mut out);
        }
    }
    out
}

fn escape(text: &[u8], plain: &str, space: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or_default();
    for byte in text {
        match byte {
            b' ' => out.extend_from_slice(space),
            byte if byte.is_ascii_alphanumeric() || plain.as_bytes().contains(byte) => out.push(*byte),
            byte => out.extend([b'%', digit(byte >> 4), digit(byte & 0xf)]),
        }
    }
}

/// A form, or a query, has so many orders at most.
const MOST_ORDERED: usize = 5;

/// The same fields in other orders: sorted, backwards, and all there are of a few.
pub(super) fn orders(text: &[u8]) -> Vec<Vec<u8>> {
    let fields: Vec<&[u8]> = text.split(|byte| *byte == b'&').collect();
    if fields.len() < 2 || fields.len() > 256 {
        return Vec::new();
    }
    let mut sorted = fields.clone();
    sorted.sort_unstable();
    let backwards: Vec<&[u8]> = fields.iter().rev().copied().collect();
    let mut all = vec![sorted, backwards];
    if fields.len() <= MOST_ORDERED {
        all.extend(permutations(&fields));
    }
    let mut texts: Vec<Vec<u8>> = Vec::new();
    for order in all {
        let order = order.join(&b'&');
        if order != text && !texts.contains(&order) {
            texts.push(order);
        }
    }
    texts
}

/// Every order of a few items.
pub(super) fn permutations<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let Some((first, rest)) = items.split_first() else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for shorter in permutations(rest) {
        for at in 0..=shorter.len() {
            let mut longer = shorter.clone();
            longer.insert(at, first.clone());
            all.push(longer);
        }
    }
    all
}

pub(super) fn form_orders(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    let is_form = body.len() < 64 << 10 && body.contains(&b'=') && body.contains(&b'&') && !body.contains(&b'{');
    is_form && orders(body).iter().any(|order| visit(case.with_body(order), Mistake::BodyFormOrder, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_have_orders_and_escapes() {
        assert_eq!(orders(b"b=1&a=2"), [b"a=2&b=1".to_vec()]);
        assert_eq!(orders(b"c&a&b").len(), 5);
        assert_eq!(permutations(&[1, 2, 3, 4, 5]).len(), 120);
        assert_eq!(form(b"a=b c=d&e", "-._~", b"%20"), b"a=b%20c%3Dd&e");
        assert_eq!(replaced(b"a+b+", b"+", b"%20"), b"a%20b%20");
    }
}
