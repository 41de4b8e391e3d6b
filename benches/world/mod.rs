//! What counts of whole exchanges are taken in: a worker in memory under a configuration as a user writes it, and the
//! deliveries that come to it. Nothing here waits, and the same input takes the same path every time.

use std::cell::RefCell;
use std::fs::{create_dir_all, remove_dir_all, write};
use std::hash::RandomState;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign::config::load::load;
use countersign::control::meters::meters;
use countersign::control::plan::plan;
use countersign::control::supervisor::Plan;
use countersign::edge::clock::Clock;
use countersign::edge::peer::PeerOrigin;
use countersign::edge::pipe::{Reaction, VirtualNet};
use countersign::edge::policy::ListenerId;
use countersign::edge::serve;
use countersign::edge::snapshot::Published;
use countersign::edge::spool::SpoolSide;
use countersign::edge::worker::{Observer, Shared, Worker};
use countersign::gate::admission::Admission;
use countersign::gate::route_buckets::RouteBuckets;
use countersign::gate::token_bucket::Rate;
use countersign::ledger::{Ledgers, Seed};
use countersign::now::Now;
use countersign::telemetry::access_log::json;
use countersign::telemetry::exchange::Exchange;
use countersign::telemetry::line::TimeText;
use countersign::telemetry::metrics::Metrics;

/// The secret of the route `/hook`.
pub(crate) const SECRET: &str = "correct-horse-battery-staple-0123456789";

/// What the application answers.
pub(crate) const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok";

/// The last byte of every body, and of nothing else that an application is sent: by it, it knows the end.
pub(crate) const LAST: u8 = b'!';

/// What is special about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Genuine.
    Genuine,
    /// Genuine, its body in chunks of a kibibyte.
    Chunked,
    /// Without a signature: refused before its body is read.
    Unsigned,
    /// With a wrong signature: refused when its body has been hashed.
    Forged,
}

