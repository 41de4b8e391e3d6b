//! One line for each attempt to deliver what is stored: for the access log ([`json`], [`text`]) and the audit trail
//! ([`entry`]). It has the id of the request that brought the delivery, so that it stands with the line of its
//! acceptance.

use core::time::Duration;

use crate::now::Now;
use crate::telemetry::access_log::string;
use crate::telemetry::deliveries::AttemptResult;
use crate::telemetry::line::{TimeText, escaped, micros, number};

/// An attempt that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Attempted<'a> {
    /// When it ended.
    pub ended: Now,
    /// That of the request which brought the delivery: 32 lower-case hex digits. Nothing where its head does not say it.
    pub request_id: Option<[u8; 32]>,
    /// The name of its route.
    pub route: &'a str,
    /// The id of the delivery.
    pub delivery: [u8; 13],
    /// Which attempt it was at least, from 1.
    pub attempt: u16,
    /// Whether it had been redriven.
    pub is_redriven: bool,
    /// What follows.
    pub result: AttemptResult,
    /// The reason code.
    pub reason: &'static str,
    /// The status of the answer; 0 where there was none.
    pub status: u16,
    /// How long the attempt took.
    pub took: Duration,
    /// How long ago the delivery was accepted.
    pub age: Duration,
}

impl Attempted<'_> {
    /// Whether an application that is away or broken could cause any number of such lines.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.result == AttemptResult::Again
    }

    fn is_named(&self) -> &[u8] {
        self.request_id.as_ref().map_or(b"", |id| &id[..])
    }

    /// The members of a JSON object behind the time, each with a comma before it.
    fn members(&self, out: &mut Vec<u8>) {
        string(out, b",\"request_id\":\"", self.is_named());
        string(out, b",\"route\":\"", self.route.as_bytes());
        string(out, b",\"delivery\":\"", &self.delivery);
        out.extend_from_slice(b",\"attempt\":");
        number(out, u64::from(self.attempt));
        if self.is_redriven {
            out.extend_from_slice(b",\"redriven\":true");
        }
        string(out, b",\"outcome\":\"", self.result.word().as_bytes());
        string(out, b",\"reason\":\"", self.reason.as_bytes());
        if self.status > 0 {
            out.extend_from_slice(b",\"status\":");
            number(out, u64::from(self.status));
        }
    }
}

/// Appends the line of the access log as a JSON object.
pub fn json(out: &mut Vec<u8>, attempt: &Attempted<'_>, stamp: &mut TimeText) {
    out.extend_from_slice(b"{\"time\":\"");
    stamp.write(out, attempt.ended.unix);
    out.extend_from_slice(b"\",\"event\":\"attempt\"");
    attempt.members(out);
    out.extend_from_slice(b",\"total_us\":");
    micros(out, attempt.took);
    out.extend_from_slice(b",\"age_us\":");
    micros(out, attempt.age);
    out.extend_from_slice(b"}\n");
}

/// Appends the line of the access log for people.
pub fn text(out: &mut Vec<u8>, attempt: &Attempted<'_>, stamp: &mut TimeText) {
    stamp.write(out, attempt.ended.unix);
    out.extend_from_slice(b" attempt ");
    match attempt.status {
        0 => out.push(b'-'),
        status => number(out, u64::from(status)),
    }
    out.extend_from_slice(b" outcome=");
    out.extend_from_slice(attempt.result.word().as_bytes());
    out.extend_from_slice(b" reason=");
    out.extend_from_slice(attempt.reason.as_bytes());
    out.extend_from_slice(b" route=");
    escaped(out, attempt.route.as_bytes());
    out.extend_from_slice(b" delivery=");
    out.extend_from_slice(&attempt.delivery);
    out.extend_from_slice(b" attempt=");
    number(out, u64::from(attempt.attempt));
    if attempt.is_redriven {
        out.extend_from_slice(b" redriven");
    }
    out.extend_from_slice(b" us=");
    micros(out, attempt.took);
    out.extend_from_slice(b" age_us=");
    micros(out, attempt.age);
    out.extend_from_slice(b" request_id=");
    out.extend_from_slice(if attempt.request_id.is_some() { attempt.is_named() } else { b"-" });
    out.push(b'\n');
}

/// Appends the entry of the audit trail.
pub fn entry(out: &mut Vec<u8>, attempt: &Attempted<'_>, stamp: &mut TimeText) {
    out.extend_from_slice(b"\"time\":\"");
    stamp.write(out, attempt.ended.unix);
    out.extend_from_slice(b"\",\"event\":\"attempt\"");
    attempt.members(out);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_line_says_which_delivery_was_attempted_and_what_follows() {
        let attempt = Attempted {
            ended: Now::at_unix(Duration::from_millis(784_111_777_042)),
            request_id: Some(*b"0123456789abcdef0123456789abcdef"),
            route: "a\"b",
            delivery: *b"0000000000017",
            attempt: 3,
            is_redriven: true,
            result: AttemptResult::Dead,
            reason: "refused_by_application",
            status: 410,
            took: Duration::from_micros(77),
            age: Duration::from_secs(2),
        };
        let stamp = &mut TimeText::default();
        let mut line = Vec::new();
        json(&mut line, &attempt, stamp);
        let read: Value = serde_json::from_slice(&line).unwrap();
        let expected = serde_json::json!({
            "time": "1994-11-06T08:49:37.042Z", "event": "attempt", "request_id": "0123456789abcdef0123456789abcdef",
            "route": "a\"b", "delivery": "0000000000017", "attempt": 3, "redriven": true, "outcome": "dead",
            "reason": "refused_by_application", "status": 410, "total_us": 77, "age_us": 2_000_000,
        });
        assert_eq!(read, expected);
        let unanswered =
            Attempted { request_id: None, status: 0, is_redriven: false, result: AttemptResult::Again, ..attempt };
        assert!(unanswered.is_repeatable() && !attempt.is_repeatable());
        line.clear();
        text(&mut line, &unanswered, stamp);
        assert_eq!(
            core::str::from_utf8(&line).unwrap(),
            "1994-11-06T08:49:37.042Z attempt - outcome=again reason=refused_by_application route=a\\\"b \
             delivery=0000000000017 attempt=3 us=77 age_us=2000000 request_id=-\n"
        );
        let mut line = b"{".to_vec();
        entry(&mut line, &unanswered, stamp);
        line.push(b'}');
        let read: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            (&read["event"], &read["status"], &read["took_us"]),
            (&"attempt".into(), &Value::Null, &Value::Null)
        );
    }
}
