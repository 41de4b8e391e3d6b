//! What the demo shows once its table is printed: a line for each request that arrives, and the status page.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::admin::desk::{Desk, Errand, Phase};
use crate::admin::request::Access;
use crate::admin::server::{self, Admin, AdminAddress};
use crate::control::captures::Capturing;
use crate::control::desk::{Interior, readings_of};
use crate::control::supervisor::Running;
use crate::control::vitals;
use crate::edge::clock::Clock;
use crate::edge::worker::{Observer, RefusedRequest};
use crate::now::Now;
use crate::outcome::Outcome;
use crate::telemetry::advice;
use crate::telemetry::capture::Captured;
use crate::telemetry::exchange::Exchange;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readings::{ProcessIdentity, Readings};

use super::output::{complain, line_with_code};

/// Refused requests that are kept for explanations.
const CAPTURES: usize = 20;

/// Lines that wait for the terminal; what is over that is not shown.
const LINES: usize = 64;

/// Told of every exchange: first for the table, then for the terminal.
pub(super) struct Audience {
    endings: SyncSender<&'static str>,
    /// Each with its reason code.
    lines: SyncSender<(String, &'static str)>,
    live: AtomicBool,
    captures: Capturing,
}

impl Audience {
    /// An audience, and where it tells how exchanges ended before [`Audience::go_live`].
    pub(super) fn new() -> (Arc<Self>, Receiver<&'static str>) {
        let (endings, told) = sync_channel(1);
        let (lines, shown) = sync_channel::<(String, &str)>(LINES);
        // A terminal that is slow must not hold a worker.
        thread::spawn(move || shown.iter().for_each(|(text, code)| line_with_code(&text, code)));
        let (live, captures) = (AtomicBool::new(false), Capturing::new(CAPTURES));
        (Arc::new(Self { endings, lines, live, captures }), told)
    }

    /// From now on each request is a line.
    pub(super) fn go_live(&self) {
        self.live.store(true, Ordering::Relaxed);
    }
}

impl Observer for Audience {
    fn exchange(&self, exchange: &Exchange<'_>) {
        // What finds no room is not shown.
        if self.live.load(Ordering::Relaxed) {
            let _ = self.lines.try_send((told(exchange), exchange.outcome.code()));
        } else {
            let _ = self.endings.try_send(exchange.outcome.code());
        }
    }

    fn refused(&self, exchange: &Exchange<'_>, request: &RefusedRequest<'_>) {
        if self.live.load(Ordering::Relaxed) {
            self.captures.take(exchange, request);
        }
    }

    fn accept_failed(&self, error: &io::Error) {
        complain(format!("accepting connections pauses: {error}"));
    }
}

/// An exchange in words: what was asked, the verdict, and what to do about it.
fn told(exchange: &Exchange<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = exchange.outcome.code();
    let status = exchange.outcome.status().map_or_else(|| "---".to_owned(), |status| status.to_string());
    let asked = format!("{status} {code:<20} {} {}", text(exchange.method), text(exchange.path));
    match exchange.outcome {
        Outcome::Forwarded { .. } => {
            let key = exchange.key_id.unwrap_or("none");
            format!("{asked}: genuine by the key {key}, the application got {} bytes, unchanged", exchange.received)
        }
        Outcome::Answered { .. } => format!("{asked}: a handshake, answered here"),
        Outcome::Accepted { .. } => format!("{asked}: genuine, stored, and delivered later"),
        Outcome::Rejected(rejection) => {
            let id = String::from_utf8_lossy(&exchange.request_id);
            let more = if rejection.answer().status == 401 {
                format!("\n    why: the status page explains request {id}")
            } else {
                String::new()
            };
            with_help(&asked, rejection.meaning(), code) + &more
        }
        Outcome::Failed(fault) => with_help(&asked, fault.meaning(), code),
    }
}

fn with_help(asked: &str, meaning: &str, code: &str) -> String {
    format!("{asked}: {meaning}\n    what to do: {}", advice::of(code))
}

/// The process, for the status page. Nothing can be asked of it but explanations.
struct DemoDesk {
    clock: Clock,
    metrics: Arc<Metrics>,
    interior: Interior,
    audience: Arc<Audience>,
    identity: ProcessIdentity,
}

impl Desk for DemoDesk {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn phase(&self) -> Phase {
        self.interior.phase()
    }

    fn readings(&self) -> Readings {
        let mut readings =
            Readings { identity: self.identity.clone(), ..readings_of(&self.metrics, vitals::started()) };
        self.interior.read(&mut readings);
        readings
    }

    fn captured(&self) -> Option<Vec<Arc<Captured>>> {
        Some(self.audience.captures.all())
    }

    fn explain(&self, request_id: &[u8; 32]) -> Errand {
        self.interior.explain(&self.audience.captures.all(), request_id)
    }

    fn reload(&self) -> Errand {
        Errand::Failed("the demo has nothing to reload".to_owned())
    }

    fn drain(&self) -> Errand {
        Errand::Failed("end the demo with Ctrl-C".to_owned())
    }
}

/// Opens the status page of the demo. Where it is, and what must be kept for as long as it is to be there.
///
/// # Errors
/// No port can be had.
pub(super) fn open_page(
    running: &Running,
    audience: &Arc<Audience>,
    clock: Clock,
    configuration: String,
) -> io::Result<(AdminAddress, Admin)> {
    let bound = server::bind(&AdminAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))))?;
    let address = bound.address.clone();
    let (host, pod) = vitals::names();
    let identity = ProcessIdentity { host, pod, configuration, captures: CAPTURES };
    let metrics = Arc::clone(&running.metrics);
    let desk = DemoDesk {
        clock,
        metrics: Arc::clone(&metrics),
        interior: Interior::of(running),
        audience: Arc::clone(audience),
        identity,
    };
    Ok((address, Admin::start(bound, Access::default(), Arc::new(desk), metrics)?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outcome::{Fault, Observed, Rejection};
    use crate::telemetry::exchange::{Stages, Stated};

    fn exchange(outcome: impl Into<Outcome>) -> String {
        told(&Exchange {
            worker: 0,
            request_id: [b'0'; 32],
            ended: Now::at_unix(Duration::ZERO),
            route: None,
            peer: None,
            client: None,
            caller: None,
            method: b"POST",
            path: b"/webhooks/github",
            query: b"",
            outcome: outcome.into(),
            accepted: None,
            broken_rule: None,
            observed: Observed::NONE,
            key_id: Some("demo"),
            delivery_id: None,
            stated: Stated::default(),
            body: None,
            received: 17,
            sent: 0,
            stages: Stages::default(),
        })
    }

    #[test]
    fn every_way_to_end_is_told_with_what_to_do() {
        let passed = exchange(Outcome::Forwarded { status: 200 });
        assert!(passed.starts_with("200 forwarded ") && passed.contains("genuine by the key demo"), "{passed}");
        for (said, code) in [
            (exchange(Rejection::SignatureMismatch), "401 signature_mismatch"),
            (exchange(Rejection::RouteUnknown), "404 route_unknown"),
            (exchange(Fault::UpstreamConnect), "503 upstream_connect"),
        ] {
            assert!(said.starts_with(code) && said.contains("\n    what to do: "), "{said}");
        }
    }
}
