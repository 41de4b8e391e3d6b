//! From a path to a gate: the only file of this room that reads the environment, and that asks for files.
//!
//! Nothing is half-applied: either everything holds and there is a [`Loaded`], or there is a list of everything that
//! does not, in the configuration and in the files that it names.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::certificates::{self, TlsMaterial};
use crate::config::compile;
use crate::config::document::MAX_TEXT;
use crate::config::files::{Files, Sources, warn_if_readable};
use crate::config::hints;
use crate::config::inbox_keys;
use crate::config::networks;
use crate::config::outline::Outline;
use crate::config::problem::{Place, Problems};
use crate::config::records::Audit;
use crate::config::secret::{self, Secret};
use crate::config::section::admin::AdminSettings;
use crate::config::section::inbox::InboxSettings;
use crate::config::section::listener::tls::{FileSettings, TlsSettings};
use crate::config::section::route::clients::ClientSettings;
use crate::config::section::route::keys::{KeySettings, KeySource};
use crate::config::section::route::verification::Verification;
use crate::config::settings::{self, Settings};
use crate::config::shared_files;
use crate::config::source::ConfigSource;
use crate::config::units::show_size;
use crate::gate::Gate;
use crate::gate::verify::{CallProof, Validity, sha256};

/// No secret and no public key is longer, in bytes.
const KEY_LIMIT: usize = 64 << 10;

/// No file of certificates is longer, in bytes: all public authorities that there are need a quarter of it.
const PEM_LIMIT: usize = 1 << 20;

/// No file of networks is longer, in bytes: some fifty thousand of them.
const LIST_LIMIT: usize = 1 << 20;

/// A configuration that holds.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What requests are judged by.
    pub gate: Gate,
    /// What each listener is to speak, in their order; nothing for plain text.
    pub tls: Vec<Option<TlsMaterial>>,
    /// The bytes of the keys of each route, in the order of the settings.
    pub secrets: Vec<Vec<Option<Secret>>>,
    /// The key that seals of the audit trail are made with, where there is one.
    pub audit_key: Option<Secret>,
    /// SHA-256 of the file.
    pub fingerprint: [u8; 32],
    /// What the operator should know all the same.
    pub warnings: Problems,
    /// For comparison with another.
    pub outline: Outline,
}

/// Reads a configuration file and everything that it refers to. Paths in it are relative to its directory.
///
/// # Errors
/// Every problem that could be found.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    load_noting(path).0
}

/// The same, with the files that the outcome depends on, whatever it is: when none of them changes, it stays the same.
pub fn load_noting(path: &Path) -> (Result<Loaded, Problems>, Sources) {
    load_source(&ConfigSource::File(path.to_owned()))
}

/// The same for text that need not stand in a file.
pub fn load_source(source: &ConfigSource) -> (Result<Loaded, Problems>, Sources) {
    let files = Files::of(&source.place());
    let outcome = load_from(source, &files);
    (outcome, files.into_sources())
}

fn load_from(source: &ConfigSource, files: &Files) -> Result<Loaded, Problems> {
    let file = source.name();
    let text = read_text(source, &file, files)?;
    let (mut settings, mut problems) = settings::read(&file, &text);
    let keys: Vec<Vec<Option<Secret>>> = settings
        .routes
        .iter_mut()
        .map(|route| {
            let pairs = route.challenge.as_ref().is_some_and(|it| it.handshake.has(CallProof::Pairing));
            let verification = route.verification.as_mut();
            verification.map(|it| read_all(it, pairs, files, &mut problems)).unwrap_or_default()
        })
        .collect();
    settings.routes.iter_mut().filter_map(|route| route.challenge.as_mut()).for_each(|challenge| {
        let read = read_keys(&mut challenge.tokens, false, files, &mut problems);
        let counted = read.into_iter().zip(&challenge.tokens);
        challenge.read = counted.filter_map(|(secret, token)| Some((secret?, token.validity))).collect();
    });
    settings.access_log.resolve(files.directory());
    settings.inbox.iter_mut().for_each(|inbox| inbox_keys::read(inbox, files, &mut problems));
    settings.shared.iter_mut().for_each(|shared| shared_files::read(shared, files, &mut problems));
    settings.upstream.tls.iter_mut().for_each(|tls| shared_files::read_upstream(tls, files, &mut problems));
    settings.published_keys.resolve(files.directory());
    let audit_key = settings.audit.as_mut().and_then(|audit| read_audit_key(audit, files, &mut problems));
    settings.routes.iter_mut().for_each(|route| read_networks(&mut route.clients, files, &mut problems));
    if problems.has_errors() {
        for (mut stray, public) in settings::stray_keys(&file, &text, &settings) {
            read_keys(&mut stray, public, files, &mut problems);
        }
    }
    let tls: Vec<Option<TlsMaterial>> = settings
        .listeners
        .iter_mut()
        .map(|listener| listener.tls.as_mut().and_then(|tls| read_tls(tls, files, &mut problems)))
        .collect();
    let gate = compile::compile(&settings, &keys, &mut problems);
    problems.sort();
    match gate {
        Some(gate) if !problems.has_errors() => {
            let outline = Outline::of(&settings, &keys);
            let fingerprint = sha256(text.as_bytes());
            Ok(Loaded { settings, gate, tls, secrets: keys, audit_key, fingerprint, warnings: problems, outline })
        }
        _ => Err(problems),
    }
}

