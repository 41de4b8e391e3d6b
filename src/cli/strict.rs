//! What the proxy refuses about the head of a captured request before it looks at any signature. The parser of the proxy
//! itself judges; what is lenient here is said.

use crate::explain::{quoted, quoted_start};
use crate::outcome::Rejection;
use crate::wire::framing;
use crate::wire::head::{HeadLimits, HeadScan, Known, RequestHead};

/// So many characters of a line that is refused are shown.
const SHOWN: usize = 80;

/// Why the head is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeadRefusal {
    pub(super) rejection: Rejection,
    /// The line that is to blame, in words, where it is one.
    pub(super) line: Option<String>,
}

/// What was changed so that a head could be judged that has come through other hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeadRepairs {
    /// It has no `Host`: captures that are written by hand have none.
    pub(super) host: bool,
    /// It is written as HTTP/2 or HTTP/3, as tools show what they have sent to what is in front.
    pub(super) version: bool,
}

/// Judges the lines of a head, without line ends, the first one the request line.
pub(super) fn judge(lines: &[&[u8]], limits: HeadLimits) -> (Option<HeadRefusal>, HeadRepairs) {
    let (first, fields) = lines.split_first().map_or((&b""[..], &[][..]), |(first, fields)| (*first, fields));
    let version = [" HTTP/2", " HTTP/2.0", " HTTP/3"].iter().find_map(|end| first.strip_suffix(end.as_bytes()));
    let named = |name: &str, line: &[u8]| {
        let end = line.iter().position(|byte| *byte == b':').unwrap_or_default();
        line.get(..end).is_some_and(|own| own.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    };
    let repairs = HeadRepairs {
        host: !fields.iter().any(|line| named("host", line)) && !first.ends_with(b" HTTP/1.0"),
        version: version.is_some(),
    };
    let first = version.map_or_else(|| first.to_vec(), |start| [start, b" HTTP/1.1"].concat());
    let written = |fields: &[&[u8]]| {
        let mut head = [first.as_slice(), b"\r\n"].concat();
        if repairs.host || !fields.iter().any(|line| named("host", line)) {
            head.extend_from_slice(b"Host: host.example\r\n");
        }
        fields.iter().for_each(|line| head.extend_from_slice(&[line, &b"\r\n"[..]].concat()));
        head.extend_from_slice(b"\r\n");
        head
    };
    let Err(rejection) = whole(&written(fields), limits) else { return (None, repairs) };
    let line = if whole(&written(&[]), limits) == Err(rejection) {
        Some(format!("the first line: `{}`", quoted_start(&first, SHOWN)))
    } else {
        let alone = fields.iter().find(|line| whole(&written(&[line]), limits) == Err(rejection));
        alone.map(|line| format!("`{}`", quoted_start(line, SHOWN)))
    };
    (Some(HeadRefusal { rejection, line: line.or_else(|| repeated(fields)) }), repairs)
}

/// The first name that stands more than once, where that may be why.
fn repeated(fields: &[&[u8]]) -> Option<String> {
    let name = |line: &[u8]| line.split(|byte| *byte == b':').next().unwrap_or_default().to_ascii_lowercase();
    let names: Vec<Vec<u8>> = fields.iter().map(|line| name(line)).collect();
    let framing = |name: &[u8]| {
        let known = core::str::from_utf8(name).ok().and_then(|name| Known::of_request(name.as_bytes()).ok());
        matches!(known, Some(Known::ContentLength | Known::TransferEncoding | Known::Host))
    };
    let twice = names.iter().find(|name| framing(name) && names.iter().filter(|other| other == name).count() > 1);
    twice.map(|name| format!("`{}` stands more than once", quoted(name)))
}

fn whole(head: &[u8], limits: HeadLimits) -> Result<(), Rejection> {
    let length = HeadScan::new().scan(head, limits)?.ok_or(Rejection::HeadMalformed)?;
    let bytes = head.get(..length).filter(|bytes| bytes.len() == head.len()).ok_or(Rejection::HeadMalformed)?;
    let mut parsed = RequestHead::new();
    parsed.parse(bytes, limits)?;
    framing::of_request(&parsed, bytes)?;
    framing::expects_continue(&parsed, bytes).map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::section::limits::LimitSettings;

    fn judged(head: &[u8]) -> (Option<(&'static str, String)>, HeadRepairs) {
        let settings = LimitSettings::default();
        let limits = HeadLimits { size: settings.head_size, fields: settings.headers, target: settings.target_size };
        let lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').collect();
        let (refusal, repairs) = judge(&lines, limits);
        (refusal.map(|it| (it.rejection.code(), it.line.unwrap_or_default())), repairs)
    }

    /// Each of these was called genuine without a word.
    #[test]
    fn a_head_that_no_server_takes_is_refused_with_its_line() {
        for (head, code, line) in [
            (&b"POST / HTTP/1.1\nHost: x\nContent-Length: -1"[..], "framing_invalid", "`Content-Length: -1`"),
            (b"POST / HTTP/1.1\nHost: x\nContent-Length: 99999999999999999999", "framing_invalid", "9999`"),
            (b"POST / HTTP/1.1\nHost: x\nContent-Length: 1\nContent-Length: 2", "framing_invalid", "more than once"),
            (b"POST / HTTP/1.1\nHost: x\nTransfer-Encoding: \x1b[1m", "head_malformed", r"Encoding: \u{1b}[1m"),
            (b"POST / HTTP/1.1\nHost: x\nTransfer-Encoding: gzip", "transfer_coding_unsupported", "gzip"),
            (b"PO\x1bST / HTTP/1.1\nHost: x", "head_malformed", r"the first line: `PO\u{1b}ST"),
            (b"POST /a\x1b HTTP/1.1\nHost: x", "head_malformed", "the first line"),
            (b"POST / HTT./1.1\nHost: x", "head_malformed", "the first line"),
            (b"POST / HTTP/1.1\nHost: x\nX-\x1bA: b", "head_malformed", r"`X-\u{1b}A: b`"),
            (b"POST / HTTP/1.1\nHost: x\nHost: x", "host_invalid", "`host` stands more than once"),
            (b"POST / HTTP/1.1\nHost: x\nExpect: all", "expectation_failed", "`Expect: all`"),
        ] {
            let (found, _) = judged(head);
            let (found, shown) = found.unwrap_or_default();
            assert!(found == code && shown.contains(line), "{found} {shown}: {}", quoted(head));
        }
    }

    #[test]
    fn what_captures_lack_is_no_fault() {
        assert_eq!(judged(b"POST / HTTP/1.1\nA: b"), (None, HeadRepairs { host: true, version: false }));
        assert_eq!(judged(b"POST / HTTP/2\nHost: x"), (None, HeadRepairs { host: false, version: true }));
        assert_eq!(judged(b"POST / HTTP/1.1\nHost: x\nContent-Length: 3"), (None, HeadRepairs::default()));
    }
}
