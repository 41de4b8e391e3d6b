//! One signed id, two bodies: both are genuine, and neither is lost.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::hmac;

use crate::support::application::OK;
use crate::support::folder::Folder;
use crate::support::{Application, Delivery, Driver, Program, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    the_same_id_with_another_body_is_a_delivery_of_its_own,
    a_body_under_a_used_id_may_come_again_until_it_is_accepted,
    bodies_under_one_id_are_told_apart_also_while_they_are_with_the_application,
    the_log_shows_a_reused_id,
    an_id_alone_tells_deliveries_apart_where_bytes_of_the_body_are_not_signed,
}

const SENDERS: [&[u8]; 2] = [b"the-secret-of-the-first-sender--", b"the-secret-of-the-second-sender-"];

const MARK: &str = "X-Countersign-Id-Reused";

/// A route `/ids` for two senders with a key each, as Standard Webhooks sign: id, time and body.
fn route() -> String {
    let key = |at: usize| format!("{{ id = \"{at}\", value = \"whsec_{}\" }}", BASE64_STANDARD.encode(SENDERS[at]));
    format!(
        "path = \"/ids\"\nname = \"ids\"\nscheme = \"standard-webhooks\"\nreplay.mode = \"enforce\"\nsecrets = [{}, {}]",
        key(0),
        key(1)
    )
}

/// A delivery that was signed so many seconds ago.
fn sent(sender: usize, id: &str, body: &[u8], ago: u64) -> Delivery {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - ago;
    let key = hmac::Key::new(hmac::HMAC_SHA256, SENDERS[sender]);
    let tag = hmac::sign(&key, &[format!("{id}.{time}.").as_bytes(), body].concat());
    Delivery::unsigned(body)
        .line("POST /ids HTTP/1.1")
        .field("webhook-id", id)
        .field("webhook-timestamp", &time.to_string())
        .field("webhook-signature", &format!("v1,{}", BASE64_STANDARD.encode(tag)))
}

fn the_same_id_with_another_body_is_a_delivery_of_its_own(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).route(&route()).start();
    let mut client = proxy.connect();
    let large = vec![b'x'; 100_000];
    let mut other = large.clone();
    other[50_000] = b'y';
    for (round, (first, second)) in
        [(&b"{\"n\":1}"[..], &b"{\"n\":2}"[..]), (b"", b"{}"), (&large, &other)].into_iter().enumerate()
    {
        let id = format!("msg_{}", second.len());
        // What a client says under the name of the mark is removed.
        let forwarded = client.ask(&sent(0, &id, first, 2).field(MARK, "true").bytes());
        assert_eq!(forwarded.body, b"ok");
        assert_eq!(client.ask(&sent(1, &id, second, 2).bytes()).body, b"ok", "another sender's");
        for again in [sent(0, &id, first, 2), sent(0, &id, first, 1), sent(1, &id, second, 0), sent(1, &id, first, 0)] {
            let answer = client.ask(&again.bytes());
            assert!(answer.body.starts_with(b"{\"status\":\"duplicate\""), "who sent it, and when, is no difference");
        }
        let requests = application.assert_requests(2 * round + 2).split_off(2 * round);
        assert_eq!([requests[0].body.as_slice(), &requests[1].body], [first, second]);
        assert_eq!((requests[0].all(MARK).len(), requests[1].field(MARK)), (0, "true"));
    }
    let once = [&["forwarded"; 2][..], &["duplicate"; 4]].concat();
    proxy.assert_endings(&[once.clone(), once.clone(), once].concat());
    assert_eq!(proxy.observed()[..6], ["", "id_reused", "", "", "", ""]);
}

fn a_body_under_a_used_id_may_come_again_until_it_is_accepted(driver: Driver) {
    let count = AtomicUsize::new(0);
    let application = Application::following(move |visit| {
        while visit.request().is_some() {
            // All but the third and the fourth are refused.
            let status = if [2, 3].contains(&count.fetch_add(1, Ordering::SeqCst)) { "200 OK" } else { "500 Oops" };
            visit.say(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes());
        }
    });
    let proxy = Proxy::on(driver, &application).route(&route()).start();
    let mut client = proxy.connect();
    let mut ask = |body: &[u8]| client.ask(&sent(0, "msg_1", body, 0).bytes()).status;
    // Neither is accepted: the id is free again.
    assert_eq!([ask(b"1"), ask(b"2")], [500, 500]);
    assert_eq!([ask(b"1"), ask(b"2"), ask(b"1"), ask(b"2")], [200, 200, 200, 200]);
    assert_eq!([ask(b"3"), ask(b"3")], [500, 500]);
    let endings =
        ["forwarded", "forwarded", "forwarded", "forwarded", "duplicate", "duplicate", "forwarded", "forwarded"];
    proxy.assert_endings(&endings);
    assert_eq!(proxy.observed(), ["", "", "", "id_reused", "", "", "id_reused", "id_reused"]);
}

