//! What may be shown of text from another source: on a terminal, in a log, in a message.
//!
//! [`plain`] takes away what would move a cursor, turn text around or pretend to be another line. [`concealed`] takes away
//! what looks like a secret: people paste secrets into the wrong place, and a message about that must not carry them on.

use core::fmt::Write as _;
use std::borrow::Cow;

/// The text with escapes (`\u{1b}`) in the place of control characters, of invisible ones, and of those that change the
/// direction of writing. Line breaks and tabs stay.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    replaced(text, |character| !matches!(character, '\n' | '\t') && is_unseen(character))
}

/// The same on one line: line breaks and tabs are escaped, too.
#[must_use]
pub fn plain_line(text: &str) -> Cow<'_, str> {
    replaced(text, is_unseen)
}

fn replaced(text: &str, is_odd: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_odd) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_odd(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// The general categories Cc, Cf, Zl and Zp of Unicode 16, and the characters for variation and for filling.
#[must_use]
pub const fn is_unseen(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}'
        | '\u{7f}'..='\u{9f}'
        | '\u{ad}'
        | '\u{34f}'
        | '\u{600}'..='\u{605}'
        | '\u{61c}'
        | '\u{6dd}'
        | '\u{70f}'
        | '\u{890}'..='\u{891}'
        | '\u{8e2}'
        | '\u{115f}'..='\u{1160}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{110bd}'
        | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// What secrets of well-known senders and services begin with.
const PREFIXES: [&str; 30] = [
    "whsec_",
    "whsk_",
    "whpk_",
    "v1,whsec_",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "rk_test_",
    "pk_live_",
    "pk_test_",
    "sk-",
    "shpss_",
    "shpat_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "SG.",
    "key-",
    "dop_v1_",
    "npm_",
];

/// The text without what looks like a secret: words that begin as those of well-known senders do, and long ones that look
/// made by chance. Their length is said.
#[must_use]
pub fn concealed(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut shown, mut at) = (0, 0);
    while let Some((start, end)) = next_word(text, at) {
        at = end;
        for (from, to) in secret_parts(text, start, end) {
            out.push_str(text.get(shown..from).unwrap_or_default());
            let _ = write!(out, "(not shown: {} characters)", to - from);
            shown = to;
        }
    }
    if shown == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(shown..).unwrap_or_default());
    Cow::Owned(out)
}

/// Both: for everything that goes into a message that quotes what an operator has written.
#[must_use]
pub fn harmless(text: &str) -> String {
    plain(&concealed(text)).into_owned()
}

/// No longer word is looked at as a secret with slashes in it.
const SPREAD: usize = 1024;

/// Whether a name looks like a secret.
#[must_use]
pub fn looks_like_a_secret(name: &str) -> bool {
    matches!(concealed(name), Cow::Owned(_))
}

/// The next run of characters of which secrets are made. It neither begins with a hyphen, as options do, nor goes on
/// behind an equals sign in the middle, as in `name=value`.
fn next_word(text: &str, from: usize) -> Option<(usize, usize)> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_-.,".contains(byte);
    let rest = text.as_bytes().get(from..)?;
    let start = from + rest.iter().position(|byte| is_part(byte) && !matches!(byte, b'-' | b'='))?;
    let run = text.as_bytes().get(start..)?;
    let length = run.iter().take_while(|byte| is_part(byte)).count();
    let assigned =
        run.windows(2).take(length).position(|pair| matches!(pair, [b'=', after] if after.is_ascii_alphanumeric()));
    Some((start, start + assigned.map_or(length, |at| at.min(length))))
}

/// The parts of a word that look like secrets: the whole, or what stands between slashes, dots and commas.
fn secret_parts(text: &str, start: usize, end: usize) -> Vec<(usize, usize)> {
    let word = text.get(start..end).unwrap_or_default();
    let is_path = word.starts_with(['/', '.']);
    let bare = word.trim_matches([',', '.']);
    if begins_as_secrets(bare) || (!is_path && !bare.contains(['.', ',']) && looks_random(bare)) {
        let from = start + (word.len() - word.trim_start_matches([',', '.']).len());
        return vec![(from, from + bare.len())];
    }
    let (mut parts, mut spread) = (Vec::new(), None);
    let mut from = start;
    for part in word.split(['/', '.', ',']) {
        if begins_as_secrets(part) || looks_random(part) {
            parts.push((from, from + part.len()));
        }
        // Base64 has slashes, too.
        if spread.is_none()
            && end - start <= SPREAD
            && share(part) > 20
            && text.get(from..end).is_some_and(looks_random)
        {
            spread = Some((from, end));
        }
        from += part.len() + 1;
    }
    if parts.is_empty() { spread.into_iter().collect() } else { parts }
}

fn begins_as_secrets(word: &str) -> bool {
    PREFIXES.iter().any(|prefix| {
        let rest = word.strip_prefix(prefix).unwrap_or_default();
        rest.len() >= 8 && (looks_random(rest) || rest.bytes().any(|byte| byte.is_ascii_digit()))
    })
}

