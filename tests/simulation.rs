//! The exchange in memory, with virtual time: every way of cutting the input into pieces gives the same result, slow
//! clients and broken applications end as the table says, and nothing unverified reaches the application.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::cell::RefCell;
use std::future::Future;
use std::hash::RandomState;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use countersign::edge::clock::Clock;
use countersign::edge::drain::DrainStage;
use countersign::edge::net::Net;
use countersign::edge::peer::PeerOrigin;
use countersign::edge::pipe::{Reaction, VirtualNet};
use countersign::edge::policy::{Addresses, Limits, ListenerId, Live, Policy, Target, Upstream};
use countersign::edge::serve;
use countersign::edge::snapshot::Published;
use countersign::edge::worker::{Observer, Shared, Worker};
use countersign::gate::Gate;
use countersign::gate::admission::{Admission, Held};
use countersign::gate::allowlist::AllowList;
use countersign::gate::believed::KeptFields;
use countersign::gate::client::Door;
use countersign::gate::identity::CallerList;
use countersign::gate::limits::AdmissionLimits;
use countersign::gate::networks::Network;
use countersign::gate::observe::Observe;
use countersign::gate::pattern::PathPattern;
use countersign::gate::replay::ReplayPolicy;
use countersign::gate::route::{Route, RouteKey, RouteTable};
use countersign::gate::route_admission::RouteAdmission;
use countersign::gate::verify::{Key, Keyring, Kind, MacAlgorithm, Scheme, Syntax, Template, Validity, Verifier};
use countersign::ledger::{Ledger, Seed};
use countersign::telemetry::exchange::Exchange;
use countersign::telemetry::metrics::Metrics;
use countersign::wire::head::HeadLimits;
use proptest::prelude::*;

const SECRET: &[u8] = b"correct-horse-battery-staple-0123456789";

fn verifier() -> Verifier {
    let content = Template::parse("{body}").unwrap();
    let mut scheme = Scheme::new("github", Kind::Hmac(MacAlgorithm::HmacSha256), "X-Hub-Signature-256", content);
    scheme.syntax = Syntax::Single { prefix: "sha256=".to_owned() };
    let key = Key::from_secret("k", &scheme, SECRET, Validity::default()).unwrap();
    Verifier::new(Arc::new(scheme), Keyring::new(vec![key]), None, None).unwrap()
}

fn route() -> Route {
    let key = RouteKey { host: None, path: PathPattern::parse("/hook").unwrap(), methods: vec!["POST".to_owned()] };
    Route {
        name: "hook".to_owned(),
        key,
        verifier: verifier(),
        body_limit: 100_000,
        upstream: 0,
        clients: AllowList::default(),
        callers: CallerList::default(),
        kept: KeptFields::default(),
        observe: Observe::default(),
        admission: RouteAdmission::default(),
        replay: None,
        challenges: None,
        durable: None,
    }
}

fn policy() -> Policy {
    Policy {
        gate: Gate { routes: RouteTable::new(vec![route()]).unwrap(), upstreams: Vec::new(), doors: Vec::new() },
        durable: Vec::new(),
        limits: Limits {
            head: HeadLimits { size: 16 << 10, fields: 100, target: 8 << 10 },
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            requests_per_connection: 1000,
            body_rate_min: 0,
        },
        upstreams: vec![Upstream {
            target: Target::Tcp(Arc::new(Addresses::new("app".to_owned(), Vec::new()))),
            tls: None,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(4),
            idle_connections: 8,
            reuse_after: Duration::ZERO,
        }],
        live: Live { listeners: vec![ListenerId::default()], ..Live::default() },
    }
}

fn admission() -> Arc<Admission> {
    Arc::new(Admission::new(AdmissionLimits::default(), RandomState::new()))
}

#[derive(Default)]
struct Codes(Mutex<Vec<&'static str>>);

impl Observer for Codes {
    fn exchange(&self, exchange: &Exchange<'_>) {
        self.0.lock().unwrap().push(exchange.outcome.code());
    }
    fn accept_failed(&self, _: &io::Error) {}
}

/// What came of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    codes: Vec<&'static str>,
    statuses: Vec<u16>,
    delivered: Vec<Vec<u8>>,
    answer: String,
    /// From the first byte to the end of the connection.
    lasted: Duration,
}

