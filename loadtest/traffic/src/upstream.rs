//! The application behind the proxy: answers at once, and counts what reached it.
//!
//! `/webhooks/large` is answered with many bytes. `/webhooks/flaky` is answered after a while, and the first few times
//! with 500. Under `/application/` it is told what to do and asked what it has seen: `counts`, `fail/N`, `delay/MILLIS`.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::{Duration, Instant};

use memchr::memmem;
use socket2::{Domain, Protocol, Socket, Type};

use crate::options::Options;
use crate::poll::{Line, Poll, Received};

const LISTENER: usize = 0;
const BACKLOG: i32 = 4096;
const TICK: Duration = Duration::from_millis(1);
const LARGEST_REQUEST: usize = 4 << 20;

struct Caller {
    line: Line,
    received: Vec<u8>,
    answer: Rc<Vec<u8>>,
    /// An answer is under way: the next request waits.
    busy: bool,
}

/// The application.
struct Application {
    poll: Poll,
    callers: Vec<Option<Caller>>,
    free: Vec<usize>,
    counts: BTreeMap<String, u64>,
    accepted: u64,
    connections: u64,
    /// The large answer, shared by all connections.
    large: Rc<Vec<u8>>,
    fail: u64,
    delay: Duration,
    delayed: VecDeque<(Instant, usize)>,
}

/// Serves until the process is ended.
///
/// # Errors
/// A wrong option; the address is taken.
pub fn run(mut options: Options) -> Result<(), String> {
    let address: std::net::SocketAddr = options.must("listen")?;
    let large = options.or("large", 16 << 20)?;
    options.finish()?;
    if !address.ip().is_loopback() {
        return Err("the application listens on loopback only".to_owned());
    }
    serve(address, large).map_err(|error| format!("{address}: {error}"))
}

fn serve(address: std::net::SocketAddr, large: usize) -> io::Result<()> {
    // A proxy opens hundreds of connections at once when callers do not read.
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let poll = Poll::new()?;
    poll.add(&listener, LISTENER)?;
    let mut application = Application {
        poll,
        callers: vec![None],
        free: Vec::new(),
        counts: BTreeMap::new(),
        accepted: 0,
        connections: 0,
        large: Rc::new(answer("200 OK", &vec![b'.'; large])),
        fail: 0,
        delay: Duration::ZERO,
        delayed: VecDeque::new(),
    };
    let mut changed = Vec::new();
    let mut buf = vec![0; 64 << 10];
    loop {
        application.poll.wait(&mut changed)?;
        for token in changed.drain(..).map(|change| change.token) {
            if token == LISTENER {
                application.accept(&listener)?;
            } else {
                application.attend(token, &mut buf);
            }
        }
        while application.delayed.front().is_some_and(|(due, _)| *due <= Instant::now()) {
            let due = application.delayed.pop_front();
            due.into_iter().for_each(|(_, token)| application.attend(token, &mut buf));
        }
    }
}

impl Application {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        while let Ok((stream, _)) = listener.accept() {
            let token = self.free.pop().unwrap_or_else(|| {
                self.callers.push(None);
                self.callers.len() - 1
            });
            self.poll.add(&stream, token)?;
            let line = Line::accepted(stream)?;
            self.connections += 1;
            self.callers[token] = Some(Caller { line, received: Vec::new(), answer: Rc::default(), busy: false });
        }
        Ok(())
    }

    /// Reads, answers, writes, as far as it goes.
    fn attend(&mut self, token: usize, buf: &mut [u8]) {
        let Some(mut caller) = self.callers[token].take() else { return };
        if self.converse(&mut caller, token, buf) {
            self.callers[token] = Some(caller);
        } else {
            self.free.push(token);
        }
    }

    /// Whether the connection goes on.
    fn converse(&mut self, caller: &mut Caller, token: usize, buf: &mut [u8]) -> bool {
        loop {
            let due = |(due, waiting): &(Instant, usize)| *waiting == token && *due > Instant::now();
            if caller.busy && !self.delayed.iter().any(due) {
                match caller.line.send(&caller.answer) {
                    Ok(true) => caller.busy = false,
                    Ok(false) => {}
                    Err(_) => return false,
                }
            }
            if !caller.busy && self.answer(caller, token) {
                continue;
            }
            match caller.line.receive(buf) {
                Received::Bytes(count) => caller.received.extend_from_slice(&buf[..count]),
                Received::Nothing => return true,
                Received::End => return false,
            }
            if caller.received.len() > LARGEST_REQUEST {
                return false;
            }
        }
    }

    /// Prepares the answer to the next request, if it has arrived.
    fn answer(&mut self, caller: &mut Caller, token: usize) -> bool {
        let Some((path, length)) = request(&caller.received) else { return false };
        let (mut status, mut body) = ("200 OK", b"ok".to_vec());
        let mut delay = Duration::ZERO;
        if let Some(order) = path.strip_prefix("/application/") {
            body = self.obey(order).into_bytes();
        } else {
            let seen = match self.counts.get_mut(path) {
                Some(count) => {
                    *count += 1;
                    *count
                }
                None => *self.counts.entry(path.to_owned()).or_insert(1),
            };
            if path == "/webhooks/flaky" {
                delay = self.delay;
                if seen <= self.fail {
                    status = "500 Internal Server Error";
                } else {
                    self.accepted += 1;
                }
            }
        }
        caller.answer = match path {
            "/webhooks/large" => Rc::clone(&self.large),
            _ => Rc::new(answer(status, &body)),
        };
        caller.received.drain(..length);
        caller.line.rewind();
        caller.busy = true;
        if !delay.is_zero() {
            self.delayed.push_back((Instant::now() + delay, token));
        }
        true
    }

    fn obey(&mut self, order: &str) -> String {
        match order.split_once('/') {
            Some(("fail", number)) => {
                self.fail = number.parse().unwrap_or(0);
                self.counts.remove("/webhooks/flaky");
                self.accepted = 0;
            }
            Some(("delay", number)) => {
                self.delay = Duration::from_millis(number.parse().unwrap_or(0));
                let _ = self.poll.set_timer(if self.delay.is_zero() { Duration::from_secs(3600) } else { TICK }, true);
            }
            _ => {}
        }
        let counts: Vec<String> = self.counts.iter().map(|(path, count)| format!("{path:?}:{count}")).collect();
        format!(
            "{{\"connections\":{},\"flaky_accepted\":{},\"paths\":{{{}}}}}",
            self.connections,
            self.accepted,
            counts.join(",")
        )
    }
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// Path and length of the request at the front, if it is whole.
fn request(bytes: &[u8]) -> Option<(&str, usize)> {
    let end = memmem::find(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let path = head.split(' ').nth(1)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    let whole = end + 4 + length.unwrap_or(0);
    (bytes.len() >= whole).then_some((path, whole))
}
