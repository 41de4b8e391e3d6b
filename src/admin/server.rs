//! The thread: waits for all its sockets at once, and never for one of them. A client that is slow, silent or hostile
//! holds nothing but one of 64 places, for a few seconds; when all are taken, the one that has been asking
//! for longest makes room. A probe is therefore answered as soon as it is there, whatever other clients do.
//!
//! Written by hand: it reuses the parser of `wire`, needs no runtime, and the usual servers either bring one (hyper) or
//! give each connection a thread without a deadline (`tiny_http`).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::telemetry::metrics::Metrics;

use super::answer::{Answer, Verdict};
use super::desk::{Desk, Errand, InboxWish};
use super::endpoints::{EndpointReaction, Endpoints, Wish};
use super::inbox;
use super::page;
use super::request::{Access, AdminCaller, Request};
use super::visitor::{VisitStage, VisitStep, Visitor, VisitorStream};

/// Connections at a time.
const VISITORS: usize = 64;

/// How long the thread sleeps at most, in milliseconds.
const TICK: u16 = 250;

/// How long accepting pauses when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the end waits for clients that are being answered.
const FAREWELL: Duration = Duration::from_millis(500);

/// Connections that the kernel completes meanwhile.
const BACKLOG: i32 = 128;

/// Where the admin port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A Unix socket at this path, which only the owner of the process may use.
    Unix(PathBuf),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

enum AdminListener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// The admin port, bound and not yet served.
pub struct BoundAdmin {
    listener: AdminListener,
    /// Where it is, with the port that the kernel chose if the configuration said 0.
    pub address: AdminAddress,
}

/// Binds.
///
/// # Errors
/// Of the operating system.
pub fn bind(address: &AdminAddress) -> io::Result<BoundAdmin> {
    match address {
        AdminAddress::Tcp(address) => {
            // Shared with the process that this one takes the place of: without SO_REUSEPORT it could not start before
            // that one has ended. Processes of other users cannot share it.
            let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.bind(&(*address).into())?;
            socket.listen(BACKLOG)?;
            adopt(socket.into())
        }
        AdminAddress::Unix(path) => {
            remove_stale(path)?;
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.bind(&SockAddr::unix(path)?)?;
            // Before a client can connect: each that can may ask for changes.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            let listener = UnixListener::from(std::os::fd::OwnedFd::from(socket));
            Ok(BoundAdmin { listener: AdminListener::Unix(listener, path.clone()), address: address.clone() })
        }
    }
}

/// The admin port on a socket that is bound already.
///
/// # Errors
/// Of the operating system.
pub fn adopt(listener: TcpListener) -> io::Result<BoundAdmin> {
    listener.set_nonblocking(true)?;
    let address = AdminAddress::Tcp(listener.local_addr()?);
    Ok(BoundAdmin { listener: AdminListener::Tcp(listener), address })
}

/// A socket that a process left behind when it was killed. One that a process listens on stays, and binding fails.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    match UnixStream::connect(path) {
        Err(error) if is_socket && error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

/// The running admin port; dropping it ends the thread.
#[derive(Debug)]
pub struct Admin {
    /// Closing it is the message.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Starts the thread.
    ///
    /// # Errors
    /// Of the operating system: no thread, no descriptors.
    pub fn start(bound: BoundAdmin, access: Access, desk: Arc<dyn Desk>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (stop, wake) = UnixStream::pair()?;
        stop.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let (done, results) = channel();
        let server = AdminServer {
            listener: bound.listener,
            access,
            endpoints: Endpoints::new(desk, metrics),
            policy: page::policy(),
            visitors: Vec::new(),
            next: 0,
            busy: false,
            done,
            results,
            alarm: stop.try_clone()?,
            wake,
            accept_from: Duration::ZERO,
        };
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || server.run())?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(mut stop) = self.stop.take() {
            let _ = stop.write_all(&[STOP]);
        }
        self.thread.take().map(JoinHandle::join);
    }
}

/// What wakes the thread: the end, or the result of an errand.
const STOP: u8 = 1;
const RESULT: u8 = 2;

struct AdminServer {
    listener: AdminListener,
    access: Access,
    endpoints: Endpoints,
    policy: String,
    visitors: Vec<Visitor>,
    next: u64,
    /// Whether something is being done; one thing at a time.
    busy: bool,
    done: Sender<(u64, Answer)>,
    results: Receiver<(u64, Answer)>,
    alarm: UnixStream,
    wake: UnixStream,
    accept_from: Duration,
}

