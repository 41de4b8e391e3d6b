//! A request as tools describe it, and the message that it was.

use crate::explain::quoted_start;

/// So many characters of a name are shown.
const SHOWN: usize = 60;

/// What a text is.
pub(super) enum OtherForm {
    /// A message, or nothing that is known.
    Raw,
    /// Something that describes one, in words, with the message.
    Read(String, Vec<u8>),
}

/// A request as tools describe it.
#[derive(Debug, Default)]
pub(super) struct DescribedRequest {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// What to write instead.
pub(super) const WANTED: &str =
    "write the request line (POST /path HTTP/1.1), the header fields, an empty line and the body, byte for byte";

impl DescribedRequest {
    /// The message. What frames a body is written anew where it is missing: the description has the whole body.
    pub(super) fn written(&self) -> Result<Vec<u8>, String> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let has = |wanted: &str| self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        for (name, value) in &self.headers {
            if name.starts_with(':') || name.eq_ignore_ascii_case("Transfer-Encoding") {
                continue;
            }
            if [name, value].iter().any(|text| text.contains(['\r', '\n'])) {
                return Err(format!("the header `{}` has a line break", quoted_start(name, SHOWN)));
            }
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if !has("Content-Length") && !self.body.is_empty() {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        if [&self.method, &self.target].iter().any(|text| text.contains(['\r', '\n', ' '])) {
            return Err("method or path of the request have a space or a line break".to_owned());
        }
        Ok(out)
    }
}

/// The target of a URL in any form.
pub(super) fn target_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest.find(['/', '?']).map_or("", |at| &rest[at..]));
    let rest = rest.split('#').next().unwrap_or_default();
    if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") }
}
