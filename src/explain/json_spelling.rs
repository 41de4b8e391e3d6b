//! Other spellings of the same JSON: what a body looked like before something on the way read it and wrote it again.
//! Only for explanations; no verdict rests on it.

use std::borrow::Cow;

use super::budget::TrialBudget;
use super::case::{TriedCase, Visit};
use super::mistake::Mistake;

/// One way of writing.
#[derive(Clone, Copy)]
struct OtherWay {
    /// Gives nothing where more would be written than the bound.
    write: fn(&[u8], usize) -> Option<Vec<u8>>,
    /// What stands in a body that is written otherwise; anything may where that is empty.
    marks: &'static [&'static [u8]],
    /// What has happened to a body that was written so when it was signed.
    what: &'static str,
}

const fn way(
    write: fn(&[u8], usize) -> Option<Vec<u8>>,
    marks: &'static [&'static [u8]],
    what: &'static str,
) -> OtherWay {
    OtherWay { write, marks, what }
}

const LAYOUTS: [OtherWay; 5] = [
    way(|body, _| Some(laid_out(body, b"")), &[], "has white space between its JSON tokens that was not signed"),
    way(|body, _| Some(laid_out(body, b" ")), &[], "lacks the spaces after `,` and `:` in its JSON"),
    way(
        |body, bound| indented(body, b"  ", bound),
        &[],
        "lacks the line breaks of its JSON, with two spaces for each level",
    ),
    way(
        |body, bound| indented(body, b"    ", bound),
        &[],
        "lacks the line breaks of its JSON, with four spaces for each level",
    ),
    way(
        |body, bound| indented(body, b"\t", bound),
        &[],
        "lacks the line breaks of its JSON, with a tab for each level",
    ),
];

/// A mark for every character that is not ASCII.
const NOT_ASCII: &[u8] = b"\x80";

const CHARACTERS: [OtherWay; 3] = [
    way(
        |body, _| Some(escaped(body, b"0123456789abcdef")),
        &[NOT_ASCII],
        "has characters where \\uXXXX escapes were signed",
    ),
    way(
        |body, _| Some(escaped(body, b"0123456789ABCDEF")),
        &[NOT_ASCII],
        "has characters where \\uXXXX escapes in capitals were signed",
    ),
    way(|body, _| Some(unescaped(body)), &[b"\\u"], "has \\uXXXX escapes where the characters were signed"),
];

const SLASHES: [OtherWay; 2] = [
    way(|body, _| Some(exchanged(body, &[(b"/", br"\/")])), &[b"/"], r"has `/` where `\/` was signed"),
    way(|body, _| Some(exchanged(body, &[(br"\/", b"/")])), &[br"\/"], r"has `\/` where `/` was signed"),
];

