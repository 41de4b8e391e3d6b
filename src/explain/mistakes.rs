//! The usual mistakes around a signature that does not match, each tried until one explains it: the secret as it stands
//! in its file, the scheme, the encoding and unit in its description, the request on its way. Only for explanations; no
//! verdict rests on it, and what is found is said without showing a secret.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::budget::TrialBudget;
use super::json_spelling;
use super::other_bodies::other_spaces;
use super::trial::Varied;
use crate::gate::verify::{
    Delivery, Encoding, Guards, Key, KeyForm, Keyring, Part, PublicUrl, Scheme, Syntax, Template, Unit, Validity,
    Verifier, inspect,
};
use crate::now::Now;

/// What is known beside the request.
#[derive(Debug)]
pub struct Given<'g> {
    /// The scheme that it was judged by.
    pub scheme: &'g Arc<Scheme>,
    /// Each secret with its name, byte for byte as it stands in its file.
    pub secrets: &'g [(String, Zeroizing<Vec<u8>>)],
    /// The URL that the sender knows.
    pub public_url: Option<&'g PublicUrl>,
    /// The time to judge by.
    pub now: Now,
    /// What the trials may cost.
    pub budget: &'g TrialBudget,
}

const ENCODINGS: [Encoding; 3] = [Encoding::Hex, Encoding::Base64, Encoding::Base64Url];

