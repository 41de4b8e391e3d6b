//! A scheme: the declarative description of how one provider signs. Values only; the engine interprets them.

use core::fmt;

use super::asymmetric::PublicAlgorithm;
use super::decoded::SignedBody;
use super::equal_bytes::{EqualBytes, ToldApart};
use super::guard::Guards;
use super::json::JsonPath;
use super::jws::{JwsAlgorithm, TokenRules};
use super::key_form::KeyForm;
use super::mac::{DigestAlgorithm, MacAlgorithm};
use super::pinned::{KeyLocator, KeyPlace};
use super::signature::{CANDIDATE_LIMIT, Encoding, PUBLIC_CANDIDATE_LIMIT, Syntax};
use super::template::{Part, Template};
use super::tolerance::{Tolerance, Unit};
use super::url::UrlPort;
use crate::outcome::Rejection;

/// What makes a delivery genuine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyed hash of the signed content.
    Hmac(MacAlgorithm),
    /// A plain digest of signed content in which `{secret}` stands.
    Digest(DigestAlgorithm),
    /// A signature that a public key verifies.
    Public(PublicAlgorithm),
    /// A JSON Web Token (RFC 7519) that is signed like this. What it covers of the request is what its claims say.
    Jws(JwsAlgorithm),
    /// A static token: it shows who sends, and nothing about what is sent.
    Token,
    /// `Authorization: Basic` (RFC 7617) with `user:password` as the secret: the same weakness.
    Basic,
}

/// Where the signature, or the token, stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureSource {
    /// In one or several headers; every one that is present brings candidates, each at most once.
    Headers(Vec<String>),
    /// In a field of the JSON body.
    Json(JsonPath),
    /// In a field of a form body.
    Form(String),
    /// In a query parameter.
    Query(String),
    /// The body is the token.
    Body,
}

/// Where a timestamp or a delivery id stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a header; further names are fallbacks, and those that are present must be byte-equal.
    Headers(Vec<String>),
    /// Under a key of a signature header made of pairs.
    Field(String),
    /// In a field of the JSON body.
    Json(JsonPath),
    /// In a claim of the token.
    Claim(String),
    /// In a field of a form body.
    Form(String),
    /// In a query parameter.
    Query(String),
}

/// The timestamp of a scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimestampSource {
    /// Where it stands.
    pub source: Source,
    /// How it is written.
    pub unit: Unit,
    /// The tolerance, where a route does not set its own.
    pub tolerance: Tolerance,
}

/// A digest of the body that stands inside the signed content: hexadecimal SHA-256 in a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyDigest {
    /// The query parameter.
    pub query: String,
}

/// A value that only a route knows, and what it may be. A scheme is used with none of them empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteValue {
    /// The name: of `{route:NAME}`, or of a signed field.
    pub name: String,
    /// What it may be.
    pub values: Vec<String>,
}

/// What tells two deliveries apart in the replay window. Only what the sender has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayKey {
    /// The delivery id, which the signature covers.
    Id,
    /// The tag of the signed content, under one key of the route whichever of them the sender has.
    Tag,
    /// A digest of the signed bytes: signatures of this algorithm can be rewritten into other valid ones.
    SignedBytesDigest,
    /// A digest of the body: nothing is signed, so nothing better exists.
    BodyDigest,
}

impl ReplayKey {
    /// A word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "delivery id",
            Self::Tag => "tag of the signed content, by one key of the route",
            Self::SignedBytesDigest => "digest of the signed bytes",
            Self::BodyDigest => "digest of the body",
        }
    }
}

