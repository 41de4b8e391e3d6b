//! Requests that two readers could take for two different things: refused with the status of the rule that they break,
//! the connection closed, and not a byte for the application. Beside each, near misses that must pass.

use std::sync::Arc;
use std::thread;

use crate::support::application::OK;
use crate::support::delivery::{SECRET, github_signature};
use crate::support::{Application, Client, Delivery, Driver, Proxy, on_both_drivers};

on_both_drivers! {
    request_lines,
    line_ends_and_control_bytes,
    fields,
    hosts,
    targets,
    content_lengths,
    transfer_codings,
    chunks,
    connection_options,
    connection_options_are_few,
    tampering_is_judged_behind_admission,
    nothing_behind_a_refusal_is_read_as_a_request,
    the_application_sees_exactly_what_was_verified,
    upgrades_are_no_tunnels,
    an_unread_body_is_never_a_request,
}

/// Sends raw bytes, each on a connection of its own. All must be refused with the status beside them, the connection
/// must close, and the application must not see a byte.
#[track_caller]
fn assert_refused(driver: Driver, table: &[(u16, &[u8])]) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    for (status, bytes) in table {
        let shown = bytes.escape_ascii().to_string();
        let mut client = proxy.connect();
        client.send(bytes);
        let answer = client.try_answer().unwrap_or_else(|error| panic!("{error} after {shown}"));
        assert_eq!((answer.status, answer.closes()), (*status, true), "{shown}");
        client.assert_closed();
        application.assert_saw_nothing(&shown);
    }
}

/// Sends raw bytes, each on a connection of its own. All must be answered by the application, and keep the connection.
#[track_caller]
fn assert_passed(driver: Driver, table: &[Vec<u8>]) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    for (position, bytes) in table.iter().enumerate() {
        let shown = bytes.escape_ascii().to_string();
        let mut client = proxy.connect();
        assert_eq!(client.ask(bytes).status, 200, "{shown}");
        assert_eq!(client.ask(&Delivery::of(b"after").bytes()).status, 200, "after {shown}");
        let requests = application.assert_requests(2 * (position + 1));
        assert_eq!(requests.last().unwrap().body, b"after");
    }
}

/// A genuine delivery of `x` whose request line is `line`.
fn with_line(line: &str) -> Vec<u8> {
    Delivery::of(b"x").line(line).bytes()
}

/// A genuine delivery of `x` with raw bytes among its fields.
fn with_raw(raw: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /hook HTTP/1.1\r\nHost: a\r\nX-Hub-Signature-256: {}\r\nContent-Length: 1\r\n",
        github_signature(SECRET, b"x")
    );
    [head.as_bytes(), raw, b"\r\n\r\nx"].concat()
}

/// A genuine delivery of `body` whose framing is `raw`: fields with their line ends, and what follows the head.
fn framed(body: &[u8], fields: &[u8], rest: &[u8]) -> Vec<u8> {
    let head = format!("POST /hook HTTP/1.1\r\nHost: a\r\nX-Hub-Signature-256: {}\r\n", github_signature(SECRET, body));
    [head.as_bytes(), fields, b"\r\n", rest].concat()
}

fn chunked(rest: &[u8]) -> Vec<u8> {
    framed(b"hello", b"Transfer-Encoding: chunked\r\n", rest)
}

/// Every entry with the same status.
fn all<T: AsRef<[u8]>>(status: u16, entries: &[T]) -> Vec<(u16, &[u8])> {
    entries.iter().map(|entry| (status, entry.as_ref())).collect()
}

