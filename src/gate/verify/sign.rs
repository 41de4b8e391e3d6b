//! Signs as a provider would: for the `sign` command, for demonstrations and for tests.
//!
//! The signed content is written by the code that verifies, over a draft of the request, so that the two cannot
//! disagree. What is produced is the headers that the provider would send.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Delivery;
use super::content::Content;
use super::jws::{self, JwsAlgorithm, TokenDraft};
use super::keyring::{KeyError, decode_secret};
use super::mac::{self, Hasher};
use super::private_key;
use super::reading;
use super::scheme::{Kind, Scheme, SignatureSource, Source};
use super::signature::{Encoding, Syntax};
use super::template::Part;
use super::url::PublicUrl;
use crate::now::Now;
use crate::outcome::Rejection;
use crate::wire::headers::{HeaderBuf, Headers};

/// What is to be signed.
#[derive(Clone, Copy, Debug)]
pub struct SignInput<'a> {
    /// The request method.
    pub method: &'a str,
    /// The full URL as it is configured at the provider, with the query of the request.
    pub url: &'a str,
    /// Headers that the request has anyway (`Content-Type`, and what `{header:…}` names).
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
    /// The moment to be signed.
    pub now: Now,
    /// The delivery id, where the scheme has one in a header.
    pub id: Option<&'a str>,
}

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignError {
    /// The secret is not in the scheme's form.
    Key(KeyError),
    /// Not a private key of this algorithm: PKCS#8 as PEM or DER, for Ed25519 also `whsk_…`.
    PrivateKey(&'static str),
    /// The URL is not one.
    Url(super::url::UrlError),
    /// The delivery id is needed.
    IdWanted,
    /// The signed content cannot be made out of this request.
    Content(Rejection),
    /// The digest of the body must stand in the query, here `name=value`.
    DigestWanted(String),
    /// The signature does not go into a header but to the place described, where the caller must put this value.
    Elsewhere {
        /// The place, in words.
        place: String,
        /// What belongs there.
        value: String,
    },
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => error.fmt(f),
            Self::PrivateKey(name) => write!(f, "a private key for {name} is needed to sign, in PKCS#8 (PEM or DER)"),
            Self::Url(error) => write!(f, "the URL: {error}"),
            Self::IdWanted => f.write_str("the scheme signs a delivery id: give one"),
            Self::Content(Rejection::ContentAmbiguous) => {
                f.write_str("the request breaks a guard of the scheme: a receiver could not tell what is signed apart")
            }
            Self::Content(rejection) => write!(f, "the request lacks something that is signed ({rejection})"),
            Self::DigestWanted(parameter) => {
                write!(f, "the scheme wants the digest of the body in the URL: add {parameter}")
            }
            Self::Elsewhere { place, value } => write!(f, "the signature belongs into {place}: {value}"),
        }
    }
}

impl core::error::Error for SignError {}

/// The headers that the provider would add to the request: timestamp, id, required ones, and the signature last.
///
/// `secret` is the secret as the provider shows it, `user:password` for Basic, or a private key (PKCS#8, or `whsk_…` of Standard Webhooks).
///
/// # Errors
/// [`SignError`] when secret, URL or request do not fit the scheme.
pub fn sign(scheme: &Scheme, secret: &[u8], input: &SignInput<'_>) -> Result<Vec<(String, String)>, SignError> {
    let mut draft = Draft::new(scheme, input)?;
    let value = match scheme.kind {
        Kind::Token => text(decode_secret(scheme, secret).map_err(SignError::Key)?.to_vec()),
        Kind::Basic => format!("Basic {}", STANDARD.encode(decode_secret(scheme, secret).map_err(SignError::Key)?)),
        Kind::Jws(algorithm) => token(scheme, algorithm, secret, &draft, input)?,
        Kind::Hmac(_) | Kind::Digest(_) | Kind::Public(_) => {
            check_digest(scheme, &draft)?;
            scheme.encoding.encode(&tag(scheme, secret, &draft)?)
        }
    };
    let value = match &scheme.syntax {
        _ if scheme.kind == Kind::Basic => value,
        Syntax::Single { prefix } | Syntax::List { prefix, .. } => format!("{prefix}{value}"),
        Syntax::Pairs { separator, keys, .. } => {
            let key = keys.first().map_or("", String::as_str);
            draft.with_field(*separator, &format!("{key}={value}"))
        }
        Syntax::Items { separator, behind, .. } => {
            // What stands before the mark names the key, and nothing is made of it.
            let mark = behind.map(|mark| format!("key{}", char::from(mark))).unwrap_or_default();
            draft.with_field(*separator, &format!("{mark}{value}"))
        }
    };
    match &scheme.signature {
        SignatureSource::Headers(names) => {
            draft.added.extend(names.first().map(|name| (name.clone(), value)));
            Ok(draft.added)
        }
        SignatureSource::Json(path) => elsewhere("the field of the JSON body", path.text(), value),
        SignatureSource::Form(name) => elsewhere("the form field", name, value),
        SignatureSource::Query(name) => elsewhere("the query parameter", name, value),
        SignatureSource::Body => elsewhere("the body", "all of it", value),
    }
}