/// Resolves the paths of the audit trail, and reads its key.
fn read_audit_key(audit: &mut Audit, files: &Files, problems: &mut Problems) -> Option<Secret> {
    let (id, file) = (audit.key_id.clone(), audit.key_file.clone());
    let (source, place) = (KeySource::File(file), audit.place.clone());
    let mut key = KeySettings {
        id,
        name: None,
        source,
        validity: Validity::default(),
        place,
        written: None,
        can_be_paired: false,
        awaits_pairing: false,
        line_end_left_out: false,
    };
    audit.resolve(files.directory());
    read_key(&mut key, files, false, problems)
}

/// Reads the `[admin]` section alone, whatever is wrong with the rest of the file.
///
/// # Errors
/// The file cannot be read.
pub fn load_admin(path: &Path) -> io::Result<Option<AdminSettings>> {
    let bytes = Files::of(path).read(path, MAX_TEXT)?;
    let file = path.display().to_string();
    Ok(settings::read(&file, core::str::from_utf8(&bytes).unwrap_or_default()).0.admin)
}

/// Reads the `[inbox]` section alone, with its keys, whatever is wrong with the rest of the file.
///
/// # Errors
/// The file cannot be read, or a key.
pub fn load_inbox(path: &Path) -> Result<Option<InboxSettings>, Problems> {
    let files = Files::of(path);
    let file = path.display().to_string();
    let text = read_text(&ConfigSource::File(path.to_owned()), &file, &files)?;
    let mut inbox = settings::read(&file, &text).0.inbox;
    let mut problems = Problems::default();
    inbox.iter_mut().for_each(|inbox| inbox_keys::read(inbox, &files, &mut problems));
    if problems.has_errors() { Err(problems) } else { Ok(inbox) }
}

/// The text is erased when it has been read: it may hold secrets.
fn read_text(source: &ConfigSource, file: &str, files: &Files) -> Result<Zeroizing<String>, Problems> {
    let mut problems = Problems::default();
    let read = match source.given() {
        Some(bytes) => Ok(Zeroizing::new(bytes.to_vec())),
        None => files.read(&source.place(), MAX_TEXT),
    };
    match read {
        Err(error) => {
            let fix = match error.kind() {
                io::ErrorKind::FileTooLarge => "is this the right file?",
                io::ErrorKind::NotFound => "check the path, or let `countersign init` write a configuration",
                _ => "check the path, and that this user may read the file",
            };
            problems.error(Place::file(file), format!("the configuration cannot be read: {error}"), fix);
        }
        Ok(bytes) => match core::str::from_utf8(&bytes) {
            Ok(text) => return Ok(Zeroizing::new(text.to_owned())),
            Err(error) => {
                let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
                let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
                let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                let place = Place { line: number(line), column: number(column), ..Place::file(file) };
                problems.error(place, "the configuration is not UTF-8", "save the file as UTF-8");
            }
        },
    }
    Err(problems)
}

