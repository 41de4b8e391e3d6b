//! Other spellings of the same JSON: what a body looked like before something on the way read it and wrote it again.
//! Only for explanations; no verdict rests on it.

/// The body with other white space between its tokens and other escapes inside of its strings, each with the words
/// for what then has happened to it. Nothing for a body that is not an object or an array.
pub(super) fn spellings(body: &[u8]) -> Vec<(Vec<u8>, String)> {
    if !matches!(body.trim_ascii().first(), Some(b'{' | b'[')) {
        return Vec::new();
    }
    let layouts = [
        (body.to_vec(), ""),
        (laid_out(body, b""), "has white space between its JSON tokens that was not signed"),
        (laid_out(body, b" "), "lacks the spaces after `,` and `:` in its JSON"),
    ];
    let mut spellings: Vec<(Vec<u8>, String)> = Vec::new();
    for (text, layout) in layouts {
        let escapes = [
            (text.clone(), ""),
            (escaped(&text), "has characters where \\uXXXX escapes were signed"),
            (unescaped(&text), "has \\uXXXX escapes where the characters were signed"),
        ];
        for (text, escape) in escapes {
            let what: Vec<&str> = [layout, escape].into_iter().filter(|what| !what.is_empty()).collect();
            if text != body && spellings.iter().all(|(known, _)| *known != text) {
                spellings.push((text, what.join(", and ")));
            }
        }
    }
    spellings
}

/// With a space after each comma and colon.
pub(super) fn spaced(body: &[u8]) -> Vec<u8> {
    laid_out(body, b" ")
}

/// Without white space outside of strings, but with `gap` after each comma and colon.
fn laid_out(body: &[u8], gap: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 64);
    let (mut in_string, mut after_backslash) = (false, false);
    for byte in body {
        if !in_string && byte.is_ascii_whitespace() {
            continue;
        }
        out.push(*byte);
        if in_string {
            in_string = after_backslash || *byte != b'"';
            after_backslash = !after_backslash && *byte == b'\\';
        } else {
            in_string = *byte == b'"';
            if matches!(byte, b',' | b':') {
                out.extend_from_slice(gap);
            }
        }
    }
    out
}

fn escaped(body: &[u8]) -> Vec<u8> {
    let Ok(text) = core::str::from_utf8(body) else { return body.to_vec() };
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out.into_bytes()
}

/// Escapes of ASCII characters stay: most of them are there because they must be.
fn unescaped(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((first, after)) = rest.split_first() {
        if let Some((character, after)) = read_escape(rest) {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            rest = after;
            continue;
        }
        out.push(*first);
        rest = after;
        if *first == b'\\'
            && let Some((second, after)) = after.split_first()
        {
            out.push(*second);
            rest = after;
        }
    }
    out
}

/// The character beyond ASCII that is escaped at the beginning of `text`, and what follows it.
fn read_escape(text: &[u8]) -> Option<(char, &[u8])> {
    let unit = |text: &[u8]| -> Option<u16> {
        let digits = text.strip_prefix(b"\\u")?.get(..4)?;
        let sound = digits.iter().all(u8::is_ascii_hexdigit);
        u16::from_str_radix(core::str::from_utf8(digits).ok().filter(|_| sound)?, 16).ok()
    };
    let first = unit(text)?;
    let pair = text.get(6..).and_then(unit).map(|second| [first, second]);
    let mut decoded = char::decode_utf16(pair.map_or_else(|| vec![first], Vec::from));
    let character = decoded.next()?.ok().filter(|character| !character.is_ascii())?;
    Some((character, text.get(6 * character.len_utf16()..)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn white_space_inside_of_strings_stays() {
        let body = b"{ \"a, b\" : [1,\n2], \"c\\\" : d\":\t\"\\\\\" , \"e\":1 }";
        assert_eq!(text(laid_out(body, b"")), r#"{"a, b":[1,2],"c\" : d":"\\","e":1}"#);
        assert_eq!(text(laid_out(body, b" ")), r#"{"a, b": [1, 2], "c\" : d": "\\", "e": 1}"#);
    }

    #[test]
    fn escapes_and_characters_are_exchanged() {
        let (plain, written) = ("[\"ä€😀\\n\\\\u00e4\"]", r#"["\u00e4\u20ac\ud83d\ude00\n\\u00e4"]"#);
        assert_eq!(text(escaped(plain.as_bytes())), written);
        assert_eq!(text(unescaped(written.as_bytes())), plain);
        for same in [r"\u0041", r"\ud83d", r"\ud83dx", r"\u+0e4", r"\u00e", r"\"] {
            assert_eq!(text(unescaped(same.as_bytes())), same);
        }
    }

    #[test]
    fn only_json_has_other_spellings_and_each_is_another() {
        assert!(spellings(b"a=1&b=2").is_empty());
        assert!(spellings(b"").is_empty());
        let found = spellings("{\"a\": \"ä\"}".as_bytes());
        assert!(found.iter().any(|(body, _)| body == b"{\"a\":\"\\u00e4\"}"), "{found:?}");
        assert!(found.iter().all(|(body, what)| body != "{\"a\": \"ä\"}".as_bytes() && !what.is_empty()), "{found:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body in "[\\[{].{0,40}(\\\\u[0-9a-f]{0,4}){0,3}") {
            let _ = spellings(body.as_bytes());
        }
    }
}
