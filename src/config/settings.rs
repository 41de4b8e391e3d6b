//! What a configuration means, once it has been checked: plain values with units, nothing left to parse.
//!
//! [`parse_str`] is the whole way from text to settings, without files, environment or clock.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::document::Document;
use crate::config::problem::{Place, Problems};
use crate::config::readiness::Readiness;
use crate::config::records::{AccessLog, Audit};
use crate::config::secret::Secret;
use crate::config::{admin, keys, records, reload, routes, sections, tls};
use crate::gate::believed::KeptFields;
use crate::gate::chain::KeyKind;
use crate::gate::identity::CallerList;
use crate::gate::limits::AdmissionLimits;
use crate::gate::networks::Network;
use crate::gate::observe::Observe;
use crate::gate::replay::ReplayPolicy;
use crate::gate::route::RouteKey;
use crate::gate::route_admission::RouteAdmission;
use crate::gate::upstream::UpstreamAddress;
use crate::gate::verify::PublicUrl;
use crate::gate::verify::Scheme;
use crate::gate::verify::Tolerance;
use crate::gate::verify::Validity;

/// A whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Process.
    pub server: Server,
    /// Where we listen; at least one.
    pub listeners: Vec<Listener>,
    /// Probes, metrics and status; nothing where no port was asked for.
    pub admin: Option<Admin>,
    /// How we talk to applications.
    pub upstream: Upstream,
    /// Bounds on what a client may send and how long it may take.
    pub limits: Limits,
    /// One line for each exchange.
    pub access_log: AccessLog,
    /// The audit trail, if there is one.
    pub audit: Option<Audit>,
    /// At least one, in the order of the file; names are unique.
    pub routes: Vec<RouteSettings>,
    /// Every application address that a route uses, each once. Routes name one by position.
    pub upstreams: Vec<UpstreamAddress>,
    /// How changes of files are noticed.
    pub reload: Reload,
}

/// Which interface of the kernel the workers use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring, or no start.
    IoUring,
    /// epoll.
    Epoll,
}

impl Driver {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// `[server]`: the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Worker threads; 0 for one per core that the cgroup grants.
    pub workers: usize,
    /// Kernel interface.
    pub driver: Driver,
    /// How long the process goes on accepting once it has been told to stop by SIGTERM.
    pub drain_delay: Duration,
    /// How long exchanges in flight may take to finish after that.
    pub drain_grace: Duration,
}

impl Default for Server {
    fn default() -> Self {
        let (drain_delay, drain_grace) = (Duration::from_secs(5), Duration::from_secs(25));
        Self { workers: 0, driver: Driver::Auto, drain_delay, drain_grace }
    }
}

/// `[[listener]]`: a bound socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Address; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Whether connections begin with a header of the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// The proxies that are believed about who their clients are.
    pub trusted_proxies: Vec<Network>,
    /// How it is encrypted; `None` for plain text.
    pub tls: Option<TlsSettings>,
    /// Where it is configured.
    pub place: Place,
}

/// `[listener.tls]`: what the listener shows, and what it asks of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// What it can show; the first is the default.
    pub certificates: Vec<CertificateSettings>,
    /// What it asks of clients; `None` where they are not asked for a certificate.
    pub callers: Option<CallerSettings>,
    /// The oldest version.
    pub min_version: MinVersion,
    /// Where it begins.
    pub place: Place,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSettings {
    /// The chain, in PEM.
    pub certificate: FileSettings,
    /// The private key, in PEM.
    pub key: FileSettings,
    /// What stands in the certificate; [`crate::config::load()`] fills it in.
    pub facts: Option<CertificateFacts>,
}

/// What people want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Whom it is for.
    pub subject: String,
    /// Host names and addresses in it (subject alternative names).
    pub names: Vec<String>,
    /// Seconds since 1970, from which it holds.
    pub not_before: i64,
    /// And until which.
    pub not_after: i64,
    /// SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` shows it.
    pub fingerprint: String,
    /// What kind of key it is for.
    pub key: KeyKind,
}

/// Which clients a listener lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerSettings {
    /// The authorities, in PEM.
    pub authorities: FileSettings,
    /// Whether a client without a certificate is refused.
    pub required: bool,
    /// The names that may call; empty for any that the authorities have signed.
    pub names: CallerList,
    /// What stands in the certificates of the authorities; [`crate::config::load()`] fills it in.
    pub facts: Vec<CertificateFacts>,
}