/// A client's whole input through the proxy, in pieces of `grain` bytes, to an application that answers each complete
/// request with `reply`.
fn converse(input: &[u8], closed: bool, grain: usize, reply: Reaction) -> Outcome {
    converse_under(policy(), input, closed, (grain, reply))
}

/// A listener that takes connections from the peer of the tests alone, and with a header of the PROXY protocol.
fn balanced() -> Policy {
    let proxies = Network::parse("192.0.2.1").into_iter().collect();
    let mut policy = policy();
    policy.gate.doors = vec![Door { proxies, proxy_protocol: true }];
    policy
}

fn converse_under(policy: Policy, input: &[u8], closed: bool, (grain, reply): (usize, Reaction)) -> Outcome {
    let delivered = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&delivered);
    let application = move |received: &[u8]| match complete(received) {
        Some(body) => {
            seen.borrow_mut().push(body);
            reply.clone()
        }
        None => Reaction::default(),
    };
    let net = VirtualNet::new(grain, Some(Rc::new(RefCell::new(application))));
    let outcome = converse_in(&net, policy, input, closed);
    Outcome { delivered: delivered.take(), ..outcome }
}

/// A client's whole input through the proxy, to the application of `net`, which says for itself what it was sent.
fn converse_in(net: &VirtualNet, policy: Policy, input: &[u8], closed: bool) -> Outcome {
    let codes = Arc::new(Codes::default());
    let observer: Arc<dyn Observer> = Arc::<Codes>::clone(&codes);
    let shared = Shared {
        policy: Arc::new(Published::new(policy)),
        clock: Clock::start(),
        metrics: Metrics::new(1),
        observer,
        pseudonym: Arc::from(&b"countersign-0"[..]),
        spool: None,
        admission: admission(),
    };
    let worker = Rc::new(Worker::new(net.clone(), &shared, 0));
    let client = net.client(input, closed);
    let origin = PeerOrigin { peer: "192.0.2.1".parse().ok(), listener: ListenerId::default() };
    let permit = worker.open(origin).unwrap();
    let outbox = Rc::clone(&client.outbox);
    let begun = net.monotonic();
    net.run(serve::serve(worker, client, origin, permit)).expect("the connection ends");
    let lasted = net.monotonic() - begun;
    let answer = String::from_utf8_lossy(&outbox.borrow()).into_owned();
    let statuses =
        answer.match_indices("HTTP/1.1 ").filter_map(|(at, _)| answer.get(at + 9..at + 12)?.parse().ok()).collect();
    assert_eq!(shared.admission.held(), Held::default(), "what was granted has been released");
    let codes = codes.0.lock().unwrap().clone();
    Outcome { codes, statuses, delivered: Vec::new(), answer, lasted }
}

/// The body of a request that the proxy has sent, once it is whole.
fn complete(received: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(received);
    let end = text.find("\r\n\r\n")? + 4;
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "))?.trim().parse::<usize>().ok()?;
    let body = received.get(end..)?;
    (body.len() >= length).then(|| body.to_vec())
}

