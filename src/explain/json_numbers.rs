//! Numbers that a library has read as floats and written again: `.0` gained or lost, zeros lost, integers rounded.

use core::ops::Range;

use super::case::{TriedCase, Visit};
use super::mistake::Mistake;

/// Beyond this an integer need not be a float (2^53).
const EXACT: u64 = 1 << 53;
/// So many numbers of a body are tried one by one.
const MOST: usize = 64;
/// A body that is longer has no neighbours tried.
const LONGEST: usize = 64 << 10;

/// Where the numbers are, outside of strings.
fn numbers_of(body: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut in_string, mut after_backslash, mut start) = (false, false, None);
    for (at, byte) in body.iter().enumerate() {
        if in_string {
            in_string = after_backslash || *byte != b'"';
            after_backslash = !after_backslash && *byte == b'\\';
            continue;
        }
        let is_number = byte.is_ascii_digit() || b"+-.eE".contains(byte);
        match (start, is_number) {
            (None, true) if *byte == b'-' || byte.is_ascii_digit() => start = Some(at),
            (Some(from), false) => {
                found.push(from..at);
                start = None;
            }
            _ => {}
        }
        in_string = *byte == b'"';
        if found.len() >= 16 * MOST {
            break;
        }
    }
    found.extend(start.map(|from| from..body.len()));
    found
}

