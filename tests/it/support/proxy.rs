//! The proxy, in this process, from a configuration file.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use countersign::config::load::load;
use countersign::control::plan::plan;
use countersign::control::supervisor::{self, Applied, Running, StartError, Witnesses};
use countersign::edge::worker::Observer;
use countersign::gate::admission::Held;
use countersign::outcome::ConnectionEnd;
use countersign::telemetry::exchange::Exchange;
use countersign::telemetry::handshake::RefusedCertificate;
use countersign::telemetry::metrics::Metrics;
use countersign::wire::head::ResponseError;

use super::delivery::{OLDER_SECRET, SECRET};
use super::folder::Folder;
use super::{Application, Client, eventually};

pub(crate) use countersign::edge::driver::Driver;

/// What the configuration says beyond the usual.
#[derive(Clone)]
pub(crate) struct Plan {
    driver: Driver,
    listeners: Vec<String>,
    listener_lines: String,
    drain: [String; 2],
    workers: usize,
    upstream: String,
    upstream_lines: String,
    limits: String,
    route_lines: String,
    replay: String,
    more_routes: String,
    files: Vec<(String, String)>,
}

impl Plan {
    /// Adds a line to `[limits]`.
    pub(crate) fn limit(mut self, line: &str) -> Self {
        let _ = writeln!(self.limits, "{line}");
        self
    }

    /// Adds a line to the last `[[listener]]`.
    pub(crate) fn listener_line(mut self, line: &str) -> Self {
        let _ = writeln!(self.listener_lines, "{line}");
        self
    }

    /// Encrypts the last `[[listener]]`, with these lines.
    pub(crate) fn tls(self, lines: &str) -> Self {
        self.listener_line(&format!("[listener.tls]\n{lines}"))
    }

    /// Adds a line to `[upstream]`.
    pub(crate) fn upstream(mut self, line: &str) -> Self {
        let _ = writeln!(self.upstream_lines, "{line}");
        self
    }

    /// Adds a line to the route `/hook`.
    pub(crate) fn route_line(mut self, line: &str) -> Self {
        let _ = writeln!(self.route_lines, "{line}");
        self
    }

    /// Puts a file beside the configuration.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// What the route `/hook` remembers, as the configuration has it; nothing is usual, because most tests send the same
    /// delivery again and again.
    pub(crate) fn replay(mut self, policy: &str) -> Self {
        self.replay = policy.to_owned();
        self
    }

    /// Adds a `[[route]]`, without its header. It remembers nothing either unless its lines say so.
    pub(crate) fn route(mut self, lines: &str) -> Self {
        let replay = if lines.contains("replay") { "" } else { "replay.mode = \"off\"" };
        let _ = writeln!(self.more_routes, "[[route]]\n{lines}\n{replay}");
        self
    }

    pub(crate) fn listeners(mut self, count: usize) -> Self {
        self.listeners = vec!["127.0.0.1:0".to_owned(); count];
        self
    }

    /// Listens on these addresses.
    pub(crate) fn listening_on(mut self, addresses: &[SocketAddr]) -> Self {
        self.listeners = addresses.iter().map(SocketAddr::to_string).collect();
        self
    }

    /// Stops with this delay and grace period; neither is usual.
    pub(crate) fn drain(mut self, delay: &str, grace: &str) -> Self {
        self.drain = [delay.to_owned(), grace.to_owned()];
        self
    }

    /// Forwards to another application.
    pub(crate) fn to(mut self, application: &Application) -> Self {
        self.upstream = application.address();
        self
    }

