//! What people do to secrets between the page of the sender and the file, undone.

use zeroize::Zeroizing;

use super::case::{TriedCase, Visit, without_line_end};
use super::mistake::Mistake;
use super::quoted::quoted;
use super::text;
use super::wrapped::unwrapped;
use crate::gate::verify::{Encoding, KeyEncoding, KeyForm, Kind, Scheme, inspect};

/// A text that may be the secret, with the mistake that made the file of it.
struct Cleaned {
    mistake: Mistake,
    detail: String,
    text: Zeroizing<Vec<u8>>,
}

/// Nothing longer is a secret with a mistake.
const LONGEST: usize = 16 << 10;

/// Every usual mistake with the secret.
pub(super) fn secrets(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    tried(case, visit, cleaned) || encodings(case, visit) || unset(case, visit)
}

/// Those that are made most often.
pub(super) fn frequent_secrets(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    tried(case, visit, |secret| {
        let mut all = cleaned(secret);
        all.retain(|it| {
            use Mistake::{SecretAssignment, SecretBase64, SecretNewline, SecretPrefix, SecretQuotes, SecretSpace};
            let frequent = [SecretAssignment, SecretBase64, SecretPrefix, SecretQuotes, SecretSpace, SecretNewline];
            frequent.contains(&it.mistake)
        });
        all
    })
}

fn tried(case: TriedCase<'_>, visit: &mut Visit<'_>, cleaned: impl Fn(&[u8]) -> Vec<Cleaned>) -> bool {
    if case.key.is_some() {
        return false;
    }
    for (id, secret) in case.known.secrets.iter().filter(|(_, secret)| secret.len() <= LONGEST) {
        let id = format!("`{}`", quoted(id));
        let usual = inspect::decode_secret(case.scheme, without_line_end(secret)).ok();
        for it in cleaned(secret) {
            let Ok(key) = inspect::decode_secret(case.scheme, &it.text) else { continue };
            if usual.as_ref() != Some(&key)
                && visit(TriedCase { key: Some(&key), ..case }, it.mistake, &[&id, &it.detail])
            {
                return true;
            }
        }
        // What the sender signs with where its own secret has a line end or a space too many.
        for (end, what) in [(&b"\n"[..], "a newline"), (b"\r\n", "CRLF"), (b" ", "a space")] {
            let Some(usual) = &usual else { continue };
            let key = Zeroizing::new([usual.as_slice(), end].concat());
            if visit(TriedCase { key: Some(&key), ..case }, Mistake::SecretNewline, &[&id, what]) {
                return true;
            }
        }
    }
    false
}

/// What the file may have been made of.
fn cleaned(secret: &[u8]) -> Vec<Cleaned> {
    use Mistake::{
        SecretBase64, SecretByteOrderMark, SecretCase, SecretHex, SecretLines, SecretPercent, SecretPunctuation,
        SecretQuotes, SecretSpace, SecretUtf16,
    };
    let bare = without_line_end(secret);
    let mut all = Vec::new();
    let mut add = |mistake: Mistake, detail: &str, text: Vec<u8>| {
        let text = Zeroizing::new(text);
        if !text.is_empty() && *text != bare {
            all.push(Cleaned { mistake, detail: detail.to_owned(), text });
        }
    };
    let trimmed = text::trimmed(bare);
    add(SecretSpace, "", trimmed.to_vec());
    add(SecretSpace, "", bare.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect());
    if let Some(inside) = text::unquoted(trimmed) {
        add(SecretQuotes, "", inside.to_vec());
        add(SecretQuotes, "", text::trimmed(inside).to_vec());
    }
    if let Some(value) = text::assigned(trimmed) {
        add(Mistake::SecretAssignment, "", value.to_vec());
    }
    if let Some(rest) = bare.strip_prefix("\u{feff}".as_bytes()) {
        add(SecretByteOrderMark, "", text::trimmed(rest).to_vec());
    }
    if let Some(text) = text::from_utf16(secret) {
        add(SecretUtf16, "", text::trimmed(text.trim_start_matches('\u{feff}').as_bytes()).to_vec());
    }
    for (name, value) in text::json_strings(trimmed) {
        add(Mistake::SecretJson, &name, value.into_bytes());
    }
    for it in unwrapped(bare) {
        add(Mistake::SecretWrapped, it.form, it.value);
    }
    for end in text::without_punctuation(trimmed) {
        add(SecretPunctuation, "", end.to_vec());
    }
    let lines = bare.split(|byte| *byte == b'\n').take(32).enumerate();
    for (number, line) in lines.filter(|_| bare.contains(&b'\n')) {
        let line = text::trimmed(line);
        add(SecretLines, &(number + 1).to_string(), line.to_vec());
        text::assigned(line).into_iter().for_each(|it| add(SecretLines, &(number + 1).to_string(), it.to_vec()));
    }
    if trimmed.contains(&b'%') {
        add(SecretPercent, "", text::percent_decoded(trimmed, false));
    }
    let mut layer = text::base64(trimmed);
    for _ in 0..2 {
        let Some(decoded) = layer else { break };
        add(SecretBase64, "", without_line_end(&decoded).to_vec());
        add(SecretBase64, "", text::trimmed(&decoded).to_vec());
        layer = text::base64(text::trimmed(&decoded));
    }
    add(SecretHex, "", text::hex(trimmed).unwrap_or_default());
    add(SecretCase, "", trimmed.to_ascii_lowercase());
    add(SecretCase, "", trimmed.to_ascii_uppercase());
    all.extend(prefixes(trimmed));
    all
}

