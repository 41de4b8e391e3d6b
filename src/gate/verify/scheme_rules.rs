//! The rules that a scheme must keep, and the warnings about one that keeps them and is weak all the same.

use core::time::Duration;

use super::asymmetric::PublicAlgorithm;
use super::boundaries::{self, Ambiguity};
use super::decoded::SignedBody;
use super::guard::{Exactly, Without};
use super::jws;
use super::mac::{DigestAlgorithm, MacAlgorithm};
use super::pin::UrlPin;
use super::pinned::Brings;
use super::scheme::{Kind, Scheme, SchemeProblem, SignatureSource, Source};
use super::signature::{CANDIDATE_LIMIT, Syntax};
use super::template::Part;
use super::url::UrlPort;

/// The largest tolerance. Senders that name one for retries that are not signed anew name up to two days.
pub const TOLERANCE_LIMIT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Something that a scheme does not promise although it is used as the sender defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weakness {
    /// What it is.
    pub message: &'static str,
    /// What the operator can do.
    pub fix: &'static str,
}

impl Scheme {
    /// Everything that is wrong with the scheme; empty when it can be used.
    #[must_use]
    pub fn validate(&self) -> Vec<SchemeProblem> {
        let mut found = Findings::default();
        self.check_names(&mut found);
        self.check_content(&mut found);
        self.check_tokens(&mut found);
        self.check_guards(&mut found);
        self.check_boundaries(&mut found);
        self.check_timestamp(&mut found);
        self.check_credential(&mut found);
        self.check_named_key(&mut found);
        self.check_values(&mut found);
        found.problems.extend(jws::problems(self));
        found.problems
    }

    /// What is weak about the scheme although it can be used. That nothing goes stale where no timestamp is signed is
    /// not among it: most providers sign none, and it says nothing against any of their deliveries.
    #[must_use]
    pub fn warnings(&self) -> Vec<Weakness> {
        const STRONGER: &str = "choose something stronger if the sender offers it; if not, know what you rely on";
        let mut warnings = Vec::new();
        let mut warn = |applies: bool, message: &'static str, fix: &'static str| {
            if applies {
                warnings.push(Weakness { message, fix });
            }
        };
        warn(
            !self.signs(),
            "nothing is signed: an attacker that learns the credential can send any body, and it is in every request",
            STRONGER,
        );
        let checksum = self.content.contains(&Part::Checksum);
        warn(
            checksum,
            "of the body only a checksum is signed: an attacker that has seen a delivery can make other bodies that fit it. \
             The id lets each delivery pass once; ask the sender's API before you rely on an amount",
            STRONGER,
        );
        let partly = self.signs() && !self.covers_body() && !checksum;
        warn(partly, "the signature does not cover the whole body", STRONGER);
        warn(matches!(self.kind, Kind::Digest(_)), "a plain digest of the secret is weaker than an HMAC", STRONGER);
        warn(
            self.is_open_to_length_extension(),
            "the digest does not end with the secret and is open to length extension: an attacker who has one delivery \
             can append to it; prefer a newer scheme of the provider",
            STRONGER,
        );
        let sha1 = matches!(
            self.kind,
            Kind::Hmac(MacAlgorithm::HmacSha1)
                | Kind::Digest(DigestAlgorithm::Sha1)
                | Kind::Public(PublicAlgorithm::RsaPkcs1Sha1)
        );
        warn(sha1, "SHA-1; use it only where the provider offers nothing newer", STRONGER);
        warn(
            self.content.contains(&Part::SortedFormParams),
            "names and values of the form are signed with nothing between them, as this sender does it: an attacker that has \
             seen a delivery can move characters from one to another under the same signature",
            STRONGER,
        );
        warn(
            self.signs_form_alone(),
            "only names and values of the form are signed, and neither the URL nor a time: a delivery that was captured \
             also passes on every other route with the same key, at any time",
            STRONGER,
        );
        warn(
            matches!(self.signature, SignatureSource::Query(_)),
            "the credential or signature stands in the URL, which is often logged",
            "keep the query out of logs of proxies in front (here [access_log] query = false, the default)",
        );
        warn(
            matches!(self.status.as_str(), "third-party" | "from memory"),
            "the facts about this provider are not confirmed by its own documentation: test with a real delivery",
            "let the sender send one; if it is refused, `countersign explain` says what differs, and a [scheme.NAME] of \
             your own can correct it (`countersign schemes NAME` prints the start)",
        );
        warnings
    }

