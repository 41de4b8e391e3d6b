//! Answers of applications that behave: however they are framed, the client gets all of them, as they were.

use std::io::Read as _;

use crate::support::folder::Folder;
use crate::support::{Application, Client, Delivery, Driver, Program, Proxy, noise, on_both_drivers};

on_both_drivers! {
    interim_answers_are_read_over,
    answers_that_have_no_body,
    framings_towards_clients_of_both_versions,
    large_answers_stream,
    large_answers_take_no_memory,
    a_last_answer_is_not_cut_off,
    answers_arrive_as_the_application_wrote_them,
    large_response_heads,
}

fn genuine() -> Vec<u8> {
    Delivery::of(b"{}").bytes()
}

fn interim_answers_are_read_over(driver: Driver) {
    let reply = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let application = Application::answering(reply);
    let proxy = Proxy::on(driver, &application).start();
    for line in ["POST /hook HTTP/1.1", "POST /hook HTTP/1.0"] {
        let mut client = proxy.connect();
        let answer = client.ask(&Delivery::of(b"{}").line(line).bytes());
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]));
        assert!(answer.all("Link").is_empty());
    }
    let endless = Application::following(|visit| {
        visit.request();
        visit.say(&b"HTTP/1.1 102 Processing\r\n\r\n".repeat(50));
        visit.wait_for_end();
    });
    let proxy = Proxy::on(driver, &endless).start();
    assert_eq!(proxy.connect().ask(&genuine()).status, 502);
}

