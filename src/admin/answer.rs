//! The answers of the admin port: its own table of status codes, and the fields that every answer has.

use crate::telemetry::exposition;
use crate::wire::encode;

/// How a request to the admin port ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Here it is, or: yes.
    Good,
    /// It is being done.
    Accepted,
    /// The request is not HTTP/1.1, or has a body.
    Malformed,
    /// Not from here.
    Forbidden,
    /// No such page.
    Unknown,
    /// Not with this method.
    MethodRefused,
    /// Something else that was asked for is still being done.
    Busy,
    /// It was tried and did not work.
    Failed,
    /// `Host` names another server.
    Misdirected,
    /// The head is too large.
    TooLarge,
    /// No.
    NotNow,
}

impl Verdict {
    /// The status code.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Good => 200,
            Self::Accepted => 202,
            Self::Malformed => 400,
            Self::Forbidden => 403,
            Self::Unknown => 404,
            Self::MethodRefused => 405,
            Self::Busy => 409,
            Self::Misdirected => 421,
            Self::TooLarge => 431,
            Self::Failed => 500,
            Self::NotNow => 503,
        }
    }
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// Words for people.
    Text,
    /// JSON.
    Json,
    /// The page for Prometheus.
    Exposition,
    /// The status page.
    Html,
    /// Bytes that a client has sent: no browser may interpret them.
    Bytes,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How the request ended.
    pub verdict: Verdict,
    /// What the body is.
    pub media: Media,
    /// The body.
    pub body: Vec<u8>,
    /// For [`Verdict::MethodRefused`]: the methods that there are.
    pub allow: &'static str,
}

impl Answer {
    /// A line of text.
    #[must_use]
    pub fn text(verdict: Verdict, line: impl Into<String>) -> Self {
        let mut body = line.into();
        body.push('\n');
        Self { verdict, media: Media::Text, body: body.into_bytes(), allow: "" }
    }

    /// A document.
    #[must_use]
    pub fn document(media: Media, body: impl Into<Vec<u8>>) -> Self {
        Self { verdict: Verdict::Good, media, body: body.into(), allow: "" }
    }

    /// The answer as bytes; without its body for `HEAD`. `policy` is what the status page may do.
    #[must_use]
    pub fn encode(&self, with_body: bool, policy: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + self.body.len());
        encode::status_line(&mut out, self.verdict.status());
        let media = match self.media {
            Media::Text => "text/plain; charset=utf-8",
            Media::Json => "application/json",
            Media::Exposition => exposition::CONTENT_TYPE,
            Media::Html => "text/html; charset=utf-8",
            Media::Bytes => "application/octet-stream",
        };
        encode::field(&mut out, b"Content-Type", media.as_bytes());
        encode::field_u64(&mut out, b"Content-Length", self.body.len() as u64);
        let policy = if self.media == Media::Html { policy } else { "default-src 'none'; frame-ancestors 'none'" };
        encode::field(&mut out, b"Content-Security-Policy", policy.as_bytes());
        for (name, value) in FIELDS {
            encode::field(&mut out, name.as_bytes(), value.as_bytes());
        }
        if !self.allow.is_empty() {
            encode::field(&mut out, b"Allow", self.allow.as_bytes());
        }
        encode::end(&mut out);
        if with_body {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

/// Nothing is kept, framed, guessed at or told to others; nothing is shared with pages from elsewhere.
const FIELDS: [(&str, &str); 6] = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Connection", "close"),
];
