//! Genuine deliveries by the clock.
//!
//! Each has a time at which it is due, whatever became of the others (an open loop), and its latency counts from then:
//! waiting for a free connection or for the CPU is part of it. Most go over connections that are kept, some over one of
//! their own. Beside them a few requests go to the application directly: what they take is not the proxy's doing.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::answers::{self, Tally};
use crate::delivery::Deliveries;
use crate::options::Options;
use crate::poll::{Buffers, Line, Poll, Received};

/// How long answers are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a delivery is sent again, on a new connection, that met a connection which had been closed.
const RESENDS: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Kept,
    Fresh,
    Direct,
}

/// One delivery under way.
#[derive(Clone, Copy)]
struct Call {
    class: Class,
    due: Instant,
    number: u64,
    resends: u32,
}

struct Lane {
    line: Line,
    class: Class,
    call: Option<Call>,
    out: Vec<u8>,
    received: Vec<u8>,
}

struct Probe {
    poll: Poll,
    target: SocketAddr,
    direct: Option<SocketAddr>,
    source: Option<IpAddr>,
    /// Whether the target speaks TLS.
    tls: bool,
    deliveries: Deliveries,
    /// The same to another path, which the application counts apart.
    direct_deliveries: Deliveries,
    lanes: Vec<Option<Lane>>,
    idle: [VecDeque<usize>; 2],
    waiting: [VecDeque<Call>; 2],
    /// Microseconds, for each class.
    latencies: [Vec<u64>; 3],
    late: Vec<u64>,
    tally: Tally,
    direct_failed: u64,
    passed: u64,
    broken: u64,
    resent: u64,
    reconnected: u64,
    under_way: u64,
}

struct Plan {
    first: u64,
    rate: f64,
    seconds: Duration,
    connections: usize,
    fresh_every: u64,
    direct_every: u64,
}

/// Sends and reports.
///
/// # Errors
/// A wrong option; the operating system.
pub fn run(mut options: Options) -> Result<(), String> {
    let target = options.target("target")?;
    let direct: Option<SocketAddr> = options.maybe("direct")?;
    let secret = crate::read_secret(&mut options)?;
    let path: String = options.or("path", "/webhooks/github".to_owned())?;
    let host: String = options.or("host", target.to_string())?;
    let size: usize = options.or("body", 1024)?;
    let source: Option<IpAddr> = options.maybe("source")?;
    let tls = options.or("tls", false)?;
    let plan = Plan {
        first: options.must("first")?,
        rate: options.or("rate", 200.0)?,
        seconds: options.seconds("seconds", 10.0)?,
        connections: options.or("connections", 8)?,
        fresh_every: options.or("fresh-every", 20)?,
        direct_every: options.or("direct-every", 4)?,
    };
    options.finish()?;
    if !(1.0..=20_000.0).contains(&plan.rate) || !(1..=1000).contains(&plan.connections) {
        return Err("--rate is 1 to 20000, --connections 1 to 1000".to_owned());
    }
    if direct.is_some_and(|direct| !direct.ip().is_loopback()) {
        return Err("--direct must be on loopback".to_owned());
    }
    let deliveries = Deliveries::new(&host, &path, size.max(64), &secret);
    let mut probe = Probe {
        poll: Poll::new().map_err(|error| error.to_string())?,
        target,
        direct,
        source,
        tls,
        deliveries,
        direct_deliveries: Deliveries::new(&host, "/direct", size.max(64), &secret),
        lanes: Vec::new(),
        idle: Default::default(),
        waiting: Default::default(),
        latencies: Default::default(),
        late: Vec::new(),
        tally: Tally::default(),
        direct_failed: 0,
        passed: 0,
        broken: 0,
        resent: 0,
        reconnected: 0,
        under_way: 0,
    };
    let sent = probe.drive(&plan).map_err(|error| error.to_string())?;
    println!("{}", probe.report(sent));
    Ok(())
}

