//! Examines the surroundings of a process: kernel, cgroup, clock, files, network, and a process that is running already.
//!
//! Each finding is a sentence, and says what to do. Nothing is changed: sockets are bound and not listened on, and connections
//! to applications are closed without a byte.

pub mod cgroup;
mod files;
pub mod finding;
mod live;
mod machine;
mod network;
mod publishers;

use std::path::Path;

use crate::config::files::Sources;
use crate::config::load::Loaded;
use crate::config::section::route::keys::KeySource;
use crate::config::section::server::DriverSetting;
use crate::config::settings::Settings;
use crate::config::summary::moment_warnings;
use crate::edge::clock::Clock;

use super::plan::plan;
use finding::{Finding, Grade};

/// What is known before the examination.
pub struct Patient {
    /// The configuration, or how many problems it has.
    pub loaded: Result<Loaded, usize>,
    /// The files that it depends on.
    pub sources: Sources,
    /// The metrics of a process that runs with it; nothing where none answers.
    pub metrics: Option<String>,
}

/// Examines everything, in the order in which it is to be read.
#[must_use]
pub fn examine(patient: Patient) -> Vec<Finding> {
    let Patient { loaded, sources, metrics } = patient;
    let (root, now) = (Path::new("/"), Clock::start().now());
    let mut findings = Vec::new();
    let settings = loaded.as_ref().ok().map(|loaded| &loaded.settings);
    findings.push(configuration(&loaded));
    findings.push(machine::io_uring(settings.map_or(DriverSetting::Auto, |settings| settings.server.driver)));
    findings.push(machine::clock(now.unix, root, sources.paths()));
    findings.extend(files::mounted(root, sources.paths()));
    let Ok(loaded) = loaded else { return findings };
    let settings = &loaded.settings;
    let allowance = cgroup::read(root);
    findings.push(machine::descriptors(settings));
    findings.push(machine::cpu(settings, allowance));
    findings.push(machine::memory(settings, allowance));
    let directory = sources.paths().next().and_then(Path::parent).unwrap_or(root).to_owned();
    let secrets: Vec<_> = secrets(settings).map(|path| directory.join(path)).collect();
    findings.extend(files::permissions(secrets.iter().map(|path| path.as_path())));
    let of_moment = moment_warnings(settings, now).into_iter();
    let fix = "countersign check shows which keys and certificates count now";
    findings.extend(of_moment.map(|says| Finding::bad("keys", Grade::Fault, says, fix)));
    findings.extend(network::listeners(settings, metrics.is_some()));
    findings.extend(network::clients(settings));
    findings.extend(publishers::examine(&loaded));
    let inbox = settings.inbox.clone();
    let plan = plan(loaded).0;
    findings.extend(network::applications(&plan.policy));
    findings.extend(inbox.zip(plan.engine).and_then(|(inbox, engine)| network::inbox_engine(&inbox, engine)));
    findings.extend(metrics.iter().flat_map(|metrics| live::judge(metrics)));
    findings
}

fn configuration(loaded: &Result<Loaded, usize>) -> Finding {
    match loaded {
        Ok(loaded) if loaded.warnings.is_empty() => Finding::good("configuration", "the configuration holds"),
        Ok(_) => Finding::good("configuration", "the configuration holds, with warnings: countersign check shows them"),
        Err(count) => Finding::bad(
            "configuration",
            Grade::Fault,
            format!("the configuration has {count} problems; what depends on it was not examined"),
            "countersign check names each of them, with its place and its fix",
        ),
    }
}

/// The files with secrets and private keys, relative to the configuration.
fn secrets(settings: &Settings) -> impl Iterator<Item = &Path> {
    let verifications = settings.routes.iter().filter_map(|route| route.verification.as_ref());
    let symmetric = verifications.filter(|it| !it.scheme.wants_public_key());
    let keys = symmetric.flat_map(|it| &it.keys).filter_map(|key| match &key.source {
        KeySource::File(path) => Some(path.as_path()),
        _ => None,
    });
    let tls = settings.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let shown = settings.upstream.tls.iter().filter_map(|tls| tls.pair.as_ref());
    let pairs = tls.flat_map(|tls| &tls.certificates).chain(shown);
    keys.chain(pairs.map(|certificate| certificate.key.path.as_path()))
}
