//! Applications that misbehave: each fault has its status, a client never takes a broken answer for a whole one, and no
//! delivery is ever sent twice.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::support::application::OK;
use crate::support::folder::Folder;
use crate::support::{Application, Delivery, Driver, Proxy, Visit, noise, on_both_drivers};

on_both_drivers! {
    refused_connections,
    an_application_that_closes_before_it_answers,
    malformed_answers,
    answers_that_break_off_are_visibly_broken,
    #[ignore = "needs a reset, and the socket option for it cannot be reached without unsafe code"]
    a_body_that_ends_with_the_connection_breaks_off_with_a_reset,
    slow_applications,
    a_reused_connection_times_out_like_a_new_one,
    what_follows_a_delivery_without_a_route_is_not_misread,
    an_answer_that_stalls_breaks_off,
    an_answer_before_the_body_was_read_is_passed_on,
    an_answer_is_passed_on_although_the_body_is_never_read,
    idle_connections_that_closed_are_replaced,
    a_delivery_that_may_have_arrived_is_not_sent_again,
    a_connection_that_is_not_accepted,
    a_connection_that_closes_after_each_answer,
    a_connection_that_is_said_to_close_is_not_used_again,
    stray_bytes_on_idle_connections,
    bytes_behind_an_answer,
    a_second_answer_is_no_answer_to_another_delivery,
    a_connection_rests_before_it_is_used_again,
}

fn genuine() -> Vec<u8> {
    Delivery::of(b"{}").bytes()
}

/// Answers every request with `reply` and then closes.
fn closing_after(reply: &[u8]) -> Application {
    let reply = reply.to_vec();
    Application::following(move |visit| {
        if visit.request().is_some() {
            visit.say(&reply);
        }
    })
}

fn refused_connections(driver: Driver) {
    let unused = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let proxy = Proxy::towards(driver, &unused.to_string()).start();
    let mut client = proxy.connect();
    for _ in 0..3 {
        let answer = client.ask(&genuine());
        assert_eq!((answer.status, answer.closes()), (503, false));
        assert_eq!(answer.field("Retry-After"), Some("5"), "the application is away: try again");
    }
    let proxy_to_missing_socket = Proxy::towards(driver, "unix:/nonexistent/app.sock").start();
    assert_eq!(proxy_to_missing_socket.connect().ask(&genuine()).status, 503);
    proxy.assert_endings(&["upstream_connect"; 3]);
}

fn an_application_that_closes_before_it_answers(driver: Driver) {
    let scripts: [fn(&mut Visit); 4] = [
        |visit| drop(visit.request()),
        |visit| {
            visit.request();
            visit.reset();
        },
        |visit| {
            visit.request();
            visit.say(b"HTTP/1.1 200 OK\r\nContent-Le");
        },
        |visit| {
            visit.request();
            visit.say(b"HTTP/1.1 103 Early Hints\r\n\r\n");
        },
    ];
    for script in scripts {
        let application = Application::following(script);
        let proxy = Proxy::on(driver, &application).start();
        let mut client = proxy.connect();
        let answer = client.ask(&genuine());
        assert_eq!((answer.status, answer.closes()), (502, false));
        proxy.assert_endings(&["upstream_closed"]);
        // The delivery may have been acted upon: whether to send it again is for the sender to say.
        assert_eq!((application.requests().len(), application.connections()), (1, 1));
    }
}

fn malformed_answers(driver: Driver) {
    let heads: Vec<(Vec<u8>, &str)> = [
        ("nonsense\r\n\r\n", "status_line"),
        ("HTTP/2.0 200 OK\r\n\r\n", "status_line"),
        ("HTTP/1.2 200 OK\r\n\r\n", "status_line"),
        ("http/1.1 200 OK\r\n\r\n", "status_line"),
        (" HTTP/1.1 200 OK\r\n\r\n", "status_line"),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1 20 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1 000 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1 999 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1 +20 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", "upgrade_unasked"),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "line_end"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok", "line_end"),
        ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 2\r\n\r\nok", "field_malformed"),
        ("HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 2\r\n\r\nok", "field_malformed"),
        ("HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok", "line_end"),
        ("HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok", "field_malformed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "content_length_twice"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "content_length_malformed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "content_length_malformed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok", "content_length_malformed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok", "content_length_malformed"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "both_framings",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "unknown_coding"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "transfer_encoding_malformed",
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "transfer_encoding_http_1_0"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk_malformed"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n0\n\n", "chunk_malformed"),
    ]
    .iter()
    .map(|(head, rule)| (head.as_bytes().to_vec(), *rule))
    .chain([
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(201)).into_bytes(), "too_many_fields"),
        (format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(65 << 10)).into_bytes(), "head_too_large"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(9), "too_many_interim"),
    ])
    .collect();
    for (head, rule) in heads {
        let shown = String::from_utf8_lossy(&head).chars().take(100).collect::<String>();
        let application = Application::answering(&head);
        let proxy = Proxy::on(driver, &application).start();
        let answer = proxy.connect().ask(&genuine());
        assert_eq!((answer.status, answer.closes()), (502, false), "{shown:?}");
        let over_limit = matches!(rule, "too_many_fields" | "head_too_large");
        proxy.assert_endings(&[if over_limit { "upstream_head_too_large" } else { "upstream_malformed" }]);
        assert_eq!(proxy.broken_rules(), [Some(rule)], "{shown:?}");
        assert!(application.sees_closed(0), "the connection is dropped after {shown:?}");
    }
}