/// `<`, `>` and `&` as Go, and `=` and `'` beside them as Gson, and more in capitals as .NET writes them.
const MARKUP: [OtherWay; 4] = [
    way(
        |body, _| Some(exchanged(body, GO)),
        &[b"<", b">", b"&"],
        "has `<`, `>` or `&` where their \\uXXXX escapes were signed (Go)",
    ),
    way(
        |body, _| Some(exchanged(body, GSON)),
        &[b"<", b">", b"&", b"=", b"'"],
        "has `=`, `'`, `<`, `>` or `&` where their \\uXXXX escapes were signed (Gson)",
    ),
    way(
        |body, _| Some(exchanged(body, DOTNET)),
        &[b"<", b">", b"&", b"'", b"+", b"`", br#"\""#],
        "has quotes, `+`, `<`, `>` or `&` where their \\uXXXX escapes were signed (.NET)",
    ),
    way(
        |body, _| Some(exchanged(body, UNDONE)),
        &[b"\\u"],
        "has \\uXXXX escapes of ASCII where the characters were signed",
    ),
];

type Pairs = &'static [(&'static [u8], &'static [u8])];

const GO: Pairs = &[(b"<", br"\u003c"), (b">", br"\u003e"), (b"&", br"\u0026")];
const GSON: Pairs =
    &[(b"<", br"\u003c"), (b">", br"\u003e"), (b"&", br"\u0026"), (b"=", br"\u003d"), (b"'", br"\u0027")];
const DOTNET: Pairs = &[
    (b"<", br"\u003C"),
    (b">", br"\u003E"),
    (b"&", br"\u0026"),
    (b"'", br"\u0027"),
    (b"+", br"\u002B"),
    (b"`", br"\u0060"),
    (br#"\""#, br"\u0022"),
];
const UNDONE: Pairs = &[
    (br"\u003c", b"<"),
    (br"\u003C", b"<"),
    (br"\u003e", b">"),
    (br"\u003E", b">"),
    (br"\u0026", b"&"),
    (br"\u003d", b"="),
    (br"\u003D", b"="),
    (br"\u0027", b"'"),
    (br"\u002b", b"+"),
    (br"\u002B", b"+"),
    (br"\u0060", b"`"),
    (br"\u002f", b"/"),
    (br"\u002F", b"/"),
    (br"\u0022", br#"\""#),
    (br"\u005c", br"\\"),
    (br"\u005C", br"\\"),
];

/// What can be another in the spelling of a body, one way of each at a time.
const ASPECTS: [&[OtherWay]; 4] = [&LAYOUTS, &CHARACTERS, &SLASHES, &MARKUP];

/// No spelling that is tried is so many times as long as the body, and this much longer.
const GROWTH: usize = 8;
const SLACK: usize = 4096;
/// Nor this much longer: a bound of the memory.
const MOST_MORE: usize = 64 << 20;

/// Other spellings of the body of a case.
pub(super) fn spellings(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    find(body, case.known.budget, &ASPECTS, |text, mistake, what| visit(case.with_body(text), mistake, &[what]))
}

/// Other white space alone, and that with escapes.
pub(super) fn layouts(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    let aspects: [&[OtherWay]; 4] = [&LAYOUTS, &CHARACTERS, &[], &[]];
    find(body, case.known.budget, &aspects, |text, mistake, what| visit(case.with_body(text), mistake, &[what]))
}

/// What happens to long JSON most often, at little cost: read and written again by JavaScript or Python.
pub(super) fn frequent(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let (body, [compact, spaced, ..]) = (case.seen.body, LAYOUTS);
    let aspects: [&[OtherWay]; 4] = [&[compact, spaced], &CHARACTERS, &[], &[]];
    find(body, case.known.budget, &aspects, |text, mistake, what| visit(case.with_body(text), mistake, &[what]))
}

/// Shows other spellings of a body, until one of them fits; whether one did. Nothing for a body that is not an object or
/// an array. What differs in less is tried first, as far as `budget` goes.
fn find(
    body: &[u8],
    budget: &TrialBudget,
    aspects: &[&[OtherWay]; 4],
    mut fits: impl FnMut(&[u8], Mistake, &str) -> bool,
) -> bool {
    if !matches!(body.trim_ascii().first(), Some(b'{' | b'[')) {
        return false;
    }
    let bound = body.len().saturating_mul(GROWTH).saturating_add(SLACK).min(body.len().saturating_add(MOST_MORE));
    // One aspect has nothing to do with another: what changes nothing of the body changes nothing of its other spellings.
    let changes = |way: &OtherWay| {
        applies(body, way, budget) && rewritten(body, way, budget, bound).is_some_and(|text| text != body)
    };
    let ways = aspects.map(|ways| ways.iter().copied().filter(changes).collect::<Vec<OtherWay>>());
    let is_layout = |way: &OtherWay| LAYOUTS.iter().any(|it| it.what == way.what);
    for spelling in combinations(&ways) {
        let mut text = Cow::Borrowed(body);
        let whole = spelling.iter().all(|way| {
            let written = rewritten(&text, way, budget, bound);
            written.map(|written| text = Cow::Owned(written)).is_some()
        });
        if !whole {
            // One that is longer than what is left costs no less than the next.
            if budget.bound() < body.len() {
                return false;
            }
            continue;
        }
        let words: Vec<&str> = spelling.iter().map(|way| way.what).collect();
        let mistake = if spelling.iter().all(is_layout) { Mistake::JsonLayout } else { Mistake::JsonEscapes };
        if *text != *body && fits(&text, mistake, &words.join(", and ")) {
            return true;
        }
    }
    false
}

/// Whether something stands in the body that is another in that way.
fn applies(body: &[u8], way: &OtherWay, budget: &TrialBudget) -> bool {
    let stands = |mark: &&[u8]| {
        if **mark == *NOT_ASCII { !body.is_ascii() } else { memchr::memmem::find(body, mark).is_some() }
    };
    way.marks.is_empty() || budget.searches(body, way.marks.len()) && way.marks.iter().any(stands)
}

/// The text written in that way, if it does not become too long and can be paid for.
fn rewritten(text: &[u8], way: &OtherWay, budget: &TrialBudget, bound: usize) -> Option<Vec<u8>> {
    if !budget.steps(text, 1) {
        return None;
    }
    // What is given up has been written as far as the bound.
    let bound = bound.min(budget.bound());
    let written = (way.write)(text, bound);
    let paid = budget.charge(written.as_ref().map_or(bound, Vec::len));
    written.filter(|written| paid && written.len() <= bound)
}

/// At most one way of each aspect, those with the fewest first.
fn combinations(ways: &[Vec<OtherWay>; 4]) -> Vec<Vec<OtherWay>> {
    let mut all = vec![Vec::new()];
    for aspect in ways {
        let longer: Vec<Vec<OtherWay>> =
            all.iter().flat_map(|some| aspect.iter().map(|way| [some.as_slice(), &[*way]].concat())).collect();
        all.extend(longer);
    }
    all.sort_by_key(Vec::len);
    all.retain(|some| !some.is_empty());
    all
}

/// Without white space outside of strings, but with `gap` after each comma and colon.
pub(super) fn laid_out(body: &[u8], gap: &[u8]) -> Vec<u8> {
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

/// One value a line, each level of them behind one `step` more; empty objects and arrays stay as they are. Nothing where
/// that has more than `bound` bytes.
fn indented(body: &[u8], step: &[u8], bound: usize) -> Option<Vec<u8>> {
    let compact = laid_out(body, b"");
    let mut out = Vec::with_capacity(2 * compact.len());
    let (mut in_string, mut after_backslash, mut depth) = (false, false, 0_usize);
    let mut rest = compact.iter().peekable();
    let new_line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        // Deeper than this is nothing that people write.
        (0..depth.min(64)).for_each(|_| out.extend_from_slice(step));
    };
    while let Some(byte) = rest.next() {
        if out.len() > bound {
            return None;
        }
        if !in_string && matches!(byte, b'}' | b']') {
            depth = depth.saturating_sub(1);
            if !matches!(out.last(), Some(b'{' | b'[')) {
                new_line(&mut out, depth);
            }
        }
        out.push(*byte);
        if in_string {
            in_string = after_backslash || *byte != b'"';
            after_backslash = !after_backslash && *byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b':' => out.push(b' '),
            b',' => new_line(&mut out, depth),
            b'{' | b'[' => {
                depth += 1;
                if !matches!(rest.peek(), Some(b'}' | b']')) {
                    new_line(&mut out, depth);
                }
            }
            _ => {}
        }
    }
    Some(out)
}

/// With each text of `pairs` exchanged for the other. What stands behind a backslash belongs to it.
fn exchanged(body: &[u8], pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let begins = |byte: u8| byte == b'\\' || pairs.iter().any(|(from, _)| from.first() == Some(&byte));
    let mut beginnings = [false; 256];
    (0..=u8::MAX).zip(&mut beginnings).for_each(|(byte, is)| *is = begins(byte));
    let plain = |byte: &u8| !beginnings.get(usize::from(*byte)).copied().unwrap_or_default();
    let mut rest = body;
    while let Some((first, after)) = rest.split_first() {
        if plain(first) {
            let end = rest.iter().position(|byte| !plain(byte)).unwrap_or(rest.len());
            let (kept, after) = rest.split_at(end);
            out.extend_from_slice(kept);
            rest = after;
            continue;
        }
        if let Some((from, to)) = pairs.iter().find(|(from, _)| rest.starts_with(from)) {
            out.extend_from_slice(to);
            rest = rest.get(from.len()..).unwrap_or_default();
            continue;
        }
        let length = if *first == b'\\' && !after.is_empty() { 2 } else { 1 };
        let (kept, after) = rest.split_at(length);
        out.extend_from_slice(kept);
        rest = after;
    }
    out
}

fn escaped(body: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let Ok(text) = core::str::from_utf8(body) else { return body.to_vec() };
    let mut out = String::with_capacity(text.len());
    let digit = |unit: u16, shift: u32| digits.get(usize::from(unit >> shift & 0xf)).map_or('0', |it| char::from(*it));
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            out.push_str("\\u");
            out.extend([12, 8, 4, 0].map(|shift| digit(*unit, shift)));
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
    fn json_is_indented_as_libraries_do_it() {
        let body = br#"{"a":[1,{"b":"{,:\\\""}],"c":{},"d":[]}"#;
        let expected =
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"{,:\\\\\\\"\"\n    }\n  ],\n  \"c\": {},\n  \"d\": []\n}";
        assert_eq!(text(indented(body, b"  ", 1000).unwrap()), expected);
        let value: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!(expected, serde_json::to_string_pretty(&value).unwrap());
    }

    #[test]
    fn escapes_and_characters_are_exchanged() {
        let (plain, written) = ("[\"ä€😀\\n\\\\u00e4\"]", r#"["\u00e4\u20ac\ud83d\ude00\n\\u00e4"]"#);
        assert_eq!(text(escaped(plain.as_bytes(), b"0123456789abcdef")), written);
        assert_eq!(text(unescaped(written.as_bytes())), plain);
        for same in [r"\u0041", r"\ud83d", r"\ud83dx", r"\u+0e4", r"\u00e", r"\"] {
            assert_eq!(text(unescaped(same.as_bytes())), same);
        }
        let (plain, written) = (r#"["a/b\\/","\\"]"#, r#"["a\/b\\\/","\\"]"#);
        assert_eq!(text(exchanged(plain.as_bytes(), &[(b"/", br"\/")])), written);
        assert_eq!(text(exchanged(written.as_bytes(), &[(br"\/", b"/")])), plain);
    }

    /// Everything that is tried.
    fn tried(body: &[u8]) -> Vec<String> {
        let mut tried = Vec::new();
        assert!(!find(body, &TrialBudget::of(0), &ASPECTS, |text, _, _| {
            tried.push(text.to_vec());
            false
        }));
        tried.into_iter().map(text).collect()
    }

    #[test]
    fn only_json_has_other_spellings_and_each_is_another() {
        assert!(tried(b"a=1&b=2").is_empty());
        assert!(tried(b"").is_empty());
        let body = "{\"a\": \"ä</b>\"}";
        for signed in [
            r#"{"a":"\u00e4</b>"}"#,
            r#"{"a":"\u00E4</b>"}"#,
            r#"{"a": "ä<\/b>"}"#,
            r#"{"a":"\u00e4\u003c\/b\u003e"}"#,
            r#"{"a":"\u00E4\u003C/b\u003E"}"#,
            "{\n\t\"a\": \"\\u00e4<\\/b>\"\n}",
        ] {
            assert!(tried(body.as_bytes()).iter().any(|text| text == signed), "{signed}");
            assert!(tried(signed.as_bytes()).iter().any(|text| text == body), "{signed}");
        }
        assert!(tried(body.as_bytes()).iter().all(|text| text != body));
    }

    /// What the trials on a body hash within `limit`: the sum, and the longest of them.
    fn hashed(body: &[u8], limit: u64) -> (u64, usize) {
        let (budget, mut sum, mut longest) = (TrialBudget::within(limit), 0, 0);
        let found = find(body, &budget, &ASPECTS, |text, _, _| {
            longest = longest.max(text.len());
            sum += if budget.spend(text.len()) { text.len() as u64 } else { 0 };
            false
        });
        assert!(!found && budget.spent() <= limit);
        (sum, longest)
    }

    #[test]
    fn hostile_bodies_cost_no_more_than_a_multiple_of_their_length() {
        let repeat = |text: &str, length: usize| text.repeat(length / text.len()).into_bytes();
        for text in ["[", "{", "[[],", "[\"<\\/é\",", "{\"a\":", "[\\u003c", "[\\u00e4/", "[\\\\", "[\"", "[é"] {
            let body = repeat(text, 64 << 10);
            let limit = 64 * body.len() as u64;
            let (sum, longest) = hashed(&body, limit);
            assert!(sum <= limit && longest <= 8 * body.len() + 4096, "{text}: {sum} {longest}");
        }
        // A megabyte that would be 250 megabytes when it is indented.
        let body = repeat("[", 1 << 20);
        let (sum, longest) = hashed(&body, 96 << 20);
        assert!(sum <= 96 << 20 && longest <= 9 << 20, "{sum} {longest}");
    }

    proptest::proptest! {
        #[test]
        fn work_is_bounded_whatever_the_body(
            parts in proptest::collection::vec(
                proptest::sample::select(vec!["[", "]", "{", "}", "\"", "\\", ",", ":", " ", "\n", "é", "<", "/", "\\/", "\\u003c", "\\ud83d"]),
                1..60,
            ),
            times in 1_usize..500,
        ) {
            let body = format!("[{}", parts.concat().repeat(times));
            let limit = 32 * body.len() as u64;
            let (sum, longest) = hashed(body.as_bytes(), limit);
            proptest::prop_assert!(sum <= limit && longest <= 8 * body.len() + 4096);
        }

        #[test]
        fn no_body_panics(body in "[\\[{].{0,40}(\\\\u[0-9a-f]{0,4}){0,3}[]}/<]{0,4}") {
            let _ = find(body.as_bytes(), &TrialBudget::of(0), &ASPECTS, |_, _, _| false);
        }
    }
}
