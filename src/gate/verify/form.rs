//! `application/x-www-form-urlencoded`: bodies and queries (WHATWG URL, section 5). Written here because a form is refused
//! where two readers could read it differently; the crate `form_urlencoded` reads everything.

use std::borrow::Cow;

use crate::wire::characters::hex_digit;
use crate::wire::headers::Headers;

/// The most parameters of one form.
const PARAMETER_LIMIT: usize = 1024;

/// Why a form cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormError {
    /// A percent sign without two digits, or too many parameters.
    Malformed,
    /// The name stands more than once.
    Duplicate,
}

/// Whether the content type says that the body is a form.
pub(super) fn is_form(headers: Headers<'_>) -> bool {
    let Ok(Some(value)) = headers.unique("content-type") else { return false };
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// The query of a request target, without the question mark.
pub(super) fn query(target: &[u8]) -> Option<&[u8]> {
    let at = target.iter().position(|byte| *byte == b'?')?;
    target.get(at + 1..)
}

/// The decoded value of the only parameter with this name.
pub(super) fn unique<'a>(form: &'a [u8], name: &str) -> Result<Option<Cow<'a, [u8]>>, FormError> {
    let mut found = None;
    for pair in pairs(form) {
        let (key, value) = pair?;
        if *key == *name.as_bytes() && found.replace(value).is_some() {
            return Err(FormError::Duplicate);
        }
    }
    Ok(found)
}

/// Names and values, sorted by name and then value, each distinct pair once, written without separators: what Twilio
/// signs after the URL (its Node SDK for repeated names).
pub(super) fn sorted(form: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), FormError> {
    let mut parameters = pairs(form).collect::<Result<Vec<_>, _>>()?;
    parameters.sort();
    parameters.dedup();
    for (name, value) in &parameters {
        sink(name);
        sink(value);
    }
    Ok(())
}

pub(super) type Pair<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

pub(super) fn pairs(form: &[u8]) -> impl Iterator<Item = Result<Pair<'_>, FormError>> {
    form.split(|byte| *byte == b'&').filter(|item| !item.is_empty()).enumerate().map(|(index, item)| {
        if index >= PARAMETER_LIMIT {
            return Err(FormError::Malformed);
        }
        let at = item.iter().position(|byte| *byte == b'=').unwrap_or(item.len());
        let (name, value) = item.split_at_checked(at).unwrap_or_default();
        Ok((decode(name)?, decode(value.get(1..).unwrap_or_default())?))
    })
}

/// Undoes the encoding of forms: `+` is a space, `%XX` a byte.
fn decode(text: &[u8]) -> Result<Cow<'_, [u8]>, FormError> {
    if !text.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().copied().and_then(hex_digit).ok_or(FormError::Malformed);
                digit()? << 4 | digit()?
            }
            other => *other,
        });
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sorted_text(form: &str) -> Result<String, FormError> {
        let mut out = Vec::new();
        sorted(form.as_bytes(), &mut |bytes| out.extend_from_slice(bytes))?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn parameters_are_decoded_and_sorted() {
        assert_eq!(
            sorted_text("To=%2B18005551212&Digits=1234&From=a+b&Empty="),
            Ok("Digits1234EmptyFroma bTo+18005551212".to_owned())
        );
        assert_eq!(sorted_text("a=2&a=1&a=2"), Ok("a1a2".to_owned()));
        assert_eq!(sorted_text("B=1&a=1"), Ok("B1a1".to_owned()));
        assert_eq!(sorted_text(""), Ok(String::new()));
        assert_eq!(sorted_text("a=%4"), Err(FormError::Malformed));
        assert_eq!(sorted_text("a=%zz"), Err(FormError::Malformed));
    }

    #[test]
    fn a_name_is_found_once_or_refused() {
        assert_eq!(unique(b"payload=%7B%7D&x=1", "payload").unwrap().unwrap().as_ref(), b"{}");
        assert_eq!(unique(b"x=1", "payload"), Ok(None));
        assert_eq!(unique(b"x=1&%78=2", "x"), Err(FormError::Duplicate));
        assert_eq!(unique(b"x", "x").unwrap().unwrap().as_ref(), b"");
    }

    #[test]
    fn the_number_of_parameters_is_bounded() {
        let form = vec!["a=1"; PARAMETER_LIMIT + 1].join("&");
        assert_eq!(sorted_text(&form), Err(FormError::Malformed));
    }
}
