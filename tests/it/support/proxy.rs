//! The proxy, in this process, from a configuration file.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use countersign::config::load::load;
use countersign::control::plan::plan;
use countersign::control::supervisor::{self, Running};
use countersign::edge::exchange::Record;
use countersign::edge::worker::Observer;

use super::delivery::{OLDER_SECRET, SECRET};
use super::folder::Folder;
use super::{Application, Client, eventually};

pub(crate) use countersign::edge::driver::Driver;

/// What the configuration says beyond the usual.
pub(crate) struct Plan {
    driver: Driver,
    listeners: usize,
    workers: usize,
    upstream: String,
    upstream_lines: String,
    limits: String,
    route_lines: String,
    replay: String,
    more_routes: String,
}

impl Plan {
    /// Adds a line to `[limits]`.
    pub(crate) fn limit(mut self, line: &str) -> Self {
        let _ = writeln!(self.limits, "{line}");
        self
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
        self.listeners = count;
        self
    }

    /// One is usual, so that what one connection leaves behind is met by the next.
    pub(crate) fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// The configuration as text.
    pub(crate) fn text(&self) -> String {
        let Self { workers, upstream, upstream_lines, limits, route_lines, replay, more_routes, .. } = self;
        let driver = self.driver.name();
        let listeners = "[[listener]]\naddress = \"127.0.0.1:0\"\n".repeat(self.listeners);
        format!(
            "[server]\nworkers = {workers}\ndriver = \"{driver}\"\nshutdown_grace = \"0s\"\n{listeners}\
             [upstream]\naddress = \"{upstream}\"\n{upstream_lines}\n[limits]\n{limits}\n\
             [[route]]\nname = \"hook\"\npath = \"/hook\"\nscheme = \"github\"\nreplay = {replay}\n{route_lines}\n\
             secrets = [{{ id = \"current\", value = \"{SECRET}\" }}, {{ id = \"older\", value = \"{OLDER_SECRET}\" }}]\n\
             {more_routes}"
        )
    }

    pub(crate) fn start(self) -> Proxy {
        let folder = Folder::new();
        let path = folder.write("countersign.toml", &self.text());
        let loaded = load(&path).unwrap_or_else(|problems| {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            panic!("the configuration is wrong");
        });
        let (plan, _) = plan(loaded);
        let endings = Arc::new(Endings::default());
        let observer: Arc<dyn Observer> = Arc::<Endings>::clone(&endings);
        let running = supervisor::start(plan, observer).expect("the proxy starts");
        assert_eq!(running.drivers, vec![self.driver; self.workers]);
        Proxy { running: Some(running), endings, _folder: folder }
    }
}

/// A running proxy; it stops at once when dropped.
pub(crate) struct Proxy {
    running: Option<Running>,
    endings: Arc<Endings>,
    _folder: Folder,
}

impl Proxy {
    pub(crate) fn on(driver: Driver, application: &Application) -> Plan {
        Self::towards(driver, &application.address())
    }

    /// With an upstream that need not exist.
    pub(crate) fn towards(driver: Driver, upstream: &str) -> Plan {
        Plan {
            driver,
            listeners: 1,
            workers: 1,
            upstream: upstream.to_owned(),
            upstream_lines: String::new(),
            limits: String::new(),
            route_lines: String::new(),
            replay: "{ mode = \"off\" }".to_owned(),
            more_routes: String::new(),
        }
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        self.running.as_ref().map(|running| running.addresses.as_slice()).unwrap_or_default()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addresses()[0])
    }

    /// The reason codes of all exchanges that have ended, in order.
    pub(crate) fn endings(&self) -> Vec<&'static str> {
        self.endings.0.lock().unwrap().clone()
    }

    /// What checks that only observe would have refused, for each exchange that has ended.
    pub(crate) fn observed(&self) -> Vec<String> {
        self.endings.1.lock().unwrap().clone()
    }

    /// Waits until exactly these exchanges have ended.
    #[track_caller]
    pub(crate) fn assert_endings(&self, expected: &[&str]) {
        eventually(|| self.endings().len() >= expected.len());
        assert_eq!(self.endings(), expected);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.take().map(Running::stop);
    }
}

#[derive(Default)]
struct Endings(Mutex<Vec<&'static str>>, Mutex<Vec<String>>);

impl Observer for Endings {
    fn exchange(&self, record: &Record<'_>) {
        self.1.lock().unwrap().push(record.asked.observed.to_string());
        self.0.lock().unwrap().push(record.outcome.code());
    }

    fn accept_failed(&self, error: &io::Error) {
        eprintln!("accepting pauses: {error}");
    }
}