    /// Whether an attacker who has one signed delivery can make the signature of a longer one: SHA-1 and SHA-256 go on from
    /// any digest, so what stands last in the content must be the secret, or fixed text behind it.
    #[must_use]
    pub fn is_open_to_length_extension(&self) -> bool {
        let last = self.content.parts().iter().rfind(|part| !matches!(part, Part::Literal(_)));
        matches!(self.kind, Kind::Digest(_)) && self.content.contains(&Part::Secret) && last != Some(&Part::Secret)
    }

    /// Whether nothing of the request but names and values of its form is signed.
    fn signs_form_alone(&self) -> bool {
        let parts = self.content.parts();
        parts.contains(&Part::SortedFormParams)
            && parts.iter().all(|part| matches!(part, Part::SortedFormParams | Part::Literal(_) | Part::Secret))
    }

    fn check_names(&self, found: &mut Findings) {
        if let SignatureSource::Headers(names) = &self.signature {
            found.when(names.is_empty(), "signature", "names no header", "give the header that carries the signature");
            found.when(names.len() > CANDIDATE_LIMIT, "signature", "names more than 16 headers", "name at most 16");
        }
        for name in self.headers_relied_on() {
            let valid = !name.is_empty() && name.bytes().all(is_token_byte);
            found.when(
                !valid,
                "signature",
                &format!("`{name}` is not a header name"),
                "use letters, digits and hyphens",
            );
        }
        self.check_header_places(found);
        let separator = match &self.syntax {
            Syntax::Single { .. } => b',',
            Syntax::List { separator, .. } | Syntax::Pairs { separator, .. } | Syntax::Items { separator, .. } => {
                *separator
            }
        };
        let usable = separator == b' ' || separator.is_ascii_punctuation() && separator != b'=';
        found.when(!usable, "signature", "the separator cannot be used", "use a space, a comma or a semicolon");
        if let Syntax::Pairs { keys, separator, groups } = &self.syntax {
            let nameless = keys.is_empty() || keys.iter().any(String::is_empty);
            found.when(nameless, "signature", "the key is empty", "name the key of the pairs that are signatures");
            let same = *groups == Some(*separator) || *groups == Some(b'=');
            found.when(same, "signature", "groups are separated as pairs are", "use another character");
        }
    }

    /// Headers that belong to the connection or that a proxy on the way writes cannot carry what a sender says.
    fn check_header_places(&self, found: &mut Findings) {
        let signature = match &self.signature {
            SignatureSource::Headers(names) => names.as_slice(),
            SignatureSource::Form(_) | SignatureSource::Json(_) | SignatureSource::Query(_) | SignatureSource::Body => {
                &[]
            }
        };
        let timestamp = self.timestamp.as_ref().map(|timestamp| timestamp.source.headers()).unwrap_or_default();
        let id = self.id.as_ref().map(Source::headers).unwrap_or_default();
        for (field, names) in [("signature", signature), ("timestamp", timestamp), ("id", id)] {
            for name in names.iter().filter(|name| is_of_the_way(name)) {
                found.when(
                    true,
                    field,
                    &format!("`{name}` belongs to the connection or to proxies: it never carries this"),
                    "name the header that the sender documents",
                );
            }
        }
    }

