//! Attacks: many connections that all do the same, until the time or the count is up.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::answers::{self, Tally};
use crate::options::Options;
use crate::poll::{Change, Line, Poll, Received, source};
use crate::probe::spread;
use crate::script::{Opening, Script, Then};

/// Drips, progress and the end are looked after so often.
const TICK: Duration = Duration::from_millis(50);
/// With a pace, requests are given out so often.
const PACED_TICK: Duration = Duration::from_millis(2);
/// How long answers are waited for when the count is up.
const PATIENCE: Duration = Duration::from_secs(10);

struct Attacker {
    line: Line,
    out: Rc<Vec<u8>>,
    received: Vec<u8>,
    connected: bool,
    /// Answers that are waited for.
    expected: usize,
    /// Everything so far has been sent.
    sent: bool,
    /// Nothing to do, until the tick that says otherwise.
    pausing: bool,
    /// When its request began, where times are kept.
    begun: Option<Instant>,
}

/// What is asked for, beside the script.
struct Plan {
    target: SocketAddr,
    connections: usize,
    sources: usize,
    /// The one address that all connections come from.
    source: Option<IpAddr>,
    /// Requests, or connections that send none, a second.
    pace: Option<f64>,
    seconds: Duration,
    count: Option<u64>,
    /// No connection sends before all are connected.
    together: bool,
    /// What was answered 409 or 5xx is sent again after a pause, and does not count.
    retry: bool,
    progress: bool,
    /// The times until answers are kept.
    latencies: bool,
}

#[derive(Default)]
struct Counts {
    opened: u64,
    open: u64,
    open_peak: u64,
    closed: u64,
    connect_failed: u64,
    requests: u64,
    tally: Tally,
    /// Microseconds from requests to their last answers.
    times: Vec<u64>,
}

struct Attack {
    plan: Plan,
    script: Script,
    poll: Poll,
    attackers: Vec<Option<Attacker>>,
    counts: Counts,
    /// Requests that may still begin.
    left: Option<u64>,
    armed: bool,
    drip_at: usize,
    /// Requests that the pace allows at the moment, and what it has allowed so far.
    allowed: u64,
    allowed_until: f64,
}

/// Attacks and reports.
///
/// # Errors
/// A wrong option; the operating system; answers that are no answers.
pub fn run(mut options: Options) -> Result<(), String> {
    let target = options.target("target")?;
    let plan = Plan {
        target,
        connections: options.or("connections", 64)?,
        sources: options.or("sources", 1)?,
        source: options.maybe("source")?,
        pace: options.maybe("pace")?,
        seconds: options.seconds("seconds", 10.0)?,
        count: options.maybe("count")?,
        together: options.or("together", false)?,
        retry: options.or("retry", false)?,
        progress: options.or("progress", false)?,
        latencies: options.or("latencies", false)?,
    };
    let script = Script::read(&mut options, target)?;
    options.finish()?;
    if !(1..=60_000).contains(&plan.connections) || plan.sources == 0 {
        return Err("--connections is 1 to 60000, --sources at least 1".to_owned());
    }
    let mut attack = Attack {
        poll: Poll::new().map_err(|error| error.to_string())?,
        attackers: (0..plan.connections).map(|_| None).collect(),
        counts: Counts::default(),
        left: plan.count,
        armed: !plan.together,
        drip_at: 0,
        allowed: 0,
        allowed_until: 0.0,
        plan,
        script,
    };
    let begun = Instant::now();
    attack.drive(begun)?;
    println!("{}", attack.report(begun.elapsed()));
    Ok(())
}

