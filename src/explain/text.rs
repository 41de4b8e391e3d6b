//! Small readings of text that people have written in another form than it was meant.

use std::borrow::Cow;

use crate::gate::verify::Encoding;

/// Without white space around it, that of Unicode and zero-width characters among it.
pub(super) fn trimmed(text: &[u8]) -> &[u8] {
    let unseen = |c: char| c.is_whitespace() || matches!(c, '\0' | '\u{200b}'..='\u{200d}' | '\u{2060}');
    match core::str::from_utf8(text) {
        Ok(text) => text.trim_matches(unseen).as_bytes(),
        Err(_) => text.trim_ascii(),
    }
}

/// What a file has that has no secret in it; nothing for one that has.
#[must_use]
pub fn blank(text: &[u8]) -> Option<&'static str> {
    let unmarked = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let utf16 = matches!(text, [0xff, 0xfe] | [0xfe, 0xff]);
    match trimmed(unmarked) {
        _ if text.is_empty() => Some("has 0 bytes"),
        _ if utf16 => Some("has a byte order mark and nothing else"),
        b"" if unmarked.len() < text.len() => Some("has a byte order mark and nothing else but white space"),
        b"" if matches!(text, b"\n" | b"\r\n") => Some("has a newline and nothing else"),
        b"" => Some("has white space and nothing else"),
        _ => None,
    }
}

/// What stands between two quotes of the same kind.
pub(super) fn unquoted(text: &[u8]) -> Option<&[u8]> {
    let pairs = [("\"", "\""), ("'", "'"), ("`", "`"), ("“", "”"), ("‘", "’"), ("\\\"", "\\\"")];
    pairs.iter().find_map(|(open, close)| text.strip_prefix(open.as_bytes())?.strip_suffix(close.as_bytes()))
}

/// The value of `NAME=value`, `export NAME="value"` or `name: value`.
pub(super) fn assigned(text: &[u8]) -> Option<&[u8]> {
    let text = text.strip_prefix(b"export ").or_else(|| text.strip_prefix(b"set ")).unwrap_or(text).trim_ascii_start();
    let end = text.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"_-.".contains(byte)))?;
    let (name, rest) = text.split_at(end);
    let value = match rest.trim_ascii_start().split_first()? {
        (b'=', value) => value,
        (b':', value) if value.first() == Some(&b' ') => value,
        _ => return None,
    };
    let value = value.trim_ascii();
    // Padding of base64 is no value.
    if name.is_empty() || value.is_empty() || value.iter().all(|byte| *byte == b'=') {
        return None;
    }
    Some(unquoted(value).unwrap_or(value))
}

/// The text of UTF-16, with or without its mark.
pub(super) fn from_utf16(bytes: &[u8]) -> Option<String> {
    let zeros = |skip: usize| bytes.len() >= 4 && bytes.iter().skip(skip).step_by(2).all(|byte| *byte == 0);
    let big = bytes.starts_with(&[0xfe, 0xff]) || zeros(0);
    if !(big || bytes.starts_with(&[0xff, 0xfe]) || zeros(1)) {
        return None;
    }
    let (pairs, _) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| if big { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) });
    char::decode_utf16(units).collect::<Result<String, _>>().ok()
}

/// The strings in a small JSON document, with their names.
pub(super) fn json_strings(text: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if matches!(text.first(), Some(b'{' | b'[' | b'"'))
        && let Ok(value) = serde_json::from_slice::<serde_json::Value>(text)
    {
        collect(&value, "", &mut found);
    }
    found
}

fn collect(value: &serde_json::Value, name: &str, found: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::String(text) if found.len() < 32 => found.push((name.to_owned(), text.clone())),
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, name, found)),
        serde_json::Value::Object(members) => members.iter().for_each(|(name, member)| collect(member, name, found)),
        _ => {}
    }
}

/// Without a `;` or `,` at its end, or brackets around it.
pub(super) fn without_punctuation(text: &[u8]) -> Vec<&[u8]> {
    let end = text.strip_suffix(b";").or_else(|| text.strip_suffix(b",")).or_else(|| text.strip_suffix(b"."));
    let end = end.or_else(|| text.strip_suffix(b"\\n")).or_else(|| text.strip_suffix(b"%"));
    let pairs: [(&[u8], &[u8]); 3] = [(b"<", b">"), (b"(", b")"), (b"[", b"]")];
    let inside = pairs.iter().find_map(|(open, close)| text.strip_prefix(*open)?.strip_suffix(*close));
    let all = [end, end.and_then(unquoted), inside, inside.and_then(unquoted)];
    all.into_iter().flatten().collect()
}

