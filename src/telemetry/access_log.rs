//! One line for each exchange, for machines ([`json`]) or people ([`text`]): who asked for what, how it ended and why,
//! and how long it took. Never a body, a signature or a secret; a query only where the operator wants it.
//!
//! Formats only: the caller writes the bytes.

use crate::outcome::{Fault, Outcome, Side};
use crate::telemetry::exchange::{Exchange, Stages};
use crate::telemetry::line::{TimeText, address, escaped, micros, number};

/// No line is longer, in bytes, as long as the names that the operator chose have less than a kibibyte: every excerpt
/// of a stranger's text six times as long as it came, and every reason code.
pub const LINE_LIMIT: usize = 8 << 10;

/// Whether a stranger could cause any number of such lines: nothing about the exchange was proven genuine, or it was
/// refused all the same, as the copies of one captured delivery are.
#[must_use]
pub fn is_repeatable(exchange: &Exchange<'_>) -> bool {
    match exchange.outcome {
        Outcome::Forwarded { .. } => false,
        Outcome::Answered { .. } => exchange.key_id.is_none(),
        Outcome::Rejected(_) => true,
        Outcome::Failed(fault) => exchange.key_id.is_none() && Fault::side(fault) == Side::Downstream,
    }
}

/// Appends the line as a JSON object. What is not known is not there; `peer` is there where it is not the client.
pub fn json(out: &mut Vec<u8>, exchange: &Exchange<'_>, stamp: &mut TimeText, with_query: bool) {
    out.extend_from_slice(b"{\"time\":\"");
    stamp.write(out, exchange.ended.unix);
    out.extend_from_slice(b"\",\"request_id\":\"");
    out.extend_from_slice(&exchange.request_id);
    out.push(b'"');
    who(out, exchange);
    string(out, b",\"method\":\"", exchange.method);
    string(out, b",\"path\":\"", exchange.path);
    if with_query {
        string(out, b",\"query\":\"", exchange.query);
    }
    ending(out, exchange);
    stated(out, exchange);
    out.extend_from_slice(b",\"received\":");
    number(out, exchange.received);
    out.extend_from_slice(b",\"sent\":");
    number(out, exchange.sent);
    timings(out, &exchange.stages);
    out.extend_from_slice(b"}\n");
}

/// The members of a JSON object that say under which rule an exchange fell and who asked, each with a comma before it.
pub(super) fn who(out: &mut Vec<u8>, exchange: &Exchange<'_>) {
    if let Some(route) = exchange.route {
        string(out, b",\"route\":\"", route.name.as_bytes());
        string(out, b",\"scheme\":\"", route.scheme.as_bytes());
    }
    if let Some(client) = exchange.client {
        out.extend_from_slice(b",\"client\":\"");
        address(out, client);
        out.push(b'"');
    }
    if let Some(peer) = exchange.peer.filter(|peer| exchange.client != Some(*peer)) {
        out.extend_from_slice(b",\"peer\":\"");
        address(out, peer);
        out.push(b'"');
    }
    string(out, b",\"client_name\":\"", exchange.caller.unwrap_or_default().as_bytes());
}

/// The members that say how it ended, each with a comma before it.
pub(super) fn ending(out: &mut Vec<u8>, exchange: &Exchange<'_>) {
    out.extend_from_slice(b",\"outcome\":\"");
    out.extend_from_slice(exchange.outcome.word().as_bytes());
    out.extend_from_slice(b"\",\"reason\":\"");
    out.extend_from_slice(exchange.outcome.code().as_bytes());
    out.push(b'"');
    if let Some(status) = exchange.outcome.status() {
        out.extend_from_slice(b",\"status\":");
        number(out, u64::from(status));
    }
    if let Outcome::Failed(_) = exchange.outcome {
        failing(out, exchange);
    }
    string(out, b",\"key_id\":\"", exchange.key_id.unwrap_or_default().as_bytes());
    string(out, b",\"delivery_id\":\"", exchange.delivery_id.unwrap_or_default());
    if !exchange.observed.is_empty() {
        out.extend_from_slice(b",\"observed\":[");
        for (position, rejection) in exchange.observed.iter().enumerate() {
            out.extend_from_slice(if position == 0 { b"\"" } else { b",\"" });
            out.extend_from_slice(rejection.code().as_bytes());
            out.push(b'"');
        }
        out.push(b']');
    }
}

/// The members for what the request says of itself, each with a comma before it. An id that the signature covers has been
/// written as what it is.
fn stated(out: &mut Vec<u8>, exchange: &Exchange<'_>) {
    if exchange.delivery_id.is_none() {
        string(out, b",\"unsigned_delivery_id\":\"", exchange.stated.delivery_id);
    }
    string(out, b",\"user_agent\":\"", exchange.stated.user_agent);
    string(out, b",\"traceparent\":\"", exchange.stated.traceparent);
}

