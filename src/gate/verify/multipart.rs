//! `multipart/form-data` (RFC 7578): one field of it. Strict, because receivers differ in what they make of odd ones: every
//! part has one `Content-Disposition` in the usual spelling, and the delimiter stands only where a part begins or ends.

use std::borrow::Cow;

use memchr::memmem;

use super::form::{self, FormError, is_twin};
use crate::wire::headers::Headers;

/// The most parts of one body.
const PART_LIMIT: usize = 1024;
const BOUNDARY: &[u8] = b"boundary=";
/// The longest boundary (RFC 2046, section 5.1.1).
const BOUNDARY_LIMIT: usize = 70;

/// The boundary, where the content type says that the body is such a form. Nothing where receivers could read another one:
/// several boundaries, a quotation mark in another parameter, and what ends a boundary for some of them.
pub(super) fn boundary(headers: Headers<'_>) -> Option<&[u8]> {
    let value = headers.unique("content-type").ok()??;
    let mut parameters = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    if !form::has_plain_charset(headers) || !parameters.next()?.eq_ignore_ascii_case(b"multipart/form-data") {
        return None;
    }
    let mut boundary = None;
    for parameter in parameters {
        let value = parameter.split_at_checked(BOUNDARY.len()).filter(|(name, _)| name.eq_ignore_ascii_case(BOUNDARY));
        let (is_second, is_odd) = match value {
            Some((_, text)) => (boundary.replace(text).is_some(), false),
            // As in `boundary*=` (RFC 2231), `boundary =`, and what hides in a quoted value.
            None => (false, parameter.contains(&b'"') || parameter.to_ascii_lowercase().starts_with(b"boundary")),
        };
        if is_second || is_odd {
            return None;
        }
    }
    let text = boundary?;
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    // RFC 2046, section 5.1.1, without the comma and the space.
    let sound = text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"'()+_-./:=?".contains(byte));
    (sound && (1..=BOUNDARY_LIMIT).contains(&text.len())).then_some(text)
}

/// The content of the only part with this name.
///
/// The boundary stands at the beginning of a line, and nowhere else: PHP and Django find parts behind a bare line feed, a
/// bare carriage return, and in the middle of a line. A sender chooses a boundary that its parts do not have (RFC 2046,
/// section 5.1.1).
pub(super) fn unique<'a>(body: &'a [u8], boundary: &[u8], name: &str) -> Result<Option<Cow<'a, [u8]>>, FormError> {
    let delimiter = [b"--", boundary].concat();
    let finder = memmem::Finder::new(&delimiter);
    let mut rest = body.strip_prefix(&*delimiter).ok_or(FormError::Malformed)?;
    // Made once: there may be a thousand parts.
    let blank = memmem::Finder::new(b"\r\n\r\n");
    let mut found = None;
    let mut has_twin = false;
    for _ in 0..PART_LIMIT {
        if let Some(after) = rest.strip_prefix(b"--") {
            return match after {
                b"" | b"\r\n" if has_twin && found.is_some() => Err(FormError::Duplicate),
                b"" | b"\r\n" => Ok(found),
                _ => Err(FormError::Malformed),
            };
        }
        let part = rest.strip_prefix(b"\r\n").ok_or(FormError::Malformed)?;
        let end = finder.find(part).ok_or(FormError::Malformed)?;
        let (part, behind) = part.split_at_checked(end).ok_or(FormError::Malformed)?;
        let part = part.strip_suffix(b"\r\n").ok_or(FormError::Malformed)?;
        let end = blank.find(part).ok_or(FormError::Malformed)?;
        let (fields, content) = (part.get(..end).unwrap_or_default(), part.get(end + 4..).unwrap_or_default());
        let (part_name, is_file) = name_of(fields)?;
        if part_name == name.as_bytes() {
            // A file is no field for its receiver.
            if is_file {
                return Err(FormError::Malformed);
            }
            if found.replace(Cow::Borrowed(content)).is_some() {
                return Err(FormError::Duplicate);
            }
        }
        has_twin |= is_twin(part_name, name.as_bytes());
        rest = behind.get(delimiter.len()..).unwrap_or_default();
    }
    Err(FormError::TooComplex)
}