/// A signing scheme. The fields are those of a scheme table in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// The name by which routes refer to it.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// What confirms the facts: `sdk`, `vector`, `source`, `document`, `third-party` or `from memory`; `generic` where
    /// there is no sender, and empty for a user's own scheme.
    pub status: String,
    /// What the sender asks a new endpoint, and the answer that it wants, in words; empty where it asks nothing.
    pub handshake: String,
    /// What the sender sends again, and how long an answer may take, in words; empty where that is not known.
    pub retries: String,
    /// What makes a delivery genuine.
    pub kind: Kind,
    /// The signed content; empty for [`Kind::Token`] and [`Kind::Basic`].
    pub content: Template,
    /// Where the signature stands.
    pub signature: SignatureSource,
    /// How signatures are laid out in the value.
    pub syntax: Syntax,
    /// How a signature is written.
    pub encoding: Encoding,
    /// The timestamp.
    pub timestamp: Option<TimestampSource>,
    /// The delivery id.
    pub id: Option<Source>,
    /// How the secret is written.
    pub secret: KeyForm,
    /// Where the sender publishes its public keys, for a route that names none.
    pub keys_url: Option<String>,
    /// How deliveries name their keys, for a route that has none of its own.
    pub named_key: Option<KeyLocator>,
    /// Values that a route gives: parts of the content, or what signed fields must be.
    pub values: Vec<RouteValue>,
    /// Headers that must be present once with exactly this value.
    pub require: Vec<(String, String)>,
    /// A digest of the body inside the signed content.
    pub body_digest: Option<BodyDigest>,
    /// Whether two events can have equal bytes; of meaning only where neither an id nor a time is signed.
    pub equal_bytes: EqualBytes,
    /// Whether the sender signs its URL with the port or without it.
    pub url_port: UrlPort,
    /// The longest body that the sender sends, in bytes, where it names one.
    pub body_size: Option<u64>,
    /// Whether the operator accepts that the signature of a plain digest is open to length extension.
    pub allow_length_extension: bool,
    /// What keeps apart the parts of the content that nothing else separates.
    pub guards: Guards,
    /// What is asked of a token; of meaning only for [`Kind::Jws`].
    pub token: TokenRules,
    /// The form field in which the JSON document stands that paths are about, where it is not the body itself.
    pub json_form: Option<String>,
    /// Whether the sender signs the body as it is sent, or before it compresses it.
    pub signed_body: SignedBody,
}

/// Something about a scheme that cannot work or is not safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemeProblem {
    /// The key in the scheme table.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

impl fmt::Display for SchemeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.message, self.fix)
    }
}