impl Given<'_> {
    /// Everything that would explain why `delivery` does not match, the likeliest first. `bodies` are other bodies that
    /// may have been signed, `schemes` other schemes that may have been meant.
    #[must_use]
    pub fn explain<D: Delivery>(
        &self,
        delivery: &D,
        bodies: &[(Vec<u8>, String)],
        schemes: &[Arc<Scheme>],
    ) -> Vec<String> {
        let mut found = self.unit(delivery);
        // What is genuine but for its time has no other mistake, whatever may be changed of it that is not signed.
        if self.matches(self.scheme, self.keys(self.scheme), delivery) {
            return found;
        }
        found.extend(self.secret(delivery));
        found.extend(self.encoding(delivery));
        found.extend(self.form(delivery));
        found.extend(self.request(delivery, bodies));
        if found.is_empty() {
            found.extend(self.other_scheme(delivery, schemes));
        }
        found
    }

    fn verifier(&self, scheme: &Arc<Scheme>, keys: Vec<Key>) -> Option<Verifier> {
        let public_url = self.public_url.filter(|_| scheme.signs_url()).cloned();
        let verifier = Verifier::new(Arc::clone(scheme), Keyring::new(keys), None, public_url).ok()?;
        Some(verifier)
    }

    /// Whether it would match at any time, with these keys.
    fn matches<D: Delivery>(&self, scheme: &Arc<Scheme>, keys: Vec<Key>, delivery: &D) -> bool {
        let anytime = self.verifier(scheme, keys).map(|verifier| verifier.for_explanation(None));
        anytime.is_some_and(|verifier| self.budget.matches(&verifier, delivery, self.now))
    }

    /// The keys as the scheme makes them of the secrets; those that it cannot use are left out.
    fn keys(&self, scheme: &Scheme) -> Vec<Key> {
        let key = |(id, secret): &(String, Zeroizing<Vec<u8>>)| {
            Key::from_secret(id, scheme, without_line_end(secret), Validity::default()).ok()
        };
        self.secrets.iter().filter_map(key).collect()
    }

    fn secret<D: Delivery>(&self, delivery: &D) -> Vec<String> {
        let raw = KeyForm::default();
        let plain = Arc::new(Scheme { secret: raw, ..(**self.scheme).clone() });
        let mut found = Vec::new();
        for (id, secret) in self.secrets {
            let usual = inspect::decode_secret(self.scheme, without_line_end(secret)).ok();
            for (bytes, what) in spellings(self.scheme, secret) {
                if usual.as_ref() == Some(&bytes) || bytes.is_empty() {
                    continue;
                }
                let key = Key::from_secret(id, &plain, &bytes, Validity::default());
                if key.is_ok_and(|key| self.matches(&plain, vec![key], delivery)) {
                    found.push(format!("the secret `{id}`: {what} it matches"));
                    break;
                }
            }
        }
        found
    }

    /// Another encoding of the signature.
    fn encoding<D: Delivery>(&self, delivery: &D) -> Option<String> {
        for encoding in ENCODINGS.into_iter().filter(|other| *other != self.scheme.encoding) {
            let other = Arc::new(Scheme { encoding, ..(**self.scheme).clone() });
            if self.matches(&other, self.keys(&other), delivery) {
                let (name, wanted) = (encoding.name(), self.scheme.encoding.name());
                // What has none of the characters in which they differ may be several; one is enough.
                return Some(format!(
                    "the signature is written in {name} where the scheme says {wanted}: so it matches"
                ));
            }
        }
        None
    }

    /// Another unit of the timestamp.
    fn unit<D: Delivery>(&self, delivery: &D) -> Vec<String> {
        let mut found = Vec::new();
        let Some(timestamp) = &self.scheme.timestamp else { return found };
        for unit in [Unit::Seconds, Unit::Milliseconds, Unit::Rfc3339].into_iter().filter(|it| *it != timestamp.unit) {
            let mut other = (**self.scheme).clone();
            other.timestamp.iter_mut().for_each(|timestamp| timestamp.unit = unit);
            let other = Arc::new(other);
            let verifier = self.verifier(&other, self.keys(&other));
            if verifier.is_some_and(|verifier| self.budget.matches(&verifier, delivery, self.now)) {
                let (name, wanted) = (unit.name(), timestamp.unit.name());
                found.push(format!(
                    "the timestamp is in the unit {name} where the scheme says {wanted}: so it is genuine"
                ));
            }
        }
        found
    }

    /// A signature without its prefix, or over the body alone.
    fn form<D: Delivery>(&self, delivery: &D) -> Option<String> {
        let matches = |other: Scheme| {
            let other = Arc::new(other);
            self.matches(&other, self.keys(&other), delivery)
        };
        let mut bare = (**self.scheme).clone();
        if let Syntax::Single { prefix } | Syntax::List { prefix, .. } = &mut bare.syntax {
            let prefix = core::mem::take(prefix);
            if !prefix.is_empty() && matches(bare) {
                return Some(format!("the signature lacks the prefix `{prefix}` of the scheme: with it it matches"));
            }
        }
        let content = Template::parse("{body}").ok().filter(|content| *content != self.scheme.content)?;
        let guards = Guards::default();
        let alone = Scheme { content, timestamp: None, id: None, body_digest: None, guards, ..(**self.scheme).clone() };
        let wanted = self.scheme.content.to_string();
        let what = || format!("the body alone was signed, where the scheme wants `{}`", wanted.escape_debug());
        (self.scheme.signs() && matches(alone)).then(what)
    }

    /// The ids of the secrets that match as they are.
    #[must_use]
    pub fn matching<D: Delivery>(&self, delivery: &D) -> Vec<&str> {
        let key = |secret: &[u8], id: &str| {
            Key::from_secret(id, self.scheme, without_line_end(secret), Validity::default()).ok()
        };
        let matches = |(id, secret): &&(String, Zeroizing<Vec<u8>>)| {
            key(secret, id).is_some_and(|key| self.matches(self.scheme, vec![key], delivery))
        };
        self.secrets.iter().filter(matches).map(|(id, _)| id.as_str()).collect()
    }

    /// What may have happened to the request on its way.
    fn request<D: Delivery>(&self, delivery: &D, bodies: &[(Vec<u8>, String)]) -> Vec<String> {
        let matches = |varied: &Varied<'_, D>| self.matches(self.scheme, self.keys(self.scheme), varied);
        let mut found = Vec::new();
        for (body, what) in bodies {
            if matches(&Varied { body, ..Varied::of(delivery) }) {
                found.push(format!("the body {what}: with that undone the signature matches"));
            }
        }
        let decoded = percent_decoded(delivery.target(), false);
        if decoded != delivery.target() && matches(&Varied { target: &decoded, ..Varied::of(delivery) }) {
            found.push("the path or query has percent-escapes that were not there when it was signed".to_owned());
        }
        for (target, what) in other_spaces(delivery.target()) {
            if target != delivery.target() && matches(&Varied { target: &target, ..Varied::of(delivery) }) {
                found.push(format!("the query has {what}"));
            }
        }
        // Both are as long as the body at most, and there may be two of them at once.
        let signs_form =
            self.scheme.content.contains(&Part::Body) && self.budget.spend(delivery.body().len().saturating_mul(3));
        for (plus, what) in [(false, "percent-escapes"), (true, "percent-escapes and `+` for spaces")] {
            let decoded = percent_decoded(delivery.body(), plus);
            if signs_form && decoded != delivery.body() && matches(&Varied { body: &decoded, ..Varied::of(delivery) }) {
                found.push(format!("the body has {what} where the characters were signed"));
                break;
            }
        }
        found
    }

    fn other_scheme<D: Delivery>(&self, delivery: &D, schemes: &[Arc<Scheme>]) -> Vec<String> {
        let others = schemes.iter().filter(|other| other.name != self.scheme.name && other.signs());
        let fits = others.filter(|other| self.matches(other, self.keys(other), delivery));
        let names: Vec<&str> = fits.map(|scheme| scheme.name.as_str()).collect();
        match names.as_slice() {
            [] => Vec::new(),
            [name] => vec![format!("the scheme `{name}` matches: is it the right one?")],
            names => vec![format!("the schemes `{}` match: is one of them the right one?", names.join("`, `"))],
        }
    }
}

