//! Python's own notation of values, as `str()` and `repr()` write it, read back.

/// What the body was before `str()`: the bytes of `b'…'`, or the JSON of a dictionary, as several libraries write it.
pub(super) fn read(body: &[u8]) -> Vec<Vec<u8>> {
    let text = body.trim_ascii();
    if let Some(inside) = bytes_literal(text) {
        return vec![unescaped(inside)];
    }
    if !looks_like_it(text) {
        return Vec::new();
    }
    let json = as_json(text);
    let compact: Vec<u8> = super::json_spelling::laid_out(&json, b"");
    if compact == json { vec![json] } else { vec![json, compact] }
}

fn bytes_literal(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(b"b")?;
    [&b"'"[..], b"\""].into_iter().find_map(|quote| rest.strip_prefix(quote)?.strip_suffix(quote))
}

/// Whether a text begins as Python's notation does: what costs nothing to see.
pub(super) fn may_be_it(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'[' | b'b'))
}

/// Whether a text is Python's notation, and not JSON: a dictionary or a list with strings in single quotes.
pub(super) fn looks_like_it(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let starts = [&b"{'"[..], b"['", b"[{'", b"b'{", b"b'[", b"b\"{"];
    starts.iter().any(|start| text.starts_with(start))
        || (text.first() == Some(&b'{')
            && [&b": None"[..], b": True", b": False"].iter().any(|it| memchr::memmem::find(text, it).is_some())
            // Such words stand in texts, too.
            && serde_json::from_slice::<&serde_json::value::RawValue>(text).is_err_and(|error| !error.is_eof()))
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let Some((kind, after)) = (if *first == b'\\' { after.split_first() } else { None }) else {
            out.push(*first);
            continue;
        };
        rest = after;
        match kind {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'x' => {
                let digits = after.get(..2).and_then(|digits| core::str::from_utf8(digits).ok());
                out.extend(digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()));
                rest = after.get(2..).unwrap_or_default();
            }
            other => out.push(*other),
        }
    }
    out
}

fn as_json(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut quote = None;
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (quote, first) {
            (None, b'\'' | b'"') => {
                quote = Some(*first);
                out.push(b'"');
            }
            (Some(open), close) if open == *close => {
                quote = None;
                out.push(b'"');
            }
            (Some(_), b'\\') => {
                let (escaped, after) = after.split_first().unwrap_or((&b'\\', after));
                rest = after;
                if *escaped != b'\'' {
                    out.push(b'\\');
                }
                out.push(*escaped);
            }
            (Some(_), b'"') => out.extend_from_slice(b"\\\""),
            (None, b'N' | b'T' | b'F') => {
                let words: [(&[u8], &[u8]); 3] = [(b"one", b"null"), (b"rue", b"true"), (b"alse", b"false")];
                let word = words.iter().find(|(tail, _)| after.starts_with(tail));
                out.extend_from_slice(word.map_or(core::slice::from_ref(first), |(_, json)| json));
                rest = word.and_then(|(tail, _)| after.get(tail.len()..)).unwrap_or(after);
            }
            _ => out.push(*first),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_and_bytes_are_read() {
        let read = |text: &str| read(text.as_bytes()).into_iter().map(|it| String::from_utf8(it).unwrap_or_default());
        let found: Vec<String> = read("{'a': None, 'b': [True, \"it's\"], 'c': '\"'}").collect();
        assert_eq!(
            found,
            [r#"{"a": null, "b": [true, "it's"], "c": "\""}"#, r#"{"a":null,"b":[true,"it's"],"c":"\""}"#]
        );
        assert_eq!(read(r"b'{\'a\': \xc3\xa9\n}'").collect::<Vec<_>>(), ["{'a': é\n}"]);
        assert!(!looks_like_it(br#"{"note": "paid: True, owner: None"}"#) && looks_like_it(br#"{"a": None}"#));
        assert_eq!(read("{\"a\": 1}").count() + read("").count() + read("{'").count(), 1);
    }
}