fn signature(body: &[u8]) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
    let tag = ring::hmac::sign(&key, body);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn delivery(body: &[u8], signed: &[u8], chunks: Option<&[usize]>) -> Vec<u8> {
    let mut request =
        format!("POST /hook HTTP/1.1\r\nHost: a\r\nX-Hub-Signature-256: sha256={}\r\n", signature(signed));
    let Some(chunks) = chunks else {
        request += &format!("Content-Length: {}\r\n\r\n", body.len());
        return [request.as_bytes(), body].concat();
    };
    request += "Transfer-Encoding: chunked\r\n\r\n";
    let mut bytes = request.into_bytes();
    let mut rest = body;
    for size in chunks {
        let (chunk, left) = rest.split_at((*size).min(rest.len()));
        rest = left;
        if !chunk.is_empty() {
            bytes.extend(format!("{:x};ext=1\r\n", chunk.len()).bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    if !rest.is_empty() {
        bytes.extend(format!("{:X}\r\n", rest.len()).bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
    bytes
}

fn ok() -> Reaction {
    Reaction { reply: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(), close: false }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Pipelined genuine and forged deliveries, with and without chunks, cut anywhere: each ends as it must, and the
    /// application sees the genuine bodies, byte for byte and in order.
    #[test]
    fn any_cut_gives_the_same_result(
        deliveries in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 1..9000), any::<bool>(), prop::option::of(prop::collection::vec(1_usize..3000, 0..6))),
            1..5,
        ),
        grain in prop_oneof![Just(1_usize), 2_usize..40, 100_usize..5000, Just(usize::MAX)],
    ) {
        let mut input = Vec::new();
        for (body, genuine, chunks) in &deliveries {
            let mut signed = body.clone();
            if !genuine {
                signed[0] ^= 1;
            }
            input.extend(delivery(body, &signed, chunks.as_deref()));
        }
        let outcome = converse(&input, true, grain, ok());
        let expected: Vec<_> = deliveries.iter().map(|(_, genuine, _)| if *genuine { "forwarded" } else { "signature_mismatch" }).collect();
        prop_assert_eq!(&outcome.codes, &expected);
        let genuine: Vec<_> = deliveries.iter().filter(|(_, genuine, _)| *genuine).map(|(body, ..)| body.clone()).collect();
        prop_assert_eq!(&outcome.delivered, &genuine);
        prop_assert_eq!(outcome.statuses.len(), deliveries.len());
    }

    /// The same behind a load balancer, whose header comes in pieces too; and noise in its place ends the connection.
    #[test]
    fn any_cut_behind_a_load_balancer_gives_the_same_result(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..3000), 1..4),
        header in prop::sample::select(vec![
            b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\r\n".to_vec(),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x12\x67\0\x50".to_vec(),
        ]),
        noise in prop::collection::vec(any::<u8>(), 0..700),
        grain in prop_oneof![Just(1_usize), 2_usize..40, 100_usize..5000],
    ) {
        let deliveries: Vec<u8> = bodies.iter().flat_map(|body| delivery(body, body, None)).collect();
        let outcome = converse_under(balanced(), &[header, deliveries.clone()].concat(), true, (grain, ok()));
        prop_assert_eq!(&outcome.codes, &vec!["forwarded"; bodies.len()]);
        prop_assert_eq!(&outcome.delivered, &bodies);
        let outcome = converse_under(balanced(), &[noise, deliveries].concat(), true, (grain, ok()));
        prop_assert!(outcome.codes.is_empty() && outcome.delivered.is_empty() && outcome.answer.is_empty());
    }

    /// Whatever a stranger sends, nothing reaches the application and the connection ends.
    #[test]
    fn noise_reaches_no_application(input in prop::collection::vec(any::<u8>(), 0..2000), grain in 1_usize..500) {
        let outcome = converse(&input, true, grain, ok());
        prop_assert!(outcome.delivered.is_empty());
    }

    /// However the application's answer is framed and cut, the client reads the same payload.
    #[test]
    fn answers_arrive_whole(body in prop::collection::vec(any::<u8>(), 0..60_000), chunk in 1_usize..5000, grain in 1_usize..30_000) {
        let length = [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
        let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for piece in body.chunks(chunk) {
            chunked.extend(format!("{:x}\r\n", piece.len()).bytes());
            chunked.extend_from_slice(piece);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        let until_close = [b"HTTP/1.1 200 OK\r\n\r\n", body.as_slice()].concat();
        let request = delivery(b"x", b"x", None);
        for (reply, close) in [(length, false), (chunked, false), (until_close, true)] {
            let net_reply = Reaction { reply, close };
            let raw = raw_answer(&request, grain, net_reply);
            prop_assert_eq!(payload(&raw), Some(body.clone()));
        }
    }
}

fn raw_answer(request: &[u8], grain: usize, reply: Reaction) -> Vec<u8> {
    let application =
        move |received: &[u8]| if complete(received).is_some() { reply.clone() } else { Reaction::default() };
    let net = VirtualNet::new(grain, Some(Rc::new(RefCell::new(application))));
    let observer: Arc<dyn Observer> = Arc::new(Codes::default());
    let shared = Shared {
        policy: Arc::new(Published::new(policy())),
        clock: Clock::start(),
        metrics: Metrics::new(1),
        observer,
        pseudonym: Arc::from(&b"countersign-0"[..]),
        spool: None,
        admission: admission(),
    };
    let worker = Rc::new(Worker::new(net.clone(), &shared, 0));
    let client = net.client(request, true);
    let outbox = Rc::clone(&client.outbox);
    let permit = worker.open(PeerOrigin::default()).unwrap();
    net.run(serve::serve(worker, client, PeerOrigin::default(), permit)).expect("the connection ends");
    outbox.take()
}

/// The payload of one answer, by its own framing; `None` when it is not whole.
fn payload(answer: &[u8]) -> Option<Vec<u8>> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(answer.get(..end)?).into_owned();
    let mut rest = answer.get(end..)?;
    if let Some(length) = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")) {
        return (rest.len() == length.parse::<usize>().ok()?).then(|| rest.to_vec());
    }
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    let mut payload = Vec::new();
    loop {
        let line = memchr::memmem::find(rest, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(rest.get(..line)?).ok()?, 16).ok()?;
        rest = rest.get(line + 2..)?;
        payload.extend_from_slice(rest.get(..size)?);
        assert_eq!(rest.get(size..size + 2), Some(&b"\r\n"[..]));
        rest = rest.get(size + 2..)?;
        if size == 0 {
            return rest.is_empty().then_some(payload);
        }
    }
}

