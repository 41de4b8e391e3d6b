//! Makes a connection to the engine, and finds out whether it may keep deliveries.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConnection, Error, StreamOwned};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::edge::clock::Clock;
use crate::edge::policy::Target;
use crate::edge::shared::{EnginePlace, EngineTerms, SentinelTerms};
use crate::edge::tls::outbound::ClientTls;
use crate::inbox::engine::answers::InboxAnswer;
use crate::inbox::engine::promise::{BrokenPromise, Durability, Persistence};
use crate::ledger::shared::EngineTrouble;
use crate::ledger::shared::server::{self, SECTIONS, ServerMode};
use crate::wire::resp::{self, RespValue};

use super::line::{EngineLine, EngineStream, trouble_of};

/// What is asked about its persistence.
const ASKED: [&str; 4] = ["appendonly", "appendfsync", "save", "maxmemory-policy"];

/// Why the engine does not keep deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DialTrouble {
    /// It cannot be asked, or is not fit.
    Engine(EngineTrouble),
    /// It keeps less than a 202 promises.
    Promise(BrokenPromise),
}

impl fmt::Display for DialTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(trouble) => write!(f, "{}: {}", trouble.code(), trouble.meaning()),
            Self::Promise(broken) => broken.fmt(f),
        }
    }
}

impl From<EngineTrouble> for DialTrouble {
    fn from(trouble: EngineTrouble) -> Self {
        Self::Engine(trouble)
    }
}

/// How a connection is made.
#[derive(Debug)]
pub(super) struct DialTerms {
    pub(super) engine: EngineTerms,
    /// What a 202 promises.
    pub(super) durability: Durability,
    /// The configuration vouches for what the engine does not say.
    pub(super) trusted: bool,
    /// For all replies to what is asked at once.
    pub(super) patience: Duration,
    pub(super) clock: Clock,
}

/// A connection to an engine that may keep deliveries.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) line: EngineLine,
    /// What a 202 means with it, for people.
    pub(super) means: String,
}

/// Connects to an engine, asks it what it keeps, and says what a 202 means with it.
///
/// # Errors
/// Why it does not keep deliveries.
pub fn examine(engine: EngineTerms, durability: Durability, trusted: bool) -> Result<String, String> {
    let patience = engine.connect_timeout.max(Duration::from_secs(1));
    let terms = DialTerms { engine, durability, trusted, patience, clock: Clock::start() };
    terms.dial().map(|dialled| dialled.means).map_err(|why| why.to_string())
}

impl DialTerms {
    /// Makes a connection.
    ///
    /// # Errors
    /// Why the engine does not keep deliveries.
    pub(super) fn dial(&self) -> Result<Dialled, DialTrouble> {
        let mut line = match &self.engine.place {
            EnginePlace::Direct(target) => self.connect(target)?,
            EnginePlace::Sentinels(sentinels) => self.connect(&self.find(sentinels)?)?,
            // The configuration refuses it.
            EnginePlace::Cluster(_) => return Err(DialTrouble::Engine(EngineTrouble::Cluster)),
        };
        let means = self.examine(&mut line)?;
        Ok(Dialled { line, means })
    }

    /// Asks an engine again what it keeps.
    ///
    /// # Errors
    /// As [`Self::dial`].
    pub(super) fn examine(&self, line: &mut EngineLine) -> Result<String, DialTrouble> {
        let mut asked = Vec::new();
        self.greet(&mut asked);
        SECTIONS.iter().chain(&["persistence"]).for_each(|it| resp::command(&mut asked, &[b"INFO", it.as_bytes()]));
        let config: Vec<&[u8]> = [&b"CONFIG"[..], b"GET"].into_iter().chain(ASKED.map(str::as_bytes)).collect();
        resp::command(&mut asked, &config);
        let replies = line.ask(&asked, 3 + SECTIONS.len())?;
        let mut replies = replies.iter();
        if let Some(error) = replies.next().and_then(|reply| failure(reply)) {
            let old = error.starts_with(b"ERR unknown command");
            return Err(if old { EngineTrouble::TooOld } else { EngineTrouble::of_error(&error) }.into());
        }
        let mut info = String::new();
        for reply in replies.by_ref().take(1 + SECTIONS.len()) {
            match resp::values(reply).next() {
                Some(RespValue::Text(text)) => info.push_str(&String::from_utf8_lossy(text)),
                Some(RespValue::Failure(error)) => return Err(EngineTrouble::of_error(error).into()),
                _ => return Err(EngineTrouble::Malformed.into()),
            }
        }
        let fit = server::judge(&info, ServerMode::Standalone)?;
        let config = replies.next().map(|reply| settings(reply)).unwrap_or_default();
        let pairs = config.chunks(2).filter_map(|pair| Some((pair.first()?.as_str(), pair.get(1)?.as_str())));
        let persistence = Persistence::of_pairs(pairs).with_info(&info);
        let means = persistence.judge(self.durability, self.trusted).map_err(DialTrouble::Promise)?;
        Ok(format!("{}: {means}", fit.name))
    }