fn answers_that_break_off_are_visibly_broken(driver: Driver) {
    for reply in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
    ] {
        let application = closing_after(reply.as_bytes());
        let proxy = Proxy::on(driver, &application).start();
        let mut client = proxy.connect();
        let answer = client.ask(&genuine());
        assert_eq!((answer.status, answer.whole), (200, false), "{reply:?}");
        client.assert_closed();
        proxy.assert_endings(&["upstream_truncated"]);
        assert_eq!(application.requests().len(), 1);
    }
    // Rubbish after a good beginning, and a body that ends with a reset instead of its end.
    let rubbish = Application::following(|visit| {
        visit.request();
        visit.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
        std::thread::sleep(Duration::from_millis(30));
        visit.say(b"zz\r\n");
        visit.wait_for_end();
    });
    let reset = Application::following(|visit| {
        visit.request();
        visit.say(b"HTTP/1.1 200 OK\r\n\r\nsome of it");
        std::thread::sleep(Duration::from_millis(30));
        visit.reset();
    });
    for application in [rubbish, reset] {
        let proxy = Proxy::on(driver, &application).start();
        let mut client = proxy.connect();
        assert!(!client.ask(&genuine()).whole);
        client.assert_closed();
        proxy.assert_endings(&["upstream_truncated"]);
    }
}

/// To a client of HTTP/1.0 the end of the connection is the end of the body: only a reset tells it that some is missing.
fn a_body_that_ends_with_the_connection_breaks_off_with_a_reset(driver: Driver) {
    let application = closing_after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
    let proxy = Proxy::on(driver, &application).start();
    let mut client = proxy.connect();
    client.send(&Delivery::of(b"{}").line("POST /hook HTTP/1.0").bytes());
    let end = std::io::Read::read_to_end(&mut client.stream, &mut Vec::new());
    assert_eq!(end.map_err(|error| error.kind()).err(), Some(std::io::ErrorKind::ConnectionReset));
}

fn slow_applications(driver: Driver) {
    let silent = Application::following(|visit| {
        visit.request();
        visit.say_nothing();
    });
    let dripping = Application::following(|visit| {
        visit.request();
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" {
            visit.say(&[*byte]);
            std::thread::sleep(Duration::from_millis(20));
        }
        visit.wait_for_end();
    });
    for application in [silent, dripping] {
        let proxy = Proxy::on(driver, &application).upstream("response_timeout = \"150ms\"").start();
        let mut client = proxy.connect();
        let answer = client.ask(&genuine());
        assert_eq!((answer.status, answer.closes()), (504, false));
        proxy.assert_endings(&["upstream_timeout"]);
        assert_eq!(application.requests().len(), 1);
        assert!(application.sees_closed(0));
    }
}

/// The connections to the application were used by other connections before: their deadlines must not be waited for by
/// the first user of each.
fn a_reused_connection_times_out_like_a_new_one(driver: Driver) {
    const CLIENTS: usize = 20;
    let together = std::sync::Arc::new(std::sync::Barrier::new(CLIENTS));
    let application = Application::following(move |visit| {
        visit.request();
        together.wait();
        std::thread::sleep(Duration::from_millis(30));
        visit.say(OK);
        visit.request();
        visit.say_nothing();
    });
    let proxy = Proxy::on(driver, &application).upstream("response_timeout = \"700ms\"").start();
    let ask_all = || -> Vec<u16> {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.connect()).collect();
        for client in &mut clients {
            client.send(&genuine());
        }
        clients.iter_mut().map(|client| client.answer().status).collect()
    };
    assert_eq!(ask_all(), [200; CLIENTS]);
    assert_eq!(ask_all(), [504; CLIENTS]);
    assert_eq!(application.connections(), CLIENTS, "the second round used the connections of the first");
}