#[test]
fn a_slow_head_ends_in_408_when_its_time_is_up() {
    let outcome = converse(b"POST /hook HTTP/1.1\r\nHost: a\r\n", false, 3, ok());
    assert_eq!((outcome.codes.as_slice(), outcome.statuses.as_slice()), (&["head_timeout"][..], &[408][..]));
}

#[test]
fn a_body_that_never_comes_ends_in_408() {
    let mut input = delivery(b"0123456789", b"0123456789", None);
    input.truncate(input.len() - 1);
    let outcome = converse(&input, false, 50, ok());
    assert_eq!(outcome.codes, ["body_timeout"]);
    assert!(outcome.delivered.is_empty());
}

#[test]
fn a_client_that_goes_in_the_middle_gets_no_answer() {
    let mut input = delivery(b"0123456789", b"0123456789", None);
    input.truncate(input.len() - 1);
    let outcome = converse(&input, true, 50, ok());
    assert_eq!((outcome.codes.as_slice(), outcome.answer.as_str()), (&["downstream_closed"][..], ""));
}

#[test]
fn broken_answers_become_502_and_broken_off_ones_a_broken_response() {
    let request = delivery(b"x", b"x", None);
    let replies: [(&[u8], bool, &str); 9] = [
        (b"nonsense\r\n\r\n", false, "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", false, "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", false, "upstream_malformed"),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", false, "upstream_malformed"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", false, "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false, "upstream_malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", true, "upstream_closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", true, "upstream_truncated"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", false, "upstream_truncated"),
    ];
    for (reply, close, code) in replies {
        let outcome = converse(&request, true, usize::MAX, Reaction { reply: reply.to_vec(), close });
        assert_eq!(outcome.codes, [code], "{}", String::from_utf8_lossy(reply));
        let status = if code == "upstream_truncated" { 200 } else { 502 };
        assert_eq!(outcome.statuses, [status], "{}", String::from_utf8_lossy(reply));
        assert_eq!(payload(outcome.answer.as_bytes()).is_some(), status == 502);
    }
}

/// Bytes that came beyond an answer are there before the next request is: they are no answer to it, however long the
/// application had sent nothing of the kind.
#[test]
fn a_connection_is_looked_at_before_each_use() {
    const QUIET: usize = 1_200;
    let reply = ok().reply;
    let mut answered = 0;
    let answer = reply.clone();
    let application = move |received: &[u8]| match complete(received) {
        Some(_) => {
            answered += 1;
            let stray: &[u8] = if answered == QUIET { b"HTTP/1.1 204 stray\r\n\r\n" } else { b"" };
            Reaction { reply: [&answer, stray].concat(), close: false }
        }
        None => Reaction::default(),
    };
    // A read brings an answer and nothing that is behind it.
    let net = VirtualNet::new(reply.len(), Some(Rc::new(RefCell::new(application))));
    let mut policy = policy();
    policy.limits.requests_per_connection = u64::MAX;
    let outcome = converse_in(&net, policy, &delivery(b"x", b"x", None).repeat(QUIET + 2), true);
    assert_eq!(outcome.statuses, vec![200; QUIET + 2]);
    assert_eq!(net.connects.get(), 2, "the connection is dropped, and the next one is used to the end");
}