/// Adds the networks that a file of the route holds to those of the route itself.
fn read_networks(clients: &mut ClientSettings, files: &Files, problems: &mut Problems) {
    let Some(list) = &clients.allow_file else { return };
    let path = files.path(&list.path);
    let text = files.read(&path, LIST_LIMIT).and_then(|bytes| {
        core::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| io::Error::other("it is not UTF-8"))
    });
    match text {
        Ok(text) => clients.allow.extend(networks::read_text(&path.display().to_string(), &text, problems)),
        Err(error) => {
            let message = format!("{} cannot be read: {error}", path.display());
            let fix = "check the path (it is relative to the configuration file) and the permissions";
            problems.error(list.place.clone(), message, fix);
        }
    }
}

/// Reads certificates, keys and authorities of a listener. Without a result there is at least one error in `problems`.
fn read_tls(tls: &mut TlsSettings, files: &Files, problems: &mut Problems) -> Option<TlsMaterial> {
    let mut pairs = Vec::with_capacity(tls.certificates.len());
    for settings in &mut tls.certificates {
        let chain = read_pem(&settings.certificate, files, problems);
        let key = read_pem(&settings.key, files, problems).map(Secret::new);
        let path = files.path(&settings.key.path);
        if key.is_some() {
            warn_if_readable(&path, settings.key.place.clone(), problems);
        }
        let pair = certificates::pair(settings, (chain.as_ref().map(|it| it.as_slice()), key.as_ref()), problems);
        if let Some((key, facts)) = pair {
            pairs.push((key, certificates::patterns(&facts)));
            settings.facts = Some(facts);
        }
    }
    let callers = match &mut tls.callers {
        None => None,
        Some(callers) => {
            let bytes = read_pem(&callers.authorities, files, problems)?;
            let (roots, facts) = certificates::authorities(&callers.authorities, &bytes, problems)?;
            callers.facts = facts;
            Some((Arc::new(roots), callers.clone()))
        }
    };
    let whole = !pairs.is_empty() && pairs.len() == tls.certificates.len();
    whole.then_some(TlsMaterial { certificates: pairs, callers, min_version: tls.min_version })
}

fn read_pem(file: &FileSettings, files: &Files, problems: &mut Problems) -> Option<Zeroizing<Vec<u8>>> {
    let path = files.path(&file.path);
    let read = files.read(&path, PEM_LIMIT);
    if let Err(error) = &read {
        let message = format!("{} cannot be read: {error}", path.display());
        let fix = "check the path (it is relative to the configuration file) and the permissions";
        problems.error(file.place.clone(), message, fix);
    }
    read.ok()
}

/// The bytes of every key of a route; nothing in the place of one that could not be read.
/// `pairs`: the sender brings its secret in a first call.
fn read_all(
    verification: &mut Verification,
    pairs: bool,
    files: &Files,
    problems: &mut Problems,
) -> Vec<Option<Secret>> {
    for key in &mut verification.keys {
        key.can_be_paired = pairs && matches!(key.source, KeySource::File(_));
    }
    read_keys(&mut verification.keys, verification.scheme.wants_public_key(), files, problems)
}

fn read_keys(keys: &mut [KeySettings], public: bool, files: &Files, problems: &mut Problems) -> Vec<Option<Secret>> {
    let mut ids: Vec<String> = Vec::with_capacity(keys.len());
    let mut secrets: Vec<Option<Secret>> = Vec::with_capacity(keys.len());
    for key in keys {
        let secret = read_key(key, files, public, problems);
        let same = secret.as_ref().and_then(|secret| {
            let is_same = |other: &Option<Secret>| other.as_ref().is_some_and(|other| other.same_as(secret));
            ids.get(secrets.iter().position(is_same)?)
        });
        if let Some(other) = same {
            let message = format!("is the same as the key \"{other}\" of this route");
            problems.warning(key.place.clone(), message, "a rotation needs a second key: remove one of the two");
        }
        secrets.push(secret);
        ids.push(key.id.clone());
    }
    secrets
}

