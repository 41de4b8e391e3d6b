//! Deliveries, schemes and verifiers for the tests of this room and of the explanations.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use core::time::Duration;
use std::sync::Arc;

use super::*;
use crate::now::Now;
use crate::outcome::Rejection;
use crate::wire::headers::HeaderBuf;

pub(crate) const NOW: u64 = 1_760_000_000;
pub(crate) const SECRET: &str = "correct-horse-battery-staple-0123456789";
pub(crate) const BODY: &[u8] = b"{\"event\":\"order.created\"}";

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderBuf,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn post(body: &[u8]) -> Self {
        Self { method: "POST".into(), target: "/hook".into(), headers: HeaderBuf::default(), body: body.to_vec() }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push(name, value.as_bytes());
        self
    }
}

impl Delivery for Request {
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

pub(crate) fn now() -> Now {
    Now::at_unix(Duration::from_secs(NOW))
}

pub(crate) fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

pub(crate) fn header(name: &str) -> Source {
    Source::Headers(vec![name.to_owned()])
}

pub(crate) fn seconds(source: Source) -> Option<TimestampSource> {
    Some(TimestampSource { source, unit: Unit::Seconds, tolerance: Tolerance::new(Duration::from_secs(300)) })
}

pub(crate) fn github() -> Scheme {
    Scheme {
        syntax: Syntax::Single { prefix: "sha256=".into() },
        id: Some(header("X-GitHub-Delivery")),
        ..Scheme::new("github", Kind::Hmac(MacAlgorithm::HmacSha256), "X-Hub-Signature-256", template("{body}"))
    }
}

pub(crate) fn stripe() -> Scheme {
    Scheme {
        syntax: Syntax::pairs(b',', "v1"),
        timestamp: seconds(Source::Field("t".into())),
        ..Scheme::new(
            "stripe",
            Kind::Hmac(MacAlgorithm::HmacSha256),
            "Stripe-Signature",
            template("{timestamp}.{body}"),
        )
    }
}

pub(crate) fn slack() -> Scheme {
    Scheme {
        syntax: Syntax::Single { prefix: "v0=".into() },
        timestamp: seconds(header("X-Slack-Request-Timestamp")),
        ..Scheme::new(
            "slack",
            Kind::Hmac(MacAlgorithm::HmacSha256),
            "X-Slack-Signature",
            template("v0:{timestamp}:{body}"),
        )
    }
}

pub(crate) fn standard() -> Scheme {
    Scheme {
        syntax: Syntax::List { separator: b' ', prefix: "v1,".into() },
        encoding: Encoding::Base64,
        timestamp: seconds(header("webhook-timestamp")),
        id: Some(header("webhook-id")),
        secret: KeyForm {
            encoding: KeyEncoding::Encoded(Encoding::Base64),
            strip_prefix: vec!["whsec_".into()],
            ..KeyForm::default()
        },
        ..Scheme::new(
            "standard-webhooks",
            Kind::Hmac(MacAlgorithm::HmacSha256),
            "webhook-signature",
            template("{id}.{timestamp}.{body}"),
        )
    }
}

pub(crate) fn verifier(scheme: Scheme, secrets: &[&str]) -> Verifier {
    let keys = secrets
        .iter()
        .enumerate()
        .map(|(index, secret)| {
            Key::from_secret(&format!("k{index}"), &scheme, secret.as_bytes(), Validity::default()).unwrap()
        })
        .collect();
    Verifier::new(Arc::new(scheme), Keyring::new(keys), None, None).unwrap()
}

pub(crate) fn judge(verifier: &Verifier, request: Request) -> Result<Verified<'_, Request>, Rejection> {
    let mut check = verifier.begin(&request, now())?;
    check.update(&request.body.clone());
    verifier.finish(check, request, now()).map_err(|(rejection, _)| rejection)
}

pub(crate) fn verdict(verifier: &Verifier, request: Request) -> Result<(), Rejection> {
    judge(verifier, request).map(|_| ())
}

pub(crate) fn hmac(secret: &[u8], content: &[u8]) -> Vec<u8> {
    ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), content).as_ref().to_vec()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Encoding::Hex.encode(bytes)
}

pub(crate) fn signed_github(body: &[u8]) -> Request {
    Request::post(body).with("x-hub-signature-256", &format!("sha256={}", hex(&hmac(SECRET.as_bytes(), body))))
}

pub(crate) fn signed_stripe(timestamp: &str) -> Request {
    let content = [timestamp.as_bytes(), b".", BODY].concat();
    let tag = hex(&hmac(SECRET.as_bytes(), &content));
    Request::post(BODY).with("stripe-signature", &format!("t={timestamp},v1={tag},v0=ab"))
}