impl Probe {
    /// Sends everything when it is due; how many.
    fn drive(&mut self, plan: &Plan) -> io::Result<u64> {
        for _ in 0..plan.connections {
            self.open(Class::Kept)?;
        }
        if self.direct.is_some() {
            self.open(Class::Direct)?;
            self.open(Class::Direct)?;
        }
        let total = (plan.rate * plan.seconds.as_secs_f64()) as u64;
        let begun = Instant::now() + Duration::from_millis(20);
        let end = begun + plan.seconds + PATIENCE;
        let due = |position: u64| begun + Duration::from_secs_f64(position as f64 / plan.rate);
        let (mut changed, mut buf) = (Vec::new(), vec![0; 64 << 10]);
        let mut position = 0;
        self.poll.set_timer(Duration::from_millis(20), false)?;
        while position < total || self.under_way > 0 {
            if self.poll.wait(&mut changed)? {
                let now = Instant::now();
                while position < total && due(position) <= now {
                    self.begin(plan, position, due(position))?;
                    position += 1;
                }
                let next = if position < total { due(position) } else { end };
                if position == total && now >= end {
                    break;
                }
                self.poll.set_timer(next.saturating_duration_since(now), false)?;
            }
            for token in changed.drain(..).map(|change| change.token) {
                self.attend(token, &mut buf)?;
            }
        }
        Ok(total)
    }

    fn begin(&mut self, plan: &Plan, position: u64, due: Instant) -> io::Result<()> {
        let nth = |every: u64| every > 0 && position % every == every - 1;
        if self.direct.is_some() && nth(plan.direct_every) {
            self.start(Call { class: Class::Direct, due, number: position, resends: 0 })?;
        }
        let class = if nth(plan.fresh_every) { Class::Fresh } else { Class::Kept };
        self.under_way += 1;
        self.late.push(due.elapsed().as_micros() as u64);
        self.start(Call { class, due, number: plan.first + position, resends: 0 })
    }

    fn start(&mut self, call: Call) -> io::Result<()> {
        if call.class == Class::Fresh {
            let token = self.open(Class::Fresh)?;
            return self.put(token, call);
        }
        let kind = call.class as usize / 2;
        match self.idle[kind].pop_front() {
            Some(token) => self.put(token, call),
            None => {
                self.waiting[kind].push_back(call);
                Ok(())
            }
        }
    }

    /// Sends a delivery on an idle connection.
    fn put(&mut self, token: usize, call: Call) -> io::Result<()> {
        let Some(lane) = self.lanes[token].as_mut() else { return Ok(()) };
        lane.out.clear();
        let deliveries = if call.class == Class::Direct { &mut self.direct_deliveries } else { &mut self.deliveries };
        deliveries.genuine(call.number, &mut lane.out);
        lane.call = Some(call);
        lane.line.rewind();
        let sent = lane.line.send(&lane.out);
        if sent.is_err() { self.lose(token) } else { Ok(()) }
    }

    fn attend(&mut self, token: usize, buf: &mut [u8]) -> io::Result<()> {
        let Some(lane) = self.lanes[token].as_mut() else { return Ok(()) };
        // A handshake goes on although there is nothing to deliver yet.
        let out = if lane.call.is_some() { &lane.out[..] } else { &[] };
        if (lane.call.is_some() || self.tls) && lane.line.send(out).is_err() {
            return self.lose(token);
        }
        loop {
            match lane.line.receive(buf) {
                Received::Bytes(count) => lane.received.extend_from_slice(&buf[..count]),
                Received::Nothing => return Ok(()),
                Received::End => return self.lose(token),
            }
            let answer = match answers::parse(&lane.received) {
                Ok(Some(answer)) => answer,
                Ok(None) => continue,
                Err(_) => return self.lose(token),
            };
            let Some(call) = lane.call.take() else { return self.lose(token) };
            self.latencies[call.class as usize].push(call.due.elapsed().as_micros() as u64);
            if call.class != Class::Direct {
                self.tally.count(answer);
                self.under_way -= 1;
                // One that is sent again may have been accepted the first time.
                let is_new = answer.word.is_empty() || call.resends > 0;
                self.passed += u64::from((200..300).contains(&answer.status) && is_new);
            }
            let closes = answer.closes || call.class == Class::Fresh;
            lane.received.clear();
            if closes {
                return self.lose(token);
            }
            return self.rest(token);
        }
    }