/// What stands before and behind the first such byte.
fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let found = memchr::memchr(at, text)?;
    Some((text.get(..found)?, text.get(found + 1..)?))
}

/// The name of a part, out of its header fields, and whether it is a file. Lines end with CR and LF and are not continued; the
/// name of a field has nothing around it: receivers read all else in several ways.
fn name_of(fields: &[u8]) -> Result<(&[u8], bool), FormError> {
    let mut name = None;
    let mut rest = Some(fields);
    while let Some(lines) = rest {
        let (line, behind) = match split(lines, b'\r') {
            Some((line, behind)) => (line, Some(behind.strip_prefix(b"\n").ok_or(FormError::Malformed)?)),
            None => (lines, None),
        };
        rest = behind;
        let (field, value) = split(line, b':').ok_or(FormError::Malformed)?;
        let is_plain = !field.is_empty() && field.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
        if !is_plain || memchr::memchr2(b'\n', 0, value).is_some() {
            return Err(FormError::Malformed);
        }
        let is_nested = field.eq_ignore_ascii_case(b"content-type")
            && value.trim_ascii().get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart/"));
        if is_nested || field.eq_ignore_ascii_case(b"content-transfer-encoding") {
            return Err(FormError::Malformed);
        }
        if field.eq_ignore_ascii_case(b"content-disposition")
            && name.replace(named(value.trim_ascii()).ok_or(FormError::Malformed)?).is_some()
        {
            return Err(FormError::Malformed);
        }
    }
    name.ok_or(FormError::Malformed)
}