/// Delivery number `number` to `/hook` with a body of `size` bytes, as GitHub would send it.
pub(crate) fn delivery(kind: Kind, size: usize, number: usize) -> Vec<u8> {
    let mut body = format!("{{\"number\": {number:10}}}").into_bytes();
    body.resize(size - 1, b'x');
    body.push(LAST);
    let secret = if kind == Kind::Forged { "another" } else { SECRET };
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let tag: String = ring::hmac::sign(&key, &body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let signature = if kind == Kind::Unsigned { "X-Nothing: " } else { "X-Hub-Signature-256: sha256=" };
    let (framing, body) = match kind {
        Kind::Chunked => ("Transfer-Encoding: chunked".to_owned(), chunks(&body)),
        _ => (format!("Content-Length: {size}"), body),
    };
    let head = format!(
        "POST /hook HTTP/1.1\r\nHost: hooks.example.com\r\nUser-Agent: GitHub-Hookshot/044aadd\r\nAccept: */*\r\n\
         Content-Type: application/json\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958\r\n\
         {signature}{tag}\r\n{framing}\r\n\r\n"
    );
    [head.as_bytes(), &body].concat()
}

fn chunks(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(1 << 10) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// A plan from a configuration with one route `/hook`, which remembers deliveries; `lines` are added in front of it. What
/// it remembers lies in one part, whose memory is taken with the first delivery; the usual capacity has sixteen.
pub(crate) fn plan_of(lines: &str) -> (Plan, countersign::config::load::Loaded) {
    plan_with(lines, "")
}

/// The same with more keys of the route.
pub(crate) fn plan_with(lines: &str, route: &str) -> (Plan, countersign::config::load::Loaded) {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n{lines}\n[[route]]\nname = \"hook\"\npath = \"/hook\"\n\
         scheme = \"github\"\nsecrets = [{{ id = \"k\", value = \"{SECRET}\" }}]\n\
         replay.capacity = 10000\n{route}\n"
    );
    let folder = std::env::temp_dir().join(format!("countersign-world-{}", std::process::id()));
    create_dir_all(&folder).unwrap();
    let path = folder.join("countersign.toml");
    write(&path, text).unwrap();
    let read = || load(&path).unwrap_or_else(|problems| panic!("{problems:?}"));
    let (mut planned, loaded) = (plan(read()).0, read());
    remove_dir_all(&folder).unwrap();
    // Refusals are to be those of the verification: the bucket is never empty.
    planned.admission.unverified_per_client = Rate::per_second(Rate::TOKEN_LIMIT, Rate::TOKEN_LIMIT);
    (planned, loaded)
}

/// Makes the access log's line of every exchange, in memory, and shows the exchange to `F`.
pub(crate) struct Scribe<F> {
    line: Mutex<(Vec<u8>, TimeText)>,
    each: F,
}

impl<F> Scribe<F> {
    /// With whom exchanges are shown to.
    pub(crate) fn new(each: F) -> Self {
        Self { line: Mutex::new((Vec::with_capacity(8 << 10), TimeText::default())), each }
    }
}

impl<F: Fn(&Exchange<'_>) + Send + Sync> Observer for Scribe<F> {
    fn exchange(&self, exchange: &Exchange<'_>) {
        let mut guard = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let (line, stamp) = &mut *guard;
        line.clear();
        json(line, exchange, stamp, false);
        (self.each)(exchange);
    }

    fn accept_failed(&self, _: &io::Error) {}
}

/// A worker in memory.
pub(crate) struct World {
    net: VirtualNet,
    worker: Rc<Worker<VirtualNet>>,
}

impl World {
    /// A worker whose reads bring at most `grain` bytes, with an application that has so many `replies` to give.
    pub(crate) fn new(grain: usize, replies: usize, observer: Arc<dyn Observer>) -> Self {
        let plan = plan_of("[upstream]\naddress = \"127.0.0.1:9\"").0;
        Self::of(plan, (grain, replies), observer, None)
    }

    /// The same, whose deliveries are stored by `spool`.
    #[allow(dead_code, reason = "some of those who take this file in store nothing")]
    pub(crate) fn durable(grain: usize, observer: Arc<dyn Observer>, spool: Arc<dyn SpoolSide>) -> Self {
        let inbox = "[upstream]\naddress = \"127.0.0.1:9\"\n[inbox]\ndirectory = \"inbox\"";
        let plan = plan_with(inbox, "acknowledge = \"durable\"").0;
        Self::of(plan, (grain, 0), observer, Some(spool))
    }

    fn of(
        plan: Plan,
        (grain, replies): (usize, usize),
        observer: Arc<dyn Observer>,
        spool: Option<Arc<dyn SpoolSide>>,
    ) -> Self {
        let Plan { mut policy, admission, .. } = plan;
        let metrics = Metrics::new(1);
        policy.live.listeners = vec![ListenerId::default()];
        // Virtual time stands still between two exchanges, so that no connection would ever have rested.
        policy.upstreams.iter_mut().for_each(|upstream| upstream.reuse_after = Duration::ZERO);
        let routes = policy.gate.routes.routes();
        policy.live.ledgers = Ledgers::new(Seed::new(&[7; Seed::LENGTH])).of(routes, Now::at_unix(Duration::ZERO));
        policy.live.route_buckets = RouteBuckets::default().of(routes, Duration::ZERO);
        policy.live.meters = meters(&metrics, &policy.gate);
        // Replies are made before anything is counted.
        let mut replies = vec![REPLY.to_vec(); replies];
        let application = move |received: &[u8]| {
            let whole = received.last() == Some(&LAST);
            let reply = if whole { replies.pop().unwrap() } else { Vec::new() };
            Reaction { reply, close: false }
        };
        let net = VirtualNet::new(grain, Some(Rc::new(RefCell::new(application))));
        let shared = Shared {
            policy: Arc::new(Published::new(policy)),
            clock: Clock::start(),
            metrics,
            observer,
            pseudonym: Arc::from(&b"countersign-0"[..]),
            spool,
            admission: Arc::new(Admission::new(admission, RandomState::new())),
        };
        Self { worker: Rc::new(Worker::new(net.clone(), &shared, 0)), net }
    }

    /// One connection that sends `input`, from its beginning to its end. Gives the number of connections that have been
    /// made to the application so far.
    pub(crate) fn converse(&self, input: &[u8]) -> usize {
        let origin = PeerOrigin { peer: "192.0.2.1".parse().ok(), listener: ListenerId::default() };
        let client = self.net.client(input, true);
        // Answers are a few hundred bytes.
        let outbox = Rc::clone(&client.outbox);
        outbox.borrow_mut().reserve(input.len() + (1 << 20));
        let permit = self.worker.open(origin).unwrap();
        self.net.run(serve::serve(Rc::clone(&self.worker), client, origin, permit)).unwrap();
        self.net.connects.get()
    }
}
