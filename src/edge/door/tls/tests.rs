//! Sessions against rustls's own client, in memory: however the bytes between them are cut, and whatever becomes of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use rustls::crypto::ring as cryptography;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::certificates::Shown;
use super::door::{OldestVersion, TlsDoor, TlsSetup};
use super::records::RecordBuffers;
use super::session::{Failure, TlsSession};
use super::tickets::Tickets;
use crate::edge::runtime::stream::{ByteStream, Lent};

/// A listener, and what its clients must know of it.
fn door() -> (TlsDoor, RootCertStore) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let chain = vec![signed.cert.der().clone()];
    let certified = CertifiedKey::from_der(chain, key, &cryptography::default_provider()).unwrap();
    let shown = Shown { key: Arc::new(certified), names: Vec::new() };
    let setup = TlsSetup {
        certificates: vec![shown],
        callers: None,
        oldest: OldestVersion::Tls12,
        readings: Arc::default(),
        authorities: Arc::default(),
    };
    let door = Tickets::new().unwrap().doors(&[Some(setup)]).unwrap().pop().flatten().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    (door, roots)
}

/// The socket, with a client at its other end. Nothing waits: what has not come when it is asked for never comes.
struct Wire {
    client: ClientConnection,
    /// What the client has sent and has not been read.
    sent: Vec<u8>,
    /// How much a read brings at most, and a write takes.
    grain: usize,
    /// Which byte of all that the client sends is spoiled.
    spoil: Option<usize>,
    read: usize,
    /// The client has closed its side.
    closed: bool,
    /// What the client has understood.
    received: Vec<u8>,
}

impl Wire {
    fn new(roots: RootCertStore, version: &'static SupportedProtocolVersion, grain: usize) -> Self {
        let builder = ClientConfig::builder_with_provider(Arc::new(cryptography::default_provider()));
        let config = builder.with_protocol_versions(&[version]).unwrap().with_root_certificates(roots);
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(config.with_no_client_auth()), name).unwrap();
        client.set_buffer_limit(None);
        let (sent, received) = (Vec::new(), Vec::new());
        Self { client, sent, grain, spoil: None, read: 0, closed: false, received }
    }

    fn take(&mut self, buf: &mut Vec<u8>) -> Option<usize> {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.sent).unwrap();
        }
        let count = self.sent.len().min(self.grain).min(buf.capacity() - buf.len());
        if count == 0 {
            return self.closed.then_some(0);
        }
        let mut piece: Vec<u8> = self.sent.drain(..count).collect();
        if let Some(at) = self.spoil.and_then(|at| at.checked_sub(self.read)) {
            piece.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x55);
        }
        self.read += count;
        buf.extend(piece);
        Some(count)
    }
}

impl ByteStream for Wire {
    async fn read(&mut self, _: Vec<u8>, _: Duration) -> Lent<usize> {
        unreachable!("sessions read patiently")
    }

    async fn read_patiently(&mut self, mut buf: Vec<u8>, _: Duration) -> Lent<Option<usize>> {
        let count = self.take(&mut buf);
        (Ok(count), buf)
    }

    async fn readable(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    async fn write(&mut self, buf: Vec<u8>, range: Range<usize>, _: Duration) -> Lent<usize> {
        let bytes = buf.get(range).unwrap_or_default();
        let count = bytes.len().min(self.grain);
        self.offer(&bytes[..count]);
        (Ok(count), buf)
    }

    fn offer(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.client.read_tls(&mut rest).is_ok_and(|count| count > 0) {
            if self.client.process_new_packets().is_err() {
                return;
            }
            let _ = self.client.reader().read_to_end(&mut self.received);
        }
    }

    fn is_quiet(&self) -> bool {
        self.sent.is_empty()
    }

    fn has_ended(&self) -> bool {
        self.closed && self.sent.is_empty()
    }

    fn shut_down_write(&mut self) {}
    fn join_task_of(&mut self, _: &Self) {}
    fn leave_task(&mut self) {}
}

const NEVER: Duration = Duration::MAX;

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing waits here"),
    }
}

fn session(door: &TlsDoor) -> TlsSession {
    TlsSession::new(door.open().unwrap(), Rc::new(RecordBuffers::default()), b"")
}

/// Everything that can be read, with `room` bytes of room each time; and how it ended.
fn read_all(session: &mut TlsSession, wire: &mut Wire, room: usize) -> (Vec<u8>, io::Result<Option<usize>>) {
    let mut all = Vec::new();
    loop {
        let (result, buf) = now(session.read_patiently(wire, Vec::with_capacity(room), NEVER));
        match result {
            Ok(Some(count)) if count > 0 => all.extend_from_slice(&buf),
            end => return (all, end),
        }
    }
}