/// A word that no operator would choose as a name: long, with digits; or changing between kinds of characters as chance does.
fn looks_random(word: &str) -> bool {
    const NAMED: usize = 28;
    const SHORTEST: usize = 16;
    let kinds: Vec<CharacterKind> = word.bytes().filter_map(CharacterKind::of).collect();
    if kinds.len() < SHORTEST {
        return false;
    }
    let digits = kinds.iter().filter(|kind| **kind == CharacterKind::Digit).count();
    if kinds.len() >= NAMED && digits > 0 && digits < kinds.len() {
        return true;
    }
    // Words that are put together with hyphens begin with capitals.
    share(word) > if word.contains(['-', '_', '/']) { 30 } else { 20 }
}

/// How many of a hundred letters and digits are of another kind than the one before.
fn share(word: &str) -> usize {
    let kinds: Vec<CharacterKind> = word.bytes().filter_map(CharacterKind::of).collect();
    let changes = kinds.windows(2).filter(|pair| pair.first() != pair.last()).count();
    100 * changes / kinds.len().max(1)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CharacterKind {
    Upper,
    Lower,
    Digit,
}

impl CharacterKind {
    const fn of(byte: u8) -> Option<Self> {
        match byte {
            b'A'..=b'Z' => Some(Self::Upper),
            b'a'..=b'z' => Some(Self::Lower),
            b'0'..=b'9' => Some(Self::Digit),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    #[test]
    fn names_of_all_kinds_are_shown() {
        for text in [
            "requests_per_connection",
            "route[0].secrets[1].not_after",
            "X-Hub-Signature-256",
            "X-Forwarded-Client-Cert",
            "/etc/countersign/secrets/github-2026-11",
            "/run/secrets/kubernetes.io/serviceaccount/..2026_11_25_20_15_01.123456789/token",
            "2026-11-25T20:00:00.000Z",
            "https://hooks.example.com/hooks/github?a=1",
            "STRIPE_WEBHOOK_SECRET_2026",
            "standard-webhooks-asymmetric",
            "Ed25519, ECDSA-P256-SHA256 and HMAC-SHA256",
            "SubscriptionConfirmation",
            "/tmp/countersign-it-12345-67/countersign.toml:8:3",
            "AKIA",
            "whsec_",
            "sk_live_",
            "key-id",
            "write whsec_… as the sender shows it",
            "[2001:db8:85a3::8a2e:370:7334]:8443",
            "1000000000000000000000",
        ] {
            assert_eq!(concealed(text), text);
        }
    }

    #[test]
    fn secrets_of_all_kinds_are_not() {
        for (secret, around) in [
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "v1,#"),
            ("sk_live_51HabcDEFghi", "\"#\" is not"),
            ("shpss_0123456789abcdef0123456789abcdef", "a.#.b"),
            ("correct-horse-battery-staple-0123456789", "cannot read /etc/countersign/#: No such file"),
            ("d75a980182b10ab7d54bfed3c964073a", "route[0].#: unknown key"),
            ("5d8a3c1be2f94706", "'#'"),
            ("sk_live_51HabcDEFghi", "unexpected argument '--#' found"),
            ("sk_live_51HabcDEFghi", "--secret=#"),
            ("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "#"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0", "Bearer # x"),
            ("9f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0", "/#"),
        ] {
            let shown = concealed(&around.replace('#', secret)).into_owned();
            assert!(!shown.contains(secret) && !shown.contains(&secret[8..16]), "{shown}");
            assert!(shown.contains("characters)"), "{shown}");
        }
    }

    #[test]
    fn random_bytes_in_any_encoding_are_concealed() {
        for seed in 0..2000_u64 {
            let digest = ring::digest::digest(&ring::digest::SHA256, &seed.to_be_bytes());
            let bytes = digest.as_ref().get(..24).unwrap();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            for secret in [STANDARD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes), hex] {
                // In a path, a slash of the secret is one of the path; short pieces may be left.
                let shown = concealed(&format!("/etc/x/{secret}: No such file")).into_owned();
                assert!((0..=secret.len() - 17).all(|at| !shown.contains(&secret[at..at + 17])), "{shown}");
                if secret.starts_with('/') {
                    continue;
                }
                let shown = concealed(&format!("\"{secret}\" is not one")).into_owned();
                assert!((0..=secret.len() - 4).all(|at| !shown.contains(&secret[at..at + 4])), "{shown}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_unseen_is_left(text: String) {
            prop_assert!(!plain(&text).chars().any(|it| it != '\n' && it != '\t' && is_unseen(it)));
            prop_assert!(!plain_line(&text).chars().any(is_unseen));
            let _ = harmless(&text);
        }
    }

    #[test]
    fn what_moves_a_cursor_is_escaped() {
        assert_eq!(plain("a\u{1b}[2J\u{7f}\u{9b}\u{202e}b\n\té"), "a\\u{1b}[2J\\u{7f}\\u{9b}\\u{202e}b\n\té");
        assert_eq!(plain_line("a\r\n\tb"), "a\\r\\n\\tb");
    }
}
