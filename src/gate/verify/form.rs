//! `application/x-www-form-urlencoded`: bodies and queries (WHATWG URL, section 5). Written here because a form is refused
//! where two readers could read it differently; the crate `form_urlencoded` reads everything.

use core::fmt;
use std::borrow::Cow;

use crate::wire::characters::hex_digit;
use crate::wire::headers::Headers;

/// The most parameters of one form.
const PARAMETER_LIMIT: usize = 1024;

/// Names and values of a form, sorted, with separators: what some senders sign instead of the bytes of the form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortedForm {
    /// Between a name and its value, and between parameters.
    between: [u8; 2],
    /// The names of fields that are not signed: that of the signature itself, and that of its algorithm.
    without: Vec<String>,
}

impl SortedForm {
    /// Reads two different marks, and behind a colon the names that are left out.
    pub(super) fn parse(text: &str) -> Option<Self> {
        // The colon may itself be a mark.
        let (marks, rest) = text.split_at_checked(2)?;
        let names = if rest.is_empty() { "" } else { rest.strip_prefix(':')? };
        let [equals, joint] = <[u8; 2]>::try_from(marks.as_bytes()).ok()?;
        let sound = equals != joint && equals.is_ascii_punctuation() && joint.is_ascii_punctuation();
        let without = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        sound.then_some(Self { between: [equals, joint], without })
    }

    /// Writes the fields of `form`. A name with one of the marks, a value with the second, an empty value and a name that
    /// stands twice are refused: senders differ in what they make of them, and the fields could not be told apart.
    pub(super) fn write(&self, form: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), FormError> {
        let [equals, joint] = self.between;
        let mut parameters = pairs(form).collect::<Result<Vec<_>, _>>()?;
        parameters.retain(|(name, _)| !self.without.iter().any(|left_out| **name == *left_out.as_bytes()));
        parameters.sort();
        let mut last: Option<&[u8]> = None;
        for (name, value) in &parameters {
            let mixed = name.iter().any(|byte| self.between.contains(byte)) || value.contains(&joint);
            if mixed || value.is_empty() {
                return Err(FormError::Ambiguous);
            }
            if last.replace(name).is_some_and(|last| last == &**name) {
                return Err(FormError::Duplicate);
            }
        }
        for (index, (name, value)) in parameters.iter().enumerate() {
            if index > 0 {
                sink(&[joint]);
            }
            sink(name);
            sink(&[equals]);
            sink(value);
        }
        Ok(())
    }
}

impl fmt::Display for SortedForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [equals, joint] = self.between.map(char::from);
        let colon = if self.without.is_empty() { "" } else { ":" };
        write!(f, "{equals}{joint}{colon}{}", self.without.join(","))
    }
}

/// Why a form cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormError {
    /// A percent sign without two digits, or parts that are not written as they should be.
    Malformed,
    /// Too many parameters or parts.
    TooComplex,
    /// Fields that could not be told apart in what is signed.
    Ambiguous,
    /// The name stands more than once.
    Duplicate,
}

/// Whether the content type says that the body is a form, and in no encoding in which it has other fields.
pub(super) fn is_form(headers: Headers<'_>) -> bool {
    media_type(headers).is_some_and(|it| it.eq_ignore_ascii_case(b"application/x-www-form-urlencoded"))
        && has_plain_charset(headers)
}

/// The content type without its parameters.
pub(super) fn media_type(headers: Headers<'_>) -> Option<&[u8]> {
    let value = headers.unique("content-type").ok()??;
    Some(value.split(|byte| *byte == b';').next()?.trim_ascii())
}

/// Encodings in which the bytes of ASCII are what they are in UTF-8. A receiver that believes another one (UTF-16, UTF-7,
/// EBCDIC) finds other fields in the same bytes.
const PLAIN: [&[u8]; 6] = [b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"windows-1252"];

/// Whether every encoding that the content type names is one of [`PLAIN`].
pub(super) fn has_plain_charset(headers: Headers<'_>) -> bool {
    let Ok(Some(value)) = headers.unique("content-type") else { return true };
    value.split(|byte| *byte == b';').skip(1).map(<[u8]>::trim_ascii).all(|parameter| {
        let lower = parameter.to_ascii_lowercase();
        let Some(rest) = lower.strip_prefix(b"charset") else { return true };
        let Some(text) = rest.strip_prefix(b"=") else { return false };
        let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
        PLAIN.contains(&text)
    })
}

/// The query of a request target, without the question mark.
pub(super) fn query(target: &[u8]) -> Option<&[u8]> {
    let at = target.iter().position(|byte| *byte == b'?')?;
    target.get(at + 1..)
}