/// The write that is given up gives the buffer back, and with it what the client has sent behind the delivery.
fn what_follows_a_delivery_without_a_route_is_not_misread(driver: Driver) {
    // A Unix socket takes a few hundred kilobytes; TCP on loopback may take tens of megabytes.
    let folder = Folder::new();
    let path = folder.path("app.sock");
    let _application = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let proxy = Proxy::towards(driver, &format!("unix:{}", path.display()))
        .upstream("response_timeout = \"150ms\"")
        .limit("body_size = \"4MiB\"")
        .start();
    let mut client = proxy.connect();
    let large = Delivery::of(&noise(3 << 20)).bytes();
    client.send(&[large, genuine()].concat());
    for _ in 0..2 {
        let answer = client.answer();
        assert_eq!((answer.status, answer.closes()), (504, false));
    }
    proxy.assert_endings(&["upstream_timeout"; 2]);
}

fn an_answer_that_stalls_breaks_off(driver: Driver) {
    let application = Application::following(|visit| {
        visit.request();
        visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok");
        visit.say_nothing();
    });
    let proxy = Proxy::on(driver, &application).upstream("response_timeout = \"1s\"").start();
    let mut client = proxy.connect();
    let answer = client.ask(&genuine());
    assert_eq!((answer.status, answer.whole), (200, false));
    client.assert_closed();
    proxy.assert_endings(&["upstream_truncated"]);
}

fn an_answer_before_the_body_was_read_is_passed_on(driver: Driver) {
    const REFUSAL: &[u8] = b"HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 2\r\n\r\nno";
    // With a polite end, and with the reset that unread bytes cause.
    let scripts: [fn(&mut Visit); 2] = [
        |visit| {
            visit.head();
            visit.say(REFUSAL);
            visit.stop_talking();
            visit.wait_for_end();
        },
        |visit| {
            visit.head();
            visit.say(REFUSAL);
            visit.await_read();
        },
    ];
    for script in scripts {
        for size in [1, 12 << 20] {
            let application = Application::following(script);
            let proxy = Proxy::on(driver, &application).limit("body_size = \"16MiB\"").start();
            let mut client = proxy.connect();
            let delivery = Delivery::of(&vec![b'x'; size]).bytes();
            for round in 1..3 {
                let answer = client.ask(&delivery);
                assert_eq!((answer.status, answer.body.as_slice()), (422, &b"no"[..]), "{size}");
                assert_eq!(application.connections(), round, "such a connection is not used again");
                // Whether a small body was read cannot be seen from outside, before the connection ends.
                application.await_mark(round - 1);
            }
        }
    }
}

/// The answer must not have to wait until the application takes the body, which it never does.
fn an_answer_is_passed_on_although_the_body_is_never_read(driver: Driver) {
    let application = Application::following(|visit| {
        visit.head();
        visit.say(b"HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 2\r\n\r\nno");
        std::thread::sleep(Duration::from_secs(2));
    });
    let proxy =
        Proxy::on(driver, &application).limit("body_size = \"16MiB\"").upstream("response_timeout = \"500ms\"").start();
    assert_eq!(proxy.connect().ask(&Delivery::of(&vec![b'x'; 12 << 20]).bytes()).status, 422);
}

/// Closes each connection after its first answer, without saying so beforehand.
fn idle_connections_that_closed_are_replaced(driver: Driver) {
    for reset in [false, true] {
        let application = Application::following(move |visit| {
            if visit.request().is_some() {
                visit.say(OK);
                if reset {
                    std::thread::sleep(Duration::from_millis(20));
                    visit.reset();
                }
            }
        });
        let proxy = Proxy::on(driver, &application).start();
        let mut client = proxy.connect();
        for round in 1..6 {
            assert_eq!(client.ask(&genuine()).status, 200, "{round}");
            // The close must have arrived before the next delivery does: otherwise the proxy could not know.
            application.await_mark(round - 1);
            assert_eq!(application.assert_requests(round).len(), application.connections());
        }
    }
}

/// The connection has served one delivery; with the next the application takes some of it, or all, and closes.
fn a_delivery_that_may_have_arrived_is_not_sent_again(driver: Driver) {
    let scripts: [fn(&mut Visit); 3] = [
        |visit| drop(visit.request()),
        |visit| {
            visit.request();
            visit.reset();
        },
        |visit| drop(visit.head()),
    ];
    for end in scripts {
        let application = Application::following(move |visit| {
            if visit.request().is_some() {
                visit.say(OK);
                end(visit);
            }
        });
        let proxy = Proxy::on(driver, &application).start();
        let mut client = proxy.connect();
        let large = Delivery::of(&noise(10_000)).bytes();
        for round in 1..4 {
            assert_eq!(client.ask(&genuine()).status, 200);
            assert_eq!(client.ask(&large).status, 502);
            assert_eq!(
                application.connections(),
                round,
                "the second went over the connection of the first, and only there"
            );
        }
        proxy.assert_endings(&[
            "forwarded",
            "upstream_closed",
            "forwarded",
            "upstream_closed",
            "forwarded",
            "upstream_closed",
        ]);
    }
}

