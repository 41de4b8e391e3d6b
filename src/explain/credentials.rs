//! Tokens that stand in another header than the scheme reads, or with a word in front that is no part of them. The engine
//! judges each of them; none is compared or shown here.

use super::case::TriedCase;
use super::finding::NamedMistake;
use super::mistake::Mistake;
use super::quoted::quoted;
use super::secrets::frequent_secrets;
use super::signatures::{names, prefix_of};
use crate::wire::headers::HeaderBuf;

/// No more fields are tried.
const MOST: usize = 100;
/// Words in front of credentials (RFC 9110 section 11.6.2, and what people write).
const WORDS: [&[u8]; 5] = [b"", b"Bearer ", b"bearer ", b"Token ", b"Basic "];

/// The right token in another form, or a secret in another form than it was copied.
pub(super) fn credential(case: TriedCase<'_>) -> Option<NamedMistake> {
    let wanted = names(case).first()?;
    let prefix = prefix_of(&case.scheme.syntax);
    for (name, value) in case.seen.headers.iter().take(MOST) {
        let own = name.eq_ignore_ascii_case(wanted.as_bytes());
        for word in WORDS {
            let Some(token) = value.strip_prefix(word).filter(|token| !token.is_empty()) else { continue };
            if own && word == prefix.as_bytes() {
                continue;
            }
            let mut headers = HeaderBuf::default();
            for (known, value) in case.seen.headers.iter() {
                if !known.eq_ignore_ascii_case(wanted.as_bytes()) {
                    core::str::from_utf8(known).into_iter().for_each(|known| headers.push(known, value));
                }
            }
            headers.push(wanted, &[prefix.as_bytes(), token].concat());
            if case.with_headers(headers.view()).holds() {
                return Some(named(wanted, prefix, name, word));
            }
        }
    }
    let mut found = None;
    frequent_secrets(case, &mut |changed, mistake, details| {
        let holds = changed.holds();
        if holds {
            found = Some(NamedMistake::new(mistake, details));
        }
        holds
    });
    found
}

fn named(wanted: &str, prefix: &str, name: &[u8], word: &[u8]) -> NamedMistake {
    let (own, shown) = (name.eq_ignore_ascii_case(wanted.as_bytes()), |text: &[u8]| quoted(text.trim_ascii_end()));
    if !own {
        let behind = if word.is_empty() { String::new() } else { format!(" behind `{}`", shown(word)) };
        return NamedMistake::new(Mistake::CredentialElsewhere, &[&quoted(name), &behind, wanted]);
    }
    let what = match (word.is_empty(), prefix.is_empty()) {
        (true, _) => format!("lacks `{}` in front of it", shown(prefix.as_bytes())),
        (false, true) => format!("has `{}` in front of it, which is no part of it", shown(word)),
        (false, false) => format!("has `{}` in front of it, and not `{}`", shown(word), shown(prefix.as_bytes())),
    };
    NamedMistake::new(Mistake::CredentialForm, &[&what])
}