    /// A connection has nothing to do: it takes what waits.
    fn rest(&mut self, token: usize) -> io::Result<()> {
        let Some(kind) = self.lanes[token].as_ref().map(|lane| lane.class as usize / 2) else { return Ok(()) };
        match self.waiting[kind].pop_front() {
            Some(call) => self.put(token, call),
            None => {
                self.idle[kind].push_back(token);
                Ok(())
            }
        }
    }

    /// A connection has ended: what was under way is sent again once, as senders do.
    fn lose(&mut self, token: usize) -> io::Result<()> {
        let Some(lane) = self.lanes[token].take() else { return Ok(()) };
        let class = lane.class;
        self.idle.iter_mut().for_each(|idle| idle.retain(|other| *other != token));
        let lost = lane.call;
        drop(lane);
        if let Some(mut call) = lost {
            if call.class == Class::Direct {
                self.direct_failed += 1;
            } else if call.resends < RESENDS {
                self.resent += 1;
                call.resends += 1;
                call.class = Class::Fresh;
                self.start(call)?;
            } else {
                self.broken += 1;
                self.under_way -= 1;
            }
        }
        if class != Class::Fresh {
            self.reconnected += 1;
            // A target that closes everything at once must not make us spin.
            if self.reconnected < 10_000 {
                let token = self.open(class)?;
                self.idle[class as usize / 2].retain(|other| *other != token);
                return self.rest(token);
            }
        }
        Ok(())
    }

    fn open(&mut self, class: Class) -> io::Result<usize> {
        let target = if class == Class::Direct { self.direct.unwrap_or(self.target) } else { self.target };
        let source = self.source.filter(|_| target.ip().is_loopback());
        let mut line = Line::connect(target, source, Buffers::default())?;
        if self.tls && class != Class::Direct {
            line.encrypt()?;
        }
        let token = self.lanes.iter().position(Option::is_none).unwrap_or(self.lanes.len());
        if token == self.lanes.len() {
            self.lanes.push(None);
        }
        self.poll.add(line.socket(), token)?;
        self.lanes[token] = Some(Lane { line, class, call: None, out: Vec::new(), received: Vec::new() });
        if class != Class::Fresh {
            self.idle[class as usize / 2].push_back(token);
        }
        Ok(token)
    }

    fn report(&mut self, sent: u64) -> String {
        let [kept, fresh, direct] = &mut self.latencies;
        format!(
            "{{\"sent\":{sent},\"passed\":{},\"broken\":{},\"unanswered\":{},\"resent\":{},\"reconnected\":{},\
             \"answers\":{},\"kept\":{},\"fresh\":{},\"direct\":{},\"direct_failed\":{},\"late\":{}}}",
            self.passed,
            self.broken,
            self.under_way,
            self.resent,
            self.reconnected,
            self.tally.json(),
            spread(kept),
            spread(fresh),
            spread(direct),
            self.direct_failed,
            spread(&mut self.late),
        )
    }
}

/// Count and percentiles, in microseconds.
pub fn spread(values: &mut [u64]) -> String {
    values.sort_unstable();
    let at = |share: f64| {
        let rank = (share * values.len() as f64).ceil() as usize;
        values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    };
    format!(
        "{{\"count\":{},\"p50\":{},\"p90\":{},\"p99\":{},\"p999\":{},\"max\":{}}}",
        values.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    )
}