impl Scheme {
    /// A scheme that signs `content` and writes the signature into `header`; everything else as most senders do it
    /// (hexadecimal, one signature, raw secret). A starting point to set other fields on.
    #[must_use]
    pub fn new(name: &str, kind: Kind, header: &str, content: Template) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            status: String::new(),
            handshake: String::new(),
            retries: String::new(),
            kind,
            content,
            signature: SignatureSource::Headers(vec![header.to_owned()]),
            syntax: Syntax::Single { prefix: String::new() },
            encoding: Encoding::Hex,
            timestamp: None,
            id: None,
            secret: KeyForm::default(),
            keys_url: None,
            named_key: None,
            values: Vec::new(),
            require: Vec::new(),
            body_digest: None,
            equal_bytes: EqualBytes::Unknown,
            url_port: UrlPort::AsConfigured,
            body_size: None,
            allow_length_extension: false,
            guards: Guards::default(),
            token: TokenRules::default(),
            json_form: None,
            signed_body: SignedBody::AsReceived,
        }
    }

    /// Whether the signature covers every byte of the body.
    #[must_use]
    pub fn covers_body(&self) -> bool {
        if matches!(self.kind, Kind::Jws(_)) {
            return self.signature == SignatureSource::Body || self.token.body_digest.is_some();
        }
        self.signs()
            && (self.content.any(|part| {
                matches!(part, Part::Body | Part::SortedFormParams | Part::SortedForm(_) | Part::HashedBody(..))
            }) || self.body_digest.is_some() && self.signs_url())
    }

    /// Whether no byte of the body can change under one signature. A part of it, the fields of a form, a token among blanks
    /// and a compressed body can be written in other ways.
    #[must_use]
    pub fn covers_body_as_received(&self) -> bool {
        let exact = match self.kind {
            Kind::Jws(_) => self.token.body_digest.is_some(),
            _ => {
                self.content.any(|part| matches!(part, Part::Body | Part::HashedBody(..)))
                    || self.body_digest.is_some() && self.signs_url()
            }
        };
        self.signs() && exact && self.signed_body == SignedBody::AsReceived
    }

    /// Whether the timestamp is part of what is signed. Only then does it count.
    #[must_use]
    pub fn signs_timestamp(&self) -> bool {
        self.timestamp.as_ref().is_some_and(|timestamp| self.signs_value(&timestamp.source, &Part::Timestamp))
    }

    /// Whether the delivery id is part of what is signed. Only then is it a replay key.
    #[must_use]
    pub fn signs_id(&self) -> bool {
        self.id.as_ref().is_some_and(|source| self.signs_value(source, &Part::Id))
    }

    /// Whether the public URL is needed to verify.
    #[must_use]
    pub fn signs_url(&self) -> bool {
        self.content.any(|part| matches!(part, Part::Url | Part::UrlUnescaped)) || self.token.query_hash.is_some()
    }

    /// Whether anything is signed at all, as opposed to a static credential.
    #[must_use]
    pub const fn signs(&self) -> bool {
        !matches!(self.kind, Kind::Token | Kind::Basic)
    }

    /// Whether keys are public keys.
    #[must_use]
    pub const fn wants_public_key(&self) -> bool {
        matches!(self.kind, Kind::Public(_) | Kind::Jws(JwsAlgorithm::Public(_)))
    }

    /// What tells two deliveries apart.
    #[must_use]
    pub fn replay_key(&self) -> ReplayKey {
        match self.kind {
            _ if self.signs_id() => ReplayKey::Id,
            Kind::Hmac(_) | Kind::Digest(_) => ReplayKey::Tag,
            Kind::Public(_) | Kind::Jws(_) => ReplayKey::SignedBytesDigest,
            Kind::Token | Kind::Basic => ReplayKey::BodyDigest,
        }
    }

    /// What tells two deliveries apart, and how far that goes.
    #[must_use]
    pub fn told_apart(&self) -> ToldApart {
        match () {
            () if !self.tells_deliveries_apart() => ToldApart::Nothing,
            () if self.signs_id() => ToldApart::Id,
            () if self.signs_timestamp() && self.covers_body() => ToldApart::Time,
            () => ToldApart::Bytes(self.equal_bytes),
        }
    }

    /// The most signatures of one delivery that are compared.
    #[must_use]
    pub const fn candidate_limit(&self) -> usize {
        if self.wants_public_key() { PUBLIC_CANDIDATE_LIMIT } else { CANDIDATE_LIMIT }
    }

    /// Whether what is signed differs from one delivery to the next. A URL alone does not, unless a digest of the body
    /// stands in it.
    #[must_use]
    pub fn tells_deliveries_apart(&self) -> bool {
        let is_fixed = |part: &Part| {
            use Part::{Literal, Method, Path, Secret, Url, UrlUnescaped};
            matches!(part, Literal(_) | Method | Path | Secret | Url | UrlUnescaped)
        };
        let token = matches!(self.kind, Kind::Jws(_));
        self.signs() && (token || self.content.any(|part| !is_fixed(part)) || self.body_digest.is_some())
    }

    /// The headers whose values decide, or are shown as facts about the delivery. No hop may add, drop or
    /// rename them.
    pub fn headers_relied_on(&self) -> impl Iterator<Item = &str> {
        let signature = match &self.signature {
            SignatureSource::Headers(names) => names.as_slice(),
            SignatureSource::Form(_) | SignatureSource::Json(_) | SignatureSource::Query(_) | SignatureSource::Body => {
                &[]
            }
        };
        let timestamp = self.timestamp.as_ref().map(|timestamp| timestamp.source.headers()).unwrap_or_default();
        let id = self.id.as_ref().map(Source::headers).unwrap_or_default();
        let content = self.content.parts().iter().filter_map(|part| match part {
            Part::Header(name) => Some(name.as_str()),
            _ => None,
        });
        let basic = (self.kind == Kind::Basic).then_some("authorization");
        let content_type = self.reads_form().then_some("content-type");
        let key = self.named_key.as_ref().and_then(|locator| match &locator.place {
            KeyPlace::Header(name) => Some(name.as_str()),
            KeyPlace::Json(_) => None,
        });
        let coding = (self.signed_body == SignedBody::Decoded).then_some("content-encoding");
        let named = [signature, timestamp, id].into_iter().flatten().map(String::as_str);
        named
            .chain(self.require.iter().map(|(name, _)| name.as_str()))
            .chain(content)
            .chain(basic)
            .chain(content_type)
            .chain(key)
            .chain(coding)
    }

    /// Whether the id or the timestamp or the signature must be looked up in the body before anything can be hashed.
    pub(super) fn content_needs_body(&self, parts: &[Part]) -> bool {
        parts.iter().any(|part| match part {
            Part::Timestamp => self.timestamp.as_ref().is_some_and(|timestamp| timestamp.source.is_in_body()),
            Part::Id => self.id.as_ref().is_some_and(Source::is_in_body),
            other => other.needs_body(),
        })
    }

    /// How many times one judgement reads through the body at most, beside hashing it and reading fields that are signed.
    pub(super) fn readings_of_body(&self) -> usize {
        let sources = self.timestamp.iter().map(|timestamp| &timestamp.source).chain(&self.id);
        let sources = sources.filter(|source| source.is_in_body()).count();
        let in_head = matches!(self.signature, SignatureSource::Headers(_) | SignatureSource::Query(_));
        let forms = self.content.parts().iter().filter(|part| part.reads_form()).count();
        usize::from(!in_head) + sources + forms + usize::from(self.json_form.is_some())
    }

    /// Whether anything is read out of a form body.
    #[must_use]
    pub fn reads_form(&self) -> bool {
        let sources = self.timestamp.iter().map(|timestamp| &timestamp.source).chain(&self.id);
        self.json_form.is_some()
            || self.content.any(Part::reads_form)
            || matches!(self.signature, SignatureSource::Form(_))
            || sources.into_iter().any(|source| matches!(source, Source::Form(_)))
    }

    /// Whether anything is read out of a JSON document.
    pub(super) fn reads_json(&self) -> bool {
        let sources = self.timestamp.iter().map(|timestamp| &timestamp.source).chain(&self.id);
        self.signs_json()
            || matches!(self.signature, SignatureSource::Json(_))
            || sources.into_iter().any(|source| matches!(source, Source::Json(_)))
    }

    /// Whether fields of a JSON document are signed.
    pub(super) fn signs_json(&self) -> bool {
        self.content.any(|part| matches!(part, Part::Json { .. } | Part::JsonLines(_)))
    }

    /// Refuses a signed field that is not what the route says that it must be.
    pub(super) fn check_value(&self, name: &str, value: &[u8]) -> Result<(), Rejection> {
        let rule = self.values.iter().find(|rule| rule.name == name).filter(|rule| !rule.values.is_empty());
        match rule {
            Some(rule) if !rule.values.iter().any(|wanted| wanted.as_bytes() == value) => Err(Rejection::ValueMismatch),
            _ => Ok(()),
        }
    }

    /// The scheme with the values that a route gives: parts of the content become literals.
    #[must_use]
    pub fn with_values(mut self, values: &[RouteValue]) -> Self {
        for given in values {
            self.values.iter_mut().filter(|own| own.name == given.name).for_each(|own| own.clone_from(given));
        }
        let filled = |part: &Part| match part {
            Part::Route(name) => {
                let value = self.values.iter().find(|value| value.name == *name).and_then(|value| value.values.first());
                value.map_or_else(|| part.clone(), |value| Part::Literal(value.clone().into_bytes()))
            }
            other => other.clone(),
        };
        self.content = Template::of(self.content.parts().iter().map(filled).collect());
        self
    }

    fn signs_value(&self, source: &Source, token: &Part) -> bool {
        let claim = matches!(source, Source::Claim(_));
        let line = |part: &Part| match (part, source) {
            (Part::JsonLines(lines), Source::Json(path)) => lines.always_has(path),
            _ => false,
        };
        let found = claim || self.content.contains(token) || source.is_in_body() && self.covers_body();
        self.signs() && (found || self.content.any(line))
    }
}

impl Source {
    /// The headers it may stand in.
    #[must_use]
    pub fn headers(&self) -> &[String] {
        match self {
            Self::Headers(names) => names,
            Self::Field(_) | Self::Json(_) | Self::Form(_) | Self::Query(_) | Self::Claim(_) => &[],
        }
    }

    /// Whether it can be read only when the body is there.
    #[must_use]
    pub const fn is_in_body(&self) -> bool {
        matches!(self, Self::Json(_) | Self::Form(_))
    }
}