/// A full backlog: the kernel answers nothing, as a host that is gone would.
fn a_connection_that_is_not_accepted(driver: Driver) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let full = |_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok();
    let waiting: Vec<TcpStream> = std::iter::successors(Some(0), |n| Some(n + 1)).map_while(full).collect();
    let proxy = Proxy::towards(driver, &address.to_string()).upstream("connect_timeout = \"150ms\"").start();
    let mut client = proxy.connect();
    let answer = client.ask(&genuine());
    assert_eq!((answer.status, answer.closes()), (504, false));
    proxy.assert_endings(&["upstream_connect_timeout"]);
    drop(waiting);
}

fn a_connection_that_closes_after_each_answer(driver: Driver) {
    let replies: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
    ];
    for reply in replies {
        let application = closing_after(reply);
        let proxy = Proxy::on(driver, &application).start();
        let mut client = proxy.connect();
        for round in 1..4 {
            let answer = client.ask(&genuine());
            assert_eq!((answer.status, answer.closes(), answer.body.as_slice()), (200, false, &b"ok"[..]));
            assert_eq!((application.requests().len(), application.connections()), (round, round));
        }
    }
}

/// The application announces the end of the connection, and leaves it to us.
fn a_connection_that_is_said_to_close_is_not_used_again(driver: Driver) {
    let replies: [(&[u8], bool); 5] = [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", true),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive, CLOSE\r\nContent-Length: 2\r\n\r\nok", true),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", false),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false),
    ];
    for (reply, closes) in replies {
        let application = Application::answering(reply);
        let proxy = Proxy::on(driver, &application).start();
        let mut client = proxy.connect();
        for round in 1..4 {
            let answer = client.ask(&genuine());
            assert_eq!((answer.status, answer.closes()), (200, false));
            assert_eq!(application.connections(), if closes { round } else { 1 });
        }
    }
}

fn stray_bytes_on_idle_connections(driver: Driver) {
    let application = Application::following(|visit| {
        while visit.request().is_some() {
            visit.say(OK);
            std::thread::sleep(Duration::from_millis(20));
            visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray");
            visit.mark();
        }
    });
    let proxy = Proxy::on(driver, &application).start();
    let mut client = proxy.connect();
    for round in 1..4 {
        assert_eq!(client.ask(&genuine()).body, b"ok");
        application.await_mark(round - 1);
        assert_eq!(application.connections(), round);
    }
    application.assert_requests(3);
}

fn bytes_behind_an_answer(driver: Driver) {
    let replies: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 500 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n",
    ];
    for reply in replies {
        let application = Application::answering(reply);
        let proxy = Proxy::on(driver, &application).start();
        let mut client = proxy.connect();
        for round in 1..4 {
            assert_eq!(client.ask(&genuine()).body, b"ok");
            assert_eq!(application.connections(), round);
            assert!(application.sees_closed(round - 1));
        }
        application.assert_requests(3);
    }
}

/// A second answer, in a segment of its own, at once or some time after the first. The next delivery is there at once.
fn a_second_answer_is_no_answer_to_another_delivery(driver: Driver) {
    for micros in [0, 150, 2_000] {
        let application = Application::following(move |visit| {
            while visit.request().is_some() {
                visit.say(OK);
                if micros > 0 {
                    std::thread::sleep(Duration::from_micros(micros));
                }
                visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray");
            }
        });
        // Much longer than the application may take on a busy machine to say more.
        let proxy = Proxy::on(driver, &application).upstream("reuse_after = \"1s\"").start();
        let mut client = proxy.connect();
        for round in 0..20 {
            assert_eq!(client.ask(&genuine()).body, b"ok", "{micros} us, round {round}");
        }
        std::thread::sleep(Duration::from_millis(1_100));
        for round in 0..5 {
            assert_eq!(client.ask(&genuine()).body, b"ok", "{micros} us, rested, round {round}");
        }
    }
}

fn a_connection_rests_before_it_is_used_again(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).upstream("reuse_after = \"1s\"").start();
    let mut client = proxy.connect();
    for round in 1..4 {
        assert_eq!(client.ask(&genuine()).status, 200);
        assert_eq!(application.connections(), round, "none has rested");
    }
    std::thread::sleep(Duration::from_millis(1_100));
    for _ in 0..3 {
        assert_eq!(client.ask(&genuine()).status, 200);
    }
    assert_eq!(application.connections(), 3, "all have rested");
}
