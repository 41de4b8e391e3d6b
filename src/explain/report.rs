//! A verdict with what led to it, in plain words.
//!
//! The verdict is the engine's own. Around it the same request is looked at once more, slowly, for the usual mistakes:
//! another encoding, a missing prefix, a trailing newline, a key that has expired. Secrets and the tags that would have
//! been right are never shown.

use core::fmt;
use core::time::Duration;

use super::budget::TrialBudget;
use super::other_bodies;
use super::spans::shown_span;
use super::trial::{Varied, run};
use crate::gate::verify::{
    Delivery, Encoding, Kind, Part, PublicUrl, Scheme, SignatureSource, Source, Syntax, Unit, VALUE_LIMIT, Verifier,
    inspect, sha256,
};
use crate::now::Now;
use crate::outcome::Rejection;

/// A verdict and what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The engine's verdict.
    pub verdict: Result<(), Rejection>,
    /// The id of the key that matched.
    pub key_id: Option<String>,
    /// What was looked for and what was found, one line each.
    pub lines: Vec<String>,
    /// What would have to be otherwise, where that has been found; one of the lines says it, after `explained: `.
    pub cause: Option<MismatchCause>,
}

/// What would have to be otherwise for a signature to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MismatchCause {
    /// When a key counts.
    Key,
    /// The bytes of the body.
    Body,
    /// The URL that the route says the sender knows.
    Url,
    /// The method, or the target.
    Head,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Verifies `delivery` and explains the verdict.
pub fn explain<D: Delivery>(verifier: &Verifier, delivery: &D, now: Now) -> Explanation {
    explain_within(verifier, delivery, now, &TrialBudget::of(delivery.body().len()))
}

/// The same with trials that cost no more than half of what is left of `budget`; the verdict itself is free.
pub fn explain_within<D: Delivery>(verifier: &Verifier, delivery: &D, now: Now, budget: &TrialBudget) -> Explanation {
    let (verdict, key_id) = match run(verifier, delivery, now) {
        Ok(key_id) => (Ok(()), key_id),
        Err(rejection) => (Err(rejection), None),
    };
    let (mut lines, mut cause) = (Vec::new(), None);
    match verifier.scheme() {
        None => lines.push("scheme none: nothing is verified".to_owned()),
        Some(scheme) => {
            let mut report = Report { verifier, scheme, delivery, now, budget, lines: &mut lines, cause: &mut cause };
            report.head();
            report.keys();
            match verdict {
                Err(Rejection::SignatureMismatch | Rejection::CredentialMismatch) => budget.half(|| report.mismatch()),
                Err(Rejection::DigestMismatch) if matches!(scheme.kind, Kind::Jws(_)) => {
                    report.say("the token holds, but the body is not the one whose digest stands in it");
                }
                Err(Rejection::DigestMismatch) => {
                    report.say("the signature holds, but the body is not the one whose digest stands in the URL");
                }
                Err(Rejection::ContentAmbiguous) => report.say(format!(
                    "what is signed breaks a guard of the scheme ({}): its parts could be told apart in two ways",
                    scheme.guards
                )),
                Err(Rejection::TimestampStale | Rejection::TimestampFuture) => {
                    budget.half(|| report.as_of_its_timestamp());
                }
                _ => {}
            }
        }
    }
    lines.push(match (&verdict, &key_id) {
        (Ok(()), Some(id)) => format!("genuine: it matches the key `{id}`"),
        (Ok(()), None) => "let through".to_owned(),
        (Err(rejection), _) => format!("refused: {rejection}"),
    });
    Explanation { verdict, key_id, lines, cause }
}

/// The same of a delivery whose body is not known: what can be judged without it.
pub fn explain_head<D: Delivery>(verifier: &Verifier, delivery: &D, now: Now) -> Explanation {
    let verdict = verifier.begin(delivery, now).map(|_| ());
    let (mut lines, mut cause) = (Vec::new(), None);
    if let Some(scheme) = verifier.scheme() {
        let budget = &TrialBudget::of(0);
        let mut report = Report { verifier, scheme, delivery, now, budget, lines: &mut lines, cause: &mut cause };
        report.head();
        report.keys();
    }
    lines.push(match &verdict {
        Ok(()) => "nothing is wrong that can be seen without the body".to_owned(),
        Err(rejection) => format!("refused: {rejection}"),
    });
    Explanation { verdict, key_id: None, lines, cause }
}

pub(super) struct Report<'r, D> {
    pub(super) verifier: &'r Verifier,
    pub(super) scheme: &'r Scheme,
    pub(super) delivery: &'r D,
    pub(super) now: Now,
    budget: &'r TrialBudget,
    lines: &'r mut Vec<String>,
    cause: &'r mut Option<MismatchCause>,
}