fn answers_that_have_no_body(driver: Driver) {
    let table: [(&str, &[u8], Option<&str>); 6] = [
        ("POST", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("POST", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nstray", None),
        ("POST", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nstray\r\n0\r\n\r\n", None),
        ("POST", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nstray", Some("5")),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray", Some("5")),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nstray\r\n0\r\n\r\n", None),
    ];
    for (method, reply, length) in table {
        let shown = reply.escape_ascii().to_string();
        let application = Application::answering(reply);
        let proxy = Proxy::on(driver, &application).route_line("methods = [\"POST\", \"HEAD\"]").start();
        let mut client = proxy.connect();
        for _ in 0..3 {
            let delivery = Delivery::of(b"").line(&format!("{method} /hook HTTP/1.1"));
            let answer = client.send(&delivery.bytes()).answer_to_head();
            assert_eq!((answer.closes(), answer.field("Content-Length")), (false, length), "{method} {shown}");
        }
        let stray = reply.ends_with(b"stray") || reply.ends_with(b"0\r\n\r\n");
        assert_eq!(application.connections(), if stray { 3 } else { 1 }, "{method} {shown}");
        client.stop_talking().assert_closed();
    }
}

fn framings_towards_clients_of_both_versions(driver: Driver) {
    let body = noise(50_000);
    let length = [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
    let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n".to_vec();
    for piece in body.chunks(777) {
        chunked.extend(format!("{:X};x=\"y\"\r\n", piece.len()).bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\nX: y\r\n\r\n");
    let until_close = [b"HTTP/1.1 200 OK\r\n\r\n", body.as_slice()].concat();
    for (reply, closes, delimited) in [(length, false, true), (chunked, false, false), (until_close, true, false)] {
        let application = Application::following(move |visit| {
            while visit.request().is_some() {
                visit.say(&reply);
                if closes {
                    break;
                }
            }
        });
        let proxy = Proxy::on(driver, &application).start();
        let mut client = proxy.connect();
        for _ in 0..2 {
            let answer = client.ask(&genuine());
            assert!(answer.body == body && answer.whole && !answer.closes());
            assert_eq!(answer.field("Transfer-Encoding"), (!delimited).then_some("chunked"));
        }
        let old = Delivery::of(b"{}").line("POST /hook HTTP/1.0").field("Connection", "keep-alive");
        let mut client = proxy.connect();
        let answer = client.ask(&old.bytes());
        assert!(answer.body == body && answer.all("Transfer-Encoding").is_empty());
        assert_eq!(answer.field("Connection"), Some(if delimited { "keep-alive" } else { "close" }));
        proxy.assert_endings(&["forwarded"; 3]);
    }
}

/// How large a large answer is.
const SIZE: usize = 5 << 20;

fn answering_at_length() -> Application {
    Application::following(|visit| {
        while visit.request().is_some() {
            visit.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes());
            visit.say(&noise(SIZE));
        }
    })
}

/// An answer that the client reads slowly must wait at the application, not in our memory.
fn large_answers_stream(driver: Driver) {
    let application = answering_at_length();
    let proxy = Proxy::on(driver, &application).start();
    let mut client = proxy.connect();
    for _ in 0..3 {
        let answer = client.ask(&genuine());
        assert!(answer.whole && answer.body == noise(SIZE));
    }
    assert_eq!(application.connections(), 1);
}

/// A socket is closed behind the last answer at once: what the client has not taken of it yet must come all the same, and
/// then the end of the connection, which is no reset.
fn a_last_answer_is_not_cut_off(driver: Driver) {
    let application = answering_at_length();
    let proxy = Proxy::on(driver, &application).start();
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.connect()).collect();
    let last = Delivery::of(b"{}").field("Connection", "close").bytes();
    for client in &mut clients {
        client.send(&last);
    }
    for client in &mut clients {
        let answer = client.answer();
        assert!(answer.whole && answer.closes() && answer.body == noise(SIZE));
        assert_eq!(client.stream.read(&mut [0]).ok(), Some(0));
    }
    proxy.assert_endings(&["forwarded"; 4]);
}

/// The same with a process of its own, of which the kernel says how much memory it ever had.
fn large_answers_take_no_memory(driver: Driver) {
    let application = Application::following(|visit| {
        let body = vec![b'x'; SIZE];
        while visit.request().is_some() {
            visit.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes());
            visit.say(&body);
        }
    });
    let folder = Folder::new();
    let program = Program::run(&folder.write("countersign.toml", &Proxy::on(driver, &application).text()));
    let mut client = program.connect();
    assert_eq!(client.ask(&Delivery::forged(b"{}").bytes()).status, 401);
    let before = program.peak_memory();
    for _ in 0..10 {
        assert_eq!(client.ask(&genuine()).body.len(), SIZE);
    }
    let grown = program.peak_memory() - before;
    assert!(grown < 1 << 20, "{grown} bytes for answers of {SIZE}");
}

fn answers_arrive_as_the_application_wrote_them(driver: Driver) {
    let application = Application::answering(
        b"HTTP/1.1 418 Whatever\r\nserver: app/1\r\nX-Twice: 1\r\nSet-Cookie: a=b\r\nX-Twice: 2\r\nLocation: /x?y\r\n\
          Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nX-Request-Id: app's\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nhey",
    );
    let proxy = Proxy::on(driver, &application).start();
    let answer = proxy.connect().ask(&genuine());
    assert_eq!((answer.status, answer.body.as_slice()), (418, &b"hey"[..]));
    assert_eq!(answer.all("X-Twice"), ["1", "2"]);
    for (name, value) in [
        ("Server", "app/1"),
        ("Set-Cookie", "a=b"),
        ("Location", "/x?y"),
        ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("Content-Type", "text/plain"),
    ] {
        assert_eq!(answer.field(name), Some(value));
    }
}

fn large_response_heads(driver: Driver) {
    for filler in [900, 5_000, 14_000, 15_300, 40_000] {
        let reply =
            format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2000\r\n\r\n{}", "y".repeat(filler), "z".repeat(2000));
        let application = Application::answering(reply.as_bytes());
        let proxy = Proxy::on(driver, &application).start();
        let mut client: Client = proxy.connect();
        for _ in 0..2 {
            let answer = client.ask(&genuine());
            assert_eq!((answer.status, answer.field("X").map(str::len)), (200, Some(filler)));
            assert_eq!(answer.body, [b'z'; 2000]);
        }
    }
}
