//! From settings to a plan that the supervisor can carry out.

use std::net::IpAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::admin::request::Access;
use crate::admin::server::AdminAddress;
use crate::config::certificates::TlsMaterial;
use crate::config::load::Loaded;
use crate::config::section::admin::{AdminEndpoint, AdminSettings};
use crate::config::section::engine_address::EngineAddress;
use crate::config::section::listener::ListenerSettings;
use crate::config::section::listener::tls::{CallerSettings, CertificateFacts, CertificateSettings, MinVersion};
use crate::config::section::route::RouteSettings;
use crate::config::section::secret_file::SecretFile;
use crate::config::section::server::DriverSetting;
use crate::config::section::shared::SharedSettings;
use crate::config::section::shared_tls::SharedTls;
use crate::config::section::upstream::UpstreamSettings;
use crate::config::section::upstream_tls::UpstreamTls;
use crate::config::settings::Settings;
use crate::edge::driver::DriverChoice;
use crate::edge::policy::{Addresses, DurableRoute, Limits, Live, Policy, Target, Upstream};
use crate::edge::shared::cluster::{ClusterTerms, ClusterView};
use crate::edge::shared::standing::EngineStanding;
use crate::edge::shared::{EnginePlace, EngineTerms, SentinelTerms};
use crate::edge::tls::certificates::Shown;
use crate::edge::tls::door::{OldestVersion, TlsSetup};
use crate::edge::tls::outbound::ClientTls;
use crate::edge::tls::verifier::Callers;
use crate::gate::upstream::UpstreamAddress;
use crate::gate::verify::sha256;
use crate::inbox::lane::LaneTerms;
use crate::ledger::shared::EngineKey;
use crate::telemetry::readings::{AuthorityReading, CertificateReading};
use crate::wire::head::HeadLimits;

use super::inbox::keys::InboxKey;
use super::resolver::{self, ResolvedName};
use super::supervisor::{AdminPlan, DrainTimes, Plan};

/// How long names may take to resolve. One that does not resolve yet is no reason not to start, nor to keep an old
/// configuration: the application may come up later.
const PATIENCE: Duration = Duration::from_secs(2);

/// A plan, and the names that must be kept fresh while it is carried out.
#[must_use]
pub fn plan(loaded: Loaded) -> (Plan, Vec<ResolvedName>) {
    plan_beside(loaded, &[])
}

/// The same, while these names are kept fresh: they are not asked about again.
#[must_use]
pub fn plan_beside(loaded: Loaded, known: &[ResolvedName]) -> (Plan, Vec<ResolvedName>) {
    let Loaded { settings, gate, tls, .. } = loaded;
    let tls = tls.into_iter().zip(&settings.listeners).map(|(tls, listener)| Some(setup(tls?, listener))).collect();
    let mut names = Vec::new();
    let targets = targets(&gate.upstreams, known, &mut names);
    let upstreams = targets.into_iter().zip(&gate.upstreams).map(|(target, address)| {
        let tls = settings.upstream.tls.as_ref().and_then(|tls| application_tls(tls, address));
        upstream(target, tls, &settings.upstream)
    });
    let upstreams = upstreams.collect();
    let workers = worker_count(settings.server.workers);
    let engine = settings.shared.as_ref().and_then(|shared| engine(shared, workers, known, &mut names));
    let plan = Plan {
        policy: Policy {
            gate,
            limits: limits(&settings),
            upstreams,
            durable: durable(&settings),
            live: Live::default(),
        },
        tls,
        admission: settings.limits.admission,
        listeners: settings.listeners.iter().map(|listener| listener.address).collect(),
        admin: settings.admin.as_ref().map(admin),
        workers,
        driver: match settings.server.driver {
            DriverSetting::Auto => DriverChoice::Auto,
            DriverSetting::IoUring => DriverChoice::IoUring,
            DriverSetting::Epoll => DriverChoice::Epoll,
        },
        drain: DrainTimes { delay: settings.server.drain_delay, grace: settings.server.drain_grace },
        inbox_keys: settings.inbox.as_ref().map(InboxKey::of).unwrap_or_default(),
        engine,
    };
    (plan, names)
}