fn request_lines(driver: Driver) {
    #[rustfmt::skip]
    let malformed: Vec<_> = [
        "POST  /hook HTTP/1.1",
        "POST /hook  HTTP/1.1",
        "POST /hook HTTP/1.1 ",
        " POST /hook HTTP/1.1",
        "POST\t/hook\tHTTP/1.1",
        "POST /hook",
        "POST",
        "POST /hook http/1.1",
        "POST /hook Http/1.1",
        "POST /hook HTTP/1.2",
        "POST /hook HTTP/0.9",
        "POST /hook HTTP/1.10",
        "POST /hook HTTP/01.1",
        "POST /hook HTTP/1",
        "POST /hook HTTP/1.1x",
        "POST /hook HTTPS/1.1",
        "PO(ST /hook HTTP/1.1",
        "P\u{e9}ST /hook HTTP/1.1",
        "POST /hook /hook HTTP/1.1",
        "POST /ho\u{7f}ok HTTP/1.1",
    ]
    .map(with_line)
    .into();
    assert_refused(driver, &all(400, &malformed));
    let versions = ["POST /hook HTTP/2.0", "POST /hook HTTP/3.0"].map(with_line);
    assert_refused(driver, &all(505, &versions));
    assert_refused(driver, &[(505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]);
    let connect = [with_line("CONNECT hooks.example:443 HTTP/1.1"), with_line("CONNECT /hook HTTP/1.1")];
    assert_refused(driver, &all(501, &connect));
    let delivery = with_line("POST /hook HTTP/1.1");
    let passing = [b"\r\n".as_slice(), b"\r\n\r\n"]
        .map(|empty| [empty, &delivery].concat())
        .into_iter()
        .chain([delivery.clone()]);
    assert_passed(driver, &passing.collect::<Vec<_>>());
    assert_refused(driver, &[(400, &[b"\r\n\r\n\r\n".as_slice(), &delivery].concat())]);
}

fn line_ends_and_control_bytes(driver: Driver) {
    let delivery = String::from_utf8(with_raw(b"X: y")).unwrap();
    let mut malformed = vec![
        delivery.replace("\r\n", "\n").into_bytes(),
        delivery.replacen("\r\n", "\n", 1).into_bytes(),
        delivery.replace("X: y\r\n", "X: y\n").into_bytes(),
        delivery.replace("\r\n\r\n", "\r\n\n").into_bytes(),
        delivery.replace("\r\n\r\n", "\n\r\n").into_bytes(),
        delivery.replace("X: y\r\n", "X: y\r\r\n").into_bytes(),
        delivery.replace("Content-Length: 1\r\n", "Content-Length: 1\r").into_bytes(),
        delivery.replace("X: y", "X: a\rY: b").into_bytes(),
        [b"\n", delivery.as_bytes()].concat(),
        [b"\r", delivery.as_bytes()].concat(),
        [b" ", delivery.as_bytes()].concat(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    ];
    for control in (0..0x20).chain([0x7f]).filter(|byte| !matches!(byte, b'\t' | b'\r' | b'\n')) {
        malformed.push(with_raw(&[b'X', b':', b' ', b'a', control, b'b']));
    }
    assert_refused(driver, &all(400, &malformed));
    assert_passed(driver, &[with_raw(b"X: a\tb"), with_raw(b"X: \x80\xff"), with_raw(b"X:\t y \t")]);
}

fn fields(driver: Driver) {
    #[rustfmt::skip]
    let malformed = [
        b"X : y".as_slice(), b"X\t: y", b": y", b"X", b" X: y", b"X: y\r\n z", b"X: y\r\n\tz", b"X y: z", b"X\x80: y",
        b"X\0: y", b"(X): y", b"X: y\r\n \r\nZ: 1", b"\"X\": y", b"X;: y", b"Content-Length : 1", b"Host : a",
    ]
    .map(with_raw);
    assert_refused(driver, &all(400, &malformed));
    #[rustfmt::skip]
    let folding = [
        b"Content_Length: 5".as_slice(), b"Transfer_Encoding: chunked", b"transfer-Encoding_: x\r\nHo_st: a\r\nX_Request_Id: 1",
        b"x_forwarded_for: 1.2.3.4", b"X-Forwarded_For: 1.2.3.4", b"X_Hub_Signature_256: sha256=00", b"Content_Type: x",
        b"Keep_Alive: 1", b"Proxy_Connection: close",
    ]
    .map(with_raw);
    assert_refused(driver, &all(400, &folding));
    let passing = [b"X:".as_slice(), b"X:y", b"!#$%&'*+-.^_`|~: y", b"X: y: z", b"X_Y: z", b"X: \"", b"Cookie: a=b; c"];
    assert_passed(driver, &passing.map(with_raw));
}

fn hosts(driver: Driver) {
    #[rustfmt::skip]
    let bad = [
        "", ":80", "a:", "a:65536", "a:-1", "a:8o", "a:80:80", "u@a", "a,b", "a b", "a/b", "a?b", "a#b", "a\\b", "a%41",
        "[::1", "::1", "[::1]a", "[]", "[fe80::1%25a]", "caf\u{e9}", "<a>", "a\"", "a:0x50",
    ];
    let mut malformed: Vec<_> = bad.iter().map(|host| Delivery::of(b"x").host(Some(host)).bytes()).collect();
    malformed.push(Delivery::of(b"x").host(None).bytes());
    malformed.push(Delivery::of(b"x").field("Host", "hooks.example").bytes());
    malformed.push(Delivery::of(b"x").field("host", "other.example").bytes());
    malformed.push(Delivery::of(b"x").line("POST /hook HTTP/1.0").field("Host", "hooks.example").bytes());
    malformed.push(with_line("POST http://other.example/hook HTTP/1.1"));
    malformed.push(Delivery::of(b"x").line("POST http://hooks.example/hook HTTP/1.1").host(None).bytes());
    assert_refused(driver, &all(400, &malformed));
    let good = ["a", "A.example:443", "127.0.0.1:8080", "[::1]", "[2001:db8::1]:65535", "a_b"];
    let mut passing: Vec<_> = good.iter().map(|host| Delivery::of(b"x").host(Some(host)).bytes()).collect();
    passing.push(with_line("POST http://HOOKS.example/hook HTTP/1.1"));
    assert_passed(driver, &passing);
}

fn targets(driver: Driver) {
    #[rustfmt::skip]
    let malformed: Vec<_> = [
        "/hook#fragment", "/hook?a#b", "hook", "*", "", "hooks.example:80", "//hook", "/./hook", "/x/../hook", "/hook/.",
        "/hook/..", "/%2e/hook", "/x/%2E%2e/hook", "/x/..;/hook", "/%2fhook", "/x%5chook", "/hook%00", "/hook%", "/hook%zz",
        "/x\\..\\hook", "/hook\"", "/hook<", "/hook^", "/ho{ok", "/h\u{ff0f}ook", "ftp://hooks.example/hook", "http://u@hooks.example/hook",
        "http:///hook", "http://hooks.example?x", "/caf\u{e9}", "/hook;a", "/%68ook", "/hook.", "/hook%20", "/hook%3b",
    ]
    .iter()
    .map(|target| with_line(&format!("POST {target} HTTP/1.1")))
    .collect();
    assert_refused(driver, &all(400, &malformed));
    let passing: Vec<_> =
        ["/hook?", "/hook?\u{e9}", "/hook?a=b/../c//d", "/hook?x[]={y|z}`%zz", "http://hooks.example/hook?a"]
            .iter()
            .map(|target| with_line(&format!("POST {target} HTTP/1.1")))
            .collect();
    assert_passed(driver, &passing);
}

fn content_lengths(driver: Driver) {
    #[rustfmt::skip]
    let malformed: Vec<_> = [
        "", "+5", "-5", "5 5", "5,5", "5, 5", "0x5", "5a", "a", "5.0", "5;", "\"5\"", "18446744073709551616", "5_0",
        "99999999999999999999999", "\u{665}", "00000000000000000000005",
    ]
    .iter()
    .map(|value| framed(b"hello", format!("Content-Length: {value}\r\n").as_bytes(), b"hello"))
    .chain([
        framed(b"hello", b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
        framed(b"hello", b"Content-Length: 5\r\ncontent-length: 6\r\n", b"hello"),
        framed(b"hello", b"Content-Length: 5\r\nContent-Length: 0\r\n", b"hello"),
    ])
    .collect();
    assert_refused(driver, &all(400, &malformed));
    assert_refused(driver, &[(413, &framed(b"hello", b"Content-Length: 18446744073709551615\r\n", b"hello"))]);
    let passing = [
        framed(b"hello", b"Content-Length: 5\r\n", b"hello"),
        framed(b"hello", b"content-LENGTH:5\r\n", b"hello"),
        framed(b"hello", b"Content-Length: \t5 \r\n", b"hello"),
        framed(b"hello", b"Content-Length: 0005\r\n", b"hello"),
        framed(b"", b"Content-Length: 0\r\n", b""),
        framed(b"", b"", b""),
    ];
    assert_passed(driver, &passing);
}

fn transfer_codings(driver: Driver) {
    const BODY: &[u8] = b"5\r\nhello\r\n0\r\n\r\n";
    let with = |fields: &str| framed(b"hello", fields.as_bytes(), BODY);
    let malformed = [
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 15\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: chunked;\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: chunk ed\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding: chunked\u{0}\r\n",
        "Transfer-Encoding : chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer-Encoding: x\nTransfer-Encoding: chunked\r\n",
        "Transfer_Encoding: chunked\r\n",
    ]
    .map(with);
    assert_refused(driver, &all(400, &malformed));
    let unknown = ["identity", "gzip", "gzip, chunked", "x-chunked", "chunked1", "cow"]
        .map(|coding| with(&format!("Transfer-Encoding: {coding}\r\n")));
    assert_refused(driver, &all(501, &unknown));
    let old = Delivery::of(b"hello").line("POST /hook HTTP/1.0").chunked(&[]);
    assert_refused(driver, &[(400, &old.bytes()), (400, &old.field("Connection", "keep-alive").bytes())]);
    let passing =
        ["chunked", "CHUNKED", "\tChunked \t"].map(|coding| with(&format!("Transfer-Encoding: {coding}\r\n")));
    assert_passed(driver, &passing);
}

fn chunks(driver: Driver) {
    let malformed: Vec<_> = [
        "\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5h\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\nX\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        "5\r\nhello\r\n0\r\n X: y\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\n\r\n",
        "5;\u{0}\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;\r\nhello\r\n0\r\n\r\n",
        "5;a=\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b\r\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "\u{ff15}\r\nhello\r\n0\r\n\r\n",
    ]
    .iter()
    .map(|rest| chunked(rest.as_bytes()))
    .collect();
    assert_refused(driver, &all(400, &malformed));
    let extensions = chunked(format!("5;a={}\r\nhello\r\n0\r\n\r\n", "x".repeat(17 << 10)).as_bytes());
    let trailers = chunked(format!("5\r\nhello\r\n0\r\n{}\r\n", "X: y\r\n".repeat(33)).as_bytes());
    assert_refused(driver, &all(400, &[extensions, trailers]));
    let huge = ["ffffffffffffffff", "100001", "7fffffffffffffff"].map(|size| chunked(format!("{size}\r\n").as_bytes()));
    assert_refused(driver, &all(413, &huge));
    let passing = [
        "5\r\nhello\r\n0\r\n\r\n",
        "1\r\nh\r\n4\r\nello\r\n000\r\n\r\n",
        "05\r\nhello\r\n0\r\n\r\n",
        "5;a\r\nhello\r\n0;b=c\r\n\r\n",
        "5 ; a = \"b\\\"c\"\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\nContent-Length: 7\r\n\r\n",
    ];
    assert_passed(driver, &passing.map(|rest| chunked(rest.as_bytes())));
}

fn connection_options(driver: Driver) {
    #[rustfmt::skip]
    let reserved: Vec<_> = [
        "Host", "content-length", "Content-Type", "X-Hub-Signature-256", "x-hub-signature-256", "X-Forwarded-For", "Forwarded",
        "Via", "X-Request-Id", "X-Countersign-Route", "X_Countersign_Route", "close, Host", "Authorization",
    ]
    .iter()
    .map(|option| with_raw(format!("Connection: {option}").as_bytes()))
    .chain([with_raw(b"Connection: close\r\nConnection: X-Hub-Signature-256"), with_raw(b"Connection: a b")])
    .collect();
    assert_refused(driver, &all(400, &reserved));
    let passing = ["keep-alive", "Keep-Alive, TE", "X-Anything", "", ",", "Transfer-Encoding", &"z,".repeat(31)];
    assert_passed(driver, &passing.map(|option| with_raw(format!("Connection: {option}").as_bytes())));
}

/// Each option is compared with names of fields, so there are few of them, however they are written.
fn connection_options_are_few(driver: Driver) {
    let many = [
        with_raw(format!("Connection: {}", "z,".repeat(7_500)).as_bytes()),
        with_raw(format!("Connection: close{}", ",".repeat(32)).as_bytes()),
        with_raw(["Connection: z"; 33].join("\r\n").as_bytes()),
    ];
    assert_refused(driver, &all(431, &many));
}

/// Names are compared with what the verdict rests on only for clients that may spend our work.
fn tampering_is_judged_behind_admission(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).route_line("deny = [\"127.0.0.1\"]").start();
    for raw in [b"Connection: X-Hub-Signature-256".as_slice(), b"X_Hub_Signature_256: x"] {
        assert_eq!(proxy.connect().ask(&with_raw(raw)).status, 403);
        assert_eq!(proxy.connect_from([127, 0, 0, 2]).ask(&with_raw(raw)).status, 400);
    }
    proxy.assert_endings(&["client_not_allowed", "header_reserved", "client_not_allowed", "header_reserved"]);
    application.assert_saw_nothing("all were refused");
}

/// After an error everything that the client has sent along is discarded, however genuine it looks.
fn nothing_behind_a_refusal_is_read_as_a_request(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let genuine = Delivery::of(b"hello").bytes();
    for first in [
        with_raw(b"X : y"),
        framed(b"hello", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        framed(b"", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"0\r\n\r\n"),
        chunked(b"5\r\nhello\n0\r\n\r\n"),
        chunked(b"0\n\r\n"),
        with_line("POST /hook#x HTTP/1.1"),
    ] {
        let mut client = proxy.connect();
        let shown = first.escape_ascii().to_string();
        assert_eq!(client.ask(&[first, genuine.clone()].concat()).status, 400, "{shown}");
        client.assert_closed();
        application.assert_saw_nothing(&shown);
    }
}

/// A whole genuine request, hidden in every place where a careless reader might find it.
fn the_application_sees_exactly_what_was_verified(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let hidden = Delivery::of(b"hidden").bytes();
    let (other, again) = (Delivery::of(&hidden), Delivery::of(b"last").bytes());
    let size = format!("{:x}", hidden.len());
    let extension = [b"1;a=\"".as_slice(), b"POST /hook HTTP/1.1", b"\"\r\nx\r\n0\r\n\r\n"].concat();
    let input = [
        other.bytes(),
        other.clone().chunked(&[10, 1]).bytes(),
        framed(b"x", b"Transfer-Encoding: chunked\r\n", &extension),
        framed(
            &hidden,
            b"Transfer-Encoding: chunked\r\n",
            &[size.as_bytes(), b"\r\n", &hidden, b"\r\n0\r\nHost: b\r\n\r\n"].concat(),
        ),
        again,
    ]
    .concat();
    let mut client = proxy.connect();
    client.send(&input);
    let statuses: Vec<_> = (0..5).map(|_| client.answer().status).collect();
    assert_eq!(statuses, [200; 5]);
    let bodies: Vec<_> = application.assert_requests(5).into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [hidden.clone(), hidden.clone(), b"x".to_vec(), hidden, b"last".to_vec()]);
    proxy.assert_endings(&["forwarded"; 5]);
}

fn upgrades_are_no_tunnels(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let upgrade = Delivery::of(b"x")
        .field("Connection", "Upgrade, HTTP2-Settings")
        .field("Upgrade", "h2c")
        .field("HTTP2-Settings", "AAMAAABkAAQAAP__");
    let mut client = proxy.connect();
    assert_eq!(client.ask(&upgrade.bytes()).status, 200);
    // What follows is read as a request, and is none.
    assert_eq!(client.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status, 505);
    client.assert_closed();
    let request = application.assert_requests(1).pop().unwrap();
    assert!(request.all("Upgrade").is_empty() && request.all("HTTP2-Settings").is_empty());
}

/// A refusal before the body has been read closes the connection, whether or not the body is genuine-looking requests.
fn an_unread_body_is_never_a_request(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Arc::new(Proxy::on(driver, &application).limit("body_size = \"4KiB\"").start());
    let genuine = Delivery::of(b"hello").bytes();
    let body = genuine.repeat(2000);
    for (delivery, status) in [
        (Delivery::unsigned(&body), 401),
        (Delivery::of(&body), 413),
        (Delivery::of(&body).chunked(&[1000]), 413),
        (Delivery::of(&body).line("POST /nowhere HTTP/1.1"), 404),
        (Delivery::unsigned(&body).chunked(&[1000]), 401),
    ] {
        let mut client = proxy.connect();
        let answer = send_aside(&mut client, delivery.bytes());
        assert_eq!((answer, client.rest().is_empty()), (status, true));
    }
    // A body that is here as a whole can be stepped over; the next request is then the next request.
    let mut client = proxy.connect();
    client.send(&[Delivery::unsigned(&genuine).bytes(), genuine].concat());
    assert_eq!((client.answer().status, client.answer().status), (401, 200));
    assert_eq!(application.assert_requests(1)[0].body, b"hello");
}

/// Writes from a thread of its own, because the proxy may stop reading; gives the status of the answer.
fn send_aside(client: &mut Client, bytes: Vec<u8>) -> u16 {
    use std::io::Write;
    let mut writer = client.stream.try_clone().unwrap();
    let sending = thread::spawn(move || drop(writer.write_all(&bytes)));
    let status = client.answer().status;
    sending.join().unwrap();
    status
}