/// What more there is to say of an exchange that failed: which rule the answer broke, and whether the application has
/// accepted the delivery nevertheless.
fn failing(out: &mut Vec<u8>, exchange: &Exchange<'_>) {
    if let Some(rule) = exchange.broken_rule {
        string(out, b",\"rule\":\"", rule.code().as_bytes());
    }
    if let Some(status) = exchange.accepted {
        out.extend_from_slice(b",\"accepted\":");
        number(out, u64::from(status));
    }
}

/// A member whose value is text; nothing for no text.
pub(super) fn string(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !value.is_empty() {
        out.extend_from_slice(name);
        escaped(out, value);
        out.push(b'"');
    }
}

fn timings(out: &mut Vec<u8>, stages: &Stages) {
    let stages = [
        (&b",\"head_us\":"[..], Some(stages.head())),
        (b",\"body_us\":", Some(stages.body())),
        (b",\"verify_us\":", Some(stages.verify())),
        (b",\"upstream_us\":", stages.upstream()),
        (b",\"total_us\":", Some(stages.total())),
    ];
    for (name, took) in stages {
        if let Some(took) = took {
            out.extend_from_slice(name);
            micros(out, took);
        }
    }
}

/// Appends the line for people: the same facts in less room.
pub fn text(out: &mut Vec<u8>, exchange: &Exchange<'_>, stamp: &mut TimeText, with_query: bool) {
    stamp.write(out, exchange.ended.unix);
    out.push(b' ');
    out.extend_from_slice(exchange.outcome.word().as_bytes());
    out.push(b' ');
    match exchange.outcome.status() {
        Some(status) => number(out, u64::from(status)),
        None => out.push(b'-'),
    }
    for text in [exchange.method, exchange.path] {
        out.push(b' ');
        escaped(out, if text.is_empty() { b"-" } else { text });
    }
    if with_query && !exchange.query.is_empty() {
        out.push(b'?');
        escaped(out, exchange.query);
    }
    out.extend_from_slice(b" reason=");
    out.extend_from_slice(exchange.outcome.code().as_bytes());
    if let (Outcome::Failed(_), Some(rule)) = (exchange.outcome, exchange.broken_rule) {
        out.extend_from_slice(b" rule=");
        out.extend_from_slice(rule.code().as_bytes());
    }
    if let (Outcome::Failed(_), Some(status)) = (exchange.outcome, exchange.accepted) {
        out.extend_from_slice(b" accepted=");
        number(out, u64::from(status));
    }
    out.extend_from_slice(b" route=");
    escaped(out, exchange.route.map_or("-", |route| route.name).as_bytes());
    out.extend_from_slice(b" client=");
    match exchange.client {
        Some(client) => address(out, client),
        None => out.push(b'-'),
    }
    string(out, b" client_name=\"", exchange.caller.unwrap_or_default().as_bytes());
    if let Some(key) = exchange.key_id {
        out.extend_from_slice(b" key=");
        escaped(out, key.as_bytes());
    }
    string(out, b" delivery=\"", exchange.delivery_id.unwrap_or_default());
    if exchange.delivery_id.is_none() {
        string(out, b" unsigned_delivery=\"", exchange.stated.delivery_id);
    }
    for (position, rejection) in exchange.observed.iter().enumerate() {
        out.extend_from_slice(if position == 0 { b" observed=" } else { b"," });
        out.extend_from_slice(rejection.code().as_bytes());
    }
    out.extend_from_slice(b" in=");
    number(out, exchange.received);
    out.extend_from_slice(b" out=");
    number(out, exchange.sent);
    out.extend_from_slice(b" us=");
    micros(out, exchange.stages.total());
    string(out, b" agent=\"", exchange.stated.user_agent);
    string(out, b" traceparent=\"", exchange.stated.traceparent);
    out.extend_from_slice(b" request_id=");
    out.extend_from_slice(&exchange.request_id);
    out.push(b'\n');
}

/// What the log itself has to say about lines that are not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Lines of strangers over the rate that the configuration sets.
    pub left_out: u64,
    /// Lines that found no room, because what they are written to is slow or full.
    pub lost: u64,
}

impl Missing {
    /// Whether every line is there.
    #[must_use]
    pub const fn is_nothing(self) -> bool {
        self.left_out == 0 && self.lost == 0
    }