/// How many workers a configured number means: 0 stands for the cores that affinity and cgroup quota grant.
#[must_use]
pub fn worker_count(configured: usize) -> usize {
    match configured {
        0 => thread::available_parallelism().map_or(1, NonZero::get),
        count => count,
    }
}

fn admin(settings: &AdminSettings) -> AdminPlan {
    let address = match &settings.address {
        AdminEndpoint::Tcp(address) => AdminAddress::Tcp(*address),
        AdminEndpoint::Unix(path) => AdminAddress::Unix(path.clone()),
    };
    let access = Access { hosts: settings.hosts.clone(), remote_control: settings.remote_control };
    AdminPlan { address, access }
}

fn setup(material: TlsMaterial, listener: &ListenerSettings) -> TlsSetup {
    let TlsMaterial { certificates, callers, min_version } = material;
    TlsSetup {
        certificates: certificates.into_iter().map(|(key, names)| Shown { key, names }).collect(),
        callers: callers.map(|(roots, settings)| Callers { roots, required: settings.required, names: settings.names }),
        oldest: match min_version {
            MinVersion::Tls12 => OldestVersion::Tls12,
            MinVersion::Tls13 => OldestVersion::Tls13,
        },
        readings: listener.tls.iter().flat_map(|tls| &tls.certificates).filter_map(|it| told(it, listener)).collect(),
        authorities: listener
            .tls
            .iter()
            .filter_map(|tls| tls.callers.as_ref())
            .flat_map(|it| believed(it, listener))
            .collect(),
    }
}

fn believed(callers: &CallerSettings, listener: &ListenerSettings) -> Vec<AuthorityReading> {
    let numbered = callers.facts.iter().zip(1..);
    let reading = |(facts, number): (&CertificateFacts, usize)| AuthorityReading {
        listener: listener.address.to_string(),
        name: callers.authorities.path.display().to_string(),
        number,
        not_after: facts.not_after,
    };
    numbered.map(reading).collect()
}

fn told(certificate: &CertificateSettings, listener: &ListenerSettings) -> Option<CertificateReading> {
    let facts = certificate.facts.as_ref()?;
    Some(CertificateReading {
        listener: listener.address.to_string(),
        name: certificate.certificate.path.display().to_string(),
        hosts: facts.names.clone(),
        fingerprint: facts.fingerprint.clone(),
        not_before: facts.not_before,
        not_after: facts.not_after,
    })
}

/// Routes whose deliveries are stored.
fn durable(settings: &Settings) -> Vec<DurableRoute> {
    let stored = |route: &RouteSettings| {
        let delivery = route.delivery.as_ref()?;
        let terms = LaneTerms {
            upstream: route.upstream,
            concurrency: delivery.concurrency,
            backoff: delivery.backoff,
            attempts: delivery.attempts,
            give_up_after: u64::try_from(delivery.give_up_after.as_millis()).unwrap_or(u64::MAX),
            on_dead: delivery.on_dead,
            dead_on: delivery.dead_on.clone(),
        };
        Some(DurableRoute { name: Arc::from(route.name.as_str()), terms, timeout: delivery.timeout })
    };
    settings.routes.iter().filter_map(stored).collect()
}

fn limits(settings: &Settings) -> Limits {
    let limits = &settings.limits;
    Limits {
        head: HeadLimits { size: limits.head_size, fields: limits.headers, target: limits.target_size },
        head_timeout: limits.head_timeout,
        body_timeout: limits.body_timeout,
        handshake_timeout: limits.handshake_timeout,
        idle_timeout: limits.idle_timeout,
        write_timeout: limits.write_timeout,
        requests_per_connection: u64::from(limits.requests_per_connection),
        body_rate_min: limits.body_rate_min,
    }
}