impl<D: Delivery> Report<'_, D> {
    pub(super) fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn matches(&self, verifier: &Verifier, delivery: &impl Delivery) -> bool {
        self.budget.matches(verifier, delivery, self.now)
    }

    fn explained(&mut self, cause: MismatchCause, line: impl fmt::Display) {
        *self.cause = Some(cause);
        self.say(format!("explained: {line}"));
    }

    fn head(&mut self) {
        let description = &self.scheme.description;
        let separator = if description.is_empty() { "" } else { ": " };
        self.say(format!("scheme {}{separator}{description}", self.scheme.name));
        if let Kind::Jws(algorithm) = self.scheme.kind {
            self.token(algorithm.name());
        } else if self.scheme.signs() {
            self.say(format!("what is signed: {}", self.scheme.content.to_string().escape_debug()));
        }
        for (name, value) in &self.scheme.require {
            match self.delivery.headers().unique(name) {
                Ok(Some(found)) if found == value.as_bytes() => {}
                Ok(Some(_)) => self.say(format!("header {name}: not `{value}`, as the scheme requires")),
                Ok(None) => self.say(format!("header {name}: missing; the scheme requires `{value}`")),
                Err(_) => self.say(format!("header {name}: stands more than once")),
            }
        }
        self.signature();
        self.timestamp();
        self.id();
    }

    fn signature(&mut self) {
        match &self.scheme.signature {
            SignatureSource::Headers(names) => {
                let mut found = false;
                for name in names {
                    match self.delivery.headers().unique(name) {
                        Ok(Some(value)) if !value.is_empty() => {
                            found = true;
                            self.say(format!("header {name}: found, {} bytes", value.len()));
                            self.form_of(value);
                        }
                        Ok(Some(_)) => {
                            found = true;
                            self.say(format!("header {name}: found, but empty: the sender has no secret configured"))
                        }
                        Ok(None) => {}
                        Err(_) => {
                            found = true;
                            self.say(format!(
                                "header {name}: stands more than once, so it cannot be said which one counts"
                            ));
                        }
                    }
                }
                if !found {
                    self.say(format!("header {}: not found", names.join(" or ")));
                    self.similar_headers();
                }
            }
            SignatureSource::Json(path) => self.elsewhere(&format!("the JSON body at `{}`", path.text())),
            SignatureSource::Form(name) => self.elsewhere(&format!("the form field `{name}`")),
            SignatureSource::Query(name) => self.elsewhere(&format!("the query parameter `{name}`")),
            SignatureSource::Body => self.elsewhere("the body"),
        }
    }

    fn elsewhere(&mut self, place: &str) {
        match inspect::signature_values(self.scheme, self.delivery) {
            Ok(values) => {
                self.say(format!("signature in {place}: found"));
                values.iter().for_each(|value| self.form_of(value));
            }
            Err(rejection) => self.say(format!("signature in {place}: not found ({rejection})")),
        }
    }

    fn similar_headers(&mut self) {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in self.delivery.headers().iter() {
            let name = String::from_utf8_lossy(name).into_owned();
            let lower = name.to_ascii_lowercase();
            if ["signature", "hmac", "x-hub-", "token"].iter().any(|word| lower.contains(word)) {
                names.push(name);
            }
        }
        if !names.is_empty() {
            self.say(format!("the request has {} instead: is this the right scheme?", names.join(", ")));
        }
    }

    /// What is wrong with the form of a signature value.
    fn form_of(&mut self, value: &[u8]) {
        if !self.scheme.signs() {
            if let Syntax::Single { prefix } = &self.scheme.syntax
                && self.scheme.kind == Kind::Token
                && !value.starts_with(prefix.as_bytes())
            {
                self.say(format!("it does not begin with `{prefix}`"));
            }
            return;
        }
        if matches!(self.scheme.kind, Kind::Jws(_)) {
            return;
        }
        if value.len() > VALUE_LIMIT {
            return self.say(format!("it is longer than {VALUE_LIMIT} bytes"));
        }
        let mut count = 0;
        for text in self.scheme.syntax.candidates(value) {
            match text {
                Ok(text) => {
                    count += 1;
                    self.encoding_of(text);
                }
                Err(_) => self.say(match &self.scheme.syntax {
                    Syntax::Single { prefix } => format!("it does not begin with `{prefix}`"),
                    _ => "one of its items is not a pair `key=value`".to_owned(),
                }),
            }
        }
        if count == 0 {
            match &self.scheme.syntax {
                Syntax::List { prefix, .. } => self.say(format!("none of its items begins with `{prefix}`")),
                Syntax::Pairs { key, .. } => self.say(format!("it has no pair with the key `{key}`")),
                Syntax::Single { .. } => {}
            }
        }
    }

    fn encoding_of(&mut self, text: &[u8]) {
        let wanted = self.scheme.encoding;
        let length_of = |encoding: Encoding| inspect::decoded_length(encoding, text);
        let fits = |length: &usize| inspect::fits(self.scheme.kind, *length);
        match length_of(wanted) {
            Some(length) if fits(&length) => {}
            found => {
                let others = [Encoding::Hex, Encoding::Base64, Encoding::Base64Url];
                let other =
                    others.into_iter().find(|other| *other != wanted && length_of(*other).is_some_and(|n| fits(&n)));
                self.say(match (other, found) {
                    (Some(other), _) => format!("it is written in {}, but {} is expected", other.name(), wanted.name()),
                    (None, Some(length)) => format!(
                        "it has {length} bytes, which is not the length of this algorithm{}",
                        algorithm_of(length)
                    ),
                    (None, None) => format!("it is not valid {}", wanted.name()),
                });
            }
        }
    }

    fn timestamp(&mut self) {
        let Some(timestamp) = &self.scheme.timestamp else { return };
        let place = place_of(&timestamp.source);
        let text = match inspect::timestamp_text(self.scheme, &timestamp.source, self.delivery) {
            Ok(Some(text)) => text,
            Ok(None) => return self.say(format!("timestamp in {place}: not found")),
            Err(rejection) => return self.say(format!("timestamp in {place}: cannot be read ({rejection})")),
        };
        let Some(moment) = timestamp.unit.parse(&text) else {
            let near =
                [Unit::Seconds, Unit::Milliseconds, Unit::Rfc3339].into_iter().find(|unit| unit.parse(&text).is_some());
            let hint = near
                .map(|unit| format!("; it looks like {}: is the unit of the scheme right?", unit.name()))
                .unwrap_or_default();
            return self
                .say(format!("timestamp in {place}: found, but not in the unit {}{hint}", timestamp.unit.name()));
        };
        let age = self.now.unix_millis().saturating_sub(moment);
        let tolerance = self.verifier.tolerance().unwrap_or_default();
        let direction = if age >= 0 { "old" } else { "in the future" };
        let within = if u128::from(age.unsigned_abs()) <= tolerance.as_millis() { "within" } else { "outside of" };
        self.say(format!(
            "timestamp in {place}: {} {direction}, {within} the tolerance of {}",
            shown_span(Duration::from_millis(age.unsigned_abs())),
            shown_span(tolerance)
        ));
    }

    fn id(&mut self) {
        let Some(source) = &self.scheme.id else { return };
        let place = place_of(source);
        let signed = if self.scheme.signs_id() { "signed" } else { "not signed, for show only" };
        match inspect::id(self.scheme, self.delivery) {
            Ok(Some(_)) => self.say(format!("delivery id in {place}: found ({signed})")),
            Ok(None) => self.say(format!("delivery id in {place}: not found ({signed})")),
            Err(rejection) => {
                self.say(format!("delivery id in {place}: {rejection} ({signed})"));
                self.strange_in_id(source);
            }
        }
    }

    /// What the verdict would have been at the moment that the delivery says it was sent.
    fn as_of_its_timestamp(&mut self) {
        let Ok(Some(millis)) = inspect::timestamp(self.scheme, self.delivery) else { return };
        let Ok(seconds) = u64::try_from(millis / 1000) else { return };
        match run(self.verifier, self.delivery, Now::at_unix(Duration::from_secs(seconds))) {
            Ok(Some(id)) => self.say(format!("at that time the delivery would be accepted with the key `{id}`")),
            Ok(None) => self.say("at that time the delivery would be accepted"),
            Err(rejection) => {
                self.say(format!("at that time the delivery would be refused all the same: {}", rejection.code()));
                if matches!(rejection, Rejection::SignatureMismatch) {
                    self.mismatch();
                }
            }
        }
        // Years away it is no time, but one in another unit.
        if self.now.unix.abs_diff(Duration::from_secs(seconds)) < Duration::from_secs(10 * 365 * 86_400) {
            self.say(format!("judge it as of then: --now {seconds}"));
        }
    }

    /// What the signature was compared with, without anything that is secret.
    fn what_was_used(&mut self) {
        let body = self.delivery.body();
        let digest = Encoding::Hex.encode(sha256(body).get(..8).unwrap_or_default());
        self.say(format!("the body that was judged: {} bytes, SHA-256 {digest}…", body.len()));
        if let Some(url) = self.verifier.public_url() {
            let written = |url: &PublicUrl| {
                let mut signed = Vec::new();
                url.write(self.delivery.target(), &mut |piece| signed.extend_from_slice(piece));
                signed.escape_ascii().to_string()
            };
            let other = self.verifier.other_url().map(|url| format!(", or {}", written(url))).unwrap_or_default();
            self.say(format!(
                "signed for {} {}{other} : is that what is configured at the provider?",
                self.delivery.method().escape_ascii(),
                written(url)
            ));
        }
        for key in self.verifier.keys() {
            if let Some(length) = key.secret_length() {
                self.say(format!("key `{}`: made of a secret of {length} bytes", key.id()));
            }
        }
    }

    /// Whether a request with another query or method would match.
    fn another_head(&mut self, anytime: &Verifier) -> bool {
        let head = Varied::of(self.delivery);
        let bare = inspect::path_of(self.delivery.target());
        if bare != self.delivery.target() && self.matches(anytime, &Varied { target: bare, ..head }) {
            self.explained(MismatchCause::Head, "without the query of the URL the signature would match");
            return true;
        }
        if !self.scheme.content.contains(&Part::Method) {
            return false;
        }
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if self.matches(anytime, &Varied { method: method.as_bytes(), ..head }) {
                self.explained(MismatchCause::Head, format_args!("with the method {method} the signature would match"));
                return true;
            }
        }
        false
    }

    /// What else the sender may know the route by: the other scheme, another slash or port, the host that was asked for.
    fn other_urls(&self, url: &PublicUrl) -> Vec<PublicUrl> {
        let (origin, path) = (url.origin(), url.path());
        let (scheme, authority) = origin.split_once("://").unwrap_or_default();
        let other = if scheme == "https" { "http" } else { "https" };
        let asked =
            self.delivery.headers().unique("host").ok().flatten().and_then(|host| core::str::from_utf8(host).ok());
        let texts = [
            format!("{other}://{authority}{path}"),
            path.strip_suffix('/').map_or_else(|| format!("{origin}{path}/"), |bare| format!("{origin}{bare}")),
            url.with_other_port().to_string(),
            url.with_other_port().with_other_port().to_string(),
            format!("{scheme}://{}{path}", asked.unwrap_or_default()),
            format!("{other}://{}{path}", asked.unwrap_or_default()),
        ];
        texts.iter().filter_map(|text| PublicUrl::parse(text).ok()).collect()
    }

    /// What would have matched.
    fn mismatch(&mut self) {
        let anytime = self.verifier.for_explanation(None);
        if self.scheme.signs() {
            self.what_was_used();
        }
        if let Ok(Some(id)) = run(&anytime, self.delivery, self.now) {
            return self
                .explained(MismatchCause::Key, format_args!("the key `{id}`, which is not active now, would match"));
        }
        if !self.scheme.signs() {
            return self.say("the credential is none of the keys");
        }
        let head = Varied::of(self.delivery);
        let budget = self.budget;
        let fits = |body: &[u8]| budget.matches(&anytime, &Varied { body, ..head }, self.now);
        let changed = budget.half(|| other_bodies::find(head.body, budget, fits));
        if let Some(what) = changed {
            let line = format!("the body {what}: with that undone the signature would match");
            return self.explained(MismatchCause::Body, line);
        }
        for url in self.verifier.public_url().map(|url| self.other_urls(url)).unwrap_or_default() {
            if self.matches(&self.verifier.for_explanation(Some(url.clone())), self.delivery) {
                return self.explained(
                    MismatchCause::Url,
                    format_args!("with `{url}` in public_url the signature would match"),
                );
            }
        }
        if self.another_head(&anytime) {
            return;
        }
        self.say("well-formed, and made with another key or over other bytes: compare the secret, and make sure that nothing on the way re-encodes the body");
        if self.delivery.body().is_empty() {
            self.say("the body is empty: has it been lost on the way?");
        }
    }
}

fn algorithm_of(length: usize) -> &'static str {
    match length {
        20 => " (it is that of SHA-1)",
        32 => " (it is that of SHA-256)",
        48 => " (it is that of SHA-384)",
        64 => " (it is that of SHA-512 or Ed25519)",
        _ => "",
    }
}

fn place_of(source: &Source) -> String {
    match source {
        Source::Headers(names) => format!("header {}", names.join(" or ")),
        Source::Field(key) => format!("the field `{key}` of the signature"),
        Source::Json(path) => format!("the JSON body at `{}`", path.text()),
        Source::Claim(name) => format!("the claim `{name}` of the token"),
    }
}
