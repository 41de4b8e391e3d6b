//! The listeners of one worker: accept loops that survive errors, and end without losing a client.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::Canceller;
use monoio::net::{TcpListener, TcpStream};

use crate::gate::admission::ConnectionPermit;
use crate::outcome::ConnectionEnd;
use crate::telemetry::WorkerCells;

use super::listener::{self, Entrance};
use crate::edge::drain::Open;
use crate::edge::peer::PeerOrigin;
use crate::edge::policy::{ListenerId, Policy};
use crate::edge::runtime::coop::CoopBudget;
use crate::edge::runtime::driver::Driver;
use crate::edge::runtime::net::{Net, Sockets};
use crate::edge::runtime::stream::Socket;
use crate::edge::serve;
use crate::edge::wait::idle::IdleConnection;
use crate::edge::worker::Worker;

/// How long accepting pauses when the process is out of file descriptors or memory: something must end first.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts of a listener that are under way at once where the kernel waits for them (io_uring): as many connections are
/// accepted in one round of the worker. With a single one, a burst of clients overflows the queue of the listener while
/// the worker serves those that it has, and a client that is dropped there tries again after a second. A round of the worker
/// that is busy takes about half a millisecond: with eight, no more than 16,000 connections a second could be accepted,
/// and a client behind a few thousand others waited for hundreds of rounds.
const LANES: usize = 32;

/// As many are accepted in a row where accepting need not wait (epoll).
const BURST: u32 = 32;

/// Idle connections that are closed then: each gives back a descriptor.
const MADE_ROOM: u64 = 8;

/// How long a handshake may take that had begun when its listener was closed: a round trip and some.
const HANDSHAKE: Duration = Duration::from_millis(500);

/// How often the queue of a listener that is being closed is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// The listeners of a worker.
pub(in crate::edge) struct Acceptors {
    worker: Rc<Worker<Sockets>>,
    driver: Driver,
    prepared: Vec<Acceptor>,
    accepting: Vec<(ListenerId, Rc<Ending>)>,
}

/// One listener.
struct Acceptor {
    id: ListenerId,
    listener: TcpListener,
    /// The same socket, for what the runtime cannot do.
    twin: StdListener,
    driver: Driver,
    /// Others hold the socket, too.
    inherited: bool,
}

/// How an accept loop is told to end. An accept that is under way is cancelled and its result awaited: one that is just
/// dropped may have accepted a connection.
#[derive(Default)]
struct Ending {
    begun: Cell<bool>,
    canceller: RefCell<Canceller>,
    /// Lanes that have not ended.
    lanes: Cell<usize>,
    /// Whether one of them pauses because something has run out.
    pauses: Cell<bool>,
}

impl Ending {
    fn begin(&self) {
        self.begun.set(true);
        let canceller = self.canceller.take().cancel();
        self.canceller.replace(canceller);
    }
}

impl Acceptors {
    pub(in crate::edge) const fn new(worker: Rc<Worker<Sockets>>, driver: Driver) -> Self {
        Self { worker, driver, prepared: Vec::new(), accepting: Vec::new() }
    }

    /// Registers sockets. Accepting begins with [`Self::enforce`].
    ///
    /// # Errors
    /// One cannot be registered; none is kept then.
    pub(in crate::edge) fn prepare(&mut self, entrances: Vec<Entrance>) -> io::Result<()> {
        let adopt = |entrance| Acceptor::adopt(entrance, self.driver);
        self.prepared = entrances.into_iter().map(adopt).collect::<io::Result<_>>()?;
        Ok(())
    }

    /// Lets go of what was prepared.
    pub(in crate::edge) fn abandon(&mut self) {
        self.prepared.clear();
    }

    /// Accepts on what was prepared, and closes the listeners that the policy does not have. Idle connections look
    /// again whether they may stay.
    pub(in crate::edge) fn enforce(&mut self, policy: &Policy) {
        for acceptor in std::mem::take(&mut self.prepared) {
            let (acceptor, ending) = (Rc::new(acceptor), Rc::<Ending>::default());
            self.accepting.push((acceptor.id, Rc::clone(&ending)));
            let lanes = if self.driver == Driver::IoUring { LANES } else { 1 };
            ending.lanes.set(lanes);
            for _ in 0..lanes {
                let (acceptor, ending) = (Rc::clone(&acceptor), Rc::clone(&ending));
                monoio::spawn(acceptor.run(Rc::clone(&self.worker), ending, self.worker.drain.open()));
            }
        }
        let mut calls = policy.live.judges_anew;
        self.accepting.retain(|(id, ending)| {
            let stays = policy.listens(*id);
            if !stays {
                ending.begin();
                calls = true;
            }
            stays
        });
        if calls {
            self.worker.idle.wake_all();
        }
    }

