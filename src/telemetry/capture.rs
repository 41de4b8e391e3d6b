//! The last refused requests, kept in memory so that somebody can find out why they were refused: a bounded number of
//! them, of each a bounded number of bytes.
//!
//! A captured request holds what it came with, its signature and its body among it: without these nothing can be
//! explained. So there are two ways out. [`Captured::shown`] is for pages and logs: no body, and of header fields that
//! may hold credentials the length alone. [`Captured::whole`] is for the operator's own `explain`, over a connection
//! that comes from the same machine; whoever hands it out makes sure of that.

use std::collections::VecDeque;

use crate::outcome::Outcome;
use crate::telemetry::line::escaped;

/// No more of a head is kept, in bytes.
pub const HEAD: usize = 16 << 10;
/// No more of a body is kept, in bytes.
pub const BODY: usize = 64 << 10;

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Ours: 32 lower-case hex digits.
    pub request_id: [u8; 32],
    /// The route that it fell under.
    pub route: String,
    /// Why it was refused.
    pub outcome: Outcome,
    head: Vec<u8>,
    body: Vec<u8>,
    cut: bool,
}

impl Captured {
    /// Keeps a request: its head as it came, with the empty line, and its body without chunks.
    #[must_use]
    pub fn new((request_id, outcome): ([u8; 32], Outcome), route: &str, head: &[u8], body: &[u8]) -> Self {
        let part = |bytes: &[u8], limit: usize| bytes.get(..bytes.len().min(limit)).unwrap_or_default().to_vec();
        Self {
            request_id,
            route: route.to_owned(),
            outcome,
            head: part(head, HEAD),
            body: part(body, BODY),
            cut: head.len() > HEAD || body.len() > BODY,
        }
    }

    /// Everything, as `explain --request` reads it.
    #[must_use]
    pub fn whole(&self) -> Vec<u8> {
        [self.head.as_slice(), &self.body].concat()
    }

    /// Whether something of it was too long to be kept.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// The head in printable ASCII, one field a line, without the query and without the values of fields that may hold
    /// credentials.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut out = Vec::with_capacity(self.head.len());
        for (position, line) in self.head.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                break;
            }
            if position == 0 {
                escaped(&mut out, line.split(|byte| *byte == b'?').next().unwrap_or_default());
            } else {
                field(&mut out, line);
            }
            out.push(b'\n');
        }
        String::from_utf8(out).unwrap_or_default()
    }
}

fn field(out: &mut Vec<u8>, line: &[u8]) {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
    let (name, value) = line.split_at(colon);
    escaped(out, name);
    let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
    out.extend_from_slice(b": ");
    if is_harmless(name) {
        escaped(out, value);
    } else {
        out.extend_from_slice(format!("({} bytes)", value.len()).as_bytes());
    }
}

/// Fields whose values no scheme takes for a credential. All others are hidden: which of them a sender signs with, or
/// puts a token in, is known to nobody but its scheme.
const HARMLESS: [&str; 14] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "host",
    "transfer-encoding",
    "user-agent",
    "via",
    "x-github-event",
];

fn is_harmless(name: &[u8]) -> bool {
    HARMLESS.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// The last few of them.
#[derive(Debug)]
pub struct Captures {
    kept: VecDeque<Captured>,
    limit: usize,
}

impl Captures {
    /// Keeps at most `limit` requests; with 0, none.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { kept: VecDeque::new(), limit }
    }

    /// Keeps a request in the place of the oldest.
    pub fn keep(&mut self, captured: Captured) {
        while self.kept.len() >= self.limit.max(1) {
            self.kept.pop_front();
        }
        if self.limit > 0 {
            self.kept.push_back(captured);
        }
    }

    /// The request with this id.
    #[must_use]
    pub fn find(&self, request_id: &[u8]) -> Option<&Captured> {
        self.kept.iter().find(|captured| captured.request_id == request_id)
    }

    /// All of them, the youngest first.
    pub fn iter(&self) -> impl Iterator<Item = &Captured> {
        self.kept.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Rejection;

    fn captured(number: u8) -> Captured {
        let head = b"POST /hook?token=secret HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=secret\r\n\
                     Authorization: secret\r\nCookie: secret\r\nX-Anything: secret\r\nUser-Agent: \x1b[2J\r\n\r\n";
        Captured::new(([number; 32], Rejection::SignatureMismatch.into()), "hook", head, b"secret body")
    }

    #[test]
    fn what_is_shown_holds_no_credential() {
        let captured = captured(1);
        assert_eq!(
            captured.shown(),
            "POST /hook\nHost: x\nX-Hub-Signature-256: (13 bytes)\nAuthorization: (6 bytes)\nCookie: (6 bytes)\n\
             X-Anything: (6 bytes)\nUser-Agent: \\u001b[2J\n"
        );
        assert!(captured.whole().ends_with(b"\r\n\r\nsecret body") && !captured.is_cut());
    }

    #[test]
    fn only_the_last_ones_are_kept() {
        let mut captures = Captures::new(3);
        (0..10).for_each(|number| captures.keep(captured(number)));
        let kept: Vec<u8> = captures.iter().map(|captured| captured.request_id[0]).collect();
        assert_eq!(kept, [9, 8, 7]);
        assert!(captures.find(&[8; 32]).is_some() && captures.find(&[1; 32]).is_none());
        let mut none = Captures::new(0);
        none.keep(captured(1));
        assert_eq!(none.iter().count(), 0);
        let long = Captured::new(([0; 32], Rejection::BodyTooLarge.into()), "hook", &[b'x'; HEAD + 1], b"");
        assert!(long.is_cut() && long.whole().len() == HEAD);
    }
}
