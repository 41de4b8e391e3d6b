//! Forms whose fields are signed one by one (Twilio): what a form was before something read it and wrote it again.

use std::fmt::Write as _;

use super::case::{TriedCase, Visit};
use super::forms::replaced;
use super::mistake::Mistake;
use super::signatures::with_value;
use super::text;
use crate::gate::verify::{Part, Template};

/// A form that is longer is not written again so often.
const LONGEST: usize = 64 << 10;

/// Fields that Twilio sends empty where it knows nothing, and that some frameworks drop then.
const PLACES: [&str; 4] = ["City", "State", "Zip", "Country"];
const PARTIES: [&[&str]; 6] = [&["Caller", "From"], &["Called", "To"], &["Caller"], &["From"], &["Called"], &["To"]];
const ALONE: [&str; 8] = [
    "ForwardedFrom",
    "CallerName",
    "StirVerstat",
    "Digits",
    "Body",
    "SpeechResult",
    "MessagingServiceSid",
    "ParentCallSid",
];

/// Every such change.
pub(super) fn params(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let signed = case.scheme.content.any(|part| matches!(part, Part::SortedFormParams | Part::SortedForm(_)));
    if !signed || case.seen.body.len() > LONGEST || !case.pays(8) {
        return false;
    }
    from_json(case, visit) || escapes(case, visit) || dropped(case, visit) || unsorted(case, visit)
}

fn escapes(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    // Telephone numbers begin with it; elsewhere it may stand for a space as well.
    for (from, to) in [(&b"=+"[..], &b"=%2B"[..]), (b"+", b"%2B")] {
        let plus = replaced(body, from, to);
        if plus != body && visit(case.with_body(&plus), Mistake::BodyFormEscapes, &["has `+` where `%2B` was signed"]) {
            return true;
        }
    }
    let decoded = text::percent_decoded(body, false);
    if core::str::from_utf8(&decoded).is_ok() {
        return false;
    }
    let before = as_utf8(body);
    visit(case.with_body(&before), Mistake::BodyCharset, &["is a form in Latin-1 where UTF-8 was signed"])
}

fn escape(byte: u8, out: &mut String) {
    let _ = write!(out, "%{byte:02X}");
}

/// With each escape, and each byte, beyond ASCII as the UTF-8 of the character that it is in Latin-1.
fn as_utf8(body: &[u8]) -> Vec<u8> {
    let mut out = String::with_capacity(body.len() + 64);
    let mut rest = body;
    let high = |byte: u8, out: &mut String| {
        let mut buffer = [0; 4];
        let character = char::from(byte).encode_utf8(&mut buffer);
        character.bytes().for_each(|byte| escape(byte, out));
    };
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).filter(|_| *first == b'%').and_then(|pair| core::str::from_utf8(pair).ok());
        let escape = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|byte| !byte.is_ascii());
        rest = if escape.is_some() { after.get(2..).unwrap_or_default() } else { after };
        match escape {
            Some(byte) => high(byte, &mut out),
            None if first.is_ascii() => out.push(char::from(*first)),
            None => high(*first, &mut out),
        }
    }
    out.into_bytes()
}

/// Empty fields that are not there any more.
fn dropped(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    let has = |name: &str| memchr::memmem::find(body, format!("{name}=").as_bytes()).is_some();
    let mut tried = |names: &[String]| {
        let missing: Vec<&String> = names.iter().filter(|name| !has(name)).collect();
        let mut before = body.to_vec();
        missing.iter().for_each(|name| before.extend_from_slice(format!("&{name}=").as_bytes()));
        let shown = missing.iter().map(|name| name.as_str()).collect::<Vec<_>>().join("`, `");
        !missing.is_empty() && visit(case.with_body(&before), Mistake::BodyFormEmpty, &[&shown])
    };
    if ALONE.iter().any(|name| tried(&[(*name).to_owned()])) {
        return true;
    }
    PARTIES.iter().any(|parties| {
        let each = PLACES.iter().map(|place| parties.iter().map(|party| format!("{party}{place}")).collect::<Vec<_>>());
        let each: Vec<Vec<String>> = each.collect();
        each.iter().any(|names| tried(names)) || tried(&each.concat())
    })
}

/// The fields as they stand, and not sorted.
fn unsorted(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let mut fields = Vec::with_capacity(case.seen.body.len());
    for field in case.seen.body.split(|byte| *byte == b'&') {
        let name_end = memchr::memchr(b'=', field).unwrap_or(field.len());
        let (name, value) = field.split_at(name_end);
        fields.extend(text::percent_decoded(name, true));
        fields.extend(text::percent_decoded(value.get(1..).unwrap_or_default(), true));
    }
    let scheme = case.changed_scheme(|scheme| {
        let parts = scheme.content.parts().iter();
        let parts = parts.map(|part| match part {
            Part::SortedFormParams => Part::Literal(fields.clone()),
            part => part.clone(),
        });
        scheme.content = Template::of(parts.collect());
    });
    let what = "the fields of the form in the order of the body";
    scheme.content != case.scheme.content
        && visit(TriedCase { scheme: &scheme, ..case }, Mistake::ContentOrder, &[what])
}

/// What a framework that reads forms has written as JSON.
fn from_json(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    if case.seen.body.trim_ascii_start().first() != Some(&b'{') {
        return false;
    }
    let Ok(members) = serde_json::from_slice::<std::collections::BTreeMap<String, String>>(case.seen.body) else {
        return false;
    };
    let mut form = String::new();
    for (name, value) in &members {
        if !form.is_empty() {
            form.push('&');
        }
        name.bytes().for_each(|byte| escape(byte, &mut form));
        form.push('=');
        value.bytes().for_each(|byte| escape(byte, &mut form));
    }
    let mut headers = with_value(case.seen.headers, "Content-Type", b"application/x-www-form-urlencoded");
    if case.seen.header("Content-Type").is_none() {
        headers.push("Content-Type", b"application/x-www-form-urlencoded");
    }
    let case = case.with_headers(headers.view());
    visit(case.with_body(form.as_bytes()), Mistake::BodyFormJson, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latin_1_becomes_utf_8() {
        assert_eq!(as_utf8(b"a=%e9+\xe9%zz%"), b"a=%C3%A9+%C3%A9%zz%");
    }
}