    /// Closes all of them.
    pub(in crate::edge) fn close(&mut self) {
        self.abandon();
        for (_, ending) in self.accepting.drain(..) {
            ending.begin();
        }
        self.worker.idle.wake_all();
    }
}

impl Acceptor {
    /// Hands a bound socket to the runtime of the calling thread.
    fn adopt(Entrance { id, inherited, socket }: Entrance, driver: Driver) -> io::Result<Self> {
        // io_uring waits inside the kernel and must be given a blocking socket; epoll the opposite.
        socket.set_nonblocking(driver == Driver::Epoll)?;
        let twin = socket.try_clone()?;
        Ok(Self { id, listener: TcpListener::from_std(socket)?, twin, driver, inherited })
    }

    /// Accepts until it is told to end. What goes wrong with one connection ends that connection; running out of
    /// descriptors or memory pauses the loop instead of spinning in it. The last lane that ends accepts the
    /// clients that have begun to connect. `_open` keeps the worker until it has ended.
    async fn run(self: Rc<Self>, worker: Rc<Worker<Sockets>>, ending: Rc<Ending>, _open: Open) {
        let mut budget = CoopBudget::of(BURST);
        while !ending.begun.get() {
            let handle = ending.canceller.borrow().handle();
            match budget.during(self.listener.cancelable_accept(handle)).await {
                Ok((stream, peer)) => {
                    self.welcome(&worker, stream, peer);
                    worker.turns.newcomer().await;
                }
                Err(error) if concerns_one_connection(&error) || ending.begun.get() => {}
                Err(error) => {
                    let first = !ending.pauses.replace(true);
                    if first {
                        worker.accept_failed(&error);
                        worker.close_idle(MADE_ROOM);
                    }
                    monoio::time::sleep(PAUSE).await;
                    if first {
                        ending.pauses.set(false);
                    }
                }
            }
        }
        ending.lanes.set(ending.lanes.get() - 1);
        // What waits in a socket that others hold, too, is for the next process.
        if ending.lanes.get() == 0 && !self.inherited {
            self.run_dry(&worker).await;
        }
    }

    /// Accepts the clients that have begun to connect, before the socket is closed.
    async fn run_dry(&self, worker: &Rc<Worker<Sockets>>) {
        // Where this is not possible it is tried without.
        let _ = listener::refuse_newcomers(&self.twin);
        let end = worker.net.monotonic() + HANDSHAKE;
        if self.twin.set_nonblocking(true).is_err() {
            return;
        }
        loop {
            let last = worker.net.monotonic() >= end;
            loop {
                match self.twin.accept().and_then(|(stream, peer)| Ok((self.adopt_stream(stream)?, peer))) {
                    Ok((stream, peer)) => self.welcome(worker, stream, peer),
                    Err(error) if concerns_one_connection(&error) => {}
                    Err(_) => break,
                }
            }
            if last {
                return;
            }
            monoio::time::sleep(GLANCE).await;
        }
    }

    fn adopt_stream(&self, stream: std::net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nonblocking(self.driver == Driver::Epoll)?;
        TcpStream::from_std(stream)
    }

    fn welcome(&self, worker: &Rc<Worker<Sockets>>, stream: TcpStream, peer: SocketAddr) {
        // A client of IPv4 on a socket of IPv6 has a mapped address (::ffff:192.0.2.1). It is an IPv4 address.
        let origin = PeerOrigin { peer: Some(peer.ip().to_canonical()), listener: self.id };
        let permit = match worker.open(origin) {
            Err(ConnectionEnd::ConnectionsFull) if worker.peers.can_be_waited_for() => None,
            // Refused quickly: the socket is closed as it is.
            Err(end) => return worker.connection_ended(end, origin.peer),
            Ok(permit) => Some(permit),
        };
        let socket = Socket::tcp(stream, &worker.net.alarms);
        let accepted = IdleConnection::accepted(worker, socket, origin);
        let (worker, open) = (Rc::clone(worker), worker.drain.open());
        match permit {
            Some(permit) => settle(worker, accepted, permit, open),
            None => drop(monoio::spawn(async move {
                match worker.peers.wait_for(|| worker.open(origin).ok()).await {
                    Some(permit) => settle(worker, accepted, permit, open),
                    None => worker.connection_ended(ConnectionEnd::ConnectionsFull, origin.peer),
                }
            })),
        }
    }
}

/// Gives a connection its task. What that contains is held as long as the connection.
fn settle(worker: Rc<Worker<Sockets>>, accepted: Box<IdleConnection<Socket>>, permit: ConnectionPermit, open: Open) {
    worker.cells(WorkerCells::accepted);
    monoio::spawn(async move {
        let staying = pin!(serve::stay(&worker, accepted, permit));
        worker.net.clock.turn(staying).await;
        drop(open);
    });
}

/// `accept(2)`: errors of a connection that was lost before it was accepted.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
