//! The last refused requests, kept in memory so that the operator can find out why they were refused: a bounded number of
//! them, of each a bounded number of bytes.
//!
//! A captured request holds what it came with, its signature and its body among it: without these nothing can be
//! explained. So there are two ways out. [`Captured::shown`] is for lists: no body, and of header fields that
//! may hold credentials the length alone. [`Captured::whole`] is for the operator's own `explain`, over a connection
//! that comes from the same machine; the caller has to check that. What may be a credential to others than the
//! route (a cookie, the key of a gateway) is left out before anything is kept: every field that the route does not need to
//! verify and that is not known to be harmless.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::outcome::Outcome;
use crate::telemetry::exchange::Exchange;
use crate::telemetry::line::escaped;

/// How much of a request is kept at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of its head.
    pub head: usize,
    /// Bytes of its body.
    pub body: usize,
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Ours: 32 lower-case hex digits.
    pub request_id: [u8; 32],
    /// When it was judged, since 1970.
    pub at: Duration,
    /// The route that it fell under.
    pub route: String,
    /// Why it was refused.
    pub outcome: Outcome,
    head: Vec<u8>,
    body: Vec<u8>,
    cut: bool,
}

impl Captured {
    /// Keeps a request: its head as it came, with the empty line, and what has come of its body, without chunks. The
    /// values of fields that `hidden` names are left out.
    #[must_use]
    pub fn new(
        exchange: &Exchange<'_>,
        (head, body): (&[u8], &[u8]),
        extent: Extent,
        hidden: impl Fn(&[u8]) -> bool,
    ) -> Self {
        let part = |bytes: &[u8], limit: usize| bytes.get(..bytes.len().min(limit)).unwrap_or_default().to_vec();
        // What stands in the place of a value may be longer than it was: many of them must not add up to more.
        let kept = without(&part(head, extent.head), hidden);
        let kept_head = part(&kept, extent.head);
        Self {
            request_id: exchange.request_id,
            at: exchange.ended.unix.saturating_sub(exchange.stages.since_judged()),
            route: exchange.route.map(|route| route.name.to_owned()).unwrap_or_default(),
            outcome: exchange.outcome,
            head: kept_head,
            body: part(body, extent.body),
            cut: exchange.body.is_none() || head.len().max(kept.len()) > extent.head || body.len() > extent.body,
        }
    }

    /// Everything, as `explain --request` reads it.
    #[must_use]
    pub fn whole(&self) -> Vec<u8> {
        [self.head.as_slice(), &self.body].concat()
    }

    /// Its head as it came, with the empty line, and without the values that are hidden.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// What has come of its body, without chunks.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
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

/// The head without the values of fields that are hidden.
fn without(head: &[u8], hidden: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len());
    for (position, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':').unwrap_or(line.len()));
        if position == 0 || value.is_empty() || !hidden(name) {
            out.extend_from_slice(line);
        } else {
            let length = value.get(1..).unwrap_or_default().trim_ascii().len();
            out.extend_from_slice(name);
            out.extend_from_slice(format!(": ({length} bytes left out)\r\n").as_bytes());
        }
    }
    out
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
/// puts a token in, only its scheme knows.
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