fn token(
    scheme: &Scheme,
    algorithm: JwsAlgorithm,
    secret: &[u8],
    draft: &Draft,
    input: &SignInput<'_>,
) -> Result<String, SignError> {
    let raw = match algorithm {
        JwsAlgorithm::Mac(_) => decode_secret(scheme, secret).map_err(SignError::Key)?,
        JwsAlgorithm::Public(_) => Zeroizing::new(secret.to_vec()),
    };
    let (now, id, public_url) = (input.now, input.id, &draft.url);
    let claims = TokenDraft { scheme, delivery: draft, public_url, now, id };
    jws::sign(&claims, algorithm, &raw).ok_or(SignError::PrivateKey(algorithm.name()))
}

fn elsewhere<T>(kind: &str, name: &str, value: String) -> Result<T, SignError> {
    Err(SignError::Elsewhere { place: format!("{kind} `{name}`"), value })
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn check_digest(scheme: &Scheme, draft: &Draft) -> Result<(), SignError> {
    let Some(digest) = &scheme.body_digest else { return Ok(()) };
    let wanted = Encoding::Hex.encode(&mac::sha256(&draft.body));
    let given = reading::query_parameter(draft, &digest.query, reading::CONTENT).map_err(SignError::Content)?;
    if given.is_some_and(|given| *given == *wanted.as_bytes()) {
        Ok(())
    } else {
        Err(SignError::DigestWanted(format!("{}={wanted}", digest.query)))
    }
}

fn tag(scheme: &Scheme, secret: &[u8], draft: &Draft) -> Result<Vec<u8>, SignError> {
    let mut signed = Vec::new();
    let raw = match scheme.kind {
        Kind::Public(_) => Zeroizing::new(Vec::new()),
        _ => decode_secret(scheme, secret).map_err(SignError::Key)?,
    };
    scheme.guards.check_body(draft.body()).map_err(SignError::Content)?;
    let content = Content { scheme, delivery: draft, public_url: Some(&draft.url), secret: &raw };
    content.write(scheme.content.parts(), &mut |piece| signed.extend_from_slice(piece)).map_err(SignError::Content)?;
    let mut hasher = match scheme.kind {
        Kind::Hmac(algorithm) => Hasher::mac(&algorithm.key(&raw)),
        Kind::Digest(algorithm) => Hasher::digest(algorithm),
        Kind::Public(algorithm) => {
            let refused = || SignError::PrivateKey(algorithm.name());
            return private_key::sign(algorithm, secret, &signed).ok_or_else(refused);
        }
        Kind::Jws(_) | Kind::Token | Kind::Basic => return Ok(Vec::new()),
    };
    hasher.update(&signed);
    Ok(hasher.finish().reveal().to_vec())
}

/// The request as it will be, without the signature.
struct Draft {
    method: String,
    target: String,
    url: PublicUrl,
    headers: HeaderBuf,
    body: Vec<u8>,
    /// The headers that are not the caller's.
    added: Vec<(String, String)>,
    /// The pairs of a structured signature header that stand before the signature.
    fields: String,
}

impl Draft {
    fn new(scheme: &Scheme, input: &SignInput<'_>) -> Result<Self, SignError> {
        let (before_query, query) =
            input.url.split_once('?').map_or((input.url, None), |(url, query)| (url, Some(query)));
        let url = PublicUrl::parse(before_query).map_err(SignError::Url)?;
        let path = if url.path().is_empty() { "/" } else { url.path() };
        let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let mut draft = Self {
            method: input.method.to_owned(),
            target,
            url,
            headers: HeaderBuf::default(),
            body: input.body.to_vec(),
            added: Vec::new(),
            fields: String::new(),
        };
        for (name, value) in input.headers {
            draft.headers.push(name, value.as_bytes());
        }
        draft.add_fields(scheme, input)?;
        Ok(draft)
    }

    fn add_fields(&mut self, scheme: &Scheme, input: &SignInput<'_>) -> Result<(), SignError> {
        for (name, value) in &scheme.require {
            self.add(name, value);
        }
        if let Some(timestamp) = &scheme.timestamp
            && let Some(text) = timestamp.unit.format(input.now.unix)
        {
            self.place(scheme, &timestamp.source, &text);
        }
        match (&scheme.id, input.id) {
            (Some(source), Some(id)) => self.place(scheme, source, id),
            (Some(source), None) if scheme.content.contains(&Part::Id) && !source.is_in_body() => {
                return Err(SignError::IdWanted);
            }
            _ => {}
        }
        let named = |key: &String| scheme.content.contains(&Part::NamedHeaders(key.clone()));
        let read = |key: &String| {
            let sources = scheme.timestamp.iter().map(|timestamp| &timestamp.source).chain(&scheme.id);
            sources.into_iter().any(|source| *source == Source::Field(key.clone()))
        };
        for part in scheme.content.parts() {
            match part {
                Part::NamedHeaders(key) => {
                    let names: Vec<&str> = input.headers.iter().map(|(name, _)| *name).collect();
                    self.place(scheme, &Source::Field(key.clone()), &names.join(" ").to_ascii_lowercase());
                }
                // Nothing is known of its meaning: senders write a time or a nonce, and a time can be either.
                Part::Field(key) if !named(key) && !read(key) => {
                    self.place(scheme, &Source::Field(key.clone()), &input.now.unix.as_secs().to_string());
                }
                _ => {}
            }
        }
        if let (SignatureSource::Headers(names), false) = (&scheme.signature, self.fields.is_empty())
            && let Some(name) = names.first()
        {
            self.headers.push(name, self.fields.as_bytes());
        }
        Ok(())
    }

    /// The pairs or items so far, and one more.
    fn with_field(&self, separator: u8, field: &str) -> String {
        if self.fields.is_empty() {
            return field.to_owned();
        }
        format!("{}{}{field}", self.fields, char::from(separator))
    }

    fn add(&mut self, name: &str, value: &str) {
        self.headers.push(name, value.as_bytes());
        self.added.push((name.to_owned(), value.to_owned()));
    }

    fn place(&mut self, scheme: &Scheme, source: &Source, value: &str) {
        match (source, &scheme.syntax) {
            (Source::Headers(names), _) => {
                if let Some(name) = names.first() {
                    self.add(name, value);
                }
            }
            (Source::Field(key), Syntax::Pairs { separator, .. }) => {
                self.fields = self.with_field(*separator, &format!("{key}={value}"));
            }
            (Source::Field(_), Syntax::Items { separator, .. }) => self.fields = self.with_field(*separator, value),
            (Source::Field(_) | Source::Json(_) | Source::Form(_) | Source::Query(_) | Source::Claim(_), _) => {}
        }
    }
}

impl Delivery for Draft {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }

    fn headers(&self) -> Headers<'_> {
        self.headers.view()
    }

    fn body(&self) -> &[u8] {
        &self.body
    }
}