/// The decoded value of the only parameter with this name. Refused if other readers could find another one.
pub(super) fn unique<'a>(form: &'a [u8], name: &str) -> Result<Option<Cow<'a, [u8]>>, FormError> {
    let mut found = None;
    let mut has_twin = false;
    for (item, pair) in items(form).zip(pairs(form)) {
        let (key, value) = pair?;
        if *key == *name.as_bytes() {
            if found.replace(value).is_some() {
                return Err(FormError::Duplicate);
            }
        } else {
            has_twin |= is_twin(&key, name.as_bytes());
        }
        has_twin |= memchr::memchr(b';', item).is_some() && is_behind_semicolon(item, name.as_bytes());
    }
    if has_twin && found.is_some() { Err(FormError::Duplicate) } else { Ok(found) }
}

/// Whether a form has a parameter that a reader could take for the one with this name.
pub(super) fn mentions(form: &[u8], name: &[u8]) -> bool {
    let is_it = |key: &[u8]| key == name || is_twin(key, name);
    pairs(form).any(|pair| pair.is_ok_and(|(key, _)| is_it(&key)))
        || items(form).any(|item| memchr::memchr(b';', item).is_some() && is_behind_semicolon(item, name))
}

/// Whether readers take another name for this one. PHP leaves out spaces before a name, ends it at a NUL and at a bracket, and
/// makes `_` of dots and spaces. `qs` of Node takes `name[]` and `name[x]` for a list or an object with that name, and
/// `[name]` for the name; Django leaves out blanks around it.
pub(super) fn is_twin(other: &[u8], name: &[u8]) -> bool {
    let cuts = !name.contains(&b'[');
    other != name && (plain(other, cuts).eq(plain(name, cuts)) || begins_alike(other, name))
}

/// Whether the path that a name stands for begins with that of another name.
fn begins_alike(other: &[u8], name: &[u8]) -> bool {
    let mut own = path(other);
    path(name).all(|step| own.next().is_some_and(|other| other == step))
}

/// The steps of `a[b][c]`, of `[a][b][c]` and, for readers that take dots for steps, of `.a`.
fn path(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = without_blanks(name);
    let name = name.strip_prefix(b".").unwrap_or(name);
    name.split(|byte| matches!(byte, b'[' | b']')).map(without_blanks).filter(|step| !step.is_empty())
}

/// Without what Unicode calls white space, and controls, at both ends.
fn without_blanks(text: &[u8]) -> &[u8] {
    let is_blank = |it: char| it.is_whitespace() || it.is_control();
    core::str::from_utf8(text).map_or_else(|_| text.trim_ascii(), |text| text.trim_matches(is_blank).as_bytes())
}

/// A name as PHP has it. `cuts`: whether it ends at a bracket.
fn plain(name: &[u8], cuts: bool) -> impl Iterator<Item = u8> {
    let kept =
        name.iter().skip_while(|byte| **byte == b' ').take_while(move |byte| **byte != 0 && !(cuts && **byte == b'['));
    kept.map(|byte| if matches!(byte, b'.' | b' ') { b'_' } else { *byte })
}

/// Whether the name stands behind a semicolon, which older readers take for an ampersand (HTML 4.01, appendix B.2.2).
fn is_behind_semicolon(item: &[u8], name: &[u8]) -> bool {
    item.split(|byte| *byte == b';').skip(1).any(|piece| {
        let key = piece.split(|byte| *byte == b'=').next().unwrap_or_default();
        decode(key).is_ok_and(|key| *key == *name || is_twin(&key, name))
    })
}

fn items(form: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = memchr::memchr_iter(b'&', form).chain([form.len()]);
    let starts = core::iter::once(0).chain(memchr::memchr_iter(b'&', form).map(|at| at + 1));
    starts.zip(ends).filter_map(|(start, end)| form.get(start..end)).filter(|item| !item.is_empty())
}

/// Whether every name of a form is one of those, and it can be read.
pub(super) fn has_only(form: &[u8], is_known: impl Fn(&[u8]) -> bool) -> bool {
    pairs(form).all(|pair| pair.is_ok_and(|(name, _)| is_known(&name)))
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
    items(form).enumerate().map(|(index, item)| {
        if index >= PARAMETER_LIMIT {
            return Err(FormError::TooComplex);
        }
        let at = memchr::memchr(b'=', item).unwrap_or(item.len());
        let (name, value) = item.split_at_checked(at).unwrap_or_default();
        Ok((decode(name)?, decode(value.get(1..).unwrap_or_default())?))
    })
}