    fn greet(&self, out: &mut Vec<u8>) {
        let user = self.engine.username.as_deref().unwrap_or("default").as_bytes();
        match &self.engine.password {
            Some(password) => {
                resp::command(out, &[b"HELLO", b"3", b"AUTH", user, password, b"SETNAME", b"countersign-inbox"]);
            }
            None => resp::command(out, &[b"HELLO", b"3", b"SETNAME", b"countersign-inbox"]),
        }
    }

    fn find(&self, of: &SentinelTerms) -> Result<Target, EngineTrouble> {
        let mut trouble = EngineTrouble::NoMaster;
        for sentinel in &of.sentinels {
            match self.ask_sentinel(of, sentinel) {
                Ok(Some(master)) => {
                    let addresses = crate::edge::policy::Addresses::new(master.to_string(), vec![master]);
                    return Ok(Target::Tcp(Arc::new(addresses)));
                }
                Ok(None) => trouble = EngineTrouble::NoMaster,
                Err(EngineTrouble::Unreachable) if trouble != EngineTrouble::NoMaster => {}
                Err(why) => trouble = why,
            }
        }
        Err(trouble)
    }

    fn ask_sentinel(&self, of: &SentinelTerms, sentinel: &Target) -> Result<Option<SocketAddr>, EngineTrouble> {
        let mut line = self.connect(sentinel)?;
        if let Some(password) = &of.password {
            let mut command = Vec::new();
            resp::command(&mut command, &[b"AUTH", password]);
            let reply = line.ask(&command, 1)?;
            if let Some(error) = reply.first().and_then(|reply| failure(reply)) {
                return Err(EngineTrouble::of_error(&error));
            }
        }
        let mut command = Vec::new();
        resp::command(&mut command, &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", of.service.as_bytes()]);
        let reply = line.ask(&command, 1)?;
        server::master(reply.first().map_or(&[][..], Vec::as_slice))
    }

    fn connect(&self, target: &Target) -> Result<EngineLine, EngineTrouble> {
        let timeout = self.engine.connect_timeout;
        let socket = match target {
            Target::Unix(path) => {
                let address = SockAddr::unix(path).map_err(|_| EngineTrouble::Unreachable)?;
                socket(Domain::UNIX, &address, timeout)
            }
            Target::Tcp(addresses) => {
                let until = self.clock.monotonic() + timeout;
                let each = |address: &SocketAddr| {
                    let left = until.saturating_sub(self.clock.monotonic()).max(Duration::from_millis(1));
                    socket(Domain::for_address(*address), &SockAddr::from(*address), left).ok()
                };
                addresses.current().iter().find_map(each).ok_or_else(|| io::ErrorKind::NotConnected.into())
            }
        };
        let socket = socket.map_err(|_| EngineTrouble::Unreachable)?;
        let bounded = socket
            .set_read_timeout(Some(self.patience))
            .and_then(|()| socket.set_write_timeout(Some(self.patience)))
            .map_err(|_| EngineTrouble::Unreachable);
        bounded?;
        let stream: Box<dyn EngineStream> = match &self.engine.tls {
            None => Box::new(socket),
            Some(tls) => secured(socket, tls)?,
        };
        Ok(EngineLine::new(stream, self.clock.clone(), self.patience))
    }
}

fn socket(domain: Domain, address: &SockAddr, timeout: Duration) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if domain == Domain::UNIX {
        // Where the queue of the server is full it waits no longer than for a write.
        socket.set_write_timeout(Some(timeout))?;
        socket.connect(address)?;
    } else {
        socket.connect_timeout(address, timeout)?;
        socket.set_tcp_nodelay(true)?;
    }
    Ok(socket)
}

fn secured(mut socket: Socket, tls: &ClientTls) -> Result<Box<dyn EngineStream>, EngineTrouble> {
    let opened = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone());
    let mut session = opened.map_err(|_| EngineTrouble::TlsFailed)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket).map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                Some(Error::InvalidCertificate(_)) => EngineTrouble::CertificateRefused,
                Some(_) => EngineTrouble::TlsFailed,
                None => trouble_of(&error),
            }
        })?;
    }
    Ok(Box::new(StreamOwned::new(session, socket)))
}

/// The error that a reply is, if it is one.
fn failure(reply: &[u8]) -> Option<Vec<u8>> {
    match resp::values(reply).next() {
        Some(RespValue::Failure(error)) => Some(error.to_vec()),
        _ => None,
    }
}

/// Names and values in turns; none where it may not be asked.
fn settings(reply: &[u8]) -> Vec<String> {
    let texts = InboxAnswer::plain(reply).texts().unwrap_or_default();
    texts.into_iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}