    /// One is usual, so that what one connection leaves behind is met by the next.
    pub(crate) fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// The configuration as text.
    pub(crate) fn text(&self) -> String {
        let Self {
            workers, upstream, upstream_lines, limits, route_lines, replay, more_routes, listener_lines, ..
        } = self;
        let driver = self.driver.name();
        // Longer than any test waits, so that a connection that is closed was closed for a reason.
        let idle = if upstream_lines.contains("idle_timeout") { "" } else { "idle_timeout = \"60s\"\n" };
        // None is usual, so that what one delivery leaves behind is met by the next.
        let reuse = if upstream_lines.contains("reuse_after") { "" } else { "reuse_after = \"0s\"\n" };
        let listeners: String =
            self.listeners.iter().map(|address| format!("[[listener]]\naddress = \"{address}\"\n")).collect();
        let [delay, grace] = &self.drain;
        format!(
            "[server]\nworkers = {workers}\ndriver = \"{driver}\"\ndrain_delay = \"{delay}\"\ndrain_grace = \"{grace}\"\n{listeners}{listener_lines}\
             [upstream]\naddress = \"{upstream}\"\n{idle}{reuse}{upstream_lines}\n[limits]\n{limits}\n\
             [[route]]\nname = \"hook\"\npath = \"/hook\"\nscheme = \"github\"\nreplay = {replay}\n{route_lines}\n\
             secrets = [{{ id = \"current\", value = \"{SECRET}\" }}, {{ id = \"older\", value = \"{OLDER_SECRET}\" }}]\n\
             {more_routes}"
        )
    }

    pub(crate) fn start(self) -> Proxy {
        let folder = Folder::new();
        let plan = self.compile(&folder);
        let endings = Arc::new(Endings::default());
        let observer: Arc<dyn Observer> = Arc::<Endings>::clone(&endings);
        let running = supervisor::start(plan, Witnesses::new(observer, self.workers)).expect("the proxy starts");
        assert_eq!(running.drivers, vec![self.driver; self.workers]);
        Proxy { running: Some(running), endings, folder }
    }

    /// What the supervisor is given.
    fn compile(&self, folder: &Folder) -> supervisor::Plan {
        for (name, text) in &self.files {
            folder.write(name, text);
        }
        let path = folder.write("countersign.toml", &self.text());
        let loaded = load(&path).unwrap_or_else(|problems| {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            panic!("the configuration is wrong");
        });
        plan(loaded).0
    }
}

/// A running proxy; it stops at once when dropped.
pub(crate) struct Proxy {
    running: Option<Running>,
    endings: Arc<Endings>,
    folder: Folder,
}

impl Proxy {
    pub(crate) fn on(driver: Driver, application: &Application) -> Plan {
        Self::towards(driver, &application.address())
    }

    /// With an upstream that need not exist.
    pub(crate) fn towards(driver: Driver, upstream: &str) -> Plan {
        Plan {
            driver,
            listeners: vec!["127.0.0.1:0".to_owned()],
            drain: ["0s".to_owned(), "0s".to_owned()],
            listener_lines: String::new(),
            workers: 1,
            upstream: upstream.to_owned(),
            upstream_lines: String::new(),
            limits: String::new(),
            route_lines: String::new(),
            replay: "{ mode = \"off\" }".to_owned(),
            more_routes: String::new(),
            files: Vec::new(),
        }
    }

    /// Puts another configuration in force.
    pub(crate) fn try_apply(&mut self, plan: &Plan) -> Result<Applied, StartError> {
        let plan = plan.compile(&self.folder);
        self.running.as_mut().expect("it runs").apply(plan)
    }

    #[track_caller]
    pub(crate) fn apply(&mut self, plan: &Plan) -> Applied {
        self.try_apply(plan).expect("it can be applied")
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.running.as_ref().map(|running| running.addresses.as_slice()).unwrap_or_default()
    }