fn read_key(key: &mut KeySettings, files: &Files, public: bool, problems: &mut Problems) -> Option<Secret> {
    // A credential is a secret, whatever the key is that it is shown for.
    let is_credential = matches!(key.source, KeySource::NamedWith(_));
    let public = public && !is_credential;
    let (secret, origin) = match &key.source {
        KeySource::Value(secret) => (Some(secret.clone()), "the key".to_owned()),
        KeySource::Env(name) => (read_variable(name, key, problems), format!("the key in the variable {name}")),
        // There is nothing to read: the bytes stand for it where configurations are compared.
        KeySource::Named => return Some(Secret::new(b"named by deliveries".to_vec())),
        KeySource::Url(url) => return Some(Secret::new(url.as_bytes().to_vec())),
        KeySource::File(path) | KeySource::NamedWith(path) => {
            let path = files.path(path);
            let bytes = files.read(&path, KEY_LIMIT);
            key.awaits_pairing = key.can_be_paired && is_not_there(&bytes);
            if key.awaits_pairing {
                warn_awaited(&path, key.place.clone(), problems);
                return None;
            }
            (key_bytes(bytes, &path, key, public, problems), format!("the key in {}", path.display()))
        }
    };
    let written = secret?;
    let length = written.bytes().len();
    let secret = written.without_line_end();
    if let KeySource::File(path) | KeySource::NamedWith(path) = &key.source {
        key.written = files.path(path).metadata().ok().map(|metadata| metadata.mtime());
    }
    key.line_end_left_out = !public && secret.bytes().len() < length;
    match secret::judge(&secret) {
        Err(unfit) if !public || unfit == secret::UnfitSecret::Empty => {
            let fix = match (unfit, hints::variable(secret.bytes())) {
                (secret::UnfitSecret::PublicKey, _) => {
                    "this scheme wants the secret that only you and the sender know".to_owned()
                }
                (_, Some(name)) => {
                    format!("nothing is filled in here: write env = \"{name}\" in place of the key's source")
                }
                _ => "put the real one there, as the sender shows it".to_owned(),
            };
            problems.error(key.place.clone(), format!("{origin} {unfit}"), fix);
            return None;
        }
        Ok(oddities) if !public => {
            // That it is an API key of the sender is right for a credential.
            if let Some(wrong) = hints::wrong_credential(secret.bytes()).filter(|_| !is_credential) {
                problems.warning(key.place.clone(), format!("{origin} {}", wrong.what), wrong.fix);
            }
            for oddity in oddities {
                problems.warning(key.place.clone(), format!("{origin} {oddity}"), oddity.fix());
            }
        }
        _ => {}
    }
    Some(secret)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment, where the file says so")]
fn read_variable(name: &str, key: &KeySettings, problems: &mut Problems) -> Option<Secret> {
    use std::os::unix::ffi::OsStringExt;
    let value = std::env::var_os(name).map(OsStringExt::into_vec);
    if value.is_none() {
        let message = format!("there is no environment variable {name}");
        problems.error(key.place.clone(), message, format!("set {name} for this process, or use file = \"…\""));
    }
    value.map(Secret::new)
}

fn warn_awaited(path: &Path, place: Place, problems: &mut Problems) {
    let message = format!("{} is not there yet: no delivery passes by this key", path.display());
    problems.warning(
        place,
        message,
        "open a window with `countersign pair ROUTE`, and register the webhook at the sender",
    );
}

fn is_not_there(read: &io::Result<Zeroizing<Vec<u8>>>) -> bool {
    read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn key_bytes(
    read: io::Result<Zeroizing<Vec<u8>>>,
    path: &Path,
    key: &KeySettings,
    public: bool,
    problems: &mut Problems,
) -> Option<Secret> {
    match read {
        Ok(bytes) => {
            if !public {
                warn_if_readable(path, key.place.clone(), problems);
            }
            Some(Secret::new(bytes))
        }
        Err(error) => {
            let message = format!("{} cannot be read: {error}", path.display());
            let fix = if error.kind() == io::ErrorKind::FileTooLarge {
                format!("a secret is at most {} long; is this the right file?", show_size(KEY_LIMIT as u64))
            } else if error.kind() == io::ErrorKind::NotFound {
                let what = if public { "public key" } else { "secret" };
                format!(
                    "write the {what} to it, readable by you alone, or correct the path: it is relative to the directory of \
                     the configuration file"
                )
            } else {
                "check the path (it is relative to the configuration file) and the permissions".to_owned()
            };
            problems.error(key.place.clone(), message, fix);
            None
        }
    }
}