impl Attack {
    fn drive(&mut self, begun: Instant) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        self.poll.set_timer(self.every(), true).map_err(text)?;
        for token in 0..self.attackers.len() {
            self.open(token);
        }
        let (mut changed, mut buf) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            if self.poll.wait(&mut changed).map_err(text)? {
                let elapsed = begun.elapsed();
                let patience = if self.left == Some(0) { PATIENCE } else { Duration::ZERO };
                if elapsed >= self.plan.seconds + patience {
                    return Ok(());
                }
                self.tick(elapsed);
            }
            for change in changed.drain(..) {
                self.attend(change, &mut buf)?;
            }
            if self.left == Some(0) && self.attackers.iter().flatten().all(|one| one.expected == 0 && one.sent) {
                return Ok(());
            }
        }
    }

    fn every(&self) -> Duration {
        if self.plan.pace.is_some() { PACED_TICK } else { TICK }
    }

    /// Whether the pace allows another request now.
    fn is_allowed(&mut self) -> bool {
        if self.plan.pace.is_none() {
            return true;
        }
        let allowed = self.allowed > 0;
        self.allowed -= u64::from(allowed);
        allowed
    }

    /// Gives out what has become due.
    fn allow(&mut self, elapsed: Duration) {
        let Some(pace) = self.plan.pace else { return };
        let due = pace * elapsed.as_secs_f64();
        // What could not be sent in time is not made up for.
        self.allowed = (due - self.allowed_until) as u64;
        self.allowed_until += self.allowed as f64;
    }

    fn open(&mut self, token: usize) {
        let own = self.plan.source.filter(|_| self.plan.target.ip().is_loopback());
        let source = own.or_else(|| source(self.plan.target, token, self.plan.sources));
        let line = Line::connect(self.plan.target, source, self.script.buffers);
        let line = line.and_then(|line| self.poll.add(line.socket(), token).map(|()| line));
        match line {
            Ok(line) => {
                line.reset_on_close();
                self.counts.opened += 1;
                self.counts.open += 1;
                self.counts.open_peak = self.counts.open_peak.max(self.counts.open);
                let attacker = Attacker {
                    line,
                    out: Rc::default(),
                    received: Vec::new(),
                    connected: false,
                    expected: 0,
                    sent: true,
                    pausing: false,
                    begun: None,
                };
                self.attackers[token] = Some(attacker);
            }
            Err(_) => self.counts.connect_failed += 1,
        }
    }

    fn close(&mut self, token: usize) {
        if let Some(attacker) = self.attackers[token].take() {
            self.counts.open -= 1;
            // A request without an answer does not count: it is sent again.
            if let (Some(left), true) = (&mut self.left, attacker.expected > 0) {
                *left += 1;
            }
        }
        if self.left != Some(0) {
            self.open(token);
        }
    }

    fn tick(&mut self, elapsed: Duration) {
        self.allow(elapsed);
        if self.plan.progress {
            println!("{{\"at\":{:.3},\"answers\":{}}}", elapsed.as_secs_f64(), self.counts.tally.total());
        }
        for token in 0..self.attackers.len() {
            match self.attackers[token].as_mut() {
                Some(attacker) if attacker.pausing && self.armed => {
                    attacker.pausing = false;
                    self.begin(token);
                }
                // A connection that could not be opened, or a share of those that drip, is tried again.
                None if self.left != Some(0) => self.open(token),
                _ => {}
            }
        }
        let Some((every, bytes)) = self.script.drip else { return };
        let share = self.attackers.len() as f64 * self.every().as_secs_f64() / every.as_secs_f64();
        for _ in 0..(share.ceil() as usize).min(self.attackers.len()) {
            let token = self.drip_at % self.attackers.len();
            self.drip_at += 1;
            let Some(attacker) = self.attackers[token].as_mut().filter(|one| one.connected && one.sent) else {
                continue;
            };
            attacker.line.rewind();
            if attacker.line.send(bytes).is_err() {
                self.lost(token);
            }
        }
    }

    fn lost(&mut self, token: usize) {
        self.counts.closed += 1;
        self.close(token);
    }

    /// Something has changed: connect, write, read, in this order.
    fn attend(&mut self, Change { token, ended }: Change, buf: &mut [u8]) -> Result<(), String> {
        let Some(attacker) = self.attackers[token].as_mut() else { return Ok(()) };
        if !attacker.connected {
            attacker.connected = true;
            self.greet(token);
        } else if !attacker.sent {
            self.push(token);
        }
        while let Some(attacker) = self.attackers[token].as_mut().filter(|_| self.script.reads) {
            match attacker.line.receive(buf) {
                Received::Nothing => break,
                Received::End => {
                    self.lost(token);
                    break;
                }
                Received::Bytes(count) => {
                    self.take(token, &buf[..count])?;
                    if count < buf.len() {
                        break;
                    }
                }
            }
        }
        if !self.script.reads && ended && self.attackers[token].is_some() {
            self.lost(token);
        }
        Ok(())
    }

    fn greet(&mut self, token: usize) {
        match self.script.then {
            Then::CloseAtOnce => self.close(token),
            _ if self.armed => self.begin(token),
            _ => {
                self.attackers[token].iter_mut().for_each(|one| one.pausing = true);
                self.armed =
                    self.attackers.iter().flatten().filter(|one| one.connected).count() == self.attackers.len();
            }
        }
    }

    /// Sends the next request, if there is one to be sent.
    fn begin(&mut self, token: usize) {
        if matches!(self.script.opening, Opening::Silent) || self.left == Some(0) {
            return;
        }
        let allowed = self.is_allowed();
        let Some(attacker) = self.attackers[token].as_mut() else { return };
        if !allowed {
            attacker.pausing = true;
            return;
        }
        self.left.iter_mut().for_each(|left| *left -= 1);
        self.script.opening.write(&mut attacker.out);
        attacker.expected = self.script.answers;
        attacker.sent = false;
        attacker.begun = self.plan.latencies.then(Instant::now);
        attacker.line.rewind();
        self.push(token);
    }

    fn push(&mut self, token: usize) {
        let Some(attacker) = self.attackers[token].as_mut() else { return };
        match attacker.line.send(&attacker.out) {
            Ok(true) => {
                attacker.sent = true;
                self.counts.requests += self.script.answers.max(1) as u64;
                if self.script.then == Then::Cut {
                    self.close(token);
                }
            }
            Ok(false) => {}
            // What was answered before the reset is still to be read.
            Err(_) => {}
        }
    }

    /// Counts answers, and goes on when all have come.
    fn take(&mut self, token: usize, bytes: &[u8]) -> Result<(), String> {
        if self.script.then == Then::Raw {
            self.take_raw(token);
            return Ok(());
        }
        let Some(attacker) = self.attackers[token].as_mut() else { return Ok(()) };
        let whole_before = attacker.received.is_empty();
        if !whole_before {
            attacker.received.extend_from_slice(bytes);
        }
        let joined = if whole_before { bytes } else { &attacker.received[..] };
        let (mut used, mut again) = (0, false);
        while let Some(answer) = answers::parse(&joined[used..])? {
            used += answer.length;
            self.counts.tally.count(answer);
            attacker.expected = attacker.expected.saturating_sub(1);
            again |= self.plan.retry && (answer.status == 409 || answer.status >= 500);
        }
        let rest = joined[used..].to_vec();
        attacker.received = rest;
        if attacker.expected > 0 {
            return Ok(());
        }
        if let Some(begun) = attacker.begun.take() {
            self.counts.times.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        if self.script.then == Then::Reconnect {
            self.close(token);
        } else if again {
            self.left.iter_mut().for_each(|left| *left += 1);
            attacker.pausing = true;
        } else {
            self.begin(token);
        }
        Ok(())
    }

    /// Something came that is no HTTP: the follow-up is sent, or the connection has done its work.
    fn take_raw(&mut self, token: usize) {
        let Some(attacker) = self.attackers[token].as_mut() else { return };
        match &self.script.follow_up {
            Some(follow_up) if attacker.expected > 0 => {
                attacker.expected = 0;
                attacker.out = Rc::clone(follow_up);
                attacker.sent = false;
                attacker.line.rewind();
                self.push(token);
            }
            _ => {
                attacker.expected = 0;
                self.close(token);
            }
        }
    }

    fn report(&mut self, seconds: Duration) -> String {
        let latency = spread(&mut self.counts.times);
        let Counts { opened, open, open_peak, closed, connect_failed, requests, tally, .. } = &self.counts;
        format!(
            "{{\"seconds\":{:.3},\"opened\":{opened},\"open\":{open},\"open_peak\":{open_peak},\"closed\":{closed},\
             \"connect_failed\":{connect_failed},\"requests\":{requests},\"answers\":{},\"latency\":{latency}}}",
            seconds.as_secs_f64(),
            tally.json()
        )
    }
}