/// A reference to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// Relative to the directory of the configuration file.
    pub path: PathBuf,
    /// Where it is written.
    pub place: Place,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl MinVersion {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// They do not.
    #[default]
    Off,
    /// They do, in either version, and come from trusted proxies alone.
    V1V2,
}

impl ProxyProtocol {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::V1V2 => "v1v2",
        }
    }
}

/// `[admin]`: the port for probes, metrics and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it is.
    pub address: AdminAddress,
    /// Names by which it is called beside its addresses and `localhost`, in lower case.
    pub hosts: Vec<String>,
    /// Whether reload and drain may be asked for from other hosts.
    pub remote_control: bool,
    /// So many refused requests are kept in memory.
    pub capture_refused: usize,
    /// Which applications `/ready` asks for; nothing where it asks for none.
    pub ready: Option<Readiness>,
}

/// Where the admin port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// An address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix-domain socket.
    Unix(PathBuf),
}

impl core::fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `[upstream]`: how we talk to applications. The addresses are in [`Settings::upstreams`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// How long a connection may take to be established.
    pub connect_timeout: Duration,
    /// From the end of the request to the head of the answer, and between two pieces of its body.
    pub response_timeout: Duration,
    /// How long a pooled connection may be idle.
    pub idle_timeout: Duration,
    /// How many idle connections each worker keeps for each address.
    pub idle_connections: usize,
    /// How long a pooled connection rests after an answer before it can be used again.
    pub reuse_after: Duration,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(4),
            idle_connections: 64,
            reuse_after: Duration::from_millis(5),
        }
    }
}

/// `[limits]`: bounds on what a client may send and how long it may take. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The whole head: request line, fields and the empty line.
    pub head_size: usize,
    /// Number of header fields.
    pub headers: usize,
    /// Length of the request target.
    pub target_size: usize,
    /// Length of a body, where the route says nothing.
    pub body_size: u64,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// From the beginning of a connection to the end of its TLS handshake.
    pub handshake_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of a response.
    pub write_timeout: Duration,
    /// After so many requests a connection is closed.
    pub requests_per_connection: u32,
    /// Bytes of a body that must come in a second, after a grace period; 0 for any.
    pub body_rate_min: u64,
    /// Bounds of the whole process.
    pub admission: AdmissionLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_size: 16 << 10,
            headers: 100,
            target_size: 8 << 10,
            body_size: 1 << 20,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            requests_per_connection: 10_000,
            body_rate_min: 1 << 10,
            admission: AdmissionLimits::default(),
        }
    }
}

/// `[reload]`: how changes of files are noticed. Beside this, SIGHUP always reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Whether the kernel tells about changes in the directories of the configuration and of every file it names.
    pub watch: bool,
    /// How often the files are looked at in any case; `None` for never.
    pub poll: Option<Duration>,
}

impl Default for Reload {
    fn default() -> Self {
        Self { watch: true, poll: Some(Duration::from_secs(30)) }
    }
}

/// `[[route]]`: which requests, verified how, sent where.
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// Unique name.
    pub name: String,
    /// Which requests.
    pub key: RouteKey,
    /// How deliveries are verified; `None` only where the configuration says `scheme = "none"`.
    pub verification: Option<Verification>,
    /// The longest body, in bytes.
    pub body_size: u64,
    /// Position in [`Settings::upstreams`].
    pub upstream: usize,
    /// Which addresses may call.
    pub clients: ClientSettings,
    /// Which names, proven by a certificate, may call.
    pub callers: CallerList,
    /// Where these are written.
    pub callers_place: Option<Place>,
    /// Which fields reach the application although applications believe them.
    pub kept: KeptFields,
    /// Rate and media types.
    pub admission: RouteAdmission,
    /// Which checks only count.
    pub observe: Observe,
    /// How deliveries that have been seen before are treated; `None` where none is remembered.
    pub replay: Option<ReplayPolicy>,
    /// Where the route begins.
    pub place: Place,
}

/// Who may call a route.
#[derive(Clone, Debug, Default)]
pub struct ClientSettings {
    /// Who is let in; everyone, if there is neither a network nor a file. [`crate::config::load()`] adds what the file
    /// holds.
    pub allow: Vec<Network>,
    /// Further networks that are let in.
    pub allow_file: Option<ListFile>,
    /// Who is not let in, even so.
    pub deny: Vec<Network>,
}

impl ClientSettings {
    /// Whether nobody is ever refused.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.allow.is_empty() && self.allow_file.is_none() && self.deny.is_empty()
    }
}