/// Whether no program takes the value of this field for a credential.
#[must_use]
pub fn is_harmless(name: &[u8]) -> bool {
    HARMLESS.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// The last few of them.
#[derive(Debug)]
pub struct Captures {
    kept: VecDeque<Arc<Captured>>,
    limit: usize,
}

impl Captures {
    /// Keeps at most `limit` requests; with 0, none.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { kept: VecDeque::new(), limit }
    }

    /// Keeps a request; when there is no room, in the place of the oldest one of the reason of which there are most: a
    /// flood does not hide what is rare.
    pub fn keep(&mut self, captured: Captured) {
        if self.limit == 0 {
            return;
        }
        while self.kept.len() >= self.limit {
            let alike = |it: &Captured| self.kept.iter().filter(|other| other.outcome == it.outcome).count();
            let most = self.kept.iter().map(|it| alike(it)).max().unwrap_or_default();
            let oldest = self.kept.iter().position(|it| alike(it) == most).unwrap_or_default();
            self.kept.remove(oldest);
        }
        self.kept.push_back(Arc::new(captured));
    }

    /// All of them, the youngest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Captured>> {
        self.kept.iter().rev().map(Arc::clone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::now::Now;
    use crate::outcome::{Observed, Rejection};
    use crate::telemetry::exchange::{RouteTag, Stage, Stages, Stated};

    const EXTENT: Extent = Extent { head: 1000, body: 2000 };
    const SOME_HEAD: &[u8] = b"POST /hook?token=secret HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=secret\r\n\
                     Authorization: secret\r\nCookie: secret\r\nX-Anything: secret\r\nUser-Agent: \x1b[2J\r\n\r\n";

    fn captured(number: u8, outcome: Rejection, (head, body): (&[u8], &[u8])) -> Captured {
        let mut stages = Stages::default();
        stages.mark(Stage::Head, Duration::from_secs(1));
        stages.mark(Stage::Total, Duration::from_secs(5));
        let exchange = Exchange {
            worker: 0,
            request_id: [number; 32],
            ended: Now::at_unix(Duration::from_secs(7)),
            route: Some(RouteTag { position: 0, name: "hook", scheme: "github" }),
            peer: None,
            client: None,
            caller: None,
            method: b"POST",
            path: b"/hook",
            query: b"",
            outcome: outcome.into(),
            accepted: None,
            broken_rule: None,
            observed: Observed::NONE,
            key_id: None,
            delivery_id: None,
            stated: Stated::default(),
            body: Some(body),
            received: 0,
            sent: 0,
            stages,
        };
        Captured::new(&exchange, (head, body), EXTENT, |name| name.eq_ignore_ascii_case(b"cookie"))
    }

    #[test]
    fn what_is_shown_holds_no_credential() {
        let captured = captured(1, Rejection::SignatureMismatch, (SOME_HEAD, b"secret body"));
        assert_eq!(
            captured.shown(),
            "POST /hook\nHost: x\nX-Hub-Signature-256: (13 bytes)\nAuthorization: (6 bytes)\nCookie: (18 bytes)\n\
             X-Anything: (6 bytes)\nUser-Agent: \\u001b[2J\n"
        );
        let expected = String::from_utf8_lossy(SOME_HEAD).replace("Cookie: secret", "Cookie: (6 bytes left out)");
        assert_eq!(String::from_utf8_lossy(&captured.whole()), expected + "secret body");
        assert!(!captured.is_cut());
        // Its answer took four seconds, and was over at seven.
        assert_eq!(captured.at, Duration::from_secs(3));
    }

    #[test]
    fn a_flood_does_not_hide_what_is_rare() {
        let mut captures = Captures::new(3);
        captures.keep(captured(0, Rejection::TimestampStale, (SOME_HEAD, b"")));
        (1..10).for_each(|number| captures.keep(captured(number, Rejection::SignatureMismatch, (SOME_HEAD, b""))));
        let kept: Vec<u8> = captures.all().iter().map(|captured| captured.request_id[0]).collect();
        assert_eq!(kept, [9, 8, 0]);
        let mut none = Captures::new(0);
        none.keep(captured(1, Rejection::TimestampStale, (SOME_HEAD, b"")));
        assert_eq!(none.all().len(), 0);
        let long = captured(0, Rejection::BodyTooLarge, (&[b'x'; EXTENT.head + 1], b""));
        assert!(long.is_cut() && long.whole().len() == EXTENT.head);
        let many = b"Cookie:\n".repeat(EXTENT.head / 8);
        let many = captured(0, Rejection::SignatureMismatch, (&[b"GET / HTTP/1.1\n", &*many].concat(), b""));
        assert!(many.is_cut() && many.whole().len() == EXTENT.head);
    }
}