/// Undoes the encoding of forms: `+` is a space, `%XX` a byte.
fn decode(text: &[u8]) -> Result<Cow<'_, [u8]>, FormError> {
    if memchr::memchr2(b'+', b'%', text).is_none() {
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
    fn a_name_that_others_read_otherwise_is_refused() {
        for form in [
            "pay_load=good&pay.load=evil",
            "pay_load=good&pay+load=evil",
            "pay_load=good&+pay_load=evil",
            "pay_load=good&pay_load%00=evil",
            "pay_load=good&pay_load%5B%5D=evil",
            "pay_load[x]=evil&pay_load=good",
            "pay_load=good&x=1;pay_load=evil",
            "x=1;pay.load=evil&pay_load=good",
            "pay_load=good;pay_load=evil",
            "pay_load=good&[pay_load]=evil",
            "pay_load=good&%5Bpay_load=evil",
            "pay_load=good&[[pay_load]]=evil",
            "pay_load=good&[pay_load][]=evil",
            "pay_load=good&.pay_load=evil",
            "pay_load=good&pay_load%09=evil",
            "pay_load=good&%0bpay_load%20=evil",
            "pay_load=good&pay_load%C2%A0=evil",
            "pay_load=good&%E2%80%83pay_load=evil",
        ] {
            assert_eq!(unique(form.as_bytes(), "pay_load"), Err(FormError::Duplicate), "{form}");
        }
        for form in
            ["pay_load=a;b&x=1;2", "pay_load=a&payload=1&Pay_load=2&pay_loads=3&pay=4", "pay_load=a&x%3Bpay_load=1"]
        {
            assert!(unique(form.as_bytes(), "pay_load").is_ok_and(|found| found.is_some()), "{form}");
        }
        assert_eq!(unique(b"pay.load=evil", "pay_load"), Ok(None));
        // Where the name itself has brackets, what stands in them counts.
        assert!(unique(b"data[id]=1&data[other]=2&data=3", "data[id]").unwrap().is_some());
        for twin in ["+data[id]", "[data][id]", "data[id][]", "data[id][x]", "data[[id]]", "data[id", "data[+id+]"] {
            let form = format!("data[id]=1&{twin}=2");
            assert_eq!(unique(form.as_bytes(), "data[id]"), Err(FormError::Duplicate), "{twin}");
        }
        assert!(mentions(b"a=1&pay.load=2", b"pay_load") && mentions(b"a;pay_load", b"pay_load"));
        assert!(!mentions(b"a=pay_load&payload=1&%zz=2", b"pay_load"));
    }

    #[test]
    fn an_encoding_in_which_a_form_has_other_fields_is_refused() {
        use crate::wire::headers::HeaderBuf;
        let is = |parameters: &str| {
            let mut headers = HeaderBuf::default();
            headers.push("Content-Type", format!("Application/X-www-form-urlencoded{parameters}").as_bytes());
            is_form(headers.view())
        };
        for plain in ["", "; charset=UTF-8", ";charset=\"utf-8\"", "; x=y; Charset=ISO-8859-1", "; charset=us-ascii"] {
            assert!(is(plain), "{plain}");
        }
        for other in [
            "; charset=utf-16",
            ";charset=UTF-7",
            "; charset=ibm037",
            "; charset=\"utf-16be\"",
            "; charset =utf-8",
            "; charset*=utf-8''utf-16",
            "; charset=",
            "; charset=utf-8; charset=utf-16",
            "; charset=utf-8,utf-16",
        ] {
            assert!(!is(other), "{other}");
        }
    }

    #[test]
    fn the_number_of_parameters_is_bounded() {
        let form = vec!["a=1"; PARAMETER_LIMIT + 1].join("&");
        assert_eq!(sorted_text(&form), Err(FormError::TooComplex));
    }

    #[test]
    fn fields_with_marks_between_them_can_be_told_apart() {
        let signed = |rule: &str, form: &str| {
            let mut out = Vec::new();
            SortedForm::parse(rule).unwrap().write(form.as_bytes(), &mut |bytes| out.extend_from_slice(bytes))?;
            Ok(String::from_utf8(out).unwrap())
        };
        assert_eq!(signed("=&:sign,sign_type", "b=2&sign=x&a=1%3D1&sign_type=RSA2"), Ok("a=1=1&b=2".to_owned()));
        assert_eq!(signed(":|", "a=1&A=2"), Ok("A:2|a:1".to_owned()));
        for form in ["a=1%262", "a%3D=1", "a%26=1", "a=", "a"] {
            assert_eq!(signed("=&", form), Err(FormError::Ambiguous), "{form}");
        }
        assert_eq!(signed("=&", "a=1&a=2"), Err(FormError::Duplicate));
        for rule in ["", "=", "==", "=&&", "ab", "=&x"] {
            assert!(SortedForm::parse(rule).is_none(), "{rule}");
        }
    }
}