/// Where each upstream is; the names among them are added to `names`.
fn targets(upstreams: &[UpstreamAddress], known: &[ResolvedName], names: &mut Vec<ResolvedName>) -> Vec<Target> {
    let is_known = |host: &str, port: u16| known.iter().find(|name| name.host == host && name.port == port);
    let strange = |address: &UpstreamAddress| match address {
        UpstreamAddress::Tcp { host, port } if is_known(host, *port).is_none() => Some((host.clone(), *port)),
        _ => None,
    };
    let strangers: Vec<(String, u16)> = upstreams.iter().filter_map(strange).collect();
    let mut found = resolver::resolve_all(&strangers, PATIENCE).into_iter();
    let mut target = |address: &UpstreamAddress| {
        let (host, port) = match address {
            UpstreamAddress::Unix(path) => return Target::Unix(path.clone()),
            UpstreamAddress::Tcp { host, port } => (host, *port),
        };
        let addresses = match is_known(host, port) {
            Some(name) => Arc::clone(&name.addresses),
            None => Arc::new(Addresses::new(address.to_string(), found.next().unwrap_or_default())),
        };
        if host.parse::<IpAddr>().is_err() {
            names.push(ResolvedName { host: host.clone(), port, addresses: Arc::clone(&addresses) });
        }
        Target::Tcp(addresses)
    };
    upstreams.iter().map(&mut target).collect()
}

/// How workers talk to the shared engine. Its address is kept fresh as those of applications are.
fn engine(
    settings: &SharedSettings,
    workers: usize,
    known: &[ResolvedName],
    names: &mut Vec<ResolvedName>,
) -> Option<EngineTerms> {
    let secret = |file: &Option<SecretFile>| {
        let content = file.as_ref().and_then(|file| file.content.as_ref());
        content.map(|secret| Zeroizing::new(secret.bytes().to_vec()))
    };
    let place = match &settings.address {
        EngineAddress::Direct(address) => {
            EnginePlace::Direct(targets(std::slice::from_ref(address), known, names).pop()?)
        }
        EngineAddress::Cluster { nodes } => EnginePlace::Cluster(ClusterTerms {
            seeds: targets(nodes, known, names),
            view: Arc::new(ClusterView::default()),
        }),
        EngineAddress::Sentinels { sentinels, service, password } => EnginePlace::Sentinels(SentinelTerms {
            sentinels: targets(sentinels, known, names),
            service: service.clone(),
            password: secret(password),
        }),
    };
    Some(EngineTerms {
        place,
        tls: settings.tls.as_ref().and_then(client_tls),
        username: settings.username.clone(),
        password: secret(&settings.password),
        key: EngineKey::new(settings.key.content.as_ref()?.bytes(), &settings.prefix),
        connect_timeout: settings.connect_timeout,
        response_timeout: settings.response_timeout,
        process: 0,
        standing: Arc::new(EngineStanding::new(workers)),
    })
}

fn client_tls(tls: &SharedTls) -> Option<ClientTls> {
    let loaded = tls.loaded.as_ref()?;
    Some(ClientTls { config: Arc::clone(&loaded.config), name: tls.server_name.clone(), digest: loaded.digest() })
}

/// How an application is spoken to over TLS; nothing for one that is not reached over TCP.
fn application_tls(tls: &UpstreamTls, address: &UpstreamAddress) -> Option<ClientTls> {
    let (name, loaded) = (tls.name_of(address)?, tls.loaded.as_ref()?);
    let digest = sha256(&[loaded.digest().as_slice(), name.to_str().as_bytes()].concat());
    Some(ClientTls { config: Arc::clone(&loaded.config), name, digest })
}

fn upstream(target: Target, tls: Option<ClientTls>, settings: &UpstreamSettings) -> Upstream {
    Upstream {
        target,
        tls,
        connect_timeout: settings.connect_timeout,
        response_timeout: settings.response_timeout,
        idle_timeout: settings.idle_timeout,
        idle_connections: settings.idle_connections,
        reuse_after: settings.reuse_after,
    }
}