    fn check_content(&self, found: &mut Findings) {
        let empty = self.content.parts().is_empty();
        if matches!(self.kind, Kind::Jws(_)) {
            found.when(!empty, "content", "a token holds what it signs", "remove `content`");
        } else if self.signs() {
            found.when(empty, "content", "nothing is signed", "say what the sender signs, for instance \"{body}\"");
            let secret_only = self.content.parts().iter().all(|part| matches!(part, Part::Literal(_) | Part::Secret));
            found.when(!empty && secret_only, "content", "nothing of the request is signed", "add {body}");
        } else {
            found.when(!empty, "content", "a static credential signs nothing", "remove `content`");
        }
        let has_secret = self.content.contains(&Part::Secret);
        if matches!(self.kind, Kind::Digest(_)) {
            found.when(
                !has_secret,
                "content",
                "a plain digest without the secret can be made by anybody",
                "add {secret}, or use an hmac algorithm",
            );
            found.when(
                self.is_open_to_length_extension() && !self.allow_length_extension,
                "content",
                "the content does not end with {secret}: the digest is open to length extension, so an attacker who has \
                 one delivery can append to it and sign that",
                "use an hmac algorithm; if the sender signs like this and offers nothing else, accept it with \
                 allow_length_extension = true",
            );
        } else {
            found.when(
                has_secret,
                "content",
                "{secret} belongs to plain digests only",
                "remove {secret}; the secret is the key",
            );
        }
        for (index, part) in self.content.parts().iter().enumerate() {
            let again =
                !matches!(part, Part::Literal(_)) && self.content.parts().iter().skip(index + 1).any(|p| p == part);
            found.when(again, "content", &format!("{part} stands more than once"), "let every token stand once");
        }
        let digest = self.body_digest.is_some() && !self.signs_url();
        let port = self.url_port == UrlPort::Either;
        found.when(
            port && !self.signs_url(),
            "url_port",
            "the scheme does not sign the URL",
            "remove `url_port`, or add {url} to `content`",
        );
        found.when(
            port && (self.wants_public_key() || matches!(self.kind, Kind::Jws(_))),
            "url_port",
            "public keys are tried on one content only",
            "remove `url_port`, and write public_url as the sender signs it",
        );
        found.when(digest, "body_digest", "the query that carries the digest is not signed", "add {url} to `content`");
    }

    fn check_tokens(&self, found: &mut Findings) {
        let wants = |part: &Part| self.content.contains(part);
        found.when(
            wants(&Part::Id) && self.id.is_none(),
            "id",
            "`content` has {id}, but nothing says where the id stands",
            "add `id`",
        );
        found.when(
            wants(&Part::Timestamp) && self.timestamp.is_none(),
            "timestamp",
            "`content` has {timestamp}, but nothing says where it stands",
            "add `timestamp`",
        );
        let structured = matches!(self.syntax, Syntax::Pairs { .. } | Syntax::Items { .. });
        let pairs = structured && matches!(&self.signature, SignatureSource::Headers(names) if names.len() == 1);
        let reads_fields = self.content.any(|part| matches!(part, Part::Field(_) | Part::NamedHeaders(_)));
        found.when(
            reads_fields && !pairs,
            "content",
            "{field:…} and {named_headers:…} need one signature header made of pairs",
            "give `signature` one header and a `key`",
        );
        let sources = self
            .timestamp
            .iter()
            .map(|timestamp| ("timestamp", &timestamp.source))
            .chain(self.id.iter().map(|id| ("id", id)));
        for (field, source) in sources {
            found.when(
                matches!(source, Source::Field(_)) && !pairs,
                field,
                "a field of the signature needs one signature header made of pairs",
                "give `signature` one header and a `key`",
            );
            found.when(
                matches!(source, Source::Headers(names) if names.is_empty()),
                field,
                "names no header",
                "give the header that carries it",
            );
            let each = matches!(source, Source::Json(path) if path.has_each());
            found.when(each, field, "a path with `*` leads to several values", "name one item, for instance `0`");
        }
        let form = self.content.any(Part::reads_form);
        let document = self.json_form.is_some() && !self.reads_json();
        found.when(document, "json_form", "nothing is read out of a JSON document", "remove `json_form`");
        let public = self.signed_body == SignedBody::Decoded && !matches!(self.kind, Kind::Hmac(_) | Kind::Digest(_));
        let fix = "remove `content_encoding`, or use an hmac algorithm";
        found.when(public, "content_encoding", "only keyed hashes are verified over decompressed bodies", fix);
        found.when(
            form && wants(&Part::Body),
            "content",
            "form fields and {body} exclude each other",
            "sign either the body or its fields",
        );
    }