fn replaced(body: &[u8], edits: &[(Range<usize>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 16);
    let mut at = 0;
    for (range, text) in edits {
        out.extend_from_slice(body.get(at..range.start).unwrap_or_default());
        out.extend_from_slice(text);
        at = range.end;
    }
    out.extend_from_slice(body.get(at..).unwrap_or_default());
    out
}

/// One way of writing a number that it may have had.
type Rewriting = (fn(&[u8]) -> Option<Vec<u8>>, &'static str);

const REWRITINGS: [Rewriting; 5] = [
    (|number| number.strip_suffix(b".0").map(Vec::from), "`.0` was added to a number"),
    (|number| is_integer(number).then(|| [number, b".0"].concat()), "`.0` was taken from a number"),
    (
        |number| {
            let at = number.iter().position(|byte| *byte == b'.')?;
            (number.len() - at == 2 && !number.contains(&b'e')).then(|| [number, b"0"].concat())
        },
        "a zero at the end of a number was lost",
    ),
    (
        |number| number.strip_suffix(b"0").filter(|rest| is_decimal(rest)).map(Vec::from),
        "a zero at the end of a number was added",
    ),
    (|number| is_integer(number).then(|| [number, b".00"].concat()), "`.00` was taken from a number"),
];

/// Whether digits stand behind a dot, and no exponent.
fn is_decimal(number: &[u8]) -> bool {
    let dot = number.iter().position(|byte| *byte == b'.');
    dot.is_some_and(|dot| dot + 1 < number.len()) && !number.contains(&b'e') && !number.contains(&b'E')
}

fn is_integer(number: &[u8]) -> bool {
    number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-')
}

/// Each number in the ways it may have been written, all alike and one by one.
pub(super) fn numbers(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    if !matches!(body.trim_ascii().first(), Some(b'{' | b'[')) || !case.pays(2) {
        return false;
    }
    let places = numbers_of(body);
    for (rewrite, what) in REWRITINGS {
        let edits: Vec<(Range<usize>, Vec<u8>)> =
            places.iter().filter_map(|range| Some((range.clone(), rewrite(body.get(range.clone())?)?))).collect();
        let mut tried = |edits: &[(Range<usize>, Vec<u8>)]| {
            if !case.known.budget.spend(body.len()) {
                return false;
            }
            let before = replaced(body, edits);
            visit(case.with_body(&before), Mistake::JsonNumbers, &[what])
        };
        if edits.len() > 1 && tried(&edits) {
            return true;
        }
        if edits.len() <= MOST && edits.iter().any(|edit| tried(core::slice::from_ref(edit))) {
            return true;
        }
    }
    if body.len() > LONGEST {
        if places.iter().any(|range| large(body.get(range.clone()).unwrap_or_default()).is_some()) {
            case.known.budget.refuse();
        }
        return false;
    }
    rounded(case, &places, visit)
}

/// The integers that a float cannot tell from one that stands here.
fn rounded(case: TriedCase<'_>, places: &[Range<usize>], visit: &mut Visit<'_>) -> bool {
    let body = case.seen.body;
    for range in places {
        let Some(number) = large(body.get(range.clone()).unwrap_or_default()) else { continue };
        for neighbour in neighbours(number).take(600) {
            if !case.known.budget.spend(body.len()) {
                return false;
            }
            let before = replaced(body, &[(range.clone(), neighbour.to_string().into_bytes())]);
            let what = format!("the integer {neighbour} was rounded to {number}, as floats are");
            if visit(case.with_body(&before), Mistake::JsonNumbers, &[&what]) {
                return true;
            }
        }
    }
    false
}

fn large(number: &[u8]) -> Option<u64> {
    core::str::from_utf8(number).ok()?.parse().ok().filter(|number| *number > EXACT)
}

/// Those that are the same float: that precision is lost is what is looked for.
fn neighbours(number: u64) -> impl Iterator<Item = u64> {
    let same = number as f64;
    let around = (1..2048).flat_map(move |step| [number.checked_add(step), number.checked_sub(step)]).flatten();
    around.filter(move |other| (*other as f64).to_bits() == same.to_bits())
}

/// No more of a body is looked at for numbers that look rounded.
const LOOKED_AT: usize = 1 << 20;

/// What of a body is looked at.
pub(super) fn looked_at(body: &[u8]) -> &[u8] {
    body.get(..body.len().min(LOOKED_AT)).unwrap_or_default()
}

/// Integers look rounded where only one of so many documents with such numbers has them by chance.
const UNLIKELY: f64 = 120.0;

/// An integer beyond 2^53, where all of them stand as floats are written, with zeros at the end: that is improbable by
/// chance. A number with few digits before its zeros was a round one from the beginning.
pub(super) fn looks_rounded(body: &[u8]) -> Option<String> {
    let body = looked_at(body);
    let mut all: Vec<u64> = numbers_of(body).into_iter().filter_map(|range| large(body.get(range)?)).collect();
    all.sort_unstable();
    all.dedup();
    let chances: f64 = all.iter().map(|number| 1.0 + neighbours(*number).count() as f64).product();
    let rounded = all.iter().all(|number| is_shortest(*number));
    all.first().filter(|_| rounded && chances >= UNLIKELY).map(u64::to_string)
}

/// Whether a number stands as a float is written: its shortest digits, and zeros.
fn is_shortest(number: u64) -> bool {
    let digits: String = format!("{:e}", number as f64).chars().take_while(|it| *it != 'e').collect();
    let digits = digits.replace('.', "");
    let whole = number.to_string();
    digits.len() >= 15 && whole.strip_prefix(&digits).is_some_and(|zeros| zeros.bytes().all(|zero| zero == b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_outside_of_strings() {
        let body = br#"{"a1":12,"b":[-3.5,1e3,"7"],"c\"9":0}"#;
        let found: Vec<&[u8]> = numbers_of(body).into_iter().filter_map(|range| body.get(range)).collect();
        assert_eq!(found, [&b"12"[..], b"-3.5", b"1e3", b"0"]);
    }

    #[test]
    fn numbers_look_rounded_where_that_is_no_chance() {
        let rounded = |text: &str| looks_rounded(text.as_bytes());
        assert_eq!(rounded("[1234567890123459000]").as_deref(), Some("1234567890123459000"));
        // An id that ends in zeros, among others; a round amount; one that only just needs no float.
        for text in
            ["[1234567890123459000,1234567890123458955]", "[1000000000000000000]", "[9007199254740994]", "[100]"]
        {
            assert_eq!(rounded(text), None, "{text}");
        }
    }

    #[test]
    fn neighbours_are_the_same_float() {
        let all: Vec<u64> = neighbours(1_234_567_890_123_459_000).collect();
        assert!((120..=256).contains(&all.len()) && all.contains(&1_234_567_890_123_458_955), "{}", all.len());
        assert_eq!(neighbours(12).count(), 0);
    }
}
