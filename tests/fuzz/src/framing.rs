//! Framing: whatever is admitted says one thing only, and what is passed on says nothing of its own.

use countersign::wire::encode::{copy_end_to_end, end, hop_by_hop, request_line};
use countersign::wire::framing::{BodyFraming, ResponseFraming, expects_continue, keep_alive, of_request, of_response};
use countersign::wire::head::{HeadLimits, Known, RequestHead, ResponseHead, Version};
use countersign::wire::headers::Headers;
use countersign::wire::options::OPTION_LIMIT;

const LIMITS: HeadLimits = HeadLimits { size: 4096, fields: 64, target: 64 };

/// The input is the field lines of a message.
pub fn run(bytes: &[u8]) {
    request(&[b"POST / HTTP/1.1\r\nHost: a\r\n", bytes, b"\r\n\r\n"].concat());
    request(&[b"POST / HTTP/1.0\r\nHost: a\r\n", bytes, b"\r\n\r\n"].concat());
    response(&[b"HTTP/1.1 200 OK\r\n", bytes, b"\r\n\r\n"].concat());
}

fn request(bytes: &[u8]) {
    let mut head = RequestHead::new();
    if head.parse(bytes, LIMITS).is_err() {
        return;
    }
    let headers = head.headers(bytes);
    if let Ok(framing) = of_request(&head, bytes) {
        let expected = match framing {
            BodyFraming::None => (0, 0),
            BodyFraming::Length(_) => (1, 0),
            BodyFraming::Chunked => (0, 1),
        };
        assert_eq!(counts(headers), expected);
        assert!(head.version == Version::Http11 || framing != BodyFraming::Chunked);
    }
    let _ = (expects_continue(&head, bytes), keep_alive(head.version, head.headers(bytes)));
    assert!(headers.nominated().count() <= OPTION_LIMIT);
    // The gate refuses heads that nominate what must pass, the host among it.
    if !headers.nominated().any(|name| name.eq_ignore_ascii_case(b"host")) {
        passed_on(headers);
    }
}

fn passed_on(headers: Headers<'_>) {
    let mut out = Vec::new();
    request_line(&mut out, b"POST", b"/");
    copy_end_to_end(&mut out, headers, |_, _, _| false);
    end(&mut out);
    let mut head = RequestHead::new();
    head.parse(&out, LIMITS).expect("what is passed on is a good head");
    assert_eq!(of_request(&head, &out), Ok(BodyFraming::None));
    assert!(head.fields.iter().all(|field| !hop_by_hop(field.kind) && field.kind != Known::XCountersign));
}

fn response(bytes: &[u8]) {
    let mut head = ResponseHead::new();
    if head.parse(bytes, LIMITS).is_err() {
        return;
    }
    if let Ok(framing) = of_response(&head, bytes, false) {
        let expected = match framing {
            ResponseFraming::None | ResponseFraming::UntilClose => (0, 0),
            ResponseFraming::Length(_) => (1, 0),
            ResponseFraming::Chunked => (0, 1),
        };
        assert_eq!(counts(head.headers(bytes)), expected);
    }
    assert_eq!(of_response(&head, bytes, true), Ok(ResponseFraming::None));
}

/// How many lengths and codings there are.
fn counts(headers: Headers<'_>) -> (usize, usize) {
    (headers.of_kind(Known::ContentLength).count(), headers.of_kind(Known::TransferEncoding).count())
}