fn version(older: bool) -> &'static SupportedProtocolVersion {
    if older { &TLS12 } else { &TLS13 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_said_is_heard_however_it_is_cut(
        older: bool,
        grain in prop_oneof![1_usize..50, 1000_usize..3000, Just(usize::MAX)],
        room in prop_oneof![1_usize..40, 2000_usize..40_000],
        pieces in prop::collection::vec((1_usize..40_000, any::<u8>()), 1..4),
        polite: bool,
    ) {
        let (door, roots) = door();
        let (mut session, mut wire) = (session(&door), Wire::new(roots, version(older), grain));
        now(session.handshake(&mut wire, NEVER)).unwrap();
        let mut said = Vec::new();
        for (length, byte) in pieces {
            let piece = vec![byte; length];
            wire.client.writer().write_all(&piece).unwrap();
            said.extend_from_slice(&piece);
            let (heard, end) = read_all(&mut session, &mut wire, room);
            prop_assert!(heard == piece && matches!(end, Ok(None)), "{} of {length}, {end:?}", heard.len());
            prop_assert!(!session.has_plain() && !session.has_partial());
            // And the other way.
            let before = wire.received.len();
            let (result, _) = now(session.write_all_of(&mut wire, piece));
            result.unwrap();
            prop_assert_eq!(wire.received.len() - before, length);
        }
        prop_assert!(wire.received == said);
        if polite {
            wire.client.send_close_notify();
        }
        wire.closed = true;
        let (rest, end) = read_all(&mut session, &mut wire, room);
        prop_assert!(rest.is_empty());
        match end {
            Ok(Some(0)) => prop_assert!(polite),
            Err(error) => prop_assert!(!polite && error.kind() == io::ErrorKind::UnexpectedEof),
            other => prop_assert!(false, "{other:?}"),
        }
        // A client that has closed its side can still be answered.
        if polite {
            let (result, _) = now(session.write_all_of(&mut wire, b"answer".to_vec()));
            result.unwrap();
            prop_assert!(wire.received.ends_with(b"answer"));
        }
        session.say_goodbye(&mut wire);
        prop_assert_eq!(wire.client.reader().read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_spoiled_byte_ends_the_session_and_nothing_false_is_heard(
        older: bool,
        grain in prop_oneof![1_usize..50, Just(usize::MAX)],
        at in 0_usize..3000,
    ) {
        let (door, roots) = door();
        let (mut session, mut wire) = (session(&door), Wire::new(roots, version(older), grain));
        wire.spoil = Some(at);
        let said = vec![b'x'; 2000];
        if now(session.handshake(&mut wire, NEVER)).is_ok() {
            wire.client.writer().write_all(&said).unwrap();
            wire.closed = true;
            let (heard, end) = read_all(&mut session, &mut wire, 700);
            prop_assert!(said.starts_with(&heard));
            prop_assert!(end.is_err());
        }
        // Whatever has happened, it can be used without harm.
        let _ = now(session.write_all_of(&mut wire, b"more".to_vec()));
        let _ = now(session.read_patiently(&mut wire, Vec::with_capacity(10), NEVER));
        session.say_goodbye(&mut wire);
    }

    #[test]
    fn bytes_of_strangers_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        header in prop::sample::select(vec![&b""[..], b"\x16\x03\x01\x00\x40", b"\x16\x03\x01\x00\x05\x01\x00\x00\x20", b"\x15\x03\x03\x00\x02", b"\x14\x03\x03\x00\x01\x01"]),
        grain in 1_usize..300,
    ) {
        let (door, roots) = door();
        let (mut session, mut wire) = (session(&door), Wire::new(roots, &TLS13, grain));
        while wire.client.wants_write() {
            wire.client.write_tls(&mut io::sink()).unwrap();
        }
        wire.sent = [header, &bytes].concat();
        wire.closed = true;
        let failed = now(session.handshake(&mut wire, NEVER)).unwrap_err();
        let plain = header.is_empty() && bytes.first().is_some_and(u8::is_ascii_alphabetic);
        prop_assert_eq!(matches!(failed, Failure::Plaintext), plain);
    }
}

impl TlsSession {
    async fn write_all_of(&mut self, wire: &mut Wire, bytes: Vec<u8>) -> Lent<()> {
        let mut sent = 0;
        let mut buf = bytes;
        while sent < buf.len() {
            let range = sent..buf.len();
            let (result, back) = self.write(wire, buf, range, NEVER).await;
            buf = back;
            match result {
                Ok(count) => sent += count,
                Err(error) => return (Err(error), buf),
            }
        }
        (Ok(()), buf)
    }
}
