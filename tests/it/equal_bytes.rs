//! Two events with equal bytes, and what they are taken for: with senders whose events can be equal, both are forwarded
//! unless the route has been told otherwise.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::support::child::BINARY;
use crate::support::delivery::SECRET;
use crate::support::{Application, Delivery, Driver, Proxy, on_both_drivers};

on_both_drivers! {
    two_notifications_of_dropbox_are_two_events,
    two_requests_of_twilio_get_two_answers,
    equal_bytes_are_one_event_where_the_sender_says_so,
    signatures_for_public_keys_are_few,
}

const TWIML: &str = "<Response><Play loop=\"0\">menu.mp3</Play></Response>";

fn application() -> Application {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n", TWIML.len());
    Application::answering((head + TWIML).as_bytes())
}

/// A route with this scheme; what it remembers is what the scheme says, if the lines do not say it.
fn route(scheme: &str, lines: &str) -> String {
    format!(
        "path = \"/{scheme}\"\nscheme = \"{scheme}\"\nsecrets = [{{ id = \"1\", value = \"{SECRET}\" }}]\n\
         # Nothing more about replay.\n{lines}"
    )
}

fn tag(algorithm: hmac::Algorithm, content: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, SECRET.as_bytes()), content).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn dropbox() -> Vec<u8> {
    let body = br#"{"list_folder":{"accounts":["dbid:AAH"]},"delta":{"users":[1]}}"#;
    let signature = hex(&tag(hmac::HMAC_SHA256, body));
    Delivery::unsigned(body).line("POST /dropbox HTTP/1.1").field("X-Dropbox-Signature", &signature).bytes()
}

fn two_notifications_of_dropbox_are_two_events(driver: Driver) {
    let application = application();
    let proxy = Proxy::on(driver, &application).route(&route("dropbox", "")).start();
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(client.ask(&dropbox()).body, TWIML.as_bytes());
    }
    application.assert_requests(2);
    proxy.assert_endings(&["forwarded", "forwarded"]);
    // The route can say otherwise.
    let proxy = Proxy::on(driver, &application).route(&route("dropbox", "replay.mode = \"enforce\"")).start();
    let mut client = proxy.connect();
    assert_eq!((client.ask(&dropbox()).status, client.ask(&dropbox()).status), (200, 200));
    proxy.assert_endings(&["forwarded", "duplicate"]);
}

fn two_requests_of_twilio_get_two_answers(driver: Driver) {
    let application = application();
    let lines = route("twilio", "public_url = \"https://h/voice\"");
    let proxy = Proxy::on(driver, &application).route(&lines).start();
    let body = b"CallSid=CA1&Digits=1&From=%2B15550001111";
    let content = b"https://h/voiceCallSidCA1Digits1From+15550001111";
    let signature = STANDARD.encode(tag(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, content));
    let request = Delivery::unsigned(body)
        .line("POST /twilio HTTP/1.1")
        .field("Content-Type", "application/x-www-form-urlencoded")
        .field("X-Twilio-Signature", &signature)
        .bytes();
    let mut client = proxy.connect();
    for _ in 0..2 {
        let answer = client.ask(&request);
        assert_eq!((answer.field("Content-Type"), answer.body.as_slice()), (Some("text/xml"), TWIML.as_bytes()));
    }
    application.assert_requests(2);
    proxy.assert_endings(&["forwarded", "forwarded"]);
}

fn equal_bytes_are_one_event_where_the_sender_says_so(driver: Driver) {
    let application = application();
    let shopify = |body: &[u8]| {
        let signature = STANDARD.encode(tag(hmac::HMAC_SHA256, body));
        Delivery::unsigned(body).line("POST /shopify HTTP/1.1").field("X-Shopify-Hmac-Sha256", &signature).bytes()
    };
    let proxy = Proxy::on(driver, &application).route(&route("shopify", "")).start();
    let mut client = proxy.connect();
    for body in [br#"{"id":1,"updated_at":"2026-01-01T00:00:00Z"}"#, br#"{"id":1,"updated_at":"2026-01-01T00:00:00Z"}"#]
    {
        assert_eq!(client.ask(&shopify(body)).status, 200);
    }
    application.assert_requests(1);
    proxy.assert_endings(&["forwarded", "duplicate"]);
}

#[test]
fn the_list_of_schemes_says_where_replay_is_off() {
    let output = std::process::Command::new(BINARY).arg("schemes").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |name: &str| text.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
    for (name, told_apart) in [
        ("dropbox", "bytes: two equal events"),
        ("meta", "bytes: equal unknown"),
        ("github", "bytes"),
        ("stripe", "time"),
        ("svix", "id"),
        ("token", "nothing"),
    ] {
        let cells: Vec<&str> = line(name).split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert!(cells.contains(&told_apart), "{name}: {cells:?}");
    }
    assert!(line("stripe").contains("  sdk  "), "{text}");
    assert!(text.contains("    handshake: GET ?challenge=: 200 with its value as text\n"), "{text}");
    assert!(text.contains("    retries: 8 within 4 h, the same bytes; 5 s\n"), "{text}");
    assert!(text.contains("    also called: facebook, instagram, messenger, whatsapp\n"), "{text}");
    let output = std::process::Command::new(BINARY).args(["schemes", "dropbox"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("equal_bytes = \"two-events\""));
}

/// What many signatures cost is counted beside the engine (`candidates.rs`); here they arrive, with bodies that take turns.
fn signatures_for_public_keys_are_few(driver: Driver) {
    let application = application();
    let pair = || {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()
    };
    let (first, second) = (pair(), pair());
    let key = |id: usize, pair: &Ed25519KeyPair| {
        format!("{{ id = \"{id}\", value = \"{}\" }}", hex(pair.public_key().as_ref()))
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let lines = format!(
        "path = \"/signed\"\nscheme = \"standard-webhooks-asymmetric\"\nbody_size = \"2MiB\"\npublic_keys = [{}, {}]\n",
        key(1, &first),
        key(2, &second)
    );
    let proxy = Proxy::on(driver, &application).route(&lines).start();
    let body = vec![b'x'; 1 << 20];
    let content = [format!("id1.{now}.").as_bytes(), &body].concat();
    let good = STANDARD.encode(second.sign(&content).as_ref());
    let random = STANDARD.encode([0x5a; 64]);
    let ask = |signatures: &[&str]| {
        let list: Vec<String> = signatures.iter().map(|signature| format!("v1a,{signature}")).collect();
        let request = Delivery::unsigned(&body).line("POST /signed HTTP/1.1").field("webhook-id", "id1");
        let request = request.field("webhook-timestamp", &now.to_string()).field("webhook-signature", &list.join(" "));
        proxy.connect().ask(&request.bytes()).status
    };
    assert_eq!(ask(&[random.as_str(); 16]), 401);
    assert_eq!(ask(&[&random, &random, &random, &random, &good]), 401);
    assert_eq!(ask(&[random.as_str(); 4]), 401);
    assert_eq!(ask(&[&random, "bad", &random, &good]), 200);
    application.assert_requests(1);
    proxy.assert_endings(&["signature_malformed", "signature_malformed", "signature_mismatch", "forwarded"]);
}
