//! The facts below the cause, a few short lines: what was judged, and how old it is.

use core::time::Duration;

use super::case::{TriedCase, without_line_end};
use super::finding::NamedMistake;
use super::given::Given;
use super::places::place_of;
use super::quoted::quoted;
use super::signatures::names;
use super::spans::shown_span;
use super::tokens::token;
use crate::gate::verify::{Encoding, Kind, PublicUrl, inspect, sha256};
use crate::outcome::Rejection;

pub(super) struct Facts<'f> {
    pub(super) given: &'f Given<'f>,
    pub(super) case: TriedCase<'f>,
    pub(super) verdict: Result<(), Rejection>,
    pub(super) finding: Option<&'f NamedMistake>,
    pub(super) with_body: bool,
}

impl Facts<'_> {
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let scheme = self.case.scheme;
        lines.extend(self.verdict.err().map(|rejection| format!("refused: {rejection}")));
        let description =
            if scheme.description.is_empty() { String::new() } else { format!(" ({})", scheme.description) };
        let signed = match scheme.kind {
            Kind::Jws(algorithm) => format!(" signs a JSON Web Token by {}", algorithm.name()),
            _ if scheme.signs() => format!(" signs {}", quoted(scheme.content.to_string())),
            _ => String::new(),
        };
        lines.push(format!("scheme: {}{description}{signed}", scheme.name));
        if let (Kind::Jws(algorithm), true) = (scheme.kind, self.verdict.is_err()) {
            lines.extend(token(self.given, self.case, algorithm.name()));
        }
        lines.extend(self.signature());
        lines.extend(self.timestamp());
        lines.extend(self.keys());
        use Rejection::{KeyInactive, TokenExpired, TokenNotYetValid};
        let of_time = matches!(self.verdict, Err(TokenExpired | TokenNotYetValid | KeyInactive));
        if of_time && self.given.is_present && self.finding.is_none() {
            lines.push("judged as of now: for an older capture say with --at when it came".to_owned());
        }
        let mismatch = self.verdict == Err(Rejection::SignatureMismatch) || self.finding.is_none();
        if self.with_body && scheme.signs() && self.verdict.is_err() {
            let body = self.case.seen.body;
            let digest = Encoding::Hex.encode(sha256(body).get(..8).unwrap_or_default());
            lines.push(format!("body: {} bytes, SHA-256 {digest}…", body.len()));
        }
        if mismatch {
            lines.extend(self.url());
        }
        lines
    }

    fn signature(&self) -> Option<String> {
        let mut found = names(self.case).iter().filter_map(|name| Some((name, self.case.seen.header(name)?)));
        found.next().map(|(name, value)| format!("signature: header {name}, {} bytes", value.len()))
    }

    fn timestamp(&self) -> Option<String> {
        let timestamp = self.case.scheme.timestamp.as_ref()?;
        let moment = inspect::timestamp(self.case.scheme, &self.case.seen).ok().flatten()?;
        let age = self.given.now.unix_millis().saturating_sub(moment);
        let direction = if age >= 0 { "old" } else { "in the future" };
        let span = shown_span(Duration::from_millis(age.unsigned_abs()));
        let allowed = self.given.verifier.tolerance().map(|it| format!(", {} are allowed", shown_span(it)));
        let place = place_of(&timestamp.source);
        Some(format!("timestamp: {span} {direction}{} ({place})", allowed.unwrap_or_default()))
    }

    /// Those that do not count, and how long the secrets of the others are.
    fn keys(&self) -> Vec<String> {
        let now = i64::try_from(self.given.now.unix.as_secs()).unwrap_or(i64::MAX);
        let span = |seconds: i64| shown_span(Duration::from_secs(seconds.unsigned_abs()));
        let mut lines = Vec::new();
        for key in self.given.verifier.keys() {
            let (id, validity) = (key.id(), key.validity());
            match (validity.not_before, validity.not_after) {
                (_, Some(end)) if now >= end => lines.push(format!("key `{id}`: expired {} ago", span(now - end))),
                (Some(start), _) if now < start => {
                    lines.push(format!("key `{id}`: counts only in {}", span(start - now)));
                }
                _ => match key.secret_length() {
                    Some(length) if self.verdict == Err(Rejection::SignatureMismatch) && self.is_whole(id) => {
                        lines.push(format!("key `{id}`: a secret of {length} bytes"));
                    }
                    _ => {}
                },
            }
        }
        lines
    }

    /// Whether a key is made of its secret: what is none has a key in its place that matches nothing.
    fn is_whole(&self, id: &str) -> bool {
        let secret = self.given.secrets.iter().find(|(name, _)| name == id);
        secret.is_none_or(|(_, secret)| inspect::decode_secret(self.case.scheme, without_line_end(secret)).is_ok())
    }

    fn url(&self) -> Option<String> {
        let url = self.case.url.filter(|_| self.case.scheme.signs_url())?;
        let written = |url: &PublicUrl| {
            let mut signed = Vec::new();
            url.write(self.case.seen.target, &mut |piece| signed.extend_from_slice(piece));
            quoted(signed)
        };
        let other = self.given.verifier.other_url().map(|url| format!(", or {}", written(url))).unwrap_or_default();
        Some(format!("URL that was judged: {} {}{other}", quoted(self.case.seen.method), written(url)))
    }
}
