//! TLS from the other side: authorities, certificates of every kind, and a client that is rustls's own.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::client::{ClientSessionMemoryCache, ResolvesClientCert, Resumption};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, SignatureScheme, StreamOwned,
};

use super::PATIENCE;
use super::answer::{Answer, AnswerReader};
use super::proxy::Plan;

/// Who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Credential {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Credential {
    /// As a server shows it.
    pub(crate) fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).map(Result::unwrap).collect();
        (chain, PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap())
    }

    /// With these certificates behind its own.
    pub(crate) fn behind(mut self, others: &[String]) -> Self {
        others.iter().for_each(|other| self.certificate.push_str(other));
        self
    }
}

/// Shows a certificate whatever it is.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self(CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names: host names, addresses, or URIs where there is a colon.
    pub(crate) fn certify(&self, names: &[&str]) -> Credential {
        self.certify_until(names, 4096)
    }

    pub(crate) fn certify_until(&self, names: &[&str], year: i32) -> Credential {
        self.certify_as(names, |params| params.not_after = date_time_ymd(year, 1, 1))
    }

    /// A certificate that is not as usual.
    pub(crate) fn certify_as(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Credential {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names
            .iter()
            .map(|name| match (name.parse(), name.contains(':')) {
                (Ok(address), _) => SanType::IpAddress(address),
                (_, true) => SanType::URI((*name).try_into().unwrap()),
                (_, false) => SanType::DnsName((*name).try_into().unwrap()),
            })
            .collect();
        params.not_after = date_time_ymd(4096, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Credential { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// An authority whose certificate this one has signed.
    pub(crate) fn authorize(&self, name: &str) -> Self {
        let params = authority(name);
        Self(CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    /// Its own certificate, as if it were a client.
    pub(crate) fn credential(&self) -> Credential {
        Credential { certificate: self.pem(), key: self.0.key().serialize_pem() }
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap()).unwrap();
        roots
    }

    /// A client that trusts this authority, with a certificate of its own or without.
    pub(crate) fn client(&self, own: Option<&Credential>) -> Dialer {
        self.client_of(own, rustls::DEFAULT_VERSIONS)
    }

    pub(crate) fn client_of(
        &self,
        own: Option<&Credential>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Dialer {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(self.roots());
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes()).map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                let key = ring::sign::any_supported_type(&key).unwrap();
                builder.with_client_cert_resolver(Arc::new(Shows(Arc::new(CertifiedKey::new(chain, key)))))
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(64);
        Dialer { config, name: "localhost".to_owned(), preface: Vec::new() }
    }
}

/// Makes connections; what it learns on one (tickets) it uses on the next.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) config: ClientConfig,
    name: String,
    preface: Vec<u8>,
}

impl Dialer {
    /// Asks for this name.
    pub(crate) fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    pub(crate) fn alpn(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Sends this in plain text before anything else.
    pub(crate) fn preface(mut self, bytes: &[u8]) -> Self {
        self.preface = bytes.to_vec();
        self
    }

    /// Forgets its sessions.
    pub(crate) fn afresh(mut self) -> Self {
        self.config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(64)));
        self
    }

    /// The first message of a handshake, as it is sent.
    pub(crate) fn hello(&self) -> Vec<u8> {
        let name = ServerName::try_from(self.name.clone()).unwrap();
        let mut connection = ClientConnection::new(Arc::new(self.config.clone()), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// Connects, and makes the handshake.
    pub(crate) fn try_connect(&self, address: SocketAddr) -> io::Result<SecureClient> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        socket.write_all(&self.preface)?;
        let name = ServerName::try_from(self.name.clone()).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(Arc::new(self.config.clone()), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(SecureClient { stream: StreamOwned::new(connection, socket), reader: AnswerReader::default() })
    }

    #[track_caller]
    pub(crate) fn connect(&self, address: SocketAddr) -> SecureClient {
        self.try_connect(address).expect("a handshake")
    }

    /// What comes of a handshake and one request: an answer, or why there is none. In TLS 1.3 a client learns only
    /// after its own part of the handshake that it was refused.
    pub(crate) fn ask(&self, address: SocketAddr, bytes: &[u8]) -> io::Result<Answer> {
        let mut client = self.try_connect(address)?;
        client.stream.write_all(bytes)?;
        client.try_answer()
    }
}

/// An encrypted connection to the proxy.
pub(crate) struct SecureClient {
    pub(crate) stream: StreamOwned<ClientConnection, TcpStream>,
    reader: AnswerReader,
}

impl SecureClient {
    pub(crate) fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
        self
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, bytes: &[u8]) -> Answer {
        self.send(bytes).answer()
    }

    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    pub(crate) fn try_answer(&mut self) -> io::Result<Answer> {
        self.reader.read(&mut self.stream, false)
    }

    /// Says that nothing more will be sent, and goes on listening.
    pub(crate) fn stop_talking(&mut self) -> &mut Self {
        self.stream.conn.send_close_notify();
        let _ = self.stream.flush();
        self
    }

    /// The connection has been closed politely (rustls takes an end without `close_notify` for an error), and nothing
    /// more came.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let mut rest = self.reader.take();
        let end = self.stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "more came: {:?}", rest.escape_ascii().to_string());
        end.expect("a polite end");
    }

    pub(crate) fn resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub(crate) fn version(&self) -> Option<ProtocolVersion> {
        self.stream.conn.protocol_version()
    }

    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.stream.conn.alpn_protocol()
    }

    /// The certificate that was shown.
    pub(crate) fn shown(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().and_then(<[_]>::first).map(|it| it.to_vec()).unwrap_or_default()
    }
}

impl Plan {
    /// Puts a certificate and its key beside the configuration: `NAME.crt` and `NAME.key`.
    pub(crate) fn credential(self, name: &str, credential: &Credential) -> Self {
        self.file(&format!("{name}.crt"), &credential.certificate).file(&format!("{name}.key"), &credential.key)
    }

    /// An encrypted listener with this certificate, and these lines in its `[listener.tls]`.
    pub(crate) fn encrypted(self, credential: &Credential, lines: &str) -> Self {
        self.credential("tls", credential).tls(&format!("certificate = \"tls.crt\"\nkey = \"tls.key\"\n{lines}"))
    }
}