    /// Appends a line about it.
    pub fn write(self, out: &mut Vec<u8>, (stamp, unix): (&mut TimeText, core::time::Duration), json: bool) {
        let (open, lost, close) = if json {
            (&b"\",\"event\":\"lines_missing\",\"left_out\":"[..], &b",\"lost\":"[..], &b"}\n"[..])
        } else {
            (&b" lines are missing: left_out="[..], &b" lost="[..], &b"\n"[..])
        };
        if json {
            out.extend_from_slice(b"{\"time\":\"");
        }
        stamp.write(out, unix);
        out.extend_from_slice(open);
        number(out, self.left_out);
        out.extend_from_slice(lost);
        number(out, self.lost);
        out.extend_from_slice(close);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use core::time::Duration;

    use super::*;
    use crate::now::Now;
    use crate::outcome::{Observed, Rejection};
    use crate::telemetry::exchange::{RouteTag, Stage, Stated, TRACEPARENT, USER_AGENT};
    use crate::wire::head::ResponseError;
    use proptest::prelude::*;
    use serde_json::Value;

    fn exchange(outcome: Outcome) -> Exchange<'static> {
        let mut stages = Stages::default();
        for (stage, micros) in
            [(Stage::Head, 10), (Stage::Body, 30), (Stage::Verified, 35), (Stage::Answered, 535), (Stage::Total, 600)]
        {
            stages.mark(stage, Duration::from_micros(micros));
        }
        Exchange {
            worker: 0,
            request_id: *b"0123456789abcdef0123456789abcdef",
            ended: Now::at_unix(Duration::from_millis(784_111_777_042)),
            route: Some(RouteTag { position: 0, name: "hook", scheme: "github" }),
            peer: Some([10, 0, 0, 1].into()),
            client: Some([192, 0, 2, 7].into()),
            caller: None,
            method: b"POST",
            path: b"/hook",
            query: b"token=1",
            outcome,
            accepted: None,
            broken_rule: None,
            observed: Observed::NONE,
            key_id: Some("current"),
            delivery_id: Some(b"d-1"),
            stated: Stated::default(),
            body: None,
            received: 256,
            sent: 2,
            stages,
        }
    }

    fn line(exchange: &Exchange<'_>, with_query: bool) -> String {
        let mut out = Vec::new();
        json(&mut out, exchange, &mut TimeText::default(), with_query);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_says_it_all() {
        let exchange = exchange(Outcome::Forwarded { status: 200 });
        assert_eq!(
            line(&exchange, false),
            "{\"time\":\"1994-11-06T08:49:37.042Z\",\"request_id\":\"0123456789abcdef0123456789abcdef\",\
             \"route\":\"hook\",\"scheme\":\"github\",\"client\":\"192.0.2.7\",\"peer\":\"10.0.0.1\",\
             \"method\":\"POST\",\"path\":\"/hook\",\"outcome\":\"passed\",\"reason\":\"forwarded\",\"status\":200,\
             \"key_id\":\"current\",\"delivery_id\":\"d-1\",\"received\":256,\"sent\":2,\
             \"head_us\":10,\"body_us\":20,\"verify_us\":5,\"upstream_us\":500,\"total_us\":600}\n"
        );
        assert!(line(&exchange, true).contains("\"path\":\"/hook\",\"query\":\"token=1\","));
        let mut out = Vec::new();
        text(&mut out, &exchange, &mut TimeText::default(), true);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "1994-11-06T08:49:37.042Z passed 200 POST /hook?token=1 reason=forwarded route=hook client=192.0.2.7 \
             key=current delivery=\"d-1\" in=256 out=2 us=600 request_id=0123456789abcdef0123456789abcdef\n"
        );
    }

    #[test]
    fn what_is_not_known_is_not_there() {
        let mut bare = exchange(Rejection::HeadMalformed.into());
        (bare.route, bare.peer, bare.client, bare.key_id, bare.delivery_id) = (None, None, None, None, None);
        (bare.method, bare.path, bare.query, bare.stages) = (b"", b"", b"", Stages::default());
        bare.observed.note(Rejection::TimestampStale);
        bare.observed.note(Rejection::RouteRateLimited);
        let read: Value = serde_json::from_str(&line(&bare, true)).unwrap();
        let names: Vec<&str> = read.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = [
            "time",
            "request_id",
            "outcome",
            "reason",
            "status",
            "observed",
            "received",
            "sent",
            "head_us",
            "body_us",
            "verify_us",
            "total_us",
        ];
        expected.sort_unstable();
        let mut names = names;
        names.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!(read["observed"], serde_json::json!(["timestamp_stale", "route_rate_limited"]));
        assert_eq!(read["status"], 400);
    }