    /// Where another process listens, too.
    pub(crate) fn shared(&self) -> &[SocketAddr] {
        self.running.as_ref().map(|running| running.shared.as_slice()).unwrap_or_default()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addresses()[0])
    }

    /// A client with an address of its own, out of 127.0.0.0/8.
    pub(crate) fn connect_from(&self, source: [u8; 4]) -> Client {
        Client::connect_from(source, self.addresses()[0])
    }

    /// The running proxy itself, to be stopped by the test.
    pub(crate) fn into_running(mut self) -> Running {
        self.running.take().expect("it runs")
    }

    /// The reason codes of all exchanges that have ended, in order.
    pub(crate) fn endings(&self) -> Vec<&'static str> {
        self.endings.exchanges.lock().unwrap().clone()
    }

    /// The rules that answers of the application have broken, for each exchange that has ended.
    pub(crate) fn broken_rules(&self) -> Vec<Option<&'static str>> {
        self.endings.rules.lock().unwrap().clone()
    }

    /// What observed checks would have refused, for each exchange that has ended.
    pub(crate) fn observed(&self) -> Vec<String> {
        self.endings.observed.lock().unwrap().clone()
    }

    /// The client of each exchange that has ended.
    pub(crate) fn clients(&self) -> Vec<String> {
        self.endings.clients.lock().unwrap().clone()
    }

    /// The worker of each exchange that has ended.
    pub(crate) fn workers(&self) -> Vec<usize> {
        self.endings.workers.lock().unwrap().clone()
    }

    /// The name that the client of each exchange has proven.
    pub(crate) fn callers(&self) -> Vec<String> {
        self.endings.callers.lock().unwrap().clone()
    }

    /// The reason codes of connections that ended at a bound, in order.
    pub(crate) fn connection_ends(&self) -> Vec<&'static str> {
        self.endings.connections.lock().unwrap().clone()
    }

    /// The certificates of clients that were refused, in order.
    pub(crate) fn refused_certificates(&self) -> Vec<RefusedCertificate> {
        self.endings.refused_certificates.lock().unwrap().clone()
    }

    /// TLS handshakes of clients over their rate.
    pub(crate) fn handshakes_over_rate(&self) -> u64 {
        let workers = self.running.as_ref().map(|running| running.metrics.workers()).unwrap_or_default();
        workers.iter().map(|cells| cells.handshakes_over_rate()).sum()
    }

    /// Waits until exactly these exchanges have ended.
    #[track_caller]
    pub(crate) fn assert_endings(&self, expected: &[&str]) {
        eventually(|| self.endings().len() >= expected.len());
        assert_eq!(self.endings(), expected);
    }

    /// What is held of the bounds of the process.
    pub(crate) fn held(&self) -> Held {
        self.running.as_ref().map(|running| running.admission.held()).unwrap_or_default()
    }

    /// What may be held.
    pub(crate) fn bounds(&self) -> Held {
        self.running.as_ref().map(|running| running.admission.bounds()).unwrap_or_default()
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.running.as_ref().expect("it runs").metrics
    }

    /// Waits until nothing is held any more.
    #[track_caller]
    pub(crate) fn assert_nothing_held(&self) {
        eventually(|| self.held() == Held::default());
        assert_eq!(self.held(), Held::default());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.take().map(Running::stop);
    }
}

#[derive(Default)]
struct Endings {
    exchanges: Mutex<Vec<&'static str>>,
    rules: Mutex<Vec<Option<&'static str>>>,
    observed: Mutex<Vec<String>>,
    clients: Mutex<Vec<String>>,
    connections: Mutex<Vec<&'static str>>,
    refused_certificates: Mutex<Vec<RefusedCertificate>>,
    workers: Mutex<Vec<usize>>,
    callers: Mutex<Vec<String>>,
}

impl Observer for Endings {
    fn exchange(&self, exchange: &Exchange<'_>) {
        let client = exchange.client.map(|client| client.to_string()).unwrap_or_default();
        self.clients.lock().unwrap().push(client);
        self.workers.lock().unwrap().push(exchange.worker);
        self.callers.lock().unwrap().push(exchange.caller.unwrap_or_default().to_owned());
        self.rules.lock().unwrap().push(exchange.broken_rule.map(ResponseError::code));
        self.observed.lock().unwrap().push(exchange.observed.to_string());
        self.exchanges.lock().unwrap().push(exchange.outcome.code());
    }

    fn connection_ended(&self, end: ConnectionEnd, _: Option<IpAddr>) {
        self.connections.lock().unwrap().push(end.code());
    }

    fn certificate_refused(&self, end: ConnectionEnd, peer: Option<IpAddr>, certificate: &RefusedCertificate) {
        self.refused_certificates.lock().unwrap().push(certificate.clone());
        self.connection_ended(end, peer);
    }

    fn accept_failed(&self, error: &io::Error) {
        eprintln!("accepting pauses: {error}");
    }
}