/// A reference to a file with a list in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFile {
    /// Relative to the directory of the configuration file.
    pub path: PathBuf,
    /// Where it is written.
    pub place: Place,
}

/// How the deliveries of a route are verified.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The scheme.
    pub scheme: Arc<Scheme>,
    /// References to the keys, at least one: secrets, or public keys where the scheme wants those.
    pub keys: Vec<KeySettings>,
    /// The URL that the sender knows; present where the scheme signs it.
    pub public_url: Option<PublicUrl>,
    /// Distance of a signed timestamp from the present; present where the scheme signs one.
    pub tolerance: Option<Tolerance>,
}

/// A reference to a secret or a public key.
#[derive(Clone, Debug)]
pub struct KeySettings {
    /// Name of the key, unique in its route; the application gets it in `X-Countersign-Key-Id`.
    pub id: String,
    /// Where the bytes are.
    pub source: KeySource,
    /// When it counts.
    pub validity: Validity,
    /// Where the source is written.
    pub place: Place,
    /// When its file was written, in unix seconds; nothing for one that is in no file. [`crate::config::load()`] says so.
    pub written: Option<i64>,
    /// Whether a line end has been left out at the end of the bytes. [`crate::config::load()`] says so.
    pub line_end_left_out: bool,
}

/// Where the bytes of a key are.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// In a file; relative to the directory of the configuration file.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
    /// In the configuration itself.
    Value(Secret),
}

/// Reads and checks the text of a configuration. `file` is its name, for messages. Pure: referenced files and
/// variables are not looked at.
///
/// # Errors
/// Every problem of the text, when at least one of them is an error; otherwise the warnings come with the settings.
pub fn parse_str(file: &str, text: &str) -> Result<(Settings, Problems), Problems> {
    let (settings, problems) = read(file, text);
    if problems.has_errors() { Err(problems) } else { Ok((settings, problems)) }
}

/// Every key that is looked for when this text is read, with its path but without positions (`route.secrets.file`).
/// Keys of a section count only when the text has the section. Nothing for a text that is not TOML.
#[must_use]
pub fn vocabulary(text: &str) -> BTreeSet<String> {
    let Ok(document) = Document::parse("", text) else { return BTreeSet::new() };
    read_document(&document);
    document.vocabulary()
}

/// The same as [`parse_str`], but with what could be read in spite of errors, so that more problems can be found in
/// one run. The routes that are left are free of errors.
pub(super) fn read(file: &str, text: &str) -> (Settings, Problems) {
    let document = match Document::parse(file, text) {
        Ok(document) => document,
        Err(problems) => return (Settings::default(), problems),
    };
    let settings = read_document(&document);
    let mut problems = document.into_problems();
    problems.sort();
    (settings, problems)
}

/// The keys of the routes that could not be read for another mistake, so that what is wrong with their files is found
/// in the same run: for each route its keys, and whether they are public. Mistakes in the keys themselves have been
/// reported with the route.
pub(super) fn stray_keys(file: &str, text: &str, settings: &Settings) -> Vec<(Vec<KeySettings>, bool)> {
    let Ok(document) = Document::parse(file, text) else { return Vec::new() };
    let root = document.root();
    let mut stray = Vec::new();
    for (position, route) in root.tables("route").into_iter().flatten().enumerate() {
        let path = format!("route[{position}]");
        if settings.routes.iter().any(|known| known.place.key_path == path) || route.string("scheme") == Some("none") {
            continue;
        }
        let public = !route.has("secrets");
        let keys = keys::read(&route, if public { "public_keys" } else { "secrets" });
        stray.extend(keys.map(|keys| (keys, public)));
    }
    stray
}

fn read_document(document: &Document<'_>) -> Settings {
    let root = document.root();
    let server = sections::server(&root);
    let listeners = sections::listeners(&root);
    let (upstream, address) = sections::upstream(&root);
    let limits = sections::limits(&root);
    let reload = reload::read(&root);
    let access_log = records::access_log(&root);
    let audit = records::audit(&root, &access_log);
    let mut settings =
        Settings { server, listeners, upstream, limits, reload, access_log, audit, ..Settings::default() };
    let whole = routes::read(&root, address, &mut settings);
    settings.admin = admin::read(&root, &settings, whole);
    sections::check_loops(&root, &settings);
    tls::check_routes(&root, &settings.listeners, &settings.routes);
    root.finish();
    settings
}
