//! What a body was when it was signed, before something on its way read it and wrote it again: the usual changes, undone.
//! Only for explanations; no verdict rests on it.

use super::budget::TrialBudget;
use super::json_spelling;

/// Undoes a change, where there is something to undo; with the words for what then has happened to the body.
type Undoing = (fn(&[u8]) -> Option<Vec<u8>>, &'static str);

const UNDOINGS: [Undoing; 15] = [
    (|body| body.strip_suffix(b"\r\n").map(Vec::from), "ends with a line break (CRLF)"),
    (|body| body.strip_suffix(b"\n").map(Vec::from), "ends with a newline"),
    (|body| Some([body, b"\n"].concat()), "lacks the newline at its end"),
    (|body| Some([body, b"\r\n"].concat()), "lacks the line break (CRLF) at its end"),
    (|body| Some(body.trim_ascii().to_vec()), "has white space around it"),
    (|body| body.strip_prefix(b"\xef\xbb\xbf").map(Vec::from), "begins with a byte order mark"),
    (|body| Some(lines(body).join(&b"\n"[..])), "has CRLF line breaks where LF was signed"),
    (|body| Some(lines(body).join(&b"\r\n"[..])), "has LF line breaks where CRLF was signed"),
    (inside_of_a_string, "is a JSON string that contains what was signed"),
    (|body| form(body, "*-._", b"+"), "has characters where percent-escapes were signed"),
    (
        |body| form(body, "-._~", b"%20"),
        "has characters where percent-escapes were signed, `%20` for spaces among them",
    ),
    (|body| Some(pluses(body, b'+', b"%20")), "has `+` for spaces where `%20` was signed"),
    (spaces_as_pluses, "has `%20` for spaces where `+` was signed"),
    (from_latin_1, "is in Latin-1 where UTF-8 was signed"),
    (encoded_once, "has been encoded as UTF-8 twice"),
];

/// What has happened to a body if, with that undone, it `fits`, as far as `budget` lets all of that be tried.
pub(super) fn find(body: &[u8], budget: &TrialBudget, mut fits: impl FnMut(&[u8]) -> bool) -> Option<String> {
    for (undo, what) in UNDOINGS {
        if body.len() > budget.bound() {
            budget.refuse();
            return None;
        }
        let before = undo(body).filter(|before| before != body && budget.charge(before.len()));
        if before.is_some_and(|before| fits(&before)) {
            return Some(what.to_owned());
        }
    }
    json_spelling::find(body, budget, fits)
}

fn lines(body: &[u8]) -> Vec<&[u8]> {
    body.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect()
}

fn inside_of_a_string(body: &[u8]) -> Option<Vec<u8>> {
    serde_json::from_slice::<String>(body).ok().map(String::into_bytes)
}

/// The body as a form whose names and values are escaped, except for letters, digits and what is in `plain`.
fn form(body: &[u8], plain: &str, space: &[u8]) -> Option<Vec<u8>> {
    if !body.contains(&b'=') {
        return None;
    }
    let mut out = Vec::with_capacity(body.len() + 64);
    let mut in_name = true;
    for byte in body {
        match byte {
            b'&' => in_name = true,
            b'=' if in_name => in_name = false,
            b' ' => {
                out.extend_from_slice(space);
                continue;
            }
            byte if byte.is_ascii_alphanumeric() || plain.as_bytes().contains(byte) => {}
            byte => {
                out.extend_from_slice(format!("%{byte:02X}").as_bytes());
                continue;
            }
        }
        out.push(*byte);
    }
    Some(out)
}

fn pluses(text: &[u8], from: u8, to: &[u8]) -> Vec<u8> {
    text.split(|byte| *byte == from).collect::<Vec<&[u8]>>().join(to)
}

fn spaces_as_pluses(body: &[u8]) -> Option<Vec<u8>> {
    core::str::from_utf8(body).ok().map(|text| text.replace("%20", "+").into_bytes())
}

fn from_latin_1(body: &[u8]) -> Option<Vec<u8>> {
    if core::str::from_utf8(body).is_ok() {
        return None;
    }
    Some(body.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes())
}

fn encoded_once(body: &[u8]) -> Option<Vec<u8>> {
    core::str::from_utf8(body).ok()?.chars().map(|character| u8::try_from(character).ok()).collect()
}

/// The target of a request with its spaces written in the other way, with the words for what then has happened.
pub(super) fn other_spaces(target: &[u8]) -> [(Vec<u8>, &'static str); 2] {
    [
        (pluses(target, b'+', b"%20"), "`+` for spaces where `%20` was signed"),
        (spaces_as_pluses(target).unwrap_or_default(), "`%20` for spaces where `+` was signed"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_undone_and_named() {
        for (signed, arrived, what) in [
            (&b"{}"[..], &b"{}\n"[..], "ends with a newline"),
            (b"{}\r\n", b"{}", "lacks the line break (CRLF)"),
            (b"{}", b" {}\n\n", "white space around it"),
            (br#"{"a":1}"#, br#""{\"a\":1}""#, "is a JSON string that contains"),
            (b"payload=%7B%22a%22%3A+1%7D&b=", b"payload={\"a\": 1}&b=", "has characters where percent-escapes"),
            (b"a=b%20c%3Dd", b"a=b c=d", "`%20` for spaces among them"),
            (b"a=b%20c", b"a=b+c", "has `+` for spaces where `%20`"),
            (b"a=b+c", b"a=b%20c", "has `%20` for spaces where `+`"),
            ("é".as_bytes(), b"\xe9", "is in Latin-1"),
            ("é".as_bytes(), "Ã©".as_bytes(), "encoded as UTF-8 twice"),
            (br#"{"a":"\/"}"#, br#"{"a":"/"}"#, r"has `/` where `\/` was signed"),
        ] {
            let found = find(arrived, &TrialBudget::of(0), |body| body == signed);
            assert!(found.as_ref().is_some_and(|found| found.contains(what)), "{what}: {found:?}");
        }
        assert_eq!(find(b"a", &TrialBudget::of(0), |body| body == b"a"), None);
    }
}