impl AdminServer {
    fn run(mut self) {
        loop {
            let now = self.endpoints.desk().now();
            self.endpoints.tick(now);
            self.visitors.retain(|visitor| now.monotonic < visitor.deadline || visitor.stage == VisitStage::Waiting);
            self.give_up_waiting(now.monotonic);
            let (accept, woken, ready) = self.wait(now.monotonic);
            if woken && self.is_told_to_stop() {
                break;
            }
            self.deliver_results();
            for number in ready {
                self.step(number);
            }
            if accept {
                self.accept();
            }
        }
        self.finish();
        if let AdminListener::Unix(_, path) = &self.listener {
            // The next process binds anew; it is no failure that the file is gone.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Answers those that are here, so that no probe fails because the process is replaced. Those that come later belong to
    /// the process that has the socket next.
    fn finish(&mut self) {
        self.accept();
        let begun = self.endpoints.desk().now().monotonic;
        self.accept_from = Duration::MAX;
        loop {
            let now = self.endpoints.desk().now().monotonic;
            self.visitors.retain(|visitor| now < visitor.deadline && visitor.stage != VisitStage::Waiting);
            if self.visitors.is_empty() || now >= begun + FAREWELL {
                return;
            }
            for number in self.wait(now).2 {
                self.step(number);
            }
        }
    }

    /// Waits for a socket that is ready: whether a client connects, whether the process has a message, and which
    /// visitors can go on.
    fn wait(&self, now: Duration) -> (bool, bool, Vec<u64>) {
        let accepting = if now < self.accept_from { PollFlags::empty() } else { PollFlags::POLLIN };
        let mut fds =
            vec![PollFd::new(self.listener.fd(), accepting), PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        for visitor in &self.visitors {
            let events = match visitor.stage {
                VisitStage::Asking | VisitStage::Leaving => PollFlags::POLLIN,
                VisitStage::Answering => PollFlags::POLLOUT,
                VisitStage::Waiting => PollFlags::empty(),
            };
            fds.push(PollFd::new(visitor.fd(), events));
        }
        if poll(&mut fds, TICK).is_err() {
            // Interrupted by a signal: there is always a next time.
            return (false, false, Vec::new());
        }
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or_default();
        let ready = fds.iter().skip(2).zip(&self.visitors);
        let ready = ready.filter(|(fd, _)| is_ready(fd)).map(|(_, visitor)| visitor.number).collect();
        (fds.first().is_some_and(is_ready), fds.get(1).is_some_and(is_ready), ready)
    }

    fn is_told_to_stop(&mut self) -> bool {
        let mut messages = [0; 16];
        match self.wake.read(&mut messages) {
            Ok(0) => true,
            Ok(count) => messages.get(..count).unwrap_or_default().contains(&STOP),
            Err(_) => false,
        }
    }

    fn accept(&mut self) {
        // Not more in one go: those that are here already have their turn.
        for _ in 0..VISITORS {
            let now = self.endpoints.desk().now().monotonic;
            match self.listener.accept() {
                Ok((stream, origin)) => {
                    if self.visitors.len() >= VISITORS {
                        self.make_room();
                    }
                    let number = self.next;
                    self.next += 1;
                    self.visitors.push(Visitor::new(number, stream, origin, now));
                    // Most requests are here already.
                    self.step(number);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    self.accept_from = now + PAUSE;
                    return;
                }
            }
        }
    }

    /// The one that has been asking for longest goes, or else the oldest of all but the one that waits.
    fn make_room(&mut self) {
        let asking = self.visitors.iter().position(|visitor| visitor.stage == VisitStage::Asking);
        let oldest = || self.visitors.iter().position(|visitor| visitor.stage != VisitStage::Waiting);
        if let Some(position) = asking.or_else(oldest) {
            self.visitors.remove(position);
        }
    }

    fn step(&mut self, number: u64) {
        let now = self.endpoints.desk().now();
        let Some(position) = self.visitors.iter().position(|visitor| visitor.number == number) else { return };
        let Some(visitor) = self.visitors.get_mut(position) else { return };
        let next = match visitor.step(&self.access, now.monotonic) {
            VisitStep::Asked(request) => match self.endpoints.react(&request, now) {
                EndpointReaction::Answer(answer) => {
                    visitor.answer(answer.encode(request.with_body, &self.policy), now.monotonic)
                }
                EndpointReaction::Errand(wish) => return self.send_for(position, wish, &request),
            },
            VisitStep::Refused(answer) => visitor.answer(answer.encode(true, &self.policy), now.monotonic),
            other => other,
        };
        if matches!(next, VisitStep::Gone) {
            self.visitors.swap_remove(position);
            self.visitors.sort_by_key(|visitor| visitor.number);
        }
    }

    /// Has something done on a thread of its own.
    fn send_for(&mut self, position: usize, wish: Wish, request: &Request) {
        let now = self.endpoints.desk().now().monotonic;
        let Some(visitor) = self.visitors.get_mut(position) else { return };
        let (number, caller) = (visitor.number, visitor.caller);
        let refused = if self.busy {
            Some(Answer::text(Verdict::Busy, "something else is being done: try again"))
        } else {
            let begun = self.begin(wish, number, caller);
            begun.err().map(|error| Answer::text(Verdict::Failed, format!("it cannot be begun: {error}")))
        };
        let Some(visitor) = self.visitors.get_mut(position) else { return };
        if let Some(answer) = refused {
            visitor.answer(answer.encode(request.with_body, &self.policy), now);
        } else {
            self.busy = true;
            visitor.wait(now);
        }
    }

    fn begin(&self, wish: Wish, number: u64, caller: AdminCaller) -> io::Result<()> {
        let (desk, done) = (Arc::clone(self.endpoints.desk()), self.done.clone());
        let mut alarm = self.alarm.try_clone()?;
        let run = move || {
            let result = match wish {
                Wish::Explain(id) => told(desk.explain(&id)),
                Wish::Reload => told(desk.reload()),
                Wish::Drain => told(desk.drain()),
                Wish::Pair(wish) => told(desk.pair(&wish)),
                Wish::Inbox(operation, form) => match desk.inbox(&InboxWish { operation: &operation, form, caller }) {
                    Some(Ok(report)) => inbox::answer(&operation, form, &report),
                    Some(Err(why)) => Answer::text(Verdict::Failed, why),
                    None => Answer::text(Verdict::Unknown, "deliveries are not stored: there is no [inbox]"),
                },
            };
            let _ = done.send((number, result));
            let _ = alarm.write_all(&[RESULT]);
        };
        thread::Builder::new().name("errand".to_owned()).spawn(run).map(drop)
    }

    fn deliver_results(&mut self) {
        while let Ok((number, answer)) = self.results.try_recv() {
            self.busy = false;
            self.tell(number, &answer);
        }
    }

    fn give_up_waiting(&mut self, now: Duration) {
        let late = |visitor: &&Visitor| visitor.stage == VisitStage::Waiting && now >= visitor.deadline;
        let late: Vec<u64> = self.visitors.iter().filter(late).map(|visitor| visitor.number).collect();
        for number in late {
            self.tell(number, &Answer::text(Verdict::Accepted, "it takes longer: see /status"));
        }
    }

    fn tell(&mut self, number: u64, answer: &Answer) {
        let now = self.endpoints.desk().now().monotonic;
        if let Some(visitor) = self.visitors.iter_mut().find(|visitor| visitor.number == number) {
            // Whether it is gone shows when it is waited for next.
            visitor.answer(answer.encode(true, &self.policy), now);
        }
    }
}

/// The answer to an errand.
fn told(errand: Errand) -> Answer {
    match errand {
        Errand::Done(words) => Answer::text(Verdict::Good, words),
        Errand::Failed(words) => Answer::text(Verdict::Failed, words),
    }
}

impl AdminListener {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }

    fn accept(&self) -> io::Result<(VisitorStream, AdminCaller)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(true)?;
                // A large answer leaves in several writes; waiting for the acknowledgement of one gains nothing.
                let _ = stream.set_nodelay(true);
                let own = stream.local_addr().ok();
                Ok((VisitorStream::Tcp(stream), AdminCaller::Tcp { peer, own }))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                let user = getsockopt(&stream, PeerCredentials).ok().map(|of| (of.uid(), of.pid()));
                Ok((VisitorStream::Unix(stream), AdminCaller::Unix(user)))
            }
        }
    }
}