proptest! {
    /// An application that takes any part of a delivery, in any pieces, and answers as soon as it has the head, or after
    /// any part of the body, or never.
    #[test]
    fn an_answer_counts_whenever_it_comes(
        length in 1_usize..60_000,
        mouthful in 1_usize..20_000,
        appetite in prop_oneof![Just(usize::MAX), 400_usize..60_000],
        at in prop::option::of(400_usize..60_000),
        status in prop::sample::select(vec![200_u16, 204, 302, 413, 500]),
        interim in any::<bool>(),
    ) {
        let taken = Rc::new(RefCell::new(Vec::new()));
        let (seen, mut before, mut said) = (Rc::clone(&taken), Vec::new(), false);
        let application = move |received: &[u8]| {
            // It is shown what has come since it last said something.
            let all = [&before, received].concat();
            seen.replace(all.clone());
            let whole = complete(&all).is_some();
            let is_time = !said && (whole || at.is_some_and(|at| all.len() >= at));
            let hint = interim && before.is_empty();
            if !is_time && !hint {
                return Reaction::default();
            }
            before = all;
            said |= is_time;
            let mut reply = if hint { b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec() } else { Vec::new() };
            if is_time {
                reply.extend(format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").bytes());
            }
            Reaction { reply, close: false }
        };
        let mouthful = mouthful.max(appetite.min(1 << 20) / 500).max(length / 500);
        let net = VirtualNet::new(1000, Some(Rc::new(RefCell::new(application)))).taking(mouthful, appetite);
        let body = vec![b'x'; length];
        let outcome = converse_in(&net, policy(), &delivery(&body, &body, None), true);
        let all = taken.borrow().clone();
        let is_whole = complete(&all).is_some_and(|found| found == body);
        let answered = is_whole || at.is_some_and(|at| all.len() >= at);
        prop_assert_eq!(&outcome.statuses, &[if answered { status } else { 504 }]);
        prop_assert_eq!(&outcome.codes, &[if answered { "forwarded" } else { "upstream_timeout" }]);
        if appetite == usize::MAX && (200..300).contains(&status) {
            prop_assert!(is_whole, "what is accepted arrives whole");
        }
        prop_assert_eq!(net.connects.get(), 1);
    }
}

#[test]
fn an_application_that_says_nothing_ends_in_504() {
    let outcome = converse(&delivery(b"x", b"x", None), false, usize::MAX, Reaction::default());
    assert_eq!((outcome.codes.as_slice(), outcome.statuses.as_slice()), (&["upstream_timeout"][..], &[504][..]));
}

#[test]
fn an_exchange_that_is_dropped_releases_its_claim() {
    let rule = ReplayPolicy::with_tolerance(Duration::ZERO);
    let table = Arc::new(Ledger::new(rule.capacity, &Seed::new(&[7; Seed::LENGTH])));
    let mut policy = policy();
    let mut route = route();
    route.replay = Some(rule);
    policy.gate.routes = RouteTable::new(vec![route]).unwrap();
    policy.live.ledgers = vec![Some(Arc::clone(&table))];
    let net = VirtualNet::new(usize::MAX, Some(Rc::new(RefCell::new(|_: &[u8]| Reaction::default()))));
    let shared = Shared {
        policy: Arc::new(Published::new(policy)),
        clock: Clock::start(),
        metrics: Metrics::new(1),
        observer: Arc::new(Codes::default()),
        pseudonym: Arc::from(&b"countersign-0"[..]),
        spool: None,
        admission: admission(),
    };
    let worker = Rc::new(Worker::new(net.clone(), &shared, 0));
    let client = net.client(&delivery(b"x", b"x", None), false);
    let permit = worker.open(PeerOrigin::default()).unwrap();
    let mut exchange = Box::pin(serve::serve(worker, client, PeerOrigin::default(), permit));
    assert!(exchange.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(table.held(), 1, "it is with the application");
    drop(exchange);
    assert_eq!(table.held(), 0);
}

/// Connections of a worker that is closing, or of a listener that is closed: what has been sent is answered, with
/// `Connection: close`; a client that has just connected is given a second; nothing else is waited for.
#[test]
fn a_connection_that_must_go_serves_what_has_been_sent() {
    let request = delivery(b"x", b"x", None);
    for closed_listener in [false, true] {
        for (input, grain, answered) in [(request.as_slice(), usize::MAX, true), (&request, 3, true), (b"", 1, false)] {
            let application = |received: &[u8]| if complete(received).is_some() { ok() } else { Reaction::default() };
            let net = VirtualNet::new(grain, Some(Rc::new(RefCell::new(application))));
            let mut policy = policy();
            if closed_listener {
                policy.live.listeners.clear();
            }
            let shared = Shared {
                policy: Arc::new(Published::new(policy)),
                clock: Clock::start(),
                metrics: Metrics::new(1),
                observer: Arc::new(Codes::default()),
                pseudonym: Arc::from(&b"countersign-0"[..]),
                spool: None,
                admission: admission(),
            };
            let worker = Rc::new(Worker::new(net.clone(), &shared, 0));
            if !closed_listener {
                worker.drain.advance(DrainStage::Closing);
            }
            let client = net.client(input, false);
            let outbox = Rc::clone(&client.outbox);
            let permit = worker.open(PeerOrigin::default()).unwrap();
            let begun = net.monotonic();
            net.run(serve::serve(worker, client, PeerOrigin::default(), permit)).expect("the connection ends");
            let answer = String::from_utf8_lossy(&outbox.borrow()).into_owned();
            assert_eq!(answer.starts_with("HTTP/1.1 200 OK\r\n"), answered, "{answer:?}");
            assert_eq!(answer.contains("Connection: close\r\n"), answered, "{answer:?}");
            if !answered {
                assert_eq!(net.monotonic() - begun, Duration::from_secs(1));
            }
        }
    }
}

/// A client that has announced its last request, and has sent all of it, is not waited for when it is answered or
/// refused. Where something of it has not been read, or may come, closing would reset the answer.
#[test]
fn only_who_has_said_all_is_not_waited_for() {
    const WAITED: Duration = Duration::from_secs(2);
    let close = |request: Vec<u8>| {
        let rest = request.strip_prefix(b"POST /hook HTTP/1.1\r\n".as_slice()).unwrap().to_vec();
        [b"POST /hook HTTP/1.1\r\nConnection: close\r\n".as_slice(), &rest].concat()
    };
    let (genuine, forged) = (close(delivery(b"body", b"body", None)), close(delivery(b"body", b"other", None)));
    let chunked = close(delivery(b"body", b"body", Some(&[1, 2])));
    let old = [b"POST /hook HTTP/1.0\r\n".as_slice(), genuine.split_at(21).1].concat();
    let looping = [b"POST /hook HTTP/1.1\r\nVia: 1.1 countersign-0\r\n", genuine.split_at(40).1].concat();
    let with = |request: &[u8], more: &[u8]| [request, more].concat();
    let elsewhere = b"POST /elsewhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n".as_slice();
    for (name, input, status, lasted) in [
        ("genuine", genuine.clone(), 200, Duration::ZERO),
        ("chunks and a trailer", chunked.clone(), 200, Duration::ZERO),
        ("HTTP/1.0", old, 200, Duration::ZERO),
        ("forged", forged.clone(), 401, Duration::ZERO),
        ("nothing to read", with(elsewhere, b"\r\n"), 404, Duration::ZERO),
        ("an empty line behind it", with(&genuine, b"\r\n"), 200, WAITED),
        ("a request behind it", with(&genuine, &genuine), 200, WAITED),
        ("a request behind chunks", with(&chunked, &genuine), 200, WAITED),
        ("a request behind a refused one", with(&forged, &genuine), 401, WAITED),
        ("a body that is on its way", with(elsewhere, b"Content-Length: 4\r\n\r\n"), 404, WAITED),
        ("a body that is invited", with(elsewhere, b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n"), 404, WAITED),
        ("chunks that are not read", with(elsewhere, b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 404, WAITED),
        ("nothing that can be read", b"TRACE nonsense\r\n\r\n".to_vec(), 400, WAITED),
        ("not its last request", looping, 508, WAITED),
    ] {
        for grain in [usize::MAX, 7] {
            let outcome = converse(&input, false, grain, ok());
            assert_eq!((outcome.statuses.as_slice(), outcome.lasted), (&[status][..], lasted), "{name}");
        }
        // Who has closed its side has said all, whatever it was.
        assert_eq!(converse(&input, true, usize::MAX, ok()).lasted, Duration::ZERO, "{name}");
    }
}

#[test]
fn interim_answers_are_read_over() {
    let reply = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n".to_vec();
    let outcome = converse(&delivery(b"x", b"x", None), true, 7, Reaction { reply, close: false });
    assert_eq!(outcome.statuses, [204]);
}