fn bodies_under_one_id_are_told_apart_also_while_they_are_with_the_application(driver: Driver) {
    let (asked, requests) = std::sync::mpsc::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let application = Application::following(move |visit| {
        while visit.request().is_some() {
            asked.send(()).unwrap();
            let Ok(()) = wait.lock().unwrap().recv() else { return };
            visit.say(OK);
        }
    });
    let proxy = Proxy::on(driver, &application).route(&route()).start();
    let mut clients = [proxy.connect(), proxy.connect()];
    for (client, body) in clients.iter_mut().zip([b"1", b"2"]) {
        client.send(&sent(0, "msg_1", body, 0).bytes());
        requests.recv().unwrap();
    }
    let mut third = proxy.connect();
    for body in [b"1", b"2"] {
        assert_eq!(third.ask(&sent(1, "msg_1", body, 0).bytes()).status, 409);
    }
    clients.iter().for_each(|_| go.send(()).unwrap());
    assert!(clients.iter_mut().all(|client| client.answer().body == b"ok"));
    for body in [b"1", b"2"] {
        assert!(third.ask(&sent(1, "msg_1", body, 0).bytes()).body.starts_with(b"{\"status\":\"duplicate\""));
    }
}

fn the_log_shows_a_reused_id(driver: Driver) {
    let application = Application::answering(OK);
    let text = Proxy::on(driver, &application).route(&route()).text();
    let folder = Folder::new();
    let program = Program::run(&folder.write("countersign.toml", &text));
    let mut client = program.connect();
    for body in [b"1", b"2"] {
        assert_eq!(client.ask(&sent(0, "msg_1", body, 0).bytes()).status, 200);
    }
    assert!(eventually(|| program.output().len() == 2), "{:#?}", program.output());
    let second = program.output().pop().unwrap();
    assert!(second.contains("\"reason\":\"forwarded\"") && second.contains("\"observed\":[\"id_reused\"]"), "{second}");
}

/// A compressed body, a token among blanks and a body of which only a part is signed can be written in many ways: a copy of
/// one delivery is a copy in each of them.
fn an_id_alone_tells_deliveries_apart_where_bytes_of_the_body_are_not_signed(driver: Driver) {
    let application = Application::answering(OK);
    let secret = "the-secret-of-a-sender-of-tokens";
    let proxy = Proxy::on(driver, &application)
        .route(&format!("{}\ncontent_encoding = \"decoded\"", route()))
        .route(&format!("path = \"/token\"\nscheme = \"whole\"\nsecrets = [{{ id = \"1\", value = \"{secret}\" }}]\nreplay.mode = \"enforce\""))
        .route(&format!("path = \"/part\"\nscheme = \"mailgun\"\nsecrets = [{{ id = \"1\", value = \"{secret}\" }}]\nreplay.mode = \"enforce\"\n[scheme.whole]\nalgorithm = \"jwt-hs256\"\nsignature = {{ body = true }}\nid = {{ claim = \"jti\" }}\ntoken = {{ expires = true }}"))
        .start();
    let mut client = proxy.connect();
    let mut ask = |delivery: &Delivery| String::from_utf8(client.ask(&delivery.bytes()).body).unwrap();
    let copies = |answers: &[String]| answers.iter().filter(|answer| answer.contains("duplicate")).count();

    let plain = sent(0, "msg_1", b"{}", 1);
    let packed = |time: u8| {
        let deflated = miniz_oxide::deflate::compress_to_vec(b"{}", 9);
        let head = [0x1f, 0x8b, 8, 0, time, 0, 0, 0, 0, 3];
        // CRC-32 of `{}`, and its length.
        [&head[..], &deflated, &0xa3a6_bf43_u32.to_le_bytes(), &2_u32.to_le_bytes()].concat()
    };
    let mut answers: Vec<String> =
        (0..4).map(|time| ask(&plain.clone().with_body(&packed(time)).field("Content-Encoding", "gzip"))).collect();
    answers.push(ask(&plain));
    assert_eq!((answers[0].as_str(), copies(&answers)), ("ok", 4), "{answers:?}");

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let part = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
    let signed = format!(
        "{}.{}",
        part("{\"alg\":\"HS256\"}".to_owned()),
        part(format!("{{\"jti\":\"t1\",\"iat\":{now},\"exp\":{}}}", now + 60))
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())));
    let answers: Vec<String> = [token.clone(), format!("{token}\n"), format!(" {token}\r\n"), format!("\t{token}")]
        .map(|body| ask(&Delivery::unsigned(body.as_bytes()).line("POST /token HTTP/1.1")))
        .to_vec();
    assert_eq!((answers[0].as_str(), copies(&answers)), ("ok", 3), "{answers:?}");

    let tag = hmac::sign(&key, format!("{now}a-token-of-mailgun").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let answers: Vec<String> = ["delivered", "failed", "opened"]
        .map(|event| {
            let body = format!(
                "{{\"signature\":{{\"timestamp\":\"{now}\",\"token\":\"a-token-of-mailgun\",\"signature\":\"{hex}\"}},\"event-data\":{{\"event\":\"{event}\"}}}}"
            );
            ask(&Delivery::unsigned(body.as_bytes()).line("POST /part HTTP/1.1"))
        })
        .to_vec();
    assert_eq!((answers[0].as_str(), copies(&answers)), ("ok", 2), "{answers:?}");
    application.assert_requests(3);
}