    /// From the signed bytes, the parts can be told apart in one way only.
    fn check_boundaries(&self, found: &mut Findings) {
        for part in self.content.parts() {
            if let Part::NamedHeaders(key) = part {
                let signed = self.content.contains(&Part::Field(key.clone()));
                let message = format!("{part} signs values, but the list of their names is not signed");
                found.when(!signed, "content", &message, &format!("add {{field:{key}}}, if the sender signs it"));
            }
        }
        if let Some(Ambiguity { left, right, fix }) = boundaries::ambiguity(self) {
            let message = format!(
                "{left} and {right} cannot be told apart: bytes could move between them under the same signature"
            );
            found.when(true, "content", &message, &fix);
        }
    }

    fn check_guards(&self, found: &mut Findings) {
        for Without { part, bytes } in &self.guards.without {
            let missing = !self.content.contains(part);
            found.when(missing, "guard", &format!("{part} is not a part of `content`"), "remove it");
            let fix = "guard an id, a header, a field, a path or a URL; of the body say what it begins or ends with";
            found.when(!part.can_be_guarded(), "guard", &format!("`without` says nothing about {part}"), fix);
            let wrong = part.can_be_guarded() && !bytes.iter().all(|byte| part.can_be_guarded_against(byte));
            let message =
                format!("`{bytes}` cannot be kept out of {part}: it joins values, or an escape stands for it");
            found.when(wrong, "guard", &message, "guard against other characters, for instance `{`");
        }
        for Exactly { part, length } in &self.guards.exactly {
            let missing = !self.content.contains(part);
            found.when(missing, "guard", &format!("{part} is not a part of `content`"), "remove it");
            let odd = !part.can_be_measured() || !(1..=4096).contains(length);
            let fix = "give 1 to 4096 bytes for an id, a header, a field or a parameter";
            found.when(odd, "guard", &format!("`length` says nothing about {part}"), fix);
        }
        let body = (self.guards.begins.is_some() || self.guards.ends.is_some()) && !self.content.contains(&Part::Body);
        found.when(body, "guard", "{body} is not a part of `content`", "remove it");
    }

    fn check_timestamp(&self, found: &mut Findings) {
        let Some(timestamp) = &self.timestamp else { return };
        found.when(
            !self.signs_timestamp(),
            "timestamp",
            "the signature does not cover the timestamp, so it proves nothing",
            "add {timestamp} to `content` if the sender signs it, or remove `timestamp`",
        );
        let distance = timestamp.tolerance.distance();
        let usable = !distance.is_zero() && distance <= TOLERANCE_LIMIT;
        found.when(
            !usable,
            "timestamp",
            "the tolerance is out of range",
            "give a tolerance above zero and up to 168 hours",
        );
    }

    fn check_named_key(&self, found: &mut Findings) {
        let Some(locator) = &self.named_key else { return };
        let public = matches!(self.kind, Kind::Public(_));
        found.when(
            !public,
            "named_key",
            "only signatures of public keys name their key like this",
            "remove `named_key`",
        );
        let both = self.keys_url.is_some();
        found.when(both, "named_key", "`keys_url` says already where the keys are", "remove one of them");
        let gaps = |pin: &UrlPin| pin.text().matches('*').count();
        let single = locator.pins.len() == 1 && locator.pins.iter().all(|pin| gaps(pin) == 1);
        found.when(locator.brings == Brings::Name && !single, "named_key", "a name fills one gap", "write one `*`");
        let gap = locator
            .certificate
            .as_ref()
            .filter(|rule| rule.chain)
            .is_some_and(|rule| rule.names.iter().any(|n| n.contains('*')));
        found.when(gap, "named_key", "a chain is judged for a whole name", "write the names without `*`");
        let nameless = locator.certificate.as_ref().is_some_and(|rule| rule.names.is_empty());
        found.when(nameless, "named_key", "a certificate of any name would do", "name those of the sender");
    }