/// With its percent-escapes decoded, and perhaps `+` as a space.
pub(super) fn percent_decoded(text: &[u8], plus: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).filter(|pair| *first == b'%' && pair.iter().all(u8::is_ascii_hexdigit));
        let decoded = pair.and_then(|pair| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok());
        out.push(decoded.unwrap_or(if plus && *first == b'+' { b' ' } else { *first }));
        rest = if decoded.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    out
}

/// With the digits of its percent-escapes in the other case; which of both, says `upper`.
pub(super) fn escapes_in(text: &[u8], upper: bool) -> Vec<u8> {
    let mut out = text.to_vec();
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'%', out.get(at..).unwrap_or_default()) {
        at += found + 1;
        if let Some(pair) = out.get_mut(at..at + 2)
            && pair.iter().all(u8::is_ascii_hexdigit)
        {
            if upper { pair.make_ascii_uppercase() } else { pair.make_ascii_lowercase() }
        }
    }
    out
}

/// The bytes of base64 of either alphabet, in one line or several.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let line: Cow<'_, [u8]> = if text.iter().any(u8::is_ascii_whitespace) {
        text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
    } else {
        text.into()
    };
    if line.len() < 4 {
        return None;
    }
    let mut out = vec![0; line.len() + 3];
    let length = [Encoding::Base64, Encoding::Base64Url].iter().find_map(|it| it.decode_key_into(&line, &mut out))?;
    out.truncate(length);
    Some(out)
}

/// Entities of HTML that stand for one character each.
const ENTITIES: [(&[u8], u8); 6] =
    [(b"&amp;", b'&'), (b"&lt;", b'<'), (b"&gt;", b'>'), (b"&quot;", b'"'), (b"&apos;", b'\''), (b"&nbsp;", b' ')];

/// With its HTML entities decoded: those with names that templates write, and those with numbers below 128.
pub(super) fn without_entities(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'&', rest) {
        let (before, from) = rest.split_at(at);
        out.extend_from_slice(before);
        let named = ENTITIES.iter().find_map(|(name, byte)| Some((*byte, from.strip_prefix(*name)?)));
        let (byte, after) = named.or_else(|| numbered(from)).unwrap_or((b'&', from.get(1..).unwrap_or_default()));
        out.push(byte);
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

/// `&#39;` and `&#x27;`.
fn numbered(from: &[u8]) -> Option<(u8, &[u8])> {
    let rest = from.strip_prefix(b"&#")?;
    let end = memchr::memchr(b';', rest.get(..rest.len().min(5))?)?;
    let digits = core::str::from_utf8(rest.get(..end)?).ok()?;
    let byte = match digits.strip_prefix(['x', 'X']) {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    Some((byte.ok().filter(u8::is_ascii)?, rest.get(end + 1..)?))
}

/// The bytes of hexadecimal digits.
pub(super) fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; text.len() / 2 + 3];
    let length = Encoding::Hex.decode_key_into(text, &mut out).filter(|length| *length >= 4)?;
    out.truncate(length);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_read() {
        let assigned = |text: &'static str| assigned(text.as_bytes());
        assert_eq!(assigned("A_B=x y"), Some(&b"x y"[..]));
        assert_eq!(assigned("export A=\"x\""), Some(&b"x"[..]));
        assert_eq!(assigned("a: x"), Some(&b"x"[..]));
        for text in ["abc", "abc==", "a:b", "=x", "MFRGG===="] {
            assert_eq!(assigned(text), None, "{text}");
        }
        assert_eq!(from_utf16(b"\xff\xfea\0b\0").as_deref(), Some("\u{feff}ab"));
        assert_eq!(from_utf16(b"\0a\0b").as_deref(), Some("ab"));
        assert_eq!(from_utf16(b"abcd"), None);
        for text in [&b""[..], b"\n", b"\r\n", b" \t", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n", b"\0\0", b"\xff\xfe"] {
            assert!(blank(text).is_some_and(|what| what.starts_with("has ")), "{text:?}");
        }
        assert_eq!(blank(b" x "), None);
        assert_eq!(trimmed("\u{200b} a\u{a0}".as_bytes()), b"a");
        assert_eq!(escapes_in(b"%c3%a9%zz%", true), b"%C3%A9%zz%");
        assert_eq!(base64(b"YWJj\nZGVm\n"), Some(b"abcdef".to_vec()));
        assert_eq!(percent_decoded(b"a%2Fb%+%4", true), b"a/b% %4");
        assert_eq!(without_entities(b"a&amp;lt;&#39;&#x3c;&#0x;&b&"), b"a&lt;'<&#0x;&b&");
        assert_eq!(json_strings(br#"{"a":{"b":"c"}}"#), [("b".to_owned(), "c".to_owned())]);
    }
}