/// The ways in which a secret can be turned into a key by mistake, each with the words for it.
fn spellings(scheme: &Scheme, secret: &[u8]) -> Vec<(Zeroizing<Vec<u8>>, String)> {
    let bare = without_line_end(secret);
    let trimmed = bare.trim_ascii();
    let unquoted = trimmed
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .or_else(|| trimmed.strip_prefix(b"'").and_then(|rest| rest.strip_suffix(b"'")));
    let mut texts: Vec<(&[u8], &str)> = vec![(bare, "")];
    if trimmed != bare {
        texts.push((trimmed, "without the white space around it"));
    }
    texts.extend(unquoted.map(|unquoted| (unquoted, "without the quotes around it")));
    let mut spellings = Vec::new();
    for (text, how) in texts {
        let join = |what: &str| match (how, what) {
            (how, "") => how.to_owned(),
            ("", what) => what.to_owned(),
            (how, what) => format!("{how} and {what}"),
        };
        spellings.extend(inspect::decode_secret(scheme, text).ok().map(|key| (key, join(""))));
        spellings.push((Zeroizing::new(text.to_vec()), join("taken as it is written, prefix and all, not decoded,")));
        let rest = match scheme.secret.without_prefix(text) {
            rest if rest == text => text.strip_prefix(b"whsec_").unwrap_or(text),
            rest => rest,
        };
        if rest != text {
            spellings.push((Zeroizing::new(rest.to_vec()), join("without its prefix, not decoded,")));
        }
        for encoding in ENCODINGS {
            let mut out = Zeroizing::new(vec![0; rest.len() + 3]);
            if let Some(length) = encoding.decode_key_into(rest, &mut out) {
                out.truncate(length);
                spellings.push((out, join(&format!("decoded from {}", encoding.name()))));
            }
        }
    }
    for (end, what) in [(&b"\n"[..], "a newline"), (b"\r\n", "CRLF")] {
        let with_end = Zeroizing::new([bare, end].concat());
        spellings.push((with_end, format!("with {what} at its end, as a file has it,")));
    }
    for (parts, where_) in [([b" ", bare], "in front of it"), ([bare, b" "], "at its end")] {
        spellings.push((Zeroizing::new(parts.concat()), format!("with a space {where_}")));
    }
    spellings
}

fn without_line_end(secret: &[u8]) -> &[u8] {
    let bare = secret.strip_suffix(b"\n").unwrap_or(secret);
    bare.strip_suffix(b"\r").unwrap_or(bare)
}

fn percent_decoded(text: &[u8], plus: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).filter(|_| *first == b'%').and_then(|pair| core::str::from_utf8(pair).ok());
        let decoded = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        out.push(decoded.unwrap_or(if plus && *first == b'+' { b' ' } else { *first }));
        rest = if decoded.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    out
}

/// The body as it would be with the keys of its JSON objects in alphabetical order and everything else in its shortest
/// form, as many libraries write it, with the words for what then has happened. Nothing for what is not JSON, or where
/// `budget` is too small for it.
#[must_use]
pub fn sorted_json(body: &[u8], budget: &TrialBudget) -> Vec<(Vec<u8>, String)> {
    // A value in memory is some times as long as its text.
    if !budget.spend(body.len().saturating_mul(VALUE)) {
        return Vec::new();
    }
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else { return Vec::new() };
    let Ok(compact) = serde_json::to_vec(&value) else { return Vec::new() };
    let spaced = json_spelling::spaced(&compact);
    let what = "has its JSON keys in another order than the alphabetical one that was signed, or numbers or escapes \
                written in another way";
    [compact, spaced].into_iter().filter(|text| text != body).map(|text| (text, what.to_owned())).collect()
}

const VALUE: usize = 8;