/// `form-data; name="NAME"`, and perhaps the name of a file behind it: whether there is one.
fn named(value: &[u8]) -> Option<(&[u8], bool)> {
    let rest = value.strip_prefix(b"form-data; name=\"")?;
    let (name, rest) = split(rest, b'"')?;
    let file = rest.strip_prefix(b"; filename=\"").and_then(|file| file.strip_suffix(b"\""));
    let plain = |text: &[u8]| !text.iter().any(|byte| matches!(byte, b'"' | b'\\' | b'\r' | b'\n'));
    (plain(name) && (rest.is_empty() || file.is_some_and(plain))).then_some((name, file.is_some()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::headers::HeaderBuf;

    fn part(name: &str, content: &str) -> String {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    }

    fn field(body: &str) -> Result<Option<String>, FormError> {
        let found = unique(body.as_bytes(), b"B", "token")?;
        Ok(found.map(|value| String::from_utf8(value.into_owned()).unwrap()))
    }

    #[test]
    fn a_field_is_found_between_others_and_files() {
        let file = "--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\n\
                    Content-Type: application/octet-stream\r\n\r\n\0\u{1}-B token\r\n";
        let body = format!("{}{file}{}--B--\r\n", part("timestamp", "1"), part("token", "a\r\nb"));
        assert_eq!(field(&body), Ok(Some("a\r\nb".to_owned())));
        assert_eq!(field(&format!("{}--B--", part("x", ""))), Ok(None));
    }

    #[test]
    fn what_receivers_read_differently_is_refused() {
        let twice = format!("{}{}--B--", part("token", "a"), part("token", "b"));
        assert_eq!(field(&twice), Err(FormError::Duplicate));
        let good = part("token", "a");
        for body in [
            "".to_owned(),
            good.clone(),
            format!("x\r\n{good}--B--"),
            format!("{good}--B-- x"),
            format!("{good}--Bx--"),
            format!("{}--B--", good.replace("form-data", "attachment")),
            format!("{}--B--", good.replace("\"token\"", "token")),
            format!("{}--B--", good.replace("\"token\"", "\"to\\\"ken\"")),
            format!("{}--B--", good.replace("name=\"token\"", "name=\"token\"; name=\"x\"")),
            format!("{}--B--", good.replace("Content-Disposition", "X-Disposition")),
            format!("{}--B--", good.replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n")),
        ] {
            assert_eq!(field(&body), Err(FormError::Malformed), "{body:?}");
        }
    }

    #[test]
    fn a_part_that_another_receiver_finds_is_refused() {
        let head = "--B\r\nContent-Disposition: form-data; name=\"x\"";
        for hidden in [
            // Continued lines, fields with something around their name, other ends of lines.
            format!("{head}\r\n ; name=\"token\":\r\n\r\nevil\r\n"),
            format!("{head}\r\nContent-Disposition : form-data; name=\"token\"\r\n\r\nevil\r\n"),
            format!("{head}\nContent-Disposition: form-data; name=\"token\"\r\n\r\nevil\r\n"),
            format!("{head}\rContent-Disposition: form-data; name=\"token\"\r\n\r\nevil\r\n"),
            format!("{head}\r\nX: a\rContent-Disposition: form-data; name=\"token\"\r\n\r\nevil\r\n"),
            format!("{head}\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nevil\r\n"),
            format!("{head}; filename=\"f\"; name=\"token\"\r\n\r\nevil\r\n"),
            format!("{head}; name*=utf-8\'\'token\r\n\r\nevil\r\n"),
            // A form in a part.
            format!(
                "{head}\r\nContent-Type: Multipart/mixed; boundary=C\r\n\r\n--C\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nevil\r\n--C--\r\n"
            ),
        ] {
            assert_eq!(
                field(&format!("{}{hidden}--B--", part("token", "good"))),
                Err(FormError::Malformed),
                "{hidden}"
            );
        }
        // A boundary that is not at the beginning of a line, or whose line ends otherwise.
        for (before, after) in [
            ("y\n", "\r\n"),
            ("y\n", "\n"),
            ("a ", "\r\n"),
            ("y\r", "\r\n"),
            ("", "\r\n"),
            ("y\r\n", "\n"),
            ("\r\n-", "\r\n"),
        ] {
            let hidden = format!(
                "{}{before}--B{after}Content-Disposition: form-data; name=\"token\"\r\n\r\nevil\r\n",
                part("x", "").trim_end()
            );
            let body = format!("{}{hidden}--B--", part("token", "good"));
            assert_eq!(field(&body), Err(FormError::Malformed), "{body:?}");
        }
        for twin in [" token", "token ", "token\t", "token\u{a0}", "[token]", "token[]", "token[x]"] {
            let body = format!("{}{}--B--", part("token", "good"), part(twin, "evil"));
            assert_eq!(field(&body), Err(FormError::Duplicate), "{twin}");
        }
        let file = part("token", "good").replace("\"token\"", "\"token\"; filename=\"f\"");
        assert_eq!(field(&format!("{file}--B--")), Err(FormError::Malformed));
    }

    #[test]
    fn the_number_of_parts_is_bounded() {
        let body = format!("{}--B--", part("x", "1").repeat(10_000));
        assert_eq!(field(&body), Err(FormError::TooComplex));
    }

    #[test]
    fn the_boundary_comes_from_the_content_type() {
        let of = |value: &str| {
            let mut headers = HeaderBuf::default();
            headers.push("Content-Type", value.as_bytes());
            boundary(headers.view()).map(|text| String::from_utf8(text.to_vec()).unwrap())
        };
        assert_eq!(of("multipart/form-data; boundary=a-b"), Some("a-b".to_owned()));
        assert_eq!(of("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\""), None);
        assert_eq!(of("multipart/form-data; boundary=\"ab\""), Some("ab".to_owned()));
        for none in
            ["application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=a"]
        {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(of(&format!("multipart/form-data; boundary={}", "a".repeat(71))), None);
        assert_eq!(of("multipart/form-data; charset=utf-8; boundary=--=_P.1"), Some("--=_P.1".to_owned()));
        // Receivers differ in which boundary these have.
        for odd in [
            "boundary=a; boundary=b",
            "boundary=a; boundary*=utf-8''b",
            "boundary*0=a; boundary*1=b",
            "boundary=a; boundary =b",
            "x=\"; boundary=a; y=\"; boundary=b",
            "x=\"; boundary=a; \"",
            "boundary=\"a; boundary=b\"",
            "boundary=a,b",
            "boundary=\"a",
            "boundary=a\\b",
            "boundary=a; charset=utf-16",
            "charset=utf-7; boundary=a",
        ] {
            assert_eq!(of(&format!("multipart/form-data; {odd}")), None, "{odd}");
        }
    }
}