    #[test]
    fn what_a_request_says_of_itself_is_escaped_and_an_id_without_a_proof_is_called_unsigned() {
        let mut told = exchange(Rejection::SignatureMismatch.into());
        told.stated = Stated { delivery_id: b"d\"2", user_agent: b"Hook/1 \xff", traceparent: b"00-ab-cd-01" };
        let read: Value = serde_json::from_str(&line(&told, false)).unwrap();
        assert_eq!((read["delivery_id"].as_str(), read.get("unsigned_delivery_id")), (Some("d-1"), None));
        told.delivery_id = None;
        let read: Value = serde_json::from_str(&line(&told, false)).unwrap();
        assert_eq!((read.get("delivery_id"), read["unsigned_delivery_id"].as_str()), (None, Some("d\"2")));
        assert_eq!((&read["user_agent"], &read["traceparent"]), (&"Hook/1 \u{fffd}".into(), &"00-ab-cd-01".into()));
        let mut out = Vec::new();
        text(&mut out, &told, &mut TimeText::default(), false);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r#" unsigned_delivery="d\"2" "#), "{text}");
        assert!(text.contains(r#" agent="Hook/1 \ufffd" traceparent="00-ab-cd-01" request_id="#), "{text}");
    }

    #[test]
    fn an_answer_that_could_not_be_passed_on_is_named() {
        let mut failed = exchange(Fault::UpstreamMalformed.into());
        failed.broken_rule = Some(ResponseError::ContentLengthTwice);
        failed.accepted = Some(200);
        let read: Value = serde_json::from_str(&line(&failed, false)).unwrap();
        assert_eq!((read["status"].as_u64(), read["accepted"].as_u64()), (Some(502), Some(200)));
        assert_eq!(read["rule"], "content_length_twice");
        let mut out = Vec::new();
        text(&mut out, &failed, &mut TimeText::default(), false);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains(" reason=upstream_malformed rule=content_length_twice accepted=200 route=hook "),
            "{text}"
        );
        // Of an answer that was passed on the status says it all.
        let mut passed = exchange(Outcome::Forwarded { status: 204 });
        passed.accepted = Some(204);
        assert!(!line(&passed, false).contains("accepted"));
    }

    #[test]
    fn whatever_a_stranger_can_repeat_is_told_apart() {
        let of = |outcome, key_id| is_repeatable(&Exchange { key_id, ..exchange(outcome) });
        assert!(of(Rejection::SignatureMismatch.into(), None) && of(Fault::HeadTimeout.into(), None));
        // Of one captured delivery there can be any number of copies.
        for rejection in [Rejection::Duplicate, Rejection::DuplicateInFlight, Rejection::RouteRateLimited] {
            assert!(of(rejection.into(), Some("k")));
        }
        assert!(!of(Fault::ResponseUnread.into(), Some("k")));
        assert!(!of(Fault::UpstreamConnect.into(), None) && !of(Outcome::Forwarded { status: 500 }, None));
    }

    #[test]
    fn the_longest_line_is_within_its_limit() {
        let mut longest = exchange(Rejection::ReplayTableFull.into());
        let text = [b'\x01'; 128];
        (longest.method, longest.path, longest.query) = (&text[..16], &text, &text);
        longest.delivery_id = Some(&text);
        (longest.stated.user_agent, longest.stated.traceparent) = (&text[..USER_AGENT], &text[..TRACEPARENT]);
        Rejection::ALL.iter().for_each(|rejection| longest.observed.note(*rejection));
        assert!(line(&longest, true).len() + 1024 < LINE_LIMIT, "{}", line(&longest, true).len());
    }

    #[test]
    fn missing_lines_are_a_line() {
        for json in [true, false] {
            let mut out = Vec::new();
            let missing = Missing { left_out: 12, lost: 3 };
            missing.write(&mut out, (&mut TimeText::default(), Duration::from_secs(1)), json);
            let line = String::from_utf8(out).unwrap();
            assert!(line.ends_with('\n') && line.contains("12") && line.contains('3'));
            assert_eq!(serde_json::from_str::<Value>(&line).is_ok(), json);
        }
    }

    proptest! {
        #[test]
        fn whatever_strangers_send_is_valid_json(
            method: Vec<u8>, path: Vec<u8>, query: Vec<u8>, id: Vec<u8>, code in 0..Rejection::ALL.len()
        ) {
            let mut strange = exchange(Rejection::ALL[code].into());
            (strange.method, strange.path, strange.query) = (&method, &path, &query);
            strange.delivery_id = Some(&id);
            let line = line(&strange, true);
            prop_assert_eq!(line.bytes().filter(|byte| *byte == b'\n').count(), 1);
            prop_assert!(serde_json::from_str::<Value>(&line).is_ok());
        }
    }
}