/// Prefixes with which senders show secrets.
const PREFIXES: [&str; 8] = ["v1,whsec_", "v1,", "whsec_", "lin_wh_", "pdl_ntfset_", "Bearer ", "sha256=", "secret_"];

fn prefixes(text: &[u8]) -> Vec<Cleaned> {
    let mut all = Vec::new();
    let mut add = |detail: String, text: Vec<u8>| {
        all.push(Cleaned { mistake: Mistake::SecretPrefix, detail, text: Zeroizing::new(text) });
    };
    for prefix in PREFIXES {
        match text.strip_prefix(prefix.as_bytes()) {
            Some(rest) => add(format!("begins with `{prefix}`, which is no part of it"), rest.to_vec()),
            None => add(format!("lacks the prefix `{prefix}`"), [prefix.as_bytes(), text].concat()),
        }
    }
    all
}

/// The sender makes another key of the same text.
fn encodings(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    if case.key.is_some() {
        return false;
    }
    for (id, secret) in case.known.secrets.iter().filter(|(_, secret)| secret.len() <= LONGEST) {
        let id = format!("`{}`", quoted(id));
        let bare = text::trimmed(secret);
        let usual = inspect::decode_secret(case.scheme, without_line_end(secret)).ok();
        for (key, how) in keys_of(case.scheme, bare) {
            if !key.is_empty()
                && usual.as_ref() != Some(&key)
                && visit(TriedCase { key: Some(&key), ..case }, Mistake::SecretEncoding, &[&id, how])
            {
                return true;
            }
        }
    }
    false
}

fn keys_of(scheme: &Scheme, bare: &[u8]) -> Vec<(Zeroizing<Vec<u8>>, &'static str)> {
    let rest = match scheme.secret.without_prefix(bare) {
        rest if rest == bare => bare.strip_prefix(b"whsec_").unwrap_or(bare),
        rest => rest,
    };
    let raw = scheme.secret.encoding == KeyEncoding::Raw;
    let as_it_is =
        if rest == bare { "the bytes of the file, not decoded" } else { "its text, prefix and all, not decoded" };
    let mut keys = vec![(Zeroizing::new(bare.to_vec()), as_it_is)];
    keys.push((Zeroizing::new(rest.to_vec()), "its text without the prefix, not decoded"));
    let mut decode = |text: &[u8], how: [&'static str; 3]| {
        for (encoding, how) in [Encoding::Base64, Encoding::Base64Url, Encoding::Hex].into_iter().zip(how) {
            let mut out = Zeroizing::new(vec![0; text.len() + 3]);
            if let Some(length) = encoding.decode_key_into(text, &mut out) {
                out.truncate(length);
                keys.push((out, how));
            }
        }
    };
    decode(rest, ["decoded from base64", "decoded from base64url", "decoded from hexadecimal digits"]);
    // Some libraries pass over characters that are none of the alphabet, and take both alphabets.
    let symbols: Vec<u8> = bare
        .iter()
        .filter(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte))
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        })
        .collect();
    let whole = symbols.get(..symbols.len() - usize::from(symbols.len() % 4 == 1)).unwrap_or_default();
    decode(whole, ["decoded from base64, prefix and all"; 3]);
    if !raw && let Ok(once) = inspect::decode_secret(scheme, bare) {
        decode(text::trimmed(&once), ["decoded twice", "decoded twice", "decoded twice"]);
        let bytes: &[u8] = &once;
        keys.push((Zeroizing::new(Encoding::Base64.encode(bytes).into_bytes()), "decoded and encoded again"));
        keys.push((Zeroizing::new(Encoding::Hex.encode(bytes).into_bytes()), "its bytes as hexadecimal digits"));
    }
    keys
}

/// What programs write where a variable is not set.
fn unset(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    let keyed = case.key.is_none() && matches!(case.scheme.kind, Kind::Hmac(_));
    if keyed && visit(TriedCase { key: Some(b""), ..case }, Mistake::SecretEmptyThere, &[]) {
        return true;
    }
    ["undefined", "null", "None", "nil", "false"].into_iter().any(|word| {
        case.key.is_none() && visit(TriedCase { key: Some(word.as_bytes()), ..case }, Mistake::SecretUnset, &[word])
    })
}

/// The secret of another route.
pub(super) fn of_other_routes(case: TriedCase<'_>, visit: &mut Visit<'_>) -> bool {
    case.known.of_others.iter().any(|(words, secret)| {
        inspect::decode_secret(case.scheme, without_line_end(secret))
            .is_ok_and(|key| visit(TriedCase { key: Some(&key), ..case }, Mistake::SecretOfRoute, &[words]))
    })
}

/// The key bytes of each secret by another form of keys.
pub(super) fn keys_by(case: TriedCase<'_>, form: &KeyForm) -> Vec<Zeroizing<Vec<u8>>> {
    let scheme = Scheme { secret: form.clone(), ..(**case.scheme).clone() };
    let secrets = case.known.secrets.iter();
    secrets.filter_map(|(_, secret)| inspect::decode_secret(&scheme, without_line_end(secret)).ok()).collect()
}
