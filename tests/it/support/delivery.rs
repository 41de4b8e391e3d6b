//! Deliveries, byte by byte. Signatures are computed here, from the providers' documents, and not by the product.

use base64::Engine as _;
use ring::hmac;

/// The secret of the key `current` of the route `/hook`.
pub(crate) const SECRET: &str = "correct-horse-battery-staple-0123456789";

/// The secret of its key `older`.
pub(crate) const OLDER_SECRET: &str = "an-older-horse-and-its-battery-0123456789";

/// How the body is framed.
#[derive(Clone)]
enum Framing {
    Length,
    Chunked(Vec<usize>),
    /// No body, and no word about it.
    None,
}

/// A request in the making.
#[derive(Clone)]
pub(crate) struct Delivery {
    line: String,
    host: Option<String>,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    framing: Framing,
}

impl Delivery {
    /// A genuine delivery to `/hook`, signed with the current key as GitHub does it.
    pub(crate) fn of(body: &[u8]) -> Self {
        Self::signed_with(SECRET, body)
    }

    pub(crate) fn signed_with(secret: &str, body: &[u8]) -> Self {
        Self::unsigned(body).field("X-Hub-Signature-256", &github_signature(secret, body))
    }

    pub(crate) fn unsigned(body: &[u8]) -> Self {
        Self {
            line: "POST /hook HTTP/1.1".to_owned(),
            host: Some("hooks.example".to_owned()),
            fields: Vec::new(),
            body: body.to_vec(),
            framing: Framing::Length,
        }
    }

    /// Carries the signature of another body.
    pub(crate) fn forged(body: &[u8]) -> Self {
        let other: Vec<u8> = body.iter().copied().chain([b'!']).collect();
        Self::unsigned(body).field("X-Hub-Signature-256", &github_signature(SECRET, &other))
    }

    /// The same head with another body.
    pub(crate) fn with_body(self, body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..self }
    }

    pub(crate) fn line(mut self, line: &str) -> Self {
        line.clone_into(&mut self.line);
        self
    }

    pub(crate) fn host(mut self, host: Option<&str>) -> Self {
        self.host = host.map(str::to_owned);
        self
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// In chunks of these sizes, and one of the rest.
    pub(crate) fn chunked(mut self, sizes: &[usize]) -> Self {
        self.framing = Framing::Chunked(sizes.to_vec());
        self
    }

    pub(crate) fn without_framing(mut self) -> Self {
        self.framing = Framing::None;
        self
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = format!("{}\r\n", self.line);
        if let Some(host) = &self.host {
            head += &format!("Host: {host}\r\n");
        }
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        match self.framing {
            Framing::Length => head += &format!("Content-Length: {}\r\n", self.body.len()),
            Framing::Chunked(_) => head += "Transfer-Encoding: chunked\r\n",
            Framing::None => {}
        }
        head += "\r\n";
        head.into_bytes()
    }

    /// The body as it travels.
    pub(crate) fn framed_body(&self) -> Vec<u8> {
        let Framing::Chunked(sizes) = &self.framing else { return self.body.clone() };
        let mut bytes = Vec::new();
        let mut rest = self.body.as_slice();
        for size in sizes.iter().copied().chain([usize::MAX]) {
            let (chunk, left) = rest.split_at(size.min(rest.len()));
            rest = left;
            if !chunk.is_empty() {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.head(), self.framed_body()].concat()
    }
}

/// The value of `X-Hub-Signature-256`.
pub(crate) fn github_signature(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// The value of `webhook-signature` of Standard Webhooks; `key` is what stands behind `whsec_`, decoded.
pub(crate) fn standard_signature(key: &[u8], id: &str, timestamp: u64, body: &[u8]) -> String {
    let content = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &content);
    format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(tag))
}
