//! Heads: the scanner and the parser see the same one, in whatever pieces it comes, and no part of it breaks a line.

use countersign::gate::pattern::PathPattern;
use countersign::wire::head::{HeadLimits, HeadScan, RequestHead, ResponseHead, ResponseScan, path_is_ambiguous};
use countersign::wire::headers::Field;
use countersign::wire::path::generously;

const LIMITS: HeadLimits = HeadLimits { size: 512, fields: 8, target: 64 };

/// The whole input is a head, of a request or of a response.
pub fn run(bytes: &[u8]) {
    request(bytes);
    response(bytes);
}

fn request(bytes: &[u8]) {
    let whole = HeadScan::new().scan(bytes, LIMITS);
    let mut scan = HeadScan::new();
    let piecewise = (1..=bytes.len()).map(|end| scan.scan(&bytes[..end], LIMITS)).find(|found| *found != Ok(None));
    assert_eq!(whole, piecewise.unwrap_or(Ok(None)));
    let Ok(Some(end)) = whole else {
        assert!(RequestHead::new().parse(bytes, LIMITS).is_err(), "parsed what was not a head to the scanner");
        return;
    };
    let (bytes, mut head) = (&bytes[..end], RequestHead::new());
    if head.parse(bytes, LIMITS).is_ok() {
        assert!(head.target.of(bytes).len() <= LIMITS.target && !path_is_ambiguous(head.path(bytes)));
        assert!(matches!(head.path_and_query(bytes), [b'/', ..] | b"*"));
        one_reading(head.path(bytes));
        let host = head.host(bytes);
        assert!(!host.name.ends_with(b".") && !matches!(host.port, b":"));
        assert!(core::str::from_utf8(head.query(bytes)).is_ok());
        no_line_breaks(bytes, &head.fields, &[head.method.of(bytes), head.target.of(bytes), host.name, host.port]);
    }
}

/// A route can be written for the path, and readers who decode or lower it agree with themselves.
fn one_reading(path: &str) {
    assert!(path == "*" || PathPattern::parse(path).is_ok(), "{path}");
    let once = generously(path).into_owned();
    assert_eq!(generously(&once), once);
    assert_eq!(
        once.split('/').filter(|segment| !segment.is_empty()).count(),
        path.split('/').filter(|segment| !segment.is_empty()).count()
    );
    assert!(!once.split('/').any(|segment| matches!(segment, "." | "..")));
}

fn response(bytes: &[u8]) {
    let whole = ResponseScan::new().scan(bytes, LIMITS);
    let mut scan = ResponseScan::new();
    let piecewise = (1..=bytes.len()).map(|end| scan.scan(&bytes[..end], LIMITS)).find(|found| *found != Ok(None));
    assert_eq!(whole, piecewise.unwrap_or(Ok(None)));
    let Ok(Some(end)) = whole else { return };
    let (bytes, mut head) = (&bytes[..end], ResponseHead::new());
    if head.parse(bytes, LIMITS).is_ok() {
        assert!((100..=599).contains(&head.status));
        no_line_breaks(bytes, &head.fields, &[head.reason.of(bytes)]);
    }
}

fn no_line_breaks(bytes: &[u8], fields: &[Field], others: &[&[u8]]) {
    assert!(fields.len() <= LIMITS.fields);
    let parts = fields.iter().flat_map(|field| [field.name.of(bytes), field.value.of(bytes)]);
    for part in parts.chain(others.iter().copied()) {
        assert!(!part.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
}