    fn check_values(&self, found: &mut Findings) {
        for value in &self.values {
            let in_content = self.content.contains(&Part::Route(value.name.clone()));
            let fixed = !value.values.is_empty();
            let in_lines = self.content.any(|part| match part {
                Part::JsonLines(lines) => lines.fields().iter().any(|field| field.path.text() == value.name),
                _ => false,
            });
            let message = format!("`{}` is neither a signed field nor {{route:{0}}} in `content`", value.name);
            found.when(!in_content && !in_lines && !fixed, "values", &message, "remove it");
        }
        for part in self.content.parts() {
            let Part::Route(name) = part else { continue };
            let known = self.values.iter().any(|value| value.name == *name);
            found.when(!known, "content", &format!("{part} is no value of the scheme"), "name it in `values`");
        }
    }

    fn check_credential(&self, found: &mut Findings) {
        let single = matches!(self.syntax, Syntax::Single { .. });
        found.when(
            !self.signs() && !single,
            "signature",
            "a static credential stands alone",
            "remove `separator` and `key`",
        );
        let header = matches!(self.signature, SignatureSource::Headers(_));
        found.when(
            self.kind == Kind::Basic && !header,
            "signature",
            "Basic credentials stand in a header",
            "remove `json`, `form` and `query`",
        );
        found.when(
            !self.signs() && self.body_digest.is_some(),
            "body_digest",
            "nothing is signed",
            "remove `body_digest`",
        );
    }
}

/// Connection control and framing (RFC 9110, section 7.6.1; RFC 9112, section 6), what proxies write, and our own.
fn is_of_the_way(name: &str) -> bool {
    const NAMES: [&str; 11] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "via",
        "forwarded",
    ];
    let lower = name.to_ascii_lowercase();
    NAMES.contains(&lower.as_str()) || lower.starts_with("x-forwarded-") || lower.starts_with("x-countersign-")
}

/// tchar of RFC 9110, section 5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[derive(Default)]
struct Findings {
    problems: Vec<SchemeProblem>,
}

impl Findings {
    fn when(&mut self, wrong: bool, field: &'static str, message: &str, fix: &str) {
        if wrong {
            self.problems.push(SchemeProblem { field, message: message.to_owned(), fix: fix.to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::verify::{Template, TimestampSource, Tolerance, Unit};

    #[test]
    fn headers_of_the_connection_and_of_proxies_carry_nothing() {
        let scheme = |name: &str| Scheme::new("own", Kind::Hmac(MacAlgorithm::HmacSha256), name, body());
        let body_only = || scheme("X-Signature");
        let fields = |scheme: &Scheme| scheme.validate().into_iter().map(|problem| problem.field).collect::<Vec<_>>();
        for name in ["Host", "TE", "connection", "Content-Length", "X-Forwarded-For", "x-countersign-key-id", "Via"] {
            assert_eq!(fields(&scheme(name)), ["signature"], "{name}");
            let id = Scheme { id: Some(Source::Headers(vec![name.to_owned()])), ..body_only() };
            assert_eq!(fields(&id), ["id"], "{name}");
            let source = Source::Headers(vec![name.to_owned()]);
            let tolerance = Tolerance::new(Duration::from_secs(60));
            let timestamp = Some(TimestampSource { source, unit: Unit::Seconds, tolerance });
            assert!(fields(&Scheme { timestamp, ..body_only() }).contains(&"timestamp"), "{name}");
        }
        for name in ["X-Request-Id", "Authorization", "X-Forwarded", "Digest"] {
            assert!(fields(&scheme(name)).is_empty(), "{name}");
        }
    }

    fn body() -> Template {
        Template::parse("{body}").unwrap_or_default()
    }
}
